#include "compat/subscriptions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fixture.h"

TEST(subscriptions, lines_of_mailboxlist_are_told_apart)
{
	static const struct {
		const char *line, *prefix;
		enum subscription_kind kind;
		const char *name;
	} rows[] = {
		{ "INBOX", "mail", SUBSCRIPTION_INBOX, "INBOX" },
		{ "inbox", "", SUBSCRIPTION_INBOX, "inbox" },
		{ "Sent", "mail", SUBSCRIPTION_FOLDER, "Sent" },
		{ "mail/Sent", "mail", SUBSCRIPTION_FOLDER, "Sent" },
		{ "~/mail/Sent", "mail", SUBSCRIPTION_FOLDER, "Sent" },
		{ "~/Sent", "mail", SUBSCRIPTION_FOLDER, "Sent" },
		{ "~//mail//a/b", "mail", SUBSCRIPTION_FOLDER, "a/b" },
		{ "mail/INBOX", "mail", SUBSCRIPTION_FOLDER, "INBOX" },
		{ "mail/mail/x", "mail", SUBSCRIPTION_FOLDER, "mail/x" },
		{ "mailing/x", "mail", SUBSCRIPTION_FOLDER, "mailing/x" },
		{ "mail", "mail", SUBSCRIPTION_FOLDER, "mail" },
		{ "mail/", "mail", SUBSCRIPTION_FOLDER, "" },
		{ "lists/", "mail", SUBSCRIPTION_FOLDER, "lists" },
		{ "mail/Sent", "", SUBSCRIPTION_FOLDER, "mail/Sent" },
		{ "a/b/c", "a/b", SUBSCRIPTION_FOLDER, "c" },
		{ "", "mail", SUBSCRIPTION_FOLDER, "" },
		{ "a..b/..c", "mail", SUBSCRIPTION_FOLDER, "a..b/..c" },
		{ "{host}INBOX", "mail", SUBSCRIPTION_REMOTE, "{host}INBOX" },
		{ "#mh/x", "mail", SUBSCRIPTION_NAMESPACE, "#mh/x" },
		{ "~ann/x", "mail", SUBSCRIPTION_NAMESPACE, "~ann/x" },
		{ "/etc/passwd", "mail", SUBSCRIPTION_NAMESPACE,
		  "/etc/passwd" },
		{ "../x", "mail", SUBSCRIPTION_NAMESPACE, "../x" },
		{ "mail/../x", "mail", SUBSCRIPTION_NAMESPACE, "mail/../x" },
		{ "a/..", "mail", SUBSCRIPTION_NAMESPACE, "a/.." },
	};
	const char *name;
	size_t i, len;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		cr_expect_eq(subscription_classify(rows[i].line,
						   strlen(rows[i].line),
						   rows[i].prefix, &name, &len),
			     rows[i].kind, "row %zu", i);
		cr_expect_eq(len, strlen(rows[i].name), "row %zu", i);
		cr_expect_eq(strncmp(name, rows[i].name, len), 0, "row %zu", i);
	}
}

TEST(subscriptions, octets_behind_the_line_are_not_looked_at)
{
	const char *name;
	size_t len;

	cr_expect_eq(subscription_classify("mail/x", 4, "mail", &name, &len),
		     SUBSCRIPTION_FOLDER);
	cr_expect_eq(len, 4);
	cr_expect_eq(subscription_classify("INBOXES", 5, "mail", &name, &len),
		     SUBSCRIPTION_INBOX);
}

struct text {
	char buf[400];
	int stop_at;
};

static int collect(const char *dir, void *arg)
{
	struct text *t = arg;
	size_t len = strlen(t->buf);

	(void)snprintf(t->buf + len, sizeof(t->buf) - len, "[%s]", dir);
	return --t->stop_at == 0 ? 7 : 0;
}

static void expect_dirs(const char *text, const char *want)
{
	struct text t = { .buf = "" };

	cr_assert_eq(subscription_parse(text, strlen(text), collect, &t), 0);
	cr_expect_str_eq(t.buf, want, "%s", t.buf);
}

TEST(subscriptions, both_versions_are_read)
{
	expect_dirs("V\t2\n\nINBOX\na\tb\nlists\t2012\\2eq1\n",
		    "[][.a.b][.lists.2012\\2eq1]");
	expect_dirs("INBOX\na.b\ninbox\nINBOX.x\n", "[][.a.b][][.INBOX.x]");
	expect_dirs("V\t2\n\n", "");
	expect_dirs("", "");
	expect_dirs("V\t2\n\nlast", "[.last]");
	expect_dirs("last", "[.last]");
}

TEST(subscriptions, escapes_are_undone_in_version_2_only)
{
	expect_dirs("V\t2\n\na\1tb\1rc\1nd\1"
		    "1e\n",
		    "[.a\tb\rc\nd\1e]");
	expect_dirs("a\1tb\n", "[.a\1tb]");
	expect_dirs("V\t2\n\na\1x\nb\1", "[.ax][.b\1]");
}

TEST(subscriptions, lines_that_can_name_no_directory_are_left_out)
{
	char text[300] = "V\t2\n\n";

	expect_dirs("V\t2\n\n\n\t\na\t\tb\n\ta\na\t\na/b\na\1"
		    "0b\nok\n",
		    "[.ok]");
	memset(text + 5, 'x', 255);
	expect_dirs(text, "");
	text[5 + 254] = '\0';
	cr_expect_eq(strlen(text), 5 + 254);
	{
		struct text t = { .stop_at = 1 };

		cr_expect_eq(subscription_parse(text, strlen(text), collect,
						&t),
			     7);
		cr_expect_eq(strlen(t.buf), 2 + 255);
	}
}

TEST(subscriptions, another_version_is_refused_and_the_callback_heeded)
{
	struct text t = { .stop_at = 2 };

	cr_expect_eq(subscription_parse("V\t3\n\na\n", 7, collect, &t),
		     -EBADMSG);
	cr_expect_str_eq(t.buf, "");
	cr_expect_eq(subscription_parse("a\nb\nc\n", 6, collect, &t), 7);
	cr_expect_str_eq(t.buf, "[.a][.b]");
}

TEST(subscriptions, what_is_written_is_version_2)
{
	static const char *const dirs[] = { "", ".a.b", ".x\ty\r\n\1" };
	char *text;
	size_t len, i;
	FILE *f = open_memstream(&text, &len);

	subscription_write_header(f);
	for (i = 0; i < ARRAY_LEN(dirs); i++)
		subscription_write(f, dirs[i]);
	cr_assert_eq(fclose(f), 0);
	cr_expect_str_eq(text,
			 "V\t2\n\nINBOX\na\tb\n"
			 "x\1ty\1r\1n\1"
			 "1\n");
	expect_dirs(text, "[][.a.b][.x\ty\r\n\1]");
	free(text);
}

TEST(subscriptions, the_list_of_uw_is_read_whole_or_not_at_all)
{
	struct pattern p;
	char *got = NULL;
	size_t len = 0;

	fixture_write(fixture_path("list"), "INBOX\nmail/a\n", 13);
	cr_assert_eq(pattern_init(&p, fixture_path("list")), 0);
	cr_assert_eq(subscription_read_list(&p, "", &got, &len), 0);
	cr_expect_eq(len, 13);
	cr_expect_str_eq(got, "INBOX\nmail/a\n");
	free(got);
	fixture_remove(fixture_path("list"));
	cr_expect_eq(subscription_read_list(&p, "", &got, &len), -ENOENT);
	cr_assert_eq(mkdir(fixture_path("list"), 0700), 0);
	cr_expect_eq(subscription_read_list(&p, "", &got, &len), -ENOTSUP);
	pattern_fini(&p);
}

static int is_b(const char *dir, void *arg)
{
	(void)arg;
	return strcmp(dir, ".b") == 0;
}

TEST(subscriptions, what_is_left_out_changes_no_other_line)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "a\nb\nc", "a\nc\n" },
		{ "V\t2\n\nb\nx\1t\ty\nb\tc\n", "V\t2\n\nx\1t\ty\nb\tc\n" },
		{ "V\t2\n\nb\n", "V\t2\n\n" },
		{ "b/c\n\n..\nb\n", "b/c\n\n..\n" },
		{ "", "" },
	};
	char *out;
	size_t len;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		FILE *f = open_memstream(&out, &len);

		cr_assert_not_null(f);
		cr_expect_eq(subscription_filter(rows[i].text,
						 strlen(rows[i].text), is_b,
						 NULL, f),
			     0);
		(void)fclose(f);
		cr_expect_str_eq(out, rows[i].want);
		free(out);
	}
	cr_expect_eq(subscription_filter("V\t3\n\na\n", 7, is_b, NULL, stderr),
		     -EBADMSG);
}
