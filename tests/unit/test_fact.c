#include "compat/fact.h"

#include <errno.h>
#include <string.h>

#include "compat/text.h"
#include "fixture.h"

TEST(fact, flags_read_as_they_are_written)
{
	char text[FACT_FLAGS_MAX + 1];

	for (uint32_t flags = 0; flags < 64; flags++) {
		uint32_t got = UINT32_MAX;

		fact_flags(flags, text);
		cr_assert_eq(fact_flags_parse(text, &got), 0, "%s", text);
		cr_assert_eq(got, flags & MSG_SYSTEM, "%s", text);
	}
}

TEST(fact, flags_have_one_text_only)
{
	static const char *const bad[] = { "",	 "SD", "SS", "X", "s",
					   "-S", "a",  "S,", " ", "DFRSTD" };
	uint32_t got;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		cr_assert_eq(fact_flags_parse(bad[i], &got), -EBADMSG, "%s",
			     bad[i]);
}

TEST(fact, dates_read_as_they_are_written)
{
	static const int64_t dates[] = { 0,
					 -1,
					 1349614831,
					 951782400, /* 29-Feb-2000 */
					 253402300800,
					 -62135596801,
					 -99999999999,
					 INT32_MIN,
					 INT64_MAX,
					 5000000000 };
	char text[FACT_DATE_MAX + 1];
	int64_t got;

	for (size_t i = 0; i < ARRAY_LEN(dates); i++) {
		fact_date(dates[i], text);
		cr_assert_eq(fact_date_parse(text, &got), 0, "%s", text);
		cr_assert_eq(got, dates[i], "%s", text);
	}
}

TEST(fact, dates_have_one_text_only)
{
	static const char *const bad[] = {
		"",
		"2012-10-07",
		"2012-10-07T13:00:31",
		"2012-10-07T13:00:31Zx",
		"2012-10-7T13:00:31Z",
		"02012-10-07T13:00:31Z",
		"2012-13-07T13:00:31Z",
		"2012-00-07T13:00:31Z",
		"2012-02-30T13:00:31Z",
		"2012-10-07T24:00:31Z",
		"2012-10-07T13:00:60Z",
		"-0000-10-07T13:00:31Z",
		"99999999999999999999-10-07T13:00:31Z",
	};
	int64_t got;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		cr_assert_eq(fact_date_parse(bad[i], &got), -EBADMSG, "%s",
			     bad[i]);
}

TEST(fact, names_read_as_they_are_written)
{
	static const struct {
		const char *dir, *text;
	} names[] = { { "", "INBOX" },
		      { ".INBOX", "\\x49NBOX" },
		      { ".a.b", "a.b" },
		      { ".with space", "with\\x20space" },
		      { ".new\nline", "new\\x0aline" } };
	char text[FACT_NAME_MAX + 1], dir[FOLDERNAME_MAX + 1];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		fact_name(names[i].dir, text);
		cr_assert_str_eq(text, names[i].text);
		cr_assert_eq(fact_name_parse(text, dir), 0, "%s", text);
		cr_assert_str_eq(dir, names[i].dir);
	}
}

TEST(fact, names_that_are_no_folder_are_refused)
{
	static const char *const bad[] = {
		"", ".a", "a/b", "a b", "a\\x", "a\\x00b", "\\x61", "a\\x2Fb"
	};
	char dir[FOLDERNAME_MAX + 1], longest[300];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		cr_assert_eq(fact_name_parse(bad[i], dir), -EBADMSG, "%s",
			     bad[i]);
	memset(longest, 'x', sizeof(longest));
	longest[254] = '\0';
	cr_assert_eq(fact_name_parse(longest, dir), 0);
	longest[254] = 'x';
	longest[255] = '\0';
	cr_assert_eq(fact_name_parse(longest, dir), -EBADMSG);
}

TEST(fact, a_keyword_that_reads_as_none_is_told_from_it)
{
	static const struct keywords k = { .name = { "-" } };
	char text[FACT_KEYWORDS_MAX + 1];

	fact_keywords(1, &k, text);
	cr_assert_str_eq(text, "\\x2d");
	fact_keywords(0, &k, text);
	cr_assert_str_eq(text, "-");
	fact_keywords(2, &k, text);
	cr_assert_str_eq(text, "-");
}
