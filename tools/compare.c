#include "tools/compare.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/strays.h"

enum { TEXT_MAX = 300 };

/* One side of the walk: the message that comes next. */
struct side {
	struct source_box *box;
	struct fact fact;
	bool there;
};

struct walk {
	const struct compare *c;
	struct side side[2];
	struct strays strays;
};

int compare_put(const struct compare *c, enum finding_kind kind, uint32_t uid,
		const char *a, const char *b)
{
	struct finding f = { .kind = kind, .uid = uid, .side = { a, b } };

	if (finding_class(kind) == FINDING_DIFFERENCE)
		c->tally->differences++;
	else if (finding_class(kind) == FINDING_TROUBLE)
		c->tally->troubles++;
	return finding_put(c->out, &f);
}

static int put_numbers(const struct compare *c, enum finding_kind kind,
		       uint32_t uid, uint64_t a, uint64_t b)
{
	char text[2][32];

	(void)snprintf(text[0], sizeof(text[0]), "%" PRIu64, a);
	(void)snprintf(text[1], sizeof(text[1]), "%" PRIu64, b);
	return a == b ? 0 : compare_put(c, kind, uid, text[0], text[1]);
}

/* On side @i only something is wrong. */
static int put_side(const struct compare *c, enum finding_kind kind,
		    uint32_t uid, int i, const char *text)
{
	return compare_put(c, kind, uid, i == 0 ? text : NULL,
			   i == 1 ? text : NULL);
}

/* ---- fields of a message ------------------------------------------------- */

/* Flags, keywords and date. Return: 0; -errno; @differs: set, never cleared */
static int compare_fields(const struct compare *c, const struct fact *a,
			  const struct fact *b, bool *differs)
{
	char text[2][FACT_DATE_MAX + 1];
	uint64_t before = c->tally->differences;
	int ret = 0;

	if (a->flags != b->flags) {
		fact_flags(a->flags, text[0]);
		fact_flags(b->flags, text[1]);
		ret = compare_put(c, FINDING_FLAGS, a->uid, text[0], text[1]);
	}
	if (ret == 0 && strcmp(a->keywords, b->keywords) != 0)
		ret = compare_put(c, FINDING_KEYWORDS, a->uid, a->keywords,
				  b->keywords);
	if (ret == 0 && a->date != b->date) {
		fact_date(a->date, text[0]);
		fact_date(b->date, text[1]);
		ret = compare_put(c, FINDING_DATE, a->uid, text[0], text[1]);
	}
	*differs = *differs || c->tally->differences != before;
	return ret;
}

static void describe(const struct fact *m, char *out)
{
	(void)snprintf(out, TEXT_MAX, "%" PRIu64 " octets, sha256 %s", m->size,
		       m->sha256);
}

/* A file that was delivered through the view, and its copy in the MBX, which
 * has CR LF because UW needs that. */
static bool is_mirrored(const struct fact *a, const struct fact *b)
{
	return (a->origin == FACT_ORIGIN_DELIVERED) !=
		(b->origin == FACT_ORIGIN_DELIVERED);
}

/* Two that are the same in CRLF form. */
static int compare_octets(const struct compare *c, const struct fact *a,
			  const struct fact *b, bool *differs)
{
	char text[2][TEXT_MAX];

	if (strcmp(a->sha256, b->sha256) == 0)
		return 0;
	if (c->crlf || is_mirrored(a, b)) {
		c->tally->bare_lf++;
		return 0;
	}
	*differs = true;
	describe(a, text[0]);
	describe(b, text[1]);
	return compare_put(c, FINDING_LINE_ENDS, a->uid, text[0], text[1]);
}

static int compare_pair(const struct compare *c, const struct fact *a,
			const struct fact *b, bool differs)
{
	int ret = compare_fields(c, a, b, &differs);

	if (ret == 0)
		ret = compare_octets(c, a, b, &differs);
	if (differs)
		c->tally->changed++;
	else
		c->tally->same++;
	return ret;
}

/* ---- what has no counterpart at its UID ---------------------------------- */

static int only(const struct compare *c, int i, const struct fact *m)
{
	char text[TEXT_MAX], date[FACT_DATE_MAX + 1];

	c->tally->only[i]++;
	if (i == 1 && m->origin == FACT_ORIGIN_DELIVERED)
		c->tally->only_came++;
	fact_date(m->date, date);
	(void)snprintf(text, sizeof(text),
		       "%s, %" PRIu64 " octets, sha256 %s%s", date, m->size,
		       *m->sha256 ? m->sha256 : "unknown",
		       m->origin == FACT_ORIGIN_DELIVERED
			       ? ", delivered through the view"
			       : "");
	return put_side(c, FINDING_MESSAGE, m->uid, i, text);
}

static int other_octets(const struct compare *c, const struct fact *a,
			const struct fact *b)
{
	char text[2][TEXT_MAX];
	bool differs = true;
	int ret;

	describe(a, text[0]);
	describe(b, text[1]);
	c->tally->changed++;
	ret = put_numbers(c, FINDING_SIZE, a->uid, a->size, b->size);
	if (ret == 0)
		ret = compare_put(c, FINDING_BYTES, a->uid, text[0], text[1]);
	return ret < 0 ? ret : compare_fields(c, a, b, &differs);
}

static int other_uid(const struct compare *c, const struct stray *s)
{
	const struct fact *a = &s->fact, *b = &s->match->fact;
	int ret = 0;

	if (!strays_swapped(s))
		ret = put_numbers(c, FINDING_UID, a->uid, a->uid, b->uid);
	else if (a->uid < b->uid)
		ret = put_numbers(c, FINDING_SWAPPED, a->uid, a->uid, b->uid);
	return ret < 0 ? ret : compare_pair(c, a, b, a->uid != b->uid);
}

static int tell_strays(struct walk *w)
{
	const struct compare *c = w->c;
	int ret = strays_match(&w->strays);

	for (size_t i = 0; ret == 0 && i < w->strays.count[0]; i++) {
		const struct stray *s = &w->strays.list[0][i];

		if (s->match)
			ret = other_uid(c, s);
		else if (s->twin && !s->twin->match)
			ret = other_octets(c, &s->fact, &s->twin->fact);
		else
			ret = only(c, 0, &s->fact);
	}
	for (size_t i = 0; ret == 0 && i < w->strays.count[1]; i++) {
		const struct stray *s = &w->strays.list[1][i];

		if (!s->match && (!s->twin || s->twin->match))
			ret = only(c, 1, &s->fact);
	}
	return ret;
}

/* ---- the walk ------------------------------------------------------------ */

static int unreadable(const struct compare *c, int i, const struct fact *m)
{
	if (m->err == -ESTALE && !c->last_try)
		return -ESTALE;
	return put_side(c, FINDING_UNREADABLE, m->uid, i, source_why(m->err));
}

static int advance(struct walk *w, int i)
{
	const struct compare *c = w->c;
	struct side *s = &w->side[i];
	int ret = s->box->ops->next(s->box, &s->fact);

	s->there = ret == 0;
	if (ret == -ENOENT)
		return 0;
	if (ret < 0)
		return ret;
	atomic_fetch_add(c->progress, 1);
	c->tally->messages[i]++;
	c->tally->octets[i] += s->fact.size;
	c->tally->ours[i] += s->fact.origin == FACT_ORIGIN_LEGACY;
	c->tally->came[i] += s->fact.origin == FACT_ORIGIN_DELIVERED;
	return s->fact.err < 0 ? unreadable(c, i, &s->fact) : 0;
}

/* Kept for the end; beyond what can be kept it is told as it stands. */
static int stray(struct walk *w, const struct fact *a, const struct fact *b)
{
	int ret = strays_add(&w->strays, a, b);

	if (ret != -ENOSPC)
		return ret;
	if (a && b)
		return other_octets(w->c, a, b);
	return a ? only(w->c, 0, a) : only(w->c, 1, b);
}

static int both(struct walk *w)
{
	const struct compare *c = w->c;
	const struct fact *a = &w->side[0].fact, *b = &w->side[1].fact;
	bool differs = false;

	if (a->err == 0 && b->err == 0)
		return strcmp(a->crlf, b->crlf) == 0
			? compare_pair(c, a, b, false)
			: stray(w, a, b);
	c->tally->unread++;
	return compare_fields(c, a, b, &differs);
}

static int step(struct walk *w)
{
	struct side *a = &w->side[0], *b = &w->side[1];
	/* Without a UID: behind all others. */
	uint64_t x = a->there ? a->fact.uid - 1U : UINT64_MAX;
	uint64_t y = b->there ? b->fact.uid - 1U : UINT64_MAX;
	bool pair = x == y && a->fact.uid != 0;
	bool take_a = pair || (a->there && x <= y);
	bool take_b = pair || (b->there && !take_a);
	int ret;

	if (pair)
		ret = both(w);
	else
		ret = stray(w, take_a ? &a->fact : NULL,
			    take_b ? &b->fact : NULL);
	if (ret == 0 && take_a)
		ret = advance(w, 0);
	if (ret == 0 && take_b)
		ret = advance(w, 1);
	return ret;
}

static int walk(struct walk *w)
{
	int ret = advance(w, 0);

	if (ret == 0)
		ret = advance(w, 1);
	while (ret == 0 && (w->side[0].there || w->side[1].there))
		ret = step(w);
	return ret < 0 ? ret : tell_strays(w);
}

static int compare_heads(const struct compare *c)
{
	const struct source_box *a = c->box[0], *b = c->box[1];
	int ret = 0;

	for (int i = 0; ret == 0 && i < 2; i++)
		if (*c->box[i]->damage)
			ret = put_side(c, FINDING_DAMAGED, 0, i,
				       c->box[i]->damage);
	if (ret < 0 || a->err < 0 || b->err < 0)
		return ret;
	ret = put_numbers(c, FINDING_UIDVALIDITY, 0, a->uidvalidity,
			  b->uidvalidity);
	return ret < 0
		? ret
		: put_numbers(c, FINDING_UIDNEXT, 0, a->uidnext, b->uidnext);
}

int compare_folder(const struct compare *c)
{
	struct walk w = { .c = c };
	int ret = compare_heads(c);

	/* Were one side taken for empty all of the other would differ. */
	if (ret < 0 || c->box[0]->err < 0 || c->box[1]->err < 0)
		return ret;
	w.side[0].box = c->box[0];
	w.side[1].box = c->box[1];
	ret = walk(&w);
	strays_fini(&w.strays);
	return ret;
}
