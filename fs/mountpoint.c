#include "fs/mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"

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

static int check_empty(const char *path)
{
	const struct dirent *de;
	DIR *d = opendir(path);
	int ret = 0;

	/* Mode 0000 is good advice for a mountpoint; then it stays unknown. */
	if (!d)
		return 0;
	if (io_readdir(d, &de) == 0 && de)
		ret = -ENOTEMPTY;
	(void)closedir(d);
	if (ret < 0)
		log_err("%s: is not empty; a mount would hide what is in it: "
			"use an empty directory",
			path);
	return ret;
}

static int check_directory(const char *path)
{
	struct stat st;

	if (stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return check_empty(path);
		log_err("%s: is not a directory", path);
		return -ENOTDIR;
	}
	switch (errno) {
	case ENOENT:
		log_err("%s: there is no such directory; make it: mkdir -p %s",
			path, path);
		return -ENOENT;
	case ENOTCONN:
	case ECONNABORTED:
		log_err("%s: a mount whose daemon died is still there; remove "
			"it first: umount -l %s (or fusermount3 -uz %s)",
			path, path, path);
		return -ENOTCONN;
	default: {
		int err = errno;

		log_err("%s: %s", path, strerrordesc_np(err));
		return -err;
	}
	}
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

static bool is_below(const char *path, const char *top)
{
	size_t len = strlen(top);

	return strncmp(path, top, len) == 0 &&
		(path[len] == '\0' || path[len] == '/');
}

/* The daemon would wait for itself. */
static int check_apart(const struct options *o)
{
	if (is_below(o->index, o->mountpoint)) {
		log_err("index=%s: lies below the mountpoint %s; put it "
			"elsewhere",
			o->index, o->mountpoint);
		return -EINVAL;
	}
	if (is_below(o->store, o->mountpoint)) {
		log_err("store=%s: lies below the mountpoint %s; put it "
			"elsewhere",
			o->store, o->mountpoint);
		return -EINVAL;
	}
	return 0;
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
