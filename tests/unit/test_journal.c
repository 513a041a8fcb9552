#include "compat/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compat/io.h"
#include "fixture.h"

#define HEAD "janusmail-journal 1\n"

static struct journal *open_it(void)
{
	AUTO_FD int dir =
		open(fixture_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct journal *j;

	cr_assert_geq(dir, 0);
	cr_assert_eq(journal_open(dir, "j", (uid_t)-1, (gid_t)-1, &j), 0);
	return j;
}

static int open_text(const void *text, size_t len)
{
	AUTO_FD int dir =
		open(fixture_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct journal *j;
	int rc;

	fixture_write(fixture_path("j"), text, len);
	rc = journal_open(dir, "j", (uid_t)-1, (gid_t)-1, &j);
	if (rc == 0)
		journal_close(j);
	return rc;
}

static void expect_file(const char *want)
{
	AUTO_FD int dir =
		open(fixture_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_FREE char *text = NULL;
	size_t len;

	cr_assert_eq(io_read_file(dir, "j", 1 << 30, &text, &len), 0);
	cr_expect_str_eq(text, want);
	cr_expect_eq(len, strlen(want));
}

static void expect_entry(struct journal *j, const char *base, uint32_t uid,
			 bool sure)
{
	char found[NAME_MAX + 1];
	uint32_t got = 0;
	bool is_sure = !sure;

	cr_expect(journal_by_base(j, base, &got, &is_sure), "%s", base);
	cr_expect_eq(got, uid);
	cr_expect_eq(is_sure, sure);
	is_sure = !sure;
	cr_expect(journal_by_uid(j, uid, found, &is_sure));
	cr_expect_str_eq(found, base);
	cr_expect_eq(is_sure, sure);
}

static void expect_none(struct journal *j, const char *base, uint32_t uid)
{
	char found[NAME_MAX + 1];
	uint32_t got;
	bool sure;

	cr_expect_not(journal_by_base(j, base, &got, &sure));
	cr_expect_not(journal_by_uid(j, uid, found, &sure));
}

TEST(journal, what_was_said_last_holds_also_after_reading_it_again)
{
	struct journal *j = open_it();
	uint64_t count;
	int again;

	cr_assert_eq(journal_try(j, 7, "a"), 0);
	cr_assert_eq(journal_in(j, 7, "a"), 0);
	cr_assert_eq(journal_try(j, 8, "with space\n"), 0);
	cr_assert_eq(journal_in(j, 9, "gone"), 0);
	cr_assert_eq(journal_out(j, "gone"), 0);
	cr_assert_eq(journal_out(j, "never there"), 0);
	cr_assert_eq(journal_set_letters(j, 4000000000, 1 | 1 << 25), 0);
	cr_assert_eq(journal_set_letters(j, 5, 4), 0);
	cr_assert_eq(journal_set_letters(j, 5, 0), 0);
	for (again = 0; again < 2; again++) {
		expect_entry(j, "a", 7, true);
		expect_entry(j, "with space\n", 8, false);
		expect_none(j, "gone", 9);
		cr_expect_eq(journal_letters(j, 4000000000), 1 | 1 << 25);
		cr_expect_eq(journal_letters(j, 5), 0);
		cr_expect_eq(journal_all_letters(j, &count), 1 | 1 << 25);
		cr_expect_eq(count, 1);
		journal_close(j);
		j = open_it();
	}
	journal_close(j);
	expect_file(HEAD "try 7 a\nin 7 a\ntry 8 with\\x20space\\x0a\n"
			 "in 9 gone\nout gone\nletters 4000000000 az\n"
			 "letters 5 c\nletters 5 -\n");
}

TEST(journal, saying_it_twice_writes_it_once)
{
	struct journal *j = open_it();

	cr_assert_eq(journal_in(j, 7, "a"), 0);
	cr_assert_eq(journal_in(j, 7, "a"), 0);
	cr_assert_eq(journal_set_letters(j, 7, 1), 0);
	cr_assert_eq(journal_set_letters(j, 7, 1), 0);
	cr_assert_eq(journal_out(j, "a"), 0);
	cr_assert_eq(journal_out(j, "a"), 0);
	cr_assert_eq(journal_sync(j), 0);
	cr_assert_eq(journal_sync(j), 0);
	journal_close(j);
	expect_file(HEAD "in 7 a\nletters 7 a\nout a\n");
}

TEST(journal, a_base_has_one_uid_and_a_uid_one_base)
{
	struct journal *j = open_it();
	int again;

	cr_assert_eq(journal_in(j, 7, "a"), 0);
	cr_assert_eq(journal_in(j, 8, "a"), 0);
	cr_assert_eq(journal_try(j, 1, "b"), 0);
	cr_assert_eq(journal_try(j, 1, "c"), 0);
	for (again = 0; again < 2; again++) {
		expect_entry(j, "a", 8, true);
		expect_none(j, "b", 7);
		expect_entry(j, "c", 1, false);
		journal_close(j);
		j = open_it();
	}
	journal_close(j);
}

TEST(journal, a_file_that_is_in_the_mbx_is_not_forgotten_for_a_try)
{
	struct journal *j = open_it();
	uint32_t uid;
	bool sure;
	int again;

	cr_assert_eq(journal_in(j, 9, "a"), 0);
	cr_assert_eq(journal_try(j, 9, "b"), -EEXIST);
	for (again = 0; again < 2; again++) {
		expect_entry(j, "a", 9, true);
		cr_expect_not(journal_by_base(j, "b", &uid, &sure));
		journal_close(j);
		j = open_it();
	}
	/* What was only tried makes room. */
	cr_assert_eq(journal_try(j, 10, "b"), 0);
	cr_assert_eq(journal_try(j, 10, "c"), 0);
	expect_entry(j, "c", 10, false);
	journal_close(j);
}

TEST(journal, what_cannot_be_a_name_or_a_number_is_refused)
{
	char longest[NAME_MAX + 2];
	struct journal *j = open_it();
	struct stat st;

	memset(longest, '\x01', sizeof(longest));
	longest[NAME_MAX + 1] = '\0';
	cr_expect_eq(journal_in(j, 0, "a"), -EINVAL);
	cr_expect_eq(journal_in(j, 1, ""), -EINVAL);
	cr_expect_eq(journal_try(j, 1, "a/b"), -EINVAL);
	cr_expect_eq(journal_in(j, 1, longest), -EINVAL);
	cr_expect_eq(journal_set_letters(j, 0, 1), -EINVAL);
	cr_expect_eq(journal_set_letters(j, 1, 1 << 26), -EINVAL);
	cr_expect_eq(stat(fixture_path("j"), &st), -1);
	longest[NAME_MAX] = '\0';
	cr_expect_eq(journal_in(j, UINT32_MAX, longest), 0);
	journal_close(j);
	j = open_it();
	expect_entry(j, longest, UINT32_MAX, true);
	journal_close(j);
}

TEST(journal, half_a_line_does_not_count_and_is_cut_off)
{
	static const struct {
		const char *text;
		size_t len;
	} tails[] = { { "in 9 lon", 8 }, { "\0\0\0\0\0\0", 6 }, { "o\0", 2 } };
	char text[80];
	struct journal *j;
	size_t i, head;

	for (i = 0; i < ARRAY_LEN(tails); i++) {
		head = strlen(HEAD "in 1 a\n");
		memcpy(text, HEAD "in 1 a\n", head);
		memcpy(text + head, tails[i].text, tails[i].len);
		fixture_write(fixture_path("j"), text, head + tails[i].len);
		j = open_it();
		expect_entry(j, "a", 1, true);
		cr_assert_eq(journal_in(j, 2, "b"), 0);
		journal_close(j);
		expect_file(HEAD "in 1 a\nin 2 b\n");
	}
}

TEST(journal, another_text_is_not_taken_for_one)
{
	static const char *const bad[] = {
		"",
		"\n",
		"janusmail-journal 1",
		"janusmail-journal 2\n",
		HEAD "\n",
		HEAD "in 1\n",
		HEAD "in 1 \n",
		HEAD "in x a\n",
		HEAD "in 0 a\n",
		HEAD "in 4294967296 a\n",
		HEAD "in 1 a/b\n",
		HEAD "in 1 a\\x0\n",
		HEAD "in 1 a\\x00b\n",
		HEAD "letters 1 A\n",
		HEAD "letters 1 \n",
		HEAD "letters 1 a-\n",
		HEAD "out \n",
		HEAD "gone a\n",
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++)
		cr_expect_eq(open_text(bad[i], strlen(bad[i])), -EBADMSG, "%zu",
			     i);
	cr_expect_eq(open_text(HEAD "in 1 a\n\0in 2 b\n", 35), -EBADMSG);
	cr_expect_eq(open_text(HEAD, strlen(HEAD)), 0);
}

TEST(journal, many_entries_stay_apart_and_dead_lines_go)
{
	enum { MANY = 3000 };
	struct journal *j = open_it();
	struct stat before, after;
	char base[32];
	uint32_t i;

	for (i = 1; i <= MANY; i++) {
		(void)snprintf(base, sizeof(base), "17000.M%uP1.h", i);
		cr_assert_eq(journal_try(j, i, base), 0);
		cr_assert_eq(journal_in(j, i, base), 0);
		cr_assert_eq(journal_set_letters(j, i, i & 0xff), 0);
	}
	cr_assert_eq(stat(fixture_path("j"), &before), 0);
	for (i = 11; i <= MANY; i++) {
		(void)snprintf(base, sizeof(base), "17000.M%uP1.h", i);
		cr_assert_eq(journal_out(j, base), 0);
		cr_assert_eq(journal_set_letters(j, i, 0), 0);
	}
	cr_assert_eq(journal_sync(j), 0);
	cr_assert_eq(stat(fixture_path("j"), &after), 0);
	cr_expect_lt(after.st_size, before.st_size / 2);
	journal_close(j);
	j = open_it();
	for (i = 1; i <= MANY; i++) {
		(void)snprintf(base, sizeof(base), "17000.M%uP1.h", i);
		if (i <= 10)
			expect_entry(j, base, i, true);
		else
			expect_none(j, base, i);
		cr_expect_eq(journal_letters(j, i), i <= 10 ? i : 0);
	}
	journal_close(j);
}

TEST(journal, a_file_that_was_removed_or_emptied_is_written_again)
{
	struct journal *j = open_it();

	cr_assert_eq(journal_in(j, 1, "a"), 0);
	cr_assert_eq(journal_sync(j), 0);
	cr_assert_eq(unlink(fixture_path("j")), 0);
	cr_assert_eq(journal_in(j, 2, "b"), 0);
	cr_assert_eq(journal_sync(j), 0);
	cr_assert_eq(truncate(fixture_path("j"), 5), 0);
	cr_assert_eq(journal_in(j, 3, "c"), 0);
	journal_close(j);
	j = open_it();
	expect_entry(j, "a", 1, true);
	expect_entry(j, "b", 2, true);
	expect_entry(j, "c", 3, true);
	journal_close(j);
}

static int count_and_drop(const struct journal_entry *e, void *arg)
{
	return journal_out(arg, e->base);
}

static int stop_at_two(const struct journal_entry *e, void *arg)
{
	int *seen = arg;

	cr_expect_neq(e->uid, 0);
	return ++*seen == 2 ? 77 : 0;
}

static int clear(uint32_t uid, uint32_t letters, void *arg)
{
	cr_expect_eq(letters, uid);
	return journal_set_letters(arg, uid, 0);
}

TEST(journal, who_walks_it_may_change_it_and_stop)
{
	struct journal *j = open_it();
	uint64_t count;
	char base[16];
	uint32_t i;
	int seen = 0;

	for (i = 1; i <= 50; i++) {
		(void)snprintf(base, sizeof(base), "b%u", i);
		cr_assert_eq(journal_in(j, i, base), 0);
		cr_assert_eq(journal_set_letters(j, i, i), 0);
	}
	cr_expect_eq(journal_each(j, stop_at_two, &seen), 77);
	cr_expect_eq(seen, 2);
	cr_expect_eq(journal_each(j, count_and_drop, j), 0);
	cr_expect_eq(journal_each_letters(j, clear, j), 0);
	cr_expect_eq(journal_each(j, stop_at_two, &seen), 0);
	cr_expect_eq(journal_all_letters(j, &count), 0);
	cr_expect_eq(count, 0);
	journal_close(j);
}

/* Fills tables and file until it is replaced; exits at step @stop. */
static void child(const char *stop)
{
	struct journal *j;
	char base[16];
	uint32_t i;
	int rc = 0;

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the child has one thread */
	(void)setenv("IO_STOP_AT", stop, 1);
	io_stop_init();
	j = open_it();
	rc |= journal_in(j, 5, "kept");
	rc |= journal_sync(j);
	for (i = 10; i < 10 + 600; i++) {
		(void)snprintf(base, sizeof(base), "b%u", i);
		rc |= journal_in(j, i, base);
		rc |= journal_out(j, base);
	}
	rc |= journal_sync(j);
	_exit(rc ? 1 : 0);
}

TEST(journal, stopped_at_any_step_it_reads_and_keeps_what_was_synced)
{
	char stop[16];
	struct journal *j;
	unsigned n, met = 0;
	int code = 100;
	pid_t pid;

	for (n = 1; code == 100; n += n > 20 && n < 980 ? 40 : 1) {
		(void)unlink(fixture_path("j"));
		(void)snprintf(stop, sizeof(stop), "%u", n);
		pid = fork();
		if (pid == 0)
			child(stop);
		code = fixture_exit(pid);
		cr_assert(code == 0 || code == 100, "step %u: %d", n, code);
		j = open_it();
		/* 5 make the file, one writes, one makes it durable. */
		if (n > 8)
			expect_entry(j, "kept", 5, true);
		cr_assert_eq(journal_in(j, 6, "after"), 0);
		expect_entry(j, "after", 6, true);
		journal_close(j);
		met++;
	}
	cr_expect_gt(met, 100);
}

static unsigned count_open(void)
{
	char path[64], to[PATH_MAX];
	unsigned n = 0;

	for (int fd = 0; fd < 64; fd++) {
		ssize_t len;

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		len = readlink(path, to, sizeof(to) - 1);
		if (len < 0)
			continue;
		to[len] = '\0';
		n += strcmp(to, fixture_path("j")) == 0;
	}
	return n;
}

/* It is open while something is not durable. */
TEST(journal, a_name_that_comes_back_finds_nothing_durably)
{
	struct journal *j = open_it();

	cr_expect_eq(journal_in(j, 1, "a"), 0);
	cr_expect_eq(journal_in(j, 2, "b"), 0);
	cr_expect_eq(journal_sync(j), 0);
	cr_expect_eq(journal_clear(j, "c"), 0);
	expect_file(HEAD "in 1 a\nin 2 b\n");
	cr_expect_eq(journal_out(j, "a"), 0);
	cr_expect_eq(count_open(), 1);
	cr_expect_eq(journal_clear(j, "a"), 0);
	cr_expect_eq(count_open(), 0);
	cr_expect_eq(journal_clear(j, "b"), 0);
	cr_expect_eq(count_open(), 0);
	expect_file(HEAD "in 1 a\nin 2 b\nout a\nout b\n");
	journal_close(j);
}
