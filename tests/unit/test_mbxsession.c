/* Locks and times of what writes to an MBX. */
#include "writebox.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "compat/identity.h"

static atomic_uint fsync_pause_us, fsync_begun, fsync_done;

/* libc's, and slow on demand. */
int fsync(int fd)
{
	int ret;

	(void)atomic_fetch_add(&fsync_begun, 1);
	(void)usleep(atomic_load(&fsync_pause_us));
	ret = (int)syscall(SYS_fsync, fd);
	(void)atomic_fetch_add(&fsync_done, 1);
	return ret;
}

/* ---- locks --------------------------------------------------------------- */

TEST(mbxwrite, begin_holds_both_locks_until_end)
{
	begin_two();
	scan();
	cr_assert_eq(box->ops->begin(box), 0);
	for (int i = 0; i < 3; i++) {
		cr_expect_eq(try_lock(lock_name(), LOCK_SH), -EWOULDBLOCK);
		cr_expect_eq(try_lock(file(), LOCK_EX), -EWOULDBLOCK);
		cr_expect_eq(try_lock(file(), LOCK_SH), 0);
		cr_assert_eq(flag(0, (struct flag_change){ .set = 4U << i }),
			     0);
		scan();
	}
	cr_expect_eq(keyword("word"), 0);
	cr_expect_eq(expunge(1), 0);
	box->ops->end(box, NULL);
	cr_expect_eq(try_lock(lock_name(), LOCK_SH), -ENOENT);
	cr_expect_eq(try_lock(file(), LOCK_EX), 0);
	scan();
	EXPECT_UIDS(1);
	cr_expect_eq(got.msgs[0].flags, 0x1d);
	end();
}

TEST(mbxwrite, closing_lets_go_too)
{
	begin_two();
	cr_assert_eq(box->ops->begin(box), 0);
	box->ops->close(box);
	box = NULL;
	cr_expect_eq(try_lock(file(), LOCK_EX), 0);
	end();
}

TEST(mbxwrite, waiting_for_a_lock_ends)
{
	pid_t pid;

	opt.lock_ms = 100;
	begin_two();
	scan();
	keep();
	pid = fixture_hold(lock_name(), LOCK_EX);
	cr_expect_eq(box->ops->begin(box), -EAGAIN);
	cr_expect_eq(flag(0, (struct flag_change){ .set = 4 }), -EAGAIN);
	cr_expect_eq(keyword("word"), -EAGAIN);
	fixture_let_go(pid);
	cr_expect_eq(unlink(lock_name()), 0);
	pid = fixture_hold(file(), LOCK_EX);
	cr_expect_eq(box->ops->begin(box), -EAGAIN);
	fixture_let_go(pid);
	expect_same_but(0, 0);
	cr_expect_eq(flag(0, (struct flag_change){ .set = 4 }), 0);
	end();
}

/* UW gives up when the lock file comes and goes too fast. */
TEST(mbxwrite, between_two_operations_others_have_time)
{
	struct timespec from, to;

	begin_two();
	scan();
	(void)clock_gettime(CLOCK_MONOTONIC, &from);
	for (unsigned i = 0; i < 21; i++)
		cr_assert_eq(flag(0, (struct flag_change){ .set = 4 }), 0);
	(void)clock_gettime(CLOCK_MONOTONIC, &to);
	cr_expect_geq((to.tv_sec - from.tv_sec) * 1000000 +
			      (to.tv_nsec - from.tv_nsec) / 1000,
		      40000);
	end();
}

TEST(mbxwrite, a_file_that_was_replaced_is_stale)
{
	begin_two();
	scan();
	cr_assert_eq(rename(file(), fixture_path("mail/other")), 0);
	cr_expect_eq(box->ops->begin(box), -ESTALE, "renamed");
	header(2);
	cr_expect_eq(box->ops->begin(box), -ESTALE, "before the first write");
	cr_assert_eq(rename(fixture_path("mail/other"), file()), 0);
	cr_assert_eq(flag(0, (struct flag_change){ .set = 4 }), 0);
	cr_assert_eq(rename(file(), fixture_path("mail/other")), 0);
	header(2);
	keep();
	cr_expect_eq(flag(0, (struct flag_change){ .set = 2 }), -ESTALE);
	expect_same_but(0, 0);
	end();
}

TEST(mbxwrite, what_is_no_mailbox_any_more_is_not_written)
{
	begin_two();
	scan();
	fixture_patch(file(), 23, "\n\n", 2);
	keep();
	cr_expect_eq(flag(0, (struct flag_change){ .set = 4 }), -EBADMSG);
	cr_expect_eq(keyword("word"), -EBADMSG);
	cr_expect_eq(box->ops->assign(box), -EBADMSG);
	expect_same_but(0, 0);
	cr_assert_eq(truncate(file(), 0), 0);
	cr_expect_eq(keyword("word"), -EBADMSG);
	end();
}

TEST(mbxwrite, a_file_that_may_not_be_written_says_so)
{
	struct identity was;
	int ret;

	if (geteuid() != 0)
		cr_skip_test("not root");
	begin_two();
	scan();
	cr_assert_eq(chmod(fixture_dir(), 0755), 0);
	cr_assert_eq(chmod(fixture_path("mail"), 0755), 0);
	cr_assert_eq(chmod(file(), 0444), 0);
	was = identity_enter(5000, 5000);
	ret = flag(0, (struct flag_change){ .set = 4 });
	identity_leave(was);
	cr_expect_eq(ret, -EACCES);
	end();
}

/* ---- times --------------------------------------------------------------- */

static struct stat times(void)
{
	struct stat st;

	cr_assert_eq(stat(file(), &st), 0);
	return st;
}

static void set_times(int64_t atime, int64_t mtime)
{
	const struct timespec ts[2] = { { .tv_sec = atime },
					{ .tv_sec = mtime, .tv_nsec = 5 } };

	cr_assert_eq(utimensat(AT_FDCWD, file(), ts, 0), 0);
}

TEST(mbxwrite, a_change_is_announced_now_and_in_the_next_second)
{
	int64_t before, after;
	struct stat st;

	begin_two();
	scan();
	set_times(1000, 2000);
	before = time(NULL);
	cr_assert_eq(flag(0, (struct flag_change){ .set = 4 }), 0);
	after = time(NULL) + 1;
	st = times();
	cr_expect(st.st_mtim.tv_sec >= before && st.st_mtim.tv_sec <= after);
	cr_expect_eq(st.st_mtim.tv_nsec, 0);
	cr_expect(st.st_atim.tv_sec >= before && st.st_atim.tv_sec <= after);
	cr_expect_eq(box->touch_due, st.st_mtim.tv_sec + 1);
	if (time(NULL) < box->touch_due) { /* too early: nothing happens */
		cr_assert_eq(box->ops->touch(box), 0);
		cr_expect_neq(box->touch_due, 0);
	}
	while (time(NULL) < box->touch_due)
		(void)usleep(10000);
	cr_assert_eq(box->ops->touch(box), 0);
	cr_expect_eq(box->touch_due, 0);
	cr_expect_gt(times().st_mtim.tv_sec, st.st_mtim.tv_sec);
	st = times();
	cr_assert_eq(box->ops->touch(box), 0);
	cr_expect_eq(times().st_ctim.tv_nsec, st.st_ctim.tv_nsec);
	end();
}

TEST(mbxwrite, a_touch_that_others_made_is_enough)
{
	struct stat st;

	begin_two();
	scan();
	cr_assert_eq(flag(0, (struct flag_change){ .set = 4 }), 0);
	box->touch_due = 1;
	set_times(1000, times().st_mtim.tv_sec + 1);
	st = times();
	cr_assert_eq(box->ops->touch(box), 0);
	cr_expect_eq(times().st_ctim.tv_nsec, st.st_ctim.tv_nsec);
	cr_expect_eq(box->touch_due, 0);
	/* A sniff that puts back an older mtime is outdone. */
	cr_assert_eq(flag(0, (struct flag_change){ .set = 8 }), 0);
	box->touch_due = 1;
	st = times();
	set_times(1000, 2000);
	cr_assert_eq(box->ops->touch(box), 0);
	cr_expect_gt(times().st_mtim.tv_sec, st.st_mtim.tv_sec);
	end();
}

TEST(mbxwrite, a_touch_makes_no_new_mail)
{
	struct stat st;

	begin_two();
	scan();
	cr_assert_eq(flag(0, (struct flag_change){ .set = 4 }), 0);
	st = times();
	set_times(st.st_ctim.tv_sec + 1, st.st_mtim.tv_sec);
	box->touch_due = 1;
	cr_assert_eq(box->ops->touch(box), 0);
	cr_expect_geq(times().st_atim.tv_sec, times().st_mtim.tv_sec);
	/* Where there was some it stays. */
	cr_assert_eq(flag(0, (struct flag_change){ .set = 8 }), 0);
	set_times(1000, st.st_mtim.tv_sec);
	box->touch_due = 1;
	cr_assert_eq(box->ops->touch(box), 0);
	cr_expect_eq(times().st_atim.tv_sec, 1000);
	end();
}

TEST(mbxwrite, mtime_in_the_future_never_goes_back)
{
	const int64_t future = time(NULL) + 1000;

	begin_two();
	scan();
	set_times(1000, future);
	cr_assert_eq(flag(0, (struct flag_change){ .set = 4 }), 0);
	cr_expect_eq(times().st_mtim.tv_sec, future);
	box->touch_due = 1;
	cr_assert_eq(box->ops->touch(box), 0);
	cr_expect_eq(times().st_mtim.tv_sec, future + 1);
	end();
}

TEST(mbxwrite, uids_alone_leave_mtime)
{
	begin();
	header(4);
	add(0, 0, "aaaaa");
	open_box();
	set_times(1000, 2000);
	cr_assert_eq(box->ops->assign(box), 0);
	cr_expect_eq(times().st_mtim.tv_sec, 2000);
	cr_expect_eq(times().st_mtim.tv_nsec, 5);
	cr_expect_eq(box->touch_due, 0);
	end();
}

/* What UW does after a change in the same second, and the same tick. */
TEST(mbxwrite, a_stamp_of_our_own_does_not_survive_others)
{
	struct stamp own, other;
	struct stat st;

	begin_two();
	scan();
	cr_assert_eq(box->ops->begin(box), 0);
	cr_assert_eq(flag(0, (struct flag_change){ .set = 4 }), 0);
	box->ops->end(box, &own);
	st = times();
	cr_expect(stamp_is_own(&own));
	cr_assert_eq(box->ops->stamp(box, &other), 0);
	cr_expect(stamp_equal(&own, &other));
	set_times(st.st_atim.tv_sec, st.st_mtim.tv_sec);
	cr_assert_eq(box->ops->stamp(box, &other), 0);
	cr_expect_not(stamp_is_own(&other));
	cr_expect_not(stamp_equal(&own, &other));
	/* The second touch has to leave one as well. */
	box->touch_due = 1;
	cr_assert_eq(box->ops->begin(box), 0);
	cr_assert_eq(box->ops->touch(box), 0);
	box->ops->end(box, &own);
	cr_expect(stamp_is_own(&own));
	cr_expect_eq(times().st_mtim.tv_sec, st.st_mtim.tv_sec + 1);
	/* Who wrote nothing changes nothing. */
	set_times(1000, 2000);
	cr_assert_eq(box->ops->begin(box), 0);
	box->ops->end(box, &own);
	cr_expect_eq(own.mtime_ns, 2000000000005);
	end();
}

TEST(mbxwrite, sync_is_for_what_was_written)
{
	begin_two();
	scan();
	cr_expect_eq(box->ops->sync(box), 0, "nothing to do");
	cr_assert_eq(flag(0, (struct flag_change){ .set = 4 }), 0);
	cr_expect_eq(box->ops->sync(box), 0);
	cr_expect_eq(box->ops->sync(box), 0);
	cr_expect_eq(atomic_load(&fsync_done), 1);
	end();
}

static void *sync_beside(void *arg)
{
	cr_expect_eq(box->ops->sync(box), 0);
	return arg;
}

/* Or who calls it would take for durable what is not yet. */
TEST(mbxwrite, sync_waits_for_another_one)
{
	pthread_t other;

	begin_two();
	scan();
	cr_assert_eq(flag(0, (struct flag_change){ .set = 4 }), 0);
	atomic_store(&fsync_pause_us, 300000);
	cr_assert_eq(pthread_create(&other, NULL, sync_beside, NULL), 0);
	while (atomic_load(&fsync_begun) == 0)
		(void)usleep(1000);
	cr_expect_eq(box->ops->sync(box), 0);
	cr_expect_eq(atomic_load(&fsync_done), 1);
	cr_assert_eq(pthread_join(other, NULL), 0);
	end();
}

/* ---- scans in slices ----------------------------------------------------- */

enum { MANY = 5000 }; /* more than are looked at under one lock */

static int raise_uidlast(const struct msg *m, const char *name, void *arg)
{
	unsigned *count = arg;

	(void)name;
	if (++*count == 1) { /* as somebody does who appends meanwhile */
		header(MANY + 7);
		add(MANY + 7, MSG_OLD, "later");
	}
	return m->uid == 0 ? -EIO : 0;
}

TEST(mbxwrite, a_scan_knows_the_uidlast_of_what_came_meanwhile)
{
	struct scan s = { .uidnext = 0 };
	unsigned count = 0;

	begin();
	header(MANY);
	for (uint32_t uid = 1; uid <= MANY; uid++)
		add(uid, MSG_OLD, "text");
	open_box();
	cr_assert_eq(box->ops->scan(box, &s, raise_uidlast, &count), 0);
	cr_expect_eq(count, MANY + 1);
	cr_expect_eq(s.damage.kind, DAMAGE_NONE, "%s", s.damage.text);
	cr_expect_eq(s.uidnext, MANY + 8);
	end();
}

static int reset_uidvalidity(const struct msg *m, const char *name, void *arg)
{
	unsigned *count = arg;

	(void)m;
	(void)name;
	if (++*count == 1)
		fixture_mbx_header(file(), 8, MANY, (char *)NULL);
	return 0;
}

TEST(mbxwrite, a_scan_across_a_reset_of_uidvalidity_is_stale)
{
	struct scan s = { .uidnext = 0 };
	unsigned count = 0;

	begin();
	header(MANY);
	for (uint32_t uid = 1; uid <= MANY; uid++)
		add(uid, MSG_OLD, "text");
	open_box();
	cr_expect_eq(box->ops->scan(box, &s, reset_uidvalidity, &count),
		     -ESTALE);
	end();
}
