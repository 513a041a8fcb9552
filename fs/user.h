/*
 * user.h - users, and which folders they have.
 *
 * A user is attached when first looked up: the legacy places are walked, new
 * folders get a number and a line in the ledger, their directories are made in
 * the new store. No MBX is read for that but its first 2 KiB; folders are
 * seeded and indexed when they are first used (folder.h).
 *
 * Threads: all functions are safe. Users live as long as the daemon.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"
#include "compat/ledger.h"
#include "fs/folder.h"
#include "fs/fs.h"
#include "fs/watch.h"

/* snarf.c: how it stands with his spool. What is not atomic belongs to its
 * thread. */
struct user_spool {
	uint64_t dev, ino, size;
	int64_t mtime_ns; /* there was nothing to be taken */
	bool is_clean;	  /* nothing is left half done */
	int64_t retry_ms;
	int error; /* that was logged */
	const char *_Atomic why;
	_Atomic uint64_t kept_dev, kept_ino; /* of what somebody has locked */
};

/* A file below the user's mail directory that is not shown, and why. */
struct not_served {
	char *path; /* text_escape()d */
	const char *why;
};

struct user {
	struct fs *fs;
	char *name; /* "" in single-user mode */
	uid_t uid;  /* the tree belongs to */
	gid_t gid;
	int fd; /* Maildir++ root in the new store */
	struct user_spool spool;
	atomic_int waiting; /* threads that wait for folders of this user */
	struct watch_user watch;

	/* Held by the one thread that attaches the user or looks for folders.
	 * Taken before all others. What it guards it alone changes, and what
	 * others read it changes with @lock held, too. */
	pthread_mutex_t refresh_lock;
	size_t shown; /* lines of the ledger that have a folder */
	_Atomic int64_t refreshed_ms;
	_Atomic int64_t refresh_began_ms; /* the last that succeeded */
	int64_t refresh_took_ms;
	char **retired; /* names that folders had before */
	size_t retired_count;

	pthread_mutex_t lock; /* guards what follows */
	bool attached;
	struct ledger ledger;
	struct folder **folders; /* by dir; those that are gone, too */
	size_t count;
	struct store *inbox[OPTIONS_INBOX_MAX];
	struct store *mail; /* folders= */
	struct not_served *not_served;
	size_t not_served_count;
	char *refusal; /* why he is not shown; NULL when he may be */
	struct user *next;
};

/** users_new - NULL when out of memory */
struct users *users_new(void);
/** users_free - NULL is fine */
void users_free(struct users *t);

/**
 * user_find - the user of that name, attached
 * Return: 0; -ENOENT when no place names him; -EACCES when it is in doubt whose
 * mail it is; -errno (logged).
 */
MUST_CHECK int user_find(struct fs *fs, const char *name, struct user **out);

/** user_each_attached - all that were looked up. A non-zero return of @fn ends
 * it and is returned. */
typedef int user_fn(struct user *u, void *arg);
MUST_CHECK int user_each_attached(struct fs *fs, user_fn *fn, void *arg);

/** user_refusal - why user_find() gave -EACCES, to be freed; NULL */
char *user_refusal(struct fs *fs, const char *name);

/** user_attached - the user of that name if he was attached before; NULL */
struct user *user_attached(struct fs *fs, const char *name);

/**
 * user_refresh - look for folders that are new, renamed or gone in the legacy
 * places
 * Does nothing within a second of the last time, longer when that took long, or
 * while another thread is at it.
 */
MUST_CHECK int user_refresh(struct user *u);

/** user_refresh_soon - for a thread that serves no request and knows that
 * something changed: a tenth of a second after the last time will do */
MUST_CHECK int user_refresh_soon(struct user *u);

/** user_folder - the legacy folder shown as directory @dir; NULL if none */
struct folder *user_folder(struct user *u, const char *dir);

/** user_hides - whether @dir must not show: it is the directory of a folder
 * whose file is gone, or of one that is about to be known by that name */
bool user_hides(struct user *u, const char *dir);

/** user_gone_folder - the folder of directory @dir if its file is gone; NULL */
struct folder *user_gone_folder(struct user *u, const char *dir);

/** user_drop - a folder was deleted: nobody finds it any more. The caller holds
 * the refresh_lock. */
void user_drop(struct user *u, struct folder *f);

/** user_save_folder - put a folder's number and UIDVALIDITY, which are to be
 * its own from now on, into the ledger. The caller holds its sync_lock, not
 * the user's lock. Return: 0; -ENOENT; -errno */
MUST_CHECK int user_save_folder(struct user *u, const struct folder *f,
				uint32_t number, uint32_t uidvalidity);

/** user_commit - make durable what changed in the ledger; with the user's
 * lock. Return: 0; -errno */
MUST_CHECK int user_commit(struct user *u);

/** user_sort - names of folders changed; with the user's lock */
void user_sort(struct user *u);

/** user_store - the legacy store a place means; NULL if there is none */
struct store *user_store(struct user *u, int place);

typedef int user_fn(struct user *u, void *arg);
/** user_each_attached - every user who was attached, in no order; no lock is
 * held while @fn is called. A non-zero return ends it and is returned. */
MUST_CHECK int user_each_attached(struct fs *fs, user_fn *fn, void *arg);

/* A non-zero return ends the walk and is returned. */
typedef int user_name_fn(const char *name, void *arg);
/** user_each_name - everyone who has mail somewhere, each once, sorted */
MUST_CHECK int user_each_name(struct fs *fs, user_name_fn *fn, void *arg);
