/*
 * mounted.h - our own mounts, found in /proc/self/mountinfo.
 *
 * Works on a daemon that hangs, too: the mount itself is asked for nothing but
 * its device number, and that only if its path is not listed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "compat/base.h"

struct mounted {
	char *mountpoint;
	char *index; /* directory of its index and socket */
};

/**
 * mounted_find - the janusmail mount that @path is, or lies in
 * Return: 0, @out to be given to mounted_fini(); -ENOENT when there is none;
 * -errno.
 */
MUST_CHECK int mounted_find(const char *path, struct mounted *out);
void mounted_fini(struct mounted *m);
