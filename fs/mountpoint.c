#include "fs/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"
#include "compat/text.h"

enum { FUSE_MAJOR = 10, FUSE_MINOR = 229 };

static int check_device(void)
{
	struct stat st;
	int fd;

	if (stat("/dev/fuse", &st) < 0 || !S_ISCHR(st.st_mode) ||
	    st.st_rdev != makedev(FUSE_MAJOR, FUSE_MINOR)) {
		log_err("/dev/fuse is not there: load the kernel module "
			"(modprobe fuse), or, in a container, hand the device "
			"in");
		return -ENODEV;
	}
	fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		int err = errno;

		log_err("/dev/fuse cannot be opened: %s; it should be mode "
			"0666, and a container must be allowed to use it",
			strerrordesc_np(err));
		return -err;
	}
	(void)close(fd);
	return 0;
}

static int complain(const char *path, int err)
{
	switch (err) {
	case ENOENT:
		log_err("%s: there is no such directory; make it: mkdir -p %s",
			path, path);
		break;
	case ENOTCONN:
	case ECONNABORTED:
		log_err("%s: a mount whose daemon died is still there; remove "
			"it first: umount -l %s (or fusermount3 -uz %s)",
			path, path, path);
		break;
	default:
		log_err("%s: %s", path, strerrordesc_np(err));
	}
	return -err;
}

static int check_empty(const char *path)
{
	const struct dirent *de = NULL;
	DIR *d = opendir(path);
	int ret;

	/* Mode 0000 is good advice for a mountpoint; then it stays unknown. */
	if (!d)
		return errno == EACCES ? 0 : complain(path, errno);
	ret = io_readdir(d, &de);
	(void)closedir(d);
	if (ret < 0)
		return complain(path, -ret);
	if (!de)
		return 0;
	log_err("%s: is not empty; a mount would hide what is in it: use an "
		"empty directory",
		path);
	return -ENOTEMPTY;
}

static int check_directory(const char *path)
{
	struct statx st;

	/* The kernel would vouch for a dead mount as long as it remembers the
	 * attributes. */
	if (statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_TYPE, &st) < 0)
		return complain(path, errno);
	if (S_ISDIR(st.stx_mode))
		return check_empty(path);
	log_err("%s: is not a directory", path);
	return -ENOTDIR;
}

/* May this user mount here? fusermount3 asks for the same. */
static int check_permission(const char *path)
{
	if (geteuid() == 0 || access(path, W_OK) == 0)
		return 0;
	log_err("%s: no permission to mount here; run as root, or use a "
		"directory of your own",
		path);
	return -EACCES;
}

/* ---- apart from what we read and write ----------------------------------- */

/*
 * The daemon would wait for itself, in a way that no signal ends. Directories
 * are compared as such, not by their names, so that neither symbolic links nor
 * bind mounts hide that one is the other.
 */
struct mountpoint {
	const char *path; /* real */
	struct stat st;
};

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* What is left of the real path @path behind the directory @top; NULL if it
 * does not lie there, "" if it is that directory. */
static const char *behind(const char *path, const struct stat *top)
{
	char way[PATH_MAX];
	struct stat st;
	size_t len = strlen(path);

	if (len >= sizeof(way))
		return NULL;
	memcpy(way, path, len + 1);
	while (len > 0) {
		way[len] = '\0';
		if (stat(way, &st) == 0 && is_same(&st, top))
			return path + len + (path[len] == '/');
		while (way[--len] != '/')
			;
	}
	return stat("/", &st) == 0 && is_same(&st, top) ? path + 1 : NULL;
}

/* "" is above everything. */
static bool is_above(const char *top, const char *path)
{
	size_t len = strlen(top);

	return strncmp(path, top, len) == 0 &&
		(len == 0 || path[len] == '\0' || path[len] == '/');
}

static bool overlap(const char *a, const char *b)
{
	return is_above(a, b) || is_above(b, a);
}

static int not_apart(const char *name, const char *path,
		     const struct mountpoint *m)
{
	log_err("%s=%s: lies below the mountpoint %s, or that lies in it: the "
		"daemon would wait for itself; mount elsewhere",
		name, path, m->path);
	return -EINVAL;
}

enum direction { BELOW_MOUNTPOINT, BOTH };

/* Real, or the real directory it is to be made in; NULL if that is missing. */
static char *real_or_parent(const char *path, bool *is_there)
{
	char *real = realpath(path, NULL);
	AUTO_FREE char *parent = NULL;
	char *slash;

	*is_there = real != NULL;
	if (real)
		return real;
	parent = strdup(path);
	slash = parent ? strrchr(parent, '/') : NULL;
	if (!slash)
		return NULL;
	slash[slash == parent] = '\0';
	return realpath(parent, NULL);
}

static int check_path(const char *name, const char *path,
		      const struct mountpoint *m, enum direction way)
{
	bool is_there;
	AUTO_FREE char *real = real_or_parent(path, &is_there);
	struct stat st;

	if (!real)
		return 0;
	if (way == BOTH && is_there && stat(real, &st) == 0 &&
	    behind(m->path, &st))
		return not_apart(name, path, m);
	return behind(real, &m->st) ? not_apart(name, path, m) : 0;
}

/* Does @rest, a path below some user's directory, overlap with a user's place?
 * The first component of @rest names the user. */
static bool is_users(const struct pattern *p, const char *rest)
{
	size_t len = strcspn(rest, "/");
	size_t before = strlen(p->before), after = strlen(p->after);

	if (len == 0)
		return true; /* all users lie below it */
	if (rest[0] == '.' || len <= before + after ||
	    strncmp(rest, p->before, before) != 0 ||
	    strncmp(rest + len - after, p->after, after) != 0)
		return false;
	return overlap(rest + len + (rest[len] == '/'), p->rest);
}

struct moved {
	const struct pattern *pattern;
	const struct mountpoint *m;
};

/* A home that the admin has moved: /home/anna -> /data/anna. */
static int check_moved(const char *user, void *arg)
{
	const struct moved *v = arg;
	const struct pattern *p = v->pattern;
	char name[NAME_MAX + 1];
	const char *rest;
	struct stat st;

	if (text_path(name, sizeof(name), "%s%s%s", p->before, user, p->after) <
		    0 ||
	    fstatat(p->base_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISLNK(st.st_mode) || fstatat(p->base_fd, name, &st, 0) < 0)
		return 0;
	rest = behind(v->m->path, &st);
	return rest && overlap(rest, p->rest) ? -EINVAL : 0;
}

static int check_pattern(const char *name, const struct pattern *p,
			 const struct mountpoint *m)
{
	struct moved v = { .pattern = p, .m = m };
	AUTO_FREE char *base = realpath(p->base, NULL);
	const char *rest;
	struct stat st;
	bool bad;

	if (!base || stat(base, &st) < 0)
		return 0;
	rest = behind(m->path, &st);
	bad = behind(base, &m->st) != NULL;
	if (rest && !bad)
		bad = pattern_has_user(p) ? is_users(p, rest)
					  : overlap(rest, p->rest);
	if (!bad && pattern_has_user(p))
		bad = pattern_users(p, check_moved, &v) == -EINVAL;
	return bad ? not_apart(name, p->text, m) : 0;
}

static int check_patterns(const struct options *o, const struct mountpoint *m)
{
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < o->inbox_count; i++)
		ret = check_pattern("inbox", &o->inbox[i], m);
	if (ret == 0 && o->has_folders)
		ret = check_pattern("folders", &o->folders, m);
	if (ret == 0 && o->has_subscriptions)
		ret = check_pattern("subscriptions", &o->subscriptions, m);
	if (ret == 0 && o->has_control)
		ret = check_pattern("control", &o->control, m);
	if (ret == 0 && o->has_spool)
		ret = check_pattern("spool", &o->spool, m);
	return ret;
}

static int check_apart(const struct options *o)
{
	AUTO_FREE char *real = realpath(o->mountpoint, NULL);
	struct mountpoint m = { .path = real };
	int ret;

	if (!real || stat(real, &m.st) < 0)
		return complain(o->mountpoint, errno);
	ret = check_path("index", o->index, &m, BOTH);
	if (ret == 0)
		ret = check_path("store", o->store, &m, BOTH);
	/* Nobody walks through it: a mountpoint in /tmp is fine. */
	if (ret == 0)
		ret = check_path("lockdir", o->lockdir, &m, BELOW_MOUNTPOINT);
	return ret == 0 ? check_patterns(o, &m) : ret;
}

int mountpoint_check(const struct options *opt)
{
	int ret = check_directory(opt->mountpoint);

	if (ret == 0)
		ret = check_permission(opt->mountpoint);
	if (ret == 0)
		ret = check_apart(opt);
	return ret == 0 ? check_device() : ret;
}
