/*
 * UW's lock functions are lock_work() and mbx_lock() in imap-2007f
 * src/osdep/unix/env_unix.c; the sequences here are the same calls in the same
 * order, seen with strace, except that we never sleep inside flock().
 *
 * Hazards this file is about:
 * - The lock file is made in a world-writable sticky directory. A symlink or a
 *   hard link under its name is refused, never followed, never removed.
 * - It must be mode 0666 from its first moment: a UW process of another user
 *   that finds it with less fails at once and misfiles mail. So the umask of
 *   the process must be 0 (the daemon's is; others set it here).
 * - fs.protected_regular refuses O_CREAT on existing files of others, so an
 *   existing one is opened without it.
 * - Between flock() and now the name may have been removed and made anew by
 *   somebody else; only a lock on the file that the name still shows counts.
 */
#include "compat/mbxlock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "compat/clock.h"
#include "compat/identity.h"
#include "compat/locktime.h"
#include "compat/log.h"
#include "compat/text.h"

enum { POLL_FIRST_US = 200, POLL_MAX_US = 5000, SAY_AGAIN_US = 60000000 };

static atomic_bool cancelled;

void mbxlock_cancel(void)
{
	atomic_store(&cancelled, true);
}

bool mbxlock_is_cancelled(void)
{
	return atomic_load(&cancelled);
}

static _Thread_local unsigned limit_ms = UINT_MAX;
static _Thread_local struct mbxlock_past recent;

void mbxlock_limit(unsigned ms)
{
	limit_ms = ms;
	recent = (struct mbxlock_past){ .taken = false };
}

struct mbxlock_past mbxlock_past(void)
{
	return recent;
}

/* Somebody else has the lock on the file at @fd. */
static void note_missed(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0)
		recent = (struct mbxlock_past){ .dev = st.st_dev,
						.ino = st.st_ino };
}

struct mbxlock_wait mbxlock_wait_start(unsigned ms)
{
	if (ms > limit_ms)
		ms = limit_ms;
	return (struct mbxlock_wait){ .until_us =
					      clock_us() + (int64_t)ms * 1000,
				      .pause_us = POLL_FIRST_US };
}

/* UW's holders are quick, so the first tries come close together. */
bool mbxlock_wait_more(struct mbxlock_wait *w)
{
	struct timespec ts = { .tv_nsec = w->pause_us * 1000 };

	if (atomic_load(&cancelled) || clock_us() >= w->until_us)
		return false;
	(void)nanosleep(&ts, NULL);
	if (w->pause_us < POLL_MAX_US)
		w->pause_us *= 2;
	return true;
}

static int lock_within(int fd, int how, struct mbxlock_wait *w)
{
	do {
		if (flock(fd, how | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -errno;
	} while (mbxlock_wait_more(w));
	note_missed(fd);
	return -EAGAIN;
}

int mbxlock_share(int fd, unsigned ms)
{
	struct mbxlock_wait wait = mbxlock_wait_start(ms);
	int ret = lock_within(fd, LOCK_SH, &wait);

	log_trace(LOG_LOCK, "share fd %d: %d", fd, ret);
	return ret;
}

void mbxlock_unshare(int fd)
{
	(void)flock(fd, LOCK_UN);
	log_trace(LOG_LOCK, "unshare fd %d", fd);
}

int mbxlock_exclusive(int fd)
{
	int ret;

	do {
		ret = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
	} while (ret == -EINTR);
	log_trace(LOG_LOCK, "exclusive fd %d: %d", fd, ret);
	if (ret != -EWOULDBLOCK)
		return ret;
	note_missed(fd);
	return -EBUSY;
}

/* Of one lock file this is tried again and again: said once a minute. */
static void say_unusable(const char *path, const char *why)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static char last[sizeof(((struct mbxparse *)NULL)->path)];
	static int64_t said_us;
	int64_t now = clock_us();
	bool again;

	(void)pthread_mutex_lock(&lock);
	again = strcmp(last, path) == 0 && now - said_us < SAY_AGAIN_US;
	if (!again) {
		(void)snprintf(last, sizeof(last), "%s", path);
		said_us = now;
	}
	(void)pthread_mutex_unlock(&lock);
	if (!again)
		log_err("mbxlock: %s: %s", path, why);
}

/* What must hold of a lock file by name before it is opened. */
static int name_is_safe(const char *path, struct stat *st)
{
	if (lstat(path, st) < 0)
		return -errno;
	if (S_ISLNK(st->st_mode)) {
		say_unusable(path,
			     "is a symbolic link, so the mailbox cannot "
			     "be locked; find out who made it, remove "
			     "it");
		return -ELOOP;
	}
	if (!S_ISREG(st->st_mode)) {
		say_unusable(path, "is not a regular file; remove it");
		return -EACCES;
	}
	if (st->st_nlink > 1) {
		say_unusable(path,
			     "has hard links, so the mailbox cannot be "
			     "locked; find out who made them, remove "
			     "it");
		return -EMLINK;
	}
	return 0;
}

static int open_lock_file(const char *path)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	struct stat st;
	int ret = name_is_safe(path, &st);
	int fd;

	if (ret < 0 && ret != -ENOENT)
		return ret;
	if (ret == 0)
		fd = open(path, flags);
	else
		fd = open(path, flags | O_CREAT | O_EXCL, 0666);
	if (fd < 0) {
		int err = -errno;

		if (err == -EACCES && ret == 0)
			say_unusable(path,
				     "exists and cannot be opened for "
				     "writing: chmod 0666 it");
		return err;
	}
	if (ret == -ENOENT)
		(void)fchmod(fd, 0666); /* whatever the umask is */
	return fd;
}

/* Does the name still show the file that we locked? */
static bool name_shows(const char *path, int fd)
{
	struct stat by_name, by_fd;

	return name_is_safe(path, &by_name) == 0 && fstat(fd, &by_fd) == 0 &&
		by_name.st_dev == by_fd.st_dev &&
		by_name.st_ino == by_fd.st_ino;
}

/* One round: open (or make) and lock. -ESTALE: the file went away, again. */
static int try_parse(const char *path, struct mbxlock_wait *wait, int *fd_out)
{
	AUTO_FD int fd = open_lock_file(path);
	int ret;

	if (fd == -EEXIST || fd == -ENOENT)
		return -ESTALE; /* made or removed between two calls */
	if (fd < 0)
		return fd;
	ret = lock_within(fd, LOCK_EX, wait);
	if (ret < 0)
		return ret;
	if (!name_shows(path, fd))
		return -ESTALE;
	*fd_out = base_steal_fd(&fd);
	return 0;
}

int mbxlock_parse(int fd, const struct mbxlock_options *opt,
		  struct mbxparse *out)
{
	struct mbxlock_wait wait = mbxlock_wait_start(opt->ms);
	struct identity was;
	struct stat st;
	int ret;

	if (fstat(fd, &st) < 0)
		return -errno;
	ret = text_path(out->path, sizeof(out->path), "%s/.%jx.%jx", opt->dir,
			(uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	if (ret < 0)
		return ret;
	out->uid = opt->uid == (uid_t)-1 ? st.st_uid : opt->uid;
	out->gid = opt->gid == (gid_t)-1 ? st.st_gid : opt->gid;
	was = identity_enter(out->uid, out->gid);
	do {
		ret = try_parse(out->path, &wait, &out->fd);
		/* It has just been let go of: be there before the next. */
		if (ret == -ESTALE)
			wait.pause_us = POLL_FIRST_US;
	} while (ret == -ESTALE && mbxlock_wait_more(&wait));
	identity_leave(was);
	if (ret == -ESTALE)
		ret = -EAGAIN;
	out->since_us = clock_us();
	if (ret == 0)
		recent = (struct mbxlock_past){ .taken = true };
	log_trace(LOG_LOCK, "parse %s: %d", out->path, ret);
	return ret;
}

void mbxlock_parse_release(const struct mbxparse *l,
			   const struct mbxlock_options *opt)
{
	struct identity was = identity_enter(l->uid, l->gid);

	/* If a tmp cleaner gave the name to somebody else, it is theirs. */
	if (name_shows(l->path, l->fd))
		(void)unlink(l->path);
	else
		log_warn("mbxlock: %s: removed or replaced while we held it; "
			 "is something cleaning %s?",
			 l->path, opt->dir);
	identity_leave(was);
	(void)flock(l->fd, LOCK_UN);
	(void)close(l->fd);
	if (l->since_us)
		locktime_note(clock_us() - l->since_us);
	log_trace(LOG_LOCK, "release %s", l->path);
}

/* ---- who it is ----------------------------------------------------------- */

/* False: he ended meanwhile, or /proc does not show him. */
static bool name_of(long pid, char *out, size_t size)
{
	char path[64];
	char comm[32] = "";
	FILE *f;

	if (pid <= 0 ||
	    text_path(path, sizeof(path), "/proc/%ld/comm", pid) < 0)
		return false;
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fgets(comm, sizeof(comm), f))
		comm[strcspn(comm, "\n")] = '\0';
	(void)fclose(f);
	(void)snprintf(out, size, "pid %ld (%s)", pid, comm);
	return true;
}

/*
 * "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"; whoever waits has a "->"
 * in it. Quirk: the device is the filesystem's, which on btrfs is not what
 * stat() says; nobody is found there.
 */
static bool find_holder(dev_t dev, uint64_t ino, char *out, size_t size)
{
	char want[64];
	char line[256];
	bool found = false;
	FILE *f;

	(void)snprintf(want, sizeof(want), " %02x:%02x:%ju ", major(dev),
		       minor(dev), (uintmax_t)ino);
	f = fopen("/proc/locks", "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		const char *place = strstr(line, want);
		const char *pid = place;

		if (!place || !strstr(line, " FLOCK ") || strstr(line, "->"))
			continue;
		while (pid > line && pid[-1] != ' ')
			pid--;
		found = name_of(strtol(pid, NULL, 10), out, size);
	}
	(void)fclose(f);
	return found;
}

bool mbxlock_keeper(const struct mbxlock_past *past, char *out, size_t size)
{
	(void)snprintf(out, size, "another process");
	return past->ino && find_holder(past->dev, past->ino, out, size);
}

void mbxlock_holder(int fd, char *out, size_t size)
{
	struct mbxlock_past file = { .taken = false };
	struct stat st;

	if (fstat(fd, &st) == 0) {
		file.dev = st.st_dev;
		file.ino = st.st_ino;
	}
	(void)mbxlock_keeper(&file, out, size);
}
