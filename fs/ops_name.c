#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/identity.h"
#include "compat/io.h"
#include "compat/log.h"
#include "fs/attr.h"
#include "fs/folders.h"
#include "fs/mail.h"
#include "fs/wake.h"

/* A directory in which @name may be changed; else NULL, and answered. */
static struct node *changeable(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct node *n = ops_node(req, ino);
	int ret;

	if (!n)
		return NULL;
	ret = view_may_change(n, name);
	if (ret == 0 && view_is_hidden(ops_fs(req), n, name))
		ret = -EACCES;
	if (ret == 0)
		return n;
	ops_error(req, ret);
	return NULL;
}

static void reply_found(fuse_req_t req, struct node *parent, const char *name)
{
	struct fuse_entry_param p;
	struct view_entry e;
	int ret = view_lookup(ops_fs(req), parent, name, &e);

	if (ret < 0) {
		ops_error(req, ret);
		return;
	}
	ops_param(&e, &p);
	if (fuse_reply_entry(req, &p) == -ENOENT)
		node_forget(ops_fs(req)->nodes, p.ino, 1);
}

/* A directory in which a folder called @name may be made: what is left of one
 * that is gone makes room. Else NULL, and answered. */
static struct node *changeable_with_room(fuse_req_t req, fuse_ino_t ino,
					 const char *name)
{
	struct node *n = ops_node(req, ino);
	int ret = n ? folders_make_room(n, name) : 0;

	if (!n)
		return NULL;
	if (ret == 0)
		return changeable(req, ino, name);
	ops_error(req, ret);
	return NULL;
}

void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct node *n = changeable_with_room(req, parent, name);
	struct identity was;
	int ret;

	if (!n)
		return;
	/* Dovecot takes a directory among messages for a message. */
	if (n->kind == NODE_CUR || n->kind == NODE_NEW) {
		ops_error(req, -EACCES);
		return;
	}
	ret = ops_as_caller(req, n->fd, &was);
	if (ret == 0) {
		ret = io_mkdir(n->fd, name, mode, (uid_t)-1, (gid_t)-1);
		identity_leave(was);
	}
	log_trace(LOG_FUSE, "mkdir %ju %s: %d", (uintmax_t)parent, name, ret);
	if (ret < 0)
		ops_error(req, ret);
	else
		reply_found(req, n, name);
}

/* There never is such a file. The kernel has it until it asks for the removal,
 * which follows at once. */
static void reply_wake(fuse_req_t req)
{
	enum { KNOWN_S = 3600 };
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	const struct fuse_entry_param p = {
		.ino = wake_ino(),
		.attr = { .st_mode = S_IFREG | 0600,
			  .st_nlink = 1,
			  .st_uid = ctx->uid,
			  .st_gid = ctx->gid },
		.attr_timeout = KNOWN_S,
		.entry_timeout = KNOWN_S,
	};

	(void)fuse_reply_entry(req, &p);
}

void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       dev_t rdev)
{
	struct identity was;
	struct node *n;
	int ret;

	if (ops_is_wake(req, name)) {
		reply_wake(req);
		return;
	}
	n = changeable(req, parent, name);
	if (!n)
		return;
	if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode)) {
		ops_error(req, -EPERM);
		return;
	}
	ret = 0;
	if (mail_dir(n))
		ret = S_ISREG(mode) ? mail_may_make(n, name) : -EACCES;
	if (ret == 0)
		ret = ops_as_caller(req, n->fd, &was);
	if (ret == 0) {
		ret = mknodat(n->fd, name, mode, rdev) < 0 ? -errno : 0;
		identity_leave(was);
	}
	if (ret == 0 && mail_dir(n))
		mail_made(n, name);
	if (ret < 0)
		ops_error(req, ret);
	else
		reply_found(req, n, name);
}

void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent,
		 const char *name)
{
	struct node *n = changeable(req, parent, name);
	struct identity was;
	int ret;

	if (!n)
		return;
	ret = mail_dir(n) ? -EACCES : ops_as_caller(req, n->fd, &was);
	if (ret == 0) {
		ret = symlinkat(target, n->fd, name) < 0 ? -errno : 0;
		identity_leave(was);
	}
	if (ret < 0)
		ops_error(req, ret);
	else
		reply_found(req, n, name);
}

void ops_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct node *n = ops_node(req, ino);
	char target[PATH_MAX];
	ssize_t len;
	int fd;

	if (!n)
		return;
	fd = ops_pin(req, n);
	len = fd < 0 ? fd : readlinkat(fd, "", target, sizeof(target) - 1);
	len = fd >= 0 && len < 0 ? -errno : len;
	ops_unpin(req, n, fd);
	if (len < 0) {
		ops_error(req, (int)len);
		return;
	}
	target[len] = '\0';
	(void)fuse_reply_readlink(req, target);
}

struct folder *ops_control_folder(const struct node *dir, const char *name)
{
	static const char prefix[] = "dovecot-";

	if (strncmp(name, prefix, sizeof(prefix) - 1) != 0 ||
	    (dir->kind != NODE_MAIL && dir->kind != NODE_FOLDER))
		return NULL;
	return view_folder(dir);
}

static int remove_real(fuse_req_t req, const struct node *n, const char *name,
		       int flags)
{
	struct identity was;
	int ret = ops_as_caller(req, n->fd, &was);

	if (ret < 0)
		return ret;
	ret = io_unlink(n->fd, name, flags);
	identity_leave(was);
	return ret;
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name,
			int flags)
{
	struct node *n = changeable(req, parent, name);
	struct folder *f = NULL;
	int ret;

	if (!n)
		return;
	if (mail_dir(n) && flags == 0)
		ret = mail_unlink(n, name);
	else
		ret = remove_real(req, n, name, flags);
	log_trace(LOG_FUSE, "unlink %ju %s: %d", (uintmax_t)parent, name, ret);
	if (ret == 0)
		f = ops_control_folder(n, name);
	ops_error(req, ret);
	mail_control(f, name);
}

void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	if (ops_is_wake(req, name))
		ops_error(req, 0);
	else
		remove_name(req, parent, name, 0);
}

void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *n = ops_node(req, parent);

	if (!n)
		return;
	if (folders_is_legacy(n, name)) {
		ops_error(req, folders_rmdir(n, name));
		return;
	}
	remove_name(req, parent, name, AT_REMOVEDIR);
}

/* Of several things touched, one that is not the caller's own may have been
 * open to one of his groups only. */
static bool needs_groups(int ret, int *owned)
{
	bool again = *owned >= 0 && (ret == -EACCES || ret == -EPERM);

	*owned = -1;
	return again;
}

static int rename_real(fuse_req_t req, const struct node *from,
		       const char *name, const struct node *to,
		       const char *to_name, unsigned flags)
{
	struct identity was;
	int owned = from->fd, ret;

	do {
		ret = ops_as_caller(req, owned, &was);
		if (ret < 0)
			break;
		ret = io_rename(from->fd, name, to->fd, to_name, flags);
		identity_leave(was);
	} while (needs_groups(ret, &owned));
	return ret;
}

/* Whether it was the directory of a legacy folder, and is answered. */
static bool renamed_folder(fuse_req_t req, struct node *from, const char *name,
			   fuse_ino_t to_parent, const char *to_name)
{
	struct node *to;
	int ret;

	if (!folders_is_legacy(from, name))
		return false;
	to = ops_node(req, to_parent);
	if (!to)
		return true;
	ret = folders_rename(from, name, to, to_name);
	log_trace(LOG_FUSE, "rename %s to %s: %d", name, to_name, ret);
	ops_error(req, ret);
	return true;
}

void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
		fuse_ino_t to_parent, const char *to_name, unsigned flags)
{
	struct node *from = ops_node(req, parent), *to;
	struct folder *f = NULL;
	int ret;

	if (!from)
		return;
	if (flags & ~(unsigned)RENAME_NOREPLACE) {
		ops_error(req, -EINVAL);
		return;
	}
	if (renamed_folder(req, from, name, to_parent, to_name))
		return;
	to = ops_node(req, to_parent);
	if (!to)
		return;
	/* As on any directory with something in it, which this one has. */
	if (folders_is_legacy(to, to_name)) {
		ops_error(req, -ENOTEMPTY);
		return;
	}
	from = changeable(req, parent, name);
	to = from ? changeable_with_room(req, to_parent, to_name) : NULL;
	if (!to)
		return;
	if (mail_dir(from) || mail_dir(to))
		ret = mail_rename(ops_fs(req), from, name, to, to_name);
	else
		ret = rename_real(req, from, name, to, to_name, flags);
	log_trace(LOG_FUSE, "rename %s to %s: %d", name, to_name, ret);
	if (ret == 0)
		f = ops_control_folder(to, to_name);
	ops_error(req, ret);
	mail_control(f, to_name);
}

static int link_as_caller(fuse_req_t req, int fd, const struct node *to,
			  const char *to_name)
{
	struct identity was;
	int owned = to->fd;
	char path[64];
	int ret;

	attr_fd_path(fd, path);
	do {
		ret = ops_as_caller(req, owned, &was);
		if (ret < 0)
			break;
		ret = linkat(AT_FDCWD, path, to->fd, to_name,
			     AT_SYMLINK_FOLLOW) < 0
			? -errno
			: 0;
		identity_leave(was);
	} while (needs_groups(ret, &owned));
	return ret;
}

static int link_node(fuse_req_t req, struct node *n, struct node *to,
		     const char *to_name)
{
	int fd = ops_pin(req, n), ret;

	if (fd < 0)
		return fd;
	if (mail_dir(to) && to_name[0] != '.')
		ret = mail_link(fd, to, to_name);
	else
		ret = link_as_caller(req, fd, to, to_name);
	if (ret == 0 && mail_dir(to) && to_name[0] == '.')
		mail_made(to, to_name);
	ops_unpin(req, n, fd);
	return ret;
}

void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t to_parent,
	      const char *to_name)
{
	struct node *to = changeable(req, to_parent, to_name);
	struct node *n;
	int ret;

	if (!to)
		return;
	if (view_is_message(ino)) {
		ret = mail_copy(ops_fs(req), ino, to, to_name);
	} else {
		n = ops_node(req, ino);
		if (!n)
			return;
		ret = link_node(req, n, to, to_name);
	}
	log_trace(LOG_FUSE, "link to %s: %d", to_name, ret);
	if (ret < 0)
		ops_error(req, ret);
	else
		reply_found(req, to, to_name);
}
