/*
 * UIDs and UIDVALIDITY are made to be what was shown.
 *
 * Sessions of UW keep UIDs in memory and write them back with the next flag, so
 * this needs the mailbox for itself (exclusive lock). At every moment a UW
 * process that came next - after a crash - finds UIDs that ascend and are not
 * above UIDLAST, provided they were so before:
 *
 *	UIDLAST is raised to the highest of old and new UIDs; durable
 *	UIDVALIDITY is one that nobody knows; durable
 *	UIDs that grow, from the last record to the first
 *	UIDs that become smaller, from the first to the last; durable
 *	UIDVALIDITY; durable
 *
 * Nobody who knows the old UIDVALIDITY, or the one that is to be, ever finds a
 * UID that stands for another message; nor do we, who know messages by it
 * (index/keep.h). Each is a field of fixed width; nothing moves. Who is stopped
 * in between does it again: what is shown is not changed by it.
 */
#include "compat/mbx_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "compat/io.h"

enum { UIDVALIDITY_AT = 7 };

/* A record of the file. */
struct field {
	uint64_t text; /* offset of the message */
	uint32_t is, to;
	bool gone; /* expunged: any number that fits will do */
};

struct plan {
	struct mbx_box *b;
	const struct numbering *want;
	struct field *all;
	size_t count, room;
	size_t met; /* of want->list */
	uint32_t last;
};

/* ---- what there is ------------------------------------------------------- */

static int add_field(struct plan *p, const struct mbx_record *r, uint64_t text)
{
	size_t room = p->room ? 2 * p->room : 256;
	struct field *more;

	if (p->count == p->room) {
		more = reallocarray(p->all, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		p->all = more;
		p->room = room;
	}
	p->all[p->count++] = (struct field){
		.text = text,
		.is = r->uid,
		.gone = (r->flags & MSG_EXPUNGED) != 0,
	};
	return 0;
}

/* The list names every record that is not expunged, and is as the file is. */
static int set_target(struct plan *p, struct field *f)
{
	const struct numbering *n = p->want;
	const struct number *x = p->met < n->count ? &n->list[p->met] : NULL;

	if (x && x->off == f->text) {
		p->met++;
		f->to = x->uid;
		return x->uid_disk == f->is ? 0 : -ESTALE;
	}
	return f->gone ? 0 : -ESTALE;
}

static int read_fields(struct plan *p)
{
	AUTO_FREE struct mbx_window *w = calloc(1, sizeof(*w));
	struct mbx_session *s = p->b->session;
	uint64_t off = MBX_HEADER_SIZE;
	struct mbx_record r;
	int ret = w ? 0 : -ENOMEM;

	while (ret == 0 && off < s->size) {
		ret = mbx_record_at(p->b, w, off, &r);
		if (ret == 0)
			ret = add_field(p, &r, off + r.line);
		if (ret == 0)
			ret = set_target(p, &p->all[p->count - 1]);
		off += r.line + r.size;
	}
	if (ret == 0 && p->met < p->want->count)
		return -ESTALE;
	return ret;
}

/* ---- what there is to be ------------------------------------------------- */

/* The expunged records from @i to before @end get numbers above @last and below
 * that of the record at @end; their own where possible. */
static int fit_gone(struct plan *p, size_t i, size_t end, uint32_t last)
{
	uint64_t next = end < p->count ? p->all[end].to : UINT32_MAX;

	for (; i < end; i++) {
		struct field *f = &p->all[i];
		uint64_t left = end - i;
		bool fits = f->is > last && f->is + left <= next;

		if (last + left >= next)
			return -ERANGE;
		f->to = fits ? f->is : last + 1;
		last = f->to;
	}
	return 0;
}

static int fit_all(struct plan *p)
{
	uint32_t last = 0;
	size_t gone = 0; /* from here on */
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < p->count; i++) {
		const struct field *f = &p->all[i];

		if (f->to == 0)
			continue;
		if (f->to <= last)
			return -ERANGE;
		ret = fit_gone(p, gone, i, last);
		gone = i + 1;
		last = f->to;
	}
	return ret == 0 ? fit_gone(p, gone, p->count, last) : ret;
}

static void find_last(struct plan *p)
{
	p->last = p->want->uidlast;
	for (size_t i = 0; i < p->count; i++) {
		if (p->all[i].is > p->last)
			p->last = p->all[i].is;
		if (p->all[i].to > p->last)
			p->last = p->all[i].to;
	}
}

/* ---- doing it ------------------------------------------------------------ */

static int write_digits(struct mbx_box *b, uint64_t at, uint32_t value)
{
	char digits[9];

	(void)snprintf(digits, sizeof(digits), "%08x", value);
	return mbx_session_write(b, digits, 8, at);
}

static int write_one(struct plan *p, struct field *f)
{
	int ret = write_digits(p->b, f->text - MBX_UID_BACK, f->to);

	f->is = f->to;
	return ret;
}

static int write_uids(struct plan *p)
{
	int ret = 0;

	for (size_t i = p->count; ret == 0 && i-- > 0;)
		if (p->all[i].to > p->all[i].is)
			ret = write_one(p, &p->all[i]);
	for (size_t i = 0; ret == 0 && i < p->count; i++)
		if (p->all[i].to < p->all[i].is)
			ret = write_one(p, &p->all[i]);
	return ret == 0 ? io_fsync(p->b->write_fd) : ret;
}

static int write_uidvalidity(struct plan *p, uint32_t value)
{
	int ret = write_digits(p->b, UIDVALIDITY_AT, value);

	return ret == 0 ? io_fsync(p->b->write_fd) : ret;
}

/* Under which no UID was ever given out. */
static int write_between(struct plan *p, uint32_t is)
{
	uint32_t value = (uint32_t)mbx_now();

	while (value == 0 || value == is || value == p->want->uidvalidity)
		value++;
	return write_uidvalidity(p, value);
}

static bool is_changed(const struct plan *p)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->all[i].is != 0 && p->all[i].is != p->all[i].to)
			return true;
	return false;
}

static int renumber(struct plan *p)
{
	uint32_t is = p->b->session->header.uidvalidity;
	int ret = read_fields(p);
	bool changed;

	if (ret == 0)
		ret = fit_all(p);
	if (ret < 0)
		return ret;
	find_last(p);
	changed = is_changed(p);
	ret = mbx_raise_uidlast(p->b, p->last);
	if (ret == 0 && changed)
		ret = write_between(p, is);
	if (ret == 0)
		ret = write_uids(p);
	if (ret < 0 || (!changed && is == p->want->uidvalidity))
		return ret;
	return write_uidvalidity(p, p->want->uidvalidity);
}

/* The exclusive lock is the shared one of this box, changed; one that was not
 * had costs the other, and the parse lock keeps that from everybody. */
int mbx_alone(struct box *box, int (*work)(struct mbx_box *b, void *arg),
	      void *arg)
{
	struct mbx_box *b = (struct mbx_box *)box;
	bool own;
	int ret = mbx_session_enter(b, &own);

	if (ret < 0)
		return ret;
	ret = own ? mbxlock_exclusive(b->fd) : -EBUSY;
	if (ret == 0)
		ret = work(b, arg);
	if (own && mbxlock_share(b->fd, 0) < 0)
		ret = ret == 0 ? -EAGAIN : ret;
	mbx_session_leave(b, own);
	return ret;
}

static int renumber_alone(struct mbx_box *b, void *arg)
{
	struct plan *p = arg;
	int ret = renumber(p);

	b->tail = (struct mbx_tail){ .off = 0 };
	b->session->walked = false;
	return ret;
}

int mbx_renumber(struct box *box, const struct numbering *want)
{
	struct plan p = { .b = (struct mbx_box *)box, .want = want };
	int ret = mbx_alone(box, renumber_alone, &p);

	free(p.all);
	return ret;
}
