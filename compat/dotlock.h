/*
 * dotlock.h - Dovecot's lock files ("dovecot-uidlist.lock").
 *
 * Made with O_EXCL, "pid:host" in it, beside the file they guard. Dovecot
 * takes the uidlist's for every change, and for every look at cur/ and new/:
 * it may be held by the very process whose request we serve. So nobody waits
 * for one but to make a folder's first files.
 */
#pragma once

#include <sys/types.h>

#include "compat/base.h"

/**
 * dotlock_take - make lock file @name in @dirfd, as @uid:@gid's own
 * One of a dead process of this host is removed; so is one that nobody has
 * touched for two minutes, as Dovecot does.
 * @ms: how long to wait; 0: one try
 *
 * Return: 0; -EBUSY; -errno.
 */
MUST_CHECK int dotlock_take(uid_t uid, gid_t gid, int dirfd, const char *name,
			    unsigned ms);
/** dotlock_drop - remove it */
void dotlock_drop(int dirfd, const char *name);
