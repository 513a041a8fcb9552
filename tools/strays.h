/*
 * strays.h - messages that do not fit at their UID: who belongs to whom.
 */
#pragma once

#include "compat/base.h"
#include "compat/fact.h"
#include "tools/compare.h"

enum { STRAYS_MAX = 1 << 14 }; /* of one side that are looked for elsewhere */

struct stray {
	struct fact fact;    /* its keywords are ours */
	struct stray *twin;  /* of the other side, at this UID */
	struct stray *match; /* of the other side, the same octets */
	size_t twin_at;	     /* its number there + 1, while they are added; 0 */
};

struct strays {
	struct stray *list[2];
	size_t count[2], room[2];
};

/** strays_add - @a, @b: what is at a UID; NULL where nothing is
 * Return: 0; -ENOSPC: too many; -ENOMEM */
MUST_CHECK int strays_add(struct strays *s, const struct fact *a,
			  const struct fact *b);
/** strays_match - fill in twin and match, by what is the same in CRLF form */
MUST_CHECK int strays_match(struct strays *s);
/** strays_swapped - whether @a and its match have changed places */
bool strays_swapped(const struct stray *a);
void strays_fini(struct strays *s);
