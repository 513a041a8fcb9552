#include "fs/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/identity.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/msg.h"
#include "fs/folder.h"
#include "fs/user.h"
#include "fs/view.h"

enum { CHUNK = 1 << 20, TRIES = 100 };

static int stage_dir(const struct node *to)
{
	enum node_kind kind = to->kind;
	bool beside = kind == NODE_CUR || kind == NODE_NEW;
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = beside ? openat(to->fd, "../tmp", flags) : -1;

	if (fd < 0)
		fd = openat(to->fd, ".", flags);
	return fd < 0 ? -errno : fd;
}

/* Dovecot removes what is left of a crash in tmp/, and lists no such names. */
static int make(struct copy *c)
{
	static atomic_ulong count;
	int fd = -EEXIST;

	for (int i = 0; i < TRIES && fd == -EEXIST; i++) {
		(void)snprintf(c->name, sizeof(c->name), ".janusmail-%d-%lu",
			       (int)getpid(), atomic_fetch_add(&count, 1) + 1);
		fd = io_open_beneath(c->dirfd, c->name,
				     O_WRONLY | O_CREAT | O_EXCL);
	}
	return fd;
}

/* What is read is read as ourselves. */
static int write_as(const struct user *u, int fd, const void *data, size_t len,
		    uint64_t off)
{
	struct identity was = identity_enter_caller(u->uid, u->gid, NULL, 0);
	int ret = was.err;

	if (ret < 0)
		return ret;
	ret = io_pwrite(fd, data, len, off);
	identity_leave(was);
	return ret;
}

static int fill(struct folder *f, uint64_t ino, const struct msg *m,
		const struct user *u, int fd)
{
	size_t room = m->size < CHUNK ? (size_t)m->size + 1 : CHUNK;
	AUTO_FREE char *buf = malloc(room);
	struct timespec times[2] = { { .tv_sec = m->date },
				     { .tv_sec = m->date } };
	uint64_t off = 0;
	int ret = buf ? 0 : -ENOMEM;

	while (ret == 0 && off < m->size) {
		ssize_t n = folder_read(f, ino, buf, room, off);

		if (n == -ESTALE)
			return -ENOENT;
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		ret = write_as(u, fd, buf, (size_t)n, off);
		off += (uint64_t)n;
	}
	if (ret == 0 && off != m->size)
		ret = -EIO;
	if (ret == 0)
		ret = io_set_times(fd, times);
	return ret == 0 ? io_fsync(fd) : ret;
}

static int make_as(const struct user *u, struct copy *c)
{
	struct identity was = identity_enter_caller(u->uid, u->gid, NULL, 0);
	int fd = was.err;

	if (fd < 0)
		return fd;
	fd = make(c);
	identity_leave(was);
	return fd;
}

int copy_stage(struct fs *fs, uint64_t ino, const struct node *to,
	       struct copy *out)
{
	const struct user *u = to->user;
	AUTO_FD int fd = -1;
	struct folder *f;
	struct msg m;
	int ret = view_message(fs, ino, &f, &m);

	if (ret < 0)
		return ret == -ESTALE ? -ENOENT : ret;
	*out = (struct copy){ .dirfd = stage_dir(to) };
	if (out->dirfd < 0)
		return out->dirfd;
	fd = make_as(u, out);
	ret = fd < 0 ? fd : fill(f, ino, &m, u, fd);
	if (ret == 0)
		return 0;
	if (fd < 0)
		out->name[0] = '\0';
	copy_fini(out);
	return ret;
}

void copy_fini(struct copy *c)
{
	/* Else Dovecot does it in the end. */
	if (c->name[0] && io_unlink(c->dirfd, c->name, 0) < 0)
		log_trace(LOG_VIEW, "%s: not removed", c->name);
	base_auto_close(&c->dirfd);
}
