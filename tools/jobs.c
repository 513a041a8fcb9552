#include "tools/jobs.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "compat/log.h"
#include "compat/text.h"

unsigned jobs_default(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	if (n < 1)
		return 1;
	return n > JOBS_MAX ? JOBS_MAX : (unsigned)n;
}

int jobs_parse(const char *text, unsigned *out)
{
	const uint8_t *p = (const uint8_t *)text, *end = p + strlen(text);
	uint64_t n;

	if (text_number(&p, end, JOBS_MAX, &n) < 0 || p != end || n == 0) {
		log_err("--jobs %s: write a number from 1 to %d", text,
			JOBS_MAX);
		return -EINVAL;
	}
	*out = (unsigned)n;
	return 0;
}
