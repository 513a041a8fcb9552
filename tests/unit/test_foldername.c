#include "compat/foldername.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"

TEST(foldername, names_map_readably)
{
	static const struct {
		const char *legacy, *underscore, *escape;
		bool changed_underscore, changed_escape;
	} rows[] = {
		{ "a", ".a", ".a", false, false },
		{ "a/b c/d", ".a.b c.d", ".a.b c.d", false, false },
		{ "lists/2012.q1", ".lists.2012_q1", ".lists.2012\\2eq1", true,
		  false },
		{ ".hidden", "._hidden", ".\\2ehidden", true, false },
		{ "tail.", ".tail_", ".tail\\2e", true, false },
		{ "..", ".__", ".\\2e\\2e", true, false },
		{ "~x", "._x", ".\\7ex", true, false },
		{ "a~/~b", ".a~.~b", ".a~.~b", false, false },
		{ "back\\slash", ".back\\slash", ".back\\5cslash", false,
		  false },
		{ "a_b", ".a_b", ".a_b", false, false },
		/* modified UTF-7 stays */
		{ "gr&APwA3w-e", ".gr&APwA3w-e", ".gr&APwA3w-e", false, false },
		{ "&2D3eAA-", ".&2D3eAA-", ".&2D3eAA-", false, false },
		{ "a&-b", ".a&-b", ".a&-b", false, false },
		{ "&AOQ-&-&APY-", ".&AOQ-&-&APY-", ".&AOQ-&-&APY-", false,
		  false },
		{ "&AOQ-.&APY-", ".&AOQ-_&APY-", ".&AOQ-\\2e&APY-", true,
		  false },
		/* UTF-8, ISO 8859-1 and what only looks like an escape */
		{ "gr\xc3\xbc\xc3\x9f"
		  "e",
		  ".gr&APwA3w-e", ".gr&APwA3w-e", true, true },
		{ "\xf0\x9f\x98\x80", ".&2D3eAA-", ".&2D3eAA-", true, true },
		{ "l\xe4in", ".l&AOQ-in", ".l&AOQ-in", true, true },
		{ "\xc3\xa4/\xe4", ".&AOQ-.&AOQ-", ".&AOQ-.&AOQ-", true, true },
		{ "R&D", ".R&-D", ".R&-D", true, true },
		{ "a&", ".a&-", ".a&-", true, true },
		{ "&AOQ-&APY-", ".&-AOQ-&-APY-", ".&-AOQ-&-APY-", true, true },
		/* controls, in any disguise */
		{ "a\nb\x7f", ".a_b_", ".a_b_", true, true },
		{ "&AAo-x", "._x", "._x", true, true },
		{ "c1\xc2\x85", ".c1_", ".c1_", true, true },
		{ "c1\x85", ".c1_", ".c1_", true, true },
		{ "&AAoA5A-", "._&AOQ-", "._&AOQ-", true, true },
		/* INBOX is Dovecot's, in any case, and only as a first level */
		{ "INBOX", ".INBOX_2", ".INBOX_2", true, true },
		{ "inBox/x", ".inBox_2.x", ".inBox_2.x", true, true },
		{ "x/INBOX", ".x.INBOX", ".x.INBOX", false, false },
		{ "INBOXES", ".INBOXES", ".INBOXES", false, false },
		/* no empty level */
		{ "a//b", ".a._.b", ".a._.b", true, true },
		{ "/a/", "._.a._", "._.a._", true, true },
		{ "", "._", "._", true, true },
	};
	char out[FOLDERNAME_MAX + 1];
	bool changed;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		foldername_map(rows[i].legacy, DOTS_UNDERSCORE, out, &changed);
		cr_expect_str_eq(out, rows[i].underscore, "row %zu: %s", i,
				 out);
		cr_expect_eq(changed, rows[i].changed_underscore, "row %zu", i);
		foldername_map(rows[i].legacy, DOTS_ESCAPE, out, &changed);
		cr_expect_str_eq(out, rows[i].escape, "row %zu: %s", i, out);
		cr_expect_eq(changed, rows[i].changed_escape, "row %zu", i);
	}
}

TEST(foldername, the_longest_name_is_kept_and_a_longer_one_is_cut)
{
	char legacy[FOLDERNAME_MAX + 1], other[FOLDERNAME_MAX + 1];
	char out[FOLDERNAME_MAX + 1], out2[FOLDERNAME_MAX + 1];
	bool changed;

	memset(legacy, 'x', FOLDERNAME_MAX);
	legacy[FOLDERNAME_MAX] = '\0';
	memcpy(other, legacy, sizeof(other));
	other[FOLDERNAME_MAX - 1] = 'y';

	foldername_map(legacy + 1, DOTS_ESCAPE, out, &changed);
	cr_expect_eq(strlen(out), FOLDERNAME_MAX);
	cr_expect_str_eq(out + 1, legacy + 1);
	cr_expect_not(changed);

	foldername_map(legacy, DOTS_ESCAPE, out, &changed);
	cr_expect_eq(strlen(out), FOLDERNAME_MAX);
	cr_expect(changed);
	cr_expect_eq(strncmp(out + 1, legacy, FOLDERNAME_MAX - 18), 0);
	cr_expect_eq(out[FOLDERNAME_MAX - 17], '_');
	cr_expect_eq(strspn(out + FOLDERNAME_MAX - 16, "0123456789abcdef"), 16);

	foldername_map(other, DOTS_ESCAPE, out2, &changed);
	cr_expect_eq(strncmp(out, out2, FOLDERNAME_MAX - 16), 0);
	cr_expect_str_neq(out, out2);
}

/* @unit repeated until it is much too long. */
static void expect_clean_cut(const char *unit, const char *torn)
{
	char legacy[3000] = "", out[FOLDERNAME_MAX + 1], *hash;
	size_t len = 0, n = strlen(unit);
	bool changed;

	for (; len + n < sizeof(legacy); len += n)
		memcpy(legacy + len, unit, n + 1);
	foldername_map(legacy, DOTS_ESCAPE, out, &changed);
	cr_assert_leq(strlen(out), FOLDERNAME_MAX);
	cr_expect_gt(strlen(out), FOLDERNAME_MAX - 20);
	cr_expect(foldername_mutf7_valid(out, strlen(out)), "%s", out);
	hash = strrchr(out, '_');
	cr_assert_not_null(hash);
	cr_expect_neq(hash[-1], '.', "%s", out);
	*hash = '\0';
	cr_expect(strlen(out) < strlen(torn) ||
			  strcmp(out + strlen(out) - strlen(torn), torn) != 0,
		  "%s", out);
}

TEST(foldername, a_cut_never_tears_a_character_or_an_escape)
{
	expect_clean_cut("\xe6\xbc\xa2", "&");
	expect_clean_cut("x\xe6\xbc\xa2", "&");
	expect_clean_cut("\xf0\x9f\x98\x80", "&2D0");
	expect_clean_cut(".", "\\2");
	expect_clean_cut("x..", "\\");
	expect_clean_cut("a/", ".");
	expect_clean_cut("&", "&");
}

TEST(foldername, a_variant_is_another_valid_name)
{
	static const struct {
		const char *dir;
		unsigned n;
		const char *want;
	} rows[] = {
		{ ".a", 2, ".a_2" },
		{ ".a.b", 4294967295, ".a.b_4294967295" },
		{ ".gr&APw-", 3, ".gr&APw-_3" },
	};
	char out[FOLDERNAME_MAX + 1];
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		foldername_variant(rows[i].dir, rows[i].n, out);
		cr_expect_str_eq(out, rows[i].want);
	}
}

TEST(foldername, a_variant_of_a_long_name_is_cut_between_characters)
{
	static const struct {
		const char *tail, *want;
	} rows[] = {
		{ "&AOQ-", "_12" },	{ "&AOQAZA-", "_12" },
		{ "x&AOQ-", "x_12" },	{ "\\2e", "_12" },
		{ "\\2ex", "_12" },	{ ".b", "_12" },
		{ "..b", "_12" },	{ "xyz", "_12" },
		{ "\\&AOQ-", "\\_12" },
	};
	char dir[FOLDERNAME_MAX + 1], out[FOLDERNAME_MAX + 1];
	size_t i, len;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		len = FOLDERNAME_MAX - strlen(rows[i].tail);
		memset(dir, 'x', len);
		dir[0] = '.';
		(void)snprintf(dir + len, sizeof(dir) - len, "%s",
			       rows[i].tail);
		foldername_variant(dir, 12, out);
		cr_assert_leq(strlen(out), FOLDERNAME_MAX);
		cr_expect_str_eq(strrchr(out, '_'), "_12", "row %zu", i);
		cr_expect(foldername_mutf7_valid(out, strlen(out)), "%s", out);
		if (len + strlen(rows[i].want) <= FOLDERNAME_MAX)
			cr_expect_str_eq(out + len, rows[i].want, "row %zu: %s",
					 i, out);
	}
}

TEST(foldername, modified_utf7_is_told_from_other_text)
{
	static const struct {
		const char *name;
		bool want;
	} rows[] = {
		{ "", true },
		{ "plain ~ text", true },
		{ "&-", true },
		{ "&AOQ-", true },
		{ "&AOQA9g-", true },
		{ "&AOQA9gD8-", true },
		{ "&2D3eAA-", true },
		{ "&ZeVnLIqe-", true },
		{ "&", false },
		{ "a&b", false },
		{ "&AOQ", false },
		{ "&AO-", false },
		{ "&AOR-", false },  /* bits left over that are not zero */
		{ "&AOQA-", false }, /* a whole character left over */
		{ "&AGE-", false },  /* 'a' can stand for itself */
		{ "&AOQAYQ-", false },
		{ "&AOQ-&APY-", false }, /* two shifts for one */
		{ "&2D0-", false },	 /* half a surrogate pair */
		{ "&3gA-", false },
		{ "&2D3YPQ-", false },
		{ "&AO/-", false }, /* the base64 of other standards */
		{ "&AOQ=-", false },
		{ "\xc3\xa4", false },
		{ "\x7f", false },
		{ "a\tb", false },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++)
		cr_expect_eq(foldername_mutf7_valid(rows[i].name,
						    strlen(rows[i].name)),
			     rows[i].want, "row %zu", i);
}

TEST(foldername, a_directory_has_the_legacy_name_that_is_shown_as_it)
{
	static const struct {
		const char *dir;
		enum foldername_dots dots;
		const char *want; /* NULL: none */
	} rows[] = {
		{ ".a", DOTS_UNDERSCORE, "a" },
		{ ".a.b c.d", DOTS_UNDERSCORE, "a/b c/d" },
		{ ".a_b", DOTS_UNDERSCORE, "a_b" },
		{ ".&AOQ-.&-", DOTS_UNDERSCORE, "&AOQ-/&-" },
		{ ".a\\2eb.c", DOTS_ESCAPE, "a.b/c" },
		{ ".a\\5cb", DOTS_ESCAPE, "a\\b" },
		{ ".a\\2eb", DOTS_UNDERSCORE, "a\\2eb" },
		{ ".inboxes", DOTS_UNDERSCORE, "inboxes" },
		{ ".a.INBOX", DOTS_UNDERSCORE, "a/INBOX" },
		/* Not shown under that name, or not at all. */
		{ ".", DOTS_UNDERSCORE, NULL },
		{ "..", DOTS_UNDERSCORE, NULL },
		{ "..a", DOTS_UNDERSCORE, NULL },
		{ ".a..b", DOTS_UNDERSCORE, NULL },
		{ ".a.", DOTS_UNDERSCORE, NULL },
		{ "a", DOTS_UNDERSCORE, NULL },
		{ ".INBOX", DOTS_UNDERSCORE, NULL },
		{ ".inbox.a", DOTS_UNDERSCORE, NULL },
		{ ".a&b", DOTS_UNDERSCORE, NULL },
		{ ".\xc3\xa4", DOTS_UNDERSCORE, NULL },
		{ ".a\nb", DOTS_UNDERSCORE, NULL },
		{ ".a\\", DOTS_ESCAPE, NULL },
		{ ".a\\2Eb", DOTS_ESCAPE, NULL },
		/* UW takes them for something else. */
		{ ".~anna", DOTS_UNDERSCORE, NULL },
		{ ".#mh.a", DOTS_UNDERSCORE, NULL },
		{ ".{host}a", DOTS_UNDERSCORE, NULL },
		{ ".a.b*", DOTS_UNDERSCORE, NULL },
		{ ".a%", DOTS_UNDERSCORE, NULL },
		{ ".\\7eanna", DOTS_ESCAPE, NULL },
		{ ".\\2ehidden", DOTS_ESCAPE, NULL },
		{ ".a.\\2e\\2e.b", DOTS_ESCAPE, NULL },
		/* Nobody looks so deep. */
		{ ".1.2.3.4.5.6.7.8.9.0.1.2.3.4.5.6.7.8.9", DOTS_UNDERSCORE,
		  "1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9" },
		{ ".1.2.3.4.5.6.7.8.9.0.1.2.3.4.5.6.7.8.9.0", DOTS_UNDERSCORE,
		  NULL },
	};
	char out[FOLDERNAME_MAX + 1];
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		int ret = foldername_legacy(rows[i].dir, rows[i].dots, out);

		cr_expect_eq(ret, rows[i].want ? 0 : -EINVAL, "row %zu", i);
		if (ret == 0 && rows[i].want)
			cr_expect_str_eq(out, rows[i].want, "row %zu", i);
	}
}
