#include "compat/mbx.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mbxbox.h"

/* ---- damage -------------------------------------------------------------- */

TEST(mbx, serves_what_lies_before_a_tail_torn_in_its_line)
{
	static const char line[] = DATE ",5;000000000000-00000003\r\n";

	for (size_t cut = 1; cut < sizeof(line) - 1; cut++) {
		begin_two();
		add_raw(line, cut);
		scan();
		EXPECT_UIDS(1, 2);
		cr_expect(fixture_is(box, &got, 1, TEXT("other")));
		expect_damage(DAMAGE_RECORD, END, 0);
		cr_expect_eq(got.scan.damage.count, 1);
		cr_expect_eq(got.scan.next.off, (uint64_t)END);
		end();
		cr_assert_eq(unlink(file()), 0);
	}
}

TEST(mbx, serves_what_lies_before_a_tail_torn_in_its_text)
{
	begin_two();
	add(3, 0, "the text");
	cr_assert_eq(truncate(file(), END + LINE + 7), 0);
	scan();
	EXPECT_UIDS(1, 2);
	expect_damage(DAMAGE_RECORD, END, 3);
	cr_expect_eq(got.scan.next.off, (uint64_t)END);
	cr_expect_eq(got.scan.uidnext, 3);
	end();
}

TEST(mbx, serves_what_lies_before_junk_in_the_middle)
{
	begin_two();
	add_raw(TEXT("junk\0junk"));
	add(3, 0, "never seen");
	scan();
	EXPECT_UIDS(1, 2);
	expect_damage(DAMAGE_RECORD, END + 4, 0);
	end();
}

TEST(mbx, takes_trailing_nuls_for_damage)
{
	static const char nuls[4096];

	begin_two();
	add_raw(nuls, sizeof(nuls));
	scan();
	EXPECT_UIDS(1, 2);
	expect_damage(DAMAGE_RECORD, END, 0);
	end();
}

TEST(mbx, takes_a_size_of_zero_for_damage)
{
	begin_two();
	add(3, 0, "");
	add(4, 0, "never seen");
	scan();
	EXPECT_UIDS(1, 2);
	expect_damage(DAMAGE_RECORD, END + 27, 0);
	end();
}

TEST(mbx, takes_a_size_beyond_the_file_for_damage)
{
	begin_two();
	add_raw(TEXT(DATE ",9999999999999;000000000000-00000003\r\nx"));
	scan();
	EXPECT_UIDS(1, 2);
	expect_damage(DAMAGE_RECORD, END, 3);
	end();
}

TEST(mbx, serves_a_message_with_a_bad_date_as_of_1970)
{
	begin_two();
	fixture_patch(file(), SECOND, "99-Foo", 6);
	scan();
	EXPECT_UIDS(1, 2);
	cr_expect_eq(got.msgs[0].date, 1325408400);
	cr_expect_eq(got.msgs[1].date, 0);
	cr_expect(fixture_is(box, &got, 1, TEXT("other")));
	expect_damage(DAMAGE_DATE, SECOND, 2);
	end();
}

TEST(mbx, shows_uids_of_its_own_from_the_first_out_of_order)
{
	begin();
	header(20);
	add(5, 0, "a");
	add(5, 0, "b");
	add(7, 0, "c");
	add(0, 0, "d");
	open_box();
	scan();
	EXPECT_UIDS(5, 21, 22, 23);
	cr_expect_eq(got.msgs[2].uid_disk, 7);
	cr_expect_eq(got.scan.uidnext, 24);
	expect_damage(DAMAGE_UID, FIRST + LINE + 1, 5);
	cr_expect_eq(got.scan.damage.count, 1, "said once, not per message");
	for (size_t i = 0; i < got.count; i++)
		cr_expect(fixture_is(box, &got, i, &"abcd"[i], 1));
	end();
}

TEST(mbx, takes_a_uid_after_an_unassigned_one_for_out_of_order)
{
	begin();
	header(9);
	add(0, 0, "a");
	add(9, 0, "b");
	open_box();
	scan();
	EXPECT_UIDS(10, 11);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_UID);
	end();
}

TEST(mbx, shows_a_uid_above_uidlast_and_says_so)
{
	begin_two();
	add(9, 0, "late");
	add(0, 0, "new");
	scan();
	EXPECT_UIDS(1, 2, 9, 10);
	expect_damage(DAMAGE_UIDLAST, END, 9);
	cr_expect_eq(got.scan.uidnext, 11);
	end();
}

TEST(mbx, tells_a_hole_in_the_keyword_table)
{
	begin_two();
	fixture_mbx_header(file(), 1, 2, "One", "", "Three", (char *)NULL);
	scan();
	EXPECT_UIDS(1, 2);
	expect_damage(DAMAGE_KEYWORDS, 25, 0);
	cr_expect_str_eq(got.scan.keywords.name[0], "One");
	cr_expect_str_eq(got.scan.keywords.name[2], "");
	end();
}

TEST(mbx, tells_a_keyword_of_more_than_fifty_octets)
{
	char name[52];

	memset(name, 'k', 51);
	name[51] = '\0';
	begin_two();
	fixture_mbx_header(file(), 1, 2, name, "Two", name + 1, (char *)NULL);
	scan();
	expect_damage(DAMAGE_KEYWORDS, 25, 0);
	cr_expect_eq(got.scan.damage.count, 1);
	cr_expect_str_eq(got.scan.keywords.name[0], "");
	cr_expect_str_eq(got.scan.keywords.name[1], "Two");
	cr_expect_str_eq(got.scan.keywords.name[2], name + 1);
	end();
}

TEST(mbx, serves_nothing_behind_a_damaged_header)
{
	static const struct {
		uint64_t off;
		const char *octets;
		uint64_t at;
	} cases[] = {
		{ 0, "+mbx*", 0 }, { 5, "\n\n", 0 }, { 7, "x", 7 },
		{ 22, "\r", 15 },  { 23, "\n", 23 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		begin_two();
		fixture_patch(file(), cases[i].off, cases[i].octets,
			      strlen(cases[i].octets));
		cr_expect_eq(fixture_scan(box, &got), -EBADMSG);
		cr_expect_eq(got.count, 0);
		expect_damage(DAMAGE_HEADER, cases[i].at, 0);
		end();
		cr_assert_eq(unlink(file()), 0);
	}
}

TEST(mbx, takes_a_short_header_for_damage)
{
	begin_two();
	cr_assert_eq(truncate(file(), 2047), 0);
	cr_expect_eq(fixture_scan(box, &got), -EBADMSG);
	expect_damage(DAMAGE_HEADER, 2047, 0);
	end();
}

TEST(mbx, takes_a_file_of_no_octets_for_an_empty_mailbox)
{
	begin();
	fixture_write(file(), "", 0);
	open_box();
	memset(&got.scan.keywords, 'x', sizeof(got.scan.keywords));
	got.scan.uidvalidity = 7;
	scan();
	cr_expect_eq(got.count, 0);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	cr_expect_eq(got.scan.uidvalidity, 0);
	cr_expect_eq(got.scan.next.off, 0);
	cr_expect_str_eq(got.scan.keywords.name[0], "");
	/* And now it is born. */
	got.scan.from = got.scan.next;
	header(0);
	add(0, 0, "first");
	scan();
	EXPECT_UIDS(1);
	cr_expect_eq(got.scan.uidvalidity, 0x4b000001);
	end();
}

TEST(mbx, tells_the_gravest_damage_and_counts_all)
{
	begin();
	fixture_mbx_header(file(), 1, 2, "", "hidden", (char *)NULL);
	add(5, 0, "above");
	add(4, 0, "disorder");
	add_raw("torn", 4);
	open_box();
	scan();
	EXPECT_UIDS(5, 6);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_RECORD);
	cr_expect_eq(got.scan.damage.count, 4);
	end();
}

/* ---- UIDs ---------------------------------------------------------------- */

TEST(mbx, predicts_the_uids_that_uw_will_give)
{
	begin();
	header(41);
	add(3, MSG_OLD, "a");
	add(0, 0, "b");
	add(0, MSG_EXPUNGED, "takes a number");
	add(0, 0, "c");
	open_box();
	scan();
	EXPECT_UIDS(3, 42, 44);
	cr_expect_eq(got.msgs[1].uid_disk, 0);
	cr_expect_eq(got.scan.uidnext, 45);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	cr_expect(fixture_is(box, &got, 2, TEXT("c")));
	end();
}

TEST(mbx, leaves_out_what_is_expunged)
{
	begin();
	header(3);
	add(1, MSG_EXPUNGED | MSG_DELETED, "gone");
	add(2, MSG_DELETED, "deleted only");
	add(3, MSG_EXPUNGED, "gone too");
	open_box();
	scan();
	EXPECT_UIDS(2);
	cr_expect_eq(got.scan.uidnext, 4);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}

TEST(mbx, gives_uidvalidity_0_as_it_stands)
{
	begin_two();
	fixture_mbx_header(file(), 0, 2, (char *)NULL);
	scan();
	EXPECT_UIDS(1, 2);
	cr_expect_eq(got.scan.uidvalidity, 0);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}

TEST(mbx, serves_good_uids_when_uidlast_leaves_no_room)
{
	begin();
	header(UINT32_MAX);
	add(1, 0, "a");
	add(0, 0, "no number left");
	add(UINT32_MAX - 1, 0, "b");
	add(UINT32_MAX, 0, "a number Dovecot does not take");
	open_box();
	scan();
	EXPECT_UIDS(1, UINT32_MAX - 1);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_UID);
	cr_expect_eq(got.scan.damage.count, 2);
	cr_expect_eq(got.scan.uidnext, UINT32_MAX);
	end();
}

TEST(mbx, stops_giving_numbers_at_the_last_one)
{
	begin();
	header(UINT32_MAX - 2);
	add(0, 0, "the last number");
	add(0, 0, "too late");
	add(0, 0, "far too late");
	open_box();
	scan();
	EXPECT_UIDS(UINT32_MAX - 1);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_UID);
	end();
}

TEST(mbx, gives_keyword_bits_as_they_stand)
{
	begin();
	fixture_mbx_header(file(), 1, 1, "One", (char *)NULL);
	fixture_mbx(file(), DATE ",1;c00000010000-00000001", "x", 1);
	open_box();
	scan();
	cr_assert_eq(got.count, 1);
	cr_expect_eq(got.msgs[0].keywords, 0xc0000001);
	end();
}

/* ---- tail scans ---------------------------------------------------------- */

/* Whatever lies before: going on must show what one scan shows. */
static void expect_tail_like_full(void)
{
	static struct fixture_scan full, head, tail;
	const struct scan_point *a = &full.scan.next, *b = &tail.scan.next;

	cr_assert_eq(fixture_scan(box, &head), 0);
	add(0, 0, "new");
	add(90, MSG_SEEN, "assigned");
	add(0, MSG_FLAGGED, "newer");
	tail.scan.from = head.scan.next;
	cr_assert_eq(fixture_scan(box, &tail), 0);
	cr_assert_eq(fixture_scan(box, &full), 0);
	cr_assert_eq(head.count + tail.count, full.count);
	cr_expect_eq(memcmp(full.msgs, head.msgs,
			    head.count * sizeof(head.msgs[0])),
		     0);
	cr_expect_eq(memcmp(full.msgs + head.count, tail.msgs,
			    tail.count * sizeof(tail.msgs[0])),
		     0);
	cr_expect(a->off == b->off && a->uid_prev == b->uid_prev &&
		  a->uid_last == b->uid_last && a->broken == b->broken);
	cr_expect_eq(full.scan.uidnext, tail.scan.uidnext);
	tail.scan.from = tail.scan.next;
	cr_assert_eq(fixture_scan(box, &tail), 0);
	cr_expect_eq(tail.count, 0);
}

TEST(mbx, goes_on_where_a_scan_ended)
{
	begin_two();
	expect_tail_like_full();
	end();
}

TEST(mbx, goes_on_after_uids_out_of_order)
{
	begin();
	header(50);
	add(9, 0, "a");
	add(8, 0, "b");
	open_box();
	expect_tail_like_full();
	end();
}

TEST(mbx, goes_on_after_unassigned_and_expunged_messages)
{
	begin();
	header(50);
	add(0, 0, "a");
	add(0, MSG_EXPUNGED, "b");
	open_box();
	expect_tail_like_full();
	end();
}

TEST(mbx, goes_on_in_an_empty_mailbox)
{
	begin();
	header(0);
	open_box();
	expect_tail_like_full();
	end();
}

TEST(mbx, is_stale_when_the_file_shrank_below_the_point)
{
	static const off_t sizes[] = { END - 1, SECOND, FIRST, 100, 0 };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		begin_two();
		got.scan.from = (struct scan_point){ .off = 0 };
		scan();
		got.scan.from = got.scan.next;
		cr_assert_eq(truncate(file(), sizes[i]), 0);
		cr_expect_eq(fixture_scan(box, &got), -ESTALE, "%jd",
			     (intmax_t)sizes[i]);
		end();
		cr_assert_eq(unlink(file()), 0);
	}
}
