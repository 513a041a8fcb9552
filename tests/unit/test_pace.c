#include "compat/pace.h"

#include <errno.h>
#include <linux/ioprio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "compat/clock.h"
#include "fixture.h"

static int64_t took_ms(struct pace *p, uint64_t octets, unsigned times)
{
	int64_t start = clock_ms();

	for (unsigned i = 0; i < times; i++)
		cr_expect_eq(pace_take(p, octets), 0);
	return clock_ms() - start;
}

TEST(pace, a_rate_is_kept)
{
	struct pace p;
	int64_t ms;

	pace_init(&p, 1 << 20, 0);
	ms = took_ms(&p, 1 << 16, 8);
	cr_expect_geq(ms, 450, "half a second's worth in %jd ms", (intmax_t)ms);
	pace_fini(&p);
}

TEST(pace, nothing_is_saved_up)
{
	struct pace p;

	pace_init(&p, 1 << 20, 0);
	cr_expect_eq(pace_take(&p, 0), 0);
	clock_nap_us(300000);
	cr_expect_geq(took_ms(&p, 1 << 18, 1), 200);
	pace_fini(&p);
}

static void *let_go_on(void *arg)
{
	struct pace *p = arg;

	clock_nap_us(200000);
	atomic_store(&p->paused, false);
	return NULL;
}

TEST(pace, pausing_holds_it_up)
{
	struct pace p;
	pthread_t t;

	pace_init(&p, 0, 0);
	cr_expect_lt(took_ms(&p, 1 << 30, 1), 10000, "no rate, no wait");
	atomic_store(&p.paused, true);
	cr_assert_eq(pthread_create(&t, NULL, let_go_on, &p), 0);
	cr_expect_geq(took_ms(&p, 1, 1), 150);
	(void)pthread_join(t, NULL);
	pace_fini(&p);
}

static void *cancel(void *arg)
{
	struct pace *p = arg;

	clock_nap_us(50000);
	atomic_store(&p->cancelled, true);
	return NULL;
}

TEST(pace, cancelling_ends_a_wait)
{
	struct pace p;
	pthread_t t;

	pace_init(&p, 1, 0);
	cr_assert_eq(pthread_create(&t, NULL, cancel, &p), 0);
	/* Some 17 minutes. */
	cr_expect_eq(pace_take(&p, 1000), -ECANCELED);
	(void)pthread_join(t, NULL);
	pace_fini(&p);
}

TEST(pace, idle_is_what_the_kernel_is_told)
{
	pace_idle_io();
	cr_expect_eq(IOPRIO_PRIO_CLASS(
			     syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0)),
		     IOPRIO_CLASS_IDLE);
}
