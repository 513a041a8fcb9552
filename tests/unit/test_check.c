#include "index/check.h"

#include <stdio.h>

#include "fakebox.h"
#include "fixture.h"
#include "index/db.h"
#include "index/row.h"
#include "index/table.h"

enum { MBX = 1, MAILDIR = 2, NO_FOLDER = 3 };

struct findings {
	unsigned count[9];
	char last[512];
};

static void note(unsigned invariant, const char *text, void *arg)
{
	struct findings *f = arg;

	cr_assert(invariant >= 1 && invariant <= 8);
	f->count[invariant]++;
	(void)snprintf(f->last, sizeof(f->last), "%s", text);
}

/* A good index: three messages in an MBX, two in a Maildir. */
static struct index *make_index(void)
{
	struct index *ix = NULL;
	struct fake f, g;
	char dir[128];

	(void)snprintf(dir, sizeof(dir), "%s/index", fixture_dir());
	cr_assert_eq(index_open(dir, false, &ix), 0);
	fake_init(&f);
	fake_init(&g);
	fake_add(&f, 1, MSG_OLD, 100);
	fake_add(&f, 5, MSG_OLD | MSG_SEEN, 200);
	fake_add(&f, 9, 0, 300);
	fake_add(&g, 3, MSG_OLD, 10);
	fake_add(&g, 4, MSG_OLD, 20);
	fake_name(&g, 3, "three");
	fake_name(&g, 4, "four");
	(void)fake_sync(ix, MBX, &f);
	(void)fake_sync(ix, MAILDIR, &g);
	fake_fini(&f);
	fake_fini(&g);
	return ix;
}

/* How to break it. */

static void put_msg(struct db_txn *t, uint32_t folder, const struct msg *m,
		    const char *name)
{
	table_put_msg(t, folder, m, name ? name : "", DB_PUT);
}

static struct msg get_msg(struct db_txn *t, uint32_t folder, uint32_t uid)
{
	char name[ROW_NAME_MAX + 1];
	struct msg m;

	cr_assert(table_msg(t, folder, uid, &m, name));
	return m;
}

static struct index_folder get_folder(struct db_txn *t, uint32_t folder)
{
	struct index_folder f;

	cr_assert(table_folder(t, folder, &f));
	return f;
}

static void put_name(struct db_txn *t, uint32_t folder, const char *name,
		     uint32_t uid)
{
	uint8_t key[ROW_KEY_NAME_MAX], row[ROW_NAME];
	ssize_t len = row_key_name(folder, name, key);

	row_name_format(uid, row);
	db_put(t, DB_NAME, (struct db_slice){ key, (size_t)len },
	       (struct db_slice){ row, sizeof(row) }, DB_PUT);
}

static void raw(struct db_txn *t, enum db_table table, size_t key_len,
		size_t len)
{
	static const uint8_t key[16] = { 0, 0, 0, MBX, 0, 0, 0, 5, 'x' };
	static const uint8_t row[200] = { ROW_VERSION };

	db_put(t, table, (struct db_slice){ key, key_len },
	       (struct db_slice){ row, len }, DB_PUT);
}

static void short_msg_key(struct db_txn *t)
{
	raw(t, DB_MSG, 6, ROW_MSG);
}

static void long_name_row(struct db_txn *t)
{
	raw(t, DB_NAME, 9, ROW_NAME + 1);
}

static void long_folder_key(struct db_txn *t)
{
	raw(t, DB_FOLDER, 5, ROW_FOLDER);
}

static void unknown_version(struct db_txn *t)
{
	static const uint8_t key[] = { 0, 0, 0, 0, 0, 0, 0, 77 };
	static const uint8_t row[ROW_MSG] = { ROW_VERSION + 1 };
	struct index_folder f = { .uidnext = 100 };

	table_put_folder(t, 0, &f);
	db_put(t, DB_MSG, (struct db_slice){ key, sizeof(key) },
	       (struct db_slice){ row, sizeof(row) }, DB_PUT);
}

static void orphan(struct db_txn *t)
{
	struct msg m = get_msg(t, MBX, 1);

	put_msg(t, NO_FOLDER, &m, NULL);
}

static void uid_zero(struct db_txn *t)
{
	struct msg m = get_msg(t, MAILDIR, 3);
	struct index_folder f = get_folder(t, MAILDIR);

	m.uid = 0;
	put_msg(t, MAILDIR, &m, "zero");
	put_name(t, MAILDIR, "zero", 0);
	f.messages++;
	f.unseen++;
	f.octets += m.size;
	table_put_folder(t, MAILDIR, &f);
}

static void expunged(struct db_txn *t)
{
	struct msg m = get_msg(t, MBX, 5);

	m.flags |= MSG_EXPUNGED;
	put_msg(t, MBX, &m, NULL);
}

static void size_zero(struct db_txn *t)
{
	struct msg m = get_msg(t, MBX, 5);
	struct index_folder f = get_folder(t, MBX);

	f.octets -= m.size;
	m.size = 0;
	put_msg(t, MBX, &m, NULL);
	table_put_folder(t, MBX, &f);
}

static void short_line(struct db_txn *t)
{
	struct msg m = get_msg(t, MBX, 5);

	m.line = 25;
	put_msg(t, MBX, &m, NULL);
}

static void long_line(struct db_txn *t)
{
	struct msg m = get_msg(t, MBX, 1);
	struct index_folder f = get_folder(t, MBX);

	m.line = 65;
	m.off = 2048 + 65;
	m.size -= 20;
	f.octets -= 20;
	put_msg(t, MBX, &m, NULL);
	table_put_folder(t, MBX, &f);
}

static void in_the_header(struct db_txn *t)
{
	struct msg m = get_msg(t, MBX, 1);

	m.off--;
	put_msg(t, MBX, &m, NULL);
}

static void before_the_file(struct db_txn *t)
{
	struct msg m = get_msg(t, MBX, 1);

	m.off = m.line - 1;
	put_msg(t, MBX, &m, NULL);
}

static void past_every_file(struct db_txn *t)
{
	struct msg m = get_msg(t, MBX, 9);

	m.off = UINT64_MAX - 5;
	put_msg(t, MBX, &m, NULL);
}

static void overlap(struct db_txn *t)
{
	struct msg m = get_msg(t, MBX, 5);

	m.off--;
	put_msg(t, MBX, &m, NULL);
}

static void overlap_under_a_name(struct db_txn *t)
{
	struct msg m = get_msg(t, MBX, 5);

	m.off--;
	put_msg(t, MBX, &m, "five");
	put_name(t, MBX, "five", 5);
}

static void past_the_end(struct db_txn *t)
{
	struct index_folder f = get_folder(t, MBX);

	f.next.off--;
	table_put_folder(t, MBX, &f);
}

static void more_messages(struct db_txn *t)
{
	struct index_folder f = get_folder(t, MBX);

	f.messages++;
	table_put_folder(t, MBX, &f);
}

static void less_unseen(struct db_txn *t)
{
	struct index_folder f = get_folder(t, MBX);

	f.unseen--;
	table_put_folder(t, MBX, &f);
}

static void other_octets(struct db_txn *t)
{
	struct index_folder f = get_folder(t, MAILDIR);

	f.octets++;
	table_put_folder(t, MAILDIR, &f);
}

static void uidnext_taken(struct db_txn *t)
{
	struct index_folder f = get_folder(t, MAILDIR);

	f.uidnext = 4;
	table_put_folder(t, MAILDIR, &f);
}

static void uidlast_passed(struct db_txn *t)
{
	struct index_folder f = get_folder(t, MBX);

	f.next.uid_last = 8;
	table_put_folder(t, MBX, &f);
}

static void name_of_nobody(struct db_txn *t)
{
	put_name(t, MAILDIR, "nobody", 99);
}

static void name_of_another(struct db_txn *t)
{
	put_name(t, MAILDIR, "other", 3);
}

static void name_of_an_mbx_message(struct db_txn *t)
{
	put_name(t, MBX, "stray", 1);
}

static void no_name_row(struct db_txn *t)
{
	uint8_t key[ROW_KEY_NAME_MAX];
	ssize_t len = row_key_name(MAILDIR, "four", key);

	db_del(t, DB_NAME, (struct db_slice){ key, (size_t)len });
}

static void damage_without_finding(struct db_txn *t)
{
	struct index_folder f = get_folder(t, MBX);

	f.damage.kind = DAMAGE_UID;
	table_put_folder(t, MBX, &f);
}

static void finding_without_damage(struct db_txn *t)
{
	struct index_folder f = get_folder(t, MBX);

	f.damage.count = 1;
	table_put_folder(t, MBX, &f);
}

#define PLANT(fn, invariant)                                                   \
	{                                                                      \
		fn, #fn, invariant                                             \
	}
static const struct plant {
	void (*fn)(struct db_txn *t);
	const char *name;
	unsigned invariant;
} plants[] = {
	PLANT(short_msg_key, 1),
	PLANT(long_name_row, 1),
	PLANT(long_folder_key, 1),
	PLANT(unknown_version, 1),
	PLANT(orphan, 2),
	PLANT(uid_zero, 3),
	PLANT(expunged, 3),
	PLANT(size_zero, 3),
	PLANT(short_line, 4),
	PLANT(long_line, 4),
	PLANT(in_the_header, 4),
	PLANT(before_the_file, 4),
	PLANT(past_every_file, 4),
	PLANT(overlap, 4),
	PLANT(overlap_under_a_name, 4),
	PLANT(past_the_end, 4),
	PLANT(more_messages, 5),
	PLANT(less_unseen, 5),
	PLANT(other_octets, 5),
	PLANT(uidnext_taken, 6),
	PLANT(uidlast_passed, 6),
	PLANT(name_of_nobody, 7),
	PLANT(name_of_another, 7),
	PLANT(name_of_an_mbx_message, 7),
	PLANT(no_name_row, 7),
	PLANT(damage_without_finding, 8),
	PLANT(finding_without_damage, 8),
};

static void plant(struct db_txn *t, void *arg)
{
	const struct plant *p = arg;

	p->fn(t);
}

static void forget_all(struct db_txn *t, void *arg)
{
	(void)arg;
	for (unsigned table = DB_FOLDER; table < DB_TABLES; table++)
		db_del_prefix(t, table, (struct db_slice){ "", 0 });
}

TEST(check, finds_nothing_in_a_good_index)
{
	struct index *ix = make_index();
	struct findings f = { 0 };

	cr_assert_eq(check_index(ix, note, &f), 0, "%s", f.last);
	cr_assert_eq(db_write(index_db(ix), forget_all, NULL), 0);
	cr_assert_eq(check_index(ix, note, &f), 0, "%s", f.last);
	index_close(ix);
}

TEST(check, finds_every_violation_and_calls_it_by_its_number)
{
	for (size_t i = 0; i < ARRAY_LEN(plants); i++) {
		struct index *ix = make_index();
		struct findings f = { 0 };
		struct plant p = plants[i];
		int64_t n;

		cr_assert_eq(db_write(index_db(ix), plant, &p), 0);
		n = check_index(ix, note, &f);
		cr_expect_gt(n, 0, "%s", p.name);
		cr_expect_gt(f.count[p.invariant], 0, "%s: %s", p.name, f.last);
		/* Rows that cannot be read are missing from the sums. */
		if (p.invariant != 1)
			cr_expect_eq(f.count[p.invariant], n, "%s: %s", p.name,
				     f.last);
		cr_assert_eq(check_index(ix, NULL, NULL), n);
		cr_assert_eq(db_write(index_db(ix), forget_all, NULL), 0);
		index_close(ix);
	}
}

TEST(check, a_sync_repairs_what_it_can_see)
{
	struct index *ix = make_index();
	struct plant p = PLANT(more_messages, 5);
	struct findings found = { 0 };
	struct fake f;

	cr_assert_eq(db_write(index_db(ix), plant, &p), 0);
	p.fn = overlap;
	cr_assert_eq(db_write(index_db(ix), plant, &p), 0);
	cr_assert_gt(check_index(ix, NULL, NULL), 0);
	fake_init(&f);
	fake_add(&f, 1, MSG_OLD, 100);
	fake_add(&f, 5, MSG_OLD | MSG_SEEN, 200);
	fake_add(&f, 9, 0, 300);
	fake_written(&f, true);
	(void)fake_sync(ix, MBX, &f);
	cr_assert_eq(check_index(ix, note, &found), 0, "%s", found.last);
	fake_fini(&f);
	index_close(ix);
}
