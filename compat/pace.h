/*
 * pace.h - work in the background that others should hardly notice: so many
 * octets a second, not while the machine is busy, paused and ended from
 * outside.
 *
 * Threads: all functions are safe; the rate is that of all who share a pace.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"

struct pace {
	uint64_t rate;	   /* octets a second; 0: any */
	unsigned max_load; /* hundredths; 0: any */
	atomic_bool paused, cancelled;
	pthread_mutex_t lock;
	int64_t next_us;   /* when what was taken so far may have been taken */
	int64_t looked_us; /* when the load was looked at */
	bool busy;	   /* it was too high then */
};

/** pace_init - @max_load: of the last minute, in hundredths */
void pace_init(struct pace *p, uint64_t rate, unsigned max_load);
void pace_fini(struct pace *p);

/** pace_take - so many octets were worked on; wait as long as that takes
 * Return: 0; -ECANCELED */
MUST_CHECK int pace_take(struct pace *p, uint64_t octets);

/** pace_idle_io - this thread reads and writes when nobody else does, where the
 * scheduler of the disk knows of that */
void pace_idle_io(void);
