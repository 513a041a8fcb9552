/*
 * names.h - a list of names: of users, of subscribed folders.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "compat/base.h"

/* All zero: empty. */
struct names {
	char **list;
	size_t count, room;
};

/** names_add - a copy of @name at the end. Return: 0; -ENOMEM */
MUST_CHECK int names_add(struct names *n, const char *name);
/** names_sort - octet by octet, each once */
void names_sort(struct names *n);
/** names_has - whether @name is in a list; which need not be sorted */
bool names_has(const struct names *n, const char *name);
/** names_has_sorted - the same in a list that is: after names_sort() */
bool names_has_sorted(const struct names *n, const char *name);
void names_fini(struct names *n);
