#include "compat/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int text_path(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(buf, size, fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < size)
		return 0;
	if (size)
		buf[0] = '\0';
	return -ENAMETOOLONG;
}

int text_list(const char *list, text_list_fn *fn, void *arg)
{
	AUTO_FREE char *copy = strdup(list);
	char *in = copy, *out = copy, *word = copy;
	int ret = copy ? 0 : -ENOMEM;

	for (; ret == 0; in++) {
		if (in[0] == '\\' && (in[1] == ',' || in[1] == '\\')) {
			*out++ = *++in;
		} else if (*in == ',' || *in == '\0') {
			bool last = *in == '\0';

			*out++ = '\0';
			ret = fn(word, arg);
			word = out;
			if (last)
				break;
		} else {
			*out++ = *in;
		}
	}
	return ret;
}

/* The octets that the character at @p takes, if it is well-formed UTF-8 (RFC
 * 3629: no overlong form, no surrogate, nothing above U+10FFFF); else 0. */
static size_t utf8_len(const uint8_t *p, size_t len)
{
	uint8_t low = 0x80;
	uint8_t high = 0xbf;
	size_t n, i;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (n > len)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (i = 2; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	return n;
}

bool text_is_utf8(const void *in, size_t len)
{
	const uint8_t *p = in;
	size_t n;

	for (; len; p += n, len -= n) {
		n = utf8_len(p, len);
		if (!n)
			return false;
	}
	return true;
}

/* The octets at @p that may be shown as they are; 0: escape the first one. */
static size_t plain_len(const uint8_t *p, size_t len)
{
	size_t n = utf8_len(p, len);

	if (n == 1 && (*p < 0x21 || *p == 0x7f || *p == '\\' || *p == '"'))
		return 0;
	/* C1 controls: U+009B starts a command to many terminals. */
	if (n == 2 && p[0] == 0xc2 && p[1] < 0xa0)
		return 0;
	return n;
}

static size_t put_escape(uint8_t octet, char *out)
{
	static const char digits[] = "0123456789abcdef";

	out[0] = '\\';
	out[1] = 'x';
	out[2] = digits[octet >> 4];
	out[3] = digits[octet & 0xf];
	return 4;
}

const char *text_escape(const void *in, size_t len, char *out, size_t size)
{
	const uint8_t *p = in;
	size_t used = 0;

	if (!size)
		return out;
	while (len) {
		size_t plain = plain_len(p, len);
		size_t eaten = plain ? plain : 1;

		if (used + (plain ? plain : 4) >= size)
			break;
		if (plain)
			memcpy(out + used, p, plain);
		used += plain ? plain : put_escape(*p, out + used);
		p += eaten;
		len -= eaten;
	}
	out[used] = '\0';
	return out;
}

ptrdiff_t text_unescape(const char *in, char *out)
{
	char *start = out;
	uint64_t octet;

	while (*in) {
		if (*in != '\\') {
			*out++ = *in++;
			continue;
		}
		if (in[1] != 'x' || !in[2] || !in[3] ||
		    text_hex((const uint8_t *)in + 2, 2, &octet) < 0)
			return -EBADMSG;
		*out++ = (char)octet;
		in += 4;
	}
	*out = '\0';
	return out - start;
}

int text_number(const uint8_t **p, const uint8_t *end, uint64_t max,
		uint64_t *out)
{
	const uint8_t *s = *p;
	uint64_t n = 0;

	if (s == end || *s < '0' || *s > '9')
		return -EBADMSG;
	for (; s < end && *s >= '0' && *s <= '9'; s++) {
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*s - '0'), &n) ||
		    n > max)
			return -EBADMSG;
	}
	*p = s;
	*out = n;
	return 0;
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int text_hex(const uint8_t *p, unsigned digits, uint64_t *out)
{
	uint64_t n = 0;
	unsigned i;

	for (i = 0; i < digits; i++) {
		int digit = hex_digit(p[i]);

		if (digit < 0)
			return -EBADMSG;
		n = n << 4 | (uint64_t)digit;
	}
	*out = n;
	return 0;
}

/*
 * Years are counted from 1 March 0000, so that the leap day is the last day of
 * a year and 400 years are always 146097 days.
 */
enum { DAYS_BEFORE_EPOCH = 719468, DAYS_400_YEARS = 146097 };

void text_utc(int64_t date, struct text_utc *out)
{
	int64_t days = date / 86400 - (date % 86400 < 0);
	int64_t second = date % 86400 + (date % 86400 < 0 ? 86400 : 0);
	int64_t era, day, year, month;

	days += DAYS_BEFORE_EPOCH;
	era = days / DAYS_400_YEARS - (days % DAYS_400_YEARS < 0);
	day = days - era * DAYS_400_YEARS;
	year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
	day -= 365 * year + year / 4 - year / 100;
	month = (5 * day + 2) / 153;
	out->year = year + era * 400 + (month >= 10);
	out->month = (unsigned)(month < 10 ? month + 3 : month - 9);
	out->day = (unsigned)(day - (153 * month + 2) / 5 + 1);
	out->hour = (unsigned)(second / 3600);
	out->minute = (unsigned)(second / 60 % 60);
	out->second = (unsigned)(second % 60);
}

int64_t text_days(int64_t year, unsigned month, unsigned day)
{
	int64_t y = year - (month <= 2);
	int64_t era = y / 400 - (y % 400 < 0);
	int64_t in_era = y - era * 400;
	int64_t m = month <= 2 ? month + 9 : month - 3;

	return era * DAYS_400_YEARS + in_era * 365 + in_era / 4 - in_era / 100 +
		(153 * m + 2) / 5 + day - 1 - DAYS_BEFORE_EPOCH;
}
