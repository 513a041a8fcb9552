#include "fs/ops.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "compat/identity.h"
#include "compat/log.h"
#include "fs/attr.h"
#include "fs/mail.h"
#include "fs/wake.h"

static_assert(sizeof(fuse_ino_t) == 8, "node numbers need 64 bits");

/*
 * How long the kernel may go without asking, in seconds. A message never
 * changes but for its name; control files change through the mount only;
 * cur/ and new/ of a legacy folder are asked about each time, for their times
 * tell Dovecot of changes; so are the control files that we replace. Absent
 * names are never remembered.
 */
enum { NAME_S = 1, ATTR_S = 1, MESSAGE_ATTR_S = 3600 };

enum { GROUPS_FIRST = 32, ANSWER_MS = 10 };

struct fs *ops_fs(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

void ops_error(fuse_req_t req, int ret)
{
	/* The kernel would take these for something else, or retry. */
	if (ret == -EBADMSG || ret == -EUCLEAN || ret == -EAGAIN)
		ret = -EIO;
	(void)fuse_reply_err(req, -ret);
}

struct node *ops_node(fuse_req_t req, fuse_ino_t ino)
{
	struct node *n = NULL;

	if (view_is_message(ino)) {
		ops_error(req, -EACCES);
		return NULL;
	}
	n = node_get(ops_fs(req)->nodes, ino);
	if (!n)
		ops_error(req, -ESTALE);
	return n;
}

void ops_param(const struct view_entry *e, struct fuse_entry_param *out)
{
	*out = (struct fuse_entry_param){ .ino = e->st.st_ino,
					  .attr = e->st,
					  .entry_timeout = NAME_S,
					  .attr_timeout = ATTR_S };
	if (e->message)
		out->attr_timeout = MESSAGE_ATTR_S;
	if (e->watched || e->fleeting)
		out->attr_timeout = 0;
	if (e->fleeting)
		out->entry_timeout = 0;
}

/* Groups are read from /proc, which takes as long as a whole small request. */
static bool is_owner(int fd, uid_t uid)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == uid;
}

static int groups_of(fuse_req_t req, gid_t **out)
{
	int room = GROUPS_FIRST;

	for (;;) {
		gid_t *list = reallocarray(*out, (size_t)room, sizeof(*list));
		int n;

		if (!list)
			return -ENOMEM;
		*out = list;
		n = fuse_req_getgroups(req, room, list);
		/* He is gone, or in a world of his own: no groups then. */
		if (n <= room)
			return n < 0 ? 0 : n;
		room = n;
	}
}

int ops_as_caller(fuse_req_t req, int owned, struct identity *was)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	AUTO_FREE gid_t *groups = NULL;
	int count = 0;

	if (geteuid() == 0 && ctx->uid != 0 && !is_owner(owned, ctx->uid))
		count = groups_of(req, &groups);
	if (count < 0)
		return count;
	*was = identity_enter_caller(ctx->uid, ctx->gid, groups, (size_t)count);
	return was->err;
}

bool ops_again(fuse_req_t req, int ret)
{
	return (ret == -EMFILE || ret == -ENFILE) &&
		nodes_relieve(ops_fs(req)->nodes);
}

int ops_pin(fuse_req_t req, struct node *n)
{
	int fd = node_pin(ops_fs(req)->nodes, n);

	return ops_again(req, fd) ? node_pin(ops_fs(req)->nodes, n) : fd;
}

void ops_unpin(fuse_req_t req, struct node *n, int fd)
{
	if (fd >= 0)
		node_unpin(ops_fs(req)->nodes, n);
}

bool ops_is_wake(fuse_req_t req, const char *name)
{
	return strcmp(name, WAKE_NAME) == 0 &&
		wake_is_ours(fuse_req_ctx(req)->pid);
}

void ops_forget_name(void *session, uint64_t parent, const char *name)
{
	(void)fuse_lowlevel_notify_inval_entry(session, parent, name,
					       strlen(name));
}

void ops_answer(void *session)
{
	struct pollfd p = { .fd = fuse_session_fd(session), .events = POLLIN };
	struct fuse_buf buf = { .mem = NULL };

	if (poll(&p, 1, ANSWER_MS) <= 0)
		return;
	if (!(p.revents & POLLIN))
		(void)poll(NULL, 0,
			   ANSWER_MS); /* unmounted: it ends by itself */
	else if (fuse_session_receive_buf(session, &buf) > 0)
		fuse_session_process_buf(session, &buf);
	free(buf.mem);
}

static void init(void *userdata, struct fuse_conn_info *conn)
{
	const struct fs *fs = userdata;

	conn->want &=
		~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
	if (fs->opt->readdirplus)
		conn->want |= conn->capable & (unsigned)FUSE_CAP_READDIRPLUS;
}

static void lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct node *n = ops_node(req, parent);
	struct fuse_entry_param p;
	struct view_entry e;
	int ret;

	if (!n)
		return;
	if (ops_is_wake(req, name)) {
		ops_error(req, -ENOENT);
		return;
	}
	ret = view_lookup(ops_fs(req), n, name, &e);
	if (ops_again(req, ret))
		ret = view_lookup(ops_fs(req), n, name, &e);
	log_trace(LOG_FUSE, "lookup %ju %s: %d", (uintmax_t)parent, name, ret);
	if (ret < 0) {
		ops_error(req, ret);
		return;
	}
	ops_param(&e, &p);
	/* Moved to another folder it becomes another file, and the kernel would
	 * go on with the one that it knows. */
	if (e.message)
		p.entry_timeout = 0;
	/* An answer that does not arrive is a lookup that did not happen. */
	if (fuse_reply_entry(req, &p) == -ENOENT)
		node_forget(ops_fs(req)->nodes, p.ino, 1);
}

static void forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	node_forget(ops_fs(req)->nodes, ino, count);
	fuse_reply_none(req);
}

static void forget_multi(fuse_req_t req, size_t count,
			 struct fuse_forget_data *list)
{
	for (size_t i = 0; i < count; i++)
		node_forget(ops_fs(req)->nodes, list[i].ino, list[i].nlookup);
	fuse_reply_none(req);
}

static void reply_attr(fuse_req_t req, fuse_ino_t ino)
{
	struct node *n =
		view_is_message(ino) ? NULL : node_get(ops_fs(req)->nodes, ino);
	struct fuse_entry_param p;
	struct view_entry e;
	int ret;

	if (n && !n->is_dir)
		growth_ask(&n->growth, fuse_req_ctx(req)->pid);
	ret = wake_is_ours(fuse_req_ctx(req)->pid)
		? view_stat_now(ops_fs(req), ino, &e)
		: view_stat(ops_fs(req), ino, &e);
	if (n && !n->is_dir)
		growth_asked(&n->growth);
	log_trace(LOG_FUSE, "getattr %ju: %d", (uintmax_t)ino, ret);
	if (ret < 0) {
		ops_error(req, ret);
		return;
	}
	ops_param(&e, &p);
	(void)fuse_reply_attr(req, &p.attr, p.attr_timeout);
}

static void getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	reply_attr(req, ino);
}

#define SET_TIMES                                                              \
	(FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME | \
	 FUSE_SET_ATTR_MTIME_NOW)

static int set_size(int fd, off_t size, const struct fuse_file_info *fi)
{
	char path[64];

	if (fi)
		return ftruncate((int)fi->fh, size) < 0 ? -errno : 0;
	attr_fd_path(fd, path);
	return truncate(path, size) < 0 ? -errno : 0;
}

static int set_times(int fd, const struct stat *st, int what)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT },
				  { .tv_nsec = UTIME_OMIT } };
	char path[64];

	if (what & FUSE_SET_ATTR_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	else if (what & FUSE_SET_ATTR_ATIME)
		ts[0] = st->st_atim;
	if (what & FUSE_SET_ATTR_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	else if (what & FUSE_SET_ATTR_MTIME)
		ts[1] = st->st_mtim;
	attr_fd_path(fd, path);
	return utimensat(AT_FDCWD, path, ts, 0) < 0 ? -errno : 0;
}

/* In the order of passthrough filesystems: mode, owner, size, times. */
static int set_real(int fd, const struct stat *st, int what,
		    const struct fuse_file_info *fi)
{
	char path[64];
	int ret = 0;

	attr_fd_path(fd, path);
	if (what & FUSE_SET_ATTR_MODE)
		ret = chmod(path, st->st_mode & 07777) < 0 ? -errno : 0;
	if (ret == 0 && (what & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
		ret = fchownat(fd, "",
			       what & FUSE_SET_ATTR_UID ? st->st_uid
							: (uid_t)-1,
			       what & FUSE_SET_ATTR_GID ? st->st_gid
							: (gid_t)-1,
			       AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0
			? -errno
			: 0;
	if (ret == 0 && (what & FUSE_SET_ATTR_SIZE))
		ret = set_size(fd, st->st_size, fi);
	if (ret == 0 && (what & SET_TIMES))
		ret = set_times(fd, st, what);
	return ret;
}

/* Dovecot does fchown(-1, -1) after mkdir: nothing to set is a success. */
static int setattr_check(const struct node *n, int what)
{
	if (what == 0)
		return 0;
	if (n->kind == NODE_USERS)
		return -EPERM;
	return view_may_change(n, NULL);
}

/*
 * A message of an MBX is what it is: setting what it has already succeeds, so
 * does a time of access, which nobody keeps; the date does not change.
 */
static int set_message(struct fs *fs, uint64_t ino, const struct stat *st,
		       int what)
{
	struct view_entry e;
	int ret = what == 0 ? 0 : view_stat(fs, ino, &e);

	if (ret < 0 || what == 0)
		return ret;
	if (((what & FUSE_SET_ATTR_MODE) &&
	     (st->st_mode & 07777) != (e.st.st_mode & 07777)) ||
	    ((what & FUSE_SET_ATTR_UID) && st->st_uid != e.st.st_uid) ||
	    ((what & FUSE_SET_ATTR_GID) && st->st_gid != e.st.st_gid) ||
	    ((what & FUSE_SET_ATTR_SIZE) && st->st_size != e.st.st_size) ||
	    ((what & FUSE_SET_ATTR_MTIME) && st->st_mtime != e.st.st_mtime) ||
	    (what & FUSE_SET_ATTR_MTIME_NOW))
		return -EACCES;
	return 0;
}

/* The owner gives a file to one of his groups. */
static int set_as_caller(fuse_req_t req, int fd, const struct stat *st,
			 int what, const struct fuse_file_info *fi)
{
	bool plain = !(what & (FUSE_SET_ATTR_GID | FUSE_SET_ATTR_MODE));
	struct identity was;
	int ret = ops_as_caller(req, plain ? fd : -1, &was);

	if (ret < 0)
		return ret;
	ret = set_real(fd, st, what, fi);
	identity_leave(was);
	return ret;
}

static void setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int what,
		    struct fuse_file_info *fi)
{
	struct node *n;
	int fd, ret;

	if (view_is_message(ino)) {
		ret = set_message(ops_fs(req), ino, st, what);
		if (ret < 0)
			ops_error(req, ret);
		else
			reply_attr(req, ino);
		return;
	}
	n = ops_node(req, ino);
	if (!n)
		return;
	ret = setattr_check(n, what);
	/* Those of cur/ and new/ are how Dovecot sees changes. */
	if (mail_dir(n))
		what &= ~SET_TIMES;
	if (ret == 0 && what != 0) {
		fd = ops_pin(req, n);
		ret = fd < 0 ? fd : set_as_caller(req, fd, st, what, fi);
		ops_unpin(req, n, fd);
	}
	if (ret < 0)
		ops_error(req, ret);
	else
		reply_attr(req, ino);
}

static void statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;

	(void)ino;
	if (fstatvfs(ops_fs(req)->store_fd, &st) < 0)
		ops_error(req, -errno);
	else
		(void)fuse_reply_statfs(req, &st);
}

/* The kernel checks modes by itself (default_permissions). */
static void access_op(fuse_req_t req, fuse_ino_t ino, int mask)
{
	(void)ino;
	(void)mask;
	ops_error(req, 0);
}

static const struct fuse_lowlevel_ops table = {
	.init = init,
	.lookup = lookup,
	.forget = forget,
	.forget_multi = forget_multi,
	.getattr = getattr,
	.setattr = setattr,
	.readlink = ops_readlink,
	.mknod = ops_mknod,
	.mkdir = ops_mkdir,
	.unlink = ops_unlink,
	.rmdir = ops_rmdir,
	.symlink = ops_symlink,
	.rename = ops_rename,
	.link = ops_link,
	.open = ops_open,
	.read = ops_read,
	.write_buf = ops_write_buf,
	.flush = ops_flush,
	.release = ops_release,
	.fsync = ops_fsync,
	.opendir = ops_opendir,
	.readdir = ops_readdir,
	.readdirplus = ops_readdirplus,
	.releasedir = ops_releasedir,
	.fsyncdir = ops_fsyncdir,
	.statfs = statfs,
	.access = access_op,
	.create = ops_create,
	.fallocate = ops_fallocate,
};

const struct fuse_lowlevel_ops *ops_table(void)
{
	return &table;
}
