/* Names of their own that messages of an MBX have. */
#include "index/sync.h"

#include <stdio.h>

#include "compat/basename.h"
#include "fakebox.h"
#include "fixture.h"
#include "index/row.h"

enum { KNOWN = 8 };

/* What a uidlist says. */
struct list {
	struct index *ix;
	const char *name[KNOWN + 1]; /* by UID */
	unsigned asked;
};

static const char *name_of(const struct msg *m, void *arg)
{
	struct list *l = arg;

	l->asked++;
	return m->uid <= KNOWN ? l->name[m->uid] : NULL;
}

static struct sync_result ask(struct fake *f, struct list *l)
{
	struct sync_hooks hooks = { .name_of = name_of, .arg = l };
	struct sync_result r;

	l->asked = 0;
	cr_assert_eq(sync_box(l->ix, 1, &f->box, &hooks, &r), 0);
	fake_check(l->ix);
	return r;
}

static struct sync_result ask_full(struct fake *f, struct list *l)
{
	struct sync_result r;

	fake_written(f, true);
	r = ask(f, l);
	cr_assert_eq(r.how, SYNC_FULL);
	return r;
}

/* Finds it by that name, and the name by its UID; "": has none. */
static void is_called(struct index *ix, uint32_t uid, const char *name)
{
	char got[INDEX_NAME_MAX + 1];
	struct msg m;

	cr_assert_eq(index_name_of(ix, 1, uid, got), 0);
	cr_assert_str_eq(got, name);
	if (*name) {
		cr_assert_eq(index_by_name(ix, 1, 0, name, &m), 0);
		cr_assert_eq(m.uid, uid);
	}
}

static void start(struct fake *f, struct list *l)
{
	fake_init(f);
	for (uint32_t uid = 1; uid <= 4; uid++)
		fake_add(f, uid, MSG_OLD, 100UL * uid);
	*l = (struct list){ .ix = fake_index(),
			    .name = {
				    [2] = "17.M2.host", [4] = "17.M4.host" } };
}

static void finish(struct fake *f, struct list *l)
{
	fake_fini(f);
	index_close(l->ix);
}

TEST(names, that_an_agent_chose_are_those_of_the_message_in_the_mbx)
{
	char none[INDEX_NAME_MAX + 1];
	struct sync_result r;
	struct list l;
	struct fake f;
	struct msg m;

	start(&f, &l);
	r = ask(&f, &l);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 4, 0, 0, 0);
	cr_assert_eq(l.asked, 4);
	is_called(l.ix, 1, "");
	is_called(l.ix, 2, "17.M2.host");
	is_called(l.ix, 4, "17.M4.host");
	cr_assert_eq(index_name_of(l.ix, 1, 5, none), -ENOENT);
	cr_assert_eq(index_name_of(l.ix, 2, 1, none), -ENOENT);
	/* It lies where it lies. */
	cr_assert_eq(index_by_uid(l.ix, 1, 2, &m), 0);
	cr_assert_eq(m.off, f.msgs[1].m.off);
	cr_assert_eq(m.line, FAKE_LINE);

	r = ask_full(&f, &l);
	FAKE_EXPECT(&r, SYNC_FULL, "", 0, 0, 0, 0);
	/* From nothing it is the same again. */
	cr_assert_eq(index_folder_drop(l.ix, 1), 0);
	cr_assert_eq(index_by_name(l.ix, 1, 0, "17.M2.host", &m), -ENOENT);
	(void)ask(&f, &l);
	is_called(l.ix, 2, "17.M2.host");
	finish(&f, &l);
}

TEST(names, hide_the_name_that_the_message_would_have)
{
	struct basename b = { 1, 0x4b000001, 2, 1400000002, 200 };
	char name[BASENAME_MAX + 1];
	struct list l;
	struct fake f;
	struct msg m;

	start(&f, &l);
	(void)ask(&f, &l);
	basename_format(&b, name);
	cr_assert_eq(index_by_name(l.ix, 1, b.uidvalidity, name, &m), -ENOENT);
	finish(&f, &l);
}

TEST(names, do_not_change_where_a_message_of_an_mbx_shows)
{
	struct sync_result r;
	struct list l;
	struct fake f;

	start(&f, &l);
	l.name[5] = "17.M5.host";
	l.name[6] = "17.M6.host";
	(void)ask(&f, &l);
	fake_add(&f, 5, 0, 9);
	r = ask(&f, &l);
	FAKE_EXPECT(&r, SYNC_TAIL, "n", 1, 0, 0, 0);
	cr_assert_eq(l.asked, 1);
	is_called(l.ix, 5, "17.M5.host");
	/* A file in new/ can carry no flag. */
	fake_add(&f, 6, MSG_FLAGGED, 9);
	r = ask(&f, &l);
	FAKE_EXPECT(&r, SYNC_TAIL, "c", 1, 0, 0, 0);
	fake_flag(&f, 5, MSG_SEEN);
	r = ask(&f, &l);
	FAKE_EXPECT(&r, SYNC_FULL, "cn", 0, 0, 1, 0);
	finish(&f, &l);
}

TEST(names, stay_when_nobody_knows_them)
{
	struct sync_result r;
	struct list l;
	struct fake f;

	start(&f, &l);
	(void)ask(&f, &l);
	l.name[2] = l.name[4] = NULL;
	fake_flag(&f, 2, MSG_OLD | MSG_SEEN);
	r = ask(&f, &l);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 0, 1, 0);
	fake_remove(&f, 1);
	r = fake_sync(l.ix, 1, &f);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 1, 0, 3);
	fake_check(l.ix);
	is_called(l.ix, 2, "17.M2.host");
	is_called(l.ix, 4, "17.M4.host");
	finish(&f, &l);
}

TEST(names, do_not_pass_to_another_message)
{
	struct list l;
	struct fake f;

	start(&f, &l);
	(void)ask(&f, &l);
	/* The same UID, and yet another message. */
	f.msgs[1].m.date++;
	fake_written(&f, true);
	(void)fake_sync(l.ix, 1, &f);
	is_called(l.ix, 2, "");
	is_called(l.ix, 4, "17.M4.host");
	f.uidvalidity++;
	fake_written(&f, true);
	(void)fake_sync(l.ix, 1, &f);
	is_called(l.ix, 4, "");
	fake_check(l.ix);
	finish(&f, &l);
}

TEST(names, come_change_and_go_as_the_list_says)
{
	struct basename b = { 1, 0x4b000001, 4, 1400000004, 400 };
	char plain[BASENAME_MAX + 1];
	struct sync_result r;
	struct list l;
	struct fake f;

	start(&f, &l);
	(void)ask(&f, &l);
	basename_format(&b, plain);
	l.name[1] = "17.M1.host";
	l.name[2] = "17.M2b.host";
	l.name[4] = plain;
	r = ask_full(&f, &l);
	FAKE_EXPECT(&r, SYNC_FULL, "c", 0, 0, 3, 0);
	is_called(l.ix, 1, "17.M1.host");
	is_called(l.ix, 2, "17.M2b.host");
	is_called(l.ix, 4, "");
	/* Swapped. */
	l.name[1] = "17.M2b.host";
	l.name[2] = "17.M1.host";
	(void)ask_full(&f, &l);
	is_called(l.ix, 1, "17.M2b.host");
	is_called(l.ix, 2, "17.M1.host");
	finish(&f, &l);
}

TEST(names, whose_messages_changed_are_told)
{
	struct list l;
	struct fake f;

	start(&f, &l);
	cr_expect(ask(&f, &l).named_changed, "they are new");
	cr_expect_not(ask_full(&f, &l).named_changed);
	fake_flag(&f, 1, MSG_OLD | MSG_SEEN);
	cr_expect_not(ask(&f, &l).named_changed, "1 has none");
	fake_flag(&f, 2, MSG_OLD | MSG_SEEN);
	cr_expect(ask(&f, &l).named_changed);
	fake_find(&f, 4)->m.keywords = 1U << 28;
	cr_expect(ask_full(&f, &l).named_changed);
	fake_add(&f, 5, MSG_OLD, 9);
	cr_expect_not(ask(&f, &l).named_changed);
	l.name[6] = "17.M6.host";
	fake_add(&f, 6, MSG_OLD, 9);
	cr_expect(ask(&f, &l).named_changed, "in a tail, too");
	fake_remove(&f, 1);
	cr_expect_not(ask(&f, &l).named_changed, "only moved");
	fake_expunge(&f, 2);
	cr_expect(ask(&f, &l).named_changed);
	finish(&f, &l);
}

TEST(names, of_our_form_but_of_another_message_are_names_of_its_own)
{
	struct basename b = { 9, 0x4b000001, 4, 1400000004, 400 };
	char copied[BASENAME_MAX + 1];
	struct list l;
	struct fake f;

	start(&f, &l);
	basename_format(&b, copied);
	l.name[4] = copied;
	(void)ask(&f, &l);
	is_called(l.ix, 4, copied);
	finish(&f, &l);
}

TEST(names, that_are_none_are_left_out)
{
	char longest[INDEX_NAME_MAX + 2];
	struct list l;
	struct fake f;

	start(&f, &l);
	memset(longest, 'n', sizeof(longest) - 1);
	longest[INDEX_NAME_MAX + 1] = '\0';
	l.name[1] = longest + 1;
	l.name[2] = longest;
	l.name[4] = "";
	(void)ask(&f, &l);
	is_called(l.ix, 1, longest + 1);
	is_called(l.ix, 2, "");
	is_called(l.ix, 4, "");
	finish(&f, &l);
}

TEST(names, that_two_messages_have_are_the_first_ones)
{
	struct list l;
	struct fake f;

	start(&f, &l);
	l.name[4] = l.name[2];
	(void)ask(&f, &l);
	is_called(l.ix, 2, "17.M2.host");
	is_called(l.ix, 4, "");
	/* One that the rows have, in a tail as well. */
	l.name[5] = l.name[2];
	fake_add(&f, 5, MSG_OLD, 9);
	cr_assert_eq(ask(&f, &l).how, SYNC_TAIL);
	is_called(l.ix, 5, "");
	/* The first one goes. */
	fake_expunge(&f, 2);
	(void)ask(&f, &l);
	is_called(l.ix, 4, "17.M2.host");
	is_called(l.ix, 5, "");
	finish(&f, &l);
}

TEST(names, of_a_maildir_are_not_asked_for)
{
	struct list l = { .name = { [1] = "other" } };
	struct fake f;

	l.ix = fake_index();
	fake_init(&f);
	fake_add(&f, 1, MSG_OLD, 9);
	fake_name(&f, 1, "a");
	(void)ask(&f, &l);
	cr_assert_eq(l.asked, 0);
	is_called(l.ix, 1, "a");
	finish(&f, &l);
}
