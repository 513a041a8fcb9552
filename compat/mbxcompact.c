/*
 * "Kept" is what lies behind the first hole and is no hole. If the first hole
 * is at least as large:
 *
 *	[kept][hole 1      ][kept a][hole 2][kept b]
 *	  hole 1 swallows holes right behind it (a switch of its line);
 *	  in it: a and b, and behind them a line that swallows all the rest
 *	[kept][hole 1: a b h][kept a][hole 2][kept b]
 *	  the switch: the first 64 octets of a instead of the hole's line
 *	[kept][kept a][kept b][hole to the end      ]
 *	  ftruncate()
 *
 * If it is smaller, the file is made to grow by a hole first; the kept ones are
 * copied into that, and then the first hole's line swallows everything up to
 * the copy:
 *
 *	[kept][hole 1][kept a][hole 2][kept b][hole: a b h]
 *	[kept][hole 1                              ][a][b][h]
 *
 * which is the case above. Growing is done by expunged records that end on page
 * boundaries, one write each, so that a process killed in the midst of it
 * leaves a mailbox. They need UIDs of their own, below UIDLAST: it is raised,
 * and put back in the end, before anybody can have seen it.
 *
 * Copying goes upwards: of an older copy in a hole the line is overwritten
 * before the message. Who remembers the old place finds no message there rather
 * than half of one.
 */
#include "compat/mbxcompact.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "compat/io.h"
#include "compat/mbx_internal.h"
#include "compat/mbxswitch.h"

enum {
	PAGE = 4096,
	PIECE = 1 << 20,
	/* How long a reader of our own daemon may be waited for. */
	EXCLUSIVE_MS = 1000,
};

struct run {
	uint64_t off, len;
};

struct work {
	struct mbx_box *b;
	int fd;
	uint64_t size;		 /* of the file */
	uint64_t end;		 /* of the last record that stays */
	uint64_t hole, hole_end; /* the first one, and those right behind it */
	unsigned hole_records;
	uint32_t hole_uid;
	struct run *runs; /* kept */
	size_t count, room;
	uint64_t kept;	   /* octets of them */
	uint32_t uid_kept; /* the last UID of a message that stays */
	uint32_t uid_max;  /* of any record */
	bool zeros;	   /* there are records without a UID */
	uint32_t uidlast;  /* to be put back */
};

/* ---- looking ------------------------------------------------------------- */

static int damaged(struct mbxcompact *out, uint64_t off, const char *want)
{
	out->fault = off;
	out->want = want;
	return -EBADMSG;
}

static int add_run(struct work *w, uint64_t off, uint64_t len)
{
	struct run *last = w->runs ? &w->runs[w->count - 1] : NULL;
	struct run *more;

	w->kept += len;
	if (last && last->off + last->len == off) {
		last->len += len;
		return 0;
	}
	if (!last || w->count == w->room) {
		more = reallocarray(w->runs, 2 * w->room + 1, sizeof(*more));
		if (!more)
			return -ENOMEM;
		w->runs = more;
		w->room = 2 * w->room + 1;
	}
	w->runs[w->count++] = (struct run){ off, len };
	return 0;
}

static int pass_record(struct work *w, const struct mbx_record *r, uint64_t off,
		       struct mbxcompact *out)
{
	uint64_t len = r->line + r->size;

	if (r->uid)
		w->uid_max = r->uid;
	else
		w->zeros = true;
	if (!(r->flags & MSG_EXPUNGED)) {
		out->messages++;
		w->uid_kept = r->uid;
		w->end = off + len;
		return w->hole ? add_run(w, off, len) : 0;
	}
	out->expunged++;
	if (!w->hole) {
		w->hole = w->hole_end = off;
		w->hole_uid = r->uid;
	}
	if (!w->count) {
		w->hole_end = off + len;
		w->hole_records++;
	}
	return 0;
}

/* What UW would not open, or would number anew, is not touched. */
static int check_record(const struct work *w, const struct mbx_record *r,
			uint64_t off, struct mbxcompact *out)
{
	if (r->size > w->size - off - r->line)
		return damaged(out, off, "a message that ends in the file");
	if (r->uid ? r->uid <= w->uid_max || w->zeros : false)
		return damaged(out, off, "a UID above those before it");
	if (r->uid > w->uidlast)
		return damaged(out, off, "a UID not above UIDLAST");
	if (!r->date_ok && !(r->flags & MSG_EXPUNGED))
		return damaged(out, off, "a date that UW can read");
	return 0;
}

static int look_at(struct work *w, struct mbx_window *win, uint64_t *off,
		   struct mbxcompact *out)
{
	struct mbx_fault fault = { .off = 0, .want = "a whole record line" };
	struct mbx_record r;
	const uint8_t *p = NULL;
	size_t len = 0;
	int rc = mbx_window_at(win, w->fd, *off, w->size, &p, &len);

	if (rc)
		return rc;
	if (mbx_record_parse(p, len, &r, &fault) < 0)
		return damaged(out, *off + fault.off, fault.want);
	rc = check_record(w, &r, *off, out);
	if (rc == 0)
		rc = pass_record(w, &r, *off, out);
	mbx_window_expect(win, r.size);
	*off += r.line + r.size;
	return rc;
}

/* All of the file, into @w and @out. */
static int look(struct work *w, struct mbxcompact *out)
{
	AUTO_FREE struct mbx_window *win = calloc(1, sizeof(*win));
	const struct mbx_session *s = w->b->session;
	uint64_t off = MBX_HEADER_SIZE;
	int rc = win ? 0 : -ENOMEM;

	free(w->runs);
	*w = (struct work){ .b = w->b,
			    .fd = w->fd,
			    .size = s->size,
			    .uidlast = s->header.uidlast };
	out->messages = out->expunged = 0;
	if (win)
		mbx_window_expect(win, 0);
	while (rc == 0 && off < w->size)
		rc = look_at(w, win, &off, out);
	out->before = w->size;
	out->after = w->hole ? w->hole + w->kept : w->size;
	return rc;
}

/* The times show it, as after a change by UW. */
static void will_write(struct work *w)
{
	w->b->session->wrote = true;
	w->b->session->marked = true;
}

/* ---- copying ------------------------------------------------------------- */

/* The octets [from, from + len) of what is kept. */
static int read_kept(const struct work *w, uint64_t from, uint8_t *out,
		     size_t len)
{
	uint64_t pos = 0;
	size_t i;

	for (i = 0; i < w->count && len; i++) {
		const struct run *r = &w->runs[i];
		uint64_t skip = from - pos;
		size_t part;
		ssize_t n;

		pos += r->len;
		if (from >= pos)
			continue;
		part = len < r->len - skip ? len : (size_t)(r->len - skip);
		n = io_read_at(w->fd, out, part, r->off + skip);
		if (n < 0)
			return (int)n;
		if ((size_t)n < part)
			return -EIO;
		out += part;
		len -= part;
		from += part;
	}
	return len ? -EIO : 0;
}

/* What is kept, but for the first @skip octets, to where it would lie if it
 * began at @to. */
static int copy_kept(const struct work *w, uint64_t skip, uint64_t to)
{
	AUTO_FREE uint8_t *buf = malloc(PIECE);
	uint64_t at = skip;
	int rc = buf ? 0 : -ENOMEM;

	while (rc == 0 && at < w->kept) {
		uint64_t left = w->kept - at;
		size_t len = left < PIECE ? (size_t)left : PIECE;

		rc = read_kept(w, at, buf, len);
		if (rc == 0)
			rc = io_pwrite(w->fd, buf, len, to + at);
		at += len;
	}
	return rc;
}

/* ---- growing ------------------------------------------------------------- */

/* Where the record that starts at @off ends: on a page boundary. */
static uint64_t link_end(uint64_t off)
{
	return (off + MBXSWITCH_MAX + PAGE - 1) / PAGE * PAGE;
}

/* The line of the copy's hole, the copy, and a line behind it. */
static uint64_t grown_size(const struct work *w)
{
	return link_end(w->end + MBXSWITCH_MAX + w->kept);
}

static uint64_t count_links(const struct work *w)
{
	return 1 + (grown_size(w) - link_end(w->end)) / PAGE;
}

static int append_links(struct work *w, uint64_t end)
{
	uint8_t buf[PAGE + MBXSWITCH_MAX] = { 0 };
	uint32_t uid = w->uid_max;
	uint64_t off = w->size, next;
	int rc = 0;

	for (; rc == 0 && off < end; off = next) {
		next = link_end(off);
		(void)mbxswitch_hole(next - off, ++uid, buf);
		rc = io_pwrite(w->fd, buf, (size_t)(next - off), off);
	}
	return rc;
}

static int raise_uidlast(struct work *w, uint64_t uid)
{
	return uid < UINT32_MAX ? mbx_raise_uidlast(w->b, (uint32_t)uid)
				: -EOVERFLOW;
}

/* UIDs above it are in no record any more. */
static int restore_uidlast(struct work *w)
{
	struct mbx_session *s = w->b->session;
	char digits[9];

	if (s->header.uidlast == w->uidlast)
		return 0;
	(void)snprintf(digits, sizeof(digits), "%08x", w->uidlast);
	s->header.uidlast = w->uidlast;
	return io_pwrite(w->fd, digits, 8, MBX_UIDLAST_AT);
}

/* One large hole at the end, durable; or nothing. */
static int grow(struct work *w, uint64_t end)
{
	int ignored, rc = io_reserve(w->fd, w->size, end - w->size);

	if (rc)
		return rc;
	will_write(w);
	rc = raise_uidlast(w, w->uid_max + count_links(w));
	if (rc == 0)
		rc = append_links(w, end);
	if (rc == 0)
		rc = io_fsync(w->fd);
	if (rc == 0)
		return 0;
	/* What was reserved behind the end goes with it. */
	ignored = io_truncate(w->fd, w->size);
	if (ignored == 0)
		ignored = restore_uidlast(w);
	(void)ignored;
	return rc;
}

/* What is kept lies in a row at the end, behind one hole, and visible there. */
static int make_room(struct work *w)
{
	uint8_t line[MBXSWITCH_MAX];
	uint64_t end = grown_size(w), copy, rest;
	uint32_t uid = w->uid_max + 1;
	size_t len;
	int rc = grow(w, end);

	if (rc)
		return rc;
	len = mbxswitch_hole(end - w->size, uid, line);
	copy = w->size + len;
	rc = mbxswitch_write(w->fd, w->size, line, len);
	if (rc == 0)
		rc = copy_kept(w, 0, copy);
	rest = copy + w->kept;
	len = mbxswitch_hole(end - rest, uid, line);
	if (rc == 0)
		rc = io_pwrite(w->fd, line, len, rest);
	len = mbxswitch_hole(copy - w->hole, w->hole_uid, line);
	if (rc == 0)
		rc = mbxswitch_write(w->fd, w->hole, line, len);
	w->runs[0] = (struct run){ copy, w->kept };
	w->count = 1;
	w->hole_end = copy;
	w->hole_records = 1;
	w->uid_max = uid;
	w->size = end;
	return rc;
}

/* ---- moving -------------------------------------------------------------- */

static bool is_roomy(const struct work *w)
{
	return w->hole_end - w->hole >= w->kept + MBXSWITCH_MAX;
}

static int merge_holes(struct work *w)
{
	uint8_t line[MBXSWITCH_MAX];
	size_t len = mbxswitch_hole(w->hole_end - w->hole, w->hole_uid, line);

	if (w->hole_records == 1)
		return 0;
	return mbxswitch_write(w->fd, w->hole, line, len);
}

/* The first octets of what is kept, and of the line behind it. */
static int read_head(const struct work *w, const uint8_t *line, size_t line_len,
		     uint8_t *head)
{
	size_t len = w->kept < MBXSWITCH_MAX ? (size_t)w->kept : MBXSWITCH_MAX;
	int rc = read_kept(w, 0, head, len);

	/* A record and a line: never less. */
	assert(len + line_len >= MBXSWITCH_MAX);
	memcpy(head + len, line, MBXSWITCH_MAX - len);
	return rc;
}

static int move_down(struct work *w)
{
	uint8_t line[MBXSWITCH_MAX], head[MBXSWITCH_MAX];
	uint64_t rest = w->hole + w->kept, at = w->hole + MBXSWITCH_MAX;
	uint32_t uid = w->uid_max;
	size_t len, skip;
	int rc = 0;

	will_write(w);
	if (uid == w->uid_kept) {
		rc = raise_uidlast(w, (uint64_t)uid + 1);
		uid++;
	}
	len = mbxswitch_hole(w->size - rest, uid, line);
	if (rc == 0)
		rc = read_head(w, line, len, head);
	if (rc == 0)
		rc = merge_holes(w);
	if (rc == 0)
		rc = copy_kept(w, MBXSWITCH_MAX, w->hole);
	skip = at > rest ? (size_t)(at - rest) : 0;
	if (rc == 0)
		rc = io_pwrite(w->fd, line + skip, len - skip, rest + skip);
	if (rc == 0)
		rc = mbxswitch_write(w->fd, w->hole, head, sizeof(head));
	return rc;
}

/* ---- all of it ----------------------------------------------------------- */

static int cut_off(struct work *w)
{
	int rc;

	will_write(w);
	rc = io_truncate(w->fd, w->hole + w->kept);
	/* Not before it is known to be gone. */
	if (rc == 0)
		rc = io_fsync(w->fd);
	if (rc == 0)
		rc = restore_uidlast(w);
	if (rc == 0)
		rc = io_fsync(w->fd);
	if (rc == 0)
		rc = mbxswitch_recover(w->fd);
	return rc;
}

/* Holes at the end go first: those of a run that was interrupted while it made
 * the file grow must not add up. */
static int cut_holes_at_end(struct work *w)
{
	int rc;

	if (w->end == w->size)
		return 0;
	will_write(w);
	rc = io_truncate(w->fd, w->end);
	if (rc == 0)
		rc = io_fsync(w->fd);
	w->size = w->end;
	w->uid_max = w->uid_kept;
	return rc;
}

static int compact(struct work *w, struct mbxcompact *out)
{
	int rc = 0;

	if (w->zeros) {
		rc = mbx_assign(&w->b->base);
		if (rc == 0)
			rc = look(w, out);
	}
	if (rc == 0 && w->kept)
		rc = cut_holes_at_end(w);
	if (rc == 0 && w->kept && !is_roomy(w))
		rc = make_room(w);
	if (rc == 0 && w->kept)
		rc = move_down(w);
	return rc == 0 ? cut_off(w) : rc;
}

static int recover(struct work *w, enum mbxcompact_mode mode,
		   struct mbxcompact *out)
{
	enum mbxswitch_state state;
	int rc = mbxswitch_look(w->fd, &state);

	if (rc == -EBADMSG)
		return damaged(out, MBXSWITCH_NOTE_AT, "zeros in the header");
	out->unfinished = rc == 0 && state == MBXSWITCH_TORN;
	if (rc || state == MBXSWITCH_NONE || mode == MBXCOMPACT_LOOK)
		return rc;
	will_write(w);
	return mbxswitch_recover(w->fd);
}

static int run_locked(struct mbx_box *b, enum mbxcompact_mode mode,
		      struct mbxcompact *out)
{
	struct work w = { .b = b, .fd = b->write_fd };
	int rc = mbx_session_load(b);

	if (rc == -EBADMSG)
		return damaged(out, 0, "the header of an MBX file");
	if (rc == 0)
		rc = recover(&w, mode, out);
	if (rc == 0 && out->unfinished && mode == MBXCOMPACT_LOOK)
		return 0;
	if (rc == 0)
		rc = look(&w, out);
	if (rc == 0 && w.kept && !is_roomy(&w))
		out->room = grown_size(&w) - w.end;
	if (rc == 0 && w.hole && mode == MBXCOMPACT_DO)
		rc = compact(&w, out);
	free(w.runs);
	b->tail = (struct mbx_tail){ .off = 0 };
	return rc;
}

/* Return: 0, begun, with the exclusive lock; -EBUSY; as begin(). */
static int begin_alone(struct mbx_box *b, struct mbxcompact *out)
{
	struct mbxlock_wait wait = mbxlock_wait_start(EXCLUSIVE_MS);
	int rc;

	do {
		rc = mbx_begin(&b->base);
		if (rc || flock(b->fd, LOCK_EX | LOCK_NB) == 0)
			return rc;
		rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
		mbxlock_holder(b->fd, out->holder, sizeof(out->holder));
		mbx_end(&b->base, NULL);
	} while (rc == -EBUSY && mbxlock_wait_more(&wait));
	return rc;
}

int mbxcompact_run(struct box *box, enum mbxcompact_mode mode,
		   struct mbxcompact *out)
{
	struct mbx_box *b = (struct mbx_box *)box;
	int rc;

	*out = (struct mbxcompact){ .want = "" };
	rc = mode == MBXCOMPACT_LOOK ? mbx_begin(box) : begin_alone(b, out);
	if (rc)
		return rc;
	rc = run_locked(b, mode, out);
	mbx_end(box, NULL);
	return rc;
}
