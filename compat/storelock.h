/*
 * storelock.h - one program at a time writes to a new store.
 *
 * Two would overwrite each other's ledgers. The lock is
 * a flock() on a file in our directory in the store, as long as it runs; it
 * goes with the process, however that ends.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"

/* Our directory in the new store. In a multi-user store it cannot clash with
 * a user (names with a leading dot are refused); in a single-user store, which
 * is a Maildir++ root, a name with a leading dot would be a folder. */
#define STORELOCK_DIR_MULTI ".janusmail"
#define STORELOCK_DIR_SINGLE "janusmail"

/** storelock_open_dir - our directory, or one in it, made if @make
 * In a single user's store he could have made it himself, or put a symbolic
 * link in its place, to have us write where he may not.
 * Return: a descriptor; -EPERM when it is not ours; -errno */
MUST_CHECK int storelock_open_dir(int dirfd, const char *name, bool make);
/**
 * storelock_take - @dirfd: our directory in the new store
 * @store: the new store's path
 * @doing, @where: what for, after the number of the process: "mounted on",
 *	"/srv/mail"
 * Return: a descriptor to keep; -EBUSY; -errno. Logged.
 */
MUST_CHECK int storelock_take(int dirfd, const char *store, const char *doing,
			      const char *where);
