/*
 * identity.h - acting on files as another user, one thread at a time.
 *
 * setfsuid(2)/setfsgid(2) through the bare system calls: they change the
 * calling thread only and, going from root to a user, drop the capabilities
 * that override file permissions for as long as it lasts.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "compat/base.h"

/* What identity_leave() goes back to. */
struct identity {
	bool changed;
};

/**
 * identity_enter - file accesses of this thread are now those of @uid:@gid
 * Does nothing unless the process runs as root and @uid is somebody else.
 */
struct identity identity_enter(uid_t uid, gid_t gid);
/** identity_leave - back to root */
void identity_leave(struct identity was);
