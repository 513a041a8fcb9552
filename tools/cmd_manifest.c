#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <sysexits.h>

#include "compat/log.h"
#include "tools/cmd.h"
#include "tools/jobs.h"
#include "tools/manifester.h"
#include "tools/spec.h"

struct args {
	struct names users;
	unsigned jobs;
	const char *spec;
};

static int complain(const char *what)
{
	(void)cmd_usage(&cmd_manifest, what);
	return -EINVAL;
}

static int parse(int argc, char **argv, struct args *a)
{
	static const struct option options[] = {
		{ "user", required_argument, NULL, 'u' },
		{ "jobs", required_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	int opt, ret = 0;

	opterr = 0;
	while (ret == 0) {
		/* NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread yet */
		opt = getopt_long(argc, argv, "u:j:", options, NULL);
		if (opt == -1)
			break;
		if (opt == 'u')
			ret = names_add(&a->users, optarg);
		else if (opt == 'j')
			ret = jobs_parse(optarg, &a->jobs);
		else
			ret = complain("unknown option, or one without its "
				       "value");
	}
	if (ret == 0 && argc - optind != 1)
		ret = complain("one SPEC is needed");
	if (ret == 0)
		a->spec = argv[optind];
	return ret;
}

static int run(int argc, char **argv)
{
	struct args a = { .jobs = jobs_default() };
	char root[DIGEST_HEX + 1];
	struct source *s = NULL;
	int ret = parse(argc, argv, &a);

	if (ret == 0)
		ret = spec_open(a.spec, &s);
	if (ret == 0 && a.users.count > 0 && !s->many)
		ret = complain("--user needs a store of many users");
	else if (ret == 0)
		ret = manifester_run(stdout, s, &a.users, a.jobs, root);
	if (ret < 0 && ret != -EBADMSG && ret != -EINVAL && ret != -ENOENT)
		log_err("manifest: %s", source_why(ret));
	if (s)
		s->ops->free(s);
	names_fini(&a.users);
	if (ret == 0 && (fflush(stdout) != 0 || ferror(stdout))) {
		log_err("manifest: it cannot be written");
		return EX_IOERR;
	}
	return cmd_exit_status(ret);
}

const struct cmd cmd_manifest = {
	.name = "manifest",
	.run = run,
	.summary = "write one line a message, with hashes over all of it",
	.usage = "[--user USER]... [--jobs N] SPEC\n\n"
		 "SPEC is one of\n" SPEC_HELP "\n"
		 "The manifest goes to standard output; see "
		 "janusmail-manifest(5).\n\n"
		 "examples:\n"
		 "  janusmail manifest mbx:/home/anna/mail >anna.txt\n"
		 "  janusmail manifest \\\n"
		 "      mbx:inbox=/home/%u/INBOX,folders=/home/%u/mail "
		 ">all.txt\n"
		 "  janusmail verify manifest:all.txt view:/srv/mail\n"
		 "  tail -1 all.txt      # one hash over everything\n",
};
