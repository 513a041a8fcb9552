/* How sync_box() chooses between nothing, tail and full, and how it fails. */
#include "index/sync.h"

#include <time.h>

#include "compat/io.h"
#include "fakebox.h"
#include "fixture.h"

/* Full, tail, nothing. */

static int64_t now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return io_ns(&ts);
}

TEST(tail, only_growth_alone_is_read_as_a_tail)
{
	static const struct {
		const char *what;
		struct stamp add; /* to the stamp, besides growth */
		enum sync_how how;
	} rows[] = {
		{ "grown", { 0 }, SYNC_TAIL },
		{ "another device", { .dev = 1 }, SYNC_FULL },
		{ "another inode", { .ino = 1 }, SYNC_FULL },
		{ "mtime later", { .mtime_ns = 1 }, SYNC_FULL },
		{ "mtime earlier", { .mtime_ns = -1 }, SYNC_FULL },
		{ "not larger", { .size = (uint64_t)-64 }, SYNC_FULL },
	};
	struct index *ix = fake_index();

	for (uint32_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sync_result r;
		struct fake f;

		fake_init(&f);
		fake_add(&f, 1, MSG_OLD, 9);
		(void)fake_sync(ix, i, &f);
		fake_add(&f, 2, MSG_OLD, 9);
		f.stamp.dev += rows[i].add.dev;
		f.stamp.ino += rows[i].add.ino;
		f.stamp.mtime_ns += rows[i].add.mtime_ns;
		f.stamp.size += rows[i].add.size;
		r = fake_sync(ix, i, &f);
		cr_expect_eq(r.how, rows[i].how, "%s", rows[i].what);
		cr_expect_eq(r.added, 1, "%s", rows[i].what);
		cr_expect_eq(f.delivered, rows[i].how == SYNC_TAIL ? 1 : 2,
			     "%s", rows[i].what);
		fake_fini(&f);
	}
	fake_check(ix);
	index_close(ix);
}

TEST(tail, an_mtime_of_this_second_is_not_trusted_for_a_tail)
{
	struct index *ix = fake_index();
	struct fake f;

	fake_init(&f);
	fake_add(&f, 1, MSG_OLD, 9);
	f.stamp.mtime_ns = now() - 1000000000;
	(void)fake_sync(ix, 1, &f);
	/* Its flags change within that second: mtime stays. */
	f.msgs[0].m.flags |= MSG_SEEN;
	fake_add(&f, 2, MSG_OLD, 9);
	cr_assert_eq(fake_sync(ix, 1, &f).how, SYNC_FULL);
	f.stamp.mtime_ns = now() - 2100000000;
	(void)fake_sync(ix, 1, &f);
	fake_add(&f, 3, MSG_OLD, 9);
	cr_assert_eq(fake_sync(ix, 1, &f).how, SYNC_TAIL);
	fake_fini(&f);
	index_close(ix);
}

TEST(tail, a_stamp_within_a_tick_of_its_change_is_not_trusted)
{
	static const struct {
		int64_t age_ns;
		bool whole; /* a file system that keeps whole seconds */
		enum sync_how how;
	} rows[] = {
		{ 0, false, SYNC_FULL },
		{ 100000000, false, SYNC_NOTHING },
		{ 1000000000, true, SYNC_FULL },
		{ 3000000000, true, SYNC_NOTHING },
		{ -3000000000, false, SYNC_NOTHING },
	};
	struct index *ix = fake_index();

	for (uint32_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sync_result r;
		struct fake f;
		int64_t t;

		fake_init(&f);
		fake_add(&f, 1, MSG_OLD, 9);
		t = now() - rows[i].age_ns;
		if (rows[i].whole)
			t -= t % 1000000000;
		else
			t |= 1;
		f.stamp.ctime_ns = t;
		(void)fake_sync(ix, i, &f);
		/* In the same tick: the stamp stays. */
		f.msgs[0].m.flags |= MSG_SEEN;
		r = fake_sync(ix, i, &f);
		cr_expect_eq(r.how, rows[i].how, "%u", i);
		cr_expect_eq(r.changed, rows[i].how == SYNC_FULL, "%u", i);
		fake_fini(&f);
	}
	index_close(ix);
}

static void flag_first(struct fake *f)
{
	fake_flag(f, 1, MSG_OLD | MSG_FLAGGED);
}

TEST(tail, a_change_during_a_scan_is_seen_by_the_next_one)
{
	struct index *ix = fake_index();
	struct sync_result r;
	struct fake f;
	struct msg m;

	fake_init(&f);
	fake_add(&f, 1, MSG_OLD, 9);
	fake_add(&f, 2, MSG_OLD, 9);
	f.during = flag_first;
	(void)fake_sync(ix, 1, &f);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 0, 1, 0);
	cr_assert_eq(index_by_uid(ix, 1, 1, &m), 0);
	cr_assert_eq(m.flags, MSG_OLD | MSG_FLAGGED);
	fake_fini(&f);
	index_close(ix);
}

TEST(tail, a_change_between_the_look_and_a_tail_scan_makes_it_full)
{
	struct index *ix = fake_index();
	struct sync_result r;
	struct fake f;
	struct msg m;

	fake_init(&f);
	fake_add(&f, 1, MSG_OLD, 9);
	(void)fake_sync(ix, 1, &f);
	fake_add(&f, 2, MSG_OLD, 9);
	f.before = flag_first;
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 1, 0, 1, 0);
	cr_assert_eq(index_by_uid(ix, 1, 1, &m), 0);
	cr_assert_eq(m.flags, MSG_OLD | MSG_FLAGGED);
	cr_assert_eq(fake_sync(ix, 1, &f).how, SYNC_NOTHING);
	fake_fini(&f);
	index_close(ix);
}

TEST(tail, a_tail_that_does_not_fit_is_read_in_full_once)
{
	struct index *ix = fake_index();
	struct sync_result r;
	struct fake f;

	fake_init(&f);
	fake_add(&f, 1, MSG_OLD, 9);
	(void)fake_sync(ix, 1, &f);
	fake_add(&f, 2, MSG_OLD, 9);
	f.tail_err = -ESTALE;
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 1, 0, 0, 0);
	cr_assert_eq(f.scans, 3);

	fake_add(&f, 3, MSG_OLD, 9);
	f.scan_err = -ESTALE;
	cr_assert_eq(sync_box(ix, 1, &f.box, NULL, &r), -ESTALE);
	cr_assert_eq(f.scans, 5);
	f.tail_err = -EAGAIN;
	f.scan_err = 0;
	cr_assert_eq(sync_box(ix, 1, &f.box, NULL, &r), -EAGAIN);
	cr_assert_eq(f.scans, 6);
	fake_fini(&f);
	index_close(ix);
}

TEST(tail, a_tail_with_uids_that_are_taken_is_read_in_full)
{
	struct index *ix = fake_index();
	struct fake f;

	fake_init(&f);
	fake_add(&f, 10, MSG_OLD, 9);
	(void)fake_sync(ix, 1, &f);
	f.msgs[0].m.uid = 3;
	fake_add(&f, 4, MSG_OLD, 9);
	cr_assert_eq(fake_sync(ix, 1, &f).how, SYNC_FULL);
	fake_check(ix);
	fake_fini(&f);
	index_close(ix);
}

/* Damage and failure. */

TEST(tail, a_damaged_header_keeps_the_rows_and_says_so)
{
	struct index *ix = fake_index();
	struct index_folder row;
	struct sync_result r;
	struct fake f;
	struct msg m;

	fake_init(&f);
	fake_add(&f, 1, MSG_OLD, 9);
	(void)fake_sync(ix, 1, &f);
	fake_written(&f, true);
	f.scan_err = -EBADMSG;
	damage_add(&f.damage, DAMAGE_HEADER, 0, 0, "no header");
	cr_assert_eq(sync_box(ix, 1, &f.box, NULL, &r), -EBADMSG);
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_assert_eq(row.damage.kind, DAMAGE_HEADER);
	cr_assert_str_eq(row.damage.text, "no header");
	cr_assert_eq(row.messages, 1);
	cr_assert_eq(index_by_uid(ix, 1, 1, &m), 0);
	fake_check(ix);

	f.scans = 0;
	cr_assert_eq(sync_box(ix, 1, &f.box, NULL, &r), -EBADMSG);
	cr_assert_eq(f.scans, 0);

	/* Repaired, and grown: damage is not a thing to read a tail over. */
	f.scan_err = 0;
	f.damage = (struct damage){ 0 };
	fake_add(&f, 2, MSG_OLD, 9);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 1, 0, 0, 0);
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_assert_eq(row.damage.kind, DAMAGE_NONE);
	fake_fini(&f);
	index_close(ix);
}

TEST(tail, a_folder_that_was_never_good_has_a_row_as_well)
{
	struct index *ix = fake_index();
	struct index_folder row;
	struct sync_result r;
	struct fake f;

	fake_init(&f);
	f.scan_err = -EBADMSG;
	cr_assert_eq(sync_box(ix, 1, &f.box, NULL, &r), -EBADMSG);
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_assert_eq(row.damage.kind, DAMAGE_HEADER);
	cr_assert_eq(row.messages, 0);
	fake_check(ix);
	fake_fini(&f);
	index_close(ix);
}

TEST(tail, damage_within_is_remembered_beside_what_is_good)
{
	struct index *ix = fake_index();
	struct index_folder row;
	struct fake f;

	fake_init(&f);
	fake_add(&f, 1, MSG_OLD, 9);
	damage_add(&f.damage, DAMAGE_DATE, 2048, 1, "a date");
	(void)fake_sync(ix, 1, &f);
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_assert_eq(row.damage.kind, DAMAGE_DATE);
	cr_assert_eq(row.damage.uid, 1);
	cr_assert_eq(row.messages, 1);
	fake_add(&f, 2, MSG_OLD, 9);
	cr_assert_eq(fake_sync(ix, 1, &f).how, SYNC_FULL);
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_assert_eq(row.damage.count, 1);
	fake_fini(&f);
	index_close(ix);
}

TEST(tail, a_back_end_that_breaks_its_contract_changes_nothing)
{
	struct index *ix = fake_index();
	struct sync_result r;
	struct fake f;
	struct msg m;

	fake_init(&f);
	fake_add(&f, 1, MSG_OLD, 9);
	fake_add(&f, 2, MSG_OLD, 9);
	(void)fake_sync(ix, 1, &f);
	f.msgs[1].m.uid = 1;
	fake_written(&f, true);
	cr_assert_eq(sync_box(ix, 1, &f.box, NULL, &r), -EPROTO);
	f.msgs[1].m.uid = 2;
	f.msgs[0].m.uid = 0;
	cr_assert_eq(sync_box(ix, 1, &f.box, NULL, &r), -EPROTO);
	f.msgs[0].m.uid = 1;
	f.msgs[1].m.flags |= MSG_EXPUNGED;
	cr_assert_eq(sync_box(ix, 1, &f.box, NULL, &r), -EPROTO);
	f.stamp_err = -EIO;
	cr_assert_eq(sync_box(ix, 1, &f.box, NULL, &r), -EIO);
	cr_assert_eq(index_by_uid(ix, 1, 1, &m), 0);
	cr_assert_eq(index_by_uid(ix, 1, 2, &m), 0);
	fake_check(ix);
	fake_fini(&f);
	index_close(ix);
}
