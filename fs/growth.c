#include "fs/growth.h"

#include <stdbool.h>
#include <time.h>

#include "compat/clock.h"

enum {
	PAUSE_US = 50,
	SETTLE_US = 2000, /* until a writer has run again, mostly */
	WAIT_MAX_US = 8000,
};

void growth_write(struct growth *g)
{
	int64_t until = clock_us() + WAIT_MAX_US;

	while (atomic_load(&g->asking) > 0 && clock_us() < until)
		clock_nap_us(PAUSE_US);
	(void)atomic_fetch_add(&g->writing, 1);
}

void growth_written(struct growth *g, pid_t writer)
{
	atomic_store(&g->writer, writer);
	atomic_store(&g->grown_us, clock_us());
	(void)atomic_fetch_sub(&g->writing, 1);
}

/* Who wrote last has run again when he asks, and those before him had. 0 is
 * anybody in another PID namespace. */
static bool is_settled(struct growth *g, pid_t asker)
{
	return atomic_load(&g->writing) == 0 &&
		((asker != 0 && atomic_load(&g->writer) == asker) ||
		 clock_us() - atomic_load(&g->grown_us) >= SETTLE_US);
}

void growth_ask(struct growth *g, pid_t asker)
{
	int64_t until = clock_us() + WAIT_MAX_US;

	(void)atomic_fetch_add(&g->asking, 1);
	while (!is_settled(g, asker) && clock_us() < until)
		clock_nap_us(PAUSE_US);
}

void growth_asked(struct growth *g)
{
	(void)atomic_fetch_sub(&g->asking, 1);
}
