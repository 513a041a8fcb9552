#include "compat/convert_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/identity.h"
#include "compat/io.h"
#include "compat/log.h"

/* So much goes into one sync. More would not make it cheaper, and is lost when
 * we are killed. */
enum {
	BATCH_FILES = 8192,
	BATCH_OCTETS = 64 << 20,
	LARGE_PIECE = 1 << 20,
};

static const char prefix[] = "janusmail-convert.";

enum { TMP_NAME = sizeof(prefix) + 24 };

void convertbatch_init(struct convert_batch *b, const struct convert_dirs *d,
		       const struct convert_target *t)
{
	*b = (struct convert_batch){ .dirs = d, .target = t };
}

static void tmp_name(const struct convert_batch *b, uint32_t uid, char *out)
{
	(void)snprintf(out, TMP_NAME, "%s%08x.%u", prefix, b->target->number,
		       uid);
}

static struct identity become(const struct convert_batch *b)
{
	return identity_enter_caller(b->target->uid, b->target->gid, NULL, 0);
}

int convertbatch_clean(const struct convert_batch *b)
{
	int fd = io_open_beneath(b->dirs->tmp, ".", O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;
	struct identity was;
	int ret = d ? 0 : fd < 0 ? fd : -errno;

	if (!d) {
		base_auto_close(&fd);
		return ret;
	}
	was = become(b);
	ret = was.err;
	while (ret == 0) {
		ret = io_readdir(d, &de);
		if (ret < 0 || !de)
			break;
		if (strncmp(de->d_name, prefix, sizeof(prefix) - 1) == 0)
			ret = io_unlink(b->dirs->tmp, de->d_name, 0);
	}
	if (was.err == 0)
		identity_leave(was);
	(void)closedir(d);
	return ret;
}

/* ---- writing ------------------------------------------------------------- */

static int note(struct convert_batch *b, const struct convert_piece *p)
{
	struct convert_staged *s;

	if (b->count == b->room) {
		size_t room = b->room ? 2 * b->room : 64;
		struct convert_staged *more =
			reallocarray(b->list, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		b->list = more;
		b->room = room;
	}
	s = &b->list[b->count++];
	s->uid = p->m->uid;
	s->in_new = p->in_new;
	memcpy(s->name, p->name, strlen(p->name) + 1);
	b->octets += p->m->size;
	return 0;
}

/* Some filesystems report a full disk here and nowhere else. */
static int finish(int *fd, const struct msg *m)
{
	struct timespec times[2] = { { .tv_sec = m->date },
				     { .tv_sec = m->date } };
	int ret = io_set_times(*fd, times);

	if (ret == 0 && close(base_steal_fd(fd)) < 0)
		ret = -errno;
	return ret;
}

/* Noted first: then convertbatch_fini() removes it, whatever happens. */
static int make(struct convert_batch *b, const struct convert_piece *p)
{
	char name[TMP_NAME];
	int ret = note(b, p);

	if (ret < 0)
		return ret;
	tmp_name(b, p->m->uid, name);
	return io_open_beneath(b->dirs->tmp, name, O_WRONLY | O_CREAT | O_EXCL);
}

static int write_one(struct convert_batch *b, const struct convert_piece *p)
{
	AUTO_FD int fd = make(b, p);
	int ret = fd < 0 ? fd : io_pwrite(fd, p->data, p->m->size, 0);

	return ret < 0 ? ret : finish(&fd, p->m);
}

int convertbatch_add(struct convert_batch *b, const struct convert_piece *list,
		     size_t count)
{
	struct identity was = become(b);
	int ret = was.err;

	for (size_t i = 0; ret == 0 && i < count; i++)
		ret = write_one(b, &list[i]);
	if (was.err == 0)
		identity_leave(was);
	return ret;
}

/* What is read is read as ourselves. */
static int write_piece(struct convert_batch *b, int fd, const void *data,
		       size_t len, uint64_t off)
{
	struct identity was = become(b);
	int ret = was.err;

	if (ret < 0)
		return ret;
	ret = io_pwrite(fd, data, len, off);
	identity_leave(was);
	return ret;
}

static int make_as_owner(struct convert_batch *b, const struct convert_piece *p)
{
	struct identity was = become(b);
	int fd = was.err;

	if (fd < 0)
		return fd;
	fd = make(b, p);
	identity_leave(was);
	return fd;
}

int convertbatch_add_large(struct convert_batch *b,
			   const struct convert_piece *p, convertbatch_read *fn,
			   void *arg)
{
	AUTO_FREE uint8_t *buf = malloc(LARGE_PIECE);
	AUTO_FD int fd = buf ? make_as_owner(b, p) : -ENOMEM;
	int ret = fd < 0 ? fd : 0;

	for (uint64_t off = 0; ret == 0 && off < p->m->size;) {
		ssize_t n = fn(buf, LARGE_PIECE, off, arg);

		if (n <= 0)
			return n < 0 ? (int)n : -ESTALE;
		ret = write_piece(b, fd, buf, (size_t)n, off);
		off += (uint64_t)n;
	}
	return ret < 0 ? ret : finish(&fd, p->m);
}

bool convertbatch_is_full(const struct convert_batch *b)
{
	return b->count >= BATCH_FILES || b->octets >= BATCH_OCTETS;
}

/* ---- names --------------------------------------------------------------- */

static int give_names(struct convert_batch *b)
{
	size_t done = 0;
	int ret = 0;

	while (ret == 0 && done < b->count) {
		const struct convert_staged *s = &b->list[done];
		char name[TMP_NAME];

		tmp_name(b, s->uid, name);
		ret = io_rename_new(b->dirs->tmp, name,
				    s->in_new ? b->dirs->new : b->dirs->cur,
				    s->name);
		done += ret == 0;
	}
	memmove(b->list, b->list + done, (b->count - done) * sizeof(*b->list));
	b->count -= done;
	return ret;
}

int convertbatch_flush(struct convert_batch *b)
{
	struct identity was;
	int ret;

	if (b->count == 0)
		return 0;
	ret = io_sync_fs(b->dirs->cur);
	if (ret < 0)
		return ret;
	was = become(b);
	if (was.err < 0)
		return was.err;
	ret = give_names(b);
	identity_leave(was);
	b->octets = 0;
	return ret;
}

void convertbatch_fini(struct convert_batch *b)
{
	struct identity was = { .err = -EPERM };

	if (b->count > 0)
		was = become(b);
	for (size_t i = 0; was.err == 0 && i < b->count; i++) {
		char name[TMP_NAME];
		int ret;

		tmp_name(b, b->list[i].uid, name);
		ret = io_unlink(b->dirs->tmp, name, 0);
		/* The next run does it. */
		if (ret < 0 && ret != -ENOENT)
			log_trace(LOG_STORE, "%s: not removed: %d", name, ret);
	}
	if (was.err == 0)
		identity_leave(was);
	free(b->list);
	convertbatch_init(b, b->dirs, b->target);
}
