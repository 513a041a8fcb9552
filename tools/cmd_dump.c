#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "compat/log.h"
#include "tools/cmd.h"
#include "tools/dumper.h"
#include "tools/source.h"
#include "tools/spec.h"

static int dump(const char *spec)
{
	struct source *s;
	int ret = spec_open(spec, &s);

	if (ret < 0)
		return ret;
	if (s->many) {
		log_err("dump: %s: has many users; give one user's, or make a "
			"manifest",
			spec);
		ret = -EINVAL;
	} else {
		ret = dumper_source(stdout, s);
		if (ret < 0 && ret != -EBADMSG)
			log_err("dump: %s: %s", spec, source_why(ret));
	}
	s->ops->free(s);
	return ret;
}

static int run(int argc, char **argv)
{
	int ret;

	if (argc != 2 || argv[1][0] == '-')
		return cmd_usage(&cmd_dump, "one SPEC is needed");
	ret = dump(argv[1]);
	if (fflush(stdout) != 0 || ferror(stdout))
		return EX_IOERR;
	return cmd_exit_status(ret);
}

const struct cmd cmd_dump = {
	.name = "dump",
	.run = run,
	.summary = "print a store as canonical text: equal text, equal mail",
	.usage = "SPEC\n\n"
		 "SPEC is one user's mail:\n"
		 "  mbx:PATH       an MBX mailbox, or a directory of them\n"
		 "  maildir:PATH   a Maildir++ root\n"
		 "  view:PATH      one user's root in a mounted view\n\n"
		 "examples:\n"
		 "  janusmail dump mbx:/home/anna/mail\n"
		 "  diff <(janusmail dump mbx:/home/anna/INBOX) \\\n"
		 "       <(janusmail dump view:/srv/mail/anna)\n",
};
