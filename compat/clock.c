#include "compat/clock.h"

#include <errno.h>

static struct timespec now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts;
}

int64_t clock_us(void)
{
	struct timespec ts = now();

	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_ms(void)
{
	return clock_us() / 1000;
}

struct timespec clock_in_ms(int64_t ms)
{
	struct timespec ts = now();

	if (ms <= 0)
		return ts;
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += (ms % 1000) * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	return ts;
}

void clock_nap_us(int64_t us)
{
	const struct timespec ts = { .tv_sec = us / 1000000,
				     .tv_nsec = us % 1000000 * 1000 };

	if (us > 0)
		(void)nanosleep(&ts, NULL);
}

int clock_lock(pthread_mutex_t *m, int64_t ms)
{
	struct timespec until;

	if (pthread_mutex_trylock(m) == 0)
		return 0;
	until = clock_in_ms(ms);
	return pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &until) == 0
		? 0
		: -EAGAIN;
}
