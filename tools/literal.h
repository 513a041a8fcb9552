/*
 * literal.h - a path from the command line as a pattern that names just it.
 */
#pragma once

#include "compat/base.h"
#include "compat/pattern.h"

/** literal_pattern - symbolic links in @path are followed
 * Return: 0, @out to be given to pattern_fini(); -errno */
MUST_CHECK int literal_pattern(const char *path, struct pattern *out);
