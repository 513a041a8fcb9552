/* Flags, keywords, expunges and UIDs of an MBX. */
#include "writebox.h"

/* ---- flags --------------------------------------------------------------- */

TEST(mbxwrite, a_flag_is_twelve_digits_and_nothing_else)
{
	begin_two();
	scan();
	keep();
	cr_assert_eq(flag(0, (struct flag_change){ .set = MSG_FLAGGED }), 0);
	cr_expect_eq(got.msgs[0].flags, MSG_SEEN | MSG_OLD | MSG_FLAGGED);
	expect_change(FIRST + LINE - 23, "000000000015");
	expect_same_but(FIRST + LINE - 23, 12);
	scan();
	cr_expect_eq(got.msgs[0].flags, MSG_SEEN | MSG_OLD | MSG_FLAGGED);
	end();
}

TEST(mbxwrite, a_flag_is_merged_with_what_others_wrote_meanwhile)
{
	begin();
	fixture_mbx_header(file(), 7, 1, "one", "two", (char *)NULL);
	add(1, MSG_OLD, "text");
	open_box();
	scan();
	fixture_patch(file(), FIRST + LINE - 23, "C00000014044", 12);
	cr_assert_eq(flag(0,
			  (struct flag_change){ .set = MSG_SEEN,
						.clear = MSG_FLAGGED,
						.keywords_set = 2,
						.keywords_clear = 1 }),
		     0);
	expect_change(FIRST + LINE - 23, "c00000024041");
	cr_expect_eq(got.msgs[0].keywords, 0xc0000002);
	cr_expect_eq(got.msgs[0].flags, 0x4041);
	end();
}

TEST(mbxwrite, only_flags_that_clients_set_are_set)
{
	begin_two();
	scan();
	cr_assert_eq(flag(1, (struct flag_change){ .set = 0xffff0 & ~0x30U }),
		     0);
	expect_change(SECOND + LINE - 23, "000000000010");
	cr_assert_eq(flag(1, (struct flag_change){ .set = 0xffff }), 0);
	expect_change(SECOND + LINE - 23, "00000000003f");
	cr_assert_eq(flag(1, (struct flag_change){ .clear = 0xffff }), 0);
	expect_change(SECOND + LINE - 23, "000000000010");
	cr_assert_eq(flag(1,
			  (struct flag_change){ .set = MSG_SEEN,
						.clear = MSG_SEEN }),
		     0);
	expect_change(SECOND + LINE - 23, "000000000011");
	end();
}

TEST(mbxwrite, what_is_set_already_is_not_written)
{
	struct stat before, after;

	begin_two();
	scan();
	cr_assert_eq(stat(file(), &before), 0);
	cr_assert_eq(flag(0, (struct flag_change){ .set = MSG_SEEN }), 0);
	cr_assert_eq(flag(0, (struct flag_change){ .clear = MSG_DRAFT }), 0);
	cr_assert_eq(stat(file(), &after), 0);
	cr_expect_eq(after.st_ctim.tv_nsec, before.st_ctim.tv_nsec);
	cr_expect_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	cr_expect_eq(box->touch_due, 0);
	end();
}

TEST(mbxwrite, another_message_in_the_place_is_not_touched)
{
	static const struct {
		unsigned at;
		const char *octets;
	} rows[] = {
		{ LINE - 10, "00000009" }, /* another UID */
		{ LINE - 10, "00000000" }, /* none any more */
		{ 0, "02" },		   /* another date */
		{ LINE - 25, "4" },	   /* another size */
		{ LINE - 11, "+" },	   /* no record */
	};

	begin_two();
	scan();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const size_t len = strlen(rows[i].octets);
		const struct flag_change c = { .set = MSG_DRAFT };

		keep();
		fixture_patch(file(), FIRST + rows[i].at, rows[i].octets, len);
		cr_expect_eq(flag(0, c), -ESTALE, "row %zu", i);
		cr_expect_eq(expunge(0), -ESTALE, "row %zu", i);
		expect_same_but(FIRST + rows[i].at, len);
		fixture_patch(file(), FIRST + rows[i].at,
			      kept + FIRST + rows[i].at, len);
	}
	cr_assert_eq(truncate(file(), END - 1), 0);
	cr_expect_eq(flag(1, (struct flag_change){ .set = 1 }), -ESTALE);
	end();
}

TEST(mbxwrite, the_predicted_uid_is_the_message_and_no_other)
{
	begin();
	header(4);
	add(0, 0, "first");
	open_box();
	scan();
	EXPECT_UIDS(5);
	cr_expect_eq(flag(0, (struct flag_change){ .set = MSG_SEEN }), 0);
	expect_change(FIRST + LINE - 10, "00000000");
	fixture_patch(file(), FIRST + LINE - 10, "00000005", 8);
	cr_expect_eq(flag(0, (struct flag_change){ .set = MSG_DRAFT }), 0);
	cr_expect_eq(got.msgs[0].uid_disk, 5);
	scan();
	got.msgs[0].uid_disk = 0;
	fixture_patch(file(), FIRST + LINE - 10, "00000006", 8);
	cr_expect_eq(flag(0, (struct flag_change){ .set = 1 }), -ESTALE);
	end();
}

TEST(mbxwrite, a_keyword_without_a_name_is_stale_knowledge)
{
	begin();
	fixture_mbx_header(file(), 7, 1, "one", (char *)NULL);
	add(1, MSG_OLD, "text");
	open_box();
	scan();
	keep();
	cr_expect_eq(flag(0, (struct flag_change){ .keywords_set = 2 }),
		     -ESTALE);
	expect_same_but(0, 0);
	cr_expect_eq(flag(0, (struct flag_change){ .keywords_set = 1 }), 0);
	expect_change(FIRST + LINE - 23, "00000001");
	end();
}

TEST(mbxwrite, flags_of_an_expunged_message_say_so)
{
	begin_two();
	scan();
	fixture_patch(file(), FIRST + LINE - 15, "8013", 4);
	cr_assert_eq(flag(0, (struct flag_change){ .set = MSG_FLAGGED }), 0);
	cr_expect_eq(got.msgs[0].flags, 0x8017);
	expect_change(FIRST + LINE - 15, "8017");
	end();
}

/* ---- keywords ------------------------------------------------------------ */

TEST(mbxwrite, a_keyword_is_found_in_any_case_or_created_once)
{
	begin();
	fixture_mbx_header(file(), 7, 0, "one", "$Two", (char *)NULL);
	open_box();
	keep();
	cr_expect_eq(keyword("ONE"), 0);
	cr_expect_eq(keyword("$two"), 1);
	expect_same_but(0, 0);
	cr_expect_eq(box->touch_due, 0);
	cr_expect_eq(keyword("Three,}["), 2);
	cr_expect_eq(keyword("three,}["), 2);
	cr_expect_eq(keyword("four"), 3);
	cr_expect_neq(box->touch_due, 0);
	scan();
	cr_expect_str_eq(got.scan.keywords.name[2], "Three,}[");
	cr_expect_str_eq(got.scan.keywords.name[3], "four");
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}

TEST(mbxwrite, a_new_keyword_keeps_thirty_lines_and_the_last_writer)
{
	const uint8_t *end_of_table;
	unsigned lines = 0;

	begin();
	fixture_mbx_header(file(), 7, 0, "one", (char *)NULL);
	fixture_patch(file(), 2038, "0000abcd\r\n", 10);
	fixture_patch(file(), 1000, "pad", 3);
	add(1, 0, "text");
	open_box();
	keep();
	cr_assert_eq(keyword("seconds"), 1);
	/* "one" CR LF stays; 29 empty lines move by 7. */
	expect_change(30, "seconds\r\n\r\n");
	expect_same_but(30, 29 * 2 + 7);
	expect_change(2038, "0000abcd\r\n");
	keep();
	end_of_table = memchr(kept + 25, '\0', 2000);
	for (const uint8_t *p = kept + 25; p < end_of_table; p++)
		lines += *p == '\n';
	cr_expect_eq(lines, 30);
	end();
}

TEST(mbxwrite, a_name_that_uw_would_not_take_is_refused)
{
	static const char *const names[] = {
		"",
		"a b",
		"a*",
		"a%",
		"\\Seen",
		"a\"",
		"a(",
		"a)",
		"a{b",
		"a]b",
		"\xe4",
		"a\t",
		"a\r",
		"a\n",
		"012345678901234567890123456789012345678901234567890",
	};

	begin_two();
	keep();
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		cr_expect_eq(keyword(names[i]), -EINVAL, "%s", names[i]);
	expect_same_but(0, 0);
	cr_expect_eq(keyword("01234567890123456789012345678901234567890123456"
			     "789"),
		     0);
	end();
}

TEST(mbxwrite, the_thirty_first_keyword_is_refused)
{
	char name[64];

	begin_two();
	for (int i = 0; i < 30; i++) {
		/* As long as can be: the table must stay below its end. */
		(void)snprintf(name, sizeof(name), "%048d%02d", 7, i);
		cr_assert_eq(keyword(name), i);
	}
	keep();
	cr_expect_eq(keyword("one-more"), -ENOSPC);
	cr_expect_eq(keyword(name), 29);
	expect_same_but(0, 0);
	scan();
	EXPECT_UIDS(1, 2);
	cr_expect_str_eq(got.scan.keywords.name[29], name);
	end();
}

TEST(mbxwrite, a_slot_that_had_a_name_is_not_used_again)
{
	static const char lost[] =
		"x12345678901234567890123456789012345678901234567890";

	begin();
	fixture_mbx_header(file(), 7, 0, "one", lost, "three", (char *)NULL);
	open_box();
	cr_expect_eq(keyword("four"), 3, "after the one that is too long");
	expect_change(25 + 5, lost);
	/* A hole: what stands behind it must not come back to life. */
	fixture_mbx_header(file(), 7, 0, "one", "", "three", (char *)NULL);
	keep();
	cr_expect_eq(keyword("two"), -ENOSPC);
	cr_expect_eq(keyword("three"), -ENOSPC);
	cr_expect_eq(keyword("one"), 0);
	expect_same_but(0, 0);
	end();
}

TEST(mbxwrite, octets_that_are_no_table_are_not_overwritten)
{
	begin();
	fixture_mbx_header(file(), 7, 0, "one", (char *)NULL);
	open_box();
	/* A name that a torn write left without its CR LF. */
	fixture_patch(file(), 30, "half\0\0", 6);
	keep();
	cr_expect_eq(keyword("two"), -ENOSPC);
	expect_same_but(0, 0);
	end();
}

/* ---- expunge and UIDs ---------------------------------------------------- */

TEST(mbxwrite, expunge_is_two_bits_and_moves_nothing)
{
	begin_two();
	scan();
	keep();
	cr_assert_eq(expunge(0), 0);
	expect_change(FIRST + LINE - 15, "8013");
	expect_same_but(FIRST + LINE - 23, 12);
	cr_expect_eq(expunge(0), 0, "twice");
	cr_expect_eq(expunge(1), 0);
	scan();
	cr_expect_eq(got.count, 0);
	cr_expect_eq(got.scan.uidnext, 3);
	end();
}

TEST(mbxwrite, expunge_of_a_message_without_uid_numbers_up_to_it)
{
	begin();
	header(4);
	add(4, MSG_OLD, "aaaaa");
	add(0, 0, "bbbbb");
	add(0, MSG_EXPUNGED, "ccccc");
	add(0, 0, "ddddd");
	add(0, 0, "eeeee");
	open_box();
	scan();
	EXPECT_UIDS(4, 5, 7, 8);
	cr_assert_eq(expunge(2), 0);
	expect_change(15, "00000007");
	expect_change(record(1) + LINE - 15, "0000-00000005");
	expect_change(record(2) + LINE - 15, "8000-00000006");
	expect_change(record(3) + LINE - 15, "8002-00000007");
	expect_change(record(4) + LINE - 15, "0000-00000000");
	scan();
	EXPECT_UIDS(4, 5, 8);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}

TEST(mbxwrite, assign_makes_what_was_shown_true)
{
	begin();
	header(4);
	add(4, MSG_OLD, "aaaaa");
	add(0, 0, "bbbbb");
	add(0, MSG_EXPUNGED, "ccccc");
	add(0, 0, "ddddd");
	open_box();
	scan();
	EXPECT_UIDS(4, 5, 7);
	cr_assert_eq(box->ops->assign(box), 0);
	keep();
	cr_assert_eq(box->ops->assign(box), 0);
	expect_same_but(0, 0);
	scan();
	EXPECT_UIDS(4, 5, 7);
	cr_expect_eq(got.msgs[1].uid_disk, 5);
	cr_expect_eq(got.msgs[2].uid_disk, 7);
	cr_expect_eq(got.msgs[2].flags, 0, "OLD is for sessions to set");
	expect_change(15, "00000007");
	expect_change(record(2) + LINE - 10, "00000006");
	cr_expect_eq(got.scan.uidnext, 8);
	end();
}

TEST(mbxwrite, reserved_uids_are_passed_over)
{
	begin();
	header(4);
	add(4, MSG_OLD, "aaaaa");
	add(0, 0, "bbbbb");
	open_box();
	scan();
	EXPECT_UIDS(4, 5);
	cr_assert_eq(box->ops->reserve(box, 9), 0);
	keep();
	cr_assert_eq(box->ops->reserve(box, 9), 0);
	cr_assert_eq(box->ops->reserve(box, 3), 0);
	cr_expect_eq(box->ops->reserve(box, UINT32_MAX), -EINVAL);
	expect_same_but(0, 0);
	expect_change(15, "00000009");
	add(0, 0, "ccccc");
	scan();
	EXPECT_UIDS(4, 5, 10);
	cr_expect_eq(got.msgs[1].uid_disk, 5);
	cr_expect_eq(got.msgs[2].uid_disk, 0);
	end();
}

TEST(mbxwrite, uids_below_uidlast_need_no_reserving)
{
	begin();
	header(4);
	add(0, 0, "aaaaa");
	open_box();
	scan();
	keep();
	cr_assert_eq(box->ops->reserve(box, 4), 0);
	expect_same_but(0, 0);
	end();
}

TEST(mbxwrite, uids_are_not_given_out_in_a_damaged_file)
{
	static const uint32_t rows[][3] = { { 5, 3, 0 }, { 0, 5, 0 } };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		begin();
		header(5);
		for (unsigned j = 0; j < 3; j++)
			add(rows[i][j], 0, "text.");
		open_box();
		scan();
		cr_assert_eq(got.msgs[2].uid_disk, 0);
		keep();
		cr_expect_eq(box->ops->assign(box), -EBADMSG, "row %zu", i);
		cr_expect_eq(box->ops->reserve(box, 9), -EBADMSG, "row %zu", i);
		cr_expect_eq(expunge(2), -EBADMSG, "row %zu", i);
		expect_same_but(0, 0);
		end();
		fixture_remove(file());
	}
	begin();
	header(5);
	add(0, 0, "text.");
	open_box();
	scan();
	add_raw(TEXT("half a li"));
	keep();
	cr_expect_eq(box->ops->assign(box), -EBADMSG, "a torn tail");
	cr_expect_eq(box->ops->reserve(box, 9), -EBADMSG, "a torn tail");
	cr_expect_eq(expunge(0), -EBADMSG);
	expect_same_but(0, 0);
	end();
}

TEST(mbxwrite, a_number_that_was_not_shown_is_not_given)
{
	begin();
	header(4);
	add(0, 0, "aaaaa");
	open_box();
	scan();
	EXPECT_UIDS(5);
	header(9); /* somebody took numbers meanwhile */
	keep();
	cr_expect_eq(expunge(0), -ESTALE);
	expect_same_but(0, 0);
	end();
}

TEST(mbxwrite, the_last_uid_is_not_passed)
{
	begin();
	header(0xfffffffe);
	add(0, 0, "aaaaa");
	open_box();
	keep();
	cr_expect_eq(box->ops->assign(box), -EBADMSG);
	expect_same_but(0, 0);
	end();
}
