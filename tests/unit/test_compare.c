#include "tools/compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "tools/strays.h"

/* A folder that is a list of facts. */
struct list {
	struct source_box base;
	struct fact facts[8];
	size_t count, at;
};

static int next(struct source_box *b, struct fact *out)
{
	struct list *l = (struct list *)b;

	if (l->at == l->count)
		return -ENOENT;
	*out = l->facts[l->at++];
	return 0;
}

static const struct source_ops ops = { .next = next };

/* @body: one letter; what it hashes to. */
static void put(struct list *l, uint32_t uid, char body)
{
	struct fact *f = &l->facts[l->count++];

	*f = (struct fact){
		.uid = uid, .keywords = "-", .date = 1000 + body, .size = 5
	};
	memset(f->sha256, body, DIGEST_HEX);
	memset(f->crlf, body, DIGEST_HEX);
}

static struct list a, b;
static struct tally tally;
static char said[2000];

static void start(const char *uids_a, const char *uids_b)
{
	a = b = (struct list){
		.base = { .ops = &ops, .uidvalidity = 7, .uidnext = 9 }
	};
	/* "1x2y": UID 1 is x, UID 2 is y. */
	for (; *uids_a; uids_a += 2)
		put(&a, (uint32_t)(uids_a[0] - '0'), uids_a[1]);
	for (; *uids_b; uids_b += 2)
		put(&b, (uint32_t)(uids_b[0] - '0'), uids_b[1]);
}

/* Return: as compare_folder(); what was found is in said. */
static int compare_all(bool crlf, bool last_try)
{
	struct pile out = { .len = 0 };
	_Atomic(uint64_t) progress = 0;
	struct compare c = { .box = { &a.base, &b.base },
			     .crlf = crlf,
			     .last_try = last_try,
			     .out = &out,
			     .tally = &tally,
			     .progress = &progress };
	char *buf = NULL, *at = said;
	struct finding f;
	int ret;

	tally = (struct tally){ .same = 0 };
	a.at = b.at = 0;
	ret = compare_folder(&c);
	cr_assert_eq(pile_rewind(&out), 0);
	*at = '\0';
	while (finding_get(&out, &f, &buf) == 0)
		at += snprintf(at, 300, "%u %s %.8s|%.8s\n", f.uid,
			       finding_name(f.kind),
			       f.side[0] ? f.side[0] : "-",
			       f.side[1] ? f.side[1] : "-");
	free(buf);
	pile_fini(&out);
	return ret;
}

static void expect(const char *want)
{
	cr_assert_eq(compare_all(false, false), 0);
	cr_assert_str_eq(said, want);
}

TEST(compare, finds_nothing_where_nothing_is)
{
	start("1x2y3z", "1x2y3z");
	expect("");
	cr_assert_eq(tally.same, 3);
	cr_assert_eq(tally.differences, 0);
	start("", "");
	expect("");
}

TEST(compare, names_what_is_on_one_side)
{
	start("1x2y4z", "2y3q4z5r");
	expect("1 message 1970-01-|-\n"
	       "3 message -|1970-01-\n"
	       "5 message -|1970-01-\n");
	cr_assert_eq(tally.same, 2);
	cr_assert_eq(tally.only[0], 1);
	cr_assert_eq(tally.only[1], 2);
	cr_assert_eq(tally.messages[1], 4);
}

TEST(compare, names_a_wrong_uid_a_swap_and_a_change)
{
	start("1x2y3z", "1x2y4z");
	expect("3 uid 3|4\n");
	start("1x2y3z", "1y2x3z");
	expect("1 swapped 1|2\n");
	cr_assert_eq(tally.changed, 2);
	start("1x2y3z", "1y2z3x"); /* all of them in a ring */
	expect("1 uid 1|3\n2 uid 2|1\n3 uid 3|2\n");
	start("1x2y", "1x2q");
	expect("2 bytes 5 octets|5 octets\n2 date 1970-01-|1970-01-\n");
	/* One in front, all others behind it. */
	start("1x2y", "1q2x3y");
	expect("1 uid 1|2\n2 uid 2|3\n1 message -|1970-01-\n");
}

TEST(compare, takes_a_message_that_is_there_twice_for_one_and_one)
{
	start("1x2x", "1x2x3x");
	expect("3 message -|1970-01-\n");
	start("1x2x", "1x");
	expect("2 message 1970-01-|-\n");
}

TEST(compare, finds_messages_without_a_uid_by_their_octets)
{
	start("1x0y0z", "1x0z0y");
	expect("");
	cr_assert_eq(tally.same, 3);
	start("1x2y", "1x0y");
	expect("2 uid 2|0\n");
	start("0y", "0q");
	expect("0 message 1970-01-|-\n0 message -|1970-01-\n");
}

TEST(compare, names_flags_keywords_dates)
{
	start("1x", "1x");
	b.facts[0].flags = MSG_SEEN;
	b.facts[0].keywords = "work";
	b.facts[0].date = 0;
	expect("1 flags -|S\n1 keywords -|work\n1 date 1970-01-|1970-01-\n");
	cr_assert_eq(tally.changed, 1);
	cr_assert_eq(tally.differences, 3);
}

TEST(compare, tells_line_ends_from_other_octets)
{
	start("1x", "1x");
	memset(b.facts[0].sha256, 'q', DIGEST_HEX);
	b.facts[0].size = 4;
	expect("1 line-ends 5 octets|4 octets\n");
	cr_assert_eq(compare_all(true, false), 0);
	cr_assert_str_eq(said, "");
	cr_assert_eq(tally.bare_lf, 1);
	/* The copy in the MBX of what was delivered through the view. */
	b.facts[0].origin = FACT_ORIGIN_DELIVERED;
	expect("");
	cr_assert_eq(tally.bare_lf, 1);
	/* The same file in two Maildirs is not that. */
	a.facts[0].origin = FACT_ORIGIN_DELIVERED;
	expect("1 line-ends 5 octets|4 octets\n");
}

TEST(compare, names_numbers_of_the_folder)
{
	start("1x", "1x");
	b.base.uidvalidity = 8;
	b.base.uidnext = 2;
	expect("0 uidvalidity 7|8\n0 uidnext 9|2\n");
}

TEST(compare, does_not_take_a_folder_that_cannot_be_read_for_empty)
{
	start("1x2y", "");
	b.base.err = -EIO;
	(void)stpcpy(b.base.damage, "burnt");
	expect("0 damaged -|burnt\n");
	cr_assert_eq(tally.troubles, 1);
	cr_assert_eq(tally.differences, 0);
	/* A part of it can. */
	start("1x2y", "1x");
	(void)stpcpy(b.base.damage, "burnt");
	expect("0 damaged -|burnt\n2 message 1970-01-|-\n");
}

TEST(compare, goes_on_behind_a_message_that_cannot_be_read)
{
	start("1x2y3z", "1x2y3q");
	b.facts[1].err = -EIO;
	b.facts[1].sha256[0] = b.facts[1].crlf[0] = '\0';
	expect("2 unreadable -|Input/ou\n3 bytes 5 octets|5 octets\n"
	       "3 date 1970-01-|1970-01-\n");
	cr_assert_eq(tally.unread, 1);
	cr_assert_eq(tally.same, 1);
}

TEST(compare, starts_again_when_a_message_has_moved_away)
{
	start("1x", "1x");
	b.facts[0].err = -ESTALE;
	b.facts[0].sha256[0] = b.facts[0].crlf[0] = '\0';
	cr_assert_eq(compare_all(false, false), -ESTALE);
	cr_assert_eq(compare_all(false, true), 0);
	cr_assert_str_eq(said, "1 unreadable -|it keeps\n");
}

TEST(compare, keeps_no_more_strays_than_it_may)
{
	struct strays s = { .count = { 0 } };
	struct fact f = { .uid = 1, .keywords = "-" };

	for (size_t i = 0; i < STRAYS_MAX; i++)
		cr_assert_eq(strays_add(&s, &f, NULL), 0);
	cr_assert_eq(strays_add(&s, NULL, &f), -ENOSPC);
	strays_fini(&s);
}

/* ---- piles and findings -------------------------------------------------- */

static void fill_and_read(size_t count)
{
	struct pile p = { .len = 0 };
	struct finding got, put_in = { .kind = FINDING_KEYWORDS, .uid = 1 };
	char *buf = NULL;

	for (uint32_t i = 0; i < count; i++) {
		put_in.uid = i;
		put_in.side[0] = i % 2 ? "some text" : NULL;
		put_in.side[1] = i % 3 ? "" : "x";
		cr_assert_eq(finding_put(&p, &put_in), 0);
	}
	cr_assert_eq(p.file != NULL, count > 10000);
	cr_assert_eq(pile_rewind(&p), 0);
	for (uint32_t i = 0; i < count; i++) {
		cr_assert_eq(finding_get(&p, &got, &buf), 0);
		cr_assert_eq(got.uid, i);
		cr_assert_eq(got.side[0] != NULL, i % 2 == 1);
		cr_assert_str_eq(got.side[1], i % 3 ? "" : "x");
	}
	cr_assert_eq(finding_get(&p, &got, &buf), -ENOENT);
	free(buf);
	pile_fini(&p);
	pile_fini(&p);
}

TEST(compare, findings_come_back_from_memory_and_from_a_file)
{
	fill_and_read(0);
	fill_and_read(10);
	fill_and_read(100000);
}
