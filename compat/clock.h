/*
 * clock.h - the clock that nobody sets, for waits and idle times.
 *
 * Threads: all functions are safe.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "compat/base.h"

/** clock_us - microseconds since some moment before the program began */
int64_t clock_us(void);
/** clock_ms - the same in milliseconds */
int64_t clock_ms(void);
/** clock_in_ms - the moment @ms from now, for calls that take CLOCK_MONOTONIC;
 * below 0: now */
struct timespec clock_in_ms(int64_t ms);
/** clock_nap_us - sleep; a signal may end it early; not above 0: not at all */
void clock_nap_us(int64_t us);
/** clock_lock - lock @m, waiting @ms at most. Return: 0; -EAGAIN */
MUST_CHECK int clock_lock(pthread_mutex_t *m, int64_t ms);
