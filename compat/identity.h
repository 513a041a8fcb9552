/*
 * identity.h - acting on files as another user, one thread at a time.
 *
 * setfsuid(2), setfsgid(2), setgroups(2) and capset(2) through the bare system
 * calls: they change the calling thread only and, going from root to a user,
 * drop the capabilities that override file permissions for as long as it
 * lasts.
 *
 *	was = identity_enter(uid, gid);
 *	if (was.err)
 *		return was.err;
 *	...
 *	identity_leave(was);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "compat/base.h"

/* What identity_leave() goes back to. */
struct identity {
	bool changed;
	bool groups; /* supplementary groups were set */
	bool limits; /* CAP_SYS_RESOURCE was put aside */
	int err;     /* 0; -EPERM: it cannot be had, and nothing was changed */
};

/**
 * identity_enter - file accesses of this thread are now those of @uid:@gid
 * Does nothing unless the process runs as root and @uid is somebody else.
 */
struct identity identity_enter(uid_t uid, gid_t gid);

/**
 * identity_enter_caller - the same for somebody who asked for the access, with
 * the supplementary groups @groups and without the right to go beyond quotas
 * and into reserved blocks
 */
struct identity identity_enter_caller(uid_t uid, gid_t gid, const gid_t *groups,
				      size_t count);

/** identity_leave - back to root, without supplementary groups */
void identity_leave(struct identity was);
