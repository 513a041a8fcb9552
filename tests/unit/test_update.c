/* Changes that need no sync. */
#include "index/index.h"

#include <stdio.h>

#include "compat/basename.h"
#include "fakebox.h"
#include "fixture.h"
#include "index/db.h"
#include "index/row.h"
#include "index/table.h"

enum { MBX = 1, MAILDIR = 2, NONE = 3 };

static const int64_t later = 1800000000LL * 1000000000;

struct both {
	struct index *ix;
	struct fake mbx, maildir;
};

static void start(struct both *b)
{
	b->ix = fake_index();
	fake_init(&b->mbx);
	fake_init(&b->maildir);
	for (uint32_t uid = 1; uid <= 9; uid += 2) {
		fake_add(&b->mbx, uid, MSG_OLD, 100UL * uid);
		fake_add(&b->maildir, uid, MSG_OLD | MSG_SEEN, 10UL * uid);
	}
	fake_name(&b->maildir, 1, "one");
	fake_name(&b->maildir, 3, "three");
	fake_name(&b->maildir, 5, "five");
	fake_name(&b->maildir, 7, "seven");
	fake_name(&b->maildir, 9, "nine");
	(void)fake_sync(b->ix, MBX, &b->mbx);
	(void)fake_sync(b->ix, MAILDIR, &b->maildir);
}

static void finish(struct both *b)
{
	fake_check(b->ix);
	fake_fini(&b->mbx);
	fake_fini(&b->maildir);
	index_close(b->ix);
}

static struct index_folder folder(struct index *ix, uint32_t number)
{
	struct index_folder f;

	cr_assert_eq(index_folder_get(ix, number, &f), 0);
	return f;
}

static struct msg message(struct index *ix, uint32_t number, uint32_t uid)
{
	struct msg m;

	cr_assert_eq(index_by_uid(ix, number, uid, &m), 0);
	return m;
}

/* Flags. */

TEST(update, changes_flags_keywords_and_uid_disk_and_nothing_else)
{
	struct index_folder f;
	struct both b;
	struct msg was, m;

	start(&b);
	was = message(b.ix, MBX, 5);
	m = (struct msg){ .uid = 5,
			  .uid_disk = 77,
			  .flags = MSG_OLD | MSG_SEEN,
			  .keywords = 6,
			  .size = 1,
			  .off = 1,
			  .line = 1,
			  .date = 1 };
	fake_written(&b.mbx, true);
	cr_assert_eq(index_update(b.ix, MBX, &b.mbx.stamp, later, &m, 1), 0);
	m = message(b.ix, MBX, 5);
	cr_assert_eq(m.flags, MSG_OLD | MSG_SEEN);
	cr_assert_eq(m.keywords, 6);
	cr_assert_eq(m.uid_disk, 77);
	cr_assert_eq(m.size, was.size);
	cr_assert_eq(m.off, was.off);
	cr_assert_eq(m.line, was.line);
	cr_assert_eq(m.date, was.date);
	f = folder(b.ix, MBX);
	cr_assert_eq(f.unseen, 4);
	cr_assert_eq(f.messages, 5);
	cr_assert_eq(f.octets, 2500);
	cr_assert(stamp_equal(&f.stamp, &b.mbx.stamp));
	cr_assert_eq(f.stamp_ns, later);
	m.flags = 0;
	cr_assert_eq(index_update(b.ix, MBX, &b.mbx.stamp, later, &m, 1), 0);
	cr_assert_eq(folder(b.ix, MBX).unseen, 5);
	finish(&b);
}

TEST(update, keeps_the_name_of_a_message)
{
	struct both b;
	struct msg m;

	start(&b);
	m = message(b.ix, MAILDIR, 5);
	m.flags = MSG_OLD;
	cr_assert_eq(index_update(b.ix, MAILDIR, NULL, 0, &m, 1), 0);
	cr_assert_eq(index_by_name(b.ix, MAILDIR, 0, "five", &m), 0);
	cr_assert_eq(m.flags, MSG_OLD);
	cr_assert_eq(folder(b.ix, MAILDIR).unseen, 1);
	finish(&b);
}

TEST(update, without_a_stamp_leaves_it_to_the_next_sync_to_look)
{
	struct index_folder f;
	struct stamp was;
	struct both b;
	struct msg m;

	start(&b);
	was = folder(b.ix, MBX).stamp;
	fake_flag(&b.mbx, 5, MSG_OLD | MSG_SEEN);
	m = fake_find(&b.mbx, 5)->m;
	cr_assert_eq(index_update(b.ix, MBX, NULL, later, &m, 1), 0);
	f = folder(b.ix, MBX);
	cr_assert(stamp_equal(&f.stamp, &was));
	cr_assert_neq(f.stamp_ns, later);
	/* Nor does the end of several changes need a message. */
	cr_assert_eq(index_update(b.ix, MBX, &b.mbx.stamp, later, NULL, 0), 0);
	cr_assert_eq(fake_sync(b.ix, MBX, &b.mbx).how, SYNC_NOTHING);
	fake_flag(&b.mbx, 7, MSG_OLD | MSG_SEEN);
	m = fake_find(&b.mbx, 7)->m;
	cr_assert_eq(index_update(b.ix, MBX, NULL, later, &m, 1), 0);
	cr_assert_eq(fake_sync(b.ix, MBX, &b.mbx).how, SYNC_FULL);
	finish(&b);
}

/* All or nothing. */

TEST(update, of_a_message_that_is_not_there_changes_nothing)
{
	struct msg m[3];
	struct both b;

	start(&b);
	m[0] = message(b.ix, MBX, 1);
	m[0].flags |= MSG_SEEN;
	m[1] = (struct msg){ .uid = 2 };
	m[2] = message(b.ix, MBX, 3);
	fake_written(&b.mbx, true);
	cr_assert_eq(index_update(b.ix, MBX, &b.mbx.stamp, later, m, 3),
		     -ENOENT);
	cr_assert_eq(message(b.ix, MBX, 1).flags, MSG_OLD);
	cr_assert_eq(folder(b.ix, MBX).unseen, 5);
	cr_assert_neq(folder(b.ix, MBX).stamp_ns, later);
	m[1] = message(b.ix, MBX, 5);
	m[1].flags |= MSG_EXPUNGED;
	cr_assert_eq(index_update(b.ix, MBX, &b.mbx.stamp, later, m, 3),
		     -EINVAL);
	cr_assert_eq(message(b.ix, MBX, 1).flags, MSG_OLD);
	finish(&b);
}

TEST(update, of_a_folder_that_is_not_known_says_so)
{
	static const struct keywords keywords = { 0 };
	static const struct stamp stamp = { 0 };
	const uint32_t uid = 1;
	struct both b;
	struct msg m;

	start(&b);
	m = message(b.ix, MAILDIR, 1);
	cr_assert_eq(index_update(b.ix, NONE, &stamp, 0, &m, 1), -ENOENT);
	cr_assert_eq(index_remove(b.ix, NONE, &stamp, 0, &uid, 1), -ENOENT);
	cr_assert_eq(index_insert(b.ix, NONE, &stamp, 0, &m, "x"), -ENOENT);
	cr_assert_eq(index_set_keywords(b.ix, NONE, &stamp, 0, &keywords),
		     -ENOENT);
	finish(&b);
}

static void forget_sums(struct db_txn *t, void *arg)
{
	struct index_folder f;

	(void)arg;
	cr_assert(table_folder(t, MBX, &f));
	f.unseen = 0;
	table_put_folder(t, MBX, &f);
}

TEST(update, of_a_folder_whose_sums_are_wrong_says_so)
{
	const uint32_t uid = 1;
	struct both b;
	struct msg m;

	start(&b);
	m = message(b.ix, MBX, 1);
	m.flags |= MSG_SEEN;
	cr_assert_eq(db_write(index_db(b.ix), forget_sums, NULL), 0);
	cr_assert_eq(index_update(b.ix, MBX, NULL, 0, &m, 1), -EUCLEAN);
	cr_assert_eq(index_remove(b.ix, MBX, NULL, 0, &uid, 1), -EUCLEAN);
	cr_assert_eq(message(b.ix, MBX, 1).flags, MSG_OLD);
	cr_assert_eq(index_folder_drop(b.ix, MBX), 0);
	finish(&b);
}

/* Removing. */

TEST(update, forgets_messages_and_their_names)
{
	static const uint32_t uids[] = { 9, 2, 3, 9 };
	char name[INDEX_NAME_MAX + 1];
	struct index_folder f;
	struct both b;
	struct msg m;

	start(&b);
	fake_written(&b.maildir, true);
	cr_assert_eq(index_remove(b.ix, MAILDIR, &b.maildir.stamp, later, uids,
				  ARRAY_LEN(uids)),
		     0);
	cr_assert_eq(index_by_uid(b.ix, MAILDIR, 3, &m), -ENOENT);
	cr_assert_eq(index_by_name(b.ix, MAILDIR, 0, "three", &m), -ENOENT);
	cr_assert_eq(index_name_of(b.ix, MAILDIR, 9, name), -ENOENT);
	cr_assert_eq(index_by_name(b.ix, MAILDIR, 0, "five", &m), 0);
	f = folder(b.ix, MAILDIR);
	cr_assert_eq(f.messages, 3);
	cr_assert_eq(f.octets, 130);
	cr_assert_eq(f.unseen, 0);
	cr_assert_eq(f.uidnext, 10);
	cr_assert(stamp_equal(&f.stamp, &b.maildir.stamp));
	cr_assert_eq(folder(b.ix, MBX).messages, 5);
	finish(&b);
}

/* Inserting. */

static struct msg next_of(const struct fake *f, uint32_t uid)
{
	return (struct msg){ .uid = uid,
			     .uid_disk = uid,
			     .date = 1400000000 + (int64_t)uid,
			     .size = 50,
			     .off = fake_end(f) + FAKE_LINE,
			     .line = FAKE_LINE };
}

TEST(update, inserts_what_follows_the_last_record)
{
	struct basename own = { MBX, 0x4b000001, 12, 1400000012, 50 };
	char name[INDEX_NAME_MAX + 1], plain[BASENAME_MAX + 1];
	struct index_folder f;
	struct both b;
	struct msg m;

	start(&b);
	m = next_of(&b.mbx, 10);
	cr_assert_eq(index_insert(b.ix, MBX, NULL, 0, &m, NULL), 0);
	fake_add(&b.mbx, 10, 0, 50);
	m = next_of(&b.mbx, 11);
	cr_assert_eq(index_insert(b.ix, MBX, NULL, 0, &m, "17.M1.host"), 0);
	fake_add(&b.mbx, 11, 0, 50);
	/* The name that it has anyway is none of its own. */
	m = next_of(&b.mbx, 12);
	basename_format(&own, plain);
	cr_assert_eq(index_insert(b.ix, MBX, NULL, 0, &m, plain), 0);
	fake_add(&b.mbx, 12, 0, 50);
	f = folder(b.ix, MBX);
	cr_assert_eq(f.messages, 8);
	cr_assert_eq(f.unseen, 8);
	cr_assert_eq(f.octets, 2650);
	cr_assert_eq(f.uidnext, 13);
	cr_assert_eq(f.next.off, fake_end(&b.mbx));
	cr_assert_eq(f.next.uid_prev, 12);
	cr_assert_eq(f.next.uid_last, 12);
	cr_assert_eq(index_name_of(b.ix, MBX, 11, name), 0);
	cr_assert_str_eq(name, "17.M1.host");
	cr_assert_eq(index_name_of(b.ix, MBX, 12, name), 0);
	cr_assert_str_eq(name, "");
	cr_assert_eq(index_by_name(b.ix, MBX, own.uidvalidity, plain, &m), 0);
	cr_assert_eq(m.uid, 12);
	cr_assert_eq(index_by_name(b.ix, MBX, 0, "17.M1.host", &m), 0);
	cr_assert_eq(m.uid, 11);
	finish(&b);
}

TEST(update, inserts_below_uidnext_when_no_message_has_the_uid)
{
	struct both b;
	struct msg m;

	start(&b);
	/* UIDLAST was raised first, and seen by a sync. */
	b.mbx.uid_last = 20;
	fake_written(&b.mbx, true);
	b.mbx.uid_last = 20;
	(void)fake_sync(b.ix, MBX, &b.mbx);
	cr_assert_eq(folder(b.ix, MBX).uidnext, 21);
	m = next_of(&b.mbx, UINT32_MAX);
	cr_assert_eq(index_insert(b.ix, MBX, NULL, 0, &m, NULL), 0);
	cr_assert_eq(folder(b.ix, MBX).uidnext, UINT32_MAX);
	/* A Maildir's are in no order. */
	m = (struct msg){ .uid = 2, .size = 5 };
	cr_assert_eq(index_insert(b.ix, MAILDIR, NULL, 0, &m, "two"), 0);
	cr_assert_eq(folder(b.ix, MAILDIR).uidnext, 10);
	cr_assert_eq(folder(b.ix, MAILDIR).unseen, 1);
	finish(&b);
}

/* What a message that fits is made to be. */
struct bad {
	const char *what;
	uint32_t folder;
	int err;
	const char *name;
	struct msg by; /* added to it */
};

TEST(update, inserts_nothing_that_does_not_fit)
{
	static const struct bad rows[] = {
		{ "UID 0", MBX, -EINVAL, NULL, { .uid = -10U } },
		{ "expunged", MBX, -EINVAL, NULL, { .flags = MSG_EXPUNGED } },
		{ "an empty name", MBX, -EINVAL, "", { 0 } },
		{ "no octets", MBX, -EINVAL, NULL, { .size = -50ULL } },
		{ "a short line", MBX, -EINVAL, NULL, { .line = -30U } },
		{ "a long line", MBX, -EINVAL, NULL, { .line = 10 } },
		{ "no place", MBX, -EINVAL, NULL, { .size = -51ULL } },
		{ "a UID that is there", MBX, -EEXIST, NULL, { .uid = -1U } },
		{ "a UID between", MBX, -ESTALE, NULL, { .uid = -2U } },
		{ "a gap before it", MBX, -ESTALE, NULL, { .off = 1 } },
		{ "an overlap", MBX, -ESTALE, NULL, { .off = -1ULL } },
		{ "no name", MAILDIR, -EINVAL, NULL, { 0 } },
		{ "a name that is there", MAILDIR, -EEXIST, "five", { 0 } },
		{ "a UID that is there",
		  MAILDIR,
		  -EEXIST,
		  "x",
		  { .uid = -1U } },
	};
	struct both b;

	start(&b);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct msg m = next_of(&b.mbx, 10);
		struct fake *f = rows[i].folder == MBX ? &b.mbx : &b.maildir;

		if (rows[i].folder == MAILDIR)
			m.off = m.line = 0;
		m.uid += rows[i].by.uid;
		m.flags += rows[i].by.flags;
		m.size += rows[i].by.size;
		m.off += rows[i].by.off;
		m.line += rows[i].by.line;
		cr_expect_eq(index_insert(b.ix, rows[i].folder, &f->stamp,
					  later, &m, rows[i].name),
			     rows[i].err, "%s", rows[i].what);
		cr_expect_eq(folder(b.ix, rows[i].folder).messages, 5);
		cr_expect_neq(folder(b.ix, rows[i].folder).stamp_ns, later);
	}
	finish(&b);
}

TEST(update, refuses_a_name_that_is_too_long)
{
	char name[INDEX_NAME_MAX + 2];
	struct both b;
	struct msg m = { .uid = 10, .size = 5 };

	start(&b);
	memset(name, 'n', sizeof(name) - 1);
	name[INDEX_NAME_MAX + 1] = '\0';
	cr_assert_eq(index_insert(b.ix, MAILDIR, NULL, 0, &m, name),
		     -ENAMETOOLONG);
	cr_assert_eq(index_insert(b.ix, MAILDIR, NULL, 0, &m, name + 1), 0);
	finish(&b);
}

/* Keywords. */

TEST(update, replaces_the_keyword_table)
{
	struct keywords k = { 0 };
	struct index_folder f;
	struct both b;

	start(&b);
	(void)strcpy(k.name[0], "$Forwarded");
	(void)strcpy(k.name[31], "last");
	cr_assert_eq(index_set_keywords(b.ix, MBX, &b.mbx.stamp, later, &k), 0);
	f = folder(b.ix, MBX);
	cr_assert_arr_eq(&f.keywords, &k, sizeof(k));
	cr_assert_eq(f.messages, 5);
	cr_assert_eq(f.stamp_ns, later);
	finish(&b);
}

/* A sync finds nothing to do after any of them. */

static uint64_t seed = 1;

static uint32_t any(uint32_t below)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(seed >> 33) % below;
}

static struct fake_msg *any_msg(struct fake *f)
{
	struct fake_msg *m;

	do
		m = &f->msgs[any((uint32_t)f->count)];
	while (m->gone);
	return m;
}

static void do_flags(struct index *ix, struct fake *f)
{
	struct msg changed[3];

	for (size_t i = 0; i < ARRAY_LEN(changed); i++) {
		struct fake_msg *m = any_msg(f);

		m->m.keywords = any(8);
		fake_flag(f, m->m.uid, any(0x40));
	}
	/* Some more than once; all as they are now. */
	for (size_t i = 0; i < ARRAY_LEN(changed); i++)
		changed[i] = any_msg(f)->m;
	for (size_t i = 0; i < f->count; i++)
		if (!f->msgs[i].gone)
			cr_assert_eq(index_update(ix, MBX, &f->stamp, later,
						  &f->msgs[i].m, 1),
				     0);
	cr_assert_eq(index_update(ix, MBX, &f->stamp, later, changed,
				  ARRAY_LEN(changed)),
		     0);
}

static void do_expunge(struct index *ix, struct fake *f)
{
	uint32_t uids[2];

	for (size_t i = 0; i < ARRAY_LEN(uids); i++) {
		uids[i] = any_msg(f)->m.uid;
		fake_expunge(f, uids[i]);
	}
	cr_assert_eq(index_remove(ix, MBX, &f->stamp, later, uids,
				  ARRAY_LEN(uids)),
		     0);
}

static void do_append(struct index *ix, struct fake *f)
{
	char name[32];
	struct fake_msg *m =
		fake_add(f, f->uid_last + 1 + any(3), any(0x40), 1 + any(99));

	(void)snprintf(name, sizeof(name), "17.M%u.host", m->m.uid);
	cr_assert_eq(index_insert(ix, MBX, &f->stamp, later, &m->m,
				  m->m.uid % 2 ? name : NULL),
		     0);
}

static void do_keyword(struct index *ix, struct fake *f)
{
	(void)snprintf(f->keywords.name[any(8)], KEYWORD_NAME_MAX, "k%u",
		       any(100));
	fake_written(f, true);
	cr_assert_eq(index_set_keywords(ix, MBX, &f->stamp, later,
					&f->keywords),
		     0);
}

TEST(update, a_sync_finds_nothing_to_do_after_any_mix_of_changes)
{
	static void (*const ops[])(struct index *, struct fake *) = {
		do_flags,  do_expunge, do_append,
		do_append, do_append,  do_keyword,
	};
	struct sync_result r;
	struct both b;

	start(&b);
	for (unsigned i = 0; i < 300; i++) {
		ops[any(ARRAY_LEN(ops))](b.ix, &b.mbx);
		r = fake_sync(b.ix, MBX, &b.mbx);
		FAKE_EXPECT(&r, SYNC_NOTHING, "", 0, 0, 0, 0);
		fake_check(b.ix);
		if (any(4) == 0) {
			fake_add(&b.mbx, b.mbx.uid_last + 1, 0, 9);
			r = fake_sync(b.ix, MBX, &b.mbx);
			FAKE_EXPECT(&r, SYNC_TAIL, "n", 1, 0, 0, 0);
		}
		if (any(4) == 0) {
			fake_written(&b.mbx, true);
			r = fake_sync(b.ix, MBX, &b.mbx);
			FAKE_EXPECT(&r, SYNC_FULL, "", 0, 0, 0, 0);
		}
		if (any(4) == 0) {
			index_close(b.ix);
			b.ix = fake_index();
		}
	}
	finish(&b);
}

/* Cost. */

TEST(update, writes_two_rows_whatever_the_size_of_the_folder)
{
	struct db_stats before, after;
	struct index *ix;
	struct msg m;

	fake_make_index(20000);
	ix = fake_index();
	m = message(ix, MBX, 12345);
	m.flags |= MSG_SEEN;
	cr_assert_eq(db_stats(index_db(ix), &before), 0);
	cr_assert_eq(index_update(ix, MBX, NULL, 0, &m, 1), 0);
	cr_assert_eq(db_stats(index_db(ix), &after), 0);
	cr_assert_eq(after.puts - before.puts, 2);
	cr_assert_eq(after.dels - before.dels, 0);
	cr_assert_eq(folder(ix, MBX).unseen, 19999);
	index_close(ix);
}
