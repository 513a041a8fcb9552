/* Appending to an MBX. */
#include "writebox.h"

#include <signal.h>
#include <sys/resource.h>

#include "compat/mbxrec.h"

static struct msg new_msg; /* what append gave */

static int message(const void *text, size_t len)
{
	int fd = open(fixture_path("message"),
		      O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(write(fd, text, len), (ssize_t)len);
	return fd;
}

static int append_msg(const void *text, size_t len, struct msg want)
{
	AUTO_FD int fd = message(text, len);

	return box->ops->append(box, fd, &want, &new_msg);
}

static int append_uid(uint32_t uid)
{
	return append_msg(TEXT("hello"),
			  (struct msg){ .uid = uid, .date = 1325408400 });
}

TEST(mbxappend, the_record_is_as_uw_writes_it)
{
	begin();
	fixture_mbx_header(file(), 7, 4, "one", "two", (char *)NULL);
	add(4, MSG_OLD, "aaaaa");
	open_box();
	keep();
	cr_assert_eq(append_msg(TEXT("hello\n"),
				(struct msg){ .date = 1325408400,
					      .flags = MSG_SEEN | MSG_FLAGGED |
						      MSG_EXPUNGED | 0x4000,
					      .keywords = 2 }),
		     0);
	expect_change(record(1),
		      " 1-Jan-2012 09:00:00 +0000,7;000000020005-00000000\r\n"
		      "hello\r\n");
	scan();
	EXPECT_UIDS(4, 5);
	cr_expect_eq(got.msgs[1].off, new_msg.off);
	cr_expect_eq(got.msgs[1].line, new_msg.line);
	cr_expect_eq(got.msgs[1].size, new_msg.size);
	cr_expect_eq(got.msgs[1].date, new_msg.date);
	cr_expect_eq(got.msgs[1].flags, new_msg.flags);
	cr_expect_eq(got.msgs[1].keywords, new_msg.keywords);
	cr_expect_eq(new_msg.uid, 5);
	cr_expect_eq(new_msg.uid_disk, 0);
	cr_expect(fixture_is(box, &got, 1, TEXT("hello\r\n")));
	cr_assert_eq(truncate(file(), (off_t)kept_len), 0);
	expect_same_but(0, 0);
	end();
}

TEST(mbxappend, every_bare_lf_gets_a_cr_and_nothing_else_does)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "a", "a" },
		{ "\n", "\r\n" },
		{ "\r\n", "\r\n" },
		{ "\r", "\r" },
		{ "\n\n", "\r\n\r\n" },
		{ "\r\n\n", "\r\n\r\n" },
		{ "\n\r\n", "\r\n\r\n" },
		{ "\r\r\n", "\r\r\n" },
		{ "\n\r", "\r\n\r" },
		{ "a\rb\nc\r\nd", "a\rb\r\nc\r\nd" },
	};

	begin();
	header(0);
	open_box();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		size_t len = strlen(rows[i].out);

		cr_assert_eq(append_msg(rows[i].in, strlen(rows[i].in),
					(struct msg){ .date = 1 }),
			     0);
		cr_expect_eq(new_msg.size, len, "row %zu", i);
		scan();
		cr_assert_eq(got.count, i + 1);
		cr_expect(fixture_is(box, &got, i, rows[i].out, len), "row %zu",
			  i);
	}
	cr_assert_eq(append_msg("\0\n\0", 3, (struct msg){ .date = 1 }), 0);
	scan();
	cr_expect(fixture_is(box, &got, ARRAY_LEN(rows), "\0\r\n\0", 4));
	end();
}

/* CR and LF on both sides of where one read ends and the next begins, and more
 * than fits into memory. */
TEST(mbxappend, large_messages_are_converted_alike)
{
	enum { SIZE = 400000 };
	const size_t edge = 1 << 16;
	static char in[SIZE], want[SIZE + 10], back[SIZE + 10];
	size_t len = 0;

	memset(in, 'x', SIZE);
	in[edge - 1] = '\r';
	in[edge] = in[edge + 1] = '\n';
	in[2 * edge] = '\n';
	in[3 * edge - 1] = '\n';
	for (size_t i = 0; i < SIZE; i++) {
		if (in[i] == '\n' && in[i - 1] != '\r')
			want[len++] = '\r';
		want[len++] = in[i];
	}
	begin();
	header(0);
	open_box();
	cr_assert_eq(append_msg(in, SIZE, (struct msg){ .date = 1 }), 0);
	cr_assert_eq(append_msg(TEXT("next"), (struct msg){ .date = 1 }), 0);
	cr_assert_eq(len, (size_t)SIZE + 3);
	scan();
	EXPECT_UIDS(1, 2);
	cr_expect_eq(got.msgs[0].size, len);
	cr_assert_eq(box->ops->read(box, &got.msgs[0], NULL, back, sizeof(back),
				    0),
		     (ssize_t)len);
	cr_expect(memcmp(back, want, len) == 0);
	cr_expect(fixture_is(box, &got, 1, TEXT("next")));
	end();
}

TEST(mbxappend, a_wanted_uid_raises_uidlast)
{
	begin();
	header(4);
	add(4, MSG_OLD, "aaaaa");
	open_box();
	cr_assert_eq(append_uid(9), 0);
	cr_expect_eq(new_msg.uid, 9);
	cr_expect_eq(new_msg.uid_disk, 9);
	expect_change(15, "00000009");
	expect_change(record(1) + LINE - 10, "00000009");
	cr_assert_eq(append_uid(10), 0);
	cr_assert_eq(append_uid(0), 0);
	cr_expect_eq(new_msg.uid, 11);
	scan();
	EXPECT_UIDS(4, 9, 10, 11);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}

TEST(mbxappend, those_without_a_uid_get_theirs_before_a_uid_follows)
{
	begin();
	header(4);
	add(4, MSG_OLD, "aaaaa");
	add(0, 0, "bbbbb");
	add(0, MSG_EXPUNGED, "ccccc");
	open_box();
	cr_assert_eq(append_uid(20), 0);
	expect_change(15, "00000014");
	expect_change(record(1) + LINE - 10, "00000005");
	expect_change(record(2) + LINE - 10, "00000006");
	expect_change(record(3) + LINE - 10, "00000014");
	scan();
	EXPECT_UIDS(4, 5, 20);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}

TEST(mbxappend, a_uid_in_use_or_below_is_refused)
{
	begin();
	header(7);
	add(4, MSG_OLD, "aaaaa");
	add(6, MSG_OLD | MSG_EXPUNGED, "bbbbb");
	open_box();
	keep();
	cr_expect_eq(append_uid(3), -EEXIST);
	cr_expect_eq(append_uid(6), -EEXIST);
	cr_expect_eq(append_uid(UINT32_MAX), -EINVAL);
	expect_same_but(0, 0);
	/* UIDLAST was raised by a try that ended in a crash. */
	cr_expect_eq(append_uid(7), 0);
	add(0, 0, "ccccc");
	keep();
	cr_expect_eq(append_uid(8), -EEXIST, "it will be that one's");
	expect_same_but(0, 0);
	cr_expect_eq(append_uid(9), 0);
	scan();
	EXPECT_UIDS(4, 7, 8, 9);
	end();
}

TEST(mbxappend, what_cannot_be_is_refused_and_nothing_written)
{
	begin_two();
	keep();
	cr_expect_eq(append_msg("", 0, (struct msg){ .date = 1 }), -EINVAL);
	cr_expect_eq(append_msg(TEXT("x"),
				(struct msg){ .date = 1, .keywords = 1 }),
		     -ESTALE);
	expect_same_but(0, 0);
	header(0xfffffffe);
	keep();
	cr_expect_eq(append_uid(0), -EOVERFLOW);
	expect_same_but(0, 0);
	end();
}

TEST(mbxappend, a_torn_tail_is_left_as_it_is)
{
	static const char *const tails[] = {
		"x",
		"01-Jan-2012 10:00:00 +0100,5;0000000",
		DATE ",5;000000000000-00000003\r\nfour",
		DATE ",0;000000000000-00000003\r\n",
	};

	begin_two();
	scan();
	for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
		add_raw(tails[i], strlen(tails[i]));
		keep();
		cr_expect_eq(append_uid(0), -EBADMSG, "row %zu", i);
		cr_expect_eq(append_uid(9), -EBADMSG, "row %zu", i);
		expect_same_but(0, 0);
		cr_assert_eq(truncate(file(), END), 0);
	}
	cr_expect_eq(append_uid(9), 0);
	end();
}

TEST(mbxappend, uids_out_of_order_take_no_wanted_uid)
{
	begin();
	header(9);
	add(5, MSG_OLD, "aaaaa");
	add(3, MSG_OLD, "bbbbb");
	open_box();
	keep();
	cr_expect_eq(append_uid(10), -EBADMSG);
	expect_same_but(0, 0);
	cr_expect_eq(append_uid(0), 0);
	scan();
	EXPECT_UIDS(5, 10, 11);
	cr_expect_eq(new_msg.uid, 11);
	end();
}

TEST(mbxappend, uidlast_below_a_uid_is_raised)
{
	begin();
	header(3);
	add(5, MSG_OLD, "aaaaa");
	open_box();
	cr_assert_eq(append_uid(0), 0);
	expect_change(15, "00000005");
	cr_expect_eq(new_msg.uid, 6);
	end();
}

TEST(mbxappend, the_limit_for_files_is_kept)
{
	opt.max_file = END + LINE + 5;
	begin_two();
	keep();
	cr_expect_eq(append_msg(TEXT("sixsix"), (struct msg){ .date = 1 }),
		     -EFBIG);
	expect_same_but(0, 0);
	cr_expect_eq(append_uid(0), 0);
	cr_expect_eq(append_uid(0), -EFBIG);
	end();
}

TEST(mbxappend, a_write_that_fails_leaves_no_trace)
{
	const struct rlimit small = { .rlim_cur = END + 100,
				      .rlim_max = RLIM_INFINITY };
	const struct timespec ts[2] = { { .tv_sec = 1 }, { .tv_sec = 2000 } };
	AUTO_FD int fd = message("0123456789012345678901234567890123456789"
				 "0123456789012345678901234567890123456789",
				 80);
	struct msg want = { .date = 1 };
	struct rlimit was;
	struct stat st;

	begin_two();
	scan();
	keep();
	cr_assert_eq(utimensat(AT_FDCWD, file(), ts, 0), 0);
	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &was), 0);
	(void)signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	cr_expect_eq(box->ops->append(box, fd, &want, &new_msg), -EFBIG);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &was), 0);
	expect_same_but(0, 0);
	cr_assert_eq(stat(file(), &st), 0);
	cr_expect_eq(st.st_mtim.tv_sec, 2000);
	cr_expect_eq(box->ops->append(box, fd, &want, &new_msg), 0);
	scan();
	EXPECT_UIDS(1, 2, 3);
	end();
}

TEST(mbxappend, mtime_stays_and_atime_shows_new_mail)
{
	const struct timespec ts[2] = { { .tv_sec = 1000 },
					{ .tv_sec = 2000, .tv_nsec = 3 } };
	struct stat st;

	begin_two();
	cr_assert_eq(utimensat(AT_FDCWD, file(), ts, 0), 0);
	cr_assert_eq(append_uid(9), 0);
	cr_assert_eq(stat(file(), &st), 0);
	cr_expect_eq(st.st_mtim.tv_sec, 2000);
	cr_expect_eq(st.st_mtim.tv_nsec, 3);
	cr_expect(st.st_atim.tv_sec < st.st_ctim.tv_sec &&
		  st.st_atim.tv_sec >= st.st_ctim.tv_sec - 3);
	cr_expect_eq(box->touch_due, 0);
	end();
}

TEST(mbxappend, several_in_a_row_under_one_lock)
{
	struct msg m;

	begin_two();
	cr_assert_eq(box->ops->begin(box), 0);
	cr_assert_eq(append_uid(0), 0);
	m = new_msg;
	cr_expect_eq(m.uid, 3);
	cr_assert_eq(append_uid(0), 0);
	cr_expect_eq(new_msg.uid, 4);
	cr_assert_eq(append_uid(9), 0);
	cr_expect_eq(append_uid(9), -EEXIST);
	cr_assert_eq(box->ops->expunge(box, &m, NULL), 0);
	cr_assert_eq(append_uid(0), 0);
	cr_expect_eq(new_msg.uid, 10);
	box->ops->end(box, NULL);
	scan();
	EXPECT_UIDS(1, 2, 4, 9, 10);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}

/* The box remembers where the last record lay. Others may have moved it. */
TEST(mbxappend, what_others_did_meanwhile_is_seen)
{
	begin_two();
	scan();
	header(8);
	add(8, 0, "ccccc");
	cr_expect_eq(append_uid(8), -EEXIST);
	cr_expect_eq(append_uid(9), 0);
	/* As UW compacts: the rest moves down, in place, and more comes. */
	cr_assert_eq(truncate(file(), FIRST), 0);
	add(2, MSG_OLD, "other");
	add(8, 0, "ccccc");
	add(9, 0, "hello");
	add(11, 0, "eleven");
	add(12, 0, "12");
	header(12);
	cr_expect_eq(append_uid(12), -EEXIST);
	cr_expect_eq(append_uid(13), 0);
	scan();
	EXPECT_UIDS(2, 8, 9, 11, 12, 13);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}

TEST(mbxappend, dates_are_clamped_to_what_uw_can_read)
{
	begin();
	header(0);
	open_box();
	cr_assert_eq(append_msg(TEXT("a"), (struct msg){ .date = -5 }), 0);
	cr_expect_eq(new_msg.date, 0);
	cr_assert_eq(append_msg(TEXT("a"), (struct msg){ .date = 1LL << 40 }),
		     0);
	scan();
	cr_expect_eq(got.msgs[1].date, new_msg.date);
	cr_expect_lt(new_msg.date, 1LL << 40);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	end();
}
