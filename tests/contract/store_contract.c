/*
 * What store.h promises, asked of every back end: one mailbox is built in each
 * format and must look the same through all of them.
 */
#include "compat/store.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../unit/fixture.h"
#include "compat/basename.h"
#include "compat/maildir.h"
#include "compat/mbx.h"
#include "compat/mbxrec.h"

struct mail {
	uint32_t uid, flags, keywords; /* keywords: bits of words[] */
	int64_t date;
	const char *text;
	size_t len;
};

struct backend {
	const char *name;
	const char *folder; /* for open() */
	int slots[2];	    /* where it keeps words[0] and words[1] */
	void (*build)(const struct mail *mails, size_t count);
	void (*append)(const struct mail *m);
	void (*set_flags)(const struct mail *old, uint32_t flags);
	void (*move_away)(void);
	int (*open_store)(struct store **out);
};

static const char *const words[] = { "Work", "$Forwarded" };

#define TEXT(s) s, sizeof(s) - 1
static const struct mail five[] = {
	{ 3, MSG_SEEN | MSG_OLD, 0, 1325408400,
	  TEXT("Subject: one\r\n\r\nfirst\r\n") },
	{ 7, MSG_FLAGGED | MSG_ANSWERED | MSG_OLD, 2, 1,
	  TEXT("Subject: two\r\n\r\nsecond, a little longer than the first\r\n") },
	{ 8, MSG_OLD, 3, 1341122399,
	  TEXT("Subject: three\r\n\r\n\0\xe9\xff bare\nno end") },
	{ 100, 0, 0, 4039372799, TEXT("x") },
	{ 4000000000, MSG_DRAFT | MSG_DELETED | MSG_OLD, 1, 946684800,
	  TEXT("\r\n\r\n01-Jan-2012 10:00:00 +0000,5;000000000001-00000007\r\n") },
};
static const struct mail sixth = { 4000000007, MSG_SEEN | MSG_OLD, 0,
				   1400000000,
				   TEXT("Subject: six\r\n\r\nlate\r\n") };
enum { UIDVALIDITY = 0x4b000001 };

/* ---- MBX ----------------------------------------------------------------- */

static struct pattern mbx_root;

static const char *mbx_file(void)
{
	return fixture_path("mail/lists/box");
}

static void mbx_append(const struct mail *m)
{
	char date[MBX_DATE_LEN + 1], line[80];

	mbx_date_format(m->date, date);
	(void)snprintf(line, sizeof(line), "%s,%zu;%08x%04x-%08x", date, m->len,
		       m->keywords, m->flags, m->uid);
	fixture_mbx(mbx_file(), line, m->text, m->len);
	fixture_mbx_header(mbx_file(), UIDVALIDITY, m->uid, words[0], words[1],
			   (char *)NULL);
}

static void mbx_build(const struct mail *mails, size_t count)
{
	cr_assert_eq(mkdir(fixture_path("lock"), 0700), 0);
	(void)mkdir(fixture_path("mail"), 0700);
	(void)mkdir(fixture_path("mail/lists"), 0700);
	fixture_mbx_header(mbx_file(), UIDVALIDITY, 0, words[0], words[1],
			   (char *)NULL);
	for (size_t i = 0; i < count; i++)
		mbx_append(&mails[i]);
}

static void mbx_set_flags(const struct mail *old, uint32_t flags)
{
	uint64_t off = MBX_HEADER_SIZE;
	struct mbx_record r;
	uint8_t line[MBX_LINE_WINDOW];
	char digits[5];
	int fd = open(mbx_file(), O_RDONLY | O_CLOEXEC);

	for (;;) {
		ssize_t n = pread(fd, line, sizeof(line), (off_t)off);

		cr_assert_gt(n, 0, "no UID %u", old->uid);
		cr_assert_eq(mbx_record_parse(line, (size_t)n, &r, NULL), 0);
		off += r.line;
		if (r.uid == old->uid)
			break;
		off += r.size;
	}
	(void)close(fd);
	(void)snprintf(digits, sizeof(digits), "%04x", flags);
	fixture_patch(mbx_file(), off - 15, digits, 4);
}

static void mbx_move_away(void)
{
	cr_assert_eq(rename(mbx_file(), fixture_path("mail/elsewhere")), 0);
}

static int mbx_open_store(struct store **out)
{
	static char lock_dir[1024];
	struct mbx_options opt = { .lock_dir = lock_dir,
				   .lock_ms = 2000,
				   .owner = geteuid(),
				   .group = getegid() };

	(void)snprintf(lock_dir, sizeof(lock_dir), "%s", fixture_path("lock"));
	cr_assert_eq(pattern_init(&mbx_root, fixture_path("mail")), 0);
	return mbx_store_new(&mbx_root, "", &opt, out);
}

/* ---- Maildir ------------------------------------------------------------- */

static void maildir_path(const struct mail *m, uint32_t flags, char *out,
			 size_t size)
{
	char info[INFO_MAX + 1];
	/* The two words lie in each other's slot, unlike in the MBX. */
	uint32_t letters = (m->keywords & 1) << 1 | (m->keywords & 2) >> 1;

	info_format(flags, letters, info);
	(void)snprintf(out, size, "%s/%s/%u.M1P2.host,S=%zu%s",
		       fixture_path("Maildir/.lists.box"),
		       flags & MSG_OLD ? "cur" : "new", m->uid, m->len,
		       flags & MSG_OLD ? info : "");
}

static void maildir_write(const struct mail *m)
{
	struct timespec when[2] = { { .tv_sec = m->date },
				    { .tv_sec = m->date } };
	char path[1200];

	maildir_path(m, m->flags, path, sizeof(path));
	fixture_write(path, m->text, m->len);
	cr_assert_eq(utimensat(AT_FDCWD, path, when, 0), 0);
}

static void maildir_list_uid(const struct mail *m)
{
	FILE *f =
		fopen(fixture_path("Maildir/.lists.box/dovecot-uidlist"), "ae");

	cr_assert_not_null(f);
	(void)fprintf(f, "%u :%u.M1P2.host,S=%zu\n", m->uid, m->uid, m->len);
	cr_assert_eq(fclose(f), 0);
}

static void maildir_append(const struct mail *m)
{
	maildir_write(m);
	maildir_list_uid(m);
}

static void maildir_build(const struct mail *mails, size_t count)
{
	static const char *const dirs[] = { "",
					    "/cur",
					    "/new",
					    "/tmp",
					    "/.lists.box",
					    "/.lists.box/cur",
					    "/.lists.box/new",
					    "/.lists.box/tmp" };
	static const char keywords[] = "0 $Forwarded\n1 Work\n";
	char head[80], path[64];

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		(void)snprintf(path, sizeof(path), "Maildir%s", dirs[i]);
		(void)mkdir(fixture_path(path), 0700);
	}
	(void)snprintf(head, sizeof(head), "3 V%u N%u G%032x\n",
		       (unsigned)UIDVALIDITY,
		       count ? mails[count - 1].uid + 1 : 1, 5);
	fixture_write(fixture_path("Maildir/.lists.box/dovecot-uidlist"), head,
		      strlen(head));
	fixture_write(fixture_path("Maildir/.lists.box/dovecot-keywords"),
		      keywords, strlen(keywords));
	for (size_t i = 0; i < count; i++)
		maildir_append(&mails[i]);
}

static void maildir_set_flags(const struct mail *old, uint32_t flags)
{
	char from[1200], to[1200];

	maildir_path(old, old->flags, from, sizeof(from));
	maildir_path(old, flags, to, sizeof(to));
	cr_assert_eq(rename(from, to), 0);
}

static void maildir_move_away(void)
{
	cr_assert_eq(rename(fixture_path("Maildir/.lists.box"),
			    fixture_path("Maildir/.elsewhere")),
		     0);
}

static int maildir_open_store(struct store **out)
{
	return maildir_store_new(AT_FDCWD, fixture_path("Maildir"), out);
}

/* ---- the frame ----------------------------------------------------------- */

static const struct backend mbx_backend = {
	"mbx",	    "lists/box",   { 0, 1 },	  mbx_build,
	mbx_append, mbx_set_flags, mbx_move_away, mbx_open_store,
};
static const struct backend maildir_backend = {
	"maildir",	   ".lists.box",       { 1, 0 },
	maildir_build,	   maildir_append,     maildir_set_flags,
	maildir_move_away, maildir_open_store,
};

static const struct backend *be;
static struct store *store;
static struct box *box;
static struct fixture_scan got;

static void world_begin(const struct backend *backend, const struct mail *mails,
			size_t count)
{
	be = backend;
	be->build(mails, count);
	cr_assert_eq(be->open_store(&store), 0);
	cr_assert_str_eq(store->ops->name, be->name);
	cr_assert_eq(store->ops->open(store, be->folder, &box), 0);
}

static void world_end(void)
{
	if (box)
		box->ops->close(box);
	store->ops->free(store);
	if (be == &mbx_backend)
		pattern_fini(&mbx_root);
}

static void run(const struct backend *backend, void (*body)(void))
{
	world_begin(backend, five, ARRAY_LEN(five));
	body();
	world_end();
}

/* CONTRACT(the_sentence_that_is_true_of_every_back_end) { ... } */
#define CONTRACT(name)                                                         \
	static void contract_##name(void);                                     \
	TEST(contract_mbx, name)                                               \
	{                                                                      \
		run(&mbx_backend, contract_##name);                            \
	}                                                                      \
	TEST(contract_maildir, name)                                           \
	{                                                                      \
		run(&maildir_backend, contract_##name);                        \
	}                                                                      \
	static void contract_##name(void)

static void scan(void)
{
	cr_assert_eq(fixture_scan(box, &got), 0);
}

/* Every message of the five, and none else, just as it was built. */
static void expect_five(void)
{
	cr_assert_eq(got.count, ARRAY_LEN(five), "%zu messages", got.count);
	for (size_t i = 0; i < got.count; i++) {
		const struct mail *m = &five[i];

		cr_expect_eq(got.msgs[i].uid, m->uid, "%u", got.msgs[i].uid);
		cr_expect(fixture_is(box, &got, i, m->text, m->len), "UID %u",
			  m->uid);
	}
}

static struct stamp stamp_now(void)
{
	struct stamp s;

	memset(&s, 0xee, sizeof(s));
	cr_assert_eq(box->ops->stamp(box, &s), 0);
	return s;
}

/* Longer than a tick of the file system's clock. */
static void wait_a_tick(void)
{
	(void)usleep(20000);
}

/* ---- stores -------------------------------------------------------------- */

struct seen {
	unsigned folders, others, wanted, calls;
	int give;
};

static int see(const struct store_entry *e, void *arg)
{
	struct seen *s = arg;

	s->calls++;
	if (!e->is_folder)
		s->others++;
	else if (strcmp(e->name, be->folder) == 0)
		s->wanted++;
	else
		s->folders += e->name[0] != '\0'; /* a Maildir has its INBOX */
	cr_expect_eq(e->is_folder, e->why == NULL);
	return s->give;
}

CONTRACT(lists_the_folder_once_and_nothing_else)
{
	struct seen s = { 0 };

	cr_assert_eq(store->ops->list(store, see, &s), 0);
	cr_expect_eq(s.wanted, 1);
	cr_expect_eq(s.folders, 0);
	cr_expect_eq(s.others, 0);
}

CONTRACT(a_walk_ends_where_the_caller_ends_it)
{
	struct seen s = { .give = 42 };

	cr_assert_eq(store->ops->list(store, see, &s), 42);
	cr_expect_eq(s.calls, 1);
	s = (struct seen){ .give = -EIO };
	cr_assert_eq(store->ops->list(store, see, &s), -EIO);
}

CONTRACT(a_folder_that_is_not_there_is_enoent)
{
	struct box *none = NULL;

	cr_expect_eq(store->ops->open(store, "nothing", &none), -ENOENT);
	cr_expect_eq(store->ops->open(store, ".nothing", &none), -ENOENT);
	cr_expect_null(none);
}

CONTRACT(a_folder_outside_the_store_is_not_opened)
{
	struct box *none = NULL;
	char up[64];

	(void)snprintf(up, sizeof(up), "../mail/%s", be->folder);
	cr_expect_eq(store->ops->open(store, "..", &none), -EXDEV);
	cr_expect_eq(store->ops->open(store, up, &none), -EXDEV);
	cr_expect_lt(store->ops->open(store, "/etc/passwd", &none), 0);
	cr_expect_null(none);
}

CONTRACT(a_symbolic_link_is_not_followed)
{
	struct box *none = NULL;
	const char *link = be == &mbx_backend ? "mail/link" : "Maildir/.link";
	struct seen s = { 0 };

	cr_assert_eq(symlink(be->folder, fixture_path(link)), 0);
	cr_expect_eq(store->ops->open(store, strchr(link, '/') + 1, &none),
		     -ELOOP);
	cr_assert_eq(store->ops->list(store, see, &s), 0);
	cr_expect_eq(s.wanted, 1);
	cr_expect_eq(s.folders, 0);
	cr_expect_eq(s.others, 1);
}

CONTRACT(nothing_is_closed_and_freed_quietly)
{
	box->ops->close(NULL);
	store->ops->free(NULL);
	cr_assert_eq(got.count, 0);
	scan();
	expect_five();
}

/* ---- scan ---------------------------------------------------------------- */

CONTRACT(a_scan_gives_the_messages_by_ascending_uid)
{
	scan();
	expect_five();
}

CONTRACT(a_scan_gives_the_flags)
{
	scan();
	cr_assert_eq(got.count, ARRAY_LEN(five));
	for (size_t i = 0; i < got.count; i++)
		cr_expect_eq(got.msgs[i].flags, five[i].flags, "UID %u: %x",
			     five[i].uid, got.msgs[i].flags);
}

CONTRACT(a_scan_gives_the_keywords_by_name)
{
	uint32_t bits;

	scan();
	for (size_t w = 0; w < ARRAY_LEN(words); w++)
		cr_expect_str_eq(got.scan.keywords.name[be->slots[w]],
				 words[w]);
	for (size_t i = 0; i < got.count; i++) {
		bits = 0;
		for (size_t w = 0; w < ARRAY_LEN(words); w++)
			if (got.msgs[i].keywords & 1U << be->slots[w])
				bits |= 1U << w;
		cr_expect_eq(bits, five[i].keywords, "UID %u", five[i].uid);
	}
}

CONTRACT(a_scan_gives_dates_and_sizes)
{
	scan();
	for (size_t i = 0; i < got.count; i++) {
		cr_expect_eq(got.msgs[i].date, five[i].date, "UID %u",
			     five[i].uid);
		cr_expect_eq(got.msgs[i].size, five[i].len);
	}
}

CONTRACT(a_scan_gives_uidvalidity_and_uidnext)
{
	scan();
	cr_expect_eq(got.scan.uidvalidity, (uint32_t)UIDVALIDITY);
	cr_expect_eq(got.scan.uidnext, 4000000001);
}

CONTRACT(a_good_mailbox_has_no_damage)
{
	got.scan.damage = (struct damage){ .kind = DAMAGE_UID, .count = 3 };
	scan();
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	cr_expect_eq(got.scan.damage.count, 0);
	cr_expect_str_eq(got.scan.damage.text, "");
}

CONTRACT(a_second_scan_gives_the_same)
{
	static struct fixture_scan again;

	scan();
	cr_assert_eq(fixture_scan(box, &again), 0);
	cr_assert_eq(again.count, got.count);
	cr_expect_eq(memcmp(again.msgs, got.msgs, sizeof(got.msgs)), 0);
	cr_expect_eq(memcmp(again.names, got.names, sizeof(got.names)), 0);
	cr_expect(stamp_equal(&again.scan.stamp, &got.scan.stamp));
	cr_expect_eq(memcmp(&again.scan.next, &got.scan.next,
			    sizeof(got.scan.next)),
		     0);
}

CONTRACT(an_empty_mailbox_has_no_message)
{
	for (size_t i = 0; i < ARRAY_LEN(five); i++)
		cr_assert_neq(five[i].uid, 0);
	world_end();
	be->move_away();
	(void)rmdir(fixture_path("lock"));
	world_begin(be, NULL, 0);
	scan();
	cr_expect_eq(got.count, 0);
	cr_expect_eq(got.scan.uidvalidity, (uint32_t)UIDVALIDITY);
	cr_expect_eq(got.scan.uidnext, 1);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
}

static int refuse(const struct msg *m, const char *name, void *arg)
{
	unsigned *calls = arg;

	(void)m;
	(void)name;
	return ++*calls == 2 ? -ECANCELED : 0;
}

CONTRACT(a_callback_that_fails_ends_the_scan)
{
	struct scan s = { 0 };
	unsigned calls = 0;

	cr_assert_eq(box->ops->scan(box, &s, refuse, &calls), -ECANCELED);
	cr_expect_eq(calls, 2);
	scan();
	expect_five();
}

CONTRACT(a_scan_from_the_last_point_shows_what_came_since)
{
	size_t last;

	scan();
	be->append(&sixth);
	got.scan.from = got.scan.next;
	scan();
	/* Maildir has no such point and gives all of them. */
	cr_assert_eq(got.count, be == &mbx_backend ? 1 : 6);
	last = got.count - 1;
	cr_expect_eq(got.msgs[last].uid, sixth.uid);
	cr_expect_eq(got.msgs[last].flags, sixth.flags);
	cr_expect(fixture_is(box, &got, last, sixth.text, sixth.len));
	cr_expect_eq(got.scan.uidnext, sixth.uid + 1);
}

CONTRACT(a_scan_shows_changed_flags)
{
	be->set_flags(&five[1], MSG_SEEN | MSG_OLD);
	scan();
	expect_five();
	cr_expect_eq(got.msgs[1].flags, MSG_SEEN | MSG_OLD);
	cr_expect_eq(got.msgs[2].flags, five[2].flags);
}

/* ---- stamps -------------------------------------------------------------- */

CONTRACT(a_stamp_stays_when_nothing_changes)
{
	struct stamp before = stamp_now(), after;

	wait_a_tick();
	scan();
	expect_five();
	after = stamp_now();
	cr_expect(stamp_equal(&before, &after));
	cr_expect(stamp_equal(&before, &got.scan.stamp));
}

CONTRACT(a_stamp_differs_after_an_append)
{
	struct stamp before = stamp_now(), after;

	wait_a_tick();
	be->append(&sixth);
	after = stamp_now();
	cr_expect_not(stamp_equal(&before, &after));
}

CONTRACT(a_stamp_differs_after_a_flag_change)
{
	struct stamp before = stamp_now(), after;

	wait_a_tick();
	be->set_flags(&five[0], MSG_OLD);
	after = stamp_now();
	cr_expect_not(stamp_equal(&before, &after));
}

CONTRACT(a_folder_that_was_renamed_is_stale)
{
	struct stamp s;

	scan();
	be->move_away();
	cr_expect_eq(box->ops->stamp(box, &s), -ESTALE);
	cr_expect_eq(fixture_scan(box, &got), -ESTALE);
	cr_expect_eq(got.count, 0);
}

CONTRACT(a_folder_that_was_replaced_is_stale)
{
	struct stamp s;

	be->move_away();
	(void)rmdir(fixture_path("lock"));
	be->build(&sixth, 1);
	cr_expect_eq(box->ops->stamp(box, &s), -ESTALE);
	cr_expect_eq(fixture_scan(box, &got), -ESTALE);
	box->ops->close(box);
	box = NULL;
	cr_assert_eq(store->ops->open(store, be->folder, &box), 0);
	scan();
	cr_assert_eq(got.count, 1);
	cr_expect(fixture_is(box, &got, 0, sixth.text, sixth.len));
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

CONTRACT(a_folder_that_was_removed_is_stale)
{
	struct stamp s;

	be->move_away();
	cr_assert_eq(nftw(fixture_path(be == &mbx_backend
					       ? "mail/elsewhere"
					       : "Maildir/.elsewhere"),
			  remove_one, 8, FTW_DEPTH | FTW_PHYS),
		     0);
	cr_expect_eq(box->ops->stamp(box, &s), -ESTALE);
	cr_expect_eq(fixture_scan(box, &got), -ESTALE);
}

/* ---- read ---------------------------------------------------------------- */

static ssize_t read_part(size_t i, void *buf, size_t len, uint64_t off)
{
	return box->ops->read(box, &got.msgs[i], got.names[i], buf, len, off);
}

CONTRACT(any_part_of_a_message_can_be_read)
{
	enum { GUARD = 0x5a };
	char buf[128];

	scan();
	for (size_t i = 0; i < got.count; i++) {
		for (size_t off = 0; off <= five[i].len; off++) {
			size_t want = (off * 7 + i) % 23 + 1, left;

			left = five[i].len - off;
			memset(buf, GUARD, sizeof(buf));
			cr_assert_eq(read_part(i, buf, want, off),
				     (ssize_t)(want < left ? want : left));
			if (want < left)
				left = want;
			cr_assert_eq(memcmp(buf, five[i].text + off, left), 0,
				     "UID %u at %zu", five[i].uid, off);
			cr_assert_eq(buf[left], GUARD);
		}
	}
}

CONTRACT(nothing_is_read_past_the_end)
{
	char buf[16];

	scan();
	for (size_t i = 0; i < got.count; i++) {
		cr_expect_eq(read_part(i, buf, sizeof(buf), five[i].len), 0);
		cr_expect_eq(read_part(i, buf, sizeof(buf), 1U << 20), 0);
		cr_expect_eq(read_part(i, buf, sizeof(buf), UINT64_MAX), 0);
		cr_expect_eq(read_part(i, buf, 0, 0), 0);
	}
}

CONTRACT(a_message_of_more_than_a_mebibyte_is_read_whole)
{
	enum { BIG = (1 << 20) + 12345, PIECE = 130001 };
	struct mail m = { .uid = 4000000009,
			  .flags = MSG_OLD,
			  .date = 1400000001,
			  .len = BIG };
	AUTO_FREE char *text = malloc(BIG);
	AUTO_FREE char *buf = malloc(BIG);
	size_t done = 0;

	for (size_t i = 0; i < BIG; i++)
		text[i] = (char)(i * 2654435761U >> 13);
	m.text = text;
	be->append(&m);
	be->append(&(struct mail){ 4000000010, 0, 0, 5, "end", 3 });
	scan();
	cr_assert_eq(got.count, 7);
	cr_expect(fixture_is(box, &got, 5, text, BIG));
	cr_expect(fixture_is(box, &got, 6, "end", 3));
	while (done < BIG) {
		ssize_t n = read_part(5, buf + done, PIECE, done);

		cr_assert_gt(n, 0);
		done += (size_t)n;
	}
	cr_assert_eq(done, (size_t)BIG);
	cr_expect_eq(memcmp(buf, text, BIG), 0);
}

CONTRACT(a_read_after_a_flag_change_is_right_or_stale)
{
	char buf[256];
	ssize_t n;

	scan();
	be->set_flags(&five[1], MSG_SEEN | MSG_OLD);
	n = read_part(1, buf, sizeof(buf), 0);
	cr_assert(n == -ESTALE || n == (ssize_t)five[1].len, "%zd", n);
	if (n > 0)
		cr_expect_eq(memcmp(buf, five[1].text, five[1].len), 0);
	scan();
	expect_five();
}

CONTRACT(a_message_that_was_never_there_is_stale)
{
	struct msg m;
	char buf[64];

	scan();
	m = got.msgs[1];
	m.uid = m.uid_disk = 5;
	m.size++;
	cr_expect_eq(box->ops->read(box, &m, "5.M1P2.host,S=4", buf,
				    sizeof(buf), 0),
		     -ESTALE);
}

static void *read_all_the_time(void *arg)
{
	char buf[128];

	for (unsigned i = 0; i < 2000; i++) {
		size_t at = i % ARRAY_LEN(five);
		size_t off = i % 5 < five[at].len ? i % 5 : 0;
		ssize_t n = read_part(at, buf, sizeof(buf), off);

		if (n != (ssize_t)(five[at].len - off) ||
		    memcmp(buf, five[at].text + off, (size_t)n) != 0)
			return arg;
	}
	return NULL;
}

CONTRACT(two_threads_read_at_once)
{
	pthread_t threads[2];
	void *wrong;

	scan();
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		cr_assert_eq(pthread_create(&threads[i], NULL,
					    read_all_the_time, &got),
			     0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		cr_assert_eq(pthread_join(threads[i], &wrong), 0);
		cr_expect_null(wrong);
	}
}

/* ---- no traces ----------------------------------------------------------- */

static struct statx traces[32];
static size_t trace_count;
static bool trace_again;

static int trace_one(const char *path, const struct stat *st, int type,
		     struct FTW *ftw)
{
	struct statx now;
	const struct statx *was = &traces[trace_count];

	(void)st;
	(void)type;
	(void)ftw;
	cr_assert_lt(trace_count, ARRAY_LEN(traces));
	cr_assert_eq(statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW,
			   STATX_BASIC_STATS, &now),
		     0);
	if (!trace_again)
		traces[trace_count] = now;
	else
		cr_expect(now.stx_ino == was->stx_ino &&
				  now.stx_size == was->stx_size &&
				  memcmp(&now.stx_atime, &was->stx_atime,
					 sizeof(now.stx_atime)) == 0 &&
				  memcmp(&now.stx_mtime, &was->stx_mtime,
					 sizeof(now.stx_mtime)) == 0 &&
				  memcmp(&now.stx_ctime, &was->stx_ctime,
					 sizeof(now.stx_ctime)) == 0,
			  "%s was touched", path);
	trace_count++;
	return 0;
}

static void trace(const char *top, bool again)
{
	trace_again = again;
	trace_count = 0;
	cr_assert_eq(nftw(top, trace_one, 8, FTW_PHYS), 0);
	cr_assert_gt(trace_count, 2);
}

CONTRACT(reading_leaves_no_trace)
{
	const char *top = fixture_path(be == &mbx_backend ? "mail" : "Maildir");
	struct seen s = { 0 };
	/* nftw() itself reads the directories: so that it moves no atime. */
	trace(top, false);
	wait_a_tick();
	trace(top, false);
	wait_a_tick();
	cr_assert_eq(store->ops->list(store, see, &s), 0);
	box->ops->close(box);
	box = NULL;
	cr_assert_eq(store->ops->open(store, be->folder, &box), 0);
	(void)stamp_now();
	scan();
	expect_five();
	trace(top, true);
}

static int try_lock(const char *path, const struct stat *st, int type,
		    struct FTW *ftw)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	(void)st;
	(void)type;
	(void)ftw;
	cr_assert_geq(fd, 0);
	cr_expect_eq(flock(fd, LOCK_EX | LOCK_NB), 0, "%s is locked", path);
	(void)close(fd);
	return 0;
}

static int count_one(const char *path, const struct stat *st, int type,
		     struct FTW *ftw)
{
	(void)path;
	(void)st;
	(void)type;
	return ftw->level ? -1 : 0;
}

static void expect_unlocked(void)
{
	cr_expect_eq(nftw(fixture_path(be == &mbx_backend ? "mail" : "Maildir"),
			  try_lock, 8, FTW_PHYS),
		     0);
	if (be == &mbx_backend)
		cr_expect_eq(nftw(fixture_path("lock"), count_one, 8, FTW_PHYS),
			     0, "a lock file was left");
}

CONTRACT(nothing_stays_locked)
{
	struct scan s = { 0 };
	unsigned calls = 0;
	char buf[8];

	scan();
	expect_unlocked();
	cr_assert_eq(read_part(0, buf, sizeof(buf), 1), 8);
	expect_unlocked();
	(void)stamp_now();
	expect_unlocked();
	cr_assert_eq(box->ops->scan(box, &s, refuse, &calls), -ECANCELED);
	expect_unlocked();
	be->move_away();
	cr_assert_eq(fixture_scan(box, &got), -ESTALE);
	expect_unlocked();
}
