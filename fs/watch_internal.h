/*
 * watch_internal.h - what the watch*.c files share.
 *
 * Lock order: the lock of watch_dirs.c -> a user's lock; the queue's is a leaf.
 */
#pragma once

#include "fs/watch.h"

/* What is to be looked at of a user. */
enum {
	WATCH_DIRS = 1U << 0,	 /* which directories to watch */
	WATCH_FOLDERS = 1U << 1, /* which folders he has */
	WATCH_LIST = 1U << 2,	 /* UW's list of subscriptions */
	WATCH_ALL = 1U << 3,	 /* folders that somebody may have in view */
};

/* watch.c */

/** watch_ask - look at a user, in @ms milliseconds. What is asked for again
 * before is done once, at the earlier time. */
void watch_ask(struct user *u, unsigned what, int64_t ms);
/** watch_ask_folders - look which folders he has, @looks times: one look may
 * miss a mailbox that is being renamed */
void watch_ask_folders(struct user *u, unsigned looks, int64_t ms);
/** watch_ask_folder - look at a folder soon, if anybody ever did */
void watch_ask_folder(struct folder *f);
/** watch_each_folder - of a user, with no lock held */
void watch_each_folder(struct user *u, void (*fn)(struct folder *f));
/** watch_ask_all - look at everything: nobody knows what changed */
void watch_ask_all(struct fs *fs);

/* watch_dirs.c: what is watched */

/** watch_dirs_open - Return: 0; -errno when there is no inotify, which was
 * logged */
MUST_CHECK int watch_dirs_open(struct fs *fs);
/** watch_dirs_close - when no thread works any more */
void watch_dirs_close(struct fs *fs);
/** watch_dirs_fd - of inotify; -1 */
int watch_dirs_fd(void);
/** watch_dirs_user - watch the directories that hold his mailboxes, from now
 * on those alone, or note why he has to be polled */
void watch_dirs_user(struct user *u);
/** watch_dirs_count - watches in use, and how many there may be */
uint32_t watch_dirs_count(uint32_t *max_out);

/* What a watched directory means to somebody. */
enum watch_kind {
	WATCH_AN_INBOX, /* a name in it is his INBOX */
	WATCH_A_LIST,	/* a name in it is UW's list of subscriptions */
	WATCH_A_PLACE,	/* a name in it is his mail directory */
	WATCH_MAIL,	/* it is his mail directory, or lies in it */
};

struct watch_target {
	int wd; /* -1: not watched yet */
	enum watch_kind kind;
	struct user *user;
	char *name; /* in the directory; or WATCH_MAIL: of the directory, below
		       folders=, "" for that itself */
	unsigned round;			/* in which it was last wanted */
	struct watch_target *next_here; /* in a bucket */
	struct watch_target *next;	/* of the user */
};

/* Called with the lock of watch_dirs.c. */
typedef void watch_target_fn(const struct watch_target *t, void *arg);
/** watch_dirs_each - everybody to whom something called @name in the directory
 * @wd may mean something; NULL: to whom the directory itself does */
void watch_dirs_each(int wd, const char *name, watch_target_fn *fn, void *arg);
/** watch_dirs_gone - the kernel does not watch @wd any more */
void watch_dirs_gone(int wd);
/* watch_tree.c */

/* @fd: of a directory, not to be kept; @path: below folders=, "" for that
 * itself. A negative return means that it could not be watched. */
typedef int watch_tree_fn(int fd, const char *path, void *arg);

/**
 * watch_tree_walk - every directory in which a mailbox of the user's may be
 * made: what is made in one after @fn was called for it, was not listed yet
 * Those that hold mailboxes come first, and fail the walk when they cannot be
 * watched; for the others only a lack of watches does.
 * @more_out: whether there are more than one user may have, and not all were
 *	walked
 * Return: 0, also when there is no directory at all; -E2BIG when too many hold
 * mailboxes; -errno.
 */
MUST_CHECK int watch_tree_walk(struct user *u, watch_tree_fn *fn, void *arg,
			       bool *more_out);

/* watch_poll.c */

/** watch_poll_user - he is due, perhaps; a user_fn */
int watch_poll_user(struct user *u, void *arg);

/* watch_events.c */

/** watch_events_read - all that inotify has to tell now */
void watch_events_read(struct fs *fs);
