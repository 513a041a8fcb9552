#include "compat/dotlock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compat/identity.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/text.h"

enum {
	STALE_S = 120, /* Dovecot's own limit */
	EMPTY_S = 1,   /* made, and its maker died before saying who he is */
	PAUSE_MS = 50,
};

/* Whether the name still shows the file at @fd: its maker, who has ended since,
 * may have removed it before, and the one there is somebody else's. */
static bool is_there(int dirfd, const char *name, int fd)
{
	struct stat st, now;

	return fstat(fd, &st) == 0 && st.st_nlink > 0 &&
		fstatat(dirfd, name, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
		st.st_ino == now.st_ino && st.st_dev == now.st_dev;
}

/* "pid:host", as Dovecot writes it. Was it left by a process of this host that
 * is no more? Then it can be broken at once. */
static bool is_orphan(int dirfd, const char *name)
{
	AUTO_FD int fd = io_open_beneath(dirfd, name, O_RDONLY);
	char host[HOST_NAME_MAX + 1] = "", text[HOST_NAME_MAX + 16];
	const uint8_t *p = (const uint8_t *)text;
	uint64_t pid;
	ssize_t len;

	len = fd < 0 ? fd : io_read_at(fd, text, sizeof(text) - 1, 0);
	if (len < 0 || gethostname(host, sizeof(host) - 1) < 0)
		return false;
	text[len] = '\0';
	if (text_number(&p, p + len, INT32_MAX, &pid) < 0 || *p != ':' ||
	    strcmp((const char *)p + 1, host) != 0)
		return false;
	return kill((pid_t)pid, 0) < 0 && errno == ESRCH &&
		is_there(dirfd, name, fd);
}

static bool is_stale(int dirfd, const char *name)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	/* Its maker died between making it and writing who he is. */
	if (st.st_size == 0 && st.st_ctim.tv_sec + EMPTY_S < time(NULL))
		return true;
	return st.st_ctim.tv_sec + STALE_S < time(NULL) ||
		is_orphan(dirfd, name);
}

static int write_owner(int fd)
{
	char host[HOST_NAME_MAX + 1] = "", text[HOST_NAME_MAX + 16];
	int len;

	if (gethostname(host, sizeof(host) - 1) < 0)
		return -errno;
	len = snprintf(text, sizeof(text), "%d:%s", (int)getpid(), host);
	return io_pwrite(fd, text, (size_t)len, 0);
}

static int try_once(uid_t uid, gid_t gid, int dirfd, const char *name)
{
	struct identity was = identity_enter(uid, gid);
	AUTO_FD int fd =
		io_open_beneath(dirfd, name, O_WRONLY | O_CREAT | O_EXCL);
	int ret = fd < 0 ? fd : write_owner(fd);

	if (fd >= 0 && ret < 0)
		(void)unlinkat(dirfd, name, 0); /* the disk is full */
	identity_leave(was);
	return ret == -EEXIST ? -EBUSY : ret;
}

int dotlock_take(uid_t uid, gid_t gid, int dirfd, const char *name, unsigned ms)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
	unsigned waited = 0;
	int ret;

	for (;;) {
		ret = try_once(uid, gid, dirfd, name);
		if (ret == -EBUSY && is_stale(dirfd, name) &&
		    io_unlink(dirfd, name, 0) == 0)
			ret = try_once(uid, gid, dirfd, name);
		if (ret != -EBUSY || waited >= ms)
			return ret;
		(void)nanosleep(&pause, NULL);
		waited += PAUSE_MS;
	}
}

void dotlock_drop(int dirfd, const char *name)
{
	if (io_unlink(dirfd, name, 0) < 0)
		log_warn("%s: cannot be removed; Dovecot will wait until it "
			 "is stale",
			 name);
}
