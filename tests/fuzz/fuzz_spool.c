/*
 * The input as a spool: its messages lie one behind the other and cover it, and
 * a header only gets shorter.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "compat/msg.h"
#include "compat/spool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_header(const uint8_t *data, const struct spool_mail *m)
{
	uint8_t *out = malloc(m->body - m->head + 1);
	size_t n;

	assert(out);
	n = spool_header(data, m, out);
	assert(n <= m->body - m->head);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spool_mail m = { .end = 0 };
	size_t at = 0;

	while (spool_next(data, size, at, &m) == 0) {
		assert(m.start >= at && (at == 0 || m.start == at));
		assert(m.head > m.start && m.body >= m.head);
		assert(m.body + m.body_len <= m.end && m.end <= size);
		assert(m.end > at);
		assert((m.flags & ~(uint32_t)MSG_SYSTEM) == 0);
		assert(at == 0 || !m.is_pseudo);
		check_header(data, &m);
		at = m.end;
	}
	/* Only what the file begins with can be no message. */
	assert(at == 0 || at == size);
	return 0;
}
