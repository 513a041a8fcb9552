/*
 * fixture.h - what the unit tests share.
 */
#pragma once

#include <criterion/criterion.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "compat/store.h"

/* Under ASan, leaks must fail the test that leaked: Criterion by itself lets
 * it pass. Weak, so that builds without ASan link. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/* TEST(suite, the_sentence_that_must_be_true) { ... } */
#define TEST(suite, name)                                                      \
	static void body_##suite##_##name(void);                               \
	Test(suite, name)                                                      \
	{                                                                      \
		body_##suite##_##name();                                       \
		if (__lsan_do_recoverable_leak_check)                          \
			cr_assert(__lsan_do_recoverable_leak_check() == 0,     \
				  "memory leaked");                            \
	}                                                                      \
	static void body_##suite##_##name(void)

/** fixture_dir - a fresh empty directory; removed when the process ends.
 * Return: its path, static. */
const char *fixture_dir(void);

/** fixture_write - make file @path (absolute) with @len octets */
void fixture_write(const char *path, const void *data, size_t len);

/** fixture_mbx - append a record (and the file header, when the file is new)
 * to MBX file @path. @line: the record line up to, not including, CR LF, e.g.
 * "01-Jan-2012 10:00:00 +0100,5;000000000001-00000007"; @text, @len: message */
void fixture_mbx(const char *path, const char *line, const void *text,
		 size_t len);
/** fixture_mbx_header - (re)write the header of @path: UIDVALIDITY, UIDLAST and
 * keyword names ending with NULL */
void fixture_mbx_header(const char *path, unsigned uidvalidity,
			unsigned uidlast, ...);

/** fixture_path - @name below fixture_dir(). Return: one of eight static
 * buffers, used in turn. */
const char *fixture_path(const char *name);

/** fixture_patch - write @len octets over those at @off of a file */
void fixture_patch(const char *path, uint64_t off, const void *data,
		   size_t len);

/** fixture_remove - a file, or a directory and all below it */
void fixture_remove(const char *path);

/* For fixture_walk(): every file and directory, the topmost first. */
typedef void fixture_walk_fn(const char *path, bool is_dir);
void fixture_walk(const char *top, fixture_walk_fn *fn);

/** fixture_hold - have another process hold a flock(2) on @path (made with
 * mode 0666 if need be) until fixture_let_go()
 * @how: LOCK_SH or LOCK_EX. Return: when it is held. */
pid_t fixture_hold(const char *path, int how);
void fixture_let_go(pid_t pid);

/** fixture_exit - wait for a child. Return: its exit code; -1: killed */
int fixture_exit(pid_t pid);

enum { FIXTURE_MSGS = 64, FIXTURE_NAME = 160 };

/* What a scan delivered. */
struct fixture_scan {
	struct scan scan; /* ->from is kept */
	size_t count;
	struct msg msgs[FIXTURE_MSGS];
	char names[FIXTURE_MSGS][FIXTURE_NAME]; /* "" for MBX */
};

/** fixture_scan - scan a box. Return: as the back end's scan() */
int fixture_scan(struct box *b, struct fixture_scan *out);

/** fixture_is - whether message @i of @got reads as the @len octets @text */
bool fixture_is(struct box *b, const struct fixture_scan *got, size_t i,
		const void *text, size_t len);
