#include "fs/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "compat/io.h"
#include "compat/log.h"
#include "fs/listing.h"
#include "fs/mail.h"
#include "fs/settle.h"

/* An open directory. The kernel sends one request at a time for it. */
struct handle {
	struct listing *listing;
	bool started; /* it was read from the start already */
	struct handle *prev, *next;
};

/* All of them: when the mount ends, no request closes those still open. */
static struct {
	pthread_mutex_t lock;
	struct handle *first;
} handles = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void handle_add(struct handle *h)
{
	(void)pthread_mutex_lock(&handles.lock);
	h->next = handles.first;
	if (h->next)
		h->next->prev = h;
	handles.first = h;
	(void)pthread_mutex_unlock(&handles.lock);
}

static void handle_free(struct handle *h)
{
	(void)pthread_mutex_lock(&handles.lock);
	if (h->prev)
		h->prev->next = h->next;
	else
		handles.first = h->next;
	if (h->next)
		h->next->prev = h->prev;
	(void)pthread_mutex_unlock(&handles.lock);
	listing_free(h->listing);
	free(h);
}

void ops_close_directories(void)
{
	while (handles.first)
		handle_free(handles.first);
}

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct handle *)(uintptr_t)fi->fh;
}

void ops_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct node *n = ops_node(req, ino);
	struct handle *h;
	int ret;

	if (!n)
		return;
	h = calloc(1, sizeof(*h));
	ret = h ? 0 : -ENOMEM;
	/* Else it is opened for fsync(), as after each delivery, and most
	 * likely not read. */
	if (h && (fi->flags & O_DIRECTORY))
		ret = listing_new(ops_fs(req), n, &h->listing);
	if (h && ops_again(req, ret))
		ret = listing_new(ops_fs(req), n, &h->listing);
	log_trace(LOG_FUSE, "opendir %ju: %d", (uintmax_t)ino, ret);
	if (ret < 0) {
		free(h);
		ops_error(req, ret);
		return;
	}
	handle_add(h);
	fi->fh = (uint64_t)(uintptr_t)h;
	if (fuse_reply_open(req, fi) == -ENOENT)
		handle_free(h);
}

/* rewinddir() has to show what is there now. */
static int rewind_to(struct fs *fs, struct node *n, struct handle *h, off_t off)
{
	bool first = !h->started;
	struct listing *fresh;
	int ret;

	h->started = true;
	if (h->listing && (off != 0 || first))
		return 0;
	ret = listing_new(fs, n, &fresh);
	if (ret < 0)
		return ret;
	listing_free(h->listing);
	h->listing = fresh;
	return 0;
}

/* A buffer being filled with directory entries. */
struct filler {
	fuse_req_t req;
	struct fs *fs;
	struct node *dir;
	char *buf;
	size_t size, len;
};

/* Return: 1 when added, 0 when there is no room. */
static int add_plain(struct filler *b, const struct listing_entry *e,
		     off_t next)
{
	struct stat st = { .st_ino = e->ino, .st_mode = e->type };
	size_t n = fuse_add_direntry(b->req, b->buf + b->len, b->size - b->len,
				     e->name, &st, next);

	if (n > b->size - b->len)
		return 0;
	b->len += n;
	return 1;
}

/*
 * With attributes; every entry but "." and ".." is a lookup. Where that fails,
 * for whatever reason, the name is there all the same: the kernel looks nodeid
 * 0 up when somebody wants it, and he gets the reason.
 */
static int add_plus(struct filler *b, const struct listing_entry *e, off_t next)
{
	bool dots = strcmp(e->name, ".") == 0 || strcmp(e->name, "..") == 0;
	struct fuse_entry_param p = { .attr = { .st_ino = e->ino,
						.st_mode = e->type } };
	struct view_entry found;
	size_t n;

	if (!dots && view_lookup(b->fs, b->dir, e->name, &found) == 0)
		ops_param(&found, &p);
	n = fuse_add_direntry_plus(b->req, b->buf + b->len, b->size - b->len,
				   e->name, &p, next);
	if (n > b->size - b->len) {
		if (p.ino != 0)
			node_forget(b->fs->nodes, p.ino, 1);
		return 0;
	}
	b->len += n;
	return 1;
}

static void reply_entries(fuse_req_t req, fuse_ino_t ino, size_t size,
			  off_t off, struct handle *h, bool plus)
{
	struct node *n = ops_node(req, ino);
	AUTO_FREE char *buf = NULL;
	struct filler b = {
		.req = req, .fs = ops_fs(req), .dir = n, .size = size
	};
	int ret;

	if (!n)
		return;
	ret = rewind_to(b.fs, n, h, off);
	buf = b.buf = malloc(size);
	if (ret < 0 || !buf) {
		ops_error(req, ret < 0 ? ret : -ENOMEM);
		return;
	}
	for (size_t i = (size_t)off; i < listing_count(h->listing); i++) {
		struct listing_entry e = listing_get(h->listing, i);
		off_t next = (off_t)i + 1;

		if ((plus ? add_plus(&b, &e, next) : add_plain(&b, &e, next)) ==
		    0)
			break;
	}
	(void)fuse_reply_buf(req, buf, b.len);
}

void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		 struct fuse_file_info *fi)
{
	reply_entries(req, ino, size, off, handle_of(fi), false);
}

void ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	reply_entries(req, ino, size, off, handle_of(fi), true);
}

void ops_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	handle_free(handle_of(fi));
	ops_error(req, 0);
}

void ops_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync,
		  struct fuse_file_info *fi)
{
	struct node *n = ops_node(req, ino);
	struct folder *f = n ? mail_dir(n) : NULL;
	int ret = 0;

	(void)datasync;
	(void)fi;
	if (!n)
		return;
	/* What would be names in the directory may be fields in the MBX. */
	if (f)
		ret = settle_sync(f);
	if (ret == 0 && n->kind != NODE_USERS)
		ret = io_fsync_dir(n->fd);
	ops_error(req, ret);
}
