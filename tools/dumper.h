/*
 * dumper.h - a whole store as canonical text (compat/dump.h).
 */
#pragma once

#include <stdio.h>

#include "compat/base.h"

struct source;

/**
 * dumper_source - print every folder of the only user of @s, with its messages
 *
 * What is damaged is said on stderr, what is good is printed.
 *
 * Return: 0; -EBADMSG when something was damaged; -errno.
 */
MUST_CHECK int dumper_source(FILE *f, struct source *s);
