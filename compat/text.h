/*
 * text.h - building paths, reading numbers, and showing octets and instants
 * from disk to people.
 *
 * Names of folders and users come from disk and may hold anything but NUL and
 * '/'. In logs and dumps they appear escaped, so that one line stays one line.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat/base.h"

/**
 * text_path - snprintf() into a buffer of @size, checked
 *
 * Return: 0; -ENAMETOOLONG when it does not fit (@buf is then "").
 */
MUST_CHECK int text_path(char *buf, size_t size, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

/* A non-zero return ends the walk and is returned. */
typedef int text_list_fn(char *word, void *arg);
/**
 * text_list - the words of a list with commas between them, empty ones too
 * "\\," is a comma in a word, "\\\\" a backslash.
 * Return: 0; -ENOMEM; what @fn returned.
 */
MUST_CHECK int text_list(const char *list, text_list_fn *fn, void *arg);

/**
 * text_escape - @len octets at @in as one printable word
 * @out: gets a NUL-terminated string, cut (never in the middle of an escape
 *	or a character) when @size is too small; 4 * @len + 1 always suffices
 *
 * Octets below 0x21, 0x7f, '\\', '"', the C1 controls (U+0080 to U+009F) and
 * every octet that is not part of valid UTF-8 become \xhh, lower case. Spaces
 * become \x20, so that the result is one word.
 *
 * Return: @out.
 */
const char *text_escape(const void *in, size_t len, char *out, size_t size);

/**
 * text_unescape - the inverse of text_escape()
 * @out: at least strlen(@in) + 1 octets; NUL-terminated
 *
 * Octets that text_escape() would have escaped stand for themselves, but a
 * backslash must start \xHH.
 *
 * Return: the number of octets, or -EBADMSG.
 */
MUST_CHECK ptrdiff_t text_unescape(const char *in, char *out);

/** text_is_utf8 - whether @len octets are well-formed UTF-8 */
bool text_is_utf8(const void *in, size_t len);

/**
 * text_number - an unsigned decimal number from octets that came from disk
 * @p: moves past the digits on success
 * @end: where the octets end
 * @max: the largest value accepted
 *
 * Return: 0; -EBADMSG when there is no digit or the value is above @max.
 */
MUST_CHECK int text_number(const uint8_t **p, const uint8_t *end, uint64_t max,
			   uint64_t *out);

/** text_hex - exactly @digits (<= 16) hex digits, either case; else -EBADMSG */
MUST_CHECK int text_hex(const uint8_t *p, unsigned digits, uint64_t *out);

/* A UTC date of the Gregorian calendar, also before its introduction. */
struct text_utc {
	int64_t year;
	unsigned month; /* 1..12 */
	unsigned day;	/* 1..31 */
	unsigned hour, minute, second;
};

/** text_utc - split an instant (seconds since the epoch). Unlike gmtime_r() it
 * takes no lock, knows no leap seconds and cannot fail. */
void text_utc(int64_t date, struct text_utc *out);

/** text_days - days from the epoch to a date; a @day beyond the month's last
 * runs on into the next month. @year: any that text_utc() can yield */
int64_t text_days(int64_t year, unsigned month, unsigned day);
