#include "compat/mbxrec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"

#define LINE "01-Jan-2012 10:00:00 +0100,5;000000000001-00000007\r\n"

static int parse_n(const char *text, size_t len, struct mbx_record *out,
		   struct mbx_fault *fault)
{
	return mbx_record_parse((const uint8_t *)text, len, out, fault);
}

static int parse(const char *text, struct mbx_record *out)
{
	return parse_n(text, strlen(text), out, NULL);
}

static void put(void *at, const char *text)
{
	memcpy(at, text, strlen(text));
}

/* A header whose keyword lines are the @len octets at @lines. */
static void build(uint8_t *head, const char *lines, size_t len)
{
	memset(head, 0, MBX_HEADER_SIZE);
	(void)stpcpy((char *)head, "*mbx*\r\n4b0A00ff000000Fe\r\n");
	memcpy(head + 25, lines, len);
}

static struct mbx_header parse_lines(const char *lines, size_t len)
{
	uint8_t head[MBX_HEADER_SIZE];
	struct mbx_header h;

	build(head, lines, len);
	cr_assert_eq(mbx_header_parse(head, sizeof(head), &h, NULL), 0);
	return h;
}

TEST(mbxrec, reads_every_field_of_a_record_line)
{
	static const char line[] =
		"01-Jan-2012 10:00:00 +0100,1234567890123;80aBcDeF8F3f-FfFFfFf0"
		"\r\n";
	struct mbx_record r;

	cr_assert_eq(parse_n(line, 64, &r, NULL), 0);
	cr_assert_eq(r.line, 64);
	cr_assert_eq(r.date_len, 26);
	cr_assert(r.date_ok);
	cr_assert_eq(r.date, 1325408400);
	cr_assert_eq(r.size, 1234567890123);
	cr_assert_eq(r.keywords, 0x80abcdef);
	cr_assert_eq(r.flags, 0x8f3f);
	cr_assert_eq(r.uid, 0xfffffff0);
}

TEST(mbxrec, reads_a_record_with_a_short_date)
{
	struct mbx_record r;

	cr_assert_eq(parse("1-Jan-12,7;000000000000-00000000\r\nX: y", &r), 0);
	cr_assert_eq(r.line, 34);
	cr_assert_eq(r.date_len, 8);
	cr_assert_eq(r.date, 1325376000);
	cr_assert_eq(r.uid, 0);
}

TEST(mbxrec, serves_a_record_whose_date_c_client_refuses)
{
	struct mbx_record r;

	cr_assert_eq(parse("32-Jan-2012,7;000000000000-00000009\r\n", &r), 0);
	cr_assert_not(r.date_ok);
	cr_assert_eq(r.date, 0);
	cr_assert_eq(r.date_len, 11);
	cr_assert_eq(r.uid, 9);
	cr_assert_eq(parse(",7;000000000000-00000009\r\n", &r), 0);
	cr_assert_not(r.date_ok);
}

TEST(mbxrec, rejects_a_size_of_zero)
{
	struct mbx_record r;

	cr_assert_eq(parse("1-Jan-2012,0;000000000000-00000001\r\n", &r),
		     -EBADMSG);
	cr_assert_eq(parse("1-Jan-2012,00;000000000000-00000001\r\n", &r),
		     -EBADMSG);
}

TEST(mbxrec, rejects_a_size_that_is_not_a_plain_number)
{
	static const char *const sizes[] = {
		"",   "5x",  " 5",  "5 ",  "+5",
		"-5", "0x5", "5,5", "5.0", "10000000000000",
		"x",
	};
	struct mbx_record r;
	char line[80];
	size_t i;

	for (i = 0; i < ARRAY_LEN(sizes); i++) {
		(void)snprintf(line, sizeof(line),
			       "1-Jan-2012,%s;000000000000-00000001\r\n",
			       sizes[i]);
		cr_expect_eq(parse(line, &r), -EBADMSG, "%s", sizes[i]);
	}
	cr_expect_eq(parse("1-Jan-2012,0000000000005;000000000000-00000001\r\n",
			   &r),
		     0);
	cr_expect_eq(r.size, 5);
	cr_expect_eq(parse("1-Jan-2012,9999999999999;000000000000-00000001\r\n",
			   &r),
		     0);
	cr_expect_eq(r.size, 9999999999999);
}

TEST(mbxrec, asks_for_more_octets_until_the_line_is_complete)
{
	struct mbx_record r;
	size_t len;

	for (len = 0; len < sizeof(LINE) - 1; len++)
		cr_assert_eq(parse_n(LINE, len, &r, NULL), -EAGAIN, "%zu", len);
	cr_assert_eq(parse_n(LINE, len, &r, NULL), 0);
}

TEST(mbxrec, finds_a_line_only_within_64_octets)
{
	char buf[80];
	struct mbx_record r;

	memset(buf, 'x', sizeof(buf));
	cr_assert_eq(parse_n(buf, 63, &r, NULL), -EAGAIN);
	cr_assert_eq(parse_n(buf, 64, &r, NULL), -EBADMSG);
	/* 40 octets of blanks before a date do not harm it... */
	memset(buf, ' ', sizeof(buf));
	put(buf + 19, "20120101,1;000000000000-00000001\r\n");
	cr_assert_eq(parse_n(buf, sizeof(buf), &r, NULL), 0);
	/* ...until the LF is the 65th octet. */
	memset(buf, ' ', sizeof(buf));
	put(buf + 31, "20120101,1;000000000000-00000001\r\n");
	cr_assert_eq(parse_n(buf, sizeof(buf), &r, NULL), -EBADMSG);
	put(buf + 30, "20120101,1;000000000000-00000001\r\n");
	cr_assert_eq(parse_n(buf, sizeof(buf), &r, NULL), 0);
	cr_assert_eq(r.line, 64);
}

TEST(mbxrec, says_where_and_why_a_line_is_bad)
{
	static const struct {
		const char *line;
		size_t off;
	} rows[] = {
		{ "no comma;000000000000-00000001\r\n", 0 },
		{ "a;000000000000-00000001,5\r\n", 24 },
		{ "1-Jan-2012,5;00000000000-00000001\r\n", 13 },
		{ "1-Jan-2012,5;0000000000000-00000001\r\n", 13 },
		{ "1-Jan-2012,5;00000000000g-00000001\r\n", 13 },
		{ "1-Jan-2012,5;000000000000+00000001\r\n", 13 },
		{ "1-Jan-2012,5;000000000000-0000001\r\n", 13 },
		{ "1-Jan-2012,5;000000000000-000000001\r\n", 13 },
		{ "1-Jan-2012,5;000000000000-0000000x\r\n", 13 },
		{ "1-Jan-2012,5;000000000000-00000001 \r\n", 13 },
		{ "1-Jan-2012,5;1;000000000000-00000001\r\n", 13 },
		{ "1-Jan-2012,0;000000000000-00000001\r\n", 11 },
		{ "1-Jan-2012\r5;000000000000-00000001\r\n", 10 },
	};
	struct mbx_fault fault;
	struct mbx_record r;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		memset(&fault, 0, sizeof(fault));
		cr_expect_eq(parse_n(rows[i].line, strlen(rows[i].line), &r,
				     &fault),
			     -EBADMSG, "row %zu", i);
		cr_expect_eq(fault.off, rows[i].off, "row %zu: %d", i,
			     (int)fault.off);
		cr_expect_not_null(fault.want, "row %zu", i);
	}
}

TEST(mbxrec, rejects_at_once_what_more_octets_cannot_mend)
{
	struct mbx_fault fault;
	struct mbx_record r;

	cr_assert_eq(parse_n("01-J\0n", 6, &r, &fault), -EBADMSG);
	cr_assert_eq(fault.off, 4);
	cr_assert_eq(parse_n("01-J\rn", 6, &r, &fault), -EBADMSG);
	cr_assert_eq(parse_n("01-J\r", 5, &r, &fault), -EAGAIN);
}

TEST(mbxrec, leaves_the_result_alone_when_it_fails)
{
	struct mbx_record r = { .size = 77, .flags = 77, .uid = 77 };

	cr_assert_eq(parse("1-Jan-2012,0;000000000000-00000001\r\n", &r),
		     -EBADMSG);
	cr_assert_eq(mbx_field_parse((const uint8_t *)";0000000000012-0000000"
						      "1\r",
				     &r),
		     -EBADMSG);
	cr_assert(r.size == 77 && r.flags == 77 && r.uid == 77 && !r.line);
}

TEST(mbxrec, writes_a_record_line_as_uw_does)
{
	struct mbx_record r = { .date = 1325408400,
				.size = 1234,
				.keywords = 0x80000001,
				.flags = 0x8011,
				.uid = 0xab };
	uint8_t out[MBX_LINE_MAX];
	static const char want[] =
		" 1-Jan-2012 09:00:00 +0000,1234;800000018011-000000ab\r\n";

	cr_assert_eq(mbx_record_format(&r, out), (ptrdiff_t)strlen(want));
	cr_assert_arr_eq(out, want, strlen(want));
	r.size = 9999999999999;
	cr_assert_eq(mbx_record_format(&r, out), MBX_LINE_MAX);
}

TEST(mbxrec, writes_no_record_that_would_close_the_mailbox_to_uw)
{
	struct mbx_record r = { .size = 0 };
	uint8_t out[MBX_LINE_MAX];

	cr_assert_eq(mbx_record_format(&r, out), -EINVAL);
	r.size = 10000000000000;
	cr_assert_eq(mbx_record_format(&r, out), -EINVAL);
}

TEST(mbxrec, reads_back_the_records_it_writes)
{
	static const struct mbx_record rows[] = {
		{ .size = 1 },
		{ .size = 9999999999999,
		  .date = 4039372799,
		  .keywords = UINT32_MAX,
		  .flags = 0xffff,
		  .uid = UINT32_MAX },
		{ .size = 42, .date = 1330473600, .flags = 0x30, .uid = 7 },
	};
	uint8_t line[MBX_LINE_MAX];
	struct mbx_record r;
	ptrdiff_t len;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		len = mbx_record_format(&rows[i], line);
		cr_assert_gt(len, 0);
		cr_assert_eq(mbx_record_parse(line, (size_t)len, &r, NULL), 0);
		cr_assert(r.line == len && r.date_len == MBX_DATE_LEN &&
			  r.date_ok && r.date == rows[i].date &&
			  r.size == rows[i].size &&
			  r.keywords == rows[i].keywords &&
			  r.flags == rows[i].flags && r.uid == rows[i].uid);
	}
}

TEST(mbxrec, reads_the_field_before_the_text_again)
{
	struct mbx_record r = { .size = 77, .date = 5 };
	const uint8_t *end = (const uint8_t *)LINE + strlen(LINE);

	cr_assert_eq(mbx_field_parse(end - 24, &r), 0);
	cr_assert(r.flags == 1 && r.keywords == 0 && r.uid == 7);
	cr_assert(r.size == 77 && r.date == 5);
	cr_assert_eq(mbx_field_parse(end - 25, &r), -EBADMSG);
	cr_assert_eq(mbx_field_parse(
			     (const uint8_t *)";000000000001-00000007\n\r", &r),
		     -EBADMSG);
}

TEST(mbxrec, reads_a_header)
{
	struct mbx_header h = parse_lines("one\r\nTwo\r\n\r\nno\r\n", 16);

	cr_assert_eq(h.uidvalidity, 0x4b0a00ff);
	cr_assert_eq(h.uidlast, 0xfe);
	cr_assert_eq(h.keyword_lines, 2);
	cr_assert_str_eq(h.keywords.name[0], "one");
	cr_assert_str_eq(h.keywords.name[1], "Two");
	cr_assert_str_eq(h.keywords.name[2], "");
	cr_assert_not(h.has_pid);
}

TEST(mbxrec, says_where_a_header_is_bad)
{
	static const struct {
		size_t off;
		char octet;
		size_t want;
	} rows[] = {
		{ 0, 'x', 0 },	 { 5, '\n', 0 },  { 6, '\r', 0 },
		{ 7, 'g', 7 },	 { 14, ' ', 7 },  { 15, '\0', 15 },
		{ 22, 'x', 15 }, { 23, ' ', 23 }, { 24, '\r', 23 },
	};
	uint8_t head[MBX_HEADER_SIZE];
	struct mbx_header h;
	struct mbx_fault fault;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		build(head, "\r\n", 2);
		head[rows[i].off] = (uint8_t)rows[i].octet;
		cr_expect_eq(mbx_header_parse(head, sizeof(head), &h, &fault),
			     -EBADMSG, "row %zu", i);
		cr_expect_eq(fault.off, rows[i].want, "row %zu", i);
	}
	build(head, "\r\n", 2);
	cr_expect_eq(mbx_header_parse(head, 2047, &h, &fault), -EBADMSG);
	cr_expect_eq(fault.off, 2047);
	cr_expect_eq(mbx_header_parse(head, 2048, &h, &fault), 0);
}

TEST(mbxrec, leaves_a_slot_unnamed_whose_line_is_too_long)
{
	static const char a50[] =
		"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee";
	char lines[128];
	struct mbx_header h;
	int n = snprintf(lines, sizeof(lines), "%s\r\n%sx\r\nz\r\n", a50, a50);

	h = parse_lines(lines, (size_t)n);
	cr_assert_eq(h.keyword_lines, 3);
	cr_assert_str_eq(h.keywords.name[0], a50);
	cr_assert_str_eq(h.keywords.name[1], "");
	cr_assert_str_eq(h.keywords.name[2], "z");
}

TEST(mbxrec, ends_the_keywords_where_c_client_does)
{
	struct mbx_header h;
	char many[32 * 4 + 1] = "";
	unsigned i;

	h = parse_lines("a\r\nb", 4);
	cr_assert_eq(h.keyword_lines, 1, "no CR before the NULs");
	h = parse_lines("a\r\nb\0c\r\nd\r\n", 11);
	cr_assert_eq(h.keyword_lines, 1, "a NUL in a name");
	h = parse_lines("a\r\nb\nc\r\nd\r\n", 11);
	cr_assert_eq(h.keyword_lines, 3, "a LF does not end a line");
	cr_assert_str_eq(h.keywords.name[1], "b\nc");
	h = parse_lines("a\r\0b\r\nc\r\n", 9);
	cr_assert_eq(h.keyword_lines, 3, "what follows a CR is skipped");
	cr_assert_str_eq(h.keywords.name[1], "b");
	for (i = 0; i < 32; i++)
		(void)snprintf(many + (size_t)i * 4, 5, "%02u\r\n", i % 100);
	h = parse_lines(many, strlen(many));
	cr_assert_eq(h.keyword_lines, 30);
	cr_assert_str_eq(h.keywords.name[29], "29");
	cr_assert_str_eq(h.keywords.name[30], "");
}

TEST(mbxrec, stays_within_the_header_when_a_cr_is_its_last_octet)
{
	uint8_t head[MBX_HEADER_SIZE];
	struct mbx_header h;

	memset(head, 'q', sizeof(head));
	put(head, "*mbx*\r\n0000000100000001\r\n");
	head[MBX_HEADER_SIZE - 1] = '\r';
	cr_assert_eq(mbx_header_parse(head, sizeof(head), &h, NULL), 0);
	cr_assert_eq(h.keyword_lines, 1);
	cr_assert_str_eq(h.keywords.name[0], "");
}

TEST(mbxrec, reads_the_last_writer_only_when_the_field_is_whole)
{
	uint8_t head[MBX_HEADER_SIZE];
	struct mbx_header h;

	build(head, "\r\n", 2);
	put(head + 2038, "0000aBcD\r\n");
	cr_assert_eq(mbx_header_parse(head, sizeof(head), &h, NULL), 0);
	cr_assert(h.has_pid);
	cr_assert_eq(h.pid, 0xabcd);
	head[2045] = 'x';
	cr_assert_eq(mbx_header_parse(head, sizeof(head), &h, NULL), 0);
	cr_assert_not(h.has_pid);
	put(head + 2038, "0000abcd\r\r");
	cr_assert_eq(mbx_header_parse(head, sizeof(head), &h, NULL), 0);
	cr_assert_not(h.has_pid);
}

TEST(mbxrec, writes_a_header_as_uw_does)
{
	struct mbx_header h = { .uidvalidity = 0x4b0a00ff, .uidlast = 0x2a };
	uint8_t out[MBX_HEADER_SIZE], want[MBX_HEADER_SIZE] = { 0 };
	char *at = (char *)want;
	int i;

	(void)stpcpy(h.keywords.name[0], "one");
	(void)stpcpy(h.keywords.name[1], "$Two");
	at = stpcpy(at, "*mbx*\r\n4b0a00ff0000002a\r\none\r\n$Two\r\n");
	for (i = 2; i < 30; i++)
		at = stpcpy(at, "\r\n");
	cr_assert_eq(mbx_header_format(&h, out), 0);
	cr_assert_arr_eq(out, want, sizeof(want));
	h.has_pid = true;
	h.pid = 0x1f;
	put(want + 2038, "0000001f\r\n");
	cr_assert_eq(mbx_header_format(&h, out), 0);
	cr_assert_arr_eq(out, want, sizeof(want));
}

TEST(mbxrec, reads_back_a_full_table_of_the_longest_keywords)
{
	struct mbx_header h = { .uidvalidity = 1, .has_pid = true, .pid = 9 };
	struct mbx_header back;
	uint8_t out[MBX_HEADER_SIZE];
	int i;

	for (i = 0; i < MBX_KEYWORDS; i++) {
		memset(h.keywords.name[i], 'a' + i % 26, MBX_KEYWORD_MAX);
		h.keywords.name[i][MBX_KEYWORD_MAX] = '\0';
	}
	h.keyword_lines = MBX_KEYWORDS;
	cr_assert_eq(mbx_header_format(&h, out), 0);
	cr_assert_eq(mbx_header_parse(out, sizeof(out), &back, NULL), 0);
	cr_assert_eq(back.keyword_lines, MBX_KEYWORDS);
	cr_assert(back.uidvalidity == 1 && back.has_pid && back.pid == 9);
	for (i = 0; i < KEYWORD_SLOTS; i++)
		cr_assert_str_eq(back.keywords.name[i], h.keywords.name[i]);
}

TEST(mbxrec, writes_no_keyword_that_would_not_be_read_back)
{
	struct mbx_header h = { .uidvalidity = 1 };
	uint8_t out[MBX_HEADER_SIZE];

	(void)stpcpy(h.keywords.name[1], "after-a-gap");
	cr_assert_eq(mbx_header_format(&h, out), -EINVAL);
	(void)stpcpy(h.keywords.name[0], "a\rb");
	cr_assert_eq(mbx_header_format(&h, out), -EINVAL);
	memset(h.keywords.name[0], 'x', 51);
	cr_assert_eq(mbx_header_format(&h, out), -EINVAL);
	h.keywords.name[0][50] = '\0';
	cr_assert_eq(mbx_header_format(&h, out), 0);
}

TEST(mbxrec, writes_no_keyword_beyond_30)
{
	struct mbx_header h = { .uidvalidity = 1 };
	uint8_t out[MBX_HEADER_SIZE];
	unsigned i;

	for (i = 0; i < 30; i++)
		(void)snprintf(h.keywords.name[i], 8, "k%u", i % 100);
	cr_assert_eq(mbx_header_format(&h, out), 0);
	(void)stpcpy(h.keywords.name[30], "k30");
	cr_assert_eq(mbx_header_format(&h, out), -EINVAL);
}

TEST(mbxrec, accepts_the_new_keywords_that_c_client_accepts)
{
	static const char specials[] = "*%\"\\(){]";
	char name[3] = "a";
	char longest[52];
	int c;

	for (c = 1; c < 256; c++) {
		name[1] = (char)c;
		cr_expect_eq(mbx_keyword_valid(name),
			     c >= 0x21 && c <= 0x7e && !strchr(specials, c),
			     "octet %d", c);
	}
	cr_expect_not(mbx_keyword_valid(""));
	memset(longest, 'k', sizeof(longest));
	longest[51] = '\0';
	cr_expect_not(mbx_keyword_valid(longest));
	longest[50] = '\0';
	cr_expect(mbx_keyword_valid(longest));
}

TEST(mbxrec, knows_mail_files_by_their_first_octets)
{
	static const struct {
		const char *text;
		enum mbx_kind kind;
	} rows[] = {
		{ "", MBX_IS_EMPTY },
		{ "*mbx*\r\n", MBX_IS_DAMAGED },
		{ "*mbx", MBX_IS_OTHER },
		{ "From a@b Mon Jan  2 10:00:00 2012\n\n", MBX_IS_MBOX },
		{ "\r\n \n\nFrom a Mon Jan 12 10:00 2012\n", MBX_IS_MBOX },
		{ "From a Mon Jan  2 10:00:00 CET 2012\n", MBX_IS_MBOX },
		{ "From a Mon Jan  2 10:00:00 2012 CET\n", MBX_IS_MBOX },
		{ "From a Mon Jan  2 10:00:00 +0100 2012\n", MBX_IS_MBOX },
		{ "From a Mon Jan  2 10:00:00 2012 +0100\r\n", MBX_IS_MBOX },
		{ "From a Mon Jan  2 10:00:00 2012 remote from b\n",
		  MBX_IS_MBOX },
		{ "  From a Mon Jan  2 10:00:00 2012\n", MBX_IS_OTHER },
		{ "From a Mon Jan  2 10:00:00 2012", MBX_IS_OTHER },
		{ "From a Mon Jan  2 10:00:00\n", MBX_IS_OTHER },
		{ "From me to you\n\nhello\n", MBX_IS_OTHER },
		{ "From \n", MBX_IS_OTHER },
		{ "x\nFrom a Mon Jan  2 10:00:00 2012\n", MBX_IS_OTHER },
		{ "\1\1\1\1\nX: y\n", MBX_IS_MMDF },
		{ "\1\1\1\nX: y\n", MBX_IS_OTHER },
		{ "01-Jan-2012 10:00:00 +0100,7;000000000001\r\nX: y",
		  MBX_IS_MTX },
		{ " 1-Jan-2012 10:00:00-PST,7;000000000001\nX: y",
		  MBX_IS_TENEX },
		{ "01-Jan-2012,7;000000000001 and more\nX: y", MBX_IS_OTHER },
		{ "01-Jan-2012 10:00:00\r +0100,7;000000000001\n",
		  MBX_IS_OTHER },
		{ "01-Jan-2012 10:00:00 +0100 7;000000000001\n", MBX_IS_OTHER },
		{ "\n", MBX_IS_OTHER },
		{ "\x89PNG\r\n\x1a\n", MBX_IS_OTHER },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++)
		cr_expect_eq(mbx_sniff((const uint8_t *)rows[i].text,
				       strlen(rows[i].text)),
			     rows[i].kind, "row %zu", i);
}

TEST(mbxrec, knows_an_mbx_only_by_a_whole_header)
{
	uint8_t head[MBX_HEADER_SIZE];

	build(head, "\r\n", 2);
	cr_assert_eq(mbx_sniff(head, sizeof(head)), MBX_IS_MBX);
	cr_assert_eq(mbx_sniff(head, sizeof(head) - 1), MBX_IS_DAMAGED);
	head[24] = ' ';
	cr_assert_eq(mbx_sniff(head, sizeof(head)), MBX_IS_DAMAGED);
}

TEST(mbxrec, has_a_different_word_for_every_kind_of_file)
{
	enum mbx_kind a, b;

	for (a = MBX_IS_MBX; a <= MBX_IS_OTHER; a++) {
		for (b = MBX_IS_MBX; b < a; b++)
			cr_expect_str_neq(mbx_kind_name(a), mbx_kind_name(b));
	}
	cr_expect_str_eq(mbx_kind_name(MBX_IS_MBX), "MBX");
	cr_expect_str_eq(mbx_kind_name(MBX_IS_MBOX), "unix mbox");
}
