#include "compat/spool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "compat/msg.h"
#include "fixture.h"

#define FROM "From a@b Thu Jan  1 10:00:01 2004\n"

static int next(const char *text, size_t at, struct spool_mail *m)
{
	return spool_next((const uint8_t *)text, strlen(text), at, m);
}

/* The header as it is handed on, NUL-terminated. */
static const char *header(const char *text, const struct spool_mail *m)
{
	static char out[1000];
	size_t n = spool_header((const uint8_t *)text, m, (uint8_t *)out);

	out[n] = '\0';
	return out;
}

static bool begins(const char *line)
{
	struct spool_mail m;

	return next(line, 0, &m) == 0;
}

TEST(spool, a_line_with_a_date_begins_a_message)
{
	static const struct {
		const char *line;
		int64_t date;
		bool has_zone;
	} rows[] = {
		{ "From a Thu Jan  1 10:00 2004\n", 1072951200, false },
		{ "From a b c Thu Jan  1 10:00:01 2004\n", 1072951201, false },
		{ "From a Thu Jan  1 10:00 PST 2004\n", 1072980000, true },
		{ "From a Thu Jan  1 10:00:01 PST 2004\n", 1072980001, true },
		{ "From a Thu Jan  1 10:00 +0130 2004\n", 1072945800, true },
		{ "From a Thu Jan  1 10:00:01 -0130 2004\n", 1072956601, true },
		{ "From a Thu Jan  1 10:00 2004 PST\n", 1072980000, true },
		{ "From a Thu Jan  1 10:00 2004 -0130\n", 1072956600, true },
		{ "From a Thu Jan  1 10:00:01 2004\r\n", 1072951201, false },
		{ "From a Thu Jan  1 10:00 2004 remote from x\n", 1072951200,
		  false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct spool_mail m;

		cr_assert_eq(next(rows[i].line, 0, &m), 0, "%s", rows[i].line);
		cr_expect_eq(m.date, rows[i].date, "%s: %jd", rows[i].line,
			     (intmax_t)m.date);
		cr_expect_eq(m.has_zone, rows[i].has_zone, "%s", rows[i].line);
	}
}

TEST(spool, other_lines_do_not)
{
	static const char *const rows[] = {
		"From me to you, and many more words\n",
		">From a Thu Jan  1 10:00:01 2004\n",
		"From: a Thu Jan  1 10:00:01 2004\n",
		"from a Thu Jan  1 10:00:01 2004\n",
		"From a Thu Jan 1 10:00:01 2004\n",
		"From a Thu Jan  1 10.00.01 2004\n",
		"From a Thu Jan  1 10:00:01 2004",
		"From \n",
		"From  remote from\n",
		"From a@b.example.test aaaaaaaaaaaaaaaaa remote from x\n",
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		cr_expect_not(begins(rows[i]), "%s", rows[i]);
}

TEST(spool, a_date_that_is_none_is_1970)
{
	struct spool_mail m;

	cr_assert_eq(next("From x Xxx Yyy 99 00:00:00 2004\n", 0, &m), 0);
	cr_expect_eq(m.date, 0);
	cr_expect(m.has_zone);
}

TEST(spool, the_empty_line_before_the_next_message_is_nobodys)
{
	static const char text[] = "\n \n" FROM "A: 1\n\nbody\n\n" FROM
				   "B: 2\n\nmore\r\n\r\n" FROM "C: 3\n\nend";
	static const char *const bodies[] = { "body\n", "more\r\n", "end" };
	struct spool_mail m = { .end = 0 };

	for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
		cr_assert_eq(next(text, m.end, &m), 0);
		cr_expect_eq(m.body_len, strlen(bodies[i]));
		cr_expect_eq(memcmp(text + m.body, bodies[i], m.body_len), 0);
	}
	cr_expect_eq(m.end, strlen(text));
	cr_expect_eq(next(text, m.end, &m), -ENOENT);
}

TEST(spool, what_begins_with_anything_else_is_no_spool)
{
	static const char zeros[] = FROM "\0\0\0\0";
	struct spool_mail m;

	cr_expect_eq(next("", 0, &m), -ENOENT);
	cr_expect_eq(next("\n\n", 0, &m), -ENOENT);
	cr_expect_eq(next("text\n" FROM, 0, &m), -EBADMSG);
	cr_expect_eq(spool_next((const uint8_t *)zeros, sizeof(zeros),
				strlen(FROM), &m),
		     -EBADMSG);
}

TEST(spool, flags_are_kept_and_notes_are_not)
{
	static const char text[] =
		FROM "Status: RO\nSubject: x\n more\nX-Status: AFDT\n"
		     "X-Keywords: a\n b\n\tc\nX-UID: 7\nx-imapbase: 1 2\n"
		     "Status of things\nStatusbar: y\n\nStatus: D\n";
	struct spool_mail m;

	cr_assert_eq(next(text, 0, &m), 0);
	cr_expect_eq(m.flags, MSG_SYSTEM);
	cr_expect_str_eq(header(text, &m),
			 "Subject: x\n more\nStatusbar: y\n\n");
	cr_assert_eq(next(FROM "status: RO\n\nStatus: D\n", 0, &m), 0);
	cr_expect_eq(m.flags, 0);
}

TEST(spool, uws_own_message_is_known)
{
	static const char pseudo[] =
		FROM "X-IMAP: 1095425162 0000000005\n\nx\n";
	static const char *const others[] = {
		FROM "X-IMAPbase: 1095425162 5\n\n", FROM "X-IMAP: 0 5\n\n",
		FROM "X-IMAP: 1095425162\n\n",	     FROM "X-IMAP:\n\n",
		FROM "\nX-IMAP: 1095425162 5\n",
	};
	char second[200];
	struct spool_mail m;

	cr_assert_eq(next(pseudo, 0, &m), 0);
	cr_expect(m.is_pseudo);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		cr_assert_eq(next(others[i], 0, &m), 0);
		cr_expect_not(m.is_pseudo, "%s", others[i]);
	}
	(void)snprintf(second, sizeof(second), "%s%s", pseudo, pseudo);
	cr_assert_eq(next(second, strlen(pseudo), &m), 0);
	cr_expect_not(m.is_pseudo);
}

TEST(spool, a_header_without_an_end_has_no_body)
{
	struct spool_mail m;
	const char *text = FROM "A: 1\nB";

	cr_assert_eq(next(text, 0, &m), 0);
	cr_expect_eq(m.body, strlen(text));
	cr_expect_eq(m.body_len, 0);
	cr_expect_str_eq(header(text, &m), "A: 1\nB");
	cr_assert_eq(next(FROM, 0, &m), 0);
	cr_expect_str_eq(header(FROM, &m), "");
}
