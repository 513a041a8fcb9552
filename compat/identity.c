#include "compat/identity.h"

#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Where the plain names mean the calls with 16-bit ids. */
#ifdef SYS_setfsuid32
enum {
	CALL_SETFSUID = SYS_setfsuid32,
	CALL_SETFSGID = SYS_setfsgid32,
	CALL_SETGROUPS = SYS_setgroups32,
};
#else
enum {
	CALL_SETFSUID = SYS_setfsuid,
	CALL_SETFSGID = SYS_setfsgid,
	CALL_SETGROUPS = SYS_setgroups,
};
#endif

/* The capabilities of all our threads: they do not change after the start. */
static struct {
	pthread_once_t once;
	struct __user_cap_data_struct all[2];
	bool limits; /* CAP_SYS_RESOURCE is among them */
} caps = { .once = PTHREAD_ONCE_INIT };

static struct __user_cap_header_struct header(void)
{
	return (struct __user_cap_header_struct){
		.version = _LINUX_CAPABILITY_VERSION_3
	};
}

static void caps_read(void)
{
	struct __user_cap_header_struct h = header();

	caps.limits = syscall(SYS_capget, &h, caps.all) == 0 &&
		(caps.all[0].effective & CAP_TO_MASK(CAP_SYS_RESOURCE));
}

/* Without CAP_SYS_RESOURCE, or with it again. */
static bool caps_set(bool limits)
{
	struct __user_cap_header_struct h = header();
	struct __user_cap_data_struct set[2] = { caps.all[0], caps.all[1] };

	if (!limits)
		set[0].effective &= ~CAP_TO_MASK(CAP_SYS_RESOURCE);
	return syscall(SYS_capset, &h, set) == 0;
}

/* They return the id before, and an id that cannot be had changes nothing. */
static bool set_ids(uid_t uid, gid_t gid)
{
	/* The group first: setting it needs the privilege. */
	(void)syscall(CALL_SETFSGID, gid);
	(void)syscall(CALL_SETFSUID, uid);
	return (uid_t)syscall(CALL_SETFSUID, (uid_t)-1) == uid &&
		(gid_t)syscall(CALL_SETFSGID, (gid_t)-1) == gid;
}

static struct identity failed(struct identity was)
{
	identity_leave(was);
	return (struct identity){ .err = -EPERM };
}

static bool is_other(uid_t uid)
{
	return geteuid() == 0 && uid != 0;
}

struct identity identity_enter(uid_t uid, gid_t gid)
{
	struct identity was = { .changed = is_other(uid) };

	if (was.changed && (uid == (uid_t)-1 || !set_ids(uid, gid)))
		return failed(was);
	return was;
}

struct identity identity_enter_caller(uid_t uid, gid_t gid, const gid_t *groups,
				      size_t count)
{
	struct identity was = { .changed = is_other(uid) };

	if (!was.changed)
		return was;
	(void)pthread_once(&caps.once, caps_read);
	was.limits = caps.limits;
	was.groups = count > 0;
	/* Before the ids, as long as we may. */
	if ((was.limits && !caps_set(false)) ||
	    (was.groups && syscall(CALL_SETGROUPS, count, groups) < 0))
		return failed(was);
	was.err = identity_enter(uid, gid).err;
	return was.err ? failed(was) : was;
}

void identity_leave(struct identity was)
{
	if (!was.changed)
		return;
	(void)syscall(CALL_SETFSUID, 0);
	(void)syscall(CALL_SETFSGID, getegid());
	if (was.groups)
		(void)syscall(CALL_SETGROUPS, 0, NULL);
	if (was.limits)
		(void)caps_set(true);
}
