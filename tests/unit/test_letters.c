/* Which letter stands for which slot. */
#include "compat/letters.h"

#include <string.h>

#include "compat/uidlist.h"
#include "fixture.h"

static struct keywords words(const char *text)
{
	struct keywords k = { 0 };

	cr_assert_eq(dkeywords_parse(text, strlen(text), &k), 0);
	return k;
}

static struct letters map(const char *dovecot, const char *box)
{
	const struct keywords d = words(dovecot), b = words(box);
	struct letters l;

	letters_map(&l, &d, &b);
	return l;
}

TEST(letters, belong_to_slots_by_name)
{
	const struct letters l =
		map("0 one\n1 two\n5 Three\n", "0 two\n1 tHREE\n2 four\n");
	uint32_t rest;

	cr_expect_eq(l.slot[0], -1);
	cr_expect_eq(l.slot[1], 0);
	cr_expect_eq(l.slot[5], 1, "case does not matter");
	cr_expect_eq(l.letter[0], 1);
	cr_expect_eq(l.letter[1], 5);
	cr_expect_eq(l.letter[2], -1);
	cr_expect_eq(letters_of(&l, 0x80000007), 1U << 1 | 1U << 5);
	cr_expect_eq(letters_slots(&l, 1U << 0 | 1U << 5 | 1U << 25, &rest),
		     1U << 1);
	cr_expect_eq(rest, 1U << 0 | 1U << 25);
}

TEST(letters, of_two_with_one_name_the_first_shows)
{
	const struct letters l = map("3 word\n7 WORD\n", "4 word\n");
	uint32_t rest;

	cr_expect_eq(letters_of(&l, 1U << 4), 1U << 3);
	cr_expect_eq(letters_slots(&l, 1U << 7, &rest), 1U << 4);
	cr_expect_eq(rest, 0);
}

TEST(letters, none_without_names)
{
	struct letters l;
	uint32_t rest;

	letters_clear(&l);
	cr_expect_eq(letters_of(&l, UINT32_MAX), 0);
	cr_expect_eq(letters_slots(&l, 0x3ffffff, &rest), 0);
	cr_expect_eq(rest, 0x3ffffff);
}

TEST(letters, are_added_where_their_slot_is_or_else_anywhere)
{
	struct keywords d = words("0 one\n2 two\n");
	const struct keywords b = words("0 TWO\n1 alpha\n2 beta\n3 gamma\n");

	cr_expect(letters_add(&d, &b, 1U << 3 | 1U << 4));
	cr_expect_str_eq(d.name[0], "one");
	cr_expect_str_eq(d.name[1], "alpha");
	cr_expect_str_eq(d.name[2], "two");
	cr_expect_str_eq(d.name[3], "", "taken");
	cr_expect_str_eq(d.name[4], "", "taken");
	cr_expect_str_eq(d.name[5], "beta");
	cr_expect_str_eq(d.name[6], "gamma");
	cr_expect_not(letters_add(&d, &b, 0), "all are there");
}

TEST(letters, run_out)
{
	struct keywords d = { 0 }, b = { 0 };
	struct letters l;

	for (unsigned i = 0; i < 30; i++)
		(void)snprintf(b.name[i], sizeof(b.name[i]), "word%u", i);
	(void)snprintf(b.name[4], sizeof(b.name[4]), "not for imap]");
	cr_expect(letters_add(&d, &b, 0));
	letters_map(&l, &d, &b);
	cr_expect_eq(l.letter[4], -1);
	cr_expect_eq(l.letter[25], 25);
	cr_expect_eq(l.letter[26], 4, "the one that is left");
	cr_expect_eq(l.letter[27], -1);
	cr_expect_eq(letters_of(&l, 0x3fffffff), 0x3ffffff);
}
