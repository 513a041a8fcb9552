#include "compat/clock.h"

#include <errno.h>

#include "fixture.h"

static int64_t ns_of(struct timespec ts)
{
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

TEST(clock, a_moment_to_come_is_a_whole_timespec)
{
	for (int64_t ms = 0; ms < 3000; ms += 333) {
		int64_t before = clock_us() * 1000;
		struct timespec ts = clock_in_ms(ms);

		cr_assert_lt(ts.tv_nsec, 1000000000);
		cr_assert_geq(ns_of(ts), before + ms * 1000000);
		cr_assert_leq(ns_of(ts), (clock_us() + 1 + ms * 1000) * 1000);
	}
}

TEST(clock, below_zero_is_now)
{
	cr_assert_leq(ns_of(clock_in_ms(-5000)), (clock_us() + 1) * 1000);
	cr_assert_geq(ns_of(clock_in_ms(-5000)), clock_us() * 1000 - 1000000);
}

TEST(clock, a_nap_lasts)
{
	int64_t start = clock_us();

	clock_nap_us(0);
	clock_nap_us(-1);
	clock_nap_us(3000);
	cr_assert_geq(clock_us() - start, 3000);
}

static void *try_it(void *arg)
{
	pthread_mutex_t *m = arg;
	int64_t start = clock_ms();

	cr_expect_eq(clock_lock(m, 0), -EAGAIN);
	cr_expect_eq(clock_lock(m, 30), -EAGAIN);
	cr_expect_geq(clock_ms() - start, 29);
	return arg;
}

TEST(clock, a_lock_is_waited_for_so_long_and_no_longer)
{
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_t other;

	cr_assert_eq(clock_lock(&m, 0), 0);
	cr_assert_eq(pthread_create(&other, NULL, try_it, &m), 0);
	(void)pthread_join(other, NULL);
	(void)pthread_mutex_unlock(&m);
	cr_assert_eq(clock_lock(&m, 1000), 0);
	(void)pthread_mutex_unlock(&m);
}
