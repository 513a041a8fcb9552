#include "compat/spoollock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "compat/identity.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/text.h"

enum { WAIT_MS = 1000, STALE_S = 300, /* UW's own limit */ };

/* ---- SPOOL.lock ---------------------------------------------------------- */

/* What liblockfile and we write: a pid. */
static bool is_orphan(int fd)
{
	char text[32];
	const uint8_t *p = (const uint8_t *)text;
	ssize_t n = io_read_at(fd, text, sizeof(text), 0);
	uint64_t pid;

	if (n <= 0 || text_number(&p, p + n, INT32_MAX, &pid) < 0 || pid == 0)
		return false;
	return kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

/* Whether the name still shows the file at @fd. */
static bool is_dot(const struct spoollock *l, int fd)
{
	struct stat st, now;

	return fstat(fd, &st) == 0 &&
		fstatat(l->dir, l->dot, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
		now.st_ino == st.st_ino && now.st_dev == st.st_dev;
}

/* Only the one that was looked at is broken: its maker may have removed it, and
 * another have made his. */
static void break_stale(const struct spoollock *l)
{
	AUTO_FD int fd = io_open_beneath(l->dir, l->dot, O_RDONLY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	if (!is_orphan(fd) && time(NULL) <= st.st_ctim.tv_sec + STALE_S)
		return;
	if (!is_dot(l, fd))
		return;
	log_warn("spool: %s: nobody's any more, removed", l->dot);
	(void)unlinkat(l->dir, l->dot, 0);
}

/* For everybody to break, as UW makes it. */
static int make_dot(struct spoollock *l)
{
	AUTO_FD int fd = openat(l->dir, l->dot,
				O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	char text[16];
	int len;

	if (fd < 0)
		return errno == EEXIST ? -EAGAIN : -errno;
	(void)fchmod(fd, 0666);
	len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	/* An empty one does as well. */
	if (write(fd, text, (size_t)len) != len)
		log_trace(LOG_LOCK, "spool: %s: no pid in it", l->dot);
	l->dot_fd = base_steal_fd(&fd);
	return 0;
}

/* The user's own if he may make it there; else, in a directory that is not his,
 * we may as root. */
static int try_dot(struct spoollock *l)
{
	struct identity was = identity_enter(l->opt.uid, l->opt.gid);
	struct stat st;
	int ret = make_dot(l);

	identity_leave(was);
	if (ret == -EACCES && fstat(l->dir, &st) == 0 &&
	    st.st_uid != l->opt.uid)
		ret = make_dot(l);
	return ret == -EACCES || ret == -EROFS ? 0 : ret;
}

static void drop_dot(struct spoollock *l)
{
	if (l->dot_fd < 0)
		return;
	if (!is_dot(l, l->dot_fd))
		log_warn("spool: %s: removed or replaced while we held it",
			 l->dot);
	else if (unlinkat(l->dir, l->dot, 0) < 0)
		log_warn("spool: %s: cannot be removed: %s", l->dot,
			 strerrordesc_np(errno));
	base_auto_close(&l->dot_fd);
	l->dot_fd = -1;
}

void spoollock_refresh(const struct spoollock *l)
{
	if (l->dot_fd >= 0)
		(void)futimens(l->dot_fd, NULL);
}

/* ---- all of them --------------------------------------------------------- */

static int lock_file(const struct spoollock *l)
{
	struct flock all = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int ret = mbxlock_exclusive(l->fd);

	if (ret < 0)
		return ret == -EBUSY ? -EAGAIN : ret;
	if (fcntl(l->fd, F_OFD_SETLK, &all) == 0)
		return 0;
	ret = errno == EACCES || errno == EAGAIN ? -EAGAIN : -errno;
	mbxlock_unshare(l->fd);
	return ret;
}

static void unlock_file(const struct spoollock *l)
{
	struct flock all = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	(void)fcntl(l->fd, F_OFD_SETLK, &all);
	mbxlock_unshare(l->fd);
}

static int check_name(struct spoollock *l)
{
	AUTO_FD int fd = pattern_open(l->pattern, l->user, "", O_PATH);
	struct stat now;

	if (fd < 0 || fstat(fd, &now) < 0 || fstat(l->fd, &l->st) < 0)
		return -ESTALE;
	return now.st_ino == l->st.st_ino && now.st_dev == l->st.st_dev
		? 0
		: -ESTALE;
}

static int lock_once(struct spoollock *l)
{
	int ret = try_dot(l);

	if (ret == 0)
		ret = lock_file(l);
	if (ret < 0)
		drop_dot(l);
	return ret;
}

int spoollock_resume(struct spoollock *l)
{
	struct mbxlock_wait wait = mbxlock_wait_start(WAIT_MS);
	int ret;

	do {
		break_stale(l);
		ret = lock_once(l);
	} while (ret == -EAGAIN && mbxlock_wait_more(&wait));
	if (ret < 0)
		return ret;
	ret = check_name(l);
	if (ret < 0)
		spoollock_pause(l);
	return ret;
}

void spoollock_pause(struct spoollock *l)
{
	unlock_file(l);
	drop_dot(l);
}

static int check_file(const struct spoollock *l)
{
	const char *name;

	if (!S_ISREG(l->st.st_mode))
		return -ENOTSUP;
	if (l->st.st_nlink != 1)
		return -EMLINK;
	if (l->st.st_uid != l->opt.uid)
		return -EPERM;
	return io_is_network_fs(l->fd, &name) ? -EREMOTE : 0;
}

static int open_file(struct spoollock *l)
{
	struct identity was = identity_enter(l->opt.uid, l->opt.gid);
	char name[NAME_MAX + 1];

	l->fd = pattern_open(l->pattern, l->user, "", O_RDWR);
	identity_leave(was);
	if (l->fd < 0)
		return l->fd;
	if (fstat(l->fd, &l->st) < 0)
		return -errno;
	l->dir = pattern_open_parent(l->pattern, l->user, name);
	if (l->dir < 0)
		return l->dir;
	return text_path(l->dot, sizeof(l->dot), "%s.lock", name);
}

int spoollock_take(const struct pattern *p, const char *user,
		   const struct mbxlock_options *opt, struct spoollock *out)
{
	int ret;

	*out = (struct spoollock){ .fd = -1,
				   .dir = -1,
				   .dot_fd = -1,
				   .pattern = p,
				   .user = user,
				   .opt = *opt };
	out->opt.ms = 0;
	ret = open_file(out);
	if (ret == 0)
		ret = check_file(out);
	if (ret == 0)
		ret = mbxlock_parse(out->fd, &out->opt, &out->session);
	if (ret == 0) {
		out->in_session = true;
		/* UW tries this one once, and never waits for it. */
		out->session.since_us = 0;
		/* A session that was killed left its pid, now anybody's. */
		(void)!ftruncate(out->session.fd, 0);
		ret = spoollock_resume(out);
	}
	if (ret == 0)
		return 0;
	if (out->in_session)
		mbxlock_parse_release(&out->session, &out->opt);
	base_auto_close(&out->dir);
	base_auto_close(&out->fd);
	return ret;
}

void spoollock_drop(struct spoollock *l)
{
	spoollock_pause(l);
	mbxlock_parse_release(&l->session, &l->opt);
	base_auto_close(&l->dir);
	base_auto_close(&l->fd);
}
