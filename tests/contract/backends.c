#include "backends.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../unit/fixture.h"
#include "compat/basename.h"
#include "compat/maildir.h"
#include "compat/mbx.h"
#include "compat/mbxrec.h"

const char *const backend_words[2] = { "Work", "$Forwarded" };

#define TEXT(s) s, sizeof(s) - 1
const struct mail backend_five[BACKEND_FIVE] = {
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
const struct mail backend_sixth = { 4000000007, MSG_SEEN | MSG_OLD, 0,
				    1400000000,
				    TEXT("Subject: six\r\n\r\nlate\r\n") };

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
	fixture_mbx_header(mbx_file(), BACKEND_UIDVALIDITY, m->uid,
			   backend_words[0], backend_words[1], (char *)NULL);
}

static void mbx_build(const struct mail *mails, size_t count)
{
	cr_assert_eq(mkdir(fixture_path("lock"), 0700), 0);
	(void)mkdir(fixture_path("mail"), 0700);
	(void)mkdir(fixture_path("mail/lists"), 0700);
	fixture_mbx_header(mbx_file(), BACKEND_UIDVALIDITY, 0, backend_words[0],
			   backend_words[1], (char *)NULL);
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

static void mbx_free_store(struct store *s)
{
	s->ops->free(s);
	pattern_fini(&mbx_root);
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
		       (unsigned)BACKEND_UIDVALIDITY,
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

static void maildir_free_store(struct store *s)
{
	s->ops->free(s);
}

const struct backend backend_mbx = {
	"mbx",	       "lists/box",    { 0, 1 },
	mbx_build,     mbx_append,     mbx_set_flags,
	mbx_move_away, mbx_open_store, mbx_free_store,
};
const struct backend backend_maildir = {
	"maildir",	   ".lists.box",       { 1, 0 },
	maildir_build,	   maildir_append,     maildir_set_flags,
	maildir_move_away, maildir_open_store, maildir_free_store,
};
