#include "tools/strays.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int add(struct strays *s, int side, const struct fact *f)
{
	struct stray *more;

	if (s->count[side] == s->room[side]) {
		size_t room = s->room[side] ? 2 * s->room[side] : 64;

		more = reallocarray(s->list[side], room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		s->list[side] = more;
		s->room[side] = room;
	}
	more = &s->list[side][s->count[side]];
	*more = (struct stray){ .fact = *f };
	more->fact.keywords = strdup(f->keywords);
	if (!more->fact.keywords)
		return -ENOMEM;
	s->count[side]++;
	return 0;
}

int strays_add(struct strays *s, const struct fact *a, const struct fact *b)
{
	int ret = 0;

	if (s->count[0] == STRAYS_MAX || s->count[1] == STRAYS_MAX)
		return -ENOSPC;
	if (a)
		ret = add(s, 0, a);
	if (ret == 0 && b)
		ret = add(s, 1, b);
	if (ret == 0 && a && b) {
		s->list[0][s->count[0] - 1].twin_at = s->count[1];
		s->list[1][s->count[1] - 1].twin_at = s->count[0];
	}
	return ret;
}

/* By octets in CRLF form, then as they are, then by UID. */
static int by_hash(const void *x, const void *y)
{
	const struct stray *const *a = x, *const *b = y;
	int c = strcmp((*a)->fact.crlf, (*b)->fact.crlf);

	if (c == 0)
		c = strcmp((*a)->fact.sha256, (*b)->fact.sha256);
	if (c)
		return c;
	return (*a)->fact.uid < (*b)->fact.uid ? -1 : 1;
}

static struct stray **sorted(struct strays *s, int side)
{
	struct stray **out = calloc(s->count[side] + 1, sizeof(struct stray *));

	if (!out)
		return NULL;
	for (size_t i = 0; i < s->count[side]; i++)
		out[i] = &s->list[side][i];
	qsort(out, s->count[side], sizeof(struct stray *), by_hash);
	return out;
}

static void match_sorted(struct stray **a, size_t a_count, struct stray **b,
			 size_t b_count)
{
	size_t i = 0, k = 0;

	while (i < a_count && k < b_count) {
		int c = strcmp(a[i]->fact.crlf, b[k]->fact.crlf);

		if (c == 0 && *a[i]->fact.crlf) {
			a[i]->match = b[k];
			b[k]->match = a[i];
		}
		i += c <= 0;
		k += c >= 0;
	}
}

int strays_match(struct strays *s)
{
	AUTO_FREE struct stray **a = sorted(s, 0);
	AUTO_FREE struct stray **b = sorted(s, 1);

	if (!a || !b)
		return -ENOMEM;
	for (int side = 0; side < 2; side++)
		for (size_t i = 0; i < s->count[side]; i++) {
			struct stray *m = &s->list[side][i];

			if (m->twin_at)
				m->twin = &s->list[!side][m->twin_at - 1];
		}
	match_sorted(a, s->count[0], b, s->count[1]);
	return 0;
}

bool strays_swapped(const struct stray *a)
{
	return a->match && a->twin && a->match->twin &&
		a->match->twin->match == a->twin;
}

void strays_fini(struct strays *s)
{
	for (int side = 0; side < 2; side++) {
		for (size_t i = 0; i < s->count[side]; i++)
			free((char *)(uintptr_t)s->list[side][i].fact.keywords);
		free(s->list[side]);
	}
	*s = (struct strays){ .count = { 0 } };
}
