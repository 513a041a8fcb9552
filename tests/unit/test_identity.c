#include "compat/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fixture.h"

enum { SOMEBODY = 5000, HIS_GROUP = 5001, SHARED = 5555, OTHER = 5556 };

static void need_root(void)
{
	if (geteuid() != 0)
		cr_skip_test("not root");
	cr_assert_eq(setgroups(0, NULL), 0);
}

/* A directory of root's and group SHARED's. */
static const char *shared_dir(void)
{
	const char *dir = fixture_path("shared");

	cr_assert_eq(chmod(fixture_dir(), 0711), 0);
	cr_assert_eq(mkdir(dir, 0700), 0);
	cr_assert_eq(chown(dir, 0, SHARED), 0);
	cr_assert_eq(chmod(dir, 0770), 0);
	return dir;
}

static int try_mkdir(const char *name)
{
	return mkdir(fixture_path(name), 0700) < 0 ? -errno : 0;
}

static uint32_t effective(void)
{
	struct __user_cap_header_struct h = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct set[2] = { { .effective = 0 } };

	cr_assert_eq(syscall(SYS_capget, &h, set), 0);
	return set[0].effective;
}

TEST(identity, a_user_makes_what_is_his_and_no_more)
{
	struct identity was;
	struct stat st;

	need_root();
	(void)shared_dir();
	cr_assert_eq(chmod(fixture_dir(), 0777), 0);
	was = identity_enter(SOMEBODY, HIS_GROUP);
	cr_assert_eq(was.err, 0);
	cr_expect_eq(try_mkdir("his"), 0);
	cr_expect_eq(try_mkdir("shared/dir"), -EACCES);
	identity_leave(was);
	cr_assert_eq(stat(fixture_path("his"), &st), 0);
	cr_expect_eq(st.st_uid, SOMEBODY);
	cr_expect_eq(st.st_gid, HIS_GROUP);
	cr_expect_eq(try_mkdir("shared/dir"), 0);
	cr_assert_eq(stat(fixture_path("shared/dir"), &st), 0);
	cr_expect_eq(st.st_uid, 0);
}

TEST(identity, a_caller_has_his_groups_while_it_lasts)
{
	const gid_t groups[] = { OTHER, SHARED };
	struct identity was;

	need_root();
	(void)shared_dir();
	was = identity_enter_caller(SOMEBODY, HIS_GROUP, groups, 2);
	cr_assert_eq(was.err, 0);
	cr_expect_eq(try_mkdir("shared/a"), 0);
	identity_leave(was);
	was = identity_enter_caller(SOMEBODY, HIS_GROUP, groups, 1);
	cr_assert_eq(was.err, 0);
	cr_expect_eq(try_mkdir("shared/b"), -EACCES);
	identity_leave(was);
	was = identity_enter_caller(SOMEBODY, HIS_GROUP, NULL, 0);
	cr_assert_eq(was.err, 0);
	cr_expect_eq(try_mkdir("shared/b"), -EACCES);
	identity_leave(was);
	cr_expect_eq(getgroups(0, NULL), 0);
	cr_expect_eq(try_mkdir("shared/b"), 0);
}

static pthread_barrier_t entered;

static void *makes(void *arg)
{
	(void)pthread_barrier_wait(&entered);
	*(int *)arg = try_mkdir("shared/by-another-thread");
	return NULL;
}

TEST(identity, other_threads_stay_what_they_are)
{
	const gid_t groups[] = { OTHER };
	struct identity was;
	pthread_t t;
	int ret = -1;

	need_root();
	(void)shared_dir();
	cr_assert_eq(pthread_barrier_init(&entered, NULL, 2), 0);
	cr_assert_eq(pthread_create(&t, NULL, makes, &ret), 0);
	was = identity_enter_caller(SOMEBODY, HIS_GROUP, groups, 1);
	cr_assert_eq(was.err, 0);
	cr_expect_eq(try_mkdir("shared/by-this-one"), -EACCES);
	(void)pthread_barrier_wait(&entered);
	cr_assert_eq(pthread_join(t, NULL), 0);
	identity_leave(was);
	cr_expect_eq(ret, 0);
	(void)pthread_barrier_destroy(&entered);
}

TEST(identity, what_cannot_be_had_is_an_error_and_changes_nothing)
{
	const gid_t groups[] = { SHARED };
	uint32_t caps;
	struct identity was;
	struct stat st;

	need_root();
	(void)shared_dir();
	caps = effective();
	was = identity_enter((uid_t)-1, HIS_GROUP);
	cr_expect_eq(was.err, -EPERM);
	cr_expect_not(was.changed);
	was = identity_enter(SOMEBODY, (gid_t)-1);
	cr_expect_eq(was.err, -EPERM);
	was = identity_enter_caller((uid_t)-1, HIS_GROUP, groups, 1);
	cr_expect_eq(was.err, -EPERM);
	/* More than the kernel takes. */
	was = identity_enter_caller(SOMEBODY, HIS_GROUP, groups, 1U << 20);
	cr_expect_eq(was.err, -EPERM);
	identity_leave(was);
	cr_expect_eq(getgroups(0, NULL), 0);
	cr_expect_eq(effective(), caps);
	cr_expect_eq(try_mkdir("shared/x"), 0);
	cr_assert_eq(stat(fixture_path("shared/x"), &st), 0);
	cr_expect_eq(st.st_uid, 0);
	cr_expect_eq(st.st_gid, getegid());
}

TEST(identity, a_process_that_may_not_change_says_so)
{
	struct __user_cap_header_struct h = {
		.version = _LINUX_CAPABILITY_VERSION_3
	};
	struct __user_cap_data_struct set[2] = { { .effective = 0 } };
	struct identity was;

	need_root();
	cr_assert_eq(syscall(SYS_capget, &h, set), 0);
	set[0].effective &=
		~(CAP_TO_MASK(CAP_SETUID) | CAP_TO_MASK(CAP_SETGID));
	set[0].permitted = set[0].effective;
	cr_assert_eq(syscall(SYS_capset, &h, set), 0);
	was = identity_enter(SOMEBODY, HIS_GROUP);
	cr_expect_eq(was.err, -EPERM);
	was = identity_enter_caller(SOMEBODY, HIS_GROUP, NULL, 0);
	cr_expect_eq(was.err, -EPERM);
}

TEST(identity, a_caller_does_not_go_beyond_limits)
{
	uint32_t before;
	struct identity was;

	need_root();
	before = effective();
	was = identity_enter_caller(SOMEBODY, HIS_GROUP, NULL, 0);
	cr_assert_eq(was.err, 0);
	cr_expect_eq(effective() & CAP_TO_MASK(CAP_SYS_RESOURCE), 0);
	cr_expect_eq(effective() & CAP_TO_MASK(CAP_DAC_OVERRIDE), 0);
	identity_leave(was);
	cr_expect_eq(effective(), before);
}

TEST(identity, root_stays_root)
{
	struct identity was = identity_enter_caller(0, 0, NULL, 0);

	cr_expect_eq(was.err, 0);
	cr_expect_not(was.changed);
	identity_leave(was);
}
