#include "compat/locktime.h"

#include <stdatomic.h>
#include <stddef.h>

/* Classes: four for each power of two, from 1 microsecond to some minutes. */
enum { PER_OCTAVE = 4, CLASSES = 28 * PER_OCTAVE };

static struct {
	atomic_uint_fast64_t classes[CLASSES];
	_Atomic(int64_t) longest;
} times;

/* The end of a class: 1, 1.25, 1.5, 1.75, 2, 2.5, ... */
static int64_t end_of(unsigned class)
{
	int64_t octave = INT64_C(1) << (class / PER_OCTAVE);

	return octave + octave * (class % PER_OCTAVE) / PER_OCTAVE;
}

static unsigned class_of(int64_t us)
{
	unsigned class = 0;

	while (class < CLASSES - 1 && end_of(class) < us)
		class ++;
	return class;
}

void locktime_note(int64_t us)
{
	int64_t longest = atomic_load(&times.longest);

	(void)atomic_fetch_add(&times.classes[class_of(us)], 1);
	while (us > longest &&
	       !atomic_compare_exchange_weak(&times.longest, &longest, us))
		;
}

/* The end of the class in which the @n-th of @counts lies. */
static int64_t nth(const uint64_t *counts, uint64_t n, int64_t longest)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < CLASSES; i++) {
		sum += counts[i];
		if (sum >= n)
			return end_of(i) < longest ? end_of(i) : longest;
	}
	return longest;
}

struct locktime locktime_get(void)
{
	struct locktime out = { .longest_us = atomic_load(&times.longest) };
	uint64_t counts[CLASSES];

	for (size_t i = 0; i < CLASSES; i++) {
		counts[i] = atomic_load(&times.classes[i]);
		out.count += counts[i];
	}
	if (out.count == 0)
		return out;
	out.median_us = nth(counts, (out.count + 1) / 2, out.longest_us);
	out.most_us = nth(counts, out.count - out.count / 100, out.longest_us);
	return out;
}
