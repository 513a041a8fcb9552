#include "tools/spec.h"

#include <errno.h>
#include <string.h>

#include "compat/log.h"
#include "tools/source.h"

const char spec_help[] =
	"SPEC is one of\n"
	"  mbx:PATH       an MBX mailbox, or one user's directory of them\n"
	"  mbx:WORDS      many users: words as janusmaild's -o has them, e.g.\n"
	"                 mbx:inbox=/home/%u/INBOX,folders=/home/%u/mail\n"
	"  maildir:PATH   a Maildir++ root, or a directory of users' roots;\n"
	"                 PATH may have a %u\n"
	"  view:PATH      the same in a mount of janusmaild\n"
	"  manifest:FILE  a file that janusmail manifest made\n";

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
