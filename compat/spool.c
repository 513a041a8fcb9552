#include "compat/spool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "compat/mbxrec.h"
#include "compat/msg.h"

/* A piece of the spool; a line includes its LF, if it has one. */
struct piece {
	const uint8_t *p;
	size_t len;
};

static struct piece line_at(const uint8_t *data, size_t len, size_t at)
{
	const uint8_t *p = data + at;
	const uint8_t *lf = memchr(p, '\n', len - at);

	return (struct piece){ .p = p,
			       .len = lf ? (size_t)(lf - p) + 1 : len - at };
}

static bool is_empty(const struct piece *l)
{
	return (l->len == 1 && l->p[0] == '\n') ||
		(l->len == 2 && l->p[0] == '\r' && l->p[1] == '\n');
}

static bool starts(const struct piece *l, const char *word)
{
	size_t len = strlen(word);

	return l->len >= len && memcmp(l->p, word, len) == 0;
}

/* ---- "From SENDER Wed Dec  2 05:53:22 1992" ------------------------------ */

/* The octet @back before the end of a line. */
static uint8_t back(const struct piece *l, size_t n)
{
	return l->p[l->len - n];
}

enum {
	SHORTEST = 27, /* "From x Wed Dec  2 05:53 1992", less one */
	SHORTEST_REMOTE = 41,
};

/* Quirk: some MTAs add " remote from HOST". */
static void cut_remote(struct piece *l)
{
	static const char words[] = " remote from";
	size_t n = 1;

	if (l->len < SHORTEST_REMOTE)
		return;
	while (n < l->len && back(l, n) != ' ')
		n++;
	n += sizeof(words) - 1;
	if (n < l->len &&
	    memcmp(l->p + l->len - n, words, sizeof(words) - 1) == 0)
		l->len -= n;
}

static bool is_sign(uint8_t c)
{
	return c == '+' || c == '-';
}

/* Both distances are from the end of the line. */
struct from_line {
	size_t time; /* the space after the minutes or seconds */
	size_t zone; /* the space before the zone; 0: there is none */
};

/* Year and zone come in either order; the zone is +hhmm, three letters, or
 * missing. */
static bool find_year(const struct piece *l, struct from_line *out)
{
	*out = (struct from_line){ .time = 0 };
	if (back(l, 5) == ' ') {
		if (back(l, 8) == ':')
			out->time = 5;
		else if (back(l, 9) == ' ')
			out->time = out->zone = 9;
		else if (back(l, 11) == ' ' && is_sign(back(l, 10)))
			out->time = out->zone = 11;
	} else if (back(l, 4) == ' ') {
		if (back(l, 9) == ' ')
			*out = (struct from_line){ .time = 9, .zone = 4 };
	} else if (back(l, 6) == ' ' && back(l, 11) == ' ' &&
		   is_sign(back(l, 5))) {
		*out = (struct from_line){ .time = 11, .zone = 6 };
	}
	return out->time != 0;
}

/* Of the time, "hh:mm" or "hh:mm:ss", only the colons are looked at, and of
 * weekday, month and day only the spaces.
 * @hour: the space before the hour, from the end */
static bool find_hour(const struct piece *l, const struct from_line *f,
		      size_t *hour)
{
	if (back(l, f->time + 3) != ':')
		return false;
	*hour = f->time + (back(l, f->time + 6) == ':' ? 9 : 6);
	return l->len > *hour + 11 && back(l, *hour) == ' ' &&
		back(l, *hour + 3) == ' ' && back(l, *hour + 7) == ' ' &&
		back(l, *hour + 11) == ' ';
}

/* Return: whether @l, a line, starts a message; then it is cut to what ends
 * with the date. */
static bool is_from_line(struct piece *l, struct from_line *f, size_t *hour)
{
	if (!starts(l, "From ") || l->p[l->len - 1] != '\n' ||
	    memchr(l->p, '\0', l->len))
		return false;
	l->len--;
	if (l->len > 0 && back(l, 1) == '\r')
		l->len--;
	cut_remote(l);
	return l->len >= SHORTEST && find_year(l, f) && find_hour(l, f, hour);
}

/* As c-client puts it together: dd-mmm-yyyy hh:mm:ss zone. */
static void read_date(const struct piece *l, const struct from_line *f,
		      size_t hour, struct spool_mail *out)
{
	const uint8_t *end = l->p + l->len, *t = end - hour;
	const uint8_t *year = end - f->time + 1;
	bool seconds = hour - f->time == 9, numeric;
	const char *zone = "+0000";
	char text[64];
	int n;

	/* The year is behind the zone unless the zone comes last. */
	if (f->zone && f->zone == f->time)
		year += is_sign(year[0]) ? 6 : 4;
	if (f->zone)
		zone = (const char *)end - f->zone + 1;
	numeric = is_sign((uint8_t)zone[0]);
	n = snprintf(text, sizeof(text), "%.2s-%.3s-%.4s %.5s:%.2s%c%.*s",
		     (const char *)t - 2, (const char *)t - 6,
		     (const char *)year, (const char *)t + 1,
		     seconds ? (const char *)t + 7 : "00", numeric ? ' ' : '-',
		     numeric ? 5 : 3, zone);
	out->has_zone = f->zone != 0;
	if (mbx_date_parse((const uint8_t *)text, (size_t)n, &out->date) < 0) {
		out->has_zone = true;
		out->date = 0;
	}
}

static bool is_start(const struct piece *line)
{
	struct piece l = *line;
	struct from_line f;
	size_t hour;

	return is_from_line(&l, &f, &hour);
}

/* ---- headers ------------------------------------------------------------- */

/* Of "Status:" and "X-Status:" alike. */
static uint32_t flags_of(const struct piece *l, size_t from)
{
	uint32_t flags = 0;

	for (size_t i = from; i < l->len; i++) {
		switch (l->p[i]) {
		case 'R':
			flags |= MSG_SEEN;
			break;
		case 'D':
			flags |= MSG_DELETED;
			break;
		case 'F':
			flags |= MSG_FLAGGED;
			break;
		case 'A':
			flags |= MSG_ANSWERED;
			break;
		case 'T':
			flags |= MSG_DRAFT;
			break;
		default:
			break;
		}
	}
	return flags;
}

/* "X-IMAP: 1095425162 0000000005 keyword...": not 0, and a number. */
static bool is_pseudo(const struct piece *l)
{
	static const char word[] = "X-IMAP:";
	bool any = false;
	size_t i = sizeof(word) - 1;

	if (!starts(l, word))
		return false;
	while (i < l->len && l->p[i] == ' ')
		i++;
	for (; i < l->len && l->p[i] >= '0' && l->p[i] <= '9'; i++)
		any |= l->p[i] != '0';
	while (i < l->len && l->p[i] == ' ')
		i++;
	return any && i < l->len && l->p[i] >= '0' && l->p[i] <= '9';
}

static void look_at_header(const struct piece *l, bool first,
			   struct spool_mail *out)
{
	static const char status[] = "Status:", x_status[] = "X-Status:";

	if (starts(l, status))
		out->flags |= flags_of(l, sizeof(status) - 1);
	else if (starts(l, x_status))
		out->flags |= flags_of(l, sizeof(x_status) - 1);
	else if (first && is_pseudo(l))
		out->is_pseudo = true;
}

/* Quirk: a name also ends at a blank, so "Status of things" counts. */
static bool is_note(const struct piece *l)
{
	static const char *const names[] = {
		"Status", "X-Status", "X-Keywords",
		"X-UID",  "X-IMAP",   "X-IMAPbase"
	};
	size_t len = 0;

	while (len < l->len && l->p[len] && !strchr(": \t\r\n", l->p[len]))
		len++;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strlen(names[i]) == len &&
		    strncasecmp((const char *)l->p, names[i], len) == 0)
			return true;
	return false;
}

size_t spool_header(const uint8_t *data, const struct spool_mail *m,
		    uint8_t *out)
{
	bool skip = false;
	size_t used = 0;
	struct piece l;

	for (size_t at = m->head; at < m->body; at += l.len) {
		l = line_at(data, m->body, at);
		/* A continuation goes where its line goes. */
		if (l.p[0] != ' ' && l.p[0] != '\t')
			skip = is_note(&l);
		if (skip)
			continue;
		memcpy(out + used, l.p, l.len);
		used += l.len;
	}
	return used;
}

/* ---- messages ------------------------------------------------------------ */

static size_t skip_blanks(const uint8_t *data, size_t len)
{
	size_t at = 0;

	while (at < len && data[at] && strchr("\n\r \t", data[at]))
		at++;
	return at;
}

static size_t read_header(const uint8_t *data, size_t len, bool first,
			  struct spool_mail *out)
{
	size_t at = out->head;
	bool more = true;
	struct piece l;

	for (; more && at < len; at += l.len) {
		l = line_at(data, len, at);
		look_at_header(&l, first, out);
		more = !is_empty(&l);
	}
	return at;
}

static void read_body(const uint8_t *data, size_t len, struct spool_mail *out)
{
	size_t at = out->body, blank = 0;
	struct piece l;

	for (; at < len; at += l.len) {
		l = line_at(data, len, at);
		if (is_start(&l))
			break;
		blank = is_empty(&l) ? l.len : 0;
	}
	out->end = at;
	out->body_len = at - out->body - blank;
}

int spool_next(const uint8_t *data, size_t len, size_t at,
	       struct spool_mail *out)
{
	size_t start = at ? at : skip_blanks(data, len);
	struct from_line f;
	struct piece l;
	size_t hour;

	if (start >= len)
		return -ENOENT;
	*out = (struct spool_mail){ .start = start };
	l = line_at(data, len, start);
	out->head = start + l.len;
	if (!is_from_line(&l, &f, &hour))
		return -EBADMSG;
	read_date(&l, &f, hour, out);
	out->body = read_header(data, len, at == 0, out);
	read_body(data, len, out);
	return 0;
}
