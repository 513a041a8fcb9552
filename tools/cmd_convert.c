#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "compat/log.h"
#include "compat/text.h"
#include "tools/cmd.h"
#include "tools/convert_run.h"
#include "tools/convert_site.h"
#include "tools/jobs.h"

enum { LOAD_MAX = 10000 };

struct args {
	struct convert_how how;
	bool dry;
	const char *wrong; /* what is wrong with them; NULL */
};

/* A whole number with nothing behind it. */
static bool number(const char *text, uint64_t max, uint64_t *out)
{
	const uint8_t *p = (const uint8_t *)text;

	return text_number(&p, p + strlen(text), max, out) == 0 && *p == '\0';
}

/* Octets a second; k, m and g are kibi-, mebi- and gibioctets. */
static bool take_rate(const char *text, uint64_t *out)
{
	static const char letters[] = "kmg";
	const uint8_t *p = (const uint8_t *)text;
	const char *letter = NULL;
	unsigned shift = 0;

	if (text_number(&p, p + strlen(text), INT64_MAX >> 30, out) < 0)
		return false;
	if (*p) {
		letter = strchr(letters, *p++ | 0x20);
		if (!letter)
			return false;
		shift = 10 * (unsigned)(letter - letters + 1);
	}
	*out <<= shift;
	return *p == '\0' && *out > 0;
}

static void take_option(struct args *a, int c, const char *value)
{
	uint64_t n = 0;

	if (c == 'n')
		a->dry = true;
	else if (c == 'J')
		a->how.json = true;
	else if (c == 'j' && jobs_parse(value, &a->how.jobs) == 0)
		return;
	else if (c == 'r' && take_rate(value, &n))
		a->how.rate = n;
	else if (c == 'l' && number(value, LOAD_MAX, &n) && n > 0)
		a->how.max_load = (unsigned)n * 100;
	else if (c == 'u' || c == 'f')
		a->wrong = names_add(c == 'u' ? &a->how.users : &a->how.folders,
				     value) < 0
			? "out of memory"
			: a->wrong;
	else
		a->wrong = c == 'j' ? "--jobs takes a number from 1 to 64"
			: c == 'r'  ? "--limit-rate takes octets a second, "
				      "e.g. 20m"
			: c == 'l'  ? "--max-load takes a whole number above 0"
				    : "unknown option";
}

static int convert(const char *spec, const char *dir, const struct args *a)
{
	struct convert_site s;
	int ret = convert_site_open(&s, spec, dir, a->dry);

	ret = ret < 0 ? CONVERT_TROUBLE : convert_run(&s, &a->how);
	convert_site_close(&s);
	return ret;
}

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "dry-run", no_argument, NULL, 'n' },
		{ "json", no_argument, NULL, 'J' },
		{ "jobs", required_argument, NULL, 'j' },
		{ "limit-rate", required_argument, NULL, 'r' },
		{ "max-load", required_argument, NULL, 'l' },
		{ "user", required_argument, NULL, 'u' },
		{ "folder", required_argument, NULL, 'f' },
		{ NULL, 0, NULL, 0 },
	};
	struct args a = { .how = { .jobs = 1 } };
	int c, ret;

	opterr = 0;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread */
	while ((c = getopt_long(argc, argv, "nj:", options, NULL)) != -1)
		take_option(&a, c, optarg);
	names_sort(&a.how.users);
	names_sort(&a.how.folders);
	if (!a.wrong && argc - optind != 2)
		a.wrong = "SPEC and DIR are needed";
	if (!a.wrong && strncmp(argv[optind], "mbx:", 4) != 0)
		a.wrong = "SPEC starts with mbx:";
	if (a.wrong) {
		(void)cmd_usage(&cmd_convert, a.wrong);
		ret = CONVERT_TROUBLE;
	} else {
		ret = convert(argv[optind] + 4, argv[optind + 1], &a);
	}
	names_fini(&a.how.users);
	names_fini(&a.how.folders);
	return ret;
}

const struct cmd cmd_convert = {
	.name = "convert",
	.run = run,
	.summary = "copy MBX mailboxes into a Maildir++ tree, without a mount",
	.usage =
		"[OPTIONS] SPEC DIR\n\n"
		"SPEC is one of\n"
		"  mbx:PATH       an MBX mailbox, or a user's directory of "
		"them\n"
		"  mbx:WORDS      inbox=PATTERN,folders=PATTERN,... as "
		"janusmaild takes them;\n"
		"                 with %u in the patterns each user gets "
		"DIR/USER\n\n"
		"The mailboxes may be in use. May be interrupted at any "
		"moment: the next run goes\n"
		"on. Run again later, it brings what has changed since.\n\n"
		"  -n, --dry-run      only say what there is to convert\n"
		"  -j, --jobs N       N folders at the same time (default: 1)\n"
		"  --limit-rate RATE  octets a second, all jobs together: "
		"500k, 20m, 1g\n"
		"  --max-load LOAD    wait while the load average is above\n"
		"  --user USER        only this user; may be repeated\n"
		"  --folder FOLDER    only this folder (a.b, INBOX); may be "
		"repeated\n"
		"  --json             one JSON object a line: progress, "
		"findings, the sum\n\n"
		"Exit status: 0 all is there, 1 there are messages to look at, "
		"2 something is not\nfinished.\n\n"
		"examples:\n"
		"  janusmail convert --dry-run mbx:/home/anna/mail "
		"/srv/new/anna\n"
		"  janusmail convert --jobs 4 --limit-rate 50m \\\n"
		"    mbx:inbox=/home/%u/INBOX,folders=/home/%u/mail /srv/new\n",
};
