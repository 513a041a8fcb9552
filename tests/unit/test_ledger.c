#include "compat/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compat/io.h"
#include "fixture.h"

#define GUID "0123456789abcdef0123456789abcdef"
#define OLD "janusmail-ledger 1\n"
#define SECOND "janusmail-ledger 2\n"
#define HEAD "janusmail-ledger 3\n"
#define FILE_7 " 0000000000000801 0000000000000007"
#define FILE_0 " 0000000000000000 0000000000000000"
#define INBOX_OLD "folder 00000001 . " GUID " 4b000001 legacy inbox0 -\n"
#define INBOX "folder 00000001 . " GUID " 4b000001 legacy inbox0 -" FILE_7 "\n"
#define SENT_OLD "folder 7fffffff .a.b " GUID " ffffffff native folders a/b\n"
#define SENT                                                                   \
	"folder 7fffffff .a.b " GUID " ffffffff native folders a/b" FILE_0     \
	" .old\n"

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
	cr_expect_eq(l.folders[0].dev, 0x801);
	cr_expect_eq(l.folders[0].ino, 7);
	cr_expect_null(l.folders[0].moved_from);
	cr_expect_str_eq(l.folders[1].moved_from, ".old");
	cr_expect(l.whole);
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
	static const char text[] =
		HEAD "folder 00000001 . " GUID
		     " 00000000 legacy inbox0 -" FILE_7 "\nend 1\n";
	struct ledger l;

	cr_assert_eq(ledger_parse(text, strlen(text), &l), 0);
	cr_expect_eq(l.folders[0].uidvalidity, 0);
	ledger_fini(&l);
}

TEST(ledger, foreign_files_are_refused)
{
	static const char *const rows[] = {
		"janusmail-ledger 4\nend 0\n",
		"janusmail-ledger 0\nend 0\n",
		"janusmail-ledger 33\nend 0\n",
		"janusmail-ledger\nend 0\n",
		OLD "end 1\n",
		OLD "end\n",
		OLD "end 0 \n",
		OLD "end 0\n\n",
		OLD INBOX_OLD "end 0\n",
		OLD "\nend 0\n",
		OLD "folder 00000001 . " GUID
		    " 4b000001 legacy inbox0\nend 1\n",
		OLD "folder 00000000 . " GUID
		    " 4b000001 legacy inbox0 -\nend 1\n",
		OLD "folder 80000000 . " GUID
		    " 4b000001 legacy inbox0 -\nend 1\n",
		OLD "folder 0000001 . " GUID
		    " 4b000001 legacy inbox0 -\nend 1\n",
		OLD "folder 00000001  " GUID
		    " 4b000001 legacy inbox0 -\nend 1\n",
		OLD "folder 00000001 a " GUID
		    " 4b000001 legacy inbox0 -\nend 1\n",
		OLD "folder 00000001 ./a " GUID
		    " 4b000001 legacy inbox0 -\nend 1\n",
		OLD
		"folder 00000001 .a\\x GUID 4b000001 legacy inbox0 -\nend 1\n",
		OLD "folder 00000001 . 0123 4b000001 legacy inbox0 -\nend 1\n",
		OLD "folder 00000001 . " GUID
		    " 4b000001 lost inbox0 -\nend 1\n",
		OLD "folder 00000001 . " GUID
		    " 4b000001 legacy inbox -\nend 1\n",
		OLD "folder 00000001 . " GUID
		    " 4b000001 legacy inbox1000 -\nend 1\n",
		OLD "folder 00000001 . " GUID
		    " 4b000001 legacy inbox0x -\nend 1\n",
		OLD "folder 00000001 . " GUID
		    " 4b000001 legacy elsewhere -\nend 1\n",
		OLD "folder 00000001 . " GUID
		    " 4b000001 legacy inbox0 \nend 1\n",
		OLD "folder 00000001 . " GUID
		    " 4b000001 legacy folders a\\x00b\nend 1\n",
		/* Today's lines in a file of version 1, and the reverse. */
		OLD INBOX "end 1\n",
		HEAD INBOX_OLD "end 1\n",
		OLD INBOX_OLD "end 1\nline 0 00000001 . " GUID
			      " 4b000001 legacy inbox0 -\n",
	};
	struct ledger l;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		cr_expect_eq(ledger_parse(rows[i], strlen(rows[i]), &l),
			     -EBADMSG, "row %zu", i);
		cr_expect_eq(l.count, 0);
	}
	cr_expect_eq(ledger_parse(OLD "end 0\n\0", strlen(OLD) + 7, &l),
		     -EBADMSG);
}

static const char *const bad_lines[] = {
	"line 0 00000001\n",
	"line 3 00000001 . " GUID " 4b000001 legacy inbox0 -" FILE_7 "\n",
	"line x 00000001 . " GUID " 4b000001 legacy inbox0 -" FILE_7 "\n",
	"line -1 00000001 . " GUID " 4b000001 legacy inbox0 -" FILE_7 "\n",
	"line\n",
	"line \n",
	"\n",
	"end 2\n",
	"line 0 00000001 . " GUID " 4b000001 legacy inbox0 - 0801 0007\n",
	"line 0 00000001 . " GUID " 4b000001 legacy inbox0 -" FILE_7 " \n",
	"line 0 00000001 . " GUID " 4b000001 legacy inbox0 -" FILE_7 " .\n",
	"line 0 00000001 . " GUID " 4b000001 legacy inbox0 -" FILE_7 " a\n",
	"line 0 00000001 . " GUID " 4b000001 legacy inbox0 -" FILE_7 " .a -\n",
	"line 0 00000001 . " GUID " 4b000001 legacy inbox0 -" FILE_7
	" .a b c\n",
	"line 0 00000001 .a " GUID " 4b000001 deleted folders -" FILE_7 "\n",
	"line 0 00000001 . " GUID " 4b000001 deleted folders a" FILE_7 "\n",
	"line 0 00000001 . " GUID " 4b000001 deleted folders -" FILE_7 " .a\n",
	"line 0 00000001 . " GUID " 4b000001 deleting folders -" FILE_7 " t\n",
	"line 0 00000001 .a " GUID " 4b000001 deleting folders a" FILE_7 "\n",
	"line 0 00000001 .a " GUID " 4b000001 deleting folders a" FILE_7
	" .t\n",
	"line 0 00000001 .a " GUID " 4b000001 deleting folders a" FILE_7
	" t/t\n",
	"line 0 00000001 .a " GUID " 4b000001 deleting folders a" FILE_7
	" t .b\n",
};

TEST(ledger, a_whole_line_that_was_appended_must_be_good)
{
	char text[1000];
	struct ledger l;

	for (size_t i = 0; i < ARRAY_LEN(bad_lines); i++) {
		(void)snprintf(text, sizeof(text), "%s%s",
			       HEAD INBOX SENT "end 2\n", bad_lines[i]);
		cr_expect_eq(ledger_parse(text, strlen(text), &l), -EBADMSG,
			     "row %zu", i);
		/* Torn, it was never relied on. */
		text[strlen(text) - 1] = '\0';
		cr_expect_eq(ledger_parse(text, strlen(text), &l), 0, "row %zu",
			     i);
		cr_expect_eq(l.count, 2);
		cr_expect_eq(l.whole, bad_lines[i][1] == '\0');
		ledger_fini(&l);
	}
}

TEST(ledger, a_file_of_version_1_is_read)
{
	static const char text[] = OLD INBOX_OLD SENT_OLD "end 2\n";
	struct ledger l;

	cr_assert_eq(ledger_parse(text, strlen(text), &l), 0);
	cr_assert_eq(l.count, 2);
	cr_expect_str_eq(l.folders[1].legacy, "a/b");
	cr_expect_eq(l.folders[1].ino, 0);
	cr_expect_null(l.folders[1].moved_from);
	/* Nothing may be appended to it: it would not be read back. */
	cr_expect_not(l.whole);
	ledger_fini(&l);
}

#define SECOND_MOVED                                                           \
	"line 1 00000009 .new " GUID " 4b000002 legacy folders new" FILE_7     \
	" .old"

TEST(ledger, a_file_of_version_2_is_read)
{
	static const char text[] =
		SECOND INBOX SENT "end 2\n" SECOND_MOVED "\n";
	static const char later[] =
		SECOND INBOX SENT "end 2\n" SECOND_MOVED " new\n";
	static const char deleted[] =
		SECOND "folder 00000001 . " GUID
		       " 4b000001 deleted folders -" FILE_7 "\nend 1\n";
	struct ledger l;

	cr_assert_eq(ledger_parse(text, strlen(text), &l), 0);
	cr_assert_eq(l.count, 2);
	cr_expect_str_eq(l.folders[1].moved_from, ".old");
	cr_expect_not(l.whole);
	ledger_fini(&l);
	/* It cannot have what a later version has. */
	cr_expect_eq(ledger_parse(later, strlen(later), &l), -EBADMSG);
	cr_expect_eq(ledger_parse(deleted, strlen(deleted), &l), -EBADMSG);
}

#define MOVING                                                                 \
	"folder 00000002 .b " GUID " 4b000001 legacy folders b" FILE_7         \
	" .a a\\x20x\n"
#define DELETING                                                               \
	"folder 00000003 .c " GUID " 4b000001 deleting folders c" FILE_7       \
	" 12.00000003.c\n"
#define DELETED                                                                \
	"folder 00000004 . " GUID " 4b000001 deleted folders -" FILE_7 "\n"

TEST(ledger, what_is_about_to_happen_is_read_and_written_back)
{
	static const char text[] = HEAD MOVING DELETING DELETED "end 3\n";
	struct ledger l;

	cr_assert_eq(ledger_parse(text, strlen(text), &l), 0);
	cr_assert_eq(l.count, 3);
	cr_expect_str_eq(l.folders[0].moved_from, ".a");
	cr_expect_str_eq(l.folders[0].was_legacy, "a x");
	cr_expect_eq(l.folders[1].phase, PHASE_DELETING);
	cr_expect_str_eq(l.folders[1].dir, ".c");
	cr_expect_str_eq(l.folders[1].trash, "12.00000003.c");
	cr_expect_eq(l.folders[2].phase, PHASE_DELETED);
	cr_expect_eq(l.folders[2].number, 4);
	cr_expect_str_eq(l.folders[2].dir, "");
	expect_text(&l, text);
	ledger_fini(&l);
}

TEST(ledger, a_deleted_folder_keeps_its_number_and_no_name)
{
	static const char text[] = HEAD DELETING "end 1\n";
	struct ledger l;

	cr_assert_eq(ledger_parse(text, strlen(text), &l), 0);
	cr_assert_eq(ledger_delete(&l.folders[0]), 0);
	cr_expect(l.folders[0].dirty);
	expect_text(&l,
		    HEAD "folder 00000003 . " GUID
			 " 4b000001 deleted folders -" FILE_7 "\nend 1\n");
	ledger_fini(&l);
}

#define AGAIN                                                                  \
	"line 0 00000009 .new " GUID " 4b000002 legacy folders new" FILE_7     \
	" .old\n"
#define MORE "line 2 0000000a .x " GUID " 00000000 legacy folders x" FILE_7 "\n"

TEST(ledger, what_was_appended_counts)
{
	static const char text[] =
		HEAD INBOX SENT "end 2\n" AGAIN MORE "line 2 0000";
	size_t whole = strlen(text) - strlen("line 2 0000");
	char zeros[1000] = "";
	struct ledger l;

	for (size_t len = whole; len <= strlen(text); len++) {
		cr_assert_eq(ledger_parse(text, len, &l), 0, "%zu", len);
		cr_assert_eq(l.count, 3);
		cr_expect_eq(l.folders[0].number, 9);
		cr_expect_str_eq(l.folders[0].dir, ".new");
		cr_expect_str_eq(l.folders[0].moved_from, ".old");
		cr_expect_eq(l.folders[1].number, 0x7fffffff);
		cr_expect_str_eq(l.folders[2].legacy, "x");
		cr_expect_eq(l.appended, 2);
		cr_expect_eq(l.whole, len == whole);
		ledger_fini(&l);
	}
	memcpy(zeros, text, strlen(text));
	cr_assert_eq(ledger_parse(zeros, sizeof(zeros), &l), 0);
	cr_expect_eq(l.count, 3);
	cr_expect_not(l.whole);
	ledger_fini(&l);
	zeros[whole - 5] = '\0';
	cr_expect_eq(ledger_parse(zeros, sizeof(zeros), &l), -EBADMSG);
}

static void add_lines(struct ledger *l, unsigned count)
{
	char name[32];

	for (unsigned i = 0; i < count; i++) {
		struct ledger_folder *f;

		(void)snprintf(name, sizeof(name), ".f%zu", l->count);
		f = ledger_add(l, name, name + 1);
		cr_assert_not_null(f);
		f->number = (uint32_t)l->count;
		(void)snprintf(f->guid, sizeof(f->guid), "%s", GUID);
		f->place = LEDGER_PLACE_FOLDERS;
		f->dirty = true;
	}
}

static off_t size_of(int dir)
{
	struct stat st;

	cr_assert_eq(fstatat(dir, "ledger", &st, 0), 0);
	return st.st_size;
}

static void expect_saved(int dir, const struct ledger *l)
{
	struct ledger back;
	char *text;
	size_t len;

	cr_assert_eq(ledger_load(dir, "ledger", &back), 0);
	cr_assert_eq(ledger_format(&back, &text, &len), 0);
	expect_text(l, text);
	free(text);
	ledger_fini(&back);
}

TEST(ledger, a_change_of_one_line_writes_one_line)
{
	enum { COUNT = 3000 };
	AUTO_FD int dir = open_dir();
	struct ledger l = { .count = 0 };
	off_t first, before, written = 0;

	add_lines(&l, COUNT);
	cr_assert_eq(ledger_commit(dir, "ledger", &l), 0);
	first = size_of(dir);
	for (unsigned i = 0; i < COUNT; i++) {
		before = size_of(dir);
		l.folders[i].uidvalidity = 5;
		l.folders[i].dirty = true;
		cr_assert_eq(ledger_commit(dir, "ledger", &l), 0);
		cr_expect_not(l.folders[i].dirty);
		written += size_of(dir) - before;
	}
	/* Every folder once: no more than twice what a whole one takes. */
	cr_expect_leq(written, 2 * first);
	cr_expect_gt(written, first / 2);
	expect_saved(dir, &l);
	/* And it does not grow for ever. */
	for (unsigned i = 0; i < COUNT; i++) {
		l.folders[7].uidvalidity = i;
		l.folders[7].dirty = true;
		cr_assert_eq(ledger_commit(dir, "ledger", &l), 0);
	}
	cr_expect_lt(size_of(dir), 3 * first);
	expect_saved(dir, &l);
	/* Nothing to do is nothing done. */
	before = size_of(dir);
	cr_assert_eq(ledger_commit(dir, "ledger", &l), 0);
	cr_expect_eq(size_of(dir), before);
	ledger_fini(&l);
}

TEST(ledger, a_torn_file_and_an_old_one_are_replaced_before_they_grow)
{
	static const char *const rows[] = {
		HEAD INBOX SENT "end 2\nline 1 00",
		SECOND INBOX SENT "end 2\n",
		OLD INBOX_OLD SENT_OLD "end 2\n",
	};
	AUTO_FD int dir = open_dir();
	struct ledger l;
	char path[200];

	(void)snprintf(path, sizeof(path), "%s/ledger", fixture_dir());
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		fixture_write(path, rows[i], strlen(rows[i]));
		cr_assert_eq(ledger_load(dir, "ledger", &l), 0);
		l.folders[0].uidvalidity = 77;
		l.folders[0].dirty = true;
		cr_assert_eq(ledger_commit(dir, "ledger", &l), 0);
		expect_saved(dir, &l);
		l.folders[1].uidvalidity = 78;
		l.folders[1].dirty = true;
		cr_assert_eq(ledger_commit(dir, "ledger", &l), 0);
		expect_saved(dir, &l);
		ledger_fini(&l);
	}
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

static void commit_and_stop(int dir, int step, struct ledger *l)
{
	static char text[32];
	static char *env[] = { text, NULL };

	(void)snprintf(text, sizeof(text), "IO_STOP_AT=%d", step);
	environ = env;
	io_stop_init();
	_exit(ledger_commit(dir, "ledger", l) == 0 ? 0 : 1);
}

/* Stops a commit that changes @lines lines at each of its steps. */
static int stop_commit_everywhere(int dir, size_t lines)
{
	struct ledger l, back;
	int step, status;

	for (step = 1;; step++) {
		uint32_t v = (uint32_t)step;
		pid_t pid;

		cr_assert_eq(ledger_load(dir, "ledger", &l), 0);
		for (size_t i = 0; i < lines; i++) {
			l.folders[i].uidvalidity = v;
			l.folders[i].dirty = true;
		}
		pid = fork();
		cr_assert_geq(pid, 0);
		if (pid == 0)
			commit_and_stop(dir, step, &l);
		ledger_fini(&l);
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		cr_assert_eq(ledger_load(dir, "ledger", &back), 0);
		cr_expect_eq(back.count, 100);
		for (size_t i = 1; i < lines; i++)
			cr_expect_eq(back.folders[i].uidvalidity,
				     back.folders[0].uidvalidity);
		if (WEXITSTATUS(status) == 0)
			cr_expect_eq(back.folders[0].uidvalidity, v);
		ledger_fini(&back);
		if (WEXITSTATUS(status) == 0)
			return step;
		cr_assert_eq(WEXITSTATUS(status), 100, "step %d", step);
	}
}

TEST(ledger, a_commit_that_is_stopped_was_made_or_was_not)
{
	AUTO_FD int dir = open_dir();
	struct ledger l = { .count = 0 };

	add_lines(&l, 100);
	cr_assert_eq(ledger_commit(dir, "ledger", &l), 0);
	ledger_fini(&l);
	cr_expect_geq(stop_commit_everywhere(dir, 100), 5);
	cr_expect_geq(stop_commit_everywhere(dir, 1), 3);
}
