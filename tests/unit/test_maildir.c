#include "compat/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fixture.h"

static struct store *store;
static struct box *box;
static struct fixture_scan got;

static const char *at(const char *name)
{
	char path[512];

	(void)snprintf(path, sizeof(path), "md/%s", name);
	return fixture_path(path);
}

static void put(const char *name, const char *text)
{
	fixture_write(at(name), text, strlen(text));
}

/* "" is the INBOX, and the root. */
static void make_folder(const char *name)
{
	static const char *const subs[] = { "", "/cur", "/new", "/tmp" };
	char path[256];

	for (size_t i = 0; i < ARRAY_LEN(subs); i++) {
		(void)snprintf(path, sizeof(path), "md%s%s%s", *name ? "/" : "",
			       name, subs[i]);
		cr_assert_eq(mkdir(fixture_path(path), 0700), 0, "%s", path);
	}
}

static void begin(void)
{
	make_folder("");
}

static void open_store(void)
{
	cr_assert_eq(maildir_store_new(AT_FDCWD, at(""), &store), 0);
}

static void open_inbox(void)
{
	open_store();
	cr_assert_eq(store->ops->open(store, "", &box), 0);
}

static void end(void)
{
	if (box)
		box->ops->close(box);
	box = NULL;
	store->ops->free(store);
}

static void scan(void)
{
	cr_assert_eq(fixture_scan(box, &got), 0);
}

TEST(maildir, a_directory_without_cur_is_no_store)
{
	cr_assert_eq(maildir_store_new(AT_FDCWD, fixture_dir(), &store),
		     -EBADMSG);
	fixture_write(fixture_path("cur"), "", 0);
	cr_assert_eq(maildir_store_new(AT_FDCWD, fixture_dir(), &store),
		     -EBADMSG);
	cr_assert_eq(maildir_store_new(AT_FDCWD, fixture_path("cur"), &store),
		     -ENOTDIR);
	cr_assert_eq(maildir_store_new(AT_FDCWD, fixture_path("none"), &store),
		     -ENOENT);
}

/* ---- list ---------------------------------------------------------------- */

static char listed[1024];

static int find(const struct store_entry *e, void *arg)
{
	size_t used = strlen(listed);

	(void)arg;
	(void)snprintf(listed + used, sizeof(listed) - used, "<%s>%s", e->name,
		       e->is_folder ? "" : e->why);
	return 0;
}

TEST(maildir, lists_inbox_and_what_has_a_cur)
{
	begin();
	make_folder(".a");
	make_folder("..DOVECOT-TRASHED");
	make_folder("visible");
	cr_assert_eq(mkdir(at(".plain"), 0700), 0);
	put(".file", "x");
	put("dovecot-uidlist", "");
	open_store();
	cr_assert_eq(store->ops->list(store, find, NULL), 0);
	cr_expect_str_eq(listed, "<><.a>");
	end();
}

TEST(maildir, lists_folder_names_of_any_octets)
{
	begin();
	make_folder(".a.b\n\xff &-");
	open_store();
	cr_assert_eq(store->ops->list(store, find, NULL), 0);
	cr_expect_str_eq(listed, "<><.a.b\n\xff &->");
	cr_expect_eq(store->ops->open(store, ".a.b\n\xff &-", &box), 0);
	end();
}

TEST(maildir, reports_symbolic_links)
{
	begin();
	make_folder(".a");
	cr_assert_eq(symlink(".a", at(".l")), 0);
	open_store();
	cr_assert_eq(store->ops->list(store, find, NULL), 0);
	cr_expect_not_null(
		strstr(listed, "<.l>a symbolic link; these are not followed"),
		"%s", listed);
	end();
}

/* ---- what names say ------------------------------------------------------ */

TEST(maildir, reads_flags_from_names)
{
	static const struct {
		const char *file;
		uint32_t flags, keywords;
	} cases[] = {
		{ "cur/01:2,", MSG_OLD, 0 },
		{ "cur/02:2,DFRST", MSG_OLD | MSG_SYSTEM, 0 },
		{ "cur/03:2,SabZz", MSG_OLD | MSG_SEEN, 1U << 25 | 3 },
		{ "cur/04", MSG_OLD, 0 },
		{ "cur/05:1,S", MSG_OLD, 0 },
		{ "cur/06,S=1:2,P", MSG_OLD, 0 },
		{ "new/07", 0, 0 },
		{ "new/08:2,F", MSG_FLAGGED, 0 },
	};

	begin();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		put(cases[i].file, "x");
	open_inbox();
	scan();
	cr_assert_eq(got.count, ARRAY_LEN(cases));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cr_expect_eq(got.msgs[i].flags, cases[i].flags, "%s: %x",
			     cases[i].file, got.msgs[i].flags);
		cr_expect_eq(got.msgs[i].keywords, cases[i].keywords, "%s",
			     cases[i].file);
	}
	cr_expect_str_eq(got.names[1], "02");
	cr_expect_str_eq(got.names[4], "05:1,S");
	cr_expect_str_eq(got.names[5], "06,S=1");
	end();
}

TEST(maildir, leaves_out_what_is_no_message)
{
	begin();
	put("cur/.hidden", "x");
	put("tmp/half", "x");
	put("cur/1:2,", "x");
	cr_assert_eq(mkdir(at("cur/dir"), 0700), 0);
	open_inbox();
	scan();
	cr_expect_eq(got.count, 1);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}

TEST(maildir, serves_the_rest_when_something_else_lies_in_cur)
{
	char buf[8];

	begin();
	put("cur/1:2,", "one");
	put("secret", "octets");
	cr_assert_eq(symlink("../secret", at("cur/2:2,")), 0);
	cr_assert_eq(mkfifo(at("new/3"), 0600), 0);
	put("cur/4:2,", "four");
	open_inbox();
	scan();
	cr_assert_eq(got.count, 2);
	cr_expect(fixture_is(box, &got, 0, "one", 3));
	cr_expect(fixture_is(box, &got, 1, "four", 4));
	cr_expect_eq(got.scan.damage.kind, DAMAGE_ACCESS);
	cr_expect_eq(got.scan.damage.count, 2);
	got.msgs[0].size = 6;
	cr_expect_eq(box->ops->read(box, &got.msgs[0], "2", buf, 6, 0),
		     -ESTALE);
	end();
}

/* ---- Dovecot's files ----------------------------------------------------- */

#define HEAD "3 V1262304001 N50 G0123456789abcdef0123456789abcdef\n"

TEST(maildir, orders_by_uid_and_then_by_name)
{
	static const char *const want[] = { "d", "b", "a", "c", "e" };
	static const uint32_t uids[] = { 3, 7, 49, 0, 0 };

	begin();
	put("cur/a:2,", "x");
	put("new/b", "x");
	put("cur/c:2,", "x");
	put("cur/d:2,S", "x");
	put("new/e", "x");
	put("dovecot-uidlist", HEAD "3 :d\n7 :b:2,F\n8 :gone\n49 :a\n");
	open_inbox();
	scan();
	cr_assert_eq(got.count, 5);
	for (size_t i = 0; i < got.count; i++) {
		cr_expect_eq(got.msgs[i].uid, uids[i]);
		cr_expect_str_eq(got.names[i], want[i]);
	}
	cr_expect_eq(got.scan.uidvalidity, 1262304001);
	cr_expect_eq(got.scan.uidnext, 50);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}

TEST(maildir, uidnext_is_above_every_uid)
{
	begin();
	put("cur/a:2,", "x");
	put("dovecot-uidlist", "3 V1 N2\n90 :a\n");
	open_inbox();
	scan();
	cr_expect_eq(got.scan.uidnext, 91);
	end();
}

TEST(maildir, a_folder_that_dovecot_never_saw_has_no_uids)
{
	begin();
	put("new/a", "x");
	open_inbox();
	scan();
	cr_assert_eq(got.count, 1);
	cr_expect_eq(got.msgs[0].uid, 0);
	cr_expect_eq(got.scan.uidvalidity, 0);
	cr_expect_eq(got.scan.uidnext, 1);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}

TEST(maildir, a_damaged_uidlist_is_told_and_mail_is_served)
{
	static const char *const lists[] = {
		"junk\n",
		HEAD "7 :a\n7 :b\n",
		"3 V0 N1\n",
	};

	begin();
	put("cur/a:2,", "x");
	put("cur/b:2,", "y");
	open_inbox();
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		put("dovecot-uidlist", lists[i]);
		scan();
		cr_expect_eq(got.count, 2, "%zu", i);
		cr_expect_eq(got.scan.damage.kind, DAMAGE_UID, "%zu", i);
		cr_expect_eq(got.scan.damage.count, 1);
	}
	put("dovecot-uidlist", HEAD "7 :a\n8 :b\n");
	scan();
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	cr_expect_eq(got.msgs[1].uid, 8);
	end();
}

TEST(maildir, keywords_keep_their_letters)
{
	begin();
	put("dovecot-keywords", "0 $MDNSent\n2 Work\n25 Last\n26 TooFar\n");
	put("cur/a:2,az", "x");
	open_inbox();
	scan();
	cr_expect_str_eq(got.scan.keywords.name[0], "$MDNSent");
	cr_expect_str_eq(got.scan.keywords.name[1], "");
	cr_expect_str_eq(got.scan.keywords.name[2], "Work");
	cr_expect_str_eq(got.scan.keywords.name[25], "Last");
	cr_expect_str_eq(got.scan.keywords.name[26], "");
	cr_expect_eq(got.msgs[0].keywords, 1U << 25 | 1);
	/* None are left over when the file goes away. */
	cr_assert_eq(unlink(at("dovecot-keywords")), 0);
	scan();
	cr_expect_str_eq(got.scan.keywords.name[0], "");
	end();
}

TEST(maildir, a_damaged_keyword_file_is_told)
{
	begin();
	fixture_write(at("dovecot-keywords"), "0 a\0b\n1 c\n", 10);
	put("cur/a:2,a", "x");
	open_inbox();
	scan();
	cr_expect_eq(got.count, 1);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_KEYWORDS);
	end();
}

/* ---- stamps, reads, crowds ----------------------------------------------- */

TEST(maildir, a_stamp_differs_when_any_part_changes)
{
	static const char *const files[] = { "cur/b:2,", "new/c",
					     "dovecot-uidlist" };
	struct stamp before, after;

	begin();
	put("dovecot-uidlist", HEAD);
	open_inbox();
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		cr_assert_eq(box->ops->stamp(box, &before), 0);
		(void)usleep(20000);
		put(files[i], HEAD "1 :b\n");
		cr_assert_eq(box->ops->stamp(box, &after), 0);
		cr_expect_not(stamp_equal(&before, &after), "%s", files[i]);
	}
	end();
}

TEST(maildir, a_message_that_changed_or_went_is_stale)
{
	char buf[16];

	begin();
	put("cur/a:2,", "message a");
	put("cur/b:2,", "message b");
	put("cur/c:2,", "message c");
	open_inbox();
	scan();
	put("cur/a:2,", "longer than before");
	cr_assert_eq(unlink(at("cur/b:2,")), 0);
	cr_assert_eq(unlink(at("cur/c:2,")), 0);
	cr_assert_eq(symlink("../secret", at("cur/c:2,")), 0);
	put("secret", "precious!");
	for (size_t i = 0; i < 2; i++)
		cr_expect_eq(box->ops->read(box, &got.msgs[i], got.names[i],
					    buf, 9, 0),
			     -ESTALE);
	cr_expect_eq(box->ops->read(box, &got.msgs[2], got.names[2], buf, 9, 0),
		     -ELOOP);
	end();
}

struct crowd {
	unsigned count;
	uint32_t uid;
};

static int take_one(const struct msg *m, const char *name, void *arg)
{
	struct crowd *c = arg;
	char want[32];

	cr_assert_gt(m->uid, c->uid);
	(void)snprintf(want, sizeof(want), "%u.x", 2000 - m->uid);
	cr_assert_str_eq(name, want);
	c->uid = m->uid;
	c->count++;
	return 0;
}

TEST(maildir, finds_each_of_many_messages)
{
	enum { COUNT = 700 };
	struct crowd c = { .count = 0 };
	struct scan s = { .damage = { .kind = DAMAGE_NONE } };
	FILE *f;

	begin();
	f = fopen(at("dovecot-uidlist"), "we");
	cr_assert_not_null(f);
	(void)fputs("3 V1 N2001\n", f);
	for (unsigned uid = 1; uid <= COUNT; uid++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "cur/%u.x:2,S", 2000 - uid);
		put(name, "");
		(void)fprintf(f, "%u :%u.x\n", uid, 2000 - uid);
	}
	cr_assert_eq(fclose(f), 0);
	open_inbox();
	cr_assert_eq(box->ops->scan(box, &s, take_one, &c), 0);
	cr_expect_eq(c.count, COUNT);
	end();
}

static void child_changes(void)
{
	for (unsigned i = 0;; i++) {
		put("new/coming", "x");
		(void)rename(at("new/coming"), at("cur/coming:2,S"));
		(void)unlink(at("cur/coming:2,S"));
	}
}

TEST(maildir, a_scan_among_changes_is_right_or_stale)
{
	unsigned good = 0;
	pid_t pid;

	begin();
	put("cur/stays:2,", "octets");
	open_inbox();
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		child_changes();
	for (unsigned i = 0; i < 300; i++) {
		int ret = fixture_scan(box, &got);

		cr_assert(ret == 0 || ret == -ESTALE, "%d", ret);
		if (ret < 0)
			continue;
		good++;
		cr_assert(got.count == 1 || got.count == 2);
		cr_assert_str_eq(got.names[got.count - 1], "stays");
		cr_assert(fixture_is(box, &got, got.count - 1, "octets", 6));
	}
	fixture_let_go(pid);
	scan();
	cr_expect_leq(got.count, 2);
	cr_log_info("%u of 300 were not stale", good);
	end();
}
