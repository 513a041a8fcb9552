#include "tools/human.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

const char *human_count(uint64_t n, char out[HUMAN_MAX])
{
	char plain[HUMAN_MAX];
	size_t len, used = 0;

	(void)snprintf(plain, sizeof(plain), "%" PRIu64, n);
	len = strlen(plain);
	for (size_t i = 0; i < len; i++) {
		out[used++] = plain[i];
		if (i + 1 < len && (len - i - 1) % 3 == 0)
			out[used++] = ',';
	}
	out[used] = '\0';
	return out;
}

const char *human_things(uint64_t n, const char *thing, char out[HUMAN_MAX])
{
	size_t used = strlen(human_count(n, out));

	(void)snprintf(out + used, HUMAN_MAX - used, " %s%s", thing,
		       n == 1 ? "" : "s");
	return out;
}

const char *human_seconds(uint64_t s, char out[HUMAN_MAX])
{
	if (s < 3600)
		(void)snprintf(out, HUMAN_MAX, "%u:%02u", (unsigned)(s / 60),
			       (unsigned)(s % 60));
	else
		(void)snprintf(out, HUMAN_MAX, "%" PRIu64 ":%02u:%02u",
			       s / 3600, (unsigned)(s / 60 % 60),
			       (unsigned)(s % 60));
	return out;
}

const char *human_octets(uint64_t octets, char out[HUMAN_MAX])
{
	static const char units[] = "BkMGTPE";
	double value = (double)octets;
	size_t i = 0;

	while (value >= 1000 && i < sizeof(units) - 2) {
		value /= 1000;
		i++;
	}
	(void)snprintf(out, HUMAN_MAX,
		       value < 10 && i > 0 ? "%.1f %c%s" : "%.0f %c%s", value,
		       units[i], i > 0 ? "B" : "");
	return out;
}
