#include "tools/literal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Every '%' twice, no '/' at the end. */
int literal_pattern(const char *path, struct pattern *out)
{
	AUTO_FREE char *real = realpath(path, NULL);
	AUTO_FREE char *text = NULL;
	char *p;

	if (!real)
		return -errno;
	text = malloc(2 * strlen(real) + 1);
	if (!text)
		return -ENOMEM;
	p = text;
	for (const char *c = real; *c; c++) {
		if (*c == '%')
			*p++ = '%';
		*p++ = *c;
	}
	*p = '\0';
	return pattern_init(out, text);
}
