#include "compat/mbxmove.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/mbx.h"
#include "fixture.h"

#define LINE "01-Jan-2012 10:00:00 +0100,5;000000000001-00000001"

static struct pattern root;
static struct store *store;
static struct mbxmove move;
static struct mbx_options opt = { .lock_ms = 300,
				  .owner = (uid_t)-1,
				  .group = (gid_t)-1 };

static const char *at(const char *name)
{
	static char path[4][300];
	static unsigned turn;
	char *p = path[turn++ % 4];

	(void)snprintf(p, sizeof(path[0]), "%s/mail%s%s", fixture_dir(),
		       *name ? "/" : "", name);
	return p;
}

static void make(const char *name)
{
	fixture_mbx(at(name), LINE, "12345", 5);
}

static bool is_there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static void begin(void)
{
	cr_assert_eq(mkdir(at(""), 0700), 0);
	cr_assert_eq(mkdir(fixture_path("trash"), 0700), 0);
	opt.lock_dir = fixture_dir();
	cr_assert_eq(pattern_init(&root, at("")), 0);
	cr_assert_eq(mbx_store_new(&root, "", &opt, &store), 0);
	make("box");
}

static void end(void)
{
	store->ops->free(store);
	pattern_fini(&root);
}

static int trash(void)
{
	int fd = open(fixture_path("trash"), O_RDONLY | O_DIRECTORY);

	cr_assert_geq(fd, 0);
	return fd;
}

TEST(mbxmove, a_mailbox_gets_another_name_and_is_the_same_file)
{
	struct stat was, is;

	begin();
	cr_assert_eq(stat(at("box"), &was), 0);
	cr_assert_eq(mbxmove_begin(store, "box", &move), 0);
	cr_assert_eq(mbxmove_rename(&move, "other"), 0);
	cr_expect_not(is_there(at("box")));
	cr_assert_eq(stat(at("other"), &is), 0);
	cr_expect_eq(was.st_ino, is.st_ino);
	cr_expect_eq(was.st_size, is.st_size);
	cr_expect_eq(was.st_mtim.tv_nsec, is.st_mtim.tv_nsec);
	/* And back again. */
	cr_assert_eq(mbxmove_rename(&move, "box"), 0);
	cr_assert_eq(mbxmove_rename(&move, "box"), 0);
	cr_expect(is_there(at("box")));
	cr_expect_not(is_there(at("other")));
	mbxmove_end(&move);
	end();
}

TEST(mbxmove, directories_come_and_go_as_needed)
{
	struct stat st;

	begin();
	make("keep");
	cr_assert_eq(mbxmove_begin(store, "box", &move), 0);
	cr_expect_eq(mbxmove_check(&move, "a/b/c"), 0);
	cr_expect_not(is_there(at("a")));
	cr_assert_eq(mbxmove_rename(&move, "a/b/c"), 0);
	cr_expect_eq(mbxmove_check(&move, "a/b/c"), 0);
	cr_expect_eq(mbxmove_check(&move, "a/d"), 0);
	cr_expect(is_there(at("a/b/c")));
	cr_assert_eq(stat(at("a/b"), &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0700U);
	cr_assert_eq(mbxmove_rename(&move, "a/d"), 0);
	cr_expect_not(is_there(at("a/b")));
	cr_expect(is_there(at("a/d")));
	make("a/sister");
	cr_assert_eq(mbxmove_rename(&move, "box"), 0);
	cr_expect_not(is_there(at("a/d")));
	cr_expect(is_there(at("a/sister")));
	mbxmove_end(&move);
	cr_expect(is_there(at("keep")));
	end();
}

TEST(mbxmove, what_cannot_be_leaves_everything_as_it_was)
{
	static const struct {
		const char *to;
		int want;
	} rows[] = {
		{ "other", -EEXIST },	 { "dir", -EEXIST },
		{ "other/x", -ENOTDIR }, { "new/er/other/../x", -EINVAL },
		{ "link/x", -ENOTDIR },	 { "dir/./x", -EINVAL },
		{ "", -EINVAL },	 { "/x", -EINVAL },
		{ "new//x", -EINVAL },	 { "new/", -EINVAL },
	};
	char name[400] = "new/";

	begin();
	make("other");
	cr_assert_eq(mkdir(at("dir"), 0700), 0);
	cr_assert_eq(symlink("/tmp", at("link")), 0);
	cr_assert_eq(mbxmove_begin(store, "box", &move), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int check = mbxmove_check(&move, rows[i].to);

		cr_expect_eq(mbxmove_rename(&move, rows[i].to), rows[i].want,
			     "row %zu", i);
		cr_expect(check == rows[i].want || check == -ELOOP,
			  "row %zu: %d", i, check);
		cr_expect(is_there(at("box")), "row %zu", i);
		cr_expect_not(is_there(at("new")), "row %zu", i);
		cr_expect_not(is_there(at("dir/sub")), "row %zu", i);
	}
	memset(name + 4, 'x', 300);
	cr_expect_eq(mbxmove_rename(&move, name), -ENAMETOOLONG);
	cr_expect_not(is_there(at("new")));
	cr_expect(is_there(at("dir")));
	mbxmove_end(&move);
	end();
}

TEST(mbxmove, who_has_it_open_keeps_it)
{
	pid_t pid;

	begin();
	pid = fixture_hold(at("box"), LOCK_SH);
	cr_expect_eq(mbxmove_begin(store, "box", &move), -EBUSY);
	fixture_let_go(pid);
	cr_assert_eq(mbxmove_begin(store, "box", &move), 0);
	mbxmove_end(&move);
	end();
}

/* Nobody else has it, nor can have it until the end. */
static bool is_free(const char *path)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) == 0;
}

TEST(mbxmove, both_locks_are_held_until_the_end)
{
	char lock[300];
	struct stat st;
	pid_t pid;

	begin();
	cr_assert_eq(stat(at("box"), &st), 0);
	(void)snprintf(lock, sizeof(lock), "%s/.%jx.%jx", fixture_dir(),
		       (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	cr_assert_eq(mbxmove_begin(store, "box", &move), 0);
	cr_expect_not(is_free(at("box")));
	cr_expect_not(is_free(lock));
	cr_assert_eq(mbxmove_rename(&move, "other"), 0);
	cr_expect_not(is_free(at("other")));
	cr_expect_not(is_free(lock));
	mbxmove_end(&move);
	cr_expect(is_free(at("other")));
	cr_expect_not(is_there(lock));
	pid = fixture_hold(lock, LOCK_EX);
	cr_expect_eq(mbxmove_begin(store, "other", &move), -EAGAIN);
	fixture_let_go(pid);
	end();
}

TEST(mbxmove, only_a_mailbox_of_its_own_is_touched)
{
	begin();
	cr_expect_eq(mbxmove_begin(store, "none", &move), -ENOENT);
	cr_expect_eq(mbxmove_begin(store, "", &move), -EPERM);
	cr_assert_eq(mkdir(at("dir"), 0700), 0);
	cr_expect_eq(mbxmove_begin(store, "dir", &move), -EPERM);
	cr_assert_eq(link(at("box"), fixture_path("hard")), 0);
	cr_expect_eq(mbxmove_begin(store, "box", &move), -EPERM);
	cr_assert_eq(symlink("box", at("soft")), 0);
	cr_expect_eq(mbxmove_begin(store, "soft", &move), -ELOOP);
	end();
}

TEST(mbxmove, it_goes_into_the_trash)
{
	begin();
	AUTO_FD int dir = trash();

	fixture_write(fixture_path("trash/taken"), "x", 1);
	cr_assert_eq(mbxmove_begin(store, "box", &move), 0);
	cr_expect_eq(mbxmove_take(&move, dir, "taken"), -EEXIST);
	cr_expect(is_there(at("box")));
	cr_assert_eq(mbxmove_take(&move, dir, "1.box"), 0);
	mbxmove_end(&move);
	cr_expect_not(is_there(at("box")));
	cr_expect(is_there(fixture_path("trash/1.box")));
	end();
}

static void expect_same(const char *path, const struct stat *was)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_size, was->st_size);
	cr_expect_eq(st.st_uid, was->st_uid);
	cr_expect_eq(st.st_gid, was->st_gid);
	cr_expect_eq(st.st_mode, was->st_mode);
	cr_expect_eq(io_ns(&st.st_mtim), io_ns(&was->st_mtim));
}

TEST(mbxmove, to_another_filesystem_it_is_copied)
{
	struct stat was;

	begin();
	if (mount("none", fixture_path("trash"), "tmpfs", 0, "size=2M") < 0) {
		end();
		cr_skip_test("no tmpfs");
	}
	AUTO_FD int dir = trash();

	cr_assert_eq(truncate(at("box"), 1500000), 0);
	cr_assert_eq(chown(at("box"), 65534, 65534), 0);
	cr_assert_eq(chmod(at("box"), 0600), 0);
	cr_assert_eq(chown(at(""), 65534, 65534), 0);
	cr_assert_eq(chmod(fixture_dir(), 0777), 0);
	cr_assert_eq(stat(at("box"), &was), 0);
	fixture_write(fixture_path("trash/1.box.tmp"), "left", 4);
	cr_assert_eq(mbxmove_begin(store, "box", &move), 0);
	cr_assert_eq(mbxmove_take(&move, dir, "1.box"), 0);
	mbxmove_end(&move);
	cr_expect_not(is_there(at("box")));
	cr_expect_not(is_there(fixture_path("trash/1.box.tmp")));
	expect_same(fixture_path("trash/1.box"), &was);
	/* When it does not fit, it stays. */
	make("large");
	cr_assert_eq(truncate(at("large"), 1500000), 0);
	cr_assert_eq(mbxmove_begin(store, "large", &move), 0);
	cr_expect_eq(mbxmove_take(&move, dir, "2.large"), -ENOSPC);
	mbxmove_end(&move);
	cr_expect(is_there(at("large")));
	cr_expect_not(is_there(fixture_path("trash/2.large.tmp")));
	cr_expect_not(is_there(fixture_path("trash/2.large")));
	base_auto_close(&dir);
	dir = -1;
	cr_expect_eq(umount2(fixture_path("trash"), MNT_DETACH), 0);
	end();
}

TEST(mbxmove, roots_right_is_not_the_owners)
{
	begin();
	AUTO_FD int dir = trash();

	if (geteuid() != 0) {
		end();
		cr_skip_test("not root");
	}
	cr_assert_eq(chmod(fixture_dir(), 0777), 0);
	cr_assert_eq(chmod(at(""), 0755), 0);
	cr_assert_eq(chown(at("box"), 65534, 65534), 0);
	cr_assert_eq(mbxmove_begin(store, "box", &move), 0);
	cr_expect_eq(mbxmove_take(&move, dir, "1.box"), -EACCES);
	cr_expect_eq(mbxmove_rename(&move, "other"), -EACCES);
	cr_expect_eq(mbxmove_rename(&move, "a/other"), -EACCES);
	mbxmove_end(&move);
	cr_expect(is_there(at("box")));
	end();
}

/* ---- stopped before each step -------------------------------------------- */

static void stop_at(int step)
{
	static char text[32];
	static char *env[] = { text, NULL };

	(void)snprintf(text, sizeof(text), "IO_STOP_AT=%d", step);
	environ = env;
	io_stop_init();
}

static void rename_and_stop(int step)
{
	stop_at(step);
	if (mbxmove_begin(store, "box", &move) == 0 &&
	    mbxmove_rename(&move, "a/b/other") == 0)
		_exit(0);
	_exit(1);
}

static int run_child(void (*fn)(int step), int step)
{
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0)
		fn(step);
	return fixture_exit(pid);
}

TEST(mbxmove, a_rename_that_is_stopped_was_made_or_was_not)
{
	int step, code = -1;

	begin();
	for (step = 1; code != 0; step++) {
		code = run_child(rename_and_stop, step);
		cr_assert(code == 0 || code == 100, "step %d: %d", step, code);
		cr_expect_neq(is_there(at("box")), is_there(at("a/b/other")));
		if (is_there(at("a/b/other")))
			cr_assert_eq(rename(at("a/b/other"), at("box")), 0);
		fixture_remove(at("a"));
	}
	cr_expect_geq(step, 8);
	end();
}

static void take_and_stop(int step)
{
	int dir = trash();

	stop_at(step);
	if (mbxmove_begin(store, "box", &move) == 0 &&
	    mbxmove_take(&move, dir, "1.box") == 0)
		_exit(0);
	_exit(1);
}

static int take_stopped_everywhere(void)
{
	struct stat was, st;
	int step, code = -1;

	cr_assert_eq(stat(at("box"), &was), 0);
	for (step = 1; code != 0; step++) {
		code = run_child(take_and_stop, step);
		cr_assert(code == 0 || code == 100, "step %d: %d", step, code);
		/* What lies under either name is whole. */
		if (stat(at("box"), &st) == 0)
			cr_expect_eq(st.st_size, was.st_size, "step %d", step);
		else
			cr_expect(is_there(fixture_path("trash/1.box")));
		if (stat(fixture_path("trash/1.box"), &st) == 0) {
			cr_expect_eq(st.st_size, was.st_size, "step %d", step);
			cr_assert_eq(unlink(fixture_path("trash/1.box")), 0);
		}
		if (!is_there(at("box")))
			make("box");
	}
	return step - 1;
}

TEST(mbxmove, a_removal_that_is_stopped_loses_nothing)
{
	begin();
	cr_expect_geq(take_stopped_everywhere(), 4);
	if (mount("none", fixture_path("trash"), "tmpfs", 0, "size=2M") == 0) {
		cr_expect_geq(take_stopped_everywhere(), 9);
		cr_expect_eq(umount2(fixture_path("trash"), MNT_DETACH), 0);
	}
	end();
}
