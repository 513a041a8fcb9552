#include "tools/spec.h"

#include <errno.h>
#include <string.h>

#include "compat/log.h"
#include "tools/source.h"

static const struct {
	const char *prefix;
	int (*open)(const char *spec, const char *arg, struct source **out);
} kinds[] = {
	{ "mbx:", source_mbx_new },
	{ "maildir:", source_maildir_new },
	{ "view:", source_view_new },
	{ "manifest:", source_manifest_new },
};

int spec_open(const char *spec, struct source **out)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		size_t len = strlen(kinds[i].prefix);

		if (strncmp(spec, kinds[i].prefix, len) == 0)
			return kinds[i].open(spec, spec + len, out);
	}
	log_err("%s: a SPEC starts with mbx:, maildir:, view: or manifest:",
		spec);
	return -EINVAL;
}
