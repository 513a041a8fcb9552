/*
 * fuseopts.h - mount options that are not ours: for libfuse, or for nobody.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"

/** fuseopts_is_noise - what mount(8) and fstab add, and what means nothing to
 * us or to libfuse */
bool fuseopts_is_noise(const char *word);

/** fuseopts_is_known - what libfuse takes; unknown options it takes in
 * silence */
bool fuseopts_is_known(const char *word);

/**
 * fuseopts_append - add an option to a list for libfuse
 * @all: NULL for an empty list; the caller's to free
 * @word: with commas and backslashes as they are; libfuse splits the list once
 * more, so they are escaped in it
 *
 * Return: 0; -ENOMEM.
 */
MUST_CHECK int fuseopts_append(char **all, const char *word);
