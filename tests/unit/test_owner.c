/* What is left of the index when its process, or the machine, goes down. */
#include "index/owner.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fakebox.h"
#include "fixture.h"
#include "index/db.h"

static const char boot_a[] = "aaaaaaaa-0000-4000-8000-000000000001";
static const char boot_b[] = "bbbbbbbb-0000-4000-8000-000000000002";

/* LMDB's way to the disk, watched: it takes this one for the C library's. */
static struct {
	unsigned count;
	int err;
	bool marked; /* the mark said "clean" before all lay on the disk */
} syncs;

int fdatasync(int fildes);

int fdatasync(int fildes)
{
	char mark[8] = "";
	int owner = open(fake_path("index/owner"), O_RDONLY | O_CLOEXEC);

	syncs.count++;
	if (owner >= 0) {
		(void)!read(owner, mark, sizeof(mark) - 1);
		(void)close(owner);
	}
	if (strncmp(mark, "clean", 5) == 0)
		syncs.marked = true;
	errno = syncs.err;
	return syncs.err ? -1 : (int)syscall(SYS_fdatasync, fildes);
}

static struct index *open_at(const char *boot)
{
	struct index *ix = NULL;

	cr_assert_eq(index_open_boot(fake_path("index"), false, boot, &ix), 0);
	return ix;
}

static void fill(struct index *ix, unsigned n)
{
	struct fake f;

	fake_init(&f);
	for (uint32_t uid = 1; uid <= n; uid++)
		fake_add(&f, uid, MSG_OLD, 100);
	(void)fake_sync(ix, 1, &f);
	fake_fini(&f);
}

/* A process that puts @n messages into the index and dies. */
static void crash_at(const char *boot, unsigned n)
{
	/* The directory is the parent's. */
	pid_t pid = *fixture_dir() ? fork() : -1;
	struct index *ix;

	if (pid == 0) {
		ix = open_at(boot);
		if (n)
			fill(ix, n);
		_exit(5);
	}
	cr_assert_eq(fixture_exit(pid), 5);
}

/* Closes it as well. */
static uint64_t found_at(const char *boot)
{
	struct index *ix = open_at(boot);
	uint64_t n = fake_messages(ix, 1);

	fake_check(ix);
	index_close(ix);
	return n;
}

/* The mark. */

static int marked(const char *text, size_t len)
{
	AUTO_FD int fd = -1;

	fixture_write(fake_path("owner"), text, len);
	fd = open(fake_path("owner"), O_RDONLY | O_CLOEXEC);
	return owner_sound(fd, boot_a);
}

TEST(owner, trusts_a_clean_mark_or_one_of_the_kernel_that_runs)
{
	AUTO_FD int dir =
		open(fixture_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_FD int fd = -1;

	cr_assert_eq(owner_take(dir, &fd), 0);
	cr_assert_not(owner_sound(fd, boot_a));
	cr_assert_eq(owner_mark(fd, OWNER_OPEN, boot_a), 0);
	cr_assert(owner_sound(fd, boot_a));
	cr_assert_not(owner_sound(fd, boot_b));
	cr_assert_not(owner_sound(fd, ""));
	cr_assert_eq(owner_mark(fd, OWNER_CLEAN, boot_a), 0);
	cr_assert(owner_sound(fd, boot_a));
	cr_assert(owner_sound(fd, boot_b));
	cr_assert(owner_sound(fd, ""));
	cr_assert_eq(owner_mark(fd, OWNER_OPEN, ""), 0);
	cr_assert_not(owner_sound(fd, boot_a));
	cr_assert_not(owner_sound(fd, ""));
	/* A longer line before leaves nothing behind. */
	cr_assert_eq(owner_mark(fd, OWNER_OPEN, boot_a), 0);
	cr_assert_eq(owner_mark(fd, OWNER_OPEN, "b"), 0);
	cr_assert(owner_sound(fd, "b"));
}

TEST(owner, does_not_trust_a_mark_that_is_torn)
{
	char open_line[64], clean_line[64];
	size_t len;

	(void)snprintf(open_line, sizeof(open_line), "open  %s\n", boot_a);
	(void)snprintf(clean_line, sizeof(clean_line), "clean %s\n", boot_a);
	len = strlen(open_line);
	cr_assert(marked(open_line, len));
	cr_assert(marked(clean_line, len));
	for (size_t cut = 0; cut < len; cut++) {
		cr_assert_not(marked(open_line, cut), "%zu", cut);
		cr_assert_not(marked(clean_line, cut), "%zu", cut);
	}
	for (size_t at = 0; at < len; at++) {
		open_line[at] ^= 0x20;
		cr_assert_not(marked(open_line, len), "%zu", at);
		open_line[at] ^= 0x20;
	}
}

TEST(owner, a_second_line_says_who_has_it)
{
	AUTO_FD int dir =
		open(fixture_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_FD int fd = -1;
	char who[256], want[256];

	cr_expect_str_eq(owner_signed(dir, who, sizeof(who)),
			 "another process");
	cr_assert_eq(owner_take(dir, &fd), 0);
	/* Nothing to put it behind. */
	owner_sign(fd, "/mnt");
	cr_expect_str_eq(owner_signed(dir, who, sizeof(who)),
			 "another process");
	cr_assert_eq(owner_mark(fd, OWNER_OPEN, boot_a), 0);
	cr_expect_str_eq(owner_signed(dir, who, sizeof(who)),
			 "another process");
	owner_sign(fd, NULL);
	(void)snprintf(want, sizeof(want), "process %ld", (long)getpid());
	cr_expect_str_eq(owner_signed(dir, who, sizeof(who)), want);
	owner_sign(fd, "/a long/mount\npoint");
	(void)snprintf(want, sizeof(want),
		       "process %ld, mounted on /a\\x20long/mount\\x0apoint",
		       (long)getpid());
	cr_expect_str_eq(owner_signed(dir, who, sizeof(who)), want);
	owner_sign(fd, "/m");
	(void)snprintf(want, sizeof(want), "process %ld, mounted on /m",
		       (long)getpid());
	cr_expect_str_eq(owner_signed(dir, who, sizeof(who)), want);
	cr_expect_str_eq(owner_signed(dir, who, 8), "process");
	/* It is no part of the mark. */
	cr_assert(owner_sound(fd, boot_a));
	cr_assert_not(owner_sound(fd, boot_b));
	cr_assert_eq(owner_mark(fd, OWNER_CLEAN, boot_a), 0);
	cr_expect_str_eq(owner_signed(dir, who, sizeof(who)),
			 "another process");
	cr_assert(owner_sound(fd, boot_b));
}

TEST(owner, the_name_of_a_mountpoint_may_be_as_long_as_names_get)
{
	AUTO_FD int dir =
		open(fixture_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_FD int fd = -1;
	char path[5000], who[5000];

	cr_assert_eq(owner_take(dir, &fd), 0);
	cr_assert_eq(owner_mark(fd, OWNER_OPEN, boot_a), 0);
	for (size_t len = 4000; len < sizeof(path) - 1; len += 7) {
		memset(path, 'x', len);
		path[len] = '\0';
		owner_sign(fd, path);
		cr_assert(owner_sound(fd, boot_a), "%zu", len);
		cr_assert_eq(strncmp(owner_signed(dir, who, sizeof(who)),
				     "process ", 8),
			     0, "%zu: %s", len, who);
	}
}

TEST(owner, knows_the_boot_id_of_this_kernel)
{
	char id[OWNER_BOOT_MAX + 1], again[OWNER_BOOT_MAX + 1];

	owner_boot(id);
	owner_boot(again);
	cr_assert_eq(strlen(id), 36, "%s", id);
	cr_assert_str_eq(id, again);
}

/* The index. */

TEST(owner, an_index_that_was_closed_outlives_the_kernel)
{
	struct index *ix = open_at(boot_a);

	fill(ix, 7);
	index_close(ix);
	cr_assert_eq(found_at(boot_b), 7);
	cr_assert_eq(found_at(""), 7);
}

TEST(owner, a_process_that_dies_loses_nothing)
{
	crash_at(boot_a, 300);
	cr_assert_eq(found_at(boot_a), 300);
	crash_at(boot_a, 301);
	crash_at(boot_a, 0);
	cr_assert_eq(found_at(boot_a), 301);
	/* It was closed since: what the dead left lies on the disk. */
	cr_assert_eq(found_at(boot_b), 301);
}

/* How many lines of the log say "made anew". */
static unsigned lines_in(const char *path)
{
	FILE *f = fopen(path, "r");
	char line[512];
	unsigned n = 0;

	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, "made anew\n"))
			n++;
	(void)fclose(f);
	return n;
}

TEST(owner, the_end_of_the_kernel_makes_an_open_index_anew_with_one_line)
{
	char *log = strdup(fake_path("log"));
	struct index *ix = NULL;
	int saved = dup(STDERR_FILENO);

	cr_assert_not_null(freopen(log, "w", stderr));
	crash_at(boot_a, 20);
	cr_assert_eq(lines_in(log), 0);
	cr_assert_eq(index_open_boot(fake_path("index"), true, boot_b, &ix),
		     -EUCLEAN);
	cr_assert_eq(index_open_boot(fake_path("index"), true, boot_a, &ix), 0);
	cr_assert_eq(fake_messages(ix, 1), 20);
	index_close(ix);
	cr_assert_eq(lines_in(log), 0);
	crash_at(boot_b, 0);
	cr_assert_eq(lines_in(log), 1);
	cr_assert_eq(index_open_boot(fake_path("index"), true, boot_b, &ix), 0);
	cr_assert_eq(fake_messages(ix, 1), 0);
	index_close(ix);
	/* The new one is this kernel's. */
	crash_at(boot_b, 30);
	cr_assert_eq(found_at(boot_b), 30);
	cr_assert_eq(lines_in(log), 1);
	(void)dup2(saved, STDERR_FILENO);
	(void)close(saved);
	free(log);
}

TEST(owner, an_index_counts_as_open_before_anything_is_written)
{
	struct index *ix = open_at(boot_a);

	fill(ix, 7);
	index_close(ix);
	crash_at(boot_b, 0);
	cr_assert_eq(found_at(boot_a), 0);
}

TEST(owner, an_index_without_a_mark_is_made_anew)
{
	fake_make_index(3);
	cr_assert_eq(unlink(fake_path("index/owner")), 0);
	cr_assert_eq(found_at(boot_a), 0);
}

TEST(owner, an_unknown_kernel_trusts_only_what_was_closed)
{
	crash_at("", 5);
	cr_assert_eq(found_at(""), 0);
}

TEST(owner, changes_do_not_wait_for_the_disk_but_the_end_does)
{
	struct index *ix = open_at(boot_a);

	syncs.count = 0;
	fill(ix, 1000);
	fill(ix, 2000);
	cr_assert_eq(index_folder_drop(ix, 2), 0);
	cr_assert_eq(syncs.count, 0);
	cr_assert_eq(index_flush(ix), 0);
	cr_assert_eq(syncs.count, 1);
	fill(ix, 10);
	index_close(ix);
	cr_assert_eq(syncs.count, 2);
	cr_assert_not(syncs.marked);
	cr_assert_eq(found_at(boot_b), 10);
}

TEST(owner, an_index_that_cannot_reach_the_disk_is_not_called_clean)
{
	struct index *ix = open_at(boot_a);

	fill(ix, 10);
	syncs.err = EIO;
	cr_assert_eq(index_flush(ix), -EIO);
	index_close(ix);
	syncs.err = 0;
	cr_assert_eq(found_at(boot_b), 0);
}

TEST(owner, an_index_that_was_flushed_is_still_open)
{
	pid_t pid = *fixture_dir() ? fork() : -1;
	struct index *ix;

	if (pid == 0) {
		ix = open_at(boot_a);
		fill(ix, 9);
		_exit(index_flush(ix) ? 1 : 0);
	}
	cr_assert_eq(fixture_exit(pid), 0);
	cr_assert_eq(found_at(boot_b), 0);
}
