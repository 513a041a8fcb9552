#include "compat/mbxwalk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "mbxbox.h"

/* ---- what is hostile ----------------------------------------------------- */

static int open_name(const char *name)
{
	struct box *b = NULL;
	int ret = store->ops->open(store, name, &b);

	cr_expect_eq(ret == 0, b != NULL);
	if (b)
		b->ops->close(b);
	return ret;
}

TEST(mbxwalk, does_not_open_what_is_no_mailbox_file)
{
	begin_two();
	cr_assert_eq(symlink("box", fixture_path("mail/symlink")), 0);
	cr_assert_eq(symlink("nowhere", fixture_path("mail/dangling")), 0);
	cr_assert_eq(mkdir(fixture_path("mail/dir"), 0700), 0);
	cr_assert_eq(symlink("dir", fixture_path("mail/dirlink")), 0);
	cr_assert_eq(mkfifo(fixture_path("mail/fifo"), 0600), 0);
	cr_expect_eq(open_name("symlink"), -ELOOP);
	cr_expect_eq(open_name("dangling"), -ELOOP);
	cr_expect_eq(open_name("dirlink/x"), -ELOOP);
	cr_expect_eq(open_name("dir"), -ENOTSUP);
	cr_expect_eq(open_name("fifo"), -ENOTSUP);
	cr_expect_eq(open_name("box/x"), -ENOTDIR);
	cr_expect_eq(open_name("nothing"), -ENOENT);
	if (mknod(fixture_path("mail/null"), S_IFCHR | 0600, makedev(1, 3)) ==
	    0)
		cr_expect_eq(open_name("null"), -ENOTSUP);
	cr_expect_eq(open_name("box"), 0);
	end();
}

TEST(mbxwalk, does_not_open_a_file_with_hard_links)
{
	begin_two();
	cr_assert_eq(link(file(), fixture_path("mail/second")), 0);
	cr_expect_eq(open_name("box"), -EMLINK);
	cr_assert_eq(unlink(fixture_path("mail/second")), 0);
	cr_expect_eq(open_name("box"), 0);
	end();
}

TEST(mbxwalk, does_not_open_the_file_of_another_user)
{
	opt.owner = geteuid() + 1;
	begin();
	header(0);
	cr_expect_eq(open_name("box"), -EPERM);
	end();
	opt.owner = geteuid();
	begin();
	cr_expect_eq(open_name("box"), 0);
	end();
}

/* ---- list ---------------------------------------------------------------- */

struct found {
	unsigned count;
	char text[4096]; /* "name" or "name: why", one a line */
};

static int find(const struct store_entry *e, void *arg)
{
	struct found *f = arg;
	size_t used = strlen(f->text);

	f->count++;
	cr_expect_eq(e->is_folder, e->why == NULL);
	(void)snprintf(f->text + used, sizeof(f->text) - used, "%s%s%s\n",
		       e->name, e->why ? ": " : "", e->why ? e->why : "");
	return 0;
}

static struct found list(void)
{
	struct found f = { .count = 0 };

	cr_assert_eq(store->ops->list(store, find, &f), 0);
	return f;
}

static void expect_line(const struct found *f, const char *line)
{
	const char *p = f->text;
	size_t len = strlen(line);

	while (p && (strncmp(p, line, len) != 0 || p[len] != '\n')) {
		p = strchr(p, '\n');
		if (p)
			p++;
	}
	cr_expect_not_null(p, "no line \"%s\" in\n%s", line, f->text);
}

TEST(mbxwalk, lists_a_missing_directory_as_enoent)
{
	begin();
	cr_assert_eq(rmdir(fixture_path("mail")), 0);
	pattern_fini(&root);
	cr_assert_eq(pattern_init(&root, fixture_path("mail")), 0);
	cr_expect_eq(store->ops->list(store, find, NULL), -ENOENT);
	end();
}

TEST(mbxwalk, lists_folders_and_says_what_is_not_served)
{
	struct found f;

	begin_two();
	(void)mkdir(fixture_path("mail/a"), 0700);
	(void)mkdir(fixture_path("mail/a/b"), 0700);
	(void)mkdir(fixture_path("mail/.ssh"), 0700);
	fixture_mbx(fixture_path("mail/a/b/deep"),
		    DATE ",1;0000000000"
			 "00-00000000",
		    "x", 1);
	fixture_mbx(fixture_path("mail/.hidden"),
		    DATE ",1;0000000000"
			 "00-00000000",
		    "x", 1);
	fixture_write(fixture_path("mail/.bashrc"), "ls\n", 3);
	fixture_write(fixture_path("mail/.ssh/key"), "*mbx*\r\n", 7);
	fixture_write(fixture_path("mail/empty"), "", 0);
	fixture_write(fixture_path("mail/damaged"), "*mbx*\r\nshort", 12);
	fixture_write(fixture_path("mail/mbox"),
		      TEXT("From joe Thu Jan  1 00:00:00 1998\n\nx\n"));
	fixture_write(fixture_path("mail/note"), "hello\n", 6);
	f = list();
	expect_line(&f, "box");
	expect_line(&f, "a/b/deep");
	expect_line(&f, ".hidden");
	expect_line(&f, "empty");
	expect_line(&f, "damaged");
	expect_line(&f, "mbox: unix mbox");
	expect_line(&f, "note: not a mail file");
	cr_expect_eq(f.count, 7, "%s", f.text);
	end();
}

TEST(mbxwalk, lists_hostile_files_with_the_reason)
{
	struct found f;

	opt.owner = geteuid();
	begin_two();
	cr_assert_eq(symlink("box", fixture_path("mail/symlink")), 0);
	cr_assert_eq(symlink("/", fixture_path("mail/dirlink")), 0);
	cr_assert_eq(mkfifo(fixture_path("mail/fifo"), 0600), 0);
	fixture_mbx_header(fixture_path("mail/one"), 1, 1, (char *)NULL);
	cr_assert_eq(link(fixture_path("mail/one"), fixture_path("mail/two")),
		     0);
	f = list();
	expect_line(&f, "box");
	expect_line(&f,
		    "symlink: a symbolic link; these are not followed "
		    "below a user's directory");
	expect_line(&f,
		    "dirlink: a symbolic link; these are not followed "
		    "below a user's directory");
	expect_line(&f, "fifo: not a regular file");
	expect_line(&f, "one: it has hard links, so its owner is in doubt");
	expect_line(&f, "two: it has hard links, so its owner is in doubt");
	cr_expect_eq(f.count, 6, "%s", f.text);
	end();
}

TEST(mbxwalk, lists_files_of_others_with_the_reason)
{
	struct found f;

	opt.owner = geteuid() + 1;
	begin();
	header(0);
	f = list();
	expect_line(&f, "box: it belongs to another user");
	cr_expect_eq(f.count, 1);
	end();
}

TEST(mbxwalk, lists_names_of_any_octets)
{
	static const char *const names[] = { "new\nline", "\xe4\xf6\xfc",
					     "\1",	  "a b",
					     "~",	  "INBOX" };
	struct found f;

	begin();
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char path[64];

		(void)snprintf(path, sizeof(path), "mail/%s", names[i]);
		fixture_mbx_header(fixture_path(path), 1, 1, (char *)NULL);
	}
	f = list();
	cr_expect_eq(f.count, ARRAY_LEN(names));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		expect_line(&f, names[i]);
		cr_expect_eq(open_name(names[i]), 0, "%s", names[i]);
	}
	end();
}

TEST(mbxwalk, lists_twenty_levels_and_names_the_next)
{
	char path[200] = "mail";
	struct found f;

	begin();
	for (unsigned i = 1; i <= 25; i++) {
		char *end = path + strlen(path);

		(void)stpcpy(end, "/m");
		fixture_mbx_header(fixture_path(path), 1, 1, (char *)NULL);
		(void)stpcpy(end, "/d");
		cr_assert_eq(mkdir(fixture_path(path), 0700), 0);
	}
	f = list();
	cr_expect_eq(f.count, 21, "%s", f.text);
	expect_line(&f, "m");
	expect_line(&f, "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/m");
	expect_line(&f,
		    "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d: more than 20 "
		    "levels deep");
	end();
}

/* ---- what it remembers --------------------------------------------------- */

/* Octets that this process has read so far. */
static unsigned long octets_read(void)
{
	static const char key[] = "rchar: ";
	char line[64] = "";
	FILE *f = fopen("/proc/self/io", "re");

	cr_assert_not_null(f);
	cr_assert_not_null(fgets(line, sizeof(line), f));
	(void)fclose(f);
	cr_assert_eq(strncmp(line, key, strlen(key)), 0);
	return strtoul(line + strlen(key), NULL, 10);
}

static unsigned long octets_of_a_list(unsigned want)
{
	unsigned long before = octets_read();

	cr_expect_eq(list().count, want);
	return octets_read() - before;
}

enum { FILES = 100, SETTLED_S = 3 };

static void write_many(void)
{
	char path[64];

	for (unsigned i = 0; i < FILES; i++) {
		(void)snprintf(path, sizeof(path), "mail/junk%u", i);
		fixture_write(fixture_path(path), "not a mailbox at all\n", 21);
	}
}

TEST(mbxwalk, reads_again_only_what_changed)
{
	const struct timespec settled = { .tv_sec = SETTLED_S };
	unsigned long first;
	struct found f;

	begin_two();
	write_many();
	(void)nanosleep(&settled, NULL);
	first = octets_of_a_list(FILES + 1);
	cr_expect_geq(first, FILES * 21UL);
	/* What is left is the reading of /proc/self/io. */
	cr_expect_lt(octets_of_a_list(FILES + 1), FILES * 21UL / 2);
	cr_expect_lt(octets_of_a_list(FILES + 1), FILES * 21UL / 2);
	fixture_mbx_header(fixture_path("mail/junk7"), 1, 1, (char *)NULL);
	f = list();
	expect_line(&f, "junk7");
	expect_line(&f, "junk8: not a mail file");
	end();
}

TEST(mbxwalk, sees_a_file_become_a_mailbox_in_the_same_moment)
{
	struct found f;

	begin();
	for (unsigned i = 0; i < 50; i++) {
		fixture_write(fixture_path("mail/box"), "x\n", 2);
		f = list();
		expect_line(&f, "box: not a mail file");
		fixture_write(fixture_path("mail/box"), "", 0);
		f = list();
		expect_line(&f, "box");
	}
	end();
}

static int find_file(const struct store_entry *e, void *arg)
{
	struct store_entry *out = arg;

	*out = *e;
	return 0;
}

TEST(mbxwalk, tells_which_file_a_folder_is)
{
	struct store_entry e = { .ino = 0 };
	struct stat st;

	begin();
	header(0);
	cr_assert_eq(stat(file(), &st), 0);
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(store->ops->list(store, find_file, &e), 0);
		cr_expect(e.is_folder);
		cr_expect_eq(e.dev, st.st_dev);
		cr_expect_eq(e.ino, st.st_ino);
	}
	end();
}

TEST(mbxwalk, lists_a_single_file_as_the_folder_without_a_name)
{
	struct found f;

	begin_two();
	box->ops->close(box);
	pattern_fini(&root);
	cr_assert_eq(pattern_init(&root, file()), 0);
	f = list();
	cr_expect_str_eq(f.text, "\n");
	cr_assert_eq(store->ops->open(store, "", &box), 0);
	scan();
	EXPECT_UIDS(1, 2);
	fixture_patch(file(), 0, "From joe Thu Jan  1 00:00:00 1998\n", 34);
	f = list();
	cr_expect_str_eq(f.text, ": unix mbox\n");
	end();
}
