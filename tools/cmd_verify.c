#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "compat/log.h"
#include "tools/cmd.h"
#include "tools/jobs.h"
#include "tools/spec.h"
#include "tools/verify.h"

/* As diff(1): what people test for is whether it is the same. */
enum { EXIT_SAME, EXIT_DIFFERENT, EXIT_TROUBLE };

struct args {
	struct names users, folders;
	const char *spec[2];
	const char *html;
	unsigned jobs;
	bool json, crlf;
};

static int complain(const char *what)
{
	(void)cmd_usage(&cmd_verify, what);
	return -EINVAL;
}

static int one_option(struct args *a, int opt)
{
	switch (opt) {
	case 'u':
		return names_add(&a->users, optarg);
	case 'F':
		return names_add(&a->folders, optarg);
	case 'H':
		a->html = optarg;
		return 0;
	case 'J':
		a->json = true;
		return 0;
	case 'C':
		a->crlf = true;
		return 0;
	case 'j':
		return jobs_parse(optarg, &a->jobs);
	default:
		return complain("unknown option, or one without its value");
	}
}

static int parse(int argc, char **argv, struct args *a)
{
	static const struct option options[] = {
		{ "user", required_argument, NULL, 'u' },
		{ "folder", required_argument, NULL, 'F' },
		{ "html", required_argument, NULL, 'H' },
		{ "json", no_argument, NULL, 'J' },
		{ "crlf", no_argument, NULL, 'C' },
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
		ret = one_option(a, opt);
	}
	if (ret == 0 && argc - optind != 2)
		ret = complain("two SPECs are needed");
	if (ret == 0) {
		a->spec[0] = argv[optind];
		a->spec[1] = argv[optind + 1];
	}
	return ret;
}

static int fits(const struct args *a, struct source *const side[2])
{
	bool many = side[0]->many || side[1]->many;

	if (!many && a->users.count > 0)
		return complain("--user needs a store of many users");
	if (side[0]->many != side[1]->many && a->users.count != 1)
		return complain("one side has many users, the other is one "
				"user's; say which with --user");
	return 0;
}

static struct report *make_report(const struct args *a,
				  struct source *const side[2], FILE *html)
{
	const struct source *const s[2] = { side[0], side[1] };
	struct report *r =
		a->json ? report_json(stdout, s) : report_text(stdout, s);

	return html ? report_tee(r, report_html(html, s)) : r;
}

static int compare(const struct args *a, struct source *const side[2],
		   FILE *html, enum report_result *result)
{
	struct verify v = { .side = { side[0], side[1] },
			    .users = &a->users,
			    .folders = &a->folders,
			    .jobs = a->jobs,
			    .crlf = a->crlf };
	int ret;

	v.report = make_report(a, side, html);
	if (!v.report)
		return -ENOMEM;
	ret = verify_run(&v, result);
	if (ret == 0 && v.report->err)
		ret = -EIO;
	v.report->ops->free(v.report);
	return ret;
}

static int with_page(const struct args *a, struct source *const side[2],
		     enum report_result *result)
{
	FILE *html = NULL;
	int ret = fits(a, side);

	if (ret == 0 && a->html) {
		html = fopen(a->html, "we");
		if (!html) {
			ret = -errno;
			log_err("verify: %s: %s", a->html,
				strerrordesc_np(-ret));
		}
	}
	if (ret == 0) {
		ret = compare(a, side, html, result);
		if (ret < 0 && ret != -ENOENT)
			log_err("verify: %s", source_why(ret));
	}
	if (html) {
		bool bad = ferror(html) != 0;

		if ((fclose(html) != 0 || bad) && ret == 0) {
			ret = -EIO;
			log_err("verify: %s: cannot be written", a->html);
		}
	}
	if (ret == 0 && (fflush(stdout) != 0 || ferror(stdout))) {
		ret = -EIO;
		log_err("verify: the report cannot be written");
	}
	return ret;
}

static int run(int argc, char **argv)
{
	struct args a = { .jobs = jobs_default() };
	struct source *side[2] = { NULL, NULL };
	enum report_result result = REPORT_TROUBLE;
	int ret = parse(argc, argv, &a);

	for (int i = 0; ret == 0 && i < 2; i++)
		ret = spec_open(a.spec[i], &side[i]);
	if (ret == 0)
		ret = with_page(&a, side, &result);
	for (int i = 0; i < 2; i++)
		if (side[i])
			side[i]->ops->free(side[i]);
	names_fini(&a.users);
	names_fini(&a.folders);
	if (ret < 0)
		return EXIT_TROUBLE;
	return result == REPORT_SAME	     ? EXIT_SAME
		: result == REPORT_DIFFERENT ? EXIT_DIFFERENT
					     : EXIT_TROUBLE;
}

const struct cmd cmd_verify = {
	.name = "verify",
	.run = run,
	.summary = "compare two stores, message by message",
	.usage =
		"[OPTION...] A B\n\n"
		"A and B are each one of\n" SPEC_HELP "\n"
		"options:\n"
		"  --user USER      only this one; may be given several times\n"
		"  --folder FOLDER  only this one, levels joined by dots\n"
		"  --crlf           bare LF instead of CR LF is no difference\n"
		"  --json           one JSON document instead of text\n"
		"  --html FILE      also write a page for a browser\n"
		"  --jobs N         threads (default: the processors)\n\n"
		"Exit status: 0 the same, 1 different, 2 trouble: something "
		"could not be\nread, or is damaged.\n\n"
		"examples:\n"
		"  janusmail verify mbx:/home/anna/INBOX \\\n"
		"      view:/srv/mail/anna\n"
		"  janusmail verify \\\n"
		"      mbx:inbox=/home/%u/INBOX,folders=/home/%u/mail \\\n"
		"      view:/srv/mail --html report.html\n"
		"  janusmail verify manifest:old-host.txt "
		"manifest:new-host.txt\n",
};
