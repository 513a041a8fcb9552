#include "tools/convert_list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/io.h"
#include "fixture.h"
#include "tools/convert_note.h"

static int fd;

static struct convert_list *open_list(void)
{
	struct convert_list_of of = { .dirfd = fd,
				      .number = 0x2a,
				      .uidvalidity = 0x4b000001,
				      .guid = "0123456789abcdef"
					      "0123456789abcdef",
				      .uid = geteuid(),
				      .gid = getegid() };
	struct convert_list *l;

	cr_assert_eq(convert_list_open(&of, fixture_dir(), &l), 0);
	return l;
}

static void begin(const char *text)
{
	fd = open(fixture_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert(fd >= 0);
	if (text)
		fixture_write(fixture_path("dovecot-uidlist"), text,
			      strlen(text));
}

static void expect(const char *want)
{
	char *text;
	size_t len;

	cr_assert_eq(io_read_file(fd, "dovecot-uidlist", 1 << 20, &text, &len),
		     0);
	cr_expect_str_eq(text, want);
	free(text);
	cr_expect_neq(access(fixture_path("dovecot-uidlist.lock"), F_OK), 0);
	(void)close(fd);
}

#define OURS(uid) uid ".V4b000001F0000002aD4f002090.janusmail,S=5"
#define HEAD(n) "3 V1258291201 N" n " G0123456789abcdef0123456789abcdef\n"

static int add(struct convert_list *l, uint32_t uid)
{
	struct msg m = { .uid = uid };
	char base[100];

	(void)snprintf(base, sizeof(base),
		       "%u.V4b000001F0000002aD4f002090.janusmail,S=5", uid);
	return convert_list_add(l, &m, base);
}

TEST(convert_list, a_new_one_is_as_the_daemon_would_write_it)
{
	struct convert_list *l;

	begin(NULL);
	l = open_list();
	cr_expect_eq(add(l, 2), 0);
	cr_expect_eq(add(l, 5), 0);
	cr_expect_eq(convert_list_finish(l, 9), 0);
	convert_list_close(l);
	expect(HEAD("9") "2 :" OURS("2") "\n5 :" OURS("5") "\n");
}

TEST(convert_list, one_of_nothing_has_a_first_line)
{
	struct convert_list *l;

	begin(NULL);
	l = open_list();
	cr_expect_eq(convert_list_finish(l, 0), 0);
	convert_list_close(l);
	expect(HEAD("1"));
}

TEST(convert_list, what_was_added_before_a_restart_is_not_there)
{
	struct convert_list *l;

	begin(NULL);
	l = open_list();
	for (uint32_t uid = 1; uid < 100; uid++)
		cr_expect_eq(add(l, uid), 0);
	cr_expect_eq(convert_list_restart(l), 0);
	cr_expect_eq(add(l, 3), 0);
	cr_expect_eq(convert_list_finish(l, 0), 0);
	convert_list_close(l);
	expect(HEAD("4") "3 :" OURS("3") "\n");
}

TEST(convert_list, what_dovecot_has_listed_stays)
{
	struct convert_list *l;

	begin("3 V1258291201 N20 Gffffffffffffffffffffffffffffffff\n"
	      "1 W7 :" OURS("1") "\n"
				 "2 :" OURS("2") "\n"
						 "4 S3 :1.M2P3.host\n"
						 "12 :2.M2P3.host\n");
	l = open_list();
	/* 2 was expunged. */
	cr_expect_eq(add(l, 1), 0);
	cr_expect_eq(add(l, 4), -EEXIST);
	cr_expect_eq(add(l, 5), 0);
	cr_expect_eq(convert_list_finish(l, 6), 0);
	convert_list_close(l);
	expect("3 V1258291201 N20 Gffffffffffffffffffffffffffffffff\n"
	       "1 W7 :" OURS("1") "\n"
				  "4 S3 :1.M2P3.host\n"
				  "5 :" OURS("5") "\n"
						  "12 :2.M2P3.host\n");
}

TEST(convert_list, a_message_under_another_uid_is_not_listed_twice)
{
	struct convert_list *l;

	begin("3 V1258291201 N20 Gffffffffffffffffffffffffffffffff\n"
	      "7 :" OURS("3") "\n");
	l = open_list();
	cr_expect_eq(add(l, 3), 0);
	cr_expect_eq(add(l, 8), 0);
	cr_expect_eq(convert_list_finish(l, 9), 0);
	convert_list_close(l);
	expect("3 V1258291201 N20 Gffffffffffffffffffffffffffffffff\n"
	       "7 :" OURS("3") "\n8 :" OURS("8") "\n");
}

TEST(convert_list, one_of_another_uidvalidity_says_nothing)
{
	struct convert_list *l;

	begin("3 V5 N20 Gffffffffffffffffffffffffffffffff\n1 :x\n");
	l = open_list();
	cr_expect_eq(add(l, 1), 0);
	cr_expect_eq(convert_list_finish(l, 2), 0);
	convert_list_close(l);
	expect("3 V1258291201 N2 Gffffffffffffffffffffffffffffffff\n"
	       "1 :" OURS("1") "\n");
}

TEST(convert_list, a_damaged_one_is_refused)
{
	struct convert_list_of of = { .guid = "" };
	struct convert_list *l = NULL;

	begin("nonsense\n");
	of.dirfd = fd;
	cr_expect_eq(convert_list_open(&of, fixture_dir(), &l), -EBADMSG);
	(void)close(fd);
}

TEST(convert_list, a_note_reads_back)
{
	const struct convert_left left = { .stamp = { .dev = 1,
						      .ino = UINT64_MAX,
						      .size = 3,
						      .mtime_ns = -4,
						      .ctime_ns = 5 },
					   .cur_ns = 6,
					   .new_ns = INT64_MAX,
					   .messages = 8,
					   .octets = 9,
					   .uidnext = UINT32_MAX };
	struct convert_left got;

	begin(NULL);
	cr_expect_eq(convert_note_read(fd, 7, &got), -ENOENT);
	cr_expect_eq(convert_note_write(fd, 7, &left), 0);
	cr_assert_eq(convert_note_read(fd, 7, &got), 0);
	cr_expect(stamp_equal(&got.stamp, &left.stamp));
	cr_expect_eq(got.cur_ns, left.cur_ns);
	cr_expect_eq(got.new_ns, left.new_ns);
	cr_expect_eq(got.messages, 8);
	cr_expect_eq(got.octets, 9);
	cr_expect_eq(got.uidnext, UINT32_MAX);
	/* One that was cut short says nothing. */
	cr_expect_eq(truncate(fixture_path("converted/00000007"), 30), 0);
	cr_expect_eq(convert_note_read(fd, 7, &got), -ENOENT);
	(void)close(fd);
}
