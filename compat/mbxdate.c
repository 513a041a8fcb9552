/*
 * Source: UW IMAP 2007f, src/c-client/mail.c, mail_parse_date(). It reads much
 * more than mail_date() writes, and refuses to open a mailbox with one date
 * that it cannot read; so what it accepts is followed to the letter here.
 *
 * Quirk: three letters are compared as one number, 5 bits a letter, without a
 * check that they are letters. "JB." has the number of "JAN" and is January.
 */
#include "compat/mbxrec.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "compat/text.h"

enum {
	TEXT_MAX = 1023, /* c-client refuses what does not fit its buffer */
	YEAR_MIN = 1970,
	YEAR_MAX = 2097, /* 7 bits above YEAR_MIN */
	ZONE_NONE = INT_MAX,
};

#define CODE(a, b, c) (((a) - 'A') * 1024 + ((b) - 'A') * 32 + ((c) - 'A'))

/* The text left; reads as NUL at its end. */
struct cursor {
	const uint8_t *p;
	const uint8_t *end;
};

struct stamp {
	uint64_t year;
	uint64_t month;
	uint64_t day;
	uint64_t hour;
	uint64_t minute;
	uint64_t second;
	int zone; /* minutes east of Greenwich */
};

static const char months[12][4] = {
	"Jan", "Feb", "Mar", "Apr", "May", "Jun",
	"Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
};

static uint8_t peek(const struct cursor *c, size_t ahead)
{
	uint8_t octet;

	if (ahead >= (size_t)(c->end - c->p))
		return 0;
	octet = c->p[ahead];
	return octet >= 'a' && octet <= 'z' ? (uint8_t)(octet - 0x20) : octet;
}

static uint8_t next(struct cursor *c)
{
	uint8_t octet = peek(c, 0);

	if (octet)
		c->p++;
	return octet;
}

static bool is_alpha(uint8_t octet)
{
	return octet >= 'A' && octet <= 'Z';
}

static bool is_digit(uint8_t octet)
{
	return octet >= '0' && octet <= '9';
}

static bool is_space(uint8_t octet)
{
	return octet == ' ' || (octet >= '\t' && octet <= '\r');
}

static void skip_blanks(struct cursor *c)
{
	while (peek(c, 0) == ' ')
		c->p++;
}

/*
 * What strtoul() makes of it, for c-client uses that: white space, a sign (a
 * minus wraps around), digits; too large is ULONG_MAX; without digits it is 0
 * and nothing is read.
 */
static uint64_t number(struct cursor *c)
{
	struct cursor at = *c;
	uint64_t n = 0;
	bool over = false;
	bool minus;

	while (is_space(peek(&at, 0)))
		at.p++;
	minus = peek(&at, 0) == '-';
	if (minus || peek(&at, 0) == '+')
		at.p++;
	if (!is_digit(peek(&at, 0)))
		return 0;
	for (; is_digit(peek(&at, 0)); at.p++) {
		over |= __builtin_mul_overflow(n, 10, &n);
		over |= __builtin_add_overflow(n,
					       (uint64_t)(peek(&at, 0) - '0'),
					       &n);
	}
	*c = at;
	if (over)
		return UINT64_MAX;
	return minus ? 0 - n : n;
}

/* After the first number of "mm/dd/yy". */
static int read_slashes(struct cursor *c, struct stamp *s)
{
	s->month = s->day;
	c->p++;
	if (!is_digit(peek(c, 0)))
		return -EBADMSG;
	s->day = number(c);
	if (!s->day || next(c) != '/' || !is_digit(peek(c, 0)))
		return -EBADMSG;
	s->year = number(c);
	return peek(c, 0) ? -EBADMSG : 0;
}

/* After the first number of "yyyy-mm-dd", which takes no time. */
static int read_iso(struct cursor *c, struct stamp *s)
{
	s->year = s->day;
	c->p++;
	s->month = number(c);
	if (!s->month || next(c) != '-')
		return -EBADMSG;
	s->day = number(c);
	return s->day && !peek(c, 0) ? 0 : -EBADMSG;
}

/* Nothing after the first number: "yyyymmdd". Quirk: 00 is taken as 01. */
static int read_compact(struct stamp *s)
{
	uint64_t n = s->day;

	if (n / 10000 < YEAR_MIN)
		return -EBADMSG;
	s->year = n / 10000;
	s->month = n / 100 % 100;
	s->day = n % 100;
	if (!s->month)
		s->month = 1;
	if (!s->day)
		s->day = 1;
	return 0;
}

static int month_of(int code)
{
	int i;

	for (i = 0; i < 12; i++) {
		const char *m = months[i];

		if (code == CODE(m[0], m[1] - 0x20, m[2] - 0x20))
			return i + 1;
	}
	return 0;
}

/* After the day of "dd-mmm-yyyy" or "dd mmmmmm yyyy". */
static int read_month(struct cursor *c, struct stamp *s)
{
	uint8_t delimiter = peek(c, 0);
	int month;

	if (c->end - c->p < 5)
		return -EBADMSG;
	month = month_of(CODE(peek(c, 1), peek(c, 2), peek(c, 3)));
	if (!month)
		return -EBADMSG;
	s->month = (uint64_t)month;
	c->p += 4;
	while (is_alpha(peek(c, 0)))
		c->p++;
	if (next(c) != delimiter)
		return -EBADMSG;
	skip_blanks(c);
	if (!is_digit(peek(c, 0)))
		return -EBADMSG;
	s->year = number(c);
	return peek(c, 0) == '\0' || peek(c, 0) == ' ' ? 0 : -EBADMSG;
}

static void skip_weekday(struct cursor *c)
{
	if (is_alpha(peek(c, 0)) && is_alpha(peek(c, 1)) &&
	    is_alpha(peek(c, 2)) && peek(c, 3) == ',' && peek(c, 4) == ' ')
		c->p += 5;
	skip_blanks(c);
}

/* Fill in year, month and day, as they stand. */
static int read_numbers(struct cursor *c, struct stamp *s)
{
	skip_weekday(c);
	s->day = number(c);
	if (!s->day)
		return -EBADMSG;
	switch (peek(c, 0)) {
	case '\0':
		return read_compact(s);
	case '/':
		return read_slashes(c, s);
	case ' ':
		while (peek(c, 1) == ' ')
			c->p++;
		break;
	case '-':
		break;
	default:
		return -EBADMSG;
	}
	return is_digit(peek(c, 1)) ? read_iso(c, s) : read_month(c, s);
}

static int read_date(struct cursor *c, struct stamp *s)
{
	int err = read_numbers(c, s);

	if (err < 0)
		return err;
	if (s->year < 49)
		s->year += 2000;
	else if (s->year < 999)
		s->year += 1900;
	if (s->day > 31 || s->month > 12 || s->year < YEAR_MIN ||
	    s->year > YEAR_MAX)
		return -EBADMSG;
	return 0;
}

/* One or more letters as c-client packs them; ZONE_NONE: too many. */
static int zone_code(struct cursor *c)
{
	uint8_t first = next(c);
	int code;

	if (!first)
		return 'Z';
	if (!peek(c, 0))
		return first;
	code = (first - 'A') * 1024 + (next(c) - 'A') * 32;
	if (peek(c, 0))
		code += next(c) - 'A';
	return peek(c, 0) ? ZONE_NONE : code;
}

/*
 * The letters of RFC 822 as the military meant them (there is no J), and the
 * names that c-client knows in its default build (so no "BST").
 */
static int zone_minutes(int code)
{
	static const char east[] = "ZABCDEFGHIKLM";
	static const char west[] = "ZNOPQRSTUVWXY";
	static const struct {
		int code;
		int hours;
	} names[] = {
		{ CODE('U', 'T', 'A'), 0 },   { CODE('U', 'T', 'C'), 0 },
		{ CODE('G', 'M', 'T'), 0 },   { CODE('M', 'E', 'T'), 1 },
		{ CODE('E', 'E', 'T'), 2 },   { CODE('J', 'S', 'T'), 9 },
		{ CODE('A', 'D', 'T'), -3 },  { CODE('A', 'S', 'T'), -4 },
		{ CODE('E', 'D', 'T'), -4 },  { CODE('E', 'S', 'T'), -5 },
		{ CODE('C', 'D', 'T'), -5 },  { CODE('C', 'S', 'T'), -6 },
		{ CODE('M', 'D', 'T'), -6 },  { CODE('M', 'S', 'T'), -7 },
		{ CODE('P', 'D', 'T'), -7 },  { CODE('P', 'S', 'T'), -8 },
		{ CODE('Y', 'D', 'T'), -8 },  { CODE('Y', 'S', 'T'), -9 },
		{ CODE('H', 'S', 'T'), -10 },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(names); i++) {
		if (code == names[i].code)
			return names[i].hours * 60;
	}
	for (i = 0; i < ARRAY_LEN(east) - 1; i++) {
		if (code == east[i])
			return (int)i * 60;
		if (code == west[i])
			return -(int)i * 60;
	}
	return 0;
}

/* After the blanks: "+hhmm", with or without sign; else the zone is UTC. */
static int zone_digits(struct cursor *c)
{
	bool west = peek(c, 0) == '-';
	int hours;

	if (west || peek(c, 0) == '+')
		c->p++;
	if (!is_digit(peek(c, 0)) || !is_digit(peek(c, 1)) ||
	    !is_digit(peek(c, 2)) || peek(c, 2) > '5' || !is_digit(peek(c, 3)))
		return 0;
	/* Quirk: c-client keeps 4 bits of the hours. */
	hours = ((peek(c, 0) - '0') * 10 + (peek(c, 1) - '0')) & 0xf;
	hours = hours * 60 + (peek(c, 2) - '0') * 10 + (peek(c, 3) - '0');
	return west ? -hours : hours;
}

static int read_zone(struct cursor *c)
{
	uint8_t delimiter = next(c);

	if (delimiter != ' ' && delimiter != '-')
		return 0;
	if (delimiter == ' ') {
		skip_blanks(c);
		if (!is_alpha(peek(c, 0)))
			return zone_digits(c);
	}
	return zone_minutes(zone_code(c));
}

static int read_time(struct cursor *c, struct stamp *s)
{
	c->p++;
	s->hour = number(c);
	if (next(c) != ':')
		return -EBADMSG;
	s->minute = number(c);
	if (peek(c, 0) == ':') {
		c->p++;
		s->second = number(c);
	}
	if (s->hour > 23 || s->minute > 59 || s->second > 60)
		return -EBADMSG;
	s->zone = read_zone(c);
	return 0;
}

int mbx_date_parse(const uint8_t *p, size_t len, int64_t *out)
{
	struct cursor c = { p, p + strnlen((const char *)p, len) };
	struct stamp s = { 0 };
	int64_t minutes;

	if (c.end - c.p > TEXT_MAX || read_date(&c, &s) < 0)
		return -EBADMSG;
	if (peek(&c, 0) && read_time(&c, &s) < 0)
		return -EBADMSG;
	minutes = 1440 *
		text_days((int64_t)s.year, (unsigned)s.month, (unsigned)s.day);
	minutes += (int64_t)(s.hour * 60 + s.minute) - s.zone;
	/* Quirk: no instant before the epoch, whatever the zone. */
	*out = minutes < 0 ? 0 : minutes * 60 + (int64_t)s.second;
	return 0;
}

int64_t mbx_date_clamp(int64_t date)
{
	int64_t first = text_days(YEAR_MIN, 1, 1) * 86400;
	int64_t last = text_days(YEAR_MAX + 1, 1, 1) * 86400 - 1;

	if (date < first)
		return first;
	return date > last ? last : date;
}

void mbx_date_format(int64_t date, char *out)
{
	struct text_utc t;

	text_utc(mbx_date_clamp(date), &t);
	(void)snprintf(out, MBX_DATE_LEN + 1,
		       "%2u-%s-%04u %02u:%02u:%02u +0000", t.day % 100,
		       months[t.month - 1], (unsigned)t.year % 10000,
		       t.hour % 100, t.minute % 100, t.second % 100);
}
