/*
 * manifester.h - a store as a manifest (compat/manifest.h).
 */
#pragma once

#include <stdio.h>

#include "compat/base.h"
#include "compat/digest.h"
#include "tools/names.h"
#include "tools/source.h"

/**
 * manifester_run - write the manifest of @s
 * What is damaged or cannot be read is said on stderr, and in the manifest.
 * @users: only these; NULL or empty: all
 * Return: 0; -EBADMSG when there was such a thing; -errno: there is none.
 */
MUST_CHECK int manifester_run(FILE *f, struct source *s,
			      const struct names *users, unsigned jobs,
			      char root[DIGEST_HEX + 1]);
