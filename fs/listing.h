/*
 * listing.h - the contents of a directory, taken at opendir.
 *
 * Complete or not at all: Dovecot takes a name that is missing from a listing
 * for an expunged message. Later changes do not show in it; Dovecot renames
 * files while it reads their directory.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"
#include "fs/fs.h"
#include "fs/node.h"

struct listing;

struct listing_entry {
	const char *name;
	uint64_t ino;
	mode_t type; /* S_IFDIR, S_IFREG... */
};

/** listing_new - read a directory. Return: 0; -EIO; -errno */
MUST_CHECK int listing_new(struct fs *fs, struct node *dir,
			   struct listing **out);
/** listing_free - NULL is fine */
void listing_free(struct listing *l);
/** listing_count - entries, "." and ".." among them, which come first */
size_t listing_count(const struct listing *l);
/** listing_get - entry @i; valid until listing_free() */
struct listing_entry listing_get(const struct listing *l, size_t i);
