/*
 * dotlock.h - Dovecot's lock files ("dovecot-uidlist.lock").
 *
 * Made with O_EXCL, "pid:host" in it, beside the file they guard. Dovecot
 * takes the uidlist's for every change, and for every look at cur/ and new/:
 * it may be held by the very process whose request we serve. So nobody waits
 * for one but to make a folder's first files.
 */
#pragma once

#include "compat/base.h"
#include "fs/user.h"

/**
 * dotlock_take - make lock file @name in @dirfd, as the user's own
 * One of a dead process of this host is removed; so is one that nobody has
 * touched for two minutes, as Dovecot does.
 * @ms: how long to wait; 0: one try
 *
 * Return: 0; -EBUSY; -errno.
 */
MUST_CHECK int dotlock_take(const struct user *u, int dirfd, const char *name,
			    unsigned ms);
/** dotlock_drop - remove it */
void dotlock_drop(int dirfd, const char *name);
