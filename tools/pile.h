/*
 * pile.h - octets that are written first and read afterwards, any number of
 * them: in memory while they are few, then in a temporary file.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

#include "compat/base.h"

/* All zero: empty. */
struct pile {
	char *mem;
	size_t len, room, at;
	FILE *file;
};

MUST_CHECK int pile_add(struct pile *p, const void *data, size_t len);
/** pile_rewind - from now on it is read. Return: 0; -errno */
MUST_CHECK int pile_rewind(struct pile *p);
/** pile_get - Return: octets, fewer only at the end; -errno */
MUST_CHECK ssize_t pile_get(struct pile *p, void *data, size_t len);
/** pile_fini - it is empty afterwards */
void pile_fini(struct pile *p);
