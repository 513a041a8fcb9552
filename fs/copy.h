/*
 * copy.h - a message of an MBX as a file of its own.
 *
 * Made in two steps, so that it is there as a whole or not at all: staged under
 * a name that means nothing, with all its octets, its date and fsync, then
 * given its name.
 *
 * Threads: all functions are safe; no lock is held.
 */
#pragma once

#include <limits.h>
#include <stdint.h>

#include "compat/base.h"
#include "fs/fs.h"
#include "fs/node.h"

/* A file that is staged. */
struct copy {
	int dirfd;
	char name[NAME_MAX + 1];
};

/**
 * copy_stage - message @ino, staged where a file for @to may lie until it has
 * its name: in the tmp/ beside cur/ and new/, else in @to itself
 * It belongs to the user of @to, and his quota counts.
 * Return: 0, and copy_fini() is due; -ENOENT when it was expunged; -errno
 */
MUST_CHECK int copy_stage(struct fs *fs, uint64_t ino, const struct node *to,
			  struct copy *out);
/** copy_fini - removes the file; who gave it another name sets @name to "" */
void copy_fini(struct copy *c);
