/*
 * storelock.h - one daemon at a time serves a new store.
 *
 * Two with different indexes would overwrite each other's ledgers. The lock is
 * a flock() on a file in our directory in the store, for the daemon's life; it
 * goes with the process, however that ends.
 */
#pragma once

#include "compat/base.h"
#include "fs/options.h"

/**
 * storelock_take - @dirfd: our directory in the new store
 * Return: a descriptor to keep; -EBUSY; -errno. Logged.
 */
MUST_CHECK int storelock_take(int dirfd, const struct options *opt);
