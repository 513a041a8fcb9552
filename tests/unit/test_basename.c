#include "compat/basename.h"

#include <errno.h>
#include <string.h>

#include "fixture.h"

static int parse(const char *name, struct basename *out)
{
	return basename_parse(name, strlen(name), out);
}

TEST(basename, is_written_in_one_way_only)
{
	static const struct {
		struct basename b;
		const char *name;
	} rows[] = {
		{ { .uid = 7,
		    .uidvalidity = 0x4b000001,
		    .folder = 0x1f,
		    .date = 1325408400,
		    .size = 1234 },
		  "7.V4b000001F0000001fD4f002090.janusmail,S=1234" },
		{ { 0 }, "0.V00000000F00000000D00000000.janusmail,S=0" },
		{ { .uid = UINT32_MAX,
		    .uidvalidity = UINT32_MAX,
		    .folder = UINT32_MAX,
		    .date = -1,
		    .size = UINT64_MAX },
		  "4294967295.VffffffffFffffffffDffffffffffffffff.janusmail,"
		  "S=18446744073709551615" },
		{ { .uid = 1, .date = 0x100000000 },
		  "1.V00000000F00000000D100000000.janusmail,S=0" },
		{ { .uid = 1, .date = INT64_MIN },
		  "1.V00000000F00000000D8000000000000000.janusmail,S=0" },
	};
	char out[BASENAME_MAX + 1];
	struct basename b;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		basename_format(&rows[i].b, out);
		cr_assert_str_eq(out, rows[i].name);
		cr_assert_eq(parse(out, &b), 0, "row %zu", i);
		cr_assert(b.uid == rows[i].b.uid &&
			  b.uidvalidity == rows[i].b.uidvalidity &&
			  b.folder == rows[i].b.folder &&
			  b.date == rows[i].b.date && b.size == rows[i].b.size);
	}
}

TEST(basename, of_others_is_not_ours)
{
	static const char *const names[] = {
		"",
		"1325408400.M1P2.host,S=12",
		"7",
		"7.V",
		"7.V4b000001F0000001fD4f002090.janusmail,S=",
		"7.V4b000001F0000001fD4f002090.janusmail,S=1234x",
		"7.V4b000001F0000001fD4f002090.janusmail,S=1234:2,",
		"7.V4b000001F0000001fD4f002090.janusmail,S=1234,W=1300",
		"7.V4b000001F0000001fD4f002090.janusmail,S=01234",
		"7.V4b000001F0000001fD4f002090.janusmail,S=-1",
		"7.V4b000001F0000001fD4f002090.janusmail,W=1234",
		"7.V4b000001F0000001fD4f002090.janusmaiL,S=1234",
		"07.V4b000001F0000001fD4f002090.janusmail,S=1234",
		" 7.V4b000001F0000001fD4f002090.janusmail,S=1234",
		"7.V4B000001F0000001fD4f002090.janusmail,S=1234",
		"7.V4b000001F0000001FD4f002090.janusmail,S=1234",
		"7.V4b00001F0000001fD4f002090.janusmail,S=1234",
		"7.V04b000001F0000001fD4f002090.janusmail,S=1234",
		"7.V4b000001F000001fD4f002090.janusmail,S=1234",
		"7.V4b000001F0000001fD4f00209.janusmail,S=1234",
		"7.V4b000001F0000001fD04f002090.janusmail,S=1234",
		"7.V4b000001F0000001fD.janusmail,S=1234",
		"7.V4b000001F0000001fD11111111111111111.janusmail,S=1234",
		"7.VF0000001fD4f002090.janusmail,S=1234",
		"4294967296.V4b000001F0000001fD4f002090.janusmail,S=1234",
		"7.V4b000001F0000001fD4f002090.janusmail,S=18446744073709551616",
	};
	struct basename b = { .uid = 99 };
	size_t i;

	for (i = 0; i < ARRAY_LEN(names); i++)
		cr_expect_eq(parse(names[i], &b), -ENOENT, "%s", names[i]);
	cr_expect_eq(b.uid, 99);
}

TEST(basename, of_any_length_may_be_asked_about)
{
	static const char tail[] =
		".V4b000001F0000001fD4f002090.janusmail,S=1234";
	char name[300 + 1];
	struct basename b;

	memset(name, '0', sizeof(name));
	(void)stpcpy(name + 300 - strlen(tail), tail);
	cr_assert_eq(parse(name, &b), -ENOENT);
}

TEST(basename, is_read_up_to_its_length_only)
{
	static const char name[] =
		"7.V4b000001F0000001fD4f002090.janusmail,S=1234";
	struct basename b;
	size_t len;

	for (len = 0; len < strlen(name) - 3; len++)
		cr_assert_eq(basename_parse(name, len, &b), -ENOENT, "%zu",
			     len);
	cr_assert_eq(basename_parse(name, len, &b), 0);
	cr_assert_eq(b.size, 1);
	cr_assert_eq(basename_parse(name, sizeof(name), &b), -ENOENT,
		     "the NUL belongs to it");
}

TEST(basename, info_letters_are_sorted)
{
	char out[INFO_MAX + 1];

	info_format(0, 0, out);
	cr_assert_str_eq(out, ":2,");
	info_format(MSG_SEEN | MSG_ANSWERED, 1U << 2 | 1, out);
	cr_assert_str_eq(out, ":2,RSac");
	info_format(MSG_OLD | MSG_EXPUNGED, 1U << 26 | 1U << 31, out);
	cr_assert_str_eq(out, ":2,");
	info_format(UINT32_MAX, UINT32_MAX, out);
	cr_assert_str_eq(out, ":2,DFRSTabcdefghijklmnopqrstuvwxyz");
	cr_assert_eq(strlen(out), INFO_MAX);
}

TEST(basename, info_starts_at_the_first_colon_two_comma)
{
	cr_assert_eq(info_split("a,S=1:2,S", 9), 5);
	cr_assert_eq(info_split("a,S=1", 5), 5);
	cr_assert_eq(info_split("a:1,S", 5), 5);
	cr_assert_eq(info_split("a:b:2,:2,S", 10), 3);
	cr_assert_eq(info_split(":2,", 3), 0);
	cr_assert_eq(info_split("a:2,", 3), 3, "the comma is beyond the end");
	cr_assert_eq(info_split("", 0), 0);
}

TEST(basename, info_is_read_in_any_order)
{
	static const struct {
		const char *name;
		uint32_t flags;
		uint32_t keywords;
	} rows[] = {
		{ "a", 0, 0 },
		{ "aSF", 0, 0 },
		{ "a:2,", 0, 0 },
		{ "a:2,S", MSG_SEEN, 0 },
		{ "a:2,TSRFD", MSG_SYSTEM, 0 },
		{ "a:2,zSaS", MSG_SEEN, 1U << 25 | 1 },
		{ "a:2,PX1 S", MSG_SEEN, 0 },
		{ "a:2,S,F", MSG_SEEN, 0 },
		{ ":2,D", MSG_DRAFT, 0 },
		{ "a:1,S", 0, 0 },
	};
	uint32_t flags, keywords;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		flags = keywords = 77;
		info_parse(rows[i].name, strlen(rows[i].name), &flags,
			   &keywords);
		cr_expect_eq(flags, rows[i].flags, "%s", rows[i].name);
		cr_expect_eq(keywords, rows[i].keywords, "%s", rows[i].name);
	}
}

TEST(basename, info_of_every_flag_and_keyword_is_read_back)
{
	char out[INFO_MAX + 1];
	uint32_t flags, keywords, f;
	unsigned k;

	for (f = 0; f < 0x40; f++) {
		for (k = 0; k < MAILDIR_LETTERS; k++) {
			info_format(f, 1U << k, out);
			info_parse(out, strlen(out), &flags, &keywords);
			cr_assert_eq(flags, f & MSG_SYSTEM);
			cr_assert_eq(keywords, 1U << k);
		}
	}
}
