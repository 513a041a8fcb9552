#include "compat/convert.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "compat/io.h"
#include "compat/letters.h"
#include "mbxbox.h"

enum { NUMBER = 42, UIDVALIDITY = 0x4b000001, MANY = 3000 };

/* What the hooks were told, and what they say. */
static struct {
	unsigned passes, shown, faults;
	uint32_t uids[8];
	struct convert_fault fault;
	uint32_t elsewhere, lettered;
	uint64_t paced;
	int stop;		  /* what pace says */
	void (*after_scan)(void); /* once, before anything is read */
	const char *letters;	  /* keyword names, as they are */
} told;

static int hook_pass(void *arg)
{
	(void)arg;
	told.passes++;
	told.shown = told.faults = 0;
	return 0;
}

static int hook_letters(const struct keywords *k, struct letters *out,
			void *arg)
{
	void (*once)(void) = told.after_scan;

	(void)arg;
	told.after_scan = NULL;
	if (once)
		once();
	letters_map(out, k, k);
	return 0;
}

static uint32_t hook_more(uint32_t uid, void *arg)
{
	(void)arg;
	return uid == told.lettered ? 1U << 25 : 0;
}

static bool hook_elsewhere(uint32_t uid, void *arg)
{
	(void)arg;
	return uid == told.elsewhere;
}

static int hook_shown(const struct msg *m, const char *base, void *arg)
{
	(void)arg;
	cr_expect(strstr(base, ".janusmail,S="));
	if (told.shown < ARRAY_LEN(told.uids))
		told.uids[told.shown] = m->uid;
	told.shown++;
	return 0;
}

static int hook_pace(uint64_t octets, void *arg)
{
	(void)arg;
	told.paced += octets;
	return told.stop;
}

static void hook_fault(const struct convert_fault *f, void *arg)
{
	(void)arg;
	told.fault = *f;
	told.faults++;
}

static const struct convert_hooks hooks = { .pass = hook_pass,
					    .letters = hook_letters,
					    .more_letters = hook_more,
					    .elsewhere = hook_elsewhere,
					    .shown = hook_shown,
					    .pace = hook_pace,
					    .fault = hook_fault };

static int folder_fd;

static void make_folder(void)
{
	memset(&told, 0, sizeof(told));
	(void)mkdir(fixture_path("to"), 0700);
	(void)mkdir(fixture_path("to/cur"), 0700);
	(void)mkdir(fixture_path("to/new"), 0700);
	(void)mkdir(fixture_path("to/tmp"), 0700);
	folder_fd = open(fixture_path("to"), O_RDONLY | O_DIRECTORY);
	cr_assert(folder_fd >= 0);
}

static struct convert_target target(void)
{
	return (struct convert_target){ .dirfd = folder_fd,
					.uid = geteuid(),
					.gid = getegid(),
					.number = NUMBER,
					.uidvalidity = UIDVALIDITY,
					.on_disk = UIDVALIDITY };
}

/* @out: the result; Return: of the last step */
static int convert_with(const struct convert_target *t,
			struct convert_result *out)
{
	struct convert *c;
	int ret = convert_new(box, t, &hooks, &c);

	told.passes = 0;
	cr_assert_eq(ret, 0);
	do {
		ret = convert_step(c);
		*out = *convert_result(c);
		cr_expect_leq(out->at, out->end);
	} while (ret > 0);
	convert_free(c);
	return ret;
}

static struct convert_result convert(void)
{
	struct convert_target t = target();
	struct convert_result r;

	cr_assert_eq(convert_with(&t, &r), 0);
	cr_expect(r.settled);
	return r;
}

static unsigned count_in(const char *dir)
{
	DIR *d = opendir(fixture_path(dir));
	const struct dirent *de;
	unsigned n = 0;

	cr_assert(d);
	while (io_readdir(d, &de) == 0 && de)
		n++;
	(void)closedir(d);
	return n;
}

/* Names in cur/ and new/ of one message, with what is expected behind it. */
static bool has_file(const char *sub, uint32_t uid, size_t size,
		     const char *info)
{
	char path[400];

	/* DATE is 09:00 UTC. */
	(void)snprintf(path, sizeof(path),
		       "%s/to/%s/%u.V4b000001F0000002aD4f002090.janusmail,"
		       "S=%zu%s",
		       fixture_dir(), sub, uid, size, info);
	return access(path, F_OK) == 0;
}

static void finish(void)
{
	cr_expect_eq(count_in("to/tmp"), 0, "something was left in tmp/");
	(void)close(folder_fd);
	end();
}

TEST(convert, names_octets_and_times_are_those_of_the_view)
{
	struct convert_result r;
	char text[8] = "";
	struct stat st;

	begin();
	header(3);
	add(1, MSG_SEEN | MSG_OLD, "first");
	add(2, 0, "new\n");
	add(3, MSG_OLD | MSG_FLAGGED | MSG_ANSWERED, "third\r\n");
	open_box();
	make_folder();
	r = convert();
	cr_expect_eq(r.copied, 3);
	cr_expect_eq(r.copied_octets, 16);
	cr_expect_eq(told.paced, 16);
	cr_expect_eq(r.uidnext, 4);
	cr_expect_eq(told.shown, 3);
	cr_expect_eq(told.uids[2], 3);
	cr_expect(has_file("cur", 1, 5, ":2,S"));
	cr_expect(has_file("new", 2, 4, ""));
	cr_expect(has_file("cur", 3, 7, ":2,FR"));
	cr_assert_eq(stat(fixture_path("to/new/2.V4b000001F0000002aD4f002090."
				       "janusmail,S=4"),
			  &st),
		     0);
	cr_expect_eq(st.st_mtim.tv_sec, 0x4f002090);
	cr_expect_eq(st.st_mode & 07777, 0600);
	int fd = open(fixture_path("to/cur/3.V4b000001F0000002aD4f002090."
				   "janusmail,S=7:2,FR"),
		      O_RDONLY);
	cr_expect_eq(read(fd, text, sizeof(text)), 7);
	cr_expect_str_eq(text, "third\r\n");
	(void)close(fd);
	finish();
}

TEST(convert, a_second_run_copies_nothing)
{
	begin_two();
	make_folder();
	cr_expect_eq(convert().copied, 2);
	cr_expect_eq(convert().copied, 0);
	cr_expect_eq(told.shown, 2);
	cr_expect_eq(count_in("to/cur"), 2);
	finish();
}

TEST(convert, what_was_written_in_part_is_written_anew)
{
	begin_two();
	make_folder();
	fixture_write(fixture_path("to/tmp/janusmail-convert.0000002a.1"),
		      "fir", 3);
	fixture_write(fixture_path("to/tmp/1.M2P3.host"), "his", 3);
	cr_expect_eq(convert().copied, 2);
	cr_expect_eq(count_in("to/tmp"), 1, "Dovecot's is not ours");
	cr_expect_eq(unlink(fixture_path("to/tmp/1.M2P3.host")), 0);
	finish();
}

TEST(convert, flags_follow_and_expunged_messages_go)
{
	struct convert_result r;

	begin_two();
	make_folder();
	(void)convert();
	fixture_patch(file(), FIRST + LINE - 15, "0012", 4); /* \Deleted */
	fixture_patch(file(), SECOND + LINE - 15, "8010", 4);
	r = convert();
	cr_expect_eq(r.renamed, 1);
	cr_expect_eq(r.removed, 1);
	cr_expect(has_file("cur", 1, 5, ":2,T"));
	cr_expect_eq(count_in("to/cur"), 1);
	finish();
}

TEST(convert, files_that_others_have_are_only_added_to)
{
	struct convert_target t = target();
	struct convert_result r;

	begin_two();
	make_folder();
	(void)convert();
	fixture_patch(file(), FIRST + LINE - 15, "0012", 4);
	fixture_patch(file(), SECOND + LINE - 15, "8010", 4);
	header(3);
	add(3, MSG_OLD, "third");
	t = target();
	t.add_only = true;
	cr_expect_eq(convert_with(&t, &r), 0);
	cr_expect_eq(r.copied, 1);
	cr_expect_eq(r.renamed + r.removed, 0);
	cr_expect(has_file("cur", 1, 5, ":2,S"));
	cr_expect_eq(count_in("to/cur"), 3);
	finish();
}

TEST(convert, mail_of_others_stays_and_is_counted)
{
	begin_two();
	make_folder();
	fixture_write(fixture_path("to/cur/1.M2P3.host,S=3:2,S"), "his", 3);
	fixture_write(fixture_path("to/new/"
				   "1.V4b000001F0000002bD4f002090.janusmail,"
				   "S=5"),
		      "moved", 5);
	cr_expect_eq(convert().foreign, 2);
	cr_expect_eq(convert().foreign, 2);
	cr_expect_eq(count_in("to/cur"), 3);
	cr_expect_eq(count_in("to/new"), 1);
	finish();
}

TEST(convert, a_message_that_has_a_file_gets_no_other)
{
	struct convert_result r;

	begin_two();
	make_folder();
	told.elsewhere = 1;
	told.lettered = 2;
	r = convert();
	cr_expect_eq(r.copied, 1);
	cr_expect_eq(r.messages, 2);
	cr_expect(has_file("cur", 2, 5, ":2,z"));
	finish();
}

TEST(convert, a_name_that_is_written_in_another_way_is_known)
{
	begin_two();
	make_folder();
	(void)convert();
	cr_expect_eq(rename(fixture_path("to/cur/1.V4b000001F0000002aD4f002090."
					 "janusmail,S=5:2,S"),
			    fixture_path("to/cur/1.V4b000001F0000002aD4f002090."
					 "janusmail,S=5:2,ST,x")),
		     0);
	cr_expect_eq(convert().renamed, 1);
	cr_expect(has_file("cur", 1, 5, ":2,S"));
	cr_expect_eq(count_in("to/cur"), 2);
	finish();
}

static void deliver(void)
{
	add(3, 0, "late");
}

TEST(convert, what_comes_meanwhile_is_there_at_the_end)
{
	begin();
	header(3);
	add(1, MSG_OLD, "first");
	open_box();
	make_folder();
	told.after_scan = deliver;
	cr_expect_eq(convert().copied, 2);
	cr_expect_eq(told.shown, 2);
	cr_expect(has_file("new", 3, 4, ""));
	finish();
}

/* UW opens the mailbox, takes the first message out, and mail comes in: in the
 * place of the second one, of the same second and size, also without a UID. */
static void replace(void)
{
	cr_assert_eq(truncate(file(), FIRST), 0);
	fixture_patch(file(), 15, "00000006", 8);
	add(6, MSG_OLD, "other");
	add(0, 0, "third");
}

static void expect_text(const char *name, const char *want)
{
	static const char *const info[] = { "", ":2," };
	char path[400], text[8] = "";
	int fd = -1;

	for (size_t i = 0; fd < 0 && i < ARRAY_LEN(info); i++) {
		(void)snprintf(
			path, sizeof(path),
			"%s/to/%s.V4b000001F0000002aD4f002090.janusmail,S=5%s",
			fixture_dir(), name, info[i]);
		fd = open(path, O_RDONLY);
	}
	cr_assert_geq(fd, 0, "%s", path);
	cr_expect_eq(read(fd, text, sizeof(text)), 5);
	cr_expect_str_eq(text, want);
	(void)close(fd);
}

TEST(convert, another_message_in_its_place_is_not_taken_for_it)
{
	begin();
	header(4);
	add(0, 0, "first");
	add(0, 0, "other");
	open_box();
	make_folder();
	told.elsewhere = 5; /* so that it is not read, and missed */
	told.after_scan = replace;
	(void)convert();
	expect_text("cur/6", "other");
	expect_text("new/7", "third");
	finish();
}

TEST(convert, a_torn_end_costs_nothing_that_is_whole)
{
	struct convert_result r;

	begin_two();
	make_folder();
	(void)convert();
	header(3);
	add_raw(TEXT("01-Jan-2012 10:00:00 +0100,500;00000000"));
	/* The first one is expunged, but who knows. */
	fixture_patch(file(), FIRST + LINE - 15, "8010", 4);
	r = convert();
	cr_expect_eq(r.damage.kind, DAMAGE_RECORD);
	cr_expect_eq(told.faults, 1);
	cr_expect_not(told.fault.kept);
	cr_expect_eq(told.fault.off, END);
	cr_expect_eq(count_in("to/cur"), 2);
	finish();
}

TEST(convert, a_date_that_cannot_be_read_is_told_of)
{
	struct convert_result r;

	begin_two();
	make_folder();
	fixture_patch(file(), SECOND, "xx-Jan-2012", 11);
	r = convert();
	cr_expect_eq(r.copied, 2);
	cr_expect_eq(told.faults, 1);
	cr_expect(told.fault.kept);
	cr_expect_eq(told.fault.uid, 2);
	cr_expect_eq(told.fault.off, SECOND);
	finish();
}

TEST(convert, another_mailbox_under_the_name_is_refused)
{
	struct convert_target t;
	struct convert_result r;

	begin_two();
	make_folder();
	t = target();
	t.on_disk = UIDVALIDITY + 1;
	cr_expect_eq(convert_with(&t, &r), -ESTALE);
	cr_expect_eq(count_in("to/cur"), 0);
	fixture_patch(file(), 0, "nothing", 7);
	t = target();
	cr_expect_eq(convert_with(&t, &r), -EBADMSG);
	cr_expect_eq(r.damage.kind, DAMAGE_HEADER);
	finish();
}

TEST(convert, who_paces_can_end_it)
{
	struct convert_target t;
	struct convert_result r;

	begin_two();
	make_folder();
	t = target();
	told.stop = -ECANCELED;
	cr_expect_eq(convert_with(&t, &r), -ECANCELED);
	cr_expect_eq(count_in("to/tmp"), 0);
	told.stop = 0;
	cr_expect_eq(convert().copied, 2);
	finish();
}

TEST(convert, many_messages_and_large_ones)
{
	size_t size = (5 << 20) + 3;
	char *large = malloc(size + 1);
	struct convert_result r;
	struct stat st;
	char path[400];

	begin();
	header(MANY + 2);
	for (uint32_t i = 1; i <= MANY; i++)
		add(i, i % 2 ? 0 : MSG_OLD, i % 3 ? "one\r\n" : "another\r\n");
	memset(large, 'x', size);
	large[size] = '\0';
	add(MANY + 1, MSG_OLD, large);
	add(MANY + 2, MSG_OLD, "last");
	free(large);
	open_box();
	make_folder();
	r = convert();
	cr_expect_eq(r.copied, MANY + 2);
	cr_expect_eq(told.shown, MANY + 2);
	cr_expect_eq(count_in("to/new"), MANY / 2);
	cr_expect_eq(count_in("to/cur"), MANY / 2 + 2);
	(void)snprintf(path, sizeof(path),
		       "%s/to/cur/%u.V4b000001F0000002aD4f002090.janusmail,"
		       "S=%zu:2,",
		       fixture_dir(), MANY + 1, size);
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq((size_t)st.st_size, size);
	cr_expect_eq(convert().copied, 0);
	finish();
}
