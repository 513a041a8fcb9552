/*
 * fixture.h - what the unit tests share.
 */
#pragma once

#include <criterion/criterion.h>
#include <stddef.h>

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
