/*
 * index.h - the message index: what we remember about folders, in LMDB.
 *
 * A cache and never the only copy of anything: deleting it loses nothing, the
 * next sync makes it again. One directory on a local disk, mode 0700:
 *
 *	data.mdb lock.mdb	LMDB
 *	owner			flock()ed by the process that has it open
 *
 * Folders are named by their number (from the ledger; never reused). Messages
 * are found by UID, by base name and by inode number. Those of an MBX need no
 * further tables for that: number, UIDVALIDITY, UID, date and size make the
 * name (basename.h), number and UID make the inode. Only messages whose name
 * somebody else chose (Maildir) have rows in the name table.
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

enum { INDEX_FORMAT = 1 }; /* another number in the file: dropped, rebuilt */

struct index;

struct db;
struct db_txn;

/* What is remembered about a folder; versioned row of the folder table. */
struct index_folder {
	struct stamp stamp;	/* the state of the store that the rows show */
	int64_t stamp_ns;	/* the clock when it was taken */
	struct scan_point next; /* where a tail scan goes on */
	uint32_t uidvalidity;	/* as on disk */
	uint32_t uidnext;
	uint64_t messages, unseen, octets;
	uint64_t unlisted; /* messages without a UID: they have no row */
	struct keywords keywords;
	struct damage damage;
};

/**
 * index_open - open, or make, the index in directory @dir
 * The directory is made if its parent exists. An index of another format, or
 * one that LMDB finds corrupt, is removed and made anew, with a log line.
 * @readonly: for tools that look at the index of a running daemon; needs an
 *	existing index of this format (else -ENOENT, -EUCLEAN), takes no owner
 *	lock. Not in the process that owns it: LMDB opens a file only once
 *
 * Return: 0; -EBUSY when another process owns it; -ENOTSUP on a network
 * filesystem; -EACCES when the directory is not ours alone (owner, mode
 * beyond 0700); -errno. The reason is logged.
 */
MUST_CHECK int index_open(const char *dir, bool readonly, struct index **out);
/** index_close - NULL is fine */
void index_close(struct index *ix);

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
 * For the other files of index/ and their tests only.
 */
/** index_db - the tables below */
struct db *index_db(struct index *ix);
/** index_msg_in - index_by_uid() inside a transaction, and its name ("": none
 * of its own; ROW_NAME_MAX + 1 octets); whether it is there */
bool index_msg_in(struct db_txn *t, uint32_t folder, uint32_t uid,
		  struct msg *out, char *name_out);
/** index_folder_in - index_folder_get() inside a transaction; whether it is
 * there */
bool index_folder_in(struct db_txn *t, uint32_t folder,
		     struct index_folder *out);
