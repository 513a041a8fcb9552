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

#define GUID "0123456789abcdef0123456789abcdef"
#define HEAD "janusmail-ledger 1\n"
#define INBOX "folder 00000001 . " GUID " 4b000001 legacy inbox0 -\n"
#define SENT "folder 7fffffff .a.b " GUID " ffffffff native folders a/b\n"

static int open_dir(void)
{
	int fd = open(fixture_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	return fd;
}

static void expect_text(const struct ledger *l, const char *want)
{
	char *text;
	size_t len;

	cr_assert_eq(ledger_format(l, &text, &len), 0);
	cr_expect_str_eq(text, want);
	cr_expect_eq(len, strlen(want));
	free(text);
}

TEST(ledger, a_whole_file_is_read_and_written_back)
{
	static const char text[] = HEAD INBOX SENT "end 2\n";
	struct ledger l;

	cr_assert_eq(ledger_parse(text, strlen(text), &l), 0);
	cr_assert_eq(l.count, 2);
	cr_expect_eq(l.folders[0].number, 1);
	cr_expect_str_eq(l.folders[0].dir, "");
	cr_expect_str_eq(l.folders[0].guid, GUID);
	cr_expect_eq(l.folders[0].uidvalidity, 0x4b000001);
	cr_expect_eq(l.folders[0].phase, PHASE_LEGACY);
	cr_expect_eq(l.folders[0].place, 0);
	cr_expect_str_eq(l.folders[0].legacy, "");
	cr_expect_eq(l.folders[1].number, 0x7fffffff);
	cr_expect_str_eq(l.folders[1].dir, ".a.b");
	cr_expect_eq(l.folders[1].uidvalidity, 0xffffffff);
	cr_expect_eq(l.folders[1].phase, PHASE_NATIVE);
	cr_expect_eq(l.folders[1].place, LEDGER_PLACE_FOLDERS);
	cr_expect_str_eq(l.folders[1].legacy, "a/b");
	expect_text(&l, text);
	ledger_fini(&l);
	cr_expect_eq(l.count, 0);
	expect_text(&l, HEAD "end 0\n");
}

TEST(ledger, any_legacy_name_survives)
{
	static const char *const names[] = {
		"-",	    "",		 "a b",	      "a\nb",
		"\x01\x7f", "back\\x41", "\xff\xfe",  "gr\xc3\xbcn",
		".",	    "\\x2d",	 "end 0\n--", " ",
	};
	struct ledger l = { .count = 0 }, back;
	struct ledger_folder *f;
	char *text;
	size_t i, len;

	for (i = 0; i < ARRAY_LEN(names); i++) {
		f = ledger_add(&l, ".d x", names[i]);
		cr_assert_not_null(f);
		f->number = (uint32_t)i + 1;
		f->uidvalidity = 1;
		f->place = 999;
		(void)snprintf(f->guid, sizeof(f->guid), "%s", GUID);
	}
	cr_assert_eq(ledger_format(&l, &text, &len), 0);
	cr_assert_eq(ledger_parse(text, len, &back), 0, "%s", text);
	cr_assert_eq(back.count, ARRAY_LEN(names));
	for (i = 0; i < ARRAY_LEN(names); i++) {
		cr_expect_str_eq(back.folders[i].legacy, names[i]);
		cr_expect_str_eq(back.folders[i].dir, ".d x");
		cr_expect_eq(back.folders[i].place, 999);
	}
	expect_text(&back, text);
	free(text);
	ledger_fini(&back);
	ledger_fini(&l);
}

TEST(ledger, every_torn_file_is_refused)
{
	static const char text[] = HEAD INBOX SENT "end 2\n";
	struct ledger l;
	size_t len;

	for (len = 0; len < strlen(text); len++) {
		cr_expect_eq(ledger_parse(text, len, &l), -EBADMSG, "%zu", len);
		cr_expect_eq(l.count, 0);
		cr_expect_null(l.folders);
	}
}

TEST(ledger, a_folder_not_yet_seeded_has_no_uidvalidity)
{
	static const char text[] = HEAD "folder 00000001 . " GUID
					" 00000000 legacy inbox0 -\nend 1\n";
	struct ledger l;

	cr_assert_eq(ledger_parse(text, strlen(text), &l), 0);
	cr_expect_eq(l.folders[0].uidvalidity, 0);
	ledger_fini(&l);
}

TEST(ledger, foreign_files_are_refused)
{
	static const char *const rows[] = {
		"janusmail-ledger 2\nend 0\n",
		HEAD "end 1\n",
		HEAD "end\n",
		HEAD "end 0 \n",
		HEAD "end 0\n\n",
		HEAD INBOX "end 0\n",
		HEAD "\nend 0\n",
		HEAD "folder 00000001 . " GUID
		     " 4b000001 legacy inbox0\nend 1\n",
		HEAD "folder 00000000 . " GUID
		     " 4b000001 legacy inbox0 -\nend 1\n",
		HEAD "folder 80000000 . " GUID
		     " 4b000001 legacy inbox0 -\nend 1\n",
		HEAD "folder 0000001 . " GUID
		     " 4b000001 legacy inbox0 -\nend 1\n",
		HEAD "folder 00000001  " GUID
		     " 4b000001 legacy inbox0 -\nend 1\n",
		HEAD "folder 00000001 a " GUID
		     " 4b000001 legacy inbox0 -\nend 1\n",
		HEAD "folder 00000001 ./a " GUID
		     " 4b000001 legacy inbox0 -\nend 1\n",
		HEAD
		"folder 00000001 .a\\x GUID 4b000001 legacy inbox0 -\nend 1\n",
		HEAD "folder 00000001 . 0123 4b000001 legacy inbox0 -\nend 1\n",
		HEAD "folder 00000001 . " GUID
		     " 4b000001 lost inbox0 -\nend 1\n",
		HEAD "folder 00000001 . " GUID
		     " 4b000001 legacy inbox -\nend 1\n",
		HEAD "folder 00000001 . " GUID
		     " 4b000001 legacy inbox1000 -\nend 1\n",
		HEAD "folder 00000001 . " GUID
		     " 4b000001 legacy inbox0x -\nend 1\n",
		HEAD "folder 00000001 . " GUID
		     " 4b000001 legacy elsewhere -\nend 1\n",
		HEAD "folder 00000001 . " GUID
		     " 4b000001 legacy inbox0 \nend 1\n",
		HEAD "folder 00000001 . " GUID
		     " 4b000001 legacy folders a\\x00b\nend 1\n",
	};
	struct ledger l;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		cr_expect_eq(ledger_parse(rows[i], strlen(rows[i]), &l),
			     -EBADMSG, "row %zu", i);
		cr_expect_eq(l.count, 0);
	}
	cr_expect_eq(ledger_parse(HEAD "end 0\n\0", strlen(HEAD) + 7, &l),
		     -EBADMSG);
}

TEST(ledger, what_is_saved_is_loaded)
{
	AUTO_FD int dir = open_dir();
	struct ledger l;

	cr_assert_eq(ledger_load(dir, "ledger", &l), 0);
	cr_expect_eq(l.count, 0);
	cr_assert_eq(ledger_parse(HEAD SENT "end 1\n", strlen(HEAD SENT) + 6,
				  &l),
		     0);
	cr_assert_eq(ledger_save(dir, "ledger", &l), 0);
	ledger_fini(&l);
	cr_assert_eq(ledger_load(dir, "ledger", &l), 0);
	cr_assert_eq(l.count, 1);
	cr_expect_str_eq(l.folders[0].dir, ".a.b");
	ledger_fini(&l);
	cr_expect_lt(ledger_load(-1, "ledger", &l), 0);
	cr_expect_eq(l.count, 0);
}

TEST(ledger, numbers_are_given_out_once)
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

TEST(ledger, numbers_end_at_2_to_the_31)
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

TEST(ledger, a_counter_that_is_none_gives_no_number)
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

TEST(ledger, processes_that_ask_at_once_get_different_numbers)
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

TEST(ledger, a_number_taken_before_a_crash_is_not_given_out_again)
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
