#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "compat/mbxrec.h"
#include "fixture.h"

/* Every instant below was given by c-client itself (TZ=UTC). */
struct row {
	const char *text;
	int64_t date;
};

static int parse(const char *text, int64_t *out)
{
	return mbx_date_parse((const uint8_t *)text, strlen(text), out);
}

static void expect_rows(const struct row *rows, size_t n)
{
	int64_t date;
	size_t i;

	for (i = 0; i < n; i++) {
		date = -1;
		cr_expect_eq(parse(rows[i].text, &date), 0, "%s", rows[i].text);
		cr_expect_eq(date, rows[i].date, "%s: %lld", rows[i].text,
			     (long long)date);
	}
}

static void expect_refused(const char *const *texts, size_t n)
{
	int64_t date = 7;
	size_t i;

	for (i = 0; i < n; i++) {
		cr_expect_eq(parse(texts[i], &date), -EBADMSG, "%s", texts[i]);
		cr_expect_eq(date, 7, "%s", texts[i]);
	}
}

TEST(mbxdate, reads_what_uw_writes)
{
	static const struct row rows[] = {
		{ "01-Jan-2012 10:00:00 +0100", 1325408400 },
		{ " 1-Jan-2012 10:00:00 +0100", 1325408400 },
		{ "31-Dec-1999 23:59:59 -0830", 946715399 },
		{ "29-Feb-2000 12:00:00 +0545", 951804900 },
		{ "12-Oct-2097 01:02:03 +0000", 4032378123 },
		{ " 1-Jan-1970 00:00:00 +0000", 0 },
	};

	expect_rows(rows, ARRAY_LEN(rows));
}

TEST(mbxdate, reads_short_days_years_and_times)
{
	static const struct row rows[] = {
		{ "1-Jan-2012", 1325376000 },
		{ "1-Jan-2012 1:2", 1325379720 },
		{ "1-Jan-2012 1:2:3", 1325379723 },
		{ "1-Jan-12 10:00:00 +0100", 1325408400 },
		{ "1-Jan-0 0:0", 946684800 },
		{ "1-Jan-48 00:00:00 +0000", 2461449600 },
		{ "1-Jan-70 00:00:00 +0000", 0 },
		{ "1-Jan-102 00:00:00 +0000", 1009843200 },
		{ "1-jan-2012 23:59:60 +0000", 1325462400 },
		{ "1-JAN-2012 10:00 -0500", 1325430000 },
	};

	expect_rows(rows, ARRAY_LEN(rows));
}

TEST(mbxdate, reads_the_other_forms_of_a_date)
{
	static const struct row rows[] = {
		{ "Mon, 4 Jul 2011 12:13:14 EDT", 1309795994 },
		{ "4 July 2011 12:13:14 +0200", 1309774394 },
		{ "  4   Jul   2011   12:13:14   +0200", 1309774394 },
		{ "4-September-2011", 1315094400 },
		{ "07/04/2011", 1309737600 },
		{ "7/4/11", 1309737600 },
		{ "2011-07-04", 1309737600 },
		{ "11-7-4", 1309737600 },
		{ "20110704", 1309737600 },
		{ "  20110704", 1309737600 },
	};

	expect_rows(rows, ARRAY_LEN(rows));
}

TEST(mbxdate, reads_zones_by_number_name_and_letter)
{
	static const struct row rows[] = {
		{ "1-Jan-2012 10:00:00 +0100", 1325408400 },
		{ "1-Jan-2012 10:00:00 -0100", 1325415600 },
		{ "1-Jan-2012 10:00:00 0130", 1325406600 },
		{ "1-Jan-2012 10:00:00-PST", 1325440800 },
		{ "1-Jan-2012 10:00:00 PST", 1325440800 },
		{ "1-Jan-2012 10:00:00 PDT", 1325437200 },
		{ "1-Jan-2012 10:00:00 UT", 1325412000 },
		{ "1-Jan-2012 10:00:00 utc", 1325412000 },
		{ "1-Jan-2012 10:00:00 GMT", 1325412000 },
		{ "1-Jan-2012 10:00:00 MET", 1325408400 },
		{ "1-Jan-2012 10:00:00 EET", 1325404800 },
		{ "1-Jan-2012 10:00:00 JST", 1325379600 },
		{ "1-Jan-2012 10:00:00 ADT", 1325422800 },
		{ "1-Jan-2012 10:00:00 AST", 1325426400 },
		{ "1-Jan-2012 10:00:00 EDT", 1325426400 },
		{ "1-Jan-2012 10:00:00 EST", 1325430000 },
		{ "1-Jan-2012 10:00:00 CDT", 1325430000 },
		{ "1-Jan-2012 10:00:00 CST", 1325433600 },
		{ "1-Jan-2012 10:00:00 MDT", 1325433600 },
		{ "1-Jan-2012 10:00:00 MST", 1325437200 },
		{ "1-Jan-2012 10:00:00 YDT", 1325440800 },
		{ "1-Jan-2012 10:00:00 YST", 1325444400 },
		{ "1-Jan-2012 10:00:00 HST", 1325448000 },
		{ "1-Jan-2012 10:00:00 Z", 1325412000 },
		{ "1-Jan-2012 10:00:00 A", 1325408400 },
		{ "1-Jan-2012 10:00:00 I", 1325379600 },
		{ "1-Jan-2012 10:00:00 K", 1325376000 },
		{ "1-Jan-2012 10:00:00 M", 1325368800 },
		{ "1-Jan-2012 10:00:00 N", 1325415600 },
		{ "1-Jan-2012 10:00:00 R", 1325430000 },
		{ "1-Jan-2012 10:00:00 U", 1325440800 },
		{ "1-Jan-2012 10:00:00 Y", 1325455200 },
	};

	expect_rows(rows, ARRAY_LEN(rows));
}

TEST(mbxdate, takes_utc_for_no_zone_and_for_one_that_is_no_zone)
{
	static const struct row rows[] = {
		{ "1-Jan-2012 10:00:00", 1325412000 },
		{ "1-Jan-2012 10:00:00 ", 1325412000 },
		{ "1-Jan-2012 10:00:00 +", 1325412000 },
		{ "1-Jan-2012 10:00:00 +010", 1325412000 },
		{ "1-Jan-2012 10:00:00 +0160", 1325412000 },
		{ "1-Jan-2012 10:00:00 +1x00", 1325412000 },
		{ "1-Jan-2012 10:00:00+0100", 1325412000 },
		{ "1-Jan-2012 10:00:00 BST", 1325412000 },
		{ "1-Jan-2012 10:00:00 J", 1325412000 },
		{ "1-Jan-2012 10:00:00 GMTX", 1325412000 },
		{ "1-Jan-2012 10:00:00-", 1325412000 },
	};

	expect_rows(rows, ARRAY_LEN(rows));
}

TEST(mbxdate, lets_a_31st_of_february_run_into_march)
{
	static const struct row rows[] = {
		{ "31-Feb-2012 10:00:00 +0000", 1330682400 },
		{ "31-Feb-2011 10:00:00 +0000", 1299146400 },
		{ "30-Feb-2012", 1330560000 },
		{ "31-Apr-2012", 1335830400 },
		{ "31-Nov-2012", 1354320000 },
		{ "29-Feb-2001", 983404800 },
	};

	expect_rows(rows, ARRAY_LEN(rows));
}

TEST(mbxdate, follows_the_quirks_of_c_client)
{
	static const struct row rows[] = {
		{ "3-JB.-2012", 1325548800 },
		{ "1-Jan-2012 10:00:00 +1600", 1325412000 },
		{ "1-Jan-2012 10:00:00 +9959", 1325397660 },
		{ "-18446744073709551615-Jan-2012", 1325376000 },
		{ "1-Jan-2012 10:+5:00", 1325412300 },
		{ "20120000", 1325376000 },
		{ "20120500", 1335830400 },
		{ " 1-Jan-1970 00:00:00 +0100", 0 },
		{ "1-Jan-2012 10:00:00 +0100 (CET)", 1325408400 },
	};

	expect_rows(rows, ARRAY_LEN(rows));
}

TEST(mbxdate, refuses_what_c_client_refuses)
{
	static const char *const texts[] = {
		"",
		"x",
		" ",
		"0-Jan-2012",
		"32-Jan-2012",
		"1-Foo-2012",
		"1-Jan-",
		"1-Ja",
		"1-Jan-x",
		"1-Jan 2012",
		"1-Janu.-2012",
		"1-Jan-1969",
		"1-Jan-49",
		"1-Jan-999",
		"1-Jan-2098",
		"1-Jan-2012x",
		"1-Jan-2012-10:00",
		"1-Jan-2012 ",
		"1-Jan-2012 10",
		"1-Jan-2012 24:00",
		"1-Jan-2012 10:60",
		"1-Jan-2012 10:00:61",
		"1-Jan-2012 -1:00",
		"13/1/2012",
		"1/32/2012",
		"1/0/2012",
		"1/2/2012 10:00",
		"1/2",
		"1/2/",
		"2012-13-01",
		"2012-0-1",
		"2012-1-32",
		"2012-01-01 10:00",
		"19691231",
		"20980101",
		"20121301",
		"20120132",
		"99999999999999999999999",
		"Mon 4-Jul-2011",
		"1.Jan.2012",
	};

	expect_refused(texts, ARRAY_LEN(texts));
}

TEST(mbxdate, refuses_a_text_longer_than_the_buffer_of_c_client)
{
	char text[1100];
	int64_t date;

	memset(text, ' ', sizeof(text));
	(void)stpcpy(text + 1012, "20120229");
	cr_assert_eq(mbx_date_parse((uint8_t *)text, 1020, &date), 0);
	cr_assert_eq(date, 1330473600);
	memset(text, ' ', sizeof(text));
	(void)stpcpy(text + 1016, "20120229");
	cr_assert_eq(mbx_date_parse((uint8_t *)text, 1024, &date), -EBADMSG);
}

TEST(mbxdate, ends_at_the_length_and_at_a_nul)
{
	static const char text[] = "1-Jan-2012\0 10:00:00 +0000";
	int64_t date;

	cr_assert_eq(mbx_date_parse((const uint8_t *)text, sizeof(text) - 1,
				    &date),
		     0);
	cr_assert_eq(date, 1325376000);
	cr_assert_eq(mbx_date_parse((const uint8_t *)"1-Jan-20129", 10, &date),
		     0);
	cr_assert_eq(date, 1325376000);
	cr_assert_eq(mbx_date_parse((const uint8_t *)text, 0, &date), -EBADMSG);
}

TEST(mbxdate, writes_a_date_as_uw_writes_a_given_one)
{
	static const struct row rows[] = {
		{ " 1-Jan-1970 00:00:00 +0000", 0 },
		{ "29-Feb-2012 23:59:59 +0000", 1330559999 },
		{ " 9-Sep-2001 01:46:40 +0000", 1000000000 },
		{ "31-Dec-2097 23:59:59 +0000", 4039372799 },
		{ " 1-Jan-1970 00:00:00 +0000", -1 },
		{ " 1-Jan-1970 00:00:00 +0000", INT64_MIN },
		{ "31-Dec-2097 23:59:59 +0000", 4039372800 },
		{ "31-Dec-2097 23:59:59 +0000", INT64_MAX },
	};
	char out[MBX_DATE_LEN + 1];
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		mbx_date_format(rows[i].date, out);
		cr_expect_str_eq(out, rows[i].text);
	}
}

TEST(mbxdate, reads_back_every_date_it_writes)
{
	char out[MBX_DATE_LEN + 1];
	int64_t date, back;

	for (date = 0; date <= 4039372799; date += 86400 * 3 + 3607) {
		mbx_date_format(date, out);
		cr_assert_eq(strlen(out), MBX_DATE_LEN);
		cr_assert_eq(parse(out, &back), 0, "%s", out);
		cr_assert_eq(back, date, "%s", out);
	}
}
