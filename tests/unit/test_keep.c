#include "index/keep.h"

#include "fakebox.h"
#include "fixture.h"

static struct sync_result keep(struct index *ix, struct fake *f)
{
	struct sync_hooks hooks = { .keep = true };
	struct sync_result r;

	cr_assert_eq(sync_box(ix, 1, &f->box, &hooks, &r), 0);
	return r;
}

/* As UW does it, in the order of the file. */
static void renumber(struct fake *f, const uint32_t *uids, size_t count)
{
	cr_assert_eq(f->count, count);
	f->uidvalidity++;
	f->uid_last = 0;
	for (size_t i = 0; i < count; i++) {
		f->msgs[i].m.uid = f->msgs[i].m.uid_disk = uids[i];
		if (uids[i] > f->uid_last)
			f->uid_last = uids[i];
	}
	fake_written(f, true);
}

static int add_uid(const struct msg *m, const char *name, void *arg)
{
	char *text = arg;
	size_t len = strlen(text);

	(void)name;
	(void)snprintf(text + len, 200 - len, "%u:%ju ", m->uid,
		       (uintmax_t)m->size);
	return 0;
}

/* UID:SIZE of each row. */
static void expect_rows(struct index *ix, const char *want)
{
	char text[200] = "";

	cr_assert_eq(index_each(ix, 1, add_uid, text), 0);
	cr_assert_str_eq(text, want);
}

static void expect_regime(struct index *ix, uint32_t shown, uint32_t on_disk)
{
	struct index_folder row;

	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_expect_eq(row.uidvalidity, shown);
	cr_expect_eq(row.on_disk, on_disk);
	cr_expect_eq(row.damage.kind,
		     shown == on_disk ? DAMAGE_NONE : DAMAGE_REGIME);
}

enum { V = 0x4b000001 };

TEST(keep, messages_keep_the_uids_that_were_shown)
{
	static const uint32_t anew[] = { 1, 2, 3, 4 };
	struct index *ix = fake_index();
	struct sync_result r;
	struct fake f;

	fake_init(&f);
	fake_add(&f, 3, MSG_OLD, 100);
	fake_add(&f, 7, MSG_OLD, 200);
	fake_add(&f, 8, MSG_OLD, 300);
	keep(ix, &f);
	fake_add(&f, 9, 0, 400);
	renumber(&f, anew, ARRAY_LEN(anew));
	r = keep(ix, &f);
	cr_expect(!r.uidvalidity_changed);
	cr_expect_eq(r.removed, 0);
	cr_expect_eq(r.added, 1);
	expect_rows(ix, "3:100 7:200 8:300 9:400 ");
	expect_regime(ix, V, V + 1);
	fake_check(ix);

	/* The same again, and a delivery that nobody has numbered. */
	fake_add(&f, 5, 0, 500)->m.uid_disk = 0;
	keep(ix, &f);
	expect_rows(ix, "3:100 7:200 8:300 9:400 10:500 ");
	fake_flag(&f, 2, MSG_OLD | MSG_SEEN);
	r = keep(ix, &f);
	cr_expect_eq(r.added + r.removed, 0);
	cr_expect_eq(r.changed, 1);
	expect_rows(ix, "3:100 7:200 8:300 9:400 10:500 ");
	fake_fini(&f);
	index_close(ix);
}

TEST(keep, rows_that_are_not_trusted_are_rows_all_the_same)
{
	static const uint32_t anew[] = { 1, 2 };
	static const struct stamp none;
	struct index *ix = fake_index();
	struct fake f;

	fake_init(&f);
	fake_add(&f, 3, MSG_OLD, 100);
	fake_add(&f, 7, MSG_OLD, 200);
	keep(ix, &f);
	cr_assert_eq(index_update(ix, 1, &none, 0, NULL, 0), 0);
	renumber(&f, anew, ARRAY_LEN(anew));
	keep(ix, &f);
	expect_rows(ix, "3:100 7:200 ");
	expect_regime(ix, V, V + 1);
	fake_fini(&f);
	index_close(ix);
}

TEST(keep, what_was_moved_is_known_by_size_and_date)
{
	static const uint32_t anew[] = { 1, 2 };
	struct index *ix = fake_index();
	struct fake f;

	fake_init(&f);
	fake_add(&f, 3, MSG_OLD, 100);
	fake_add(&f, 7, MSG_OLD, 200);
	fake_add(&f, 8, MSG_OLD, 300);
	keep(ix, &f);
	fake_remove(&f, 3);
	renumber(&f, anew, ARRAY_LEN(anew));
	keep(ix, &f);
	expect_rows(ix, "7:200 8:300 ");
	fake_fini(&f);
	index_close(ix);
}

/* Three that are alike, and what lies behind them. */
static void make_alike(struct fake *f, uint64_t last)
{
	fake_init(f);
	for (uint32_t uid = 3; uid < 6; uid++)
		fake_add(f, uid, MSG_OLD, 100)->m.date = 1400000000;
	if (last)
		fake_add(f, 9, MSG_OLD, last);
}

TEST(keep, no_uid_comes_to_stand_for_another_message)
{
	static const uint32_t anew[] = { 1, 2, 3, 4, 5, 6 };
	struct index *ix = fake_index();
	struct index_folder row;
	struct fake f;

	/* The first is taken out, and one that is alike comes behind. */
	make_alike(&f, 200);
	fake_add(&f, 20, MSG_OLD, 600);
	fake_add(&f, 21, MSG_OLD, 700);
	keep(ix, &f);
	fake_remove(&f, 3);
	fake_add(&f, 22, MSG_OLD, 100)->m.date = 1400000000;
	renumber(&f, anew, ARRAY_LEN(anew));
	keep(ix, &f);
	expect_rows(ix, "9:200 20:600 21:700 22:100 23:100 24:100 ");
	/* In such an order they cannot be written into the mailbox. */
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_expect(strstr(row.damage.text,
			 "UID 23 lies before lower ones: move"),
		  "%s", row.damage.text);
	fake_fini(&f);
	index_close(ix);
}

TEST(keep, what_lies_before_one_that_did_not_move_did_not_either)
{
	static const uint32_t anew[] = { 1, 2, 3, 4 };
	struct index *ix = fake_index();
	struct fake f;

	make_alike(&f, 200);
	keep(ix, &f);
	renumber(&f, anew, ARRAY_LEN(anew));
	keep(ix, &f);
	expect_rows(ix, "3:100 4:100 5:100 9:200 ");
	fake_fini(&f);
	index_close(ix);
}

TEST(keep, another_mailbox_is_not_taken_for_this_one)
{
	static const uint32_t anew[] = { 1, 2, 3 };
	struct index *ix = fake_index();
	struct sync_result r;
	struct fake f;

	make_alike(&f, 0);
	keep(ix, &f);
	renumber(&f, anew, ARRAY_LEN(anew));
	r = keep(ix, &f);
	cr_expect(r.uidvalidity_changed);
	expect_regime(ix, V + 1, V + 1);
	expect_rows(ix, "1:100 2:100 3:100 ");

	/* Nor is another file. */
	f.stamp.ino++;
	fake_add(&f, 4, 0, 700);
	keep(ix, &f);
	f.stamp.ino++;
	renumber(&f, (const uint32_t[]){ 5, 6, 7, 8 }, 4);
	r = keep(ix, &f);
	cr_expect(r.uidvalidity_changed);
	expect_rows(ix, "5:100 6:100 7:100 8:700 ");
	fake_fini(&f);
	index_close(ix);
}

static uint32_t keywords_of(struct index *ix, uint32_t uid)
{
	struct msg m;

	cr_assert_eq(index_by_uid(ix, 1, uid, &m), 0);
	return m.keywords;
}

TEST(keep, a_keyword_keeps_its_slot_until_it_has_another)
{
	struct sync_hooks hooks = { .keep = true, .slots = true };
	struct index *ix = fake_index();
	struct index_folder row;
	struct sync_result r;
	struct fake f;

	fake_init(&f);
	strcpy(f.keywords.name[0], "Foo");
	fake_add(&f, 1, MSG_OLD, 100)->m.keywords = 1;
	fake_add(&f, 2, MSG_OLD, 200);
	keep(ix, &f);
	strcpy(f.keywords.name[0], "Bar");
	fake_find(&f, 2)->m.keywords = 1 | 4;
	fake_flag(&f, 2, MSG_OLD | MSG_SEEN);
	fake_add(&f, 3, MSG_OLD, 300)->m.keywords = 1;
	keep(ix, &f);
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_expect_str_eq(row.keywords.name[0], "Foo");
	cr_expect_eq(row.damage.kind, DAMAGE_SLOTS);
	cr_expect_eq(keywords_of(ix, 1), 1);
	cr_expect_eq(keywords_of(ix, 2), 4);
	cr_expect_eq(keywords_of(ix, 3), 0);

	/* Now it has one. */
	strcpy(f.keywords.name[1], "Foo");
	fake_find(&f, 1)->m.keywords = 2;
	fake_flag(&f, 1, MSG_OLD);
	cr_assert_eq(sync_box(ix, 1, &f.box, &hooks, &r), 0);
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_expect_str_eq(row.keywords.name[0], "Bar");
	cr_expect_eq(row.damage.kind, DAMAGE_NONE);
	cr_expect_eq(keywords_of(ix, 1), 2);
	cr_expect_eq(keywords_of(ix, 2), 1 | 4);
	cr_expect_eq(keywords_of(ix, 3), 1);
	fake_check(ix);
	fake_fini(&f);
	index_close(ix);
}
