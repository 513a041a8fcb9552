/*
 * folder.h - a folder of a user that has a legacy file.
 *
 * While its phase is legacy, its messages come from the MBX through the index;
 * its directory in the new store holds Dovecot's control files and, in cur/
 * and new/, whatever real message files there are.
 *
 * Before a folder is first shown it is seeded (seed.h). From then on
 * folder_ready() makes the index follow the MBX and moves the times of cur/ and
 * new/ whenever names changed there: Dovecot sees changes by nothing else.
 *
 * Threads: every function takes the folder's locks itself; order: sync_lock ->
 * legacy file -> index; sync_lock -> user; lock is a leaf. A folder lives as
 * long as the daemon.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"
#include "compat/basename.h"
#include "compat/journal.h"
#include "compat/ledger.h"
#include "compat/letters.h"
#include "compat/mbxlock.h"
#include "compat/store.h"
#include "fs/fs.h"
#include "fs/watch.h"

struct files;
struct mirror;
struct user;

enum folder_state {
	FOLDER_WAITING, /* not looked at yet */
	FOLDER_OK,
	FOLDER_DAMAGED,	   /* something is wrong; what is good is served */
	FOLDER_UNREADABLE, /* nothing can be served: cur/ gives EIO */
};

/* An open MBX file, kept as long as somebody works with it. */
struct folder_box {
	struct box *box;
	atomic_int users; /* the folder is one */
};

/* What names and inode numbers are made of, and which messages show. */
struct folder_id {
	uint32_t number;
	uint32_t uidvalidity; /* shown; 0: not seeded yet */
	uint32_t shown;	      /* messages above this UID do not show yet */
	struct letters letters;
};

/* lease.c: UW's locks, kept for a moment. */
struct folder_lease {
	struct folder_box *box; /* whose locks they are; with the sync_lock */
	bool stale;		/* as for lease_end() */
	bool starting;		/* the locks are had, the rows are looked at */
	int dirs[2];		/* cur/ and new/; -1: not open */
	atomic_bool held;	/* nobody else can change the MBX */
	_Atomic int64_t began_us, used_us;
	_Atomic int64_t in_vain_until; /* UW's locks are hardly waited for */
	bool listed;
	struct folder *next;
};

/* settle.c: what is due after changes; with its lock. Times of
 * clock_ms(), 0: not due. */
struct folder_settle {
	struct folder_box *box;
	int64_t first_ms; /* the first change that is not durable */
	int64_t sync_ms, touch_ms, confirm_ms, names_ms, regime_ms;
	int64_t touch_at; /* not before this second */
	int64_t names_until;
	int64_t names_seen; /* time of dovecot-keywords, nanoseconds */
	bool listed;
	struct folder *next;
};

/* kept.c: another process keeps the mailbox locked, or changes to it fail for
 * other such reasons; with @lock. */
struct folder_kept {
	struct mbxlock_past file;
	int64_t since_ms; /* clock_ms(); 0: that is not so */
	bool known;	  /* who it is could be seen: */
	char who[64];
	uint64_t failed; /* changes */
};

struct folder {
	struct fs *fs;
	struct user *user;
	/* Change when UW renames the mailbox (move.h); what they were stays in
	 * memory as long as the user does. */
	char *_Atomic dir;    /* ".a.b"; "" for INBOX */
	char *_Atomic legacy; /* below its place; "" for an inbox= file */
	size_t line;	      /* in the ledger */
	int place;	      /* as in the ledger */
	unsigned missed;      /* discover.c: looks in a row without the file */

	/* Held by the one thread that syncs, also while it waits for UW. What
	 * it guards is the state of syncing; the rest below it writes under
	 * @lock too, so that others can read it under that alone. */
	pthread_mutex_t sync_lock;
	char guid[33];
	struct stamp stamp;
	int64_t stamp_ns;     /* when it was taken */
	uint32_t listed;      /* UIDs up to this are Dovecot's knowledge */
	uint32_t last_record; /* highest UID there of what lies in the MBX */
	bool uidlist_read;
	bool unlisted;	  /* the list could not be followed: all shows */
	uint32_t refused; /* letters of keywords that the MBX cannot hold */
	bool synced;	  /* rows show the state at @stamp */
	bool late;	  /* Dovecot's files are yet to be brought up to date */
	atomic_bool settled; /* mirror_settle() was called in this life */
	bool other_file;     /* the MBX is another file than it was, since */
	bool named_changed;  /* and is to be called again */
	int last_error;
	/* folder_look(), lease_try(): a lock that is held is no failure yet */
	bool glance;
	bool slots_true;      /* sync_hooks.slots, for the next sync */
	int64_t mended_ms;    /* regime.c: when that was tried last; 0 */
	int64_t disagreed_ms; /* follow.c: when that was said last; 0 */

	pthread_rwlock_t lock; /* a leaf: held for moments only */
	struct folder_id id;
	enum folder_state state;
	struct damage damage;
	uint64_t disagreements; /* UIDs that Dovecot and the MBX differ in */
	struct folder_box *box; /* NULL when it is not open */
	bool renamed;		/* dir cannot be read back as the legacy name */
	bool fresh_enough;	/* @stamp is settled and nothing is late */
	bool fresh_settled;	/* the rows are those of @fresh for sure */
	bool letters_known;	/* id.letters is what Dovecot's file says */
	struct stamp fresh;	/* the stamp that readers compare with */

	struct folder_kept kept;

	struct graves *graves; /* of expunged messages; NULL */

	struct journal *_Atomic journal;  /* folder_journal(); NULL */
	struct old_journal *old_journals; /* of earlier numbers */
	int journal_error;
	atomic_bool lettered; /* it has letters of messages */

	atomic_bool is_kept;	      /* there is something in @kept */
	_Atomic int64_t locked_until; /* UW kept it locked: only tried before */
	_Atomic int64_t sync_since;   /* a thread is in folder_sync(); 0 */
	atomic_bool seeded;
	atomic_bool known;    /* the rows were right once, in this life */
	atomic_uint anew;     /* how often they were dropped since */
	atomic_bool relist;   /* folder_relist() */
	atomic_bool gone;     /* the file: the folder does not show */
	atomic_bool plain;    /* gone, but mail of its own lies in its
				 directory: that shows as a native folder's */
	atomic_bool deleted;  /* through the view: nobody may use it any more;
				 its directory is one as any other */
	atomic_bool replaced; /* by another file, once: cached octets may lie */
	atomic_bool read_only; /* the filesystem: that was said */
	_Atomic int64_t used_ms;
	struct folder_lease lease;
	struct folder_settle settle;
	struct watch_folder watch;
	struct mirror *_Atomic mirror; /* mirror.h; NULL: not asked for yet */
	struct files *_Atomic files;   /* files.h; NULL: not asked for yet */
	struct folder *next;	       /* in the table by number */
};

/** folder_new - from its line in the ledger; registered by number. NULL when
 * out of memory */
struct folder *folder_new(struct fs *fs, struct user *u,
			  const struct ledger_folder *l);
/** folder_by_number - NULL if there is none, or it has another number now */
struct folder *folder_by_number(uint32_t number);
/** folder_forget - one that was never shown; nobody else knows it */
void folder_forget(struct folder *f);
/** folder_free_all - forget every folder; at the very end */
void folder_free_all(void);

/** folder_id - a copy of what names are made of */
struct folder_id folder_id(struct folder *f);

/**
 * folder_ready - seed the folder if need be, make the index follow the MBX
 * Cheap when nothing changed: some stat calls. Otherwise one thread syncs and
 * the others wait for it, but no longer than lockwait=, and when many threads
 * wait for one user's folders already, hardly at all: a user who keeps his
 * mailbox locked must not take all threads.
 *
 * Return: 0 (damage included, as long as something can be served); -EIO when
 * nothing can; -EAGAIN when the MBX stays locked; -errno. Logged where new.
 */
MUST_CHECK int folder_ready(struct folder *f);

/**
 * folder_freshen - folder_ready() for one who can do with what is known
 * While the MBX stays locked that is shown which was true last: the first one
 * to meet it waits for a moment, the others do not. Nothing moves then, the
 * times of cur/ and new/ included, so what is newer is seen when it is known.
 * Return: as folder_ready(), but -EAGAIN only when nothing is known yet.
 */
MUST_CHECK int folder_freshen(struct folder *f);

/** folder_is_fresh - whether folder_ready() would find nothing to do: its
 * mailbox is there, and as it was */
bool folder_is_fresh(struct folder *f);

/**
 * folder_look - bring up to date what is not fresh, for one who can come again
 * and keeps nobody waiting: @ms for each lock, and locks that are held are no
 * failure
 * Return: as folder_ready(); -EAGAIN when something was locked; -EBUSY when
 * not everything can show yet, because Dovecot's files are in use; -ENOENT when
 * the mailbox is not there, which is not logged: it was renamed or deleted, and
 * is about to be known as such.
 */
MUST_CHECK int folder_look(struct folder *f, unsigned ms);

/**
 * folder_shown - may anything in the folder be shown? Not before it is seeded:
 * Dovecot would number the messages by itself.
 * Return: 0; -EIO (logged).
 */
MUST_CHECK int folder_shown(struct folder *f);

/** folder_relist - Dovecot's files were removed, or are of another UIDVALIDITY:
 * they are read again, and what is missing is written, when the folder is made
 * ready next. Without waiting. */
void folder_relist(struct folder *f);

/** folder_by_name - a message by full file name in new/ or cur/
 * Exact: "BASE" does not find "BASE:2,S". Return: 0; -ENOENT; -errno. */
MUST_CHECK int folder_by_name(struct folder *f, bool in_new, const char *name,
			      struct msg *out);
/** folder_file_name - the name of a message, flags part included
 * @base: the name of its own that its row has; NULL or "" if it has none
 * @out: FOLDER_FILE_MAX + 1 octets; one of more than NAME_MAX cannot be shown.
 * May be called inside index_each(). */
enum { FOLDER_FILE_MAX = INDEX_NAME_MAX + INFO_MAX };
void folder_file_name(struct folder *f, const struct folder_id *id,
		      const struct msg *m, const char *base, char *out);

/** folder_journal - what neither store can say about the folder; opened when
 * first needed. NULL when it cannot be had (logged) */
struct journal *folder_journal(struct folder *f);

/** folder_buried - a message that was expunged a while ago, for who has it open
 * Return: 0; -ENOENT */
MUST_CHECK int folder_buried(struct folder *f, uint32_t uid, struct msg *out);

/**
 * folder_read - octets of a message at @off
 * @ino: of the message; when the folder has got another number since there is
 * no such message any more
 * When the message is not where the index has it, or that cannot be told, the
 * index is brought up to date and it is tried once more. What is returned was
 * the message's own at a moment during the call.
 *
 * Return: octets; -ESTALE if there is no such message any more; -EAGAIN; -EIO.
 */
MUST_CHECK ssize_t folder_read(struct folder *f, uint64_t ino, void *buf,
			       size_t len, uint64_t off);

/** folder_log_name - "user: folder" for messages; @out: 400 octets */
void folder_log_name(const struct folder *f, char *out, size_t size);

/** folder_close_idle - close MBX files not used for @ms; 0: all */
void folder_close_idle(int64_t ms);

/** folder_highest - the highest UID that has a row; 0 if none has */
MUST_CHECK int folder_highest(const struct folder *f, uint32_t *uid_out);

/** folder_open_dir - the folder's directory in the new store, or one below it
 * @sub: "" or "cur", "new". Return: a descriptor; -errno */
MUST_CHECK int folder_open_dir(const struct folder *f, const char *sub);
