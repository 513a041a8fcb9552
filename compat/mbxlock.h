/*
 * mbxlock.h - UW IMAP's lock protocol for MBX files (docs/MBX.md, "Locks").
 *
 * Two locks. The mailbox lock is flock() on the mailbox itself: shared while a
 * session has it open, exclusive (asked for without blocking, and only by the
 * holder of the parse lock) to move bytes. The parse lock is an exclusive
 * flock() on /tmp/.<dev>.<ino> (hex), for every look at the structure and every
 * write.
 *
 * UW waits for ever; we ask without blocking, again and again, until a
 * deadline. Order, as UW's append: mailbox shared first, then parse.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"

struct mbxlock_options {
	const char *dir; /* "/tmp", as the UW processes see it */
	unsigned ms;	 /* deadline; 0: one try */
	uid_t uid;	 /* lock files are made as this user if we are root, */
	gid_t gid;	 /* so that UW, running as that user, can remove them;
			    -1: as the mailbox's owner */
};

/* A wait that others must not wait behind: tried again and again by hand. */
struct mbxlock_wait {
	int64_t until_us;
	long pause_us;
};
struct mbxlock_wait mbxlock_wait_start(unsigned ms);
/** mbxlock_limit - no wait of the calling thread is longer than @ms from now
 * on; UINT_MAX takes the limit away */
void mbxlock_limit(unsigned ms);
/** mbxlock_wait_more - pause a little; false at the deadline */
bool mbxlock_wait_more(struct mbxlock_wait *w);
/** mbxlock_cancel - the program ends: every wait, now and later, is over at
 * once. May be called by a signal handler. */
void mbxlock_cancel(void);
/** mbxlock_is_cancelled - then -EAGAIN says nothing about other processes */
bool mbxlock_is_cancelled(void);

/** mbxlock_share - LOCK_SH on @fd. Return: 0; -EAGAIN at the deadline; -errno.
 */
MUST_CHECK int mbxlock_share(int fd, unsigned ms);
/** mbxlock_unshare - LOCK_UN, after mbxlock_exclusive(), too */
void mbxlock_unshare(int fd);

/** mbxlock_exclusive - LOCK_EX on @fd, tried once; only for the holder of the
 * parse lock. What this descriptor held before is lost if it fails.
 * Return: 0; -EBUSY when somebody has the mailbox open; -errno. */
MUST_CHECK int mbxlock_exclusive(int fd);

struct mbxparse {
	int fd;		  /* of the lock file */
	int64_t since_us; /* clock_us(); 0: of no mailbox, is not counted */
	uid_t uid;
	gid_t gid;
	char path[96];
};

/**
 * mbxlock_parse - take the parse lock of the mailbox open at @fd
 * Return: 0; -EAGAIN at the deadline; -ELOOP if the lock name is a symlink,
 * -EMLINK if it has hard links (neither is touched, both are logged); -EACCES
 * if the lock file exists and cannot be opened; -errno.
 */
MUST_CHECK int mbxlock_parse(int fd, const struct mbxlock_options *opt,
			     struct mbxparse *out);
/** mbxlock_parse_release - unlink the lock file and let go */
void mbxlock_parse_release(const struct mbxparse *l,
			   const struct mbxlock_options *opt);

/**
 * mbxlock_holder - who holds a flock on the file at @fd, from /proc/locks
 * @out: "pid 123 (dmail)" or "another process"
 */
void mbxlock_holder(int fd, char *out, size_t size);

/* What became of a thread's locks. */
struct mbxlock_past {
	bool taken;	   /* a parse lock, and none was missed after it */
	uint64_t dev, ino; /* the file whose lock was not had; 0: none */
};
/** mbxlock_past - of the calling thread, since its last mbxlock_limit() */
struct mbxlock_past mbxlock_past(void);
/** mbxlock_keeper - mbxlock_holder() of the file that @past tells of
 * Return: whether he is known. */
bool mbxlock_keeper(const struct mbxlock_past *past, char *out, size_t size);
