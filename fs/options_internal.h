/*
 * options_internal.h - what options.c and options_value.c share.
 */
#pragma once

#include <stddef.h>

#include "compat/layout.h"
#include "fs/options.h"

struct options_parser {
	struct options *out;
	struct layout *legacy; /* goes into it when all is said */
	char *err;	       /* for people */
	size_t err_size;
};

/** options_fail - say what is wrong. Return: @code */
int options_fail(struct options_parser *p, int code, const char *fmt, ...)
	PRINTF_LIKE(3, 4);
/** options_takes - whether @name is an option that takes a value */
bool options_takes(const char *name);
/** options_set - -o @name=@value. Return: 0; -EINVAL, -errno (said) */
MUST_CHECK int options_set(struct options_parser *p, const char *name,
			   const char *value);
/** options_set_path - an absolute path without needless slashes into @out
 * @name: what it is, for people. Return: as options_set() */
MUST_CHECK int options_set_path(struct options_parser *p, const char *name,
				const char *value, char **out);
