#include "index/keep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* A row, or a message of the scan, to be paired. */
struct one {
	uint64_t off, size;
	int64_t date;
	uint32_t uid_disk;
	uint32_t uid;  /* row: its UID */
	uint32_t item; /* scan: which item */
	bool used;     /* row: it is in a pair */
};

struct list {
	struct one *all;
	size_t count, room;
};

struct pairing {
	struct list rows, now;
	uint32_t *uid; /* of each item; 0: it has no row */
	size_t pairs;
	uint64_t anchor; /* nothing before this place has moved */
};

static int add(struct list *l, const struct msg *m, size_t item)
{
	int err =
		harvest_room(&l->all, &l->room, l->count + 1, sizeof(*l->all));

	if (err)
		return err;
	l->all[l->count++] = (struct one){ .off = m->off,
					   .size = m->size,
					   .date = m->date,
					   .uid_disk = m->uid_disk,
					   .uid = m->uid,
					   .item = (uint32_t)item };
	return 0;
}

static int add_row(const struct msg *m, const char *name, void *rows)
{
	(void)name;
	return add(rows, m, 0);
}

/* ---- orders -------------------------------------------------------------- */

typedef int order_fn(const struct one *a, const struct one *b);

static int by_value(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_kind(const struct one *a, const struct one *b)
{
	int c = by_value(a->size, b->size);

	return c ? c : by_value((uint64_t)a->date, (uint64_t)b->date);
}

static int by_off(const struct one *a, const struct one *b)
{
	return by_value(a->off, b->off);
}

static int by_disk(const struct one *a, const struct one *b)
{
	return by_value(a->uid_disk, b->uid_disk);
}

static int compare(const void *x, const void *y, void *order)
{
	return (*(order_fn *const *)order)(x, y);
}

static void sort(struct list *l, order_fn *order)
{
	if (l->count > 0)
		qsort_r(l->all, l->count, sizeof(*l->all), compare, &order);
}

/* ---- pairs --------------------------------------------------------------- */

typedef bool same_fn(const struct pairing *p, const struct one *row,
		     const struct one *now);

/* How many from @at on are the same to @order. */
static size_t run_of(const struct list *l, size_t at, order_fn *order)
{
	size_t n = 1;

	while (at + n < l->count && order(&l->all[at], &l->all[at + n]) == 0)
		n++;
	return n;
}

static void pair(struct pairing *p, struct one *row, const struct one *now)
{
	p->uid[now->item] = row->uid;
	p->pairs++;
	row->used = true;
	if (row->off == now->off && row->off > p->anchor)
		p->anchor = row->off;
}

/* Pairs those that @order finds the same, no others being it as well, and
 * @same agrees about. */
static void pair_up(struct pairing *p, order_fn *order, same_fn *same)
{
	size_t r = 0, i = 0;

	sort(&p->rows, order);
	sort(&p->now, order);
	while (r < p->rows.count && i < p->now.count) {
		struct one *row = &p->rows.all[r];
		const struct one *now = &p->now.all[i];
		size_t rows = run_of(&p->rows, r, order);
		size_t nows = run_of(&p->now, i, order);
		int c = order(row, now);

		if (c == 0 && rows == 1 && nows == 1 && !row->used &&
		    !p->uid[now->item] && same(p, row, now))
			pair(p, row, now);
		r += c <= 0 ? rows : 0;
		i += c >= 0 ? nows : 0;
	}
}

/* A date that has become unreadable is 0. */
static bool alike(const struct one *row, const struct one *now)
{
	return row->size == now->size &&
		(row->date == now->date || now->date == 0);
}

static bool same_number(const struct pairing *p, const struct one *row,
			const struct one *now)
{
	(void)p;
	return row->uid_disk != 0 && alike(row, now);
}

static bool same_new(const struct pairing *p, const struct one *row,
		     const struct one *now)
{
	(void)p;
	return row->uid_disk == 0 && alike(row, now);
}

static bool same_kind(const struct pairing *p, const struct one *row,
		      const struct one *now)
{
	(void)p;
	(void)row;
	(void)now;
	return true;
}

static bool same_place(const struct pairing *p, const struct one *row,
		       const struct one *now)
{
	return row->off < p->anchor && alike(row, now);
}

static int find_pairs(struct pairing *p, bool same_regime,
		      const struct harvest *h)
{
	int err = 0;

	for (size_t i = 0; !err && i < h->count; i++)
		err = add(&p->now, &h->items[i].m, i);
	p->uid = calloc(h->count + 1, sizeof(*p->uid));
	if (err || !p->uid)
		return err ? err : -ENOMEM;
	if (same_regime) {
		pair_up(p, by_disk, same_number);
		pair_up(p, by_off, same_new);
	}
	pair_up(p, by_kind, same_kind);
	pair_up(p, by_off, same_place);
	return 0;
}

/* ---- numbers ------------------------------------------------------------- */

static uint32_t highest(const struct index_folder *was, const struct list *rows)
{
	uint32_t last = was->uidnext ? was->uidnext - 1 : 0;

	for (size_t i = 0; i < rows->count; i++)
		if (rows->all[i].uid > last)
			last = rows->all[i].uid;
	return last;
}

/* What the store has given out by itself, also to what is no more: a scan goes
 * on above that for messages that have no number, or a bad one. */
static uint32_t highest_on_disk(const struct harvest *h)
{
	uint32_t last = 0, given = UINT32_MAX;

	for (size_t i = 0; i < h->count; i++) {
		const struct msg *m = &h->items[i].m;

		if (m->uid_disk > last)
			last = m->uid_disk;
		if (m->uid != m->uid_disk && m->uid < given)
			given = m->uid;
	}
	return given != UINT32_MAX && given - 1 > last ? given - 1 : last;
}

static int by_uid(const void *x, const void *y)
{
	const struct item *a = x, *b = y;

	return by_value(a->m.uid, b->m.uid);
}

/* What came of it. */
struct numbers {
	uint32_t last;
	uint32_t stray; /* a UID that lies before lower ones; 0: none */
};

static int give_numbers(const struct pairing *p, struct harvest *h,
			struct numbers *n)
{
	uint32_t top = 0;

	/* Items are in the order of the file. */
	for (size_t i = 0; i < h->count; i++) {
		uint32_t uid = p->uid[i];

		if (!uid && n->last >= UINT32_MAX - 1)
			return -EOVERFLOW;
		uid = uid ? uid : ++n->last;
		if (uid < top && !n->stray)
			n->stray = top;
		if (uid > top)
			top = uid;
		h->items[i].m.uid = uid;
	}
	if (h->count > 0)
		qsort(h->items, h->count, sizeof(*h->items), by_uid);
	return 0;
}

static bool is_same(const struct pairing *p)
{
	size_t fewer =
		p->rows.count < p->now.count ? p->rows.count : p->now.count;

	return p->pairs > 0 && 2 * p->pairs >= fewer;
}

/* Rows that nobody trusts at the moment have no stamp. */
static bool same_file(const struct index_folder *was, const struct scan *scan)
{
	return was->stamp.ino == 0 ||
		(was->stamp.ino == scan->stamp.ino &&
		 was->stamp.dev == scan->stamp.dev);
}

/* Return: 1; 0: it is another mailbox; -errno. */
static int keep_known(struct index *ix, uint32_t folder,
		      const struct index_folder *was, const struct scan *scan,
		      struct harvest *h, struct numbers *n)
{
	struct pairing p = { .pairs = 0 };
	bool same_regime = scan->uidvalidity == was->on_disk;
	int ret = index_each(ix, folder, add_row, &p.rows);
	uint32_t on_disk = 0;

	if (ret == 0)
		ret = find_pairs(&p, same_regime, h);
	if (ret == 0 && is_same(&p)) {
		n->last = highest(was, &p.rows);
		if (same_regime && was->on_disk == was->uidvalidity)
			on_disk = highest_on_disk(h);
		if (on_disk > n->last)
			n->last = on_disk;
		ret = give_numbers(&p, h, n);
		ret = ret == 0 ? 1 : ret;
	}
	free(p.rows.all);
	free(p.now.all);
	free(p.uid);
	return ret;
}

int keep_uids(struct index *ix, uint32_t folder, const struct index_folder *was,
	      struct scan *scan, struct harvest *h)
{
	uint32_t now = scan->uidvalidity;
	struct numbers n = { .last = 0 };
	bool other =
		now != 0 && was->uidvalidity != 0 && now != was->uidvalidity;
	int ret;

	if (!(other || scan->next.broken) || !same_file(was, scan))
		return 0;
	ret = keep_known(ix, folder, was, scan, h, &n);
	if (ret <= 0)
		return ret;
	scan->next.uid_last = n.last;
	scan->uidnext = n.last + 1;
	scan->uidvalidity = was->uidvalidity;
	if (other && n.stray)
		damage_add(&scan->damage, DAMAGE_REGIME, 7, 0,
			   "UIDVALIDITY was %u, UW made it %u; old UIDs are "
			   "shown, and cannot be put back: UID %u lies before "
			   "lower ones: move it to another folder",
			   was->uidvalidity, now, n.stray);
	else if (other)
		damage_add(&scan->damage, DAMAGE_REGIME, 7, 0,
			   "UIDVALIDITY was %u, a program of UW has made it "
			   "%u; the old UIDs are shown, and put back when "
			   "nobody has the mailbox open: end its sessions",
			   was->uidvalidity, now);
	return 0;
}

/* ---- keyword slots ------------------------------------------------------- */

uint32_t keep_renamed(const struct index_folder *was, const struct scan *scan)
{
	uint32_t slots = 0;

	if (scan->uidvalidity != was->uidvalidity || !same_file(was, scan))
		return 0;
	for (unsigned i = 0; i < KEYWORD_SLOTS; i++) {
		const char *old = was->keywords.name[i];
		const char *now = scan->keywords.name[i];

		if (old[0] && now[0] && strcasecmp(old, now) != 0)
			slots |= UINT32_C(1) << i;
	}
	return slots;
}

uint32_t keep_slots(const struct index_folder *was, struct scan *scan)
{
	uint32_t slots = keep_renamed(was, scan);

	for (unsigned i = 0; i < KEYWORD_SLOTS; i++) {
		if (!(slots & (UINT32_C(1) << i)))
			continue;
		damage_add(&scan->damage, DAMAGE_SLOTS, 25, 0,
			   "a program of UW has put another keyword into slot "
			   "%u; the old one is shown, and gets a slot of its "
			   "own when nobody has the mailbox open: end its "
			   "sessions",
			   i);
		memcpy(scan->keywords.name[i], was->keywords.name[i],
		       sizeof(scan->keywords.name[i]));
	}
	return slots;
}
