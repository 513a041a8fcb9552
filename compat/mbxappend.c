/*
 * Appending to an MBX. UW cannot open a mailbox that ends in half a record, so
 * a record comes to be in one write, made ready before the locks are taken
 * (other people's disks are slow, and a delivery may be waiting): small ones in
 * memory, others in a file without a name.
 *
 * Source: UW IMAP 2007f, src/osdep/unix/mbx.c, mbx_append(), for the order of
 * the locks and the times afterwards. UW does not fsync; we do.
 */
#include "compat/mbx_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"

enum {
	IN_MEMORY = 1 << 18, /* octets of a record */
	CHUNK = 1 << 16,
};

/* A record as it will lie in the file. */
struct stage {
	uint8_t *data;
	size_t len;
	bool mapped;
	struct mbx_record record; /* what its line says */
};

/* ---- making it ready ----------------------------------------------------- */

/* Copies @len octets, with a CR before each LF that has none; @last is the
 * octet before them. Return: octets written; only counted if @out is NULL. */
static size_t add_cr(const uint8_t *in, size_t len, uint8_t last, uint8_t *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (in[i] == '\n' && last != '\r') {
			if (out)
				out[n] = '\r';
			n++;
		}
		if (out)
			out[n] = in[i];
		n++;
		last = in[i];
	}
	return n;
}

/*
 * One pass over the message at @fd.
 * @out: where its octets go, @room of them; NULL to count only
 * Return: 0; -ESTALE when there are not @room of them.
 */
static int convert(int fd, uint8_t *out, uint64_t room, uint64_t *count_out)
{
	AUTO_FREE uint8_t *buf = malloc(CHUNK);
	uint64_t off = 0, count = 0;
	uint8_t last = 0;
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	while ((n = io_read_at(fd, buf, CHUNK, off)) > 0) {
		size_t len = (size_t)n;
		size_t more = add_cr(buf, len, last, NULL);

		if (out && more > room - count)
			return -ESTALE; /* it grew */
		if (out)
			(void)add_cr(buf, len, last, out + count);
		count += more;
		off += len;
		last = buf[len - 1];
	}
	if (n < 0)
		return (int)n;
	*count_out = count;
	return out && count != room ? -ESTALE : 0;
}

static int stage_alloc(struct stage *st, const char *dir)
{
	AUTO_FD int fd = -1;
	void *p;

	if (st->len <= IN_MEMORY) {
		st->data = malloc(st->len);
		return st->data ? 0 : -ENOMEM;
	}
	fd = io_scratch(dir, st->len);
	if (fd < 0)
		return fd;
	p = mmap(NULL, st->len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -ENOMEM;
	st->data = p;
	st->mapped = true;
	return 0;
}

static void stage_free(struct stage *st)
{
	if (st->mapped)
		(void)munmap(st->data, st->len);
	else
		free(st->data);
}

static int stage_make(struct stage *st, int fd, const struct msg *want,
		      const char *dir)
{
	uint8_t line[MBX_LINE_MAX];
	struct mbx_record r = { .date = want->date,
				.keywords = want->keywords,
				.flags = want->flags & (MSG_SYSTEM | MSG_OLD),
				.uid = want->uid };
	uint64_t count;
	ptrdiff_t n;
	int ret = convert(fd, NULL, 0, &r.size);

	if (ret < 0)
		return ret;
	n = mbx_record_format(&r, line);
	if (n < 0)
		return (int)n; /* no octets, or too many */
	/* The date may have been clamped. */
	ret = mbx_record_parse(line, (size_t)n, &st->record, NULL);
	if (ret < 0)
		return ret;
	st->len = (size_t)n + r.size;
	ret = stage_alloc(st, dir);
	if (ret < 0)
		return ret;
	memcpy(st->data, line, (size_t)n);
	return convert(fd, st->data + n, r.size, &count);
}

/* ---- putting it in its place --------------------------------------------- */

/* Everything that forbids it, before anything is written. */
static int refuse(const struct mbx_box *b, const struct stage *st)
{
	const struct mbx_session *s = b->session;
	const struct scan_point *end = &s->walk.at;
	uint64_t max = b->store->opt.max_file;
	uint64_t size;

	if (st->record.keywords & ~mbx_named_slots(&s->header))
		return -ESTALE;
	if (__builtin_add_overflow(s->size, st->len, &size) ||
	    size > INT64_MAX || (max > 0 && size > max))
		return -EFBIG;
	if (st->record.uid == 0)
		return end->uid_last < UINT32_MAX - 1 ? 0 : -EOVERFLOW;
	if (end->broken)
		return -EBADMSG;
	return st->record.uid > end->uid_prev ? 0 : -EEXIST;
}

/* UIDLAST covers every UID, the new one too; and no record without a UID is
 * left before one that has one. */
static int prepare_uids(struct mbx_box *b, const struct stage *st)
{
	const struct mbx_walk *walk = &b->session->walk;
	uint32_t uid = st->record.uid;
	uint32_t last;
	int ret;

	if (uid == 0)
		return walk->at.broken ? 0
				       : mbx_raise_uidlast(b, walk->uid_disk);
	ret = mbx_raise_uidlast(b, uid);
	if (ret == 0)
		ret = mbx_number(b, b->session->size, true, &last);
	return ret == 0 ? mbx_session_walk(b) : ret;
}

static int write_record(struct mbx_box *b, const struct stage *st)
{
	b->session->wrote = true;
	return io_pwrite(b->write_fd, st->data, st->len, b->session->size);
}

/* Nobody else appended since we looked: the parse lock is ours. */
static void cut_back(struct mbx_box *b)
{
	int ret = io_truncate(b->write_fd, b->session->size);

	if (ret < 0)
		log_err("mbx: %s: an append failed half-way and could not be "
			"undone (%d); UW cannot open this mailbox until it is "
			"cut to %ju octets",
			b->folder, ret, (uintmax_t)b->session->size);
}

static void fill_in(struct mbx_box *b, const struct stage *st, struct msg *got)
{
	struct mbx_session *s = b->session;

	*got = (struct msg){ .uid_disk = st->record.uid,
			     .flags = st->record.flags,
			     .keywords = st->record.keywords,
			     .date = st->record.date,
			     .size = st->record.size,
			     .off = s->size + st->record.line,
			     .line = st->record.line };
	got->uid = mbx_walk_pass(b, &s->walk, &st->record);
	s->size += st->len;
	s->grown = true;
}

static int append_locked(struct mbx_box *b, const struct stage *st,
			 struct msg *got)
{
	int ret = mbx_session_walk(b);

	if (ret == 0)
		ret = refuse(b, st);
	if (ret == 0)
		ret = prepare_uids(b, st);
	if (ret < 0)
		return ret;
	ret = write_record(b, st);
	if (ret == 0)
		ret = io_fsync(b->write_fd);
	if (ret < 0) {
		cut_back(b);
		return ret;
	}
	b->unsynced = false;
	fill_in(b, st, got);
	return 0;
}

int mbx_append(struct box *box, int fd, const struct msg *want, struct msg *got)
{
	struct mbx_box *b = (struct mbx_box *)box;
	struct stage st = { .data = NULL };
	bool own;
	int ret;

	if (want->uid == UINT32_MAX)
		return -EINVAL;
	ret = stage_make(&st, fd, want, b->lock.dir);
	if (ret == 0)
		ret = mbx_session_enter(b, &own);
	if (ret == 0) {
		ret = append_locked(b, &st, got);
		mbx_session_leave(b, own);
	}
	stage_free(&st);
	return ret;
}
