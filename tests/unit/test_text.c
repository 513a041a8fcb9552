#include "compat/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fixture.h"

TEST(text, path_that_fits_exactly_is_built)
{
	char buf[6];

	cr_assert_eq(text_path(buf, sizeof(buf), "%s/%d", "abc", 7), 0);
	cr_assert_str_eq(buf, "abc/7");
}

TEST(text, path_one_octet_too_long_is_refused_and_leaves_nothing)
{
	char buf[5] = "old";

	cr_assert_eq(text_path(buf, sizeof(buf), "%s/%d", "abc", 7),
		     -ENAMETOOLONG);
	cr_assert_str_eq(buf, "");
	cr_assert_eq(text_path(NULL, 0, "x"), -ENAMETOOLONG);
}

TEST(text, utf8_is_recognised_as_rfc_3629_defines_it)
{
	static const struct {
		const char *in;
		bool good;
	} rows[] = {
		{ "", true },
		{ "plain", true },
		{ "\x7f", true },
		{ "\xc3\xa9", true },
		{ "\xe0\xa0\x80", true },
		{ "\xed\x9f\xbf", true },
		{ "\xf0\x90\x80\x80", true },
		{ "\xf4\x8f\xbf\xbf", true },
		{ "\x80", false },
		{ "\xc1\xbf", false },
		{ "\xc3", false },
		{ "\xc3x", false },
		{ "\xe0\x9f\xbf", false },
		{ "\xe2\x82", false },
		{ "\xe2\x82x", false },
		{ "\xed\xa0\x80", false },
		{ "\xf0\x8f\xbf\xbf", false },
		{ "\xf4\x90\x80\x80", false },
		{ "\xf5\x80\x80\x80", false },
		{ "a\xff", false },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++)
		cr_expect_eq(text_is_utf8(rows[i].in, strlen(rows[i].in)),
			     rows[i].good, "row %zu", i);
}

TEST(text, escape_makes_one_printable_word_and_unescape_undoes_it)
{
	static const struct {
		const char *in;
		size_t len;
		const char *out;
	} rows[] = {
		{ "", 0, "" },
		{ "INBOX.a~b", 9, "INBOX.a~b" },
		{ "a b", 3, "a\\x20b" },
		{ "a\0b", 3, "a\\x00b" },
		{ "\r\n\t\x7f", 4, "\\x0d\\x0a\\x09\\x7f" },
		{ "\\\"", 2, "\\x5c\\x22" },
		{ "\xc3\xa9\xe2\x82\xac", 5, "\xc3\xa9\xe2\x82\xac" },
		{ "\xe9t\xe9", 3, "\\xe9t\\xe9" },
		{ "\xe2\x82", 2, "\\xe2\\x82" },
		{ "\xc2\x9b\xc2\xa0", 4, "\\xc2\\x9b\xc2\xa0" },
	};
	char out[64], back[64];
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		cr_assert_str_eq(text_escape(rows[i].in, rows[i].len, out,
					     sizeof(out)),
				 rows[i].out);
		cr_assert_eq(text_unescape(out, back), (ptrdiff_t)rows[i].len,
			     "row %zu", i);
		cr_assert_arr_eq(back, rows[i].in, rows[i].len);
		cr_assert_eq(back[rows[i].len], '\0');
	}
}

TEST(text, escape_never_cuts_inside_an_escape_or_a_character)
{
	static const char in[] = "a \xc3\xa9z";
	static const char *const cut[] = {
		"",
		"a",
		"a",
		"a",
		"a",
		"a\\x20",
		"a\\x20",
		"a\\x20\xc3\xa9",
		"a\\x20\xc3\xa9z",
	};
	char out[16];
	size_t size;

	for (size = 1; size <= ARRAY_LEN(cut); size++) {
		memset(out, '#', sizeof(out));
		(void)text_escape(in, strlen(in), out, size);
		cr_assert_str_eq(out, cut[size - 1], "size %zu", size);
		cr_assert_eq(out[size], '#');
	}
	out[0] = '#';
	(void)text_escape(in, strlen(in), out, 0);
	cr_assert_eq(out[0], '#');
}

TEST(text, unescape_takes_either_case_and_refuses_a_lone_backslash)
{
	static const char *const bad[] = {
		"\\", "a\\", "\\x", "\\x2", "\\y20", "\\x2g", "\\\\",
	};
	char out[8];
	size_t i;

	cr_assert_eq(text_unescape("\\xE9\\xe9", out), 2);
	cr_assert_str_eq(out, "\xe9\xe9");
	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(text_unescape(bad[i], out), -EBADMSG, "%s",
			     bad[i]);
}

static int number(const char *s, uint64_t max, uint64_t *out, size_t *eaten)
{
	const uint8_t *start = (const uint8_t *)s;
	const uint8_t *p = start;
	int err = text_number(&p, start + strlen(s), max, out);

	*eaten = (size_t)(p - start);
	return err;
}

TEST(text, number_reads_digits_and_stops_after_them)
{
	uint64_t n = 1;
	size_t eaten;

	cr_assert_eq(number("0", 9, &n, &eaten), 0);
	cr_assert(n == 0 && eaten == 1);
	cr_assert_eq(number("0042x", 42, &n, &eaten), 0);
	cr_assert(n == 42 && eaten == 4);
	cr_assert_eq(number("18446744073709551615", UINT64_MAX, &n, &eaten), 0);
	cr_assert(n == UINT64_MAX && eaten == 20);
}

TEST(text, number_refuses_what_is_no_number_or_too_large)
{
	static const char *const bad[] = {
		"",
		"x1",
		" 1",
		"-1",
		"+1",
		"43",
		"18446744073709551616",
		"184467440737095516150",
	};
	uint64_t n = 7;
	size_t eaten, i;

	for (i = 0; i < ARRAY_LEN(bad); i++) {
		cr_expect_eq(number(bad[i], 42, &n, &eaten), -EBADMSG, "%s",
			     bad[i]);
		cr_expect(n == 7 && eaten == 0, "%s", bad[i]);
	}
	cr_expect_eq(number(bad[6], UINT64_MAX, &n, &eaten), -EBADMSG);
	cr_expect_eq(number(bad[7], UINT64_MAX, &n, &eaten), -EBADMSG);
}

TEST(text, number_does_not_look_beyond_the_end)
{
	const uint8_t digits[] = "123";
	const uint8_t *p = digits;
	uint64_t n;

	cr_assert_eq(text_number(&p, digits + 2, 99, &n), 0);
	cr_assert_eq(n, 12);
	cr_assert_eq(text_number(&p, p, 99, &n), -EBADMSG);
}

TEST(text, hex_reads_either_case_and_nothing_else)
{
	static const char *const bad[] = { "g0", "0g", " 1", "0x", "-1",
					   "`0", "@0", "/0", ":0", "\x11\x30" };
	uint64_t n = 0;
	size_t i;

	cr_assert_eq(text_hex((const uint8_t *)"0aBcDeF9zz", 8, &n), 0);
	cr_assert_eq(n, 0x0abcdef9);
	cr_assert_eq(text_hex((const uint8_t *)"ffffffffffffffff", 16, &n), 0);
	cr_assert_eq(n, UINT64_MAX);
	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(text_hex((const uint8_t *)bad[i], 2, &n), -EBADMSG,
			     "%s", bad[i]);
}

static void assert_same_as_gmtime(int64_t date)
{
	struct text_utc t;
	struct tm tm;
	time_t at = date;

	cr_assert_not_null(gmtime_r(&at, &tm));
	text_utc(date, &t);
	cr_assert(t.year == tm.tm_year + 1900LL &&
			  t.month == (unsigned)tm.tm_mon + 1 &&
			  t.day == (unsigned)tm.tm_mday &&
			  t.hour == (unsigned)tm.tm_hour &&
			  t.minute == (unsigned)tm.tm_min &&
			  t.second == (unsigned)tm.tm_sec,
		  "%lld", (long long)date);
	cr_assert_eq(text_days(t.year, t.month, t.day) * 86400 +
			     t.hour * 3600LL + t.minute * 60LL + t.second,
		     date, "%lld", (long long)date);
}

TEST(text, utc_agrees_with_the_c_library_and_days_is_its_inverse)
{
	int64_t step = 86400 * 11 + 40009;
	int64_t date;

	for (date = -step * 80000; date < step * 80000; date += step)
		assert_same_as_gmtime(date);
	for (date = -86401; date <= 86401; date += 1)
		assert_same_as_gmtime(date);
}

TEST(text, utc_takes_any_64_bits)
{
	struct text_utc t;

	text_utc(INT64_MIN, &t);
	cr_assert_eq(t.year, -292277022657);
	cr_assert(t.month == 1 && t.day == 27 && t.hour == 8 &&
		  t.minute == 29 && t.second == 52);
	text_utc(INT64_MAX, &t);
	cr_assert_eq(t.year, 292277026596);
	cr_assert(t.month == 12 && t.day == 4 && t.hour == 15 &&
		  t.minute == 30 && t.second == 7);
}

TEST(text, days_run_on_into_the_next_month)
{
	cr_assert_eq(text_days(2012, 2, 31), text_days(2012, 3, 2));
	cr_assert_eq(text_days(2011, 2, 31), text_days(2011, 3, 3));
	cr_assert_eq(text_days(1970, 1, 1), 0);
	cr_assert_eq(text_days(1969, 12, 31), -1);
}
