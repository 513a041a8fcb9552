#include "compat/pace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "compat/clock.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/text.h"

enum {
	SECOND_US = 1000000,
	SLICE_US = 50000, /* how soon pausing and ending is noticed */
	LOOK_US = SECOND_US,
};

void pace_init(struct pace *p, uint64_t rate, unsigned max_load)
{
	*p = (struct pace){ .rate = rate, .max_load = max_load };
	(void)pthread_mutex_init(&p->lock, NULL);
}

void pace_fini(struct pace *p)
{
	(void)pthread_mutex_destroy(&p->lock);
}

/* "0.42 ..." as hundredths; 0 when it cannot be told. */
static unsigned load_now(void)
{
	char text[64];
	const uint8_t *q = (const uint8_t *)text;
	AUTO_FD int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : io_read_at(fd, text, sizeof(text), 0);
	uint64_t whole, part;

	if (n <= 0 || text_number(&q, q + n, 100000, &whole) < 0 ||
	    *q++ != '.' ||
	    text_number(&q, (const uint8_t *)text + n, 99, &part) < 0)
		return 0;
	return (unsigned)(whole * 100 + part);
}

/* With the lock. */
static bool is_busy(struct pace *p)
{
	int64_t now = clock_us();

	if (p->max_load == 0)
		return false;
	if (p->looked_us == 0 || now - p->looked_us >= LOOK_US) {
		p->looked_us = now;
		p->busy = load_now() > p->max_load;
	}
	return p->busy;
}

/* When these octets will have been taken; nothing is saved up. */
static int64_t reserve(struct pace *p, uint64_t octets)
{
	int64_t now = clock_us();

	if (p->next_us < now)
		p->next_us = now;
	if (p->rate > 0)
		p->next_us +=
			(int64_t)((double)octets * SECOND_US / (double)p->rate);
	return p->next_us;
}

static bool must_wait(struct pace *p, int64_t until)
{
	bool busy;

	if (atomic_load(&p->paused) || clock_us() < until)
		return true;
	(void)pthread_mutex_lock(&p->lock);
	busy = is_busy(p);
	(void)pthread_mutex_unlock(&p->lock);
	return busy;
}

int pace_take(struct pace *p, uint64_t octets)
{
	int64_t until;

	(void)pthread_mutex_lock(&p->lock);
	until = reserve(p, octets);
	(void)pthread_mutex_unlock(&p->lock);
	while (!atomic_load(&p->cancelled) && must_wait(p, until)) {
		int64_t left = until - clock_us();

		clock_nap_us(left > 0 && left < SLICE_US ? left : SLICE_US);
	}
	return atomic_load(&p->cancelled) ? -ECANCELED : 0;
}

void pace_idle_io(void)
{
	if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
		    IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0)) < 0)
		log_trace(LOG_STORE, "no idle class for our input and output");
}
