/* The file below the index: damage, growth, transactions, many users. */
#include "index/db.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fakebox.h"
#include "fixture.h"
#include "index/check.h"
#include "index/row.h"

/* Damage. */

static void put_format(struct db_txn *t, void *arg)
{
	db_put(t, DB_META, (struct db_slice){ "format", 6 },
	       (struct db_slice){ arg, 4 }, DB_PUT);
}

static void set_format(uint8_t number)
{
	uint8_t n[4] = { number, 0, 0, 0 };
	struct db *db = NULL;

	cr_assert_eq(db_open(fake_path("index"), DB_WRITE, DB_MAP_START, &db),
		     0);
	cr_assert_eq(db_write(db, put_format, n), 0);
	db_close(db);
}

/* A reader refuses it, the owner makes it anew, empty and whole. */
static void is_made_anew(void)
{
	struct index *ix = NULL;

	cr_assert_eq(index_open(fake_path("index"), true, &ix), -EUCLEAN);
	ix = fake_index();
	cr_assert_eq(fake_messages(ix, 1), 0);
	fake_check(ix);
	index_close(ix);
	fake_make_index(5);
	ix = fake_index();
	cr_assert_eq(fake_messages(ix, 1), 5);
	index_close(ix);
}

TEST(db, of_another_format_is_made_anew)
{
	struct index *ix;

	fake_make_index(3);
	set_format(INDEX_FORMAT);
	ix = fake_index();
	cr_assert_eq(fake_messages(ix, 1), 3);
	index_close(ix);
	set_format(INDEX_FORMAT + 1);
	is_made_anew();
}

TEST(db, that_is_garbage_is_made_anew)
{
	static const size_t sizes[] = { 1, 100, 4096, 8192, 100000 };
	AUTO_FREE uint8_t *noise = malloc(100000);

	cr_assert_not_null(noise);
	for (size_t i = 0; i < 100000; i++)
		noise[i] = (uint8_t)(i * 2654435761U >> 24);
	fake_make_index(1);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		fixture_write(fake_path("index/data.mdb"), noise, sizes[i]);
		is_made_anew();
	}
	free(base_steal_ptr(&noise));
}

TEST(db, that_lost_its_end_is_made_anew)
{
	struct stat st;
	off_t size;

	fake_make_index(2000);
	cr_assert_eq(stat(fake_path("index/data.mdb"), &st), 0);
	size = st.st_size;
	cr_assert_gt(size, 20L * 4096);
	for (off_t cut = 1; cut < size; cut = cut * 3 + 1000) {
		cr_assert_eq(truncate(fake_path("index/data.mdb"), size - cut),
			     0);
		is_made_anew();
		fake_make_index(2000);
		cr_assert_eq(stat(fake_path("index/data.mdb"), &st), 0);
		size = st.st_size;
	}
}

/* One octet of both meta pages at a time is another one. */
TEST(db, with_any_octet_of_its_meta_pages_damaged_does_not_crash)
{
	char good[8192], bad[8192];
	int fd;

	fake_make_index(10);
	fd = open(fake_path("index/data.mdb"), O_RDWR | O_CLOEXEC);
	cr_assert_eq(pread(fd, good, sizeof(good), 0), sizeof(good));
	for (size_t at = 0; at < 160; at++) {
		struct index *ix = NULL;
		pid_t pid;
		int status;

		memcpy(bad, good, sizeof(bad));
		bad[at] ^= 0x5a;
		bad[4096 + at] ^= 0x5a;
		cr_assert_eq(pwrite(fd, bad, sizeof(bad), 0), sizeof(bad));
		pid = fork();
		if (pid == 0)
			_exit(index_open(fake_path("index"), true, &ix) ? 1
									: 0);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert(WIFEXITED(status), "octet %zu: signal %d", at,
			  WTERMSIG(status));
	}
	(void)close(fd);
}

TEST(db, with_an_empty_file_is_filled)
{
	struct index *ix;

	cr_assert_eq(mkdir(fake_path("index"), 0700), 0);
	fixture_write(fake_path("index/data.mdb"), "", 0);
	ix = fake_index();
	fake_check(ix);
	index_close(ix);
}

/* Growing. */

/* An index file whose map is the smallest that LMDB can start with. */
static void make_small_map(void)
{
	struct db *db = NULL;
	uint8_t n[4] = { INDEX_FORMAT, 0, 0, 0 };

	cr_assert_eq(mkdir(fake_path("index"), 0700), 0);
	cr_assert_eq(db_open(fake_path("index"), DB_WRITE, 64 << 10, &db), 0);
	cr_assert_eq(db_write(db, put_format, n), 0);
	db_close(db);
	fixture_write(fake_path("index/owner"), "clean \n", 7);
}

static uint64_t map_of(struct index *ix)
{
	struct db_stats s;

	cr_assert_eq(db_stats(index_db(ix), &s), 0);
	return s.map;
}

TEST(db, grows_with_what_is_put_into_it)
{
	struct index *ix;
	uint64_t before;
	struct fake f;

	make_small_map();
	ix = fake_index();
	before = map_of(ix);
	cr_assert_leq(before, 1 << 20);
	fake_init(&f);
	for (uint32_t uid = 1; uid <= 30000; uid++)
		fake_add(&f, uid, 0, 100);
	(void)fake_sync(ix, 1, &f);
	cr_assert_gt(map_of(ix), before);
	cr_assert_eq(fake_messages(ix, 1), 30000);
	for (uint32_t uid = 30001; uid <= 90000; uid += 10000) {
		for (uint32_t i = 0; i < 10000; i++)
			fake_add(&f, uid + i, 0, 100);
		cr_assert_eq(fake_sync(ix, 1, &f).how, SYNC_TAIL);
	}
	cr_assert_eq(fake_messages(ix, 1), 90000);
	fake_check(ix);
	index_close(ix);
	ix = fake_index();
	cr_assert_eq(fake_messages(ix, 1), 90000);
	index_close(ix);
	fake_fini(&f);
}

static void come_and_go(struct db_txn *t, void *arg)
{
	uint8_t key[ROW_KEY_MSG], row[ROW_MSG] = { 0 };

	for (uint32_t uid = 1; uid <= 3000; uid++) {
		row_key_msg(9, uid, key);
		db_put(t, DB_MSG, (struct db_slice){ key, sizeof(key) },
		       (struct db_slice){ row, sizeof(row) }, DB_PUT);
	}
	/* From the end on, so that it is the last pages that are given back. */
	for (uint32_t uid = 3000; uid > 0; uid--) {
		row_key_msg(9, uid, key);
		db_del(t, DB_MSG, (struct db_slice){ key, sizeof(key) });
	}
	(void)arg;
}

/* The pages of such rows count as used and are never written. */
TEST(db, is_as_long_as_it_says_when_rows_came_and_went_at_once)
{
	struct index *ix;
	struct db_stats s;
	struct stat st;

	fake_make_index(3);
	ix = fake_index();
	cr_assert_eq(db_write(index_db(ix), come_and_go, NULL), 0);
	cr_assert_eq(db_stats(index_db(ix), &s), 0);
	cr_assert_eq(stat(fake_path("index/data.mdb"), &st), 0);
	cr_assert_geq((uint64_t)st.st_size, s.used);
	cr_assert_gt(s.used, 40UL * 4096);
	index_close(ix);
	ix = fake_index();
	cr_assert_eq(fake_messages(ix, 1), 3);
	index_close(ix);
}

TEST(db, is_whole_after_any_mix_of_changes)
{
	struct fake f[4];
	uint64_t seed = 1;

	for (unsigned i = 0; i < 4; i++)
		fake_init(&f[i]);
	for (unsigned round = 0; round < 60; round++) {
		struct index *ix = fake_index();
		struct fake *g = &f[round % 4];

		cr_assert_eq(fake_messages(ix, 1) > 0, round > 0, "%u", round);
		for (unsigned i = 0; i < 300; i++)
			fake_add(g, g->uid_last + 1, 0, 10);
		for (unsigned i = 0; round > 8 && i < 200; i++) {
			seed = seed * 6364136223846793005ULL + 1;
			fake_remove(g, g->msgs[(seed >> 33) % g->count].m.uid);
		}
		(void)fake_sync(ix, 1 + round % 4, g);
		cr_assert_eq(fake_messages(ix, 1 + round % 4), g->count);
		if (round % 7 == 6) {
			cr_assert_eq(index_folder_drop(ix, 4), 0);
			fake_fini(&f[3]);
			fake_init(&f[3]);
		}
		fake_check(ix);
		index_close(ix);
	}
	for (unsigned i = 0; i < 4; i++)
		fake_fini(&f[i]);
}

/* Transactions. */

static void put_bad_row(struct db_txn *t, void *arg)
{
	static const uint8_t key[] = { 0, 0, 0, 1, 0, 0, 0, 1 };

	db_put(t, DB_MSG, (struct db_slice){ key, 8 },
	       (struct db_slice){ "?", 1 }, DB_PUT);
	db_put(t, DB_FOLDER, (struct db_slice){ key, 4 },
	       (struct db_slice){ "?", 1 }, DB_PUT);
	(void)arg;
}

static void fail_late(struct db_txn *t, void *arg)
{
	put_bad_row(t, NULL);
	db_fail(t, -EDOM);
	db_fail(t, -ERANGE);
	put_bad_row(t, arg);
}

static void die_inside(struct db_txn *t, void *arg)
{
	put_bad_row(t, arg);
	_exit(9);
}

TEST(db, shows_nothing_of_a_transaction_that_failed_or_died)
{
	struct index *ix;
	pid_t pid;
	int status;

	fake_make_index(2);
	pid = fork();
	if (pid == 0) {
		if (index_open(fake_path("index"), false, &ix) == 0 &&
		    db_write(index_db(ix), die_inside, NULL))
			_exit(1);
		_exit(2);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(WEXITSTATUS(status), 9);
	ix = fake_index();
	fake_check(ix);
	cr_assert_eq(fake_messages(ix, 1), 2);
	cr_assert_eq(db_write(index_db(ix), fail_late, NULL), -EDOM);
	fake_check(ix);
	cr_assert_eq(fake_messages(ix, 1), 2);
	index_close(ix);
}

/* Processes and threads. */

/* A reader in a process of its own: every state that it sees is whole. */
static int read_until(const char *dir, uint64_t want)
{
	struct index_folder row = { 0 };
	struct index *ix = NULL;

	if (index_open(dir, true, &ix))
		return 1;
	while (row.messages < want) {
		if (check_index(ix, NULL, NULL) != 0)
			return 2;
		if (index_folder_get(ix, 1, &row))
			return 3;
	}
	index_close(ix);
	return 0;
}

TEST(db, can_be_read_by_another_process_while_it_grows)
{
	struct index *ix;
	struct fake f;
	int status;
	pid_t pid;

	make_small_map();
	fake_make_index(1);
	pid = fork();
	if (pid == 0)
		_exit(read_until(fake_path("index"), 60001));
	ix = fake_index();
	fake_init(&f);
	fake_add(&f, 1, 0, 100);
	for (unsigned round = 0; round < 30; round++) {
		for (unsigned i = 0; i < 2000; i++)
			fake_add(&f, f.uid_last + 1, 0, 100);
		(void)fake_sync(ix, 1, &f);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%x", status);
	fake_fini(&f);
	index_close(ix);
}

struct readers {
	struct index *ix;
	atomic_bool stop, bad;
	atomic_uint rounds;
};

struct tally {
	uint64_t count;
	uint32_t last;
	bool bad;
};

static int tally_msg(const struct msg *m, const char *name, void *arg)
{
	struct tally *t = arg;

	t->count++;
	t->bad = t->bad || m->uid != t->last + 1 || name;
	t->last = m->uid;
	return 0;
}

static void *reader(void *arg)
{
	struct readers *r = arg;
	uint64_t before = 0;

	while (!r->stop) {
		struct tally t = { 0 };
		struct msg m;

		if (index_each(r->ix, 1, tally_msg, &t) || t.bad ||
		    t.count < before ||
		    (before && index_by_uid(r->ix, 1, (uint32_t)before, &m)))
			r->bad = true;
		before = t.count;
		r->rounds++;
	}
	return NULL;
}

TEST(db, is_read_by_threads_while_one_syncs_and_the_map_grows)
{
	struct readers r = { 0 };
	pthread_t thread[2];
	struct fake f;

	make_small_map();
	r.ix = fake_index();
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, reader, &r), 0);
	fake_init(&f);
	for (unsigned round = 0; round < 60 || r.rounds < 4; round++) {
		for (unsigned i = 0; i < 500; i++)
			fake_add(&f, f.uid_last + 1, 0, 100);
		(void)fake_sync(r.ix, 1, &f);
	}
	r.stop = true;
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(pthread_join(thread[i], NULL), 0);
	cr_assert_not(r.bad);
	cr_assert_gt(map_of(r.ix), 1 << 20);
	fake_fini(&f);
	index_close(r.ix);
}
