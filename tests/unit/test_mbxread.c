/*
 * Locks while others work, and reading what was found.
 */
#include "compat/mbx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mbxbox.h"

/* ---- locks --------------------------------------------------------------- */

static const char *lock_path(void)
{
	static char path[400];
	struct stat st;

	cr_assert_eq(stat(file(), &st), 0);
	(void)snprintf(path, sizeof(path), "%s/.%lx.%lx", opt.lock_dir,
		       (unsigned long)st.st_dev, (unsigned long)st.st_ino);
	return path;
}

TEST(mbxread, gives_up_at_the_deadline_when_another_parses)
{
	struct timespec a, b;
	pid_t other;

	opt.lock_ms = 100;
	begin_two();
	other = fixture_hold(lock_path(), LOCK_EX);
	(void)clock_gettime(CLOCK_MONOTONIC, &a);
	cr_expect_eq(fixture_scan(box, &got), -EAGAIN);
	(void)clock_gettime(CLOCK_MONOTONIC, &b);
	cr_expect_lt(b.tv_sec - a.tv_sec, 3);
	cr_expect_eq(got.count, 0);
	cr_expect_eq(access(lock_path(), F_OK), 0, "the other's lock file");
	fixture_let_go(other);
	scan();
	EXPECT_UIDS(1, 2);
	end();
}

TEST(mbxread, gives_up_at_the_deadline_when_another_moves_octets)
{
	char buf[8];
	pid_t other;

	opt.lock_ms = 50;
	begin_two();
	scan();
	other = fixture_hold(file(), LOCK_EX);
	cr_expect_eq(fixture_scan(box, &got), -EAGAIN);
	cr_expect_eq(box->ops->read(box, &got.msgs[0], NULL, buf, 1, 0),
		     -EAGAIN);
	fixture_let_go(other);
	scan();
	EXPECT_UIDS(1, 2);
	end();
}

TEST(mbxread, reads_while_another_has_the_mailbox_open_and_parses)
{
	pid_t session, parser;

	begin_two();
	scan();
	session = fixture_hold(file(), LOCK_SH);
	parser = fixture_hold(lock_path(), LOCK_EX);
	cr_expect(fixture_is(box, &got, 0, TEXT("first")));
	fixture_let_go(parser);
	scan();
	EXPECT_UIDS(1, 2);
	fixture_let_go(session);
	end();
}

/* What UW does for a flag: sleeps until it has the parse lock, writes, lets
 * go. Told to start by an octet in the pipe. */
static void child_flags(int go, uint64_t at)
{
	char name[400];
	int fd;
	char c;

	(void)snprintf(name, sizeof(name), "%s", lock_path());
	if (read(go, &c, 1) != 1)
		_exit(1);
	for (;;) {
		struct stat by_name, by_fd;

		fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
		if (fd < 0 || flock(fd, LOCK_EX) < 0)
			_exit(2);
		if (stat(name, &by_name) == 0 && fstat(fd, &by_fd) == 0 &&
		    by_name.st_ino == by_fd.st_ino)
			break;
		(void)close(fd);
	}
	fixture_patch(file(), at, "0004", 4);
	(void)unlink(name);
	_exit(0);
}

/* The first record of the fifth slice: to see it changed, the other must have
 * come in at one of the four gaps. */
enum { MANY = 17000, WAITED = 4 * 4096 + 1 };

struct many {
	int go;
	uint32_t count, flags; /* of UID WAITED */
};

static int take_slowly(const struct msg *m, const char *name, void *arg)
{
	struct many *t = arg;

	(void)name;
	if (t->count++ == 0)
		cr_assert_eq(write(t->go, "", 1), 1);
	/* The first slice takes long enough for the other to come and wait. */
	if (t->count < 200)
		(void)usleep(500);
	if (m->uid == WAITED)
		t->flags = m->flags;
	return 0;
}

TEST(mbxread, lets_others_in_between_slices_of_a_long_scan)
{
	uint64_t at = FIRST + (uint64_t)(WAITED - 1) * (LINE + 1);
	struct many t = { .count = 0 };
	AUTO_FREE char *all = NULL;
	struct scan s = { 0 };
	char *p;
	int pipes[2];
	pid_t pid;

	opt.lock_ms = 5000;
	begin();
	header(MANY);
	all = p = malloc((size_t)MANY * 64);
	for (unsigned i = 1; i <= MANY; i++)
		p += snprintf(p, 64, DATE ",1;000000000000-%08x\r\nx", i);
	add_raw(all, (size_t)(p - all));
	open_box();
	cr_assert_eq(pipe(pipes), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		child_flags(pipes[0], at + LINE - 15);
	t.go = pipes[1];
	cr_assert_eq(box->ops->scan(box, &s, take_slowly, &t), 0);
	cr_assert_eq(fixture_exit(pid), 0);
	cr_expect_eq(t.count, MANY);
	cr_expect_eq(t.flags, MSG_FLAGGED, "it had to wait too long");
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	end();
}

TEST(mbxread, finds_every_message_whatever_its_size)
{
	enum { COUNT = 60 };
	AUTO_FREE char *text = malloc(60000);
	uint64_t off = FIRST;

	begin();
	header(0);
	for (unsigned i = 0; i < COUNT; i++) {
		/* Around the sizes of the window, and of what counts as small.
		 */
		size_t len = i * 613U + (i % 7 == 0 ? 16384U - 60U + i : 1U);
		char line[80];

		memset(text, 'a' + (int)(i % 26), len);
		(void)snprintf(line, sizeof(line),
			       DATE ",%zu;000000000000-00000000", len);
		fixture_mbx(file(), line, text, len);
	}
	open_box();
	scan();
	cr_assert_eq(got.count, COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		const struct msg *m = &got.msgs[i];
		char c = 0;

		cr_assert_eq(m->off - m->line, off);
		off = m->off + m->size;
		cr_assert_eq(box->ops->read(box, m, NULL, &c, 1, m->size - 1),
			     1);
		cr_assert_eq(c, 'a' + (int)(i % 26));
	}
	cr_expect_eq(got.scan.next.off, off);
	end();
}

/* ---- read ---------------------------------------------------------------- */

static ssize_t read_msg(size_t i, char *buf, size_t len, uint64_t off)
{
	memset(buf, '?', len);
	return box->ops->read(box, &got.msgs[i], NULL, buf, len, off);
}

/* What UW's compaction makes of begin_two() without the first message. */
static void compact(void)
{
	cr_assert_eq(truncate(file(), FIRST), 0);
	add(2, MSG_OLD, "other");
}

TEST(mbxread, is_stale_when_another_message_slid_into_place)
{
	char buf[8];

	begin_two();
	scan();
	compact();
	for (uint64_t off = 0; off < 5; off++)
		for (size_t i = 0; i < 2; i++)
			cr_expect_eq(read_msg(i, buf, sizeof(buf), off),
				     -ESTALE);
	scan();
	EXPECT_UIDS(2);
	cr_expect(fixture_is(box, &got, 0, TEXT("other")));
	end();
}

/* Sizes and dates differ in turn, nothing else: each field must count. */
TEST(mbxread, checks_uid_date_and_size_before_it_reads)
{
	static const struct {
		uint64_t off;
		const char *octets;
	} changes[] = {
		{ FIRST, "02" },	/* date */
		{ FIRST + 27, "4" },	/* size */
		{ FIRST + 49, "7" },	/* UID */
		{ FIRST + 50, "\n\n" }, /* no line at all */
	};
	char buf[8];

	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		begin_two();
		scan();
		cr_expect_eq(read_msg(0, buf, 5, 0), 5);
		fixture_patch(file(), changes[i].off, changes[i].octets,
			      strlen(changes[i].octets));
		cr_expect_eq(read_msg(0, buf, 5, 0), -ESTALE, "%zu", i);
		cr_expect_eq(read_msg(0, buf, 2, 3), -ESTALE, "%zu", i);
		cr_expect_eq(read_msg(1, buf, 5, 0), 5);
		end();
		cr_assert_eq(unlink(file()), 0);
	}
}

TEST(mbxread, reads_on_after_flags_changed)
{
	begin_two();
	scan();
	fixture_patch(file(), FIRST + LINE - 23, "0000000f0033", 12);
	cr_expect(fixture_is(box, &got, 0, TEXT("first")));
	/* Expunged but still there: for those who have it open. */
	fixture_patch(file(), FIRST + LINE - 15, "8003", 4);
	cr_expect(fixture_is(box, &got, 0, TEXT("first")));
	end();
}

TEST(mbxread, reads_a_predicted_message_once_its_uid_is_assigned)
{
	char buf[8];

	begin();
	header(6);
	add(0, 0, "new");
	open_box();
	scan();
	EXPECT_UIDS(7);
	cr_expect(fixture_is(box, &got, 0, TEXT("new")));
	fixture_patch(file(), FIRST + LINE - 10, "00000007", 8);
	cr_expect(fixture_is(box, &got, 0, TEXT("new")));
	fixture_patch(file(), FIRST + LINE - 10, "00000008", 8);
	cr_expect_eq(read_msg(0, buf, 3, 0), -ESTALE);
	end();
}

TEST(mbxread, is_stale_when_the_file_ends_too_early)
{
	char buf[8];

	begin_two();
	scan();
	cr_assert_eq(truncate(file(), END - 2), 0);
	cr_expect_eq(read_msg(1, buf, 5, 0), -ESTALE);
	cr_expect_eq(read_msg(1, buf, 2, 3), -ESTALE);
	cr_expect_eq(read_msg(1, buf, 3, 0), 3);
	cr_assert_eq(truncate(file(), SECOND + 20), 0);
	cr_expect_eq(read_msg(1, buf, 5, 0), -ESTALE);
	cr_assert_eq(truncate(file(), 0), 0);
	cr_expect_eq(read_msg(1, buf, 5, 0), -ESTALE);
	end();
}

TEST(mbxread, refuses_a_place_that_no_record_can_have)
{
	char buf[8];

	begin_two();
	scan();
	got.msgs[0].line = 65;
	cr_expect_eq(read_msg(0, buf, 5, 0), -EUCLEAN);
	got.msgs[0].line = LINE;
	got.msgs[0].off = LINE - 1;
	cr_expect_eq(read_msg(0, buf, 5, 0), -EUCLEAN);
	end();
}

/* ---- holds --------------------------------------------------------------- */

static int holds(size_t i, const struct stamp *since)
{
	static const struct stamp unknown;

	return box->ops->holds(box, &got.msgs[i], got.scan.uidvalidity,
			       since ? since : &unknown);
}

TEST(mbxread, holds_what_lies_where_it_lay)
{
	begin_two();
	scan();
	cr_expect_eq(holds(0, NULL), 0);
	cr_expect_eq(holds(1, NULL), 0);
	compact();
	cr_expect_eq(holds(0, NULL), -ESTALE);
	cr_expect_eq(holds(1, NULL), -ESTALE);
	scan();
	cr_expect_eq(holds(0, NULL), 0);
	end();
}

TEST(mbxread, holds_looks_at_nothing_while_the_file_is_as_it_was)
{
	struct stamp since;

	begin_two();
	scan();
	since = got.scan.stamp;
	cr_expect_eq(holds(1, &since), 0);
	got.msgs[1].uid++;
	cr_expect_eq(holds(1, &since), 0);
	fixture_patch(file(), FIRST + LINE - 15, "0001", 4);
	cr_expect_eq(holds(1, &since), -ESTALE);
	got.msgs[1].uid--;
	cr_expect_eq(holds(1, &since), 0, "flags move nothing");
	end();
}

TEST(mbxread, holds_counts_the_uids_of_messages_that_have_none)
{
	begin();
	header(6);
	add(0, 0, "first");
	add(0, 0, "other");
	open_box();
	scan();
	EXPECT_UIDS(7, 8);
	cr_expect_eq(holds(0, NULL), 0);
	cr_expect_eq(holds(1, NULL), 0);
	/* The first one went, the second one took its place and got its UID,
	 * and another one came. */
	fixture_patch(file(), FIRST + LINE - 10, "00000008", 8);
	fixture_patch(file(), 15, "00000008", 8);
	cr_expect_eq(holds(0, NULL), -ESTALE);
	cr_expect_eq(holds(1, NULL), -ESTALE);
	end();
}

TEST(mbxread, holds_nothing_of_another_uidvalidity)
{
	begin_two();
	scan();
	fixture_patch(file(), 7, "4b000002", 8);
	cr_expect_eq(holds(0, NULL), -ESTALE);
	/* None yet: what is shown was made up. */
	fixture_patch(file(), 7, "00000000", 8);
	cr_expect_eq(holds(0, NULL), 0);
	end();
}

TEST(mbxread, holds_no_line_that_is_not_a_record_s)
{
	static const char line[] = DATE ",5;000000000010-00000009\r\nforged";

	begin();
	header(9);
	add(1, MSG_OLD, line);
	open_box();
	scan();
	got.msgs[0].uid = got.msgs[0].uid_disk = 9;
	got.msgs[0].size = 5;
	got.msgs[0].off += LINE;
	cr_assert(fixture_is(box, &got, 0, TEXT("forge")));
	cr_expect_eq(holds(0, NULL), -ESTALE);
	end();
}

TEST(mbxread, holds_cannot_tell_what_lies_behind_damage)
{
	begin_two();
	scan();
	fixture_patch(file(), FIRST + 27, "x", 1);
	cr_expect_eq(holds(1, NULL), -EBADMSG);
	cr_assert_eq(truncate(file(), SECOND + LINE + 2), 0);
	fixture_patch(file(), FIRST + 27, "5", 1);
	cr_expect_eq(holds(1, NULL), -EBADMSG);
	cr_expect_eq(holds(0, NULL), 0);
	cr_assert_eq(truncate(file(), SECOND), 0);
	cr_expect_eq(holds(1, NULL), -ESTALE);
	end();
}

TEST(mbxread, holds_waits_for_who_moves_octets_and_for_nobody_else)
{
	pid_t other;

	opt.lock_ms = 50;
	begin_two();
	scan();
	other = fixture_hold(lock_path(), LOCK_EX);
	cr_expect_eq(holds(1, NULL), 0);
	fixture_let_go(other);
	other = fixture_hold(file(), LOCK_EX);
	cr_expect_eq(holds(1, NULL), -EAGAIN);
	fixture_let_go(other);
	cr_expect_eq(holds(1, NULL), 0);
	scan();
	end();
}
