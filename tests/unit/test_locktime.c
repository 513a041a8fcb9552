#include "compat/locktime.h"

#include "fixture.h"

TEST(locktime, nothing_yet)
{
	struct locktime t = locktime_get();

	cr_assert_eq(t.count, 0);
	cr_assert_eq(t.median_us, 0);
	cr_assert_eq(t.longest_us, 0);
}

/* 1 to 1000 ms, in no order. */
TEST(locktime, half_and_nearly_all)
{
	struct locktime t;

	for (int i = 0; i < 1000; i++)
		locktime_note((int64_t)(i * 7 % 1000 + 1) * 1000);
	t = locktime_get();
	cr_assert_eq(t.count, 1000);
	cr_assert_eq(t.longest_us, 1000000);
	cr_assert(t.median_us >= 500000 && t.median_us <= 625000, "%jd",
		  (intmax_t)t.median_us);
	cr_assert(t.most_us >= 990000 && t.most_us <= 1000000, "%jd",
		  (intmax_t)t.most_us);
}

TEST(locktime, one_of_a_hundred_is_not_most)
{
	for (int i = 0; i < 99; i++)
		locktime_note(100);
	locktime_note(50000);
	cr_assert_lt(locktime_get().most_us, 130);
	cr_assert_eq(locktime_get().longest_us, 50000);
}

TEST(locktime, beyond_every_class)
{
	locktime_note(0);
	locktime_note(-1); /* no clock does that */
	locktime_note(INT64_MAX);
	cr_assert_eq(locktime_get().count, 3);
	cr_assert_eq(locktime_get().longest_us, INT64_MAX);
}
