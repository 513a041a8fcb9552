/*
 * watch.h - what happens behind the mount is noticed, and told to who watches.
 *
 * UW's programs, and delivery agents, change mailboxes at any time. Every look
 * at a directory of the view sees it (folder.h); but a client in IDLE does not
 * look. So directories that hold mailboxes are watched with inotify where the
 * filesystem tells of changes, else looked at again and again; what changed is
 * brought up to date by threads that serve no request; and when names changed
 * in cur/ or new/, programs that watch them through the mount are woken
 * (wake.h).
 *
 * A user is watched from when he is attached. One whose directories cannot be
 * watched, or not any more, is polled (watch_poll.c).
 *
 * Threads: all functions are safe and take no lock that is held for long; none
 * may be called with a user's lock held. The threads here wait for UW for
 * moments only, and come again; no more than two of them work for one user.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "compat/base.h"
#include "fs/wake.h"

struct folder;
struct fs;
struct user;
struct watch_target;

/* Something to be looked at, by one thread at a time. With the queue's lock. */
struct watch_job {
	struct user *user;
	struct folder *folder; /* NULL: the user himself */
	int64_t due_ms;	       /* of clock_ms() */
	int64_t again_ms;      /* asked for while it was busy; 0 */
	int64_t began_ms;
	int64_t free_ms; /* not before */
	bool queued, busy;
	TAILQ_ENTRY(watch_job) link;
};

/* Of a folder. */
struct watch_folder {
	atomic_uint moved; /* how often cur/ or new/ changed for what others
			      did */
	_Atomic uint64_t new_ino; /* the directory new/ when last looked up */
	int64_t polled_ms;	  /* watch_poll.c */
	struct watch_job job;
	struct wake_job wake;
	/* Of the thread that has the job. */
	unsigned told; /* ->moved when watchers were last woken */
	int64_t woken_ms;
	unsigned tries;
};

enum watch_how {
	WATCHED_NOT,
	WATCHED_INOTIFY,
	WATCHED_PARTLY, /* but for directories that hold no mailbox yet */
	WATCHED_POLL,
};

/* Of a user. */
struct watch_user {
	struct watch_job job;
	atomic_uint what;	  /* bits of watch_internal.h */
	atomic_uint looks;	  /* at his folders that are due */
	_Atomic int64_t asked_ms; /* when the last was asked for */
	_Atomic int64_t retry_ms; /* his directories are looked at again */
	int64_t walked_ms;	  /* watch_poll.c */
	unsigned busy;		  /* jobs; with the queue's lock */
	unsigned waking;	  /* with the lock of wake.c */
	_Atomic enum watch_how how;
	const char *_Atomic why; /* not by inotify alone; static text */
	atomic_ulong events;
	_Atomic int64_t last_event; /* seconds since the epoch; 0: none */
	int64_t maybe_ms;	    /* watch_events.c */
	unsigned maybes;
	/* watch_dirs.c, with its lock. */
	struct watch_target *targets;
	unsigned round;
	bool missing; /* a place, so that it cannot be watched */
	bool more;    /* directories than are watched */
	atomic_uint watches;
};

/** watch_start - begin; users who were attached before, too. It fails when
 * threads cannot be had; without inotify there is polling. Return: 0; -errno */
MUST_CHECK int watch_start(struct fs *fs);

/** watch_stop - end; nothing happens if it was not begun
 * @answer, @arg: as for wake_stop() */
void watch_stop(void (*answer)(void *arg), void *arg);

/** watch_user - he was attached, or has other folders than before */
void watch_user(struct user *u);

/** watch_moved - in cur/ or new/ names changed for what others did */
void watch_moved(struct folder *f);

struct watch_totals {
	bool off;
	uint32_t watches, watches_max;
	uint64_t polled; /* users */
	uint64_t wakes;
};
void watch_totals(struct fs *fs, struct watch_totals *out);
