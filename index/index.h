/*
 * index.h - the message index: what we remember about folders, in LMDB.
 *
 * A cache and never the only copy of anything: deleting it loses nothing, the
 * next sync makes it again. One directory on a local disk, mode 0700:
 *
 *	data.mdb lock.mdb	LMDB
 *	owner			who has it open, and how it was left (owner.h)
 *
 * A change is there for all who ask when its call returns, and survives the end
 * of the process, but calls do not wait for the disk: when the machine goes
 * down over an open index, it is made anew.
 *
 * Folders are named by their number (from the ledger; never reused). Messages
 * are found by UID, by base name and by inode number. Those of an MBX need no
 * further tables for that: number, UIDVALIDITY, UID, date and size make the
 * name (basename.h), number and UID make the inode. Only messages whose name
 * somebody else chose have rows in the name table: all of a Maildir, and those
 * of an MBX that were delivered elsewhere first. A message with a record line
 * (msg.line) lies in an MBX, one without in a Maildir.
 *
 * Threads: all functions may be called by any thread; one writer at a time
 * (LMDB waits). No transaction outlives a call, so no LMDB pointer leaves.
 * Not usable across fork(): open it in the process that uses it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/msg.h"
#include "compat/store.h"

enum {
	INDEX_FORMAT = 2,     /* another number in the file: dropped, rebuilt */
	INDEX_NAME_MAX = 255, /* octets of a base name */
};

struct index;

struct db;

/* What is remembered about a folder; versioned row of the folder table. */
struct index_folder {
	struct stamp stamp;	/* the state of the store that the rows show */
	int64_t stamp_ns;	/* the clock when it was taken */
	struct scan_point next; /* where a tail scan goes on */
	uint32_t uidvalidity;	/* as shown: */
	uint32_t on_disk;	/* UIDVALIDITY; another one: DAMAGE_REGIME */
	uint32_t uidnext;
	uint64_t messages, unseen, octets;
	uint64_t unlisted; /* messages without a UID: they have no row */
	struct keywords keywords;
	struct damage damage;
};

/**
 * index_open - open, or make, the index in directory @dir
 * The directory is made if its parent exists. An index of another format, one
 * that LMDB finds corrupt, or one over which the machine went down is removed
 * and made anew, with a log line.
 * @readonly: for tools that look at the index of a running daemon; needs an
 *	existing index of this format (else -ENOENT, -EUCLEAN), takes no owner
 *	lock. Not in the process that owns it: LMDB opens a file only once
 *
 * Return: 0; -EBUSY when another process owns it (the log says which, see
 * index_sign()); -ENOTSUP on a network filesystem; -EACCES when the directory
 * is not ours alone (owner, mode beyond 0700); -errno. The reason is logged.
 */
MUST_CHECK int index_open(const char *dir, bool readonly, struct index **out);
/** index_sign - tell whoever finds the index in use what @mountpoint it serves
 */
void index_sign(struct index *ix, const char *mountpoint);
/** index_close - put everything on the disk and close; NULL is fine */
void index_close(struct index *ix);
/** index_flush - wait until all changes before lie on the disk
 * Nothing needs it; called now and then it keeps index_close() short. Others
 * may read and write meanwhile. */
MUST_CHECK int index_flush(struct index *ix);

/** index_folder_get - Return: 0; -ENOENT; -EUCLEAN; -errno */
MUST_CHECK int index_folder_get(struct index *ix, uint32_t folder,
				struct index_folder *out);
/** index_folder_drop - forget a folder and its messages */
MUST_CHECK int index_folder_drop(struct index *ix, uint32_t folder);

/** index_by_uid - Return: 0; -ENOENT; -EUCLEAN; -errno */
MUST_CHECK int index_by_uid(struct index *ix, uint32_t folder, uint32_t uid,
			    struct msg *out);
/**
 * index_by_name - find a message by base name (no ":2," part)
 * A name of basename.h's form is taken apart; the row must agree with every
 * part of it. @uidvalidity: the one the folder's names carry. Other names are
 * looked up in the name table.
 * Return: 0; -ENOENT; -EUCLEAN; -errno.
 */
MUST_CHECK int index_by_name(struct index *ix, uint32_t folder,
			     uint32_t uidvalidity, const char *base,
			     struct msg *out);
/** index_name_of - the name of its own that a message has, "" if none
 * @out: INDEX_NAME_MAX + 1 octets. Return: 0; -ENOENT; -EUCLEAN; -errno */
MUST_CHECK int index_name_of(struct index *ix, uint32_t folder, uint32_t uid,
			     char *out);
/** index_by_ino - find a message by its synthetic inode number (index_ino) */
MUST_CHECK int index_by_ino(struct index *ix, uint64_t ino,
			    uint32_t *folder_out, struct msg *out);
/** index_ino - 1 bit set, 31 bits folder number, 32 bits UID: never the number
 * of a real file (those are below 2^63) */
uint64_t index_ino(uint32_t folder, uint32_t uid);
/** index_ino_split - the inverse; -ENOENT if the top bit is not set */
MUST_CHECK int index_ino_split(uint64_t ino, uint32_t *folder_out,
			       uint32_t *uid_out);

/* @name: NULL for messages that carry names of basename.h's form. A non-zero
 * return ends the walk and is returned. The callback runs inside a read
 * transaction: it must not call the index and not block. */
typedef int index_msg_fn(const struct msg *m, const char *name, void *arg);
/** index_each - messages of a folder by ascending UID */
MUST_CHECK int index_each(struct index *ix, uint32_t folder, index_msg_fn *fn,
			  void *arg);

/** index_each_folder - numbers of all folders, ascending */
typedef int index_folder_fn(uint32_t folder, const struct index_folder *f,
			    void *arg);
MUST_CHECK int index_each_folder(struct index *ix, index_folder_fn *fn,
				 void *arg);

/*
 * Changes that the caller has just made to the store. Each is one short
 * transaction, all or nothing, and keeps every invariant of check.h.
 *
 * @stamp, @stamp_ns: the store's state with the change in it, and the clock
 * when that was taken; NULL leaves the one remembered, so that the next sync
 * looks for itself. Only for a caller who knows that nothing else changed: he
 * has synced, and has kept the locks of the format and of the folder since.
 *
 * Return, all of them: 0; -ENOENT for a folder without a row, and what is said
 * there; -EUCLEAN; -errno: the index is as it was.
 */

/** index_update - new flags, keywords and uid_disk for messages that are there
 * What else @msgs say is not looked at; none of them: only the stamp is new.
 * -ENOENT when one is not there;
 * -EINVAL for MSG_EXPUNGED: see index_remove() */
MUST_CHECK int index_update(struct index *ix, uint32_t folder,
			    const struct stamp *stamp, int64_t stamp_ns,
			    const struct msg *msgs, size_t count);
/** index_remove - forget messages, and their names; one that is not there is
 * fine */
MUST_CHECK int index_remove(struct index *ix, uint32_t folder,
			    const struct stamp *stamp, int64_t stamp_ns,
			    const uint32_t *uids, size_t count);
/**
 * index_insert - one message more
 * One of an MBX (@m->line) must be the record that follows the last one that
 * the index knows; the folder's scan point moves behind it.
 * @name: base name of its own; NULL for one of an MBX that has none
 * -EEXIST: that UID or name is there; -ESTALE: it does not follow: sync;
 * -EINVAL: no UID, expunged, no name, or no place in an MBX; -ENAMETOOLONG.
 */
MUST_CHECK int index_insert(struct index *ix, uint32_t folder,
			    const struct stamp *stamp, int64_t stamp_ns,
			    const struct msg *m, const char *name);
/** index_set_keywords - the folder's keyword table, as a whole */
MUST_CHECK int index_set_keywords(struct index *ix, uint32_t folder,
				  const struct stamp *stamp, int64_t stamp_ns,
				  const struct keywords *keywords);

/*
 * For the other files of index/ and their tests only.
 */
/** index_db - the tables below */
struct db *index_db(struct index *ix);
/** index_open_boot - index_open() as if the kernel's boot id were @boot */
MUST_CHECK int index_open_boot(const char *dir, bool readonly, const char *boot,
			       struct index **out);
