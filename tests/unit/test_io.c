#include "compat/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compat/identity.h"
#include "fixture.h"

enum { SOMEBODY = 5000 };

static int open_dir(void)
{
	int fd = open(fixture_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	return fd;
}

static void write_file(int dirfd, const char *name, const char *text)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
			0644);

	cr_assert_geq(fd, 0, "%s", name);
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	(void)close(fd);
}

static void expect_file(int dirfd, const char *name, const char *text)
{
	AUTO_FREE char *got = NULL;
	size_t len;

	cr_assert_eq(io_read_file(dirfd, name, 1000, &got, &len), 0, "%s",
		     name);
	cr_expect_str_eq(got, text);
	cr_expect_eq(len, strlen(text));
}

TEST(io, nothing_but_what_lies_beneath_is_opened)
{
	static const struct {
		const char *path;
		int flags, want;
	} rows[] = {
		{ "d/f", O_RDONLY, 0 },
		{ "d//f", O_RDWR, 0 },
		{ "./d/f", O_PATH, 0 },
		{ "d/", O_RDONLY | O_DIRECTORY, 0 },
		{ "d/..f", O_RDONLY, 0 },
		{ "", O_RDONLY | O_DIRECTORY, 0 },
		{ ".", O_PATH | O_DIRECTORY, 0 },
		{ "d/none", O_RDONLY, -ENOENT },
		{ "d/f/x", O_RDONLY, -ENOTDIR },
		{ "link", O_RDONLY, -ELOOP },
		{ "link", O_PATH, -ELOOP },
		{ "dlink/f", O_RDONLY, -ELOOP },
		{ "dlink/f", O_PATH, -ELOOP },
		{ "d/up/d/f", O_RDONLY, -ELOOP },
		{ "d/../d/f", O_RDONLY, -EXDEV },
		{ "..", O_RDONLY, -EXDEV },
		{ "d/..", O_PATH, -EXDEV },
		{ "/etc/passwd", O_RDONLY, -EXDEV },
	};
	AUTO_FD int dir = open_dir();
	size_t i;

	cr_assert_eq(mkdirat(dir, "d", 0755), 0);
	write_file(dir, "d/f", "text");
	write_file(dir, "d/..f", "text");
	cr_assert_eq(symlinkat("d/f", dir, "link"), 0);
	cr_assert_eq(symlinkat("d", dir, "dlink"), 0);
	cr_assert_eq(symlinkat("..", dir, "d/up"), 0);
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FD int fd =
			io_open_beneath(dir, rows[i].path, rows[i].flags);

		if (rows[i].want)
			cr_expect_eq(fd, rows[i].want, "row %zu: %d", i, fd);
		else
			cr_expect_geq(fd, 0, "row %zu: %d", i, fd);
		if (fd >= 0)
			cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC, "row %zu",
				  i);
	}
}

TEST(io, a_fifo_does_not_block)
{
	AUTO_FD int dir = open_dir();
	AUTO_FD int fd = -1;
	AUTO_FREE char *text = NULL;
	size_t len;

	cr_assert_eq(mkfifoat(dir, "fifo", 0600), 0);
	(void)alarm(20);
	fd = io_open_beneath(dir, "fifo", O_RDONLY);
	cr_expect_geq(fd, 0);
	cr_expect_eq(io_read_file(dir, "fifo", 10, &text, &len), -EINVAL);
	cr_expect_null(text);
}

TEST(io, reading_leaves_atime_alone)
{
	struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 2000 } };
	AUTO_FD int dir = open_dir();
	struct stat st;

	write_file(dir, "f", "text");
	cr_assert_eq(utimensat(dir, "f", old, 0), 0);
	expect_file(dir, "f", "text");
	cr_assert_eq(fstatat(dir, "f", &st, 0), 0);
	cr_expect_eq(st.st_atim.tv_sec, 1000);
}

TEST(io, files_of_others_are_opened_though_noatime_is_refused)
{
	AUTO_FD int dir = open_dir();
	struct identity was;
	int fd;

	if (geteuid() != 0)
		cr_skip_test("not root");
	write_file(dir, "f", "text");
	cr_assert_eq(fchmod(dir, 0755), 0);
	was = identity_enter(SOMEBODY, SOMEBODY);
	fd = io_open_beneath(dir, "f", O_RDONLY);
	identity_leave(was);
	cr_expect_geq(fd, 0, "%d", fd);
	base_auto_close(&fd);
}

TEST(io, within_stays_on_its_mount)
{
	AUTO_FD int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_FD int dir = open_dir();
	int fd = io_open_beneath(root, "proc", O_RDONLY | O_DIRECTORY);

	cr_expect_geq(fd, 0, "%d", fd);
	base_auto_close(&fd);
	cr_expect_eq(io_open_within(root, "proc", O_RDONLY | O_DIRECTORY),
		     -EXDEV);
	write_file(dir, "f", "text");
	fd = io_open_within(dir, "f", O_RDONLY);
	cr_expect_geq(fd, 0, "%d", fd);
	base_auto_close(&fd);
	cr_expect_eq(io_open_within(dir, "../f", O_RDONLY), -EXDEV);
	cr_assert_eq(symlinkat("f", dir, "link"), 0);
	cr_expect_eq(io_open_within(dir, "link", O_RDONLY), -ELOOP);
}

TEST(io, pwrite_truncate_and_times_do_what_they_say)
{
	const struct timespec times[2] = { { .tv_sec = 1000 },
					   { .tv_sec = 2000, .tv_nsec = 7 } };
	AUTO_FD int dir = open_dir();
	AUTO_FD int fd = -1;
	struct stat st;

	write_file(dir, "f", "0123456789");
	fd = openat(dir, "f", O_RDWR | O_CLOEXEC);
	cr_assert_eq(io_pwrite(fd, "abc", 3, 8), 0);
	expect_file(dir, "f", "01234567abc");
	cr_assert_eq(io_truncate(fd, 9), 0);
	expect_file(dir, "f", "01234567a");
	cr_assert_eq(io_fsync(fd), 0);
	cr_assert_eq(io_set_times(fd, times), 0);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_expect_eq(st.st_atim.tv_sec, 1000);
	cr_expect_eq(io_ns(&st.st_mtim), 2000000000007);
	cr_expect_eq(io_pwrite(fd, "x", 1, (uint64_t)INT64_MAX), -EOVERFLOW);
	cr_expect_eq(io_truncate(fd, UINT64_MAX), -EOVERFLOW);
	cr_expect_eq(io_pwrite(dir, "x", 1, 0), -EBADF);
	cr_expect_eq(io_truncate(dir, 0), -EINVAL);
}

TEST(io, scratch_has_room_and_no_name)
{
	static const char *const dirs[] = { NULL, "/nowhere" };

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		const char *dir = dirs[i] ? dirs[i] : fixture_dir();
		AUTO_FD int fd = io_scratch(dir, 100000);
		struct stat st;

		cr_assert_geq(fd, 0, "row %zu: %d", i, fd);
		cr_assert_eq(fstat(fd, &st), 0);
		cr_expect_eq(st.st_size, 100000);
		cr_expect_geq(st.st_blocks * 512, 100000);
		cr_expect_eq(st.st_nlink, 0, "row %zu", i);
		cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	}
	cr_expect_eq(io_scratch(fixture_dir(), UINT64_MAX), -EFBIG);
}

TEST(io, read_at_stops_at_the_end_of_the_file)
{
	AUTO_FD int dir = open_dir();
	AUTO_FD int fd = -1;
	char buf[16] = "";

	write_file(dir, "f", "0123456789");
	fd = io_open_beneath(dir, "f", O_RDONLY);
	cr_expect_eq(io_read_at(fd, buf, 4, 3), 4);
	cr_expect_arr_eq(buf, "3456", 4);
	cr_expect_eq(io_read_at(fd, buf, sizeof(buf), 7), 3);
	cr_expect_eq(io_read_at(fd, buf, sizeof(buf), 10), 0);
	cr_expect_eq(io_read_at(fd, buf, sizeof(buf), 11), 0);
	cr_expect_eq(io_read_at(fd, buf, 1, UINT64_MAX), -EOVERFLOW);
	cr_expect_eq(io_read_at(-1, buf, 1, 0), -EBADF);
}

TEST(io, read_file_takes_regular_files_up_to_a_size)
{
	AUTO_FD int dir = open_dir();
	AUTO_FD int proc = open("/proc/self", O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *text = NULL;
	size_t len;

	write_file(dir, "f", "12345");
	write_file(dir, "empty", "");
	expect_file(dir, "empty", "");
	cr_expect_eq(io_read_file(dir, "f", 4, &text, &len), -EFBIG);
	cr_expect_null(text);
	cr_expect_eq(io_read_file(dir, "", 4, &text, &len), -EISDIR);
	cr_expect_eq(io_read_file(dir, "none", 4, &text, &len), -ENOENT);
	cr_assert_eq(io_read_file(dir, "f", 5, &text, &len), 0);
	cr_expect_eq(len, 5);
	base_auto_free(&text);

	/* Files that are longer than fstat() said. */
	cr_expect_eq(io_read_file(proc, "status", 7, &text, &len), -EFBIG);
	cr_assert_eq(io_read_file(proc, "status", 1 << 20, &text, &len), 0);
	cr_expect_eq(len, strlen(text));
	cr_expect_gt(len, 100);
}

TEST(io, replace_file_replaces_the_whole_file)
{
	AUTO_FD int dir = open_dir();
	struct stat st;

	write_file(dir, "f", "a much longer old text");
	cr_assert_eq(io_replace_file(dir, "f", "new", 3, (uid_t)-1, (gid_t)-1),
		     0);
	expect_file(dir, "f", "new");
	cr_assert_eq(fstatat(dir, "f", &st, 0), 0);
	cr_expect_eq(st.st_mode, S_IFREG | 0600);
	cr_expect_neq(faccessat(dir, "f.tmp", F_OK, 0), 0);
}

TEST(io, replace_file_does_not_write_through_what_lies_in_its_way)
{
	AUTO_FD int dir = open_dir();

	write_file(dir, "victim", "precious");
	cr_assert_eq(symlinkat("victim", dir, "f.tmp"), 0);
	cr_assert_eq(symlinkat("victim", dir, "f"), 0);
	cr_assert_eq(io_replace_file(dir, "f", "new", 3, (uid_t)-1, (gid_t)-1),
		     0);
	expect_file(dir, "f", "new");
	expect_file(dir, "victim", "precious");

	cr_assert_eq(linkat(dir, "victim", dir, "f.tmp", 0), 0);
	cr_assert_eq(io_replace_file(dir, "f", "newer", 5, (uid_t)-1,
				     (gid_t)-1),
		     0);
	expect_file(dir, "f", "newer");
	expect_file(dir, "victim", "precious");
}

TEST(io, replace_file_cleans_up_when_it_fails)
{
	AUTO_FD int dir = open_dir();
	char longest[NAME_MAX + 1];

	cr_assert_eq(mkdirat(dir, "d", 0700), 0);
	cr_expect_eq(io_replace_file(dir, "d", "x", 1, (uid_t)-1, (gid_t)-1),
		     -EISDIR);
	cr_expect_neq(faccessat(dir, "d.tmp", F_OK, 0), 0);

	memset(longest, 'n', NAME_MAX);
	longest[NAME_MAX] = '\0';
	cr_expect_eq(io_replace_file(dir, longest, "x", 1, (uid_t)-1,
				     (gid_t)-1),
		     -ENAMETOOLONG);
}

/* Return: exit status of a child that does @fn and stops at step @n. */
static int stopped_at(int n, int (*fn)(int), int arg)
{
	static char text[32];
	static char *env[] = { text, NULL };
	int status;
	pid_t pid = fork();

	cr_assert_geq(pid, 0);
	if (pid == 0) {
		(void)snprintf(text, sizeof(text), "IO_STOP_AT=%d", n);
		environ = env;
		io_stop_init();
		_exit(fn(arg) ? 1 : 0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int replace(int dir)
{
	return io_replace_file(dir, "f", "new", 3, (uid_t)-1, (gid_t)-1);
}

static int three_files(int dir)
{
	int ret = io_replace_file(dir, "a", "a", 1, (uid_t)-1, (gid_t)-1);

	write_file(dir, "count", "");
	if (ret == 0)
		ret = io_replace_file(dir, "b", "b", 1, (uid_t)-1, (gid_t)-1);
	(void)unlinkat(dir, "count", 0);
	if (ret == 0)
		ret = io_replace_file(dir, "c", "c", 1, (uid_t)-1, (gid_t)-1);
	return ret;
}

TEST(io, steps_count_while_the_file_exists)
{
	AUTO_FD int dir = open_dir();
	char from[PATH_MAX + 32];
	char at[] = "IO_STOP_AT=1";
	char *env[] = { at, from, NULL };
	int status;
	pid_t pid;

	(void)snprintf(from, sizeof(from), "IO_STOP_FROM=%s/count",
		       fixture_dir());
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		environ = env;
		io_stop_init();
		_exit(three_files(dir) ? 1 : 0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(WEXITSTATUS(status), 100);
	expect_file(dir, "a", "a");
	cr_expect_neq(faccessat(dir, "b.tmp", F_OK, 0), 0);
	cr_expect_neq(faccessat(dir, "c", F_OK, 0), 0);
}

TEST(io, replace_file_stopped_anywhere_leaves_the_old_or_the_new_file)
{
	AUTO_FD int dir = open_dir();
	bool renamed = false;
	int n, status;

	for (n = 1;; n++) {
		AUTO_FREE char *text = NULL;
		size_t len;

		write_file(dir, "f", "old");
		status = stopped_at(n, replace, dir);
		cr_assert_eq(io_read_file(dir, "f", 10, &text, &len), 0);
		if (strcmp(text, "new") == 0)
			renamed = true;
		else
			cr_assert_str_eq(text, "old", "step %d", n);
		if (status == 0)
			break;
		cr_assert_eq(status, 100, "step %d", n);
	}
	cr_expect(renamed);
	cr_expect_gt(n, 5);
	cr_expect_neq(faccessat(dir, "f.tmp", F_OK, 0), 0);
}

static int make_users_dir(int dir)
{
	int rc = io_mkdir(dir, "u", 0750, SOMEBODY, SOMEBODY);

	return rc == -EEXIST ? 0 : rc;
}

static void expect_dir(int dirfd, const char *name, mode_t mode, uid_t uid)
{
	struct stat st;

	cr_assert_eq(fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	cr_expect_eq(st.st_mode, S_IFDIR | mode, "%o", st.st_mode);
	cr_expect_eq(st.st_uid, uid);
}

TEST(io, mkdir_in_roots_directory_is_healed_by_doing_it_again)
{
	AUTO_FD int dir = open_dir();
	int n, status;

	if (geteuid() != 0)
		cr_skip_test("not root");
	for (n = 1;; n++) {
		status = stopped_at(n, make_users_dir, dir);
		cr_assert_eq(make_users_dir(dir), 0);
		expect_dir(dir, "u", 0750, SOMEBODY);
		cr_assert_eq(unlinkat(dir, "u", AT_REMOVEDIR), 0);
		if (status == 0)
			break;
		cr_assert_eq(status, 100, "step %d", n);
	}
	cr_expect_gt(n, 3);
}

TEST(io, mkdir_in_the_users_directory_is_right_from_the_start)
{
	AUTO_FD int dir = open_dir();

	if (geteuid() != 0)
		cr_skip_test("not root");
	cr_assert_eq(fchown(dir, SOMEBODY, SOMEBODY), 0);
	cr_assert_eq(stopped_at(2, make_users_dir, dir), 0);
	expect_dir(dir, "u", 0750, SOMEBODY);
	cr_expect_eq(io_mkdir(dir, "u", 0700, SOMEBODY, SOMEBODY), -EEXIST);

	/* What root put there is not given away. */
	cr_assert_eq(mkdirat(dir, "roots", 0700), 0);
	cr_expect_eq(io_mkdir(dir, "roots", 0750, SOMEBODY, SOMEBODY), -EEXIST);
	expect_dir(dir, "roots", 0700, 0);
}

TEST(io, mkdir_without_an_owner_leaves_it)
{
	AUTO_FD int dir = open_dir();

	cr_assert_eq(io_mkdir(dir, "d", 0700, (uid_t)-1, (gid_t)-1), 0);
	expect_dir(dir, "d", 0700, geteuid());
	cr_expect_eq(io_mkdir(dir, "d", 0700, (uid_t)-1, (gid_t)-1), -EEXIST);
	cr_expect_eq(io_mkdir(dir, "no/d", 0700, (uid_t)-1, (gid_t)-1),
		     -ENOENT);
}

TEST(io, rename_link_and_unlink_report_errno)
{
	AUTO_FD int dir = open_dir();

	write_file(dir, "a", "a");
	cr_expect_eq(io_link(dir, "a", dir, "b"), 0);
	cr_expect_eq(io_link(dir, "a", dir, "b"), -EEXIST);
	cr_expect_eq(io_rename(dir, "a", dir, "b", RENAME_NOREPLACE), -EEXIST);
	cr_expect_eq(io_rename(dir, "a", dir, "c", RENAME_NOREPLACE), 0);
	cr_expect_eq(io_rename(dir, "a", dir, "c", 0), -ENOENT);
	cr_expect_eq(io_unlink(dir, "c", 0), 0);
	cr_expect_eq(io_unlink(dir, "c", 0), -ENOENT);
	expect_file(dir, "b", "a");
}

TEST(io, a_directory_is_synced_also_through_o_path)
{
	AUTO_FD int fd = open(fixture_dir(), O_PATH | O_DIRECTORY | O_CLOEXEC);

	cr_expect_eq(io_fsync_dir(fd), 0);
	cr_expect_lt(io_fsync_dir(-1), 0);
}

TEST(io, mtime_is_set_to_the_nanosecond_and_atime_left)
{
	static const int64_t rows[] = { 0, 1, 1325376000123456789, -1,
					-86400000000001 };
	struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 2000 } };
	AUTO_FD int dir = open_dir();
	AUTO_FD int fd = -1;
	struct stat st;
	size_t i;

	write_file(dir, "f", "");
	cr_assert_eq(utimensat(dir, "f", old, 0), 0);
	fd = io_open_beneath(dir, "f", O_RDONLY);
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		cr_assert_eq(io_set_mtime(fd, rows[i]), 0);
		cr_assert_eq(fstat(fd, &st), 0);
		cr_expect_eq(io_ns(&st.st_mtim), rows[i], "row %zu", i);
		cr_expect_eq(st.st_atim.tv_sec, 1000);
	}
}

TEST(io, nfs_and_its_like_are_told_by_their_type)
{
	static const struct {
		uint32_t type;
		bool network;
		const char *name;
	} rows[] = {
		{ 0x6969, true, "nfs" },	{ 0xff534d42, true, "cifs" },
		{ 0x01021997, true, "9p" },	{ 0x00c36400, true, "ceph" },
		{ 0x65735546, false, "fuse" },	{ 0xef53, false, "local" },
		{ 0x01021994, false, "local" }, { 0, false, "local" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *name = NULL;

		cr_expect_eq(io_is_network_type(rows[i].type, &name),
			     rows[i].network, "%s", rows[i].name);
		cr_expect_str_eq(name, rows[i].name);
	}
}

TEST(io, the_disk_under_tmp_is_of_this_host)
{
	AUTO_FD int dir = open_dir();
	AUTO_FD int proc = open("/proc", O_PATH | O_CLOEXEC);
	const char *name = NULL;

	cr_expect_not(io_is_network_fs(dir, &name));
	cr_expect_not_null(name);
	cr_expect_not(io_is_network_fs(proc, &name));
	cr_expect_str_eq(name, "local");
}
