#include "tools/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int names_add(struct names *n, const char *name)
{
	if (n->count == n->room) {
		size_t room = n->room ? 2 * n->room : 16;
		char **more = reallocarray(n->list, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		n->list = more;
		n->room = room;
	}
	n->list[n->count] = strdup(name);
	if (!n->list[n->count])
		return -ENOMEM;
	n->count++;
	return 0;
}

static int by_text(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

void names_sort(struct names *n)
{
	size_t kept = 0;

	if (n->count == 0)
		return;
	qsort(n->list, n->count, sizeof(*n->list), by_text);
	for (size_t i = 0; i < n->count; i++) {
		if (kept > 0 && strcmp(n->list[kept - 1], n->list[i]) == 0)
			free(n->list[i]);
		else
			n->list[kept++] = n->list[i];
	}
	n->count = kept;
}

bool names_has(const struct names *n, const char *name)
{
	for (size_t i = 0; i < n->count; i++)
		if (strcmp(n->list[i], name) == 0)
			return true;
	return false;
}

bool names_has_sorted(const struct names *n, const char *name)
{
	return n->count > 0 &&
		bsearch(&name, n->list, n->count, sizeof(*n->list), by_text);
}

void names_fini(struct names *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->list[i]);
	free(n->list);
	*n = (struct names){ .count = 0 };
}
