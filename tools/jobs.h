/*
 * jobs.h - how many threads, from the command line.
 */
#pragma once

#include "compat/base.h"

enum { JOBS_MAX = 64 };

/** jobs_default - as many as there are processors */
unsigned jobs_default(void);
/** jobs_parse - Return: 0; -EINVAL, logged */
MUST_CHECK int jobs_parse(const char *text, unsigned *out);
