#include "compat/layout.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fixture.h"

struct parsed {
	struct layout l;
	char *single;
	char err[400];
	int ret;
};

static struct parsed parse(const char *text)
{
	struct parsed p;

	p.ret = layout_parse(&p.l, text, &p.single, p.err, sizeof(p.err));
	return p;
}

static void drop(struct parsed *p)
{
	layout_fini(&p->l);
	free(p->single);
}

/* A home with a mail directory, and one file. Return: its path */
static const char *make_home(const char *file)
{
	char path[PATH_MAX];

	cr_assert_eq(mkdir(fixture_path("mail"), 0700), 0);
	(void)snprintf(path, sizeof(path), "%s", fixture_path(file));
	fixture_write(path, "", 0);
	return fixture_dir();
}

TEST(layout, words_are_those_of_the_daemon)
{
	struct parsed p = parse("inbox=/tmp/%u/INBOX,inbox=/tmp/%u/mbox,"
				"folders=/tmp/%u/mail,dots=escape,"
				"owner=5000:5001,lockwait=7,lockdir=/run/x/");

	cr_assert_eq(p.ret, 0, "%s", p.err);
	cr_expect_null(p.single);
	cr_expect_eq(p.l.inbox_count, 2);
	cr_expect_str_eq(p.l.inbox[1].text, "/tmp/%u/mbox");
	cr_expect(p.l.has_folders && p.l.multi && p.l.has_owner);
	cr_expect_eq(p.l.owner_uid, 5000);
	cr_expect_eq(p.l.owner_gid, 5001);
	cr_expect_eq(p.l.lock_ms, 7000);
	cr_expect_eq(p.l.dots, DOTS_ESCAPE);
	cr_expect_str_eq(p.l.lockdir, "/run/x");
	cr_expect_str_eq(p.l.subscriptions.text, "/tmp/%u/.mailboxlist");
	cr_expect_str_eq(layout_prefix(&p.l.folders, &p.l.subscriptions),
			 "mail");
	cr_expect_eq(layout_place(&p.l, 1), &p.l.inbox[1]);
	cr_expect_eq(layout_place(&p.l, 2), &p.l.folders);
	cr_expect_null(layout_place(&p.l, 3));
	drop(&p);
}

TEST(layout, a_path_may_be_a_pattern)
{
	struct parsed p = parse("/tmp/%u/mail");

	cr_assert_eq(p.ret, 0, "%s", p.err);
	cr_expect(p.l.has_folders && p.l.multi);
	cr_expect_str_eq(p.l.folders.text, "/tmp/%u/mail");
	drop(&p);
}

TEST(layout, other_options_of_the_daemon_may_be_there)
{
	struct parsed p = parse("inbox=/tmp/%u/INBOX,mirror=off,store=/new,"
				"index=/x,watch=poll");

	cr_assert_eq(p.ret, 0, "%s", p.err);
	cr_expect_eq(p.l.inbox_count, 1);
	cr_expect_str_eq(p.l.store, "/new");
	drop(&p);
}

TEST(layout, what_was_not_said_is_filled_in)
{
	struct parsed p = parse("folders=/tmp/%u/mail");

	cr_assert_eq(p.ret, 0, "%s", p.err);
	cr_expect_eq(p.l.lock_ms, 10000);
	cr_expect_str_eq(p.l.lockdir, "/tmp");
	cr_expect_eq(p.l.dots, DOTS_UNDERSCORE);
	cr_expect_eq(layout_mbx(&p.l, 7, 8).owner, 7);
	cr_expect_eq(layout_mbx(&p.l, 7, 8).group, 8);
	drop(&p);
}

TEST(layout, a_comma_in_a_value_has_a_backslash)
{
	struct parsed p = parse("inbox=/tmp/a\\,b");

	cr_assert_eq(p.ret, 0, "%s", p.err);
	cr_expect_str_eq(p.l.inbox[0].text, "/tmp/a,b");
	cr_expect_not(p.l.multi);
	drop(&p);
}

TEST(layout, a_path_may_be_a_mailbox)
{
	struct parsed p;

	fixture_write(fixture_path("INBOX"), "", 0);
	p = parse(fixture_path("INBOX"));
	cr_assert_eq(p.ret, 0, "%s", p.err);
	cr_expect_null(p.single, "it is the INBOX");
	cr_expect_str_eq(p.l.inbox[0].text, fixture_path("INBOX"));
	drop(&p);
	fixture_write(fixture_path("old=x"), "", 0);
	p = parse(fixture_path("old=x"));
	cr_assert_eq(p.ret, 0, "%s", p.err);
	cr_expect_str_eq(p.single, "old=x");
	drop(&p);
}

TEST(layout, a_path_may_be_a_mail_directory)
{
	const char *home = make_home(".mailboxlist");
	struct parsed p = parse(fixture_path("mail"));

	cr_assert_eq(p.ret, 0, "%s", p.err);
	cr_expect(p.l.has_folders);
	cr_expect_eq(p.l.inbox_count, 0);
	cr_expect_str_eq(layout_prefix(&p.l.folders, &p.l.subscriptions),
			 "mail");
	drop(&p);
	/* The home itself has the list, and the mailboxes. */
	p = parse(home);
	cr_assert_eq(p.ret, 0, "%s", p.err);
	cr_expect(p.l.has_subscriptions);
	cr_expect_str_eq(layout_prefix(&p.l.folders, &p.l.subscriptions), "");
	drop(&p);
}

TEST(layout, says_what_is_wrong)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "No such file" },
		{ "/nonexistent/x", "No such file" },
		{ "foreground=1,inbox=/tmp/x", "none of inbox=" },
		{ "inbox", "No such file" },
		{ "inbox=/tmp/x,nonsense", "none of inbox=" },
		{ "inbox=x", "absolute path" },
		{ "inbox=/tmp/%u,folders=/tmp/mail", "no %u" },
		{ "folders=/tmp/%u/%u", "one %u" },
		{ "folders=/tmp/%u,folders=/tmp/%u/m", "given once" },
		{ "dots=escape", "inbox= or folders=" },
		{ "dots=no,inbox=/tmp/x", "underscore or escape" },
		{ "owner=root,inbox=/tmp/x", "numbers" },
		{ "lockwait=1d,inbox=/tmp/x", "whole seconds" },
		{ "lockdir=,inbox=/tmp/x", "needs a directory" },
		{ "inbox=/nonexistent/d/%u", "cannot be opened" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct parsed p = parse(cases[i].text);

		cr_expect_lt(p.ret, 0, "%s", cases[i].text);
		cr_expect(strstr(p.err, cases[i].says), "%s: %s", cases[i].text,
			  p.err);
		drop(&p);
	}
}
