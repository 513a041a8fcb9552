/* The counter of folder numbers: ledger_number(). */
#include "compat/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compat/io.h"
#include "fixture.h"

static int open_dir(void)
{
	int fd = open(fixture_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	return fd;
}

TEST(ledgernumber, numbers_are_given_out_once)
{
	AUTO_FD int dir = open_dir();
	uint32_t n = 0;

	cr_assert_eq(ledger_number(dir, 1, &n), 0);
	cr_expect_eq(n, 1);
	cr_assert_eq(ledger_number(dir, 10, &n), 0);
	cr_expect_eq(n, 2);
	cr_assert_eq(ledger_number(dir, 1, &n), 0);
	cr_expect_eq(n, 12);
}

static void put_counter(const char *text)
{
	char path[200];

	(void)snprintf(path, sizeof(path), "%s/next-folder", fixture_dir());
	fixture_write(path, text, strlen(text));
}

TEST(ledgernumber, numbers_end_at_2_to_the_31)
{
	AUTO_FD int dir = open_dir();
	uint32_t n = 0;

	put_counter("7ffffffe\n");
	cr_expect_eq(ledger_number(dir, 3, &n), -EOVERFLOW);
	cr_expect_eq(ledger_number(dir, UINT32_MAX, &n), -EOVERFLOW);
	cr_assert_eq(ledger_number(dir, 2, &n), 0);
	cr_expect_eq(n, 0x7ffffffe);
	cr_expect_eq(ledger_number(dir, 1, &n), -EOVERFLOW);
}

TEST(ledgernumber, a_counter_that_is_none_gives_no_number)
{
	static const char *const rows[] = {
		"",	      "1\n",	  "00000000\n",	 "80000001\n",
		"0000000x\n", "00000001", "00000001\n\n"
	};
	AUTO_FD int dir = open_dir();
	uint32_t n = 77;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		put_counter(rows[i]);
		cr_expect_eq(ledger_number(dir, 1, &n), -EBADMSG, "row %zu", i);
	}
	cr_expect_eq(n, 77);
}

enum { CHILDREN = 4, EACH = 25 };

static void take_numbers(int dir, int out)
{
	uint32_t n;
	int i;

	for (i = 0; i < EACH; i++) {
		if (ledger_number(dir, 1, &n) != 0 ||
		    write(out, &n, sizeof(n)) != (ssize_t)sizeof(n))
			_exit(1);
	}
	_exit(0);
}

TEST(ledgernumber, processes_that_ask_at_once_get_different_numbers)
{
	AUTO_FD int dir = open_dir();
	bool seen[CHILDREN * EACH + 1] = { false };
	int pipes[2], i, status;
	uint32_t n;

	cr_assert_eq(pipe2(pipes, O_CLOEXEC), 0);
	for (i = 0; i < CHILDREN; i++) {
		pid_t pid = fork();

		cr_assert_geq(pid, 0);
		if (pid == 0)
			take_numbers(dir, pipes[1]);
	}
	(void)close(pipes[1]);
	for (i = 0; i < CHILDREN * EACH; i++) {
		cr_assert_eq(read(pipes[0], &n, sizeof(n)), sizeof(n));
		cr_assert(n >= 1 && n <= CHILDREN * EACH);
		cr_assert_not(seen[n], "%u twice", n);
		seen[n] = true;
	}
	(void)close(pipes[0]);
	for (i = 0; i < CHILDREN; i++) {
		cr_assert_gt(wait(&status), 0);
		cr_expect_eq(status, 0);
	}
}

static void take_and_stop(int dir, int step, uint32_t *out)
{
	static char text[32];
	static char *env[] = { text, NULL };

	(void)snprintf(text, sizeof(text), "IO_STOP_AT=%d", step);
	environ = env;
	io_stop_init();
	_exit(ledger_number(dir, 1, out) == 0 ? 0 : 1);
}

TEST(ledgernumber, a_number_taken_before_a_crash_is_not_given_out_again)
{
	AUTO_FD int dir = open_dir();
	uint32_t n = 0, last = 0;
	int step, status;

	cr_assert_eq(ledger_number(dir, 1, &last), 0);
	for (step = 1;; step++) {
		pid_t pid = fork();

		cr_assert_geq(pid, 0);
		if (pid == 0)
			take_and_stop(dir, step, &n);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert_eq(ledger_number(dir, 1, &n), 0, "step %d", step);
		cr_expect_gt(n, last, "step %d", step);
		if (WEXITSTATUS(status) == 0)
			break;
		cr_assert_eq(WEXITSTATUS(status), 100, "step %d", step);
		last = n;
	}
	/* The child had finished: its number is gone. */
	cr_expect_eq(n, last + 2);
	cr_expect_gt(step, 5);
}
