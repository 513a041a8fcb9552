/*
 * mbxbox.h - one MBX mailbox, its store and box, for tests of the back end.
 *
 *	begin();			a mail directory, a lock directory
 *	header(2);
 *	add(1, MSG_SEEN, "text");	a record
 *	open_box();
 *	scan();
 *	EXPECT_UIDS(1);			what it delivered is in got
 *	end();				no lock file may be left
 */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/mbx.h"
#include "fixture.h"

#define HELPER __attribute__((unused)) static

#define DATE "01-Jan-2012 10:00:00 +0100"
#define TEXT(s) s, sizeof(s) - 1

static struct mbx_options opt = { .lock_ms = 1000,
				  .owner = (uid_t)-1,
				  .group = (gid_t)-1 };
static struct pattern root;
static struct store *store;
static struct box *box;
static struct fixture_scan got;

/* Where all tests have their mailbox. */
HELPER const char *file(void)
{
	static char path[256];

	(void)snprintf(path, sizeof(path), "%s/mail/box", fixture_dir());
	return path;
}

HELPER void begin(void)
{
	static char locks[256];

	(void)snprintf(locks, sizeof(locks), "%s/locks", fixture_dir());
	opt.lock_dir = locks;
	(void)mkdir(locks, 0700);
	(void)mkdir(fixture_path("mail"), 0700);
	cr_assert_eq(pattern_init(&root, fixture_path("mail")), 0);
	cr_assert_eq(mbx_store_new(&root, "", &opt, &store), 0);
}

HELPER void open_box(void)
{
	cr_assert_eq(store->ops->open(store, "box", &box), 0);
}

HELPER void end(void)
{
	if (box)
		box->ops->close(box);
	box = NULL;
	store->ops->free(store);
	pattern_fini(&root);
	/* No case may leave a lock file. */
	cr_expect_eq(rmdir(opt.lock_dir), 0);
}

/* One record; the UIDs are those on disk. */
HELPER void add(uint32_t uid, unsigned flags, const char *text)
{
	char line[80];

	(void)snprintf(line, sizeof(line), DATE ",%zu;00000000%04x-%08x",
		       strlen(text), flags, uid);
	fixture_mbx(file(), line, text, strlen(text));
}

HELPER void header(uint32_t uidlast)
{
	fixture_mbx_header(file(), 0x4b000001, uidlast, (char *)NULL);
}

/* Octets as they are, at the end of the file. */
HELPER void add_raw(const char *octets, size_t len)
{
	int fd = open(file(), O_WRONLY | O_APPEND | O_CLOEXEC);

	cr_assert_eq(write(fd, octets, len), (ssize_t)len);
	(void)close(fd);
}

HELPER void scan(void)
{
	cr_assert_eq(fixture_scan(box, &got), 0);
}

HELPER void expect_uids(const uint32_t *uids, size_t count)
{
	cr_assert_eq(got.count, count, "%zu messages", got.count);
	for (size_t i = 0; i < count; i++)
		cr_expect_eq(got.msgs[i].uid, uids[i], "%zu: UID %u", i,
			     got.msgs[i].uid);
}

#define EXPECT_UIDS(...)                                                       \
	expect_uids((const uint32_t[]){ __VA_ARGS__ },                         \
		    ARRAY_LEN(((const uint32_t[]){ __VA_ARGS__ })))

HELPER void expect_damage(enum damage_kind kind, uint64_t off, uint32_t uid)
{
	const struct damage *d = &got.scan.damage;

	cr_expect_eq(d->kind, kind, "%s: %s", damage_name(d->kind), d->text);
	cr_expect_eq(d->off, off, "at %ju", (uintmax_t)d->off);
	cr_expect_eq(d->uid, uid, "UID %u", d->uid);
	cr_expect_neq(d->text[0], '\0');
}

/* Two messages, each with a line of 52 octets and a text of 5; UIDLAST 2. */
enum {
	LINE = 52,
	FIRST = 2048,
	SECOND = FIRST + LINE + 5,
	END = SECOND + LINE + 5
};

HELPER void begin_two(void)
{
	begin();
	header(2);
	add(1, MSG_SEEN | MSG_OLD, "first");
	add(2, MSG_OLD, "other");
	open_box();
}
