/* Messages that a damaged file does not show any more, and that stay. */
#include "index/sync.h"

#include "fakebox.h"
#include "fixture.h"

/* Six messages of an MBX in folder 1, synced. */
static struct index *make(struct fake *f)
{
	struct index *ix = fake_index();

	fake_init(f);
	for (uint32_t uid = 1; uid <= 6; uid++)
		fake_add(f, uid, uid % 2 ? MSG_OLD : MSG_OLD | MSG_SEEN, 100);
	(void)fake_sync(ix, 1, f);
	fake_check(ix);
	return ix;
}

static void break_at(struct fake *f, uint32_t uid)
{
	f->broken = uid;
	fake_written(f, true);
}

static void empty(struct fake *f, bool on)
{
	f->empty = on;
	fake_written(f, true);
}

static struct index_folder folder(struct index *ix)
{
	struct index_folder row = { 0 };

	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	return row;
}

struct uids {
	uint32_t uid[16];
	size_t count;
};

static int note_uid(const struct msg *m, const char *name, void *arg)
{
	struct uids *u = arg;

	(void)name;
	u->uid[u->count++] = m->uid;
	return 0;
}

/* @want: "1 2 3" */
static void expect_uids(struct index *ix, const char *want)
{
	struct uids u = { .count = 0 };
	char got[128] = "";

	cr_assert_eq(index_each(ix, 1, note_uid, &u), 0);
	for (size_t i = 0; i < u.count; i++)
		(void)snprintf(got + strlen(got), sizeof(got) - strlen(got),
			       "%s%u", i ? " " : "", u.uid[i]);
	cr_assert_str_eq(got, want);
	fake_check(ix);
}

static void expect_text(struct index *ix, const char *end)
{
	struct index_folder row = folder(ix);
	size_t len = strlen(row.damage.text);

	cr_assert_eq(row.damage.kind, DAMAGE_RECORD);
	cr_assert_geq(len, strlen(end), "%s", row.damage.text);
	cr_assert_str_eq(row.damage.text + len - strlen(end), end, "%s",
			 row.damage.text);
}

static void done(struct index *ix, struct fake *f)
{
	fake_fini(f);
	index_close(ix);
}

TEST(kept, what_lies_behind_a_broken_record_stays_and_is_counted)
{
	struct index_folder row;
	struct sync_result r;
	struct fake f;
	struct index *ix = make(&f);

	break_at(&f, 3);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "", 0, 0, 0, 0);
	expect_uids(ix, "1 2 3 4 5 6");
	row = folder(ix);
	cr_assert_eq(row.messages, 6);
	cr_assert_eq(row.unseen, 3);
	cr_assert_eq(row.octets, 600);
	cr_assert_eq(row.uidnext, 7);
	cr_assert_eq(row.next.off, f.msgs[2].m.off - FAKE_LINE);
	cr_assert_eq(row.damage.count, 1);
	expect_text(ix,
		    "expected better; 4 messages behind it are listed but "
		    "cannot be read");
	done(ix, &f);
}

TEST(kept, they_stay_over_later_syncs_until_the_file_is_mended)
{
	struct sync_result r;
	struct fake f;
	struct index *ix = make(&f);

	break_at(&f, 3);
	(void)fake_sync(ix, 1, &f);
	for (unsigned i = 0; i < 3; i++) {
		fake_flag(&f, 1, MSG_OLD | (i % 2 ? 0 : MSG_FLAGGED));
		r = fake_sync(ix, 1, &f);
		FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 0, 1, 0);
		expect_uids(ix, "1 2 3 4 5 6");
	}
	break_at(&f, 0);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "", 0, 0, 0, 0);
	expect_uids(ix, "1 2 3 4 5 6");
	cr_assert_eq(folder(ix).damage.kind, DAMAGE_NONE);
	done(ix, &f);
}

TEST(kept, what_is_missing_from_the_part_that_can_be_read_goes)
{
	struct sync_result r;
	struct fake f;
	struct index *ix = make(&f);

	fake_expunge(&f, 2);
	break_at(&f, 5);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 1, 0, 0);
	expect_uids(ix, "1 3 4 5 6");
	expect_text(ix, "; 2 messages behind it are listed but cannot be read");
	break_at(&f, 6);
	fake_expunge(&f, 5);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 1, 0, 0);
	expect_uids(ix, "1 3 4 6");
	expect_text(ix, "; 1 message behind it is listed but cannot be read");
	done(ix, &f);
}

TEST(kept, a_healthy_file_that_is_shorter_has_lost_them)
{
	struct sync_result r;
	struct fake f;
	struct index *ix = make(&f);

	break_at(&f, 3);
	(void)fake_sync(ix, 1, &f);
	f.broken = 0;
	for (uint32_t uid = 3; uid <= 6; uid++)
		fake_remove(&f, uid);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 4, 0, 0);
	expect_uids(ix, "1 2");
	cr_assert_eq(folder(ix).uidnext, 7);
	done(ix, &f);
}

/* What came before them lies elsewhere than when they were last seen. */
TEST(kept, they_stay_when_the_messages_before_them_moved)
{
	struct fake f;
	struct index *ix = make(&f);

	fake_remove(&f, 1);
	break_at(&f, 4);
	(void)fake_sync(ix, 1, &f);
	expect_uids(ix, "2 3 4 5 6");

	for (size_t i = 0; i < f.count; i++)
		f.msgs[i].m.off += 5000;
	break_at(&f, 4);
	(void)fake_sync(ix, 1, &f);
	expect_uids(ix, "2 3 4 5 6");
	break_at(&f, 3);
	(void)fake_sync(ix, 1, &f);
	expect_uids(ix, "2 3 4 5 6");
	break_at(&f, 0);
	(void)fake_sync(ix, 1, &f);
	expect_uids(ix, "2 3 4 5 6");
	done(ix, &f);
}

/* A whole disk block is gone: the last line that still parses lies about its
 * UID, and the next one does not parse. */
TEST(kept, their_place_counts_when_the_last_uid_is_rubbish)
{
	struct fake f;
	struct index *ix = make(&f);

	f.msgs[1].m.uid = f.uid_last = 4000;
	break_at(&f, 3);
	(void)fake_sync(ix, 1, &f);
	expect_uids(ix, "1 3 4 5 6 4000");
	f.msgs[1].m.uid = 2;
	f.uid_last = 6;
	break_at(&f, 0);
	(void)fake_sync(ix, 1, &f);
	expect_uids(ix, "1 2 3 4 5 6");
	done(ix, &f);
}

TEST(kept, an_empty_file_keeps_everything)
{
	struct index_folder was, row;
	struct sync_result r;
	struct fake f;
	struct index *ix = make(&f);

	(void)strcpy(f.keywords.name[3], "NonJunk");
	fake_written(&f, true);
	(void)fake_sync(ix, 1, &f);
	was = folder(ix);
	empty(&f, true);
	for (unsigned i = 0; i < 3; i++) {
		r = fake_sync(ix, 1, &f);
		FAKE_EXPECT(&r, SYNC_FULL, "", 0, 0, 0, 0);
		expect_uids(ix, "1 2 3 4 5 6");
		expect_text(ix,
			    "the file is empty; 6 messages behind it are "
			    "listed but cannot be read");
		fake_written(&f, true);
	}
	row = folder(ix);
	cr_assert_eq(row.damage.off, 0);
	cr_assert_eq(row.messages, 6);
	cr_assert_eq(row.uidnext, 7);
	cr_assert_eq(row.uidvalidity, was.uidvalidity);
	cr_assert_str_eq(row.keywords.name[3], "NonJunk");
	empty(&f, false);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "", 0, 0, 0, 0);
	expect_uids(ix, "1 2 3 4 5 6");
	cr_assert_eq(folder(ix).damage.kind, DAMAGE_NONE);
	done(ix, &f);
}

TEST(kept, an_empty_file_that_never_had_a_message_is_about_to_be_born)
{
	struct index *ix = fake_index();
	struct fake f;

	fake_init(&f);
	f.empty = true;
	fake_written(&f, true);
	(void)fake_sync(ix, 1, &f);
	cr_assert_eq(folder(ix).damage.kind, DAMAGE_NONE);
	cr_assert_eq(folder(ix).uidvalidity, 0);
	empty(&f, false);
	(void)fake_sync(ix, 1, &f);
	empty(&f, true);
	(void)fake_sync(ix, 1, &f);
	cr_assert_eq(folder(ix).damage.kind, DAMAGE_NONE);
	done(ix, &f);
}

/* One damage after the other, in every order. */
TEST(kept, no_order_of_damages_loses_a_message)
{
	enum { BROKEN_2, BROKEN_5, EMPTY, HEADER, KINDS };

	for (unsigned n = 0; n < KINDS * KINDS * KINDS; n++) {
		struct sync_result r;
		struct fake f;
		struct index *ix = make(&f);

		for (unsigned rest = n, i = 0; i < 3; i++, rest /= KINDS) {
			unsigned kind = rest % KINDS;

			f.broken = kind == BROKEN_2 ? 2
				: kind == BROKEN_5  ? 5
						    : 0;
			f.empty = kind == EMPTY;
			f.scan_err = kind == HEADER ? -EBADMSG : 0;
			fake_written(&f, true);
			cr_assert_eq(sync_box(ix, 1, &f.box, NULL, &r),
				     f.scan_err);
			expect_uids(ix, "1 2 3 4 5 6");
		}
		f.broken = 0;
		f.empty = false;
		f.scan_err = 0;
		fake_written(&f, true);
		r = fake_sync(ix, 1, &f);
		cr_assert_eq(r.added + r.removed + r.changed, 0, "%u", n);
		cr_assert(!r.cur_changed && !r.new_changed, "%u", n);
		expect_uids(ix, "1 2 3 4 5 6");
		cr_assert_eq(index_folder_drop(ix, 1), 0);
		done(ix, &f);
	}
}

TEST(kept, another_uidvalidity_is_another_mailbox)
{
	struct sync_result r;
	struct fake f;
	struct index *ix = make(&f);

	f.uidvalidity++;
	break_at(&f, 3);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "cv", 0, 4, 0, 0);
	expect_uids(ix, "1 2");
	done(ix, &f);
}

TEST(kept, names_of_their_own_stay_with_them)
{
	struct index *ix = fake_index();
	struct msg m = { 0 };
	struct fake f;

	fake_init(&f);
	for (uint32_t uid = 1; uid <= 3; uid++)
		fake_add(&f, uid, MSG_OLD, 100);
	(void)fake_sync(ix, 1, &f);
	cr_assert_eq(index_remove(ix, 1, NULL, 0, &(uint32_t){ 3 }, 1), 0);
	m = f.msgs[2].m;
	cr_assert_eq(index_folder_drop(ix, 1), 0);
	f.count = 2;
	fake_written(&f, true);
	(void)fake_sync(ix, 1, &f);
	cr_assert_eq(index_insert(ix, 1, NULL, 0, &m, "1.agent.host"), 0);
	f.count = 3;
	break_at(&f, 2);
	(void)fake_sync(ix, 1, &f);
	expect_uids(ix, "1 2 3");
	cr_assert_eq(index_by_name(ix, 1, 0, "1.agent.host", &m), 0);
	cr_assert_eq(m.uid, 3);
	done(ix, &f);
}

/* Rows of a Maildir have no place: what is not there is gone. */
TEST(kept, a_maildir_keeps_nothing)
{
	struct index *ix = fake_index();
	struct fake f;

	fake_init(&f);
	for (uint32_t uid = 1; uid <= 3; uid++)
		fake_add(&f, uid, MSG_OLD, 100);
	fake_name(&f, 1, "one");
	fake_name(&f, 2, "two");
	fake_name(&f, 3, "three");
	(void)fake_sync(ix, 1, &f);
	break_at(&f, 3);
	(void)fake_sync(ix, 1, &f);
	expect_uids(ix, "1 2");
	done(ix, &f);
}

TEST(kept, a_date_that_becomes_unreadable_is_remembered)
{
	struct sync_result r;
	struct fake f;
	struct index *ix = make(&f);
	struct msg m;

	for (unsigned i = 0; i < 2; i++) {
		f.msgs[2].m.date = 0;
		f.damage = (struct damage){ .kind = DAMAGE_NONE };
		damage_add(&f.damage, DAMAGE_DATE, 1, 3, "a date");
		fake_written(&f, true);
		r = fake_sync(ix, 1, &f);
		FAKE_EXPECT(&r, SYNC_FULL, "", 0, 0, 0, 0);
		cr_assert_eq(index_by_uid(ix, 1, 3, &m), 0);
		cr_assert_eq(m.date, 1400000003);
		cr_assert_eq(folder(ix).damage.kind, DAMAGE_DATE);
	}
	/* Another size: another message. */
	f.msgs[2].m.size--;
	fake_written(&f, true);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 0, 1, 0);
	cr_assert_eq(index_by_uid(ix, 1, 3, &m), 0);
	cr_assert_eq(m.date, 0);
	done(ix, &f);
}

TEST(kept, nothing_is_put_before_them)
{
	struct fake f;
	struct index *ix = make(&f);
	struct msg m;

	break_at(&f, 3);
	(void)fake_sync(ix, 1, &f);
	m = f.msgs[2].m;
	m.uid = 7;
	cr_assert_eq(index_insert(ix, 1, NULL, 0, &m, NULL), -ESTALE);
	expect_uids(ix, "1 2 3 4 5 6");
	done(ix, &f);
}

TEST(kept, a_long_text_is_cut_for_their_number)
{
	struct fake f;
	struct index *ix = make(&f);

	damage_add(&f.damage, DAMAGE_RECORD, 1, 0, "%0*d", 158, 7);
	break_at(&f, 3);
	(void)fake_sync(ix, 1, &f);
	expect_text(ix,
		    "00; 4 messages behind it are listed but cannot be "
		    "read");
	cr_assert_eq(strlen(folder(ix).damage.text), sizeof(f.damage.text) - 1);
	done(ix, &f);
}
