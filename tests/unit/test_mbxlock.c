#include "compat/mbxlock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fixture.h"

enum { NOBODY = 65534 };

static const struct mbxlock_options in_tmp = {
	.dir = "/tmp", .ms = 200, .uid = (uid_t)-1, .gid = (gid_t)-1
};

static int mailbox(void)
{
	const char *path = fixture_path("box");
	int fd;

	fixture_write(path, "mail", 4);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	return fd;
}

/* The lock file that UW would use, made by hand from its rule. */
static const char *lock_name(int fd)
{
	static char name[96];
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	(void)snprintf(name, sizeof(name), "/tmp/.%lx.%lx",
		       (unsigned long)st.st_dev, (unsigned long)st.st_ino);
	return name;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_mode : 0;
}

static int64_t ms_now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Can another open file get this flock? */
static bool is_free(const char *path)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	cr_assert_geq(fd, 0, "%s", path);
	return flock(fd, LOCK_EX | LOCK_NB) == 0;
}

TEST(mbxlock, the_lock_file_is_dev_and_ino_in_hex_below_tmp)
{
	AUTO_FD int fd = mailbox();
	struct mbxparse l;

	cr_assert_eq(mbxlock_parse(fd, &in_tmp, &l), 0);
	cr_expect_str_eq(l.path, lock_name(fd));
	cr_expect_eq(mode_of(lock_name(fd)), (mode_t)(S_IFREG | 0666));
	cr_expect_not(is_free(l.path));
	mbxlock_parse_release(&l, &in_tmp);
	cr_expect_eq(mode_of(lock_name(fd)), 0, "it is still there");
}

TEST(mbxlock, the_lock_file_is_0666_whatever_the_umask)
{
	static const mode_t masks[] = { 0, 022, 077, 0777 };
	AUTO_FD int fd = mailbox();
	struct mbxparse l;

	for (size_t i = 0; i < ARRAY_LEN(masks); i++) {
		(void)umask(masks[i]);
		cr_assert_eq(mbxlock_parse(fd, &in_tmp, &l), 0);
		cr_expect_eq(mode_of(l.path), (mode_t)(S_IFREG | 0666), "%o",
			     masks[i]);
		mbxlock_parse_release(&l, &in_tmp);
	}
	(void)umask(022);
}

TEST(mbxlock, the_lock_file_is_empty_and_belongs_to_whom_it_should)
{
	AUTO_FD int fd = mailbox();
	struct mbxlock_options opt = in_tmp;
	struct mbxparse l;
	struct stat st;

	if (geteuid() == 0)
		opt.uid = opt.gid = NOBODY;
	cr_assert_eq(mbxlock_parse(fd, &opt, &l), 0);
	cr_assert_eq(lstat(l.path, &st), 0);
	cr_expect_eq(st.st_size, 0);
	cr_expect_eq(st.st_uid, geteuid() == 0 ? NOBODY : geteuid());
	/* Only for the time of the call: root is root again. */
	fixture_write(fixture_path("mine"), "", 0);
	cr_assert_eq(lstat(fixture_path("mine"), &st), 0);
	cr_expect_eq(st.st_uid, geteuid());
	mbxlock_parse_release(&l, &opt);
	cr_expect_eq(mode_of(l.path), 0);
}

TEST(mbxlock, the_lock_of_a_users_mailbox_is_the_users)
{
	AUTO_FD int fd = mailbox();
	struct mbxparse l;
	struct stat st;

	if (geteuid() != 0)
		cr_skip_test("needs root");
	cr_assert_eq(chown(fixture_path("box"), NOBODY, NOBODY), 0);
	cr_assert_eq(mbxlock_parse(fd, &in_tmp, &l), 0);
	cr_assert_eq(lstat(l.path, &st), 0);
	cr_expect_eq(st.st_uid, NOBODY);
	cr_expect_eq(st.st_gid, NOBODY);
	mbxlock_parse_release(&l, &in_tmp);
}

TEST(mbxlock, a_symbolic_link_is_refused_and_not_touched)
{
	AUTO_FD int fd = mailbox();
	const char *name = lock_name(fd);
	struct mbxparse l;

	cr_assert_eq(symlink(fixture_path("target"), name), 0);
	cr_expect_eq(mbxlock_parse(fd, &in_tmp, &l), -ELOOP);
	cr_expect(S_ISLNK(mode_of(name)));
	cr_expect_eq(mode_of(fixture_path("target")), 0, "it was followed");
	fixture_write(fixture_path("target"), "precious", 8);
	cr_expect_eq(mbxlock_parse(fd, &in_tmp, &l), -ELOOP);
	cr_expect_eq(mode_of(fixture_path("target")), S_IFREG | 0600);
	cr_expect_eq(unlink(name), 0);
}

TEST(mbxlock, a_hard_link_is_refused_and_not_touched)
{
	AUTO_FD int fd = mailbox();
	const char *name = lock_name(fd);
	struct mbxparse l;
	struct stat st;

	fixture_write(fixture_path("precious"), "octets", 6);
	if (link(fixture_path("precious"), name) < 0)
		cr_skip_test("the test's directory is not on /tmp's disk");
	cr_expect_eq(mbxlock_parse(fd, &in_tmp, &l), -EMLINK);
	cr_assert_eq(lstat(name, &st), 0);
	cr_expect_eq(st.st_nlink, 2);
	cr_expect_eq(st.st_size, 6);
	cr_expect_eq(st.st_mode, (mode_t)(S_IFREG | 0600));
	cr_expect_eq(unlink(name), 0);
}

TEST(mbxlock, what_is_not_a_regular_file_is_refused_and_not_opened)
{
	AUTO_FD int fd = mailbox();
	const char *name = lock_name(fd);
	struct mbxparse l;

	cr_assert_eq(mkfifo(name, 0666), 0);
	cr_expect_eq(mbxlock_parse(fd, &in_tmp, &l), -EACCES);
	cr_expect(S_ISFIFO(mode_of(name)));
	cr_assert_eq(unlink(name), 0);
	cr_assert_eq(mkdir(name, 0777), 0);
	cr_expect_eq(mbxlock_parse(fd, &in_tmp, &l), -EACCES);
	cr_expect_eq(rmdir(name), 0);
}

TEST(mbxlock, a_lock_file_that_another_user_left_is_used)
{
	AUTO_FD int fd = mailbox();
	struct mbxlock_options opt = in_tmp;
	const char *name = lock_name(fd);
	struct stat before, during;
	struct mbxparse l;

	fixture_write(name, "", 0);
	cr_assert_eq(chmod(name, 0666), 0);
	if (geteuid() == 0)
		opt.uid = opt.gid = NOBODY;
	cr_assert_eq(lstat(name, &before), 0);
	cr_assert_eq(mbxlock_parse(fd, &opt, &l), 0);
	cr_assert_eq(lstat(name, &during), 0);
	cr_expect_eq(before.st_ino, during.st_ino);
	cr_expect_not(is_free(name));
	mbxlock_parse_release(&l, &opt);
	/* In a sticky directory it cannot be removed, and does no harm. */
	if (mode_of(name) != 0) {
		cr_expect(is_free(name));
		cr_expect_eq(mbxlock_parse(fd, &opt, &l), 0);
		mbxlock_parse_release(&l, &opt);
		cr_expect_eq(unlink(name), 0);
	}
}

TEST(mbxlock, a_lock_file_that_cannot_be_opened_is_eacces_at_once)
{
	AUTO_FD int fd = mailbox();
	struct mbxlock_options opt = in_tmp;
	const char *name = lock_name(fd);
	int64_t start = ms_now();
	struct mbxparse l;

	if (geteuid() != 0)
		cr_skip_test("needs root, to make files of two users");
	opt.uid = opt.gid = NOBODY;
	opt.ms = 5000;
	fixture_write(name, "", 0);
	cr_expect_eq(mbxlock_parse(fd, &opt, &l), -EACCES);
	cr_expect_lt(ms_now() - start, 2000);
	cr_expect_eq(mode_of(name), S_IFREG | 0600);
	cr_expect_eq(unlink(name), 0);
}

TEST(mbxlock, a_lock_directory_that_is_no_use_is_an_error)
{
	AUTO_FD int fd = mailbox();
	struct mbxlock_options opt = in_tmp;
	struct mbxparse l;

	opt.dir = "/no/such/directory";
	opt.ms = 50;
	cr_expect_lt(mbxlock_parse(fd, &opt, &l), 0);
	opt.dir = "/a/name/of/ninety-six/octets/and/more/cannot/be/used/for/"
		  "the/directory/of/lock/files/because/it/must/fit";
	cr_expect_eq(mbxlock_parse(fd, &opt, &l), -ENAMETOOLONG);
}

TEST(mbxlock, a_lock_that_is_held_gives_eagain_at_the_deadline)
{
	static const unsigned deadlines[] = { 0, 30, 200 };
	AUTO_FD int fd = mailbox();
	struct mbxlock_options opt = in_tmp;
	pid_t other = fixture_hold(lock_name(fd), LOCK_EX);
	struct mbxparse l;

	for (size_t i = 0; i < ARRAY_LEN(deadlines); i++) {
		int64_t start = ms_now(), took;

		opt.ms = deadlines[i];
		cr_expect_eq(mbxlock_parse(fd, &opt, &l), -EAGAIN);
		took = ms_now() - start;
		cr_expect_geq(took, deadlines[i]);
		cr_expect_lt(took, deadlines[i] + 2000, "%jd", (intmax_t)took);
		cr_expect_neq(mode_of(lock_name(fd)), 0, "the other's file");
	}
	fixture_let_go(other);
	cr_expect_eq(mbxlock_parse(fd, &opt, &l), 0);
	mbxlock_parse_release(&l, &opt);
}

TEST(mbxlock, share_waits_for_exclusive_only)
{
	AUTO_FD int fd = mailbox();
	pid_t other = fixture_hold(fixture_path("box"), LOCK_SH);
	int64_t start;

	cr_expect_eq(mbxlock_share(fd, 0), 0);
	mbxlock_unshare(fd);
	fixture_let_go(other);
	other = fixture_hold(fixture_path("box"), LOCK_EX);
	start = ms_now();
	cr_expect_eq(mbxlock_share(fd, 60), -EAGAIN);
	cr_expect_geq(ms_now() - start, 60);
	fixture_let_go(other);
	cr_expect_eq(mbxlock_share(fd, 0), 0);
	cr_expect_not(is_free(fixture_path("box")));
	mbxlock_unshare(fd);
	cr_expect(is_free(fixture_path("box")));
}

/* As UW does it: sleep in flock(), then see whether the name is still that
 * file, else start again. */
static int lock_like_uw(const char *name)
{
	for (;;) {
		struct stat by_name, by_fd;
		int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

		if (fd < 0 || flock(fd, LOCK_EX) < 0)
			_exit(2);
		if (lstat(name, &by_name) == 0 && fstat(fd, &by_fd) == 0 &&
		    by_name.st_ino == by_fd.st_ino)
			return fd;
		(void)close(fd);
	}
}

/* In and out of the lock; inside, nobody else may be. */
static void child_counts(const char *name, const char *inside, bool like_uw)
{
	AUTO_FD int box = open(fixture_path("box"), O_RDONLY | O_CLOEXEC);
	struct mbxlock_options opt = in_tmp;
	struct mbxparse l = { .fd = -1 };

	opt.ms = 30000;
	for (unsigned i = 0; i < 100; i++) {
		int in;

		if (like_uw)
			l.fd = lock_like_uw(name);
		else if (mbxlock_parse(box, &opt, &l) < 0)
			_exit(3);
		in = open(inside, O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (in < 0)
			_exit(4);
		(void)close(in);
		(void)unlink(inside);
		if (like_uw) {
			(void)unlink(name);
			(void)flock(l.fd, LOCK_UN);
			(void)close(l.fd);
		} else {
			mbxlock_parse_release(&l, &opt);
		}
	}
	_exit(0);
}

TEST(mbxlock, processes_of_both_kinds_exclude_each_other)
{
	AUTO_FD int fd = mailbox();
	const char *inside = fixture_path("inside");
	const char *name = lock_name(fd);
	pid_t pids[4];

	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		pids[i] = fork();
		cr_assert_geq(pids[i], 0);
		if (pids[i] == 0)
			child_counts(name, inside, i % 2 != 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(pids); i++)
		cr_expect_eq(fixture_exit(pids[i]), 0);
	cr_expect_eq(mode_of(name), 0);
}

TEST(mbxlock, a_lock_file_that_was_replaced_is_not_removed)
{
	AUTO_FD int fd = mailbox();
	struct mbxparse l;

	cr_assert_eq(mbxlock_parse(fd, &in_tmp, &l), 0);
	cr_assert_eq(rename(l.path, fixture_path("taken")), 0);
	fixture_write(l.path, "", 0);
	mbxlock_parse_release(&l, &in_tmp);
	cr_expect_neq(mode_of(l.path), 0);
	cr_expect(is_free(fixture_path("taken")));
	cr_expect_eq(unlink(l.path), 0);
}

TEST(mbxlock, the_holder_is_named)
{
	AUTO_FD int fd = mailbox();
	char text[80], want[80];
	pid_t other = fixture_hold(fixture_path("box"), LOCK_EX);
	FILE *locks = fopen("/proc/locks", "re");

	(void)snprintf(want, sizeof(want), "pid %d (", (int)other);
	memset(text, 'x', sizeof(text));
	mbxlock_holder(fd, text, sizeof(text));
	if (locks && fgetc(locks) != EOF)
		cr_expect_eq(strncmp(text, want, strlen(want)), 0, "%s", text);
	if (locks)
		(void)fclose(locks);
	fixture_let_go(other);
	mbxlock_holder(fd, text, sizeof(text));
	cr_expect_str_eq(text, "another process");
	mbxlock_holder(-1, text, sizeof(text));
	cr_expect_str_eq(text, "another process");
}

TEST(mbxlock, what_was_missed_is_remembered_until_it_is_had)
{
	AUTO_FD int fd = mailbox();
	struct mbxlock_past past = mbxlock_past();
	char text[80], want[80];
	struct mbxparse l;
	struct stat st;
	pid_t other;

	cr_expect_eq(past.ino, 0);
	cr_expect_not(mbxlock_keeper(&past, text, sizeof(text)));
	cr_expect_str_eq(text, "another process");
	other = fixture_hold(fixture_path("box"), LOCK_EX);
	(void)snprintf(want, sizeof(want), "pid %d (", (int)other);
	cr_expect_eq(mbxlock_share(fd, 10), -EAGAIN);
	past = mbxlock_past();
	cr_assert_eq(fstat(fd, &st), 0);
	cr_expect_eq(past.ino, st.st_ino);
	cr_expect_not(past.taken);
	cr_expect(mbxlock_keeper(&past, text, sizeof(text)));
	cr_expect_eq(strncmp(text, want, strlen(want)), 0, "%s", text);
	fixture_let_go(other);
	/* Getting the one lock says nothing about another. */
	cr_assert_eq(mbxlock_share(fd, 10), 0);
	cr_expect_eq(mbxlock_past().ino, st.st_ino);
	cr_assert_eq(mbxlock_parse(fd, &in_tmp, &l), 0);
	cr_expect_eq(mbxlock_past().ino, 0);
	cr_expect(mbxlock_past().taken);
	mbxlock_parse_release(&l, &in_tmp);
	mbxlock_limit(10);
	cr_expect_not(mbxlock_past().taken);
}
