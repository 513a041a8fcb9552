/*
 * writebox.h - mbxbox.h for tests that write: what the file was, and what
 * became of it.
 */
#pragma once

#include "mbxbox.h"

#include <errno.h>
#include <sys/file.h>
#include <sys/time.h>
#include <time.h>

enum { KEPT = 1 << 20 };

static uint8_t kept[KEPT];
static size_t kept_len;

HELPER size_t slurp(uint8_t *out)
{
	AUTO_FD int fd = open(file(), O_RDONLY | O_CLOEXEC | O_NOATIME);
	ssize_t n = read(fd, out, KEPT);

	cr_assert(n >= 0 && n < KEPT);
	return (size_t)n;
}

/* Remember the file as it is. */
HELPER void keep(void)
{
	kept_len = slurp(kept);
}

/* The file is what it was when it was kept, but for @len octets at @off. */
HELPER void expect_same_but(size_t off, size_t len)
{
	static uint8_t now[KEPT];
	size_t n = slurp(now);

	cr_assert_eq(n, kept_len, "%zu octets, were %zu", n, kept_len);
	for (size_t i = 0; i < n; i++)
		if ((i < off || i >= off + len) && now[i] != kept[i])
			cr_assert_fail("octet %zu: %02x, was %02x", i, now[i],
				       kept[i]);
}

/* What stands at @off now. */
HELPER void expect_change(size_t off, const char *text)
{
	static uint8_t now[KEPT];
	size_t n = slurp(now);

	cr_assert_leq(off + strlen(text), n);
	cr_expect(memcmp(now + off, text, strlen(text)) == 0,
		  "at %zu: \"%.*s\", not \"%s\"", off, (int)strlen(text),
		  (const char *)now + off, text);
}

/* Where record @i starts when all have texts of 5 octets. */
HELPER size_t record(size_t i)
{
	return FIRST + i * (LINE + 5);
}

/* The parse lock's file. */
HELPER const char *lock_name(void)
{
	static char path[300];
	struct stat st;

	cr_assert_eq(stat(file(), &st), 0);
	(void)snprintf(path, sizeof(path), "%s/.%jx.%jx", opt.lock_dir,
		       (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return path;
}

/* Whether somebody else could have the lock now. */
HELPER int try_lock(const char *path, int how)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return flock(fd, how | LOCK_NB) == 0 ? 0 : -errno;
}

/* Operations on message @i of the last scan. */
HELPER int flag(size_t i, struct flag_change c)
{
	return box->ops->flag(box, &got.msgs[i], NULL, &c, &got.msgs[i]);
}

HELPER int expunge(size_t i)
{
	return box->ops->expunge(box, &got.msgs[i], NULL);
}

HELPER int keyword(const char *name)
{
	unsigned slot = 99;
	int ret = box->ops->keyword(box, name, &slot);

	cr_expect_eq(ret == 0, slot < 30, "%s: %d, slot %u", name, ret, slot);
	return ret < 0 ? ret : (int)slot;
}
