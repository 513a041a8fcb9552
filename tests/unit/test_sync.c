#include "index/sync.h"

#include <sys/wait.h>
#include <unistd.h>

#include "compat/basename.h"
#include "fakebox.h"
#include "fixture.h"
#include "index/db.h"

static uint64_t puts_of(struct index *ix)
{
	struct db_stats s;

	cr_assert_eq(db_stats(index_db(ix), &s), 0);
	return s.puts;
}

TEST(sync, a_life_of_a_folder)
{
	struct index *ix = fake_index();
	struct index_folder row;
	struct sync_result r;
	struct fake f;
	struct msg m;

	fake_init(&f);
	fake_add(&f, 3, 0, 100);
	fake_add(&f, 5, MSG_OLD | MSG_SEEN, 200);
	fake_add(&f, 9, MSG_OLD, 300);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "cn", 3, 0, 0, 0);
	fake_check(ix);

	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_NOTHING, "", 0, 0, 0, 0);
	cr_assert_eq(f.scans, 1);

	fake_add(&f, 10, 0, 50);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_TAIL, "n", 1, 0, 0, 0);
	cr_assert_eq(f.delivered, 1);
	fake_check(ix);

	fake_flag(&f, 5, MSG_OLD);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 0, 1, 0);

	fake_remove(&f, 5);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 1, 0, 2);
	fake_check(ix);

	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_assert_eq(row.messages, 3);
	cr_assert_eq(row.unseen, 3);
	cr_assert_eq(row.octets, 450);
	cr_assert_eq(row.uidnext, 11);
	cr_assert_eq(row.uidvalidity, 0x4b000001);
	cr_assert_eq(index_by_uid(ix, 1, 9, &m), 0);
	cr_assert_eq(m.off, fake_find(&f, 9)->m.off);
	cr_assert_eq(index_by_uid(ix, 1, 5, &m), -ENOENT);
	fake_fini(&f);
	index_close(ix);
}

/* What shows where. */

TEST(sync, only_an_mbx_message_without_anything_set_shows_in_new)
{
	static const struct {
		uint32_t flags, keywords;
		bool in_new;
	} rows[] = {
		{ 0, 0, true },
		{ MSG_OLD, 0, false },
		{ MSG_SEEN, 0, false },
		{ MSG_DELETED, 0, false },
		{ MSG_FLAGGED, 0, false },
		{ MSG_ANSWERED, 0, false },
		{ MSG_DRAFT, 0, false },
		{ 0, 1, false },
		{ 0, 1U << 31, false },
		{ 0x40, 0, true },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct msg m = { .flags = rows[i].flags,
				 .keywords = rows[i].keywords };

		cr_assert_eq(info_in_new(&m), rows[i].in_new, "%zu", i);
	}
}

/* One message, changed from one value to another. */
struct change {
	uint32_t flags, keywords;
	int64_t date;
	uint64_t size, off;
	uint32_t uid_disk;
};

TEST(sync, knows_which_directory_a_change_shows_in)
{
	static const struct {
		const char *what, *dirs;
		bool place_only;
		struct change from, to;
	} rows[] = {
		{ "seen, in cur",
		  "c",
		  false,
		  { .flags = MSG_OLD },
		  { .flags = MSG_OLD | MSG_SEEN } },
		{ "out of new", "cn", false, { 0 }, { .flags = MSG_OLD } },
		{ "a keyword in new", "cn", false, { 0 }, { .keywords = 4 } },
		{ "a letter",
		  "c",
		  false,
		  { .flags = MSG_OLD },
		  { .flags = MSG_OLD, .keywords = 1U << 25 } },
		{ "a slot beyond the letters",
		  "c",
		  false,
		  { .flags = MSG_OLD },
		  { .flags = MSG_OLD, .keywords = 1U << 29 } },
		{ "no slot",
		  "",
		  false,
		  { .flags = MSG_OLD },
		  { .flags = MSG_OLD, .keywords = 1U << 30 } },
		{ "old, in cur",
		  "",
		  false,
		  { .flags = MSG_SEEN },
		  { .flags = MSG_OLD | MSG_SEEN } },
		{ "a date, in new", "n", false, { 0 }, { .date = 1 } },
		{ "a size, in new", "n", false, { 0 }, { .size = 8 } },
		{ "a place", "", true, { 0 }, { .off = 3000 } },
		{ "UID on disk", "", true, { 0 }, { .uid_disk = 1 } },
	};
	struct index *ix = fake_index();

	for (uint32_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct change *both[2] = { &rows[i].from, &rows[i].to };
		struct sync_result r;
		struct fake f;

		fake_init(&f);
		fake_add(&f, 1, 0, 9);
		for (unsigned k = 0; k < 2; k++) {
			struct msg *m = &f.msgs[0].m;

			m->flags = both[k]->flags;
			m->keywords = both[k]->keywords;
			m->date = both[k]->date;
			m->size = both[k]->size ? both[k]->size : 9;
			m->off = both[k]->off ? both[k]->off : 4000;
			m->uid_disk = both[k]->uid_disk;
			fake_written(&f, true);
			r = fake_sync(ix, i, &f);
		}
		cr_expect_eq(r.changed, !rows[i].place_only, "%s",
			     rows[i].what);
		cr_expect_eq(r.moved, rows[i].place_only, "%s", rows[i].what);
		cr_expect_eq(r.cur_changed, strchr(rows[i].dirs, 'c') != NULL,
			     "%s", rows[i].what);
		cr_expect_eq(r.new_changed, strchr(rows[i].dirs, 'n') != NULL,
			     "%s", rows[i].what);
		fake_fini(&f);
	}
	fake_check(ix);
	index_close(ix);
}

TEST(sync, a_new_uidvalidity_changes_every_name)
{
	struct index *ix = fake_index();
	struct index_folder row;
	struct sync_result r;
	struct fake f;

	fake_init(&f);
	fake_add(&f, 1, MSG_OLD, 9);
	fake_add(&f, 2, 0, 9);
	(void)fake_sync(ix, 1, &f);
	/* Grown, mtime kept, and yet another mailbox. */
	f.uidvalidity++;
	fake_add(&f, 3, MSG_OLD, 9);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "cnv", 1, 0, 0, 0);
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_assert_eq(row.uidvalidity, f.uidvalidity);
	fake_fini(&f);
	index_close(ix);
}

TEST(sync, keeps_the_keyword_table)
{
	struct index *ix = fake_index();
	struct index_folder row;
	struct sync_result r;
	struct fake f;

	fake_init(&f);
	(void)strcpy(f.keywords.name[0], "$Forwarded");
	(void)strcpy(f.keywords.name[31], "last");
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "k", 0, 0, 0, 0);
	(void)strcpy(f.keywords.name[1], "NonJunk");
	fake_written(&f, true);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "k", 0, 0, 0, 0);
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_assert_str_eq(row.keywords.name[0], "$Forwarded");
	cr_assert_str_eq(row.keywords.name[1], "NonJunk");
	cr_assert_str_eq(row.keywords.name[2], "");
	cr_assert_str_eq(row.keywords.name[31], "last");
	fake_written(&f, true);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "", 0, 0, 0, 0);
	fake_fini(&f);
	index_close(ix);
}

/* Names of their own. */

static uint32_t uid_of(struct index *ix, const char *name)
{
	struct msg m = { 0 };
	int err = index_by_name(ix, 1, 0, name, &m);

	cr_assert(err == 0 || err == -ENOENT);
	return err ? 0 : m.uid;
}

TEST(sync, messages_may_swap_and_pass_on_their_names)
{
	struct index *ix = fake_index();
	struct fake f;

	fake_init(&f);
	for (uint32_t uid = 1; uid <= 4; uid++)
		fake_add(&f, uid, MSG_OLD, 9);
	fake_name(&f, 1, "a");
	fake_name(&f, 2, "b");
	fake_name(&f, 3, "c");
	fake_name(&f, 4, "d");
	(void)fake_sync(ix, 1, &f);
	fake_check(ix);

	fake_name(&f, 1, "b");
	fake_name(&f, 2, "a");
	cr_assert_eq(fake_sync(ix, 1, &f).changed, 2);
	cr_assert_eq(uid_of(ix, "a"), 2);
	cr_assert_eq(uid_of(ix, "b"), 1);
	fake_check(ix);

	/* UID 3 goes and its name comes back with a new UID, as in a uidlist
	 * that was made anew; a flag moves, the name stays. */
	fake_remove(&f, 3);
	fake_add(&f, 5, MSG_OLD, 9);
	fake_name(&f, 5, "c");
	fake_flag(&f, 4, MSG_OLD | MSG_SEEN);
	(void)fake_sync(ix, 1, &f);
	cr_assert_eq(uid_of(ix, "c"), 5);
	cr_assert_eq(uid_of(ix, "d"), 4);
	fake_check(ix);

	/* A name goes away altogether. */
	free(f.msgs[0].name);
	f.msgs[0].name = NULL;
	fake_written(&f, true);
	(void)fake_sync(ix, 1, &f);
	cr_assert_eq(uid_of(ix, "b"), 0);
	fake_check(ix);
	fake_fini(&f);
	index_close(ix);
}

TEST(sync, a_name_that_two_messages_have_fails_and_changes_nothing)
{
	struct index *ix = fake_index();
	struct sync_result r;
	struct fake f;

	fake_init(&f);
	fake_add(&f, 1, MSG_OLD, 9);
	fake_add(&f, 2, MSG_OLD, 9);
	fake_name(&f, 1, "a");
	fake_name(&f, 2, "b");
	(void)fake_sync(ix, 1, &f);
	fake_name(&f, 2, "a");
	cr_assert_eq(sync_box(ix, 1, &f.box, NULL, &r), -EEXIST);
	cr_assert_eq(uid_of(ix, "a"), 1);
	cr_assert_eq(uid_of(ix, "b"), 2);
	fake_check(ix);
	fake_fini(&f);
	index_close(ix);
}

TEST(sync, a_maildir_message_lies_where_its_recent_flag_says)
{
	struct index *ix = fake_index();
	struct sync_result r;
	struct fake f;

	fake_init(&f);
	fake_add(&f, 1, MSG_SEEN, 9);
	fake_name(&f, 1, "a");
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "n", 1, 0, 0, 0);
	fake_flag(&f, 1, MSG_SEEN | MSG_OLD);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "cn", 0, 0, 1, 0);
	fake_fini(&f);
	index_close(ix);
}

TEST(sync, messages_without_uid_are_counted_and_have_no_row)
{
	struct index *ix = fake_index();
	struct index_folder row;
	struct sync_result r;
	struct fake f;

	fake_init(&f);
	fake_add(&f, 4, MSG_OLD, 9);
	fake_add(&f, 0, 0, 9);
	fake_add(&f, 0, 0, 9);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "cn", 1, 0, 0, 0);
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_assert_eq(row.messages, 1);
	cr_assert_eq(row.unlisted, 2);
	fake_written(&f, true);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "", 0, 0, 0, 0);
	f.msgs[1].m.uid = 5;
	f.uid_last = 5;
	fake_written(&f, true);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "cn", 1, 0, 0, 0);
	fake_check(ix);
	fake_fini(&f);
	index_close(ix);
}

/* Telling others. */

struct told {
	struct index *ix;
	unsigned calls;
	uint64_t messages; /* in the index when it was called */
	int result;
};

static int tell(const struct sync_result *r, void *arg)
{
	struct told *t = arg;
	struct index_folder row = { 0 };

	cr_assert(r->cur_changed || r->new_changed);
	(void)!index_folder_get(t->ix, 1, &row);
	t->messages = row.messages;
	t->calls++;
	return t->result;
}

TEST(sync, tells_of_names_before_the_rows_change_and_only_then)
{
	struct index *ix = fake_index();
	struct told t = { .ix = ix };
	struct sync_hooks hooks = { .names = tell, .arg = &t };
	struct sync_result r;
	struct index_folder row;
	struct fake f;

	fake_init(&f);
	cr_assert_eq(sync_box(ix, 1, &f.box, &hooks, &r), 0);
	cr_assert_eq(t.calls, 0);
	fake_add(&f, 1, MSG_OLD, 9);
	cr_assert_eq(sync_box(ix, 1, &f.box, &hooks, &r), 0);
	cr_assert_eq(t.calls, 1);
	cr_assert_eq(t.messages, 0);
	cr_assert_eq(sync_box(ix, 1, &f.box, &hooks, &r), 0);
	f.msgs[0].m.keywords = 1U << 30;
	fake_written(&f, true);
	cr_assert_eq(sync_box(ix, 1, &f.box, &hooks, &r), 0);
	cr_assert_eq(t.calls, 1);

	fake_add(&f, 2, MSG_OLD, 9);
	t.result = -EDOM;
	cr_assert_eq(sync_box(ix, 1, &f.box, &hooks, &r), -EDOM);
	cr_assert_eq(index_folder_get(ix, 1, &row), 0);
	cr_assert_eq(row.messages, 1);
	t.result = 0;
	cr_assert_eq(sync_box(ix, 1, &f.box, &hooks, &r), 0);
	cr_assert_eq(t.calls, 3);
	cr_assert_eq(r.added, 1);
	fake_fini(&f);
	index_close(ix);
}

static int die(const struct sync_result *r, void *arg)
{
	(void)r;
	(void)arg;
	_exit(7);
}

TEST(sync, killed_when_it_tells_leaves_the_index_as_it_was)
{
	static const struct sync_hooks hooks = { .names = die };
	struct index *ix = fake_index();
	struct sync_result r;
	struct fake f;
	int status;
	pid_t pid;

	fake_init(&f);
	for (uint32_t uid = 1; uid <= 100; uid++)
		fake_add(&f, uid, MSG_OLD, 9);
	(void)fake_sync(ix, 1, &f);
	index_close(ix);
	fake_remove(&f, 50);
	fake_add(&f, 101, 0, 9);
	pid = fork();
	if (pid == 0) {
		ix = fake_index();
		(void)!sync_box(ix, 1, &f.box, &hooks, &r);
		_exit(1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(WEXITSTATUS(status), 7);

	ix = fake_index();
	fake_check(ix);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "cn", 1, 1, 0, 50);
	fake_check(ix);
	fake_fini(&f);
	index_close(ix);
}

/* Size. */

TEST(sync, a_hundred_thousand_messages_cost_what_changed)
{
	enum { MANY = 100000 };
	struct index *ix = fake_index();
	struct db_stats s;
	struct sync_result r;
	struct fake f;
	uint64_t puts;

	fake_init(&f);
	for (uint32_t uid = 1; uid <= MANY; uid++)
		fake_add(&f, uid, MSG_OLD, 5000);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", MANY, 0, 0, 0);
	cr_assert_eq(db_stats(index_db(ix), &s), 0);
	cr_assert_lt(s.used, 100UL * MANY);

	puts = puts_of(ix);
	for (uint32_t uid = MANY + 1; uid <= MANY + 10; uid++)
		fake_add(&f, uid, MSG_OLD, 5000);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_TAIL, "c", 10, 0, 0, 0);
	cr_assert_eq(f.delivered, 10);
	cr_assert_eq(puts_of(ix) - puts, 10 + 1);

	puts = puts_of(ix);
	cr_assert_eq(fake_sync(ix, 1, &f).how, SYNC_NOTHING);
	cr_assert_eq(puts_of(ix) - puts, 0);

	for (uint32_t uid = 7; uid <= MANY; uid += 100)
		fake_find(&f, uid)->m.flags |= MSG_SEEN;
	fake_written(&f, true);
	r = fake_sync(ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 0, MANY / 100, 0);
	cr_assert_eq(puts_of(ix) - puts, MANY / 100 + 1);
	fake_check(ix);
	fake_fini(&f);
	index_close(ix);
}
