#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "compat/identity.h"
#include "compat/log.h"
#include "fs/attr.h"
#include "fs/folder.h"
#include "fs/mail.h"

/* The kernel keeps O_APPEND's promise itself (it knows the size), and libfuse
 * writes at offsets. */
static int real_flags(int flags)
{
	return (flags & ~(O_APPEND | O_NOFOLLOW)) | O_CLOEXEC;
}

static void close_file(struct fs *fs, uint64_t ino, int fd)
{
	node_release(fs->nodes, ino);
	base_auto_close(&fd);
}

static int create_as_caller(fuse_req_t req, const struct node *n,
			    const char *name, mode_t mode,
			    const struct fuse_file_info *fi)
{
	struct identity was;
	int ret = ops_as_caller(req, n->fd, &was);

	if (ret < 0)
		return ret;
	ret = openat(n->fd, name,
		     real_flags(fi->flags) | O_CREAT | O_NOFOLLOW | O_NONBLOCK,
		     mode);
	ret = ret < 0 ? -errno : ret;
	identity_leave(was);
	return ret;
}

void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name,
		mode_t mode, struct fuse_file_info *fi)
{
	struct node *n = ops_node(req, parent);
	struct fuse_entry_param p;
	struct view_entry e;
	int fd, ret;

	if (!n)
		return;
	ret = view_may_change(n, name);
	if (ret == 0 && view_is_hidden(ops_fs(req), n, name))
		ret = -EACCES;
	if (ret == 0 && mail_dir(n))
		ret = mail_may_make(n, name);
	if (ret < 0) {
		ops_error(req, ret);
		return;
	}
	ret = create_as_caller(req, n, name, mode, fi);
	if (ops_again(req, ret))
		ret = create_as_caller(req, n, name, mode, fi);
	fd = ret < 0 ? -1 : ret;
	if (ret >= 0 && mail_dir(n))
		mail_made(n, name);
	if (ret >= 0)
		ret = view_enter(ops_fs(req), n, name, fd, &e);
	if (ops_again(req, ret))
		ret = view_enter(ops_fs(req), n, name, fd, &e);
	log_trace(LOG_FUSE, "create %ju %s: %d", (uintmax_t)parent, name, ret);
	if (ret < 0) {
		base_auto_close(&fd);
		ops_error(req, ret);
		return;
	}
	ops_param(&e, &p);
	node_hold(ops_fs(req)->nodes, p.ino);
	fi->fh = (uint64_t)fd;
	fi->noflush = 1;
	if (fuse_reply_create(req, &p, fi) == -ENOENT) {
		close_file(ops_fs(req), p.ino, fd);
		node_forget(ops_fs(req)->nodes, p.ino, 1);
	}
}

/* Of the message of an MBX that has that number, or had it; NULL */
static struct folder *message_folder(fuse_ino_t ino, uint32_t *uid_out)
{
	uint32_t number;

	return index_ino_split(ino, &number, uid_out) == 0
		? folder_by_number(number)
		: NULL;
}

/* Octets of a message never change, so what the kernel has of it stays good
 * from one open to the next - unless somebody has put another file in the place
 * of the MBX. */
static bool may_keep(fuse_ino_t ino)
{
	uint32_t uid;
	const struct folder *f = message_folder(ino, &uid);

	return f && !atomic_load(&f->replaced);
}

static void open_message(fuse_req_t req, fuse_ino_t ino,
			 struct fuse_file_info *fi)
{
	if ((fi->flags & O_ACCMODE) != O_RDONLY || (fi->flags & O_TRUNC)) {
		ops_error(req, -EACCES);
		return;
	}
	fi->keep_cache = may_keep(ino);
	fi->noflush = 1;
	(void)fuse_reply_open(req, fi);
}

/* Good for one node_release() when that succeeded. */
static int open_node(fuse_req_t req, struct node *n, int flags)
{
	int pinned = ops_pin(req, n);
	char path[64];
	int fd;

	if (pinned < 0)
		return pinned;
	attr_fd_path(pinned, path);
	fd = open(path, real_flags(flags) | O_NONBLOCK);
	if (fd >= 0)
		return fd;
	fd = -errno;
	ops_unpin(req, n, pinned);
	return fd;
}

void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *n;
	int fd;

	if (view_is_message(ino)) {
		open_message(req, ino, fi);
		return;
	}
	n = ops_node(req, ino);
	if (!n)
		return;
	fd = open_node(req, n, fi->flags);
	if (ops_again(req, fd))
		fd = open_node(req, n, fi->flags);
	log_trace(LOG_FUSE, "open %ju: %d", (uintmax_t)ino, fd < 0 ? fd : 0);
	if (fd < 0) {
		ops_error(req, fd);
		return;
	}
	fi->fh = (uint64_t)fd;
	fi->noflush = 1;
	if (fuse_reply_open(req, fi) == -ENOENT)
		close_file(ops_fs(req), ino, fd);
}

static void read_message(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off)
{
	AUTO_FREE char *buf = malloc(size);
	uint32_t uid;
	struct folder *f = message_folder(ino, &uid);
	ssize_t n;

	if (!f || !buf) {
		ops_error(req, f ? -ENOMEM : -ESTALE);
		return;
	}
	n = folder_read(f, ino, buf, size, (uint64_t)off);
	log_trace(LOG_FUSE, "read %ju %zu at %ju: %zd", (uintmax_t)ino, size,
		  (uintmax_t)off, n);
	if (n < 0)
		ops_error(req, n == -ESTALE ? -EIO : (int)n);
	else
		(void)fuse_reply_buf(req, buf, (size_t)n);
}

void ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	      struct fuse_file_info *fi)
{
	struct fuse_bufvec buf = FUSE_BUFVEC_INIT(size);

	if (view_is_message(ino)) {
		read_message(req, ino, size, off);
		return;
	}
	buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buf.buf[0].fd = (int)fi->fh;
	buf.buf[0].pos = off;
	(void)fuse_reply_data(req, &buf, FUSE_BUF_SPLICE_MOVE);
}

/* Root may fill what is reserved for him and go beyond any quota; those who
 * write here may not. Groups play no part: the file is open. */
static int enter_writer(fuse_req_t req, const struct fuse_file_info *fi,
			struct identity *was)
{
	uid_t uid = fuse_req_ctx(req)->uid;
	gid_t gid = fuse_req_ctx(req)->gid;
	struct stat st;

	/* The kernel writes back what was mapped in nobody's name. */
	if (fi->writepage && fstat((int)fi->fh, &st) == 0) {
		uid = st.st_uid;
		gid = st.st_gid;
	}
	*was = identity_enter_caller(uid, gid, NULL, 0);
	return was->err;
}

/* The file, if the write will make it larger. */
static struct node *grows(fuse_req_t req, fuse_ino_t ino, int fd, uint64_t end)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (uint64_t)st.st_size < end
		? node_get(ops_fs(req)->nodes, ino)
		: NULL;
}

void ops_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in,
		   off_t off, struct fuse_file_info *fi)
{
	size_t len = fuse_buf_size(in);
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(len);
	struct node *n = grows(req, ino, (int)fi->fh, (uint64_t)off + len);
	struct identity was;
	ssize_t ret;

	if (n)
		growth_write(&n->growth);
	ret = enter_writer(req, fi, &was);
	out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	out.buf[0].fd = (int)fi->fh;
	out.buf[0].pos = off;
	if (ret == 0) {
		ret = fuse_buf_copy(&out, in, 0);
		identity_leave(was);
	}
	if (n)
		growth_written(&n->growth, fuse_req_ctx(req)->pid);
	if (ret < 0)
		ops_error(req, (int)ret);
	else
		(void)fuse_reply_write(req, (size_t)ret);
}

void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	ops_error(req, 0);
}

/* A control file that we read, too; its folder or NULL. */
static struct folder *control_of(fuse_req_t req, fuse_ino_t ino,
				 enum node_kind *kind)
{
	struct node *n =
		view_is_message(ino) ? NULL : node_get(ops_fs(req)->nodes, ino);

	*kind = n ? n->kind : NODE_PLAIN;
	return *kind == NODE_UIDLIST || *kind == NODE_KEYWORDS ? view_folder(n)
							       : NULL;
}

void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	bool written = (fi->flags & O_ACCMODE) != O_RDONLY;
	enum node_kind kind;
	struct folder *f = control_of(req, ino, &kind);

	if (!view_is_message(ino))
		close_file(ops_fs(req), ino, (int)fi->fh);
	ops_error(req, 0);
	if (f && written)
		mail_control(f,
			     kind == NODE_UIDLIST ? "dovecot-uidlist"
						  : "dovecot-keywords");
}

void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
	       struct fuse_file_info *fi)
{
	enum node_kind kind;
	struct folder *f = control_of(req, ino, &kind);
	int ret = 0;

	if (!view_is_message(ino))
		ret = datasync ? fdatasync((int)fi->fh) : fsync((int)fi->fh);
	ops_error(req, ret < 0 ? -errno : 0);
	/* Dovecot keeps its list open after it has appended to it. */
	if (f && kind == NODE_UIDLIST)
		mail_control(f, "dovecot-uidlist");
}

void ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off,
		   off_t len, struct fuse_file_info *fi)
{
	struct identity was;
	int ret = view_is_message(ino) ? -EACCES : enter_writer(req, fi, &was);

	if (ret == 0) {
		ret = fallocate((int)fi->fh, mode, off, len) < 0 ? -errno : 0;
		identity_leave(was);
	}
	ops_error(req, ret);
}
