#include "index/index.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/basename.h"
#include "fakebox.h"
#include "fixture.h"
#include "index/db.h"
#include "index/row.h"

/* Opening. */

TEST(index, is_made_in_a_directory_of_its_own)
{
	struct index *ix = fake_index();
	struct index_folder row;
	struct stat st;

	cr_assert_eq(stat(fake_path("index"), &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0700);
	cr_assert_eq(stat(fake_path("index/data.mdb"), &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(index_folder_get(ix, 1, &row), -ENOENT);
	fake_check(ix);
	index_close(ix);
	index_close(NULL);
}

TEST(index, keeps_what_it_knows)
{
	struct index *ix;

	fake_make_index(3);
	ix = fake_index();
	cr_assert_eq(fake_messages(ix, 1), 3);
	index_close(ix);
}

TEST(index, has_one_owner)
{
	struct index *ix = fake_index(), *second = NULL;

	cr_assert_eq(index_open(fake_path("index"), false, &second), -EBUSY);
	index_close(ix);
	ix = fake_index();
	index_close(ix);
}

TEST(index, refuses_a_directory_that_others_may_enter)
{
	static const mode_t modes[] = { 0755, 0710, 0701, 0770 };
	struct index *ix = NULL;

	cr_assert_eq(mkdir(fake_path("index"), 0700), 0);
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		cr_assert_eq(chmod(fake_path("index"), modes[i]), 0);
		cr_assert_eq(index_open(fake_path("index"), false, &ix),
			     -EACCES);
	}
	cr_assert_eq(access(fake_path("index/data.mdb"), F_OK), -1);
}

TEST(index, refuses_what_is_not_a_directory)
{
	char target[160];
	struct index *ix = NULL;

	(void)snprintf(target, sizeof(target), "%s", fake_path("index"));
	cr_assert_eq(mkdir(target, 0700), 0);
	cr_assert_eq(symlink(target, fake_path("link")), 0);
	cr_assert_neq(index_open(fake_path("link"), false, &ix), 0);
	cr_assert_eq(index_open(fake_path("no/index"), false, &ix), -ENOENT);
	fixture_write(fake_path("file"), "x", 1);
	cr_assert_eq(index_open(fake_path("file"), false, &ix), -ENOTDIR);
}

TEST(index, opened_for_reading_needs_one_that_is_there)
{
	struct index *ix = NULL;

	cr_assert_eq(index_open(fake_path("index"), true, &ix), -ENOENT);
	cr_assert_eq(access(fake_path("index"), F_OK), -1);
	cr_assert_eq(mkdir(fake_path("index"), 0700), 0);
	cr_assert_eq(index_open(fake_path("index"), true, &ix), -ENOENT);
	fake_make_index(2);
	cr_assert_eq(index_open(fake_path("index"), true, &ix), 0);
	cr_assert_eq(fake_messages(ix, 1), 2);
	cr_assert_eq(index_folder_drop(ix, 1), -EACCES);
	index_close(ix);
}

/* Queries. */

TEST(index, finds_a_message_by_every_part_of_its_name_and_no_other)
{
	struct basename b = { 1, 0x4b000001, 7, 1400000007, 100 };
	struct basename wrong[5] = { b, b, b, b, b };
	struct index *ix = fake_index();
	char name[BASENAME_MAX + 1];
	struct msg m;
	struct fake f;

	fake_init(&f);
	fake_add(&f, 7, 0, 100);
	(void)fake_sync(ix, 1, &f);
	basename_format(&b, name);
	cr_assert_eq(index_by_name(ix, 1, b.uidvalidity, name, &m), 0);
	cr_assert_eq(m.uid, 7);
	cr_assert_eq(m.off, FAKE_HEADER + FAKE_LINE);
	cr_assert_eq(index_by_name(ix, 2, b.uidvalidity, name, &m), -ENOENT);
	cr_assert_eq(index_by_name(ix, 1, 5, name, &m), -ENOENT);
	wrong[0].folder++;
	wrong[1].uidvalidity++;
	wrong[2].uid++;
	wrong[3].date++;
	wrong[4].size++;
	for (unsigned i = 0; i < 5; i++) {
		basename_format(&wrong[i], name);
		cr_assert_eq(index_by_name(ix, 1, b.uidvalidity, name, &m),
			     -ENOENT, "%s", name);
	}
	cr_assert_eq(index_by_name(ix, 1, b.uidvalidity, "", &m), -ENOENT);
	fake_fini(&f);
	index_close(ix);
}

TEST(index, finds_a_message_by_a_name_that_somebody_else_chose)
{
	struct basename b = { 1, 0x4b000001, 9, 1400000009, 100 };
	struct index *ix = fake_index();
	char ours[BASENAME_MAX + 1], longest[ROW_NAME_MAX + 1];
	struct fake f;
	struct msg m;

	basename_format(&b, ours);
	memset(longest, 'n', ROW_NAME_MAX);
	longest[ROW_NAME_MAX] = '\0';
	fake_init(&f);
	fake_add(&f, 7, 0, 100);
	fake_add(&f, 8, 0, 100);
	/* A converted message: a name of our form that lies in a Maildir. */
	fake_add(&f, 9, 0, 100);
	fake_name(&f, 7, "1700000000.M1P2.host,S=100");
	fake_name(&f, 8, longest);
	fake_name(&f, 9, ours);
	(void)fake_sync(ix, 1, &f);
	cr_assert_eq(index_by_name(ix, 1, 0, f.msgs[0].name, &m), 0);
	cr_assert_eq(m.uid, 7);
	cr_assert_eq(index_by_name(ix, 1, 0, longest, &m), 0);
	cr_assert_eq(m.uid, 8);
	cr_assert_eq(index_by_name(ix, 1, b.uidvalidity, ours, &m), 0);
	cr_assert_eq(m.uid, 9);
	cr_assert_eq(index_by_name(ix, 2, 0, f.msgs[0].name, &m), -ENOENT);
	cr_assert_eq(index_by_name(ix, 1, 0, "1700000000.M1P2.host", &m),
		     -ENOENT);
	fake_check(ix);
	fake_fini(&f);
	index_close(ix);
}

TEST(index, finds_a_message_by_its_inode_number)
{
	static const uint32_t folders[] = { 0, 1, 0x7fffffff };
	static const uint32_t uids[] = { 1, 0x80000000, 0xffffffff };
	struct index *ix;
	uint32_t folder, uid;
	struct msg m;

	for (unsigned i = 0; i < 9; i++) {
		uint64_t ino = index_ino(folders[i / 3], uids[i % 3]);

		cr_assert_neq(ino >> 63, 0);
		cr_assert_eq(index_ino_split(ino, &folder, &uid), 0);
		cr_assert_eq(folder, folders[i / 3]);
		cr_assert_eq(uid, uids[i % 3]);
	}
	cr_assert_eq(index_ino_split(~(1ULL << 63), &folder, &uid), -ENOENT);

	fake_make_index(3);
	ix = fake_index();
	cr_assert_eq(index_by_ino(ix, index_ino(1, 3), &folder, &m), 0);
	cr_assert_eq(folder, 1);
	cr_assert_eq(m.uid, 3);
	cr_assert_eq(index_by_ino(ix, index_ino(1, 4), &folder, &m), -ENOENT);
	cr_assert_eq(index_by_ino(ix, index_ino(2, 3), &folder, &m), -ENOENT);
	cr_assert_eq(index_by_ino(ix, 3, &folder, &m), -ENOENT);
	index_close(ix);
}

struct walk {
	uint32_t seen[8];
	unsigned count, stop_at;
	bool named;
};

static int walk_msg(const struct msg *m, const char *name, void *arg)
{
	struct walk *w = arg;

	w->seen[w->count++] = m->uid;
	w->named = name != NULL;
	return w->count == w->stop_at ? 42 : 0;
}

static int walk_folder(uint32_t folder, const struct index_folder *f, void *arg)
{
	struct walk *w = arg;

	w->seen[w->count++] = folder;
	cr_assert_eq(f->messages, 2);
	return w->count == w->stop_at ? 42 : 0;
}

TEST(index, walks_a_folder_in_order_and_stops_where_told)
{
	static const uint32_t uids[2] = { 5, 0xfffffff0 };
	static const uint32_t folders[] = { 0, 1, 2, 256, 0x7fffffff };
	struct index *ix = fake_index();
	struct walk w = { 0 };
	struct fake f;

	fake_init(&f);
	fake_add(&f, uids[0], 0, 1);
	fake_add(&f, uids[1], 0, 1);
	for (size_t i = ARRAY_LEN(folders); i-- > 0;)
		(void)fake_sync(ix, folders[i], &f);
	for (size_t i = 0; i < ARRAY_LEN(folders); i++) {
		w = (struct walk){ .named = true };
		cr_assert_eq(index_each(ix, folders[i], walk_msg, &w), 0);
		cr_assert_eq(w.count, 2);
		cr_assert_arr_eq(w.seen, uids, sizeof(uids));
		cr_assert_not(w.named);
	}
	w = (struct walk){ .stop_at = 1 };
	cr_assert_eq(index_each(ix, 1, walk_msg, &w), 42);
	cr_assert_eq(w.count, 1);
	w = (struct walk){ 0 };
	cr_assert_eq(index_each(ix, 3, walk_msg, &w), 0);
	cr_assert_eq(w.count, 0);

	cr_assert_eq(index_each_folder(ix, walk_folder, &w), 0);
	cr_assert_eq(w.count, ARRAY_LEN(folders));
	cr_assert_arr_eq(w.seen, folders, sizeof(folders));
	w = (struct walk){ .stop_at = 3 };
	cr_assert_eq(index_each_folder(ix, walk_folder, &w), 42);
	cr_assert_eq(w.count, 3);
	fake_fini(&f);
	index_close(ix);
}

TEST(index, forgets_a_folder_and_nothing_else)
{
	struct index *ix = fake_index();
	struct index_folder row;
	struct fake f;
	struct msg m;

	fake_init(&f);
	fake_add(&f, 1, 0, 1);
	fake_add(&f, 2, 0, 1);
	fake_name(&f, 2, "a.name");
	for (uint32_t folder = 1; folder <= 3; folder++)
		(void)fake_sync(ix, folder, &f);
	cr_assert_eq(index_folder_drop(ix, 2), 0);
	cr_assert_eq(index_folder_get(ix, 2, &row), -ENOENT);
	cr_assert_eq(index_by_uid(ix, 2, 1, &m), -ENOENT);
	cr_assert_eq(index_by_name(ix, 2, 0, "a.name", &m), -ENOENT);
	cr_assert_eq(fake_messages(ix, 1), 2);
	cr_assert_eq(index_by_name(ix, 1, 0, "a.name", &m), 0);
	cr_assert_eq(index_by_name(ix, 3, 0, "a.name", &m), 0);
	fake_check(ix);
	cr_assert_eq(index_folder_drop(ix, 2), 0);
	cr_assert_eq(fake_sync(ix, 2, &f).added, 2);
	fake_fini(&f);
	index_close(ix);
}

static void put_bad_row(struct db_txn *t, void *arg)
{
	static const uint8_t key[] = { 0, 0, 0, 1, 0, 0, 0, 1 };

	db_put(t, DB_MSG, (struct db_slice){ key, 8 },
	       (struct db_slice){ "?", 1 }, DB_PUT);
	db_put(t, DB_FOLDER, (struct db_slice){ key, 4 },
	       (struct db_slice){ "?", 1 }, DB_PUT);
	(void)arg;
}

TEST(index, says_so_when_a_row_cannot_be_read)
{
	struct index *ix;
	struct index_folder row;
	struct walk w = { 0 };
	struct msg m;

	fake_make_index(2);
	ix = fake_index();
	cr_assert_eq(db_write(index_db(ix), put_bad_row, NULL), 0);
	cr_assert_eq(index_by_uid(ix, 1, 1, &m), -EUCLEAN);
	cr_assert_eq(index_by_uid(ix, 1, 2, &m), 0);
	cr_assert_eq(index_each(ix, 1, walk_msg, &w), -EUCLEAN);
	cr_assert_eq(w.count, 0);
	cr_assert_eq(index_folder_get(ix, 1, &row), -EUCLEAN);
	cr_assert_eq(index_each_folder(ix, walk_folder, &w), -EUCLEAN);
	cr_assert_eq(index_folder_drop(ix, 1), 0);
	fake_check(ix);
	index_close(ix);
}
