#include "compat/mbxmove.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compat/identity.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/mbx_internal.h"
#include "compat/mbxwalk.h"
#include "compat/text.h"

enum {
	BUSY_MS =
		1000, /* how long a session, or our own readers, may have it */
	COPY_PIECE = 1 << 20,
};

/* The path of the directory that @path lies in; "" for the place itself. */
static void parent_of(const char *path, char *out)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash ? (size_t)(slash - path) : 0;

	memcpy(out, path, len);
	out[len] = '\0';
}

static const char *last_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int open_dir(const struct mbxmove *m, const char *path)
{
	return io_open_within(m->place, path, O_RDONLY | O_DIRECTORY);
}

/* ---- locks --------------------------------------------------------------- */

static int check_file(const struct mbx_store *s, const char *path)
{
	AUTO_FD int fd = pattern_open(s->root, s->user, path, O_PATH);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return mbxwalk_refusal(&s->opt, &st) ? -EPERM : 0;
}

static int open_it(struct mbxmove *m)
{
	char parent[PATH_MAX];
	struct stat st;

	m->fd = pattern_open(m->store->root, m->store->user, m->path, O_RDWR);
	if (m->fd < 0)
		return m->fd;
	if (fstat(m->fd, &st) < 0)
		return -errno;
	m->uid = st.st_uid;
	m->gid = st.st_gid;
	m->place = pattern_open(m->store->root, m->store->user, "",
				O_RDONLY | O_DIRECTORY);
	if (m->place < 0)
		return m->place;
	parent_of(m->path, parent);
	m->dir = open_dir(m, parent);
	return m->dir < 0 ? m->dir : 0;
}

/* Is it under its name still? */
static int check_name(const struct mbxmove *m)
{
	struct stat by_name, by_fd;

	if (fstat(m->fd, &by_fd) < 0 ||
	    fstatat(m->dir, m->name, &by_name, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	return by_name.st_dev == by_fd.st_dev && by_name.st_ino == by_fd.st_ino
		? 0
		: -ESTALE;
}

/* The parse lock is given back between two tries: whoever has the mailbox open
 * may need it to get done. */
static int lock_both(struct mbxmove *m)
{
	struct mbxlock_wait wait = mbxlock_wait_start(BUSY_MS);
	int ret;

	do {
		ret = mbxlock_parse(m->fd, &m->store->lock, &m->lock);
		if (ret < 0)
			return ret;
		ret = mbxlock_exclusive(m->fd);
		if (ret == 0)
			return 0;
		mbxlock_parse_release(&m->lock, &m->store->lock);
	} while (ret == -EBUSY && mbxlock_wait_more(&wait));
	return ret;
}

static void close_it(struct mbxmove *m)
{
	base_auto_close(&m->fd);
	base_auto_close(&m->dir);
	base_auto_close(&m->place);
}

int mbxmove_begin(struct store *s, const char *path, struct mbxmove *out)
{
	struct mbxmove *m = out;
	int ret;

	*m = (struct mbxmove){
		.store = (struct mbx_store *)s, .fd = -1, .dir = -1, .place = -1
	};
	if (!*path)
		return -EPERM;
	ret = text_path(m->path, sizeof(m->path), "%s", path);
	if (ret == 0)
		ret = text_path(m->name, sizeof(m->name), "%s", last_of(path));
	if (ret == 0)
		ret = check_file(m->store, path);
	if (ret == 0)
		ret = open_it(m);
	if (ret == 0)
		ret = lock_both(m);
	if (ret < 0) {
		close_it(m);
		return ret;
	}
	ret = check_name(m);
	if (ret < 0)
		mbxmove_end(m);
	return ret;
}

void mbxmove_end(struct mbxmove *m)
{
	mbxlock_unshare(m->fd);
	mbxlock_parse_release(&m->lock, &m->store->lock);
	close_it(m);
}

/* ---- another name -------------------------------------------------------- */

/* Each level of it a name. */
static int check_path(const char *path)
{
	if (strlen(path) >= PATH_MAX)
		return -ENAMETOOLONG;
	for (const char *p = path;; p++) {
		size_t len = strcspn(p, "/");

		if (len > NAME_MAX)
			return -ENAMETOOLONG;
		if (len == 0 || (len <= 2 && strspn(p, ".") >= len))
			return -EINVAL;
		p += len;
		if (!*p)
			return 0;
	}
}

int mbxmove_check(const struct mbxmove *m, const char *path)
{
	char level[PATH_MAX];
	struct stat st;
	int ret = check_path(path);

	if (ret < 0 || strcmp(path, m->path) == 0)
		return ret;
	for (const char *p = path; *p; p += *p == '/') {
		AUTO_FD int fd = -1;

		p += strcspn(p, "/");
		memcpy(level, path, (size_t)(p - path));
		level[p - path] = '\0';
		fd = io_open_within(m->place, level, O_PATH);
		if (fd < 0)
			return fd == -ENOENT ? 0 : fd;
		if (fstat(fd, &st) < 0)
			return -errno;
		if (!S_ISDIR(st.st_mode))
			return *p ? -ENOTDIR : -EEXIST;
	}
	return -EEXIST;
}

/* The directory @path, made if need be. @made: how many octets of @path are
 * directories that were there before. */
static int make_dirs(const struct mbxmove *m, const char *path, size_t *made)
{
	AUTO_FD int fd = open_dir(m, "");
	char level[NAME_MAX + 1];
	const char *p = path;

	*made = strlen(path);
	while (fd >= 0 && *p) {
		size_t len = strcspn(p, "/");
		int next, ret;

		memcpy(level, p, len);
		level[len] = '\0';
		ret = io_mkdir(fd, level, 0700, (uid_t)-1, (gid_t)-1);
		if (ret == 0 && (size_t)(p - path) < *made)
			*made = (size_t)(p - path);
		if (ret == 0)
			ret = io_fsync_dir(fd);
		if (ret < 0 && ret != -EEXIST)
			return ret;
		next = io_open_within(fd, level, O_RDONLY | O_DIRECTORY);
		(void)close(fd);
		fd = next;
		p += len + (p[len] == '/');
	}
	return base_steal_fd(&fd);
}

/* From @path upwards, as long as more than @keep octets of it are left and the
 * directories are empty. */
static void remove_dirs(const struct mbxmove *m, const char *path, size_t keep)
{
	char level[PATH_MAX], parent[PATH_MAX];
	int ret = text_path(level, sizeof(level), "%s", path);

	while (ret == 0 && *level && strlen(level) > keep) {
		AUTO_FD int fd = -1;

		parent_of(level, parent);
		fd = open_dir(m, parent);
		ret = fd < 0 ? fd : io_unlink(fd, last_of(level), AT_REMOVEDIR);
		memcpy(level, parent, sizeof(level));
	}
}

static int rename_into(struct mbxmove *m, int dir, const char *name)
{
	int ret = io_rename(m->dir, m->name, dir, name, RENAME_NOREPLACE);

	if (ret < 0)
		return ret;
	ret = io_fsync_dir(dir);
	if (ret == 0)
		ret = io_fsync_dir(m->dir);
	if (ret < 0)
		(void)!io_rename(dir, name, m->dir, m->name, RENAME_NOREPLACE);
	return ret;
}

static int rename_as_owner(struct mbxmove *m, const char *path)
{
	char parent[PATH_MAX], was[PATH_MAX];
	size_t made = 0;
	int dir, ret;

	parent_of(path, parent);
	parent_of(m->path, was);
	dir = make_dirs(m, parent, &made);
	ret = dir < 0 ? dir : rename_into(m, dir, last_of(path));
	if (ret < 0) {
		base_auto_close(&dir);
		remove_dirs(m, parent, made);
		return ret;
	}
	(void)close(m->dir);
	m->dir = dir;
	(void)snprintf(m->name, sizeof(m->name), "%s", last_of(path));
	(void)snprintf(m->path, sizeof(m->path), "%s", path);
	remove_dirs(m, was, 0);
	return 0;
}

int mbxmove_rename(struct mbxmove *m, const char *path)
{
	struct identity was;
	int ret = check_path(path);

	if (ret < 0 || strcmp(path, m->path) == 0)
		return ret;
	was = identity_enter(m->uid, m->gid);
	if (was.err)
		return was.err;
	ret = rename_as_owner(m, path);
	identity_leave(was);
	return ret;
}

/* ---- away ---------------------------------------------------------------- */

static int copy_octets(int from, int to)
{
	AUTO_FREE char *piece = malloc(COPY_PIECE);
	uint64_t off = 0;
	ssize_t n = piece ? 1 : -ENOMEM;

	while (n > 0) {
		n = io_read_at(from, piece, COPY_PIECE, off);
		if (n > 0) {
			int ret = io_pwrite(to, piece, (size_t)n, off);

			off += (uint64_t)n;
			n = ret < 0 ? ret : n;
		}
	}
	return (int)n;
}

static int copy_file(const struct mbxmove *m, int to)
{
	struct timespec times[2];
	struct stat st;
	int ret = copy_octets(m->fd, to);

	if (ret < 0)
		return ret;
	if (fstat(m->fd, &st) < 0)
		return -errno;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	ret = io_set_owner(to, st.st_uid, st.st_gid);
	if (ret == 0)
		ret = io_set_times(to, times);
	return ret == 0 ? io_fsync(to) : ret;
}

static int copy_to(const struct mbxmove *m, int dirfd, const char *name)
{
	AUTO_FD int to = -1;
	char tmp[NAME_MAX + 1];
	int ret = text_path(tmp, sizeof(tmp), "%s.tmp", name);

	if (ret < 0)
		return ret;
	ret = io_unlink(dirfd, tmp, 0); /* left by a crash */
	if (ret < 0 && ret != -ENOENT)
		return ret;
	to = io_open_beneath(dirfd, tmp, O_RDWR | O_CREAT | O_EXCL);
	if (to < 0)
		return to;
	ret = copy_file(m, to);
	if (ret == 0)
		ret = io_rename(dirfd, tmp, dirfd, name, RENAME_NOREPLACE);
	if (ret < 0)
		(void)!io_unlink(dirfd, tmp, 0);
	return ret == 0 ? io_fsync_dir(dirfd) : ret;
}

static int remove_as_owner(const struct mbxmove *m)
{
	struct identity was = identity_enter(m->uid, m->gid);
	int ret;

	if (was.err)
		return was.err;
	ret = io_unlink(m->dir, m->name, 0);
	/* Gone it is; the copy must not go as well. */
	if (ret == 0 && io_fsync_dir(m->dir) < 0)
		log_warn("mbx: %s: after a crash of the machine it may be "
			 "there again",
			 m->path);
	identity_leave(was);
	return ret;
}

/* May the owner take names away where it lies? Root's right to do so is none of
 * his. */
static int may_take(const struct mbxmove *m)
{
	struct identity was = identity_enter(m->uid, m->gid);
	int ret = was.err;

	if (ret == 0 && faccessat(m->dir, ".", W_OK | X_OK, AT_EACCESS) < 0)
		ret = -errno;
	if (was.err == 0)
		identity_leave(was);
	return ret;
}

int mbxmove_take(struct mbxmove *m, int dirfd, const char *name)
{
	int ret = may_take(m);

	if (ret == 0)
		ret = rename_into(m, dirfd, name);
	if (ret != -EXDEV)
		return ret;
	ret = copy_to(m, dirfd, name);
	if (ret < 0)
		return ret;
	ret = remove_as_owner(m);
	if (ret < 0)
		(void)!io_unlink(dirfd, name, 0);
	return ret;
}
