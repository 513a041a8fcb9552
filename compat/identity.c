#include "compat/identity.h"

#include <sys/syscall.h>
#include <unistd.h>

struct identity identity_enter(uid_t uid, gid_t gid)
{
	struct identity was = { .changed = geteuid() == 0 && uid != 0 };

	if (was.changed) {
		/* The group first: setting it needs the privilege. */
		(void)syscall(SYS_setfsgid, gid);
		(void)syscall(SYS_setfsuid, uid);
	}
	return was;
}

void identity_leave(struct identity was)
{
	if (was.changed) {
		(void)syscall(SYS_setfsuid, 0);
		(void)syscall(SYS_setfsgid, getegid());
	}
}
