/*
 * locktime.h - for how long we have kept UW's parse locks.
 *
 * While we have one, UW's sessions and deliveries to that mailbox wait. So it
 * is counted how often that was, and how long.
 *
 * Threads: all functions are safe. The numbers are of the whole process.
 */
#pragma once

#include <stdint.h>

struct locktime {
	uint64_t count;
	/* Microseconds. Half of them, or 99 of 100, took at most that long; up
	 * to a fifth too much, since they are counted in classes. */
	int64_t median_us, most_us, longest_us;
};

/** locktime_note - a lock was kept for @us */
void locktime_note(int64_t us);
/** locktime_get - what there was since the program began */
struct locktime locktime_get(void);
