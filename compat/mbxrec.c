/*
 * offset  len  MBX file header, 2048 octets
 *      0    7  "*mbx*" CR LF
 *      7    8  UIDVALIDITY, hex         15  8  UIDLAST, hex       23  2  CR LF
 *     25    -  up to 30 keyword names, each CR LF; unused ones are empty lines
 *   2038    8  process that last wrote flags, hex             2046  2  CR LF
 *
 * record line, at most 64 octets, then the message
 *      0    -  date "," size ";"
 *    -23    8  keywords, hex           -15  4  flags, hex        -11  1  "-"
 *    -10    8  UID, hex                 -2  2  CR LF
 *
 * Source: UW IMAP 2007f, src/osdep/unix/mbx.c: mbx_isvalid(), mbx_parse(),
 * mbx_update_header(), mbx_update_status(), mbx_append().
 */
#include "compat/mbxrec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "compat/text.h"

enum {
	HEAD_UIDVALIDITY = 7,
	HEAD_UIDLAST = 15,
	HEAD_CRLF = 23,
	HEAD_KEYWORDS = 25,
	HEAD_PID = MBX_HEADER_SIZE - 10,
	FIELD_SIZE = MBX_FIELD_BACK + 1, /* with the ';' */
	SNIFF_LINE = 64,
};

static const char magic[] = "*mbx*\r\n";

static int bad(struct mbx_fault *fault, size_t off, const char *want)
{
	if (fault) {
		fault->off = off;
		fault->want = want;
	}
	return -EBADMSG;
}

static int hex32(const uint8_t *p, unsigned digits, uint32_t *out)
{
	uint64_t n = 0;
	int err = text_hex(p, digits, &n);

	*out = (uint32_t)n;
	return err;
}

static bool is_crlf(const uint8_t *p)
{
	return p[0] == '\r' && p[1] == '\n';
}

/* The first octet @c before the first NUL. */
static const uint8_t *find(const uint8_t *p, const uint8_t *end, uint8_t c)
{
	for (; p < end && *p; p++) {
		if (*p == c)
			return p;
	}
	return NULL;
}

/*
 * Quirk: what follows the CR is skipped unseen, and a line too long to be a
 * name (more than 50 octets) is passed over, not the end.
 */
static void parse_keywords(const uint8_t *head, struct mbx_header *out)
{
	const uint8_t *end = head + MBX_HEADER_SIZE;
	const uint8_t *p = head + HEAD_KEYWORDS;
	unsigned slot;

	for (slot = 0; slot < MBX_KEYWORDS; slot++) {
		const uint8_t *cr = find(p, end, '\r');

		if (!cr || cr == p)
			break;
		if (cr - p <= MBX_KEYWORD_MAX)
			memcpy(out->keywords.name[slot], p, (size_t)(cr - p));
		p = cr + 2;
	}
	out->keyword_lines = slot;
	/* c-client reads no further; names behind a hole are lost with the
	 * next header it writes. */
	for (; slot < MBX_KEYWORDS; slot++) {
		const uint8_t *cr = find(p, end, '\r');

		if (!cr || cr + 2 > end)
			break;
		out->keyword_hidden += cr > p;
		p = cr + 2;
	}
}

int mbx_header_parse(const uint8_t *p, size_t len, struct mbx_header *out,
		     struct mbx_fault *fault)
{
	struct mbx_header h = { 0 };

	if (len < MBX_HEADER_SIZE)
		return bad(fault, len, "2048 octets of header");
	if (memcmp(p, magic, sizeof(magic) - 1) != 0)
		return bad(fault, 0, "*mbx* CR LF");
	if (hex32(p + HEAD_UIDVALIDITY, 8, &h.uidvalidity) < 0)
		return bad(fault, HEAD_UIDVALIDITY,
			   "UIDVALIDITY of 8 hex digits");
	if (hex32(p + HEAD_UIDLAST, 8, &h.uidlast) < 0)
		return bad(fault, HEAD_UIDLAST, "UIDLAST of 8 hex digits");
	if (!is_crlf(p + HEAD_CRLF))
		return bad(fault, HEAD_CRLF, "CR LF after UIDLAST");
	parse_keywords(p, &h);
	h.has_pid = is_crlf(p + HEAD_PID + 8) &&
		hex32(p + HEAD_PID, 8, &h.pid) == 0;
	*out = h;
	return 0;
}

/* Whether all names can be read back: an empty line would hide those after. */
static bool keywords_fit(const struct keywords *k)
{
	bool ended = false;
	size_t i, n;

	for (i = 0; i < ARRAY_LEN(k->name); i++) {
		n = strnlen(k->name[i], sizeof(k->name[i]));
		if (!n)
			ended = true;
		else if (ended || i >= MBX_KEYWORDS || n > MBX_KEYWORD_MAX ||
			 memchr(k->name[i], '\r', n))
			return false;
	}
	return true;
}

int mbx_header_format(const struct mbx_header *h, uint8_t *out)
{
	char *text = (char *)out;
	size_t used;
	size_t i;

	if (!keywords_fit(&h->keywords))
		return -EINVAL;
	memset(out, 0, MBX_HEADER_SIZE);
	used = (size_t)snprintf(text, MBX_HEADER_SIZE, "%s%08x%08x\r\n", magic,
				h->uidvalidity, h->uidlast);
	for (i = 0; i < MBX_KEYWORDS; i++)
		used += (size_t)snprintf(text + used, MBX_HEADER_SIZE - used,
					 "%s\r\n", h->keywords.name[i]);
	if (h->has_pid) {
		char pid[11];

		(void)snprintf(pid, sizeof(pid), "%08x\r\n", h->pid);
		memcpy(out + HEAD_PID, pid, 10);
	}
	return 0;
}

bool mbx_keyword_valid(const char *name)
{
	size_t n = strlen(name);
	size_t i;

	if (n < 1 || n > MBX_KEYWORD_MAX)
		return false;
	for (i = 0; i < n; i++) {
		if (name[i] < 0x21 || name[i] > 0x7e ||
		    strchr("*%\"\\(){]", name[i]))
			return false;
	}
	return true;
}

/*
 * The octets of the first line, CR LF included. What more octets cannot mend,
 * a NUL or a bare CR, is -EBADMSG even where the octets are few.
 */
static int find_line(const uint8_t *p, size_t len, size_t *out,
		     struct mbx_fault *fault)
{
	size_t i;

	for (i = 0; i < len && p[i] && p[i] != '\r'; i++)
		;
	if (i < len && !p[i])
		return bad(fault, i, "record line without NUL");
	if (i + 1 < len) {
		*out = i + 2;
		return p[i + 1] == '\n' ? 0 : bad(fault, i, "CR LF");
	}
	if (len < MBX_LINE_WINDOW)
		return -EAGAIN;
	return bad(fault, 0, "record line of at most 64 octets");
}

static int parse_size(const uint8_t *p, const uint8_t *end, uint64_t *out)
{
	if (text_number(&p, end, 9999999999999, out) < 0 || p != end)
		return -EBADMSG;
	return *out ? 0 : -EBADMSG;
}

int mbx_field_parse(const uint8_t *p, struct mbx_record *out)
{
	uint32_t keywords, flags, uid;

	if (p[0] != ';' || hex32(p + 1, 8, &keywords) < 0 ||
	    hex32(p + 9, 4, &flags) < 0 || p[13] != '-' ||
	    hex32(p + 14, 8, &uid) < 0 || !is_crlf(p + 22))
		return -EBADMSG;
	out->keywords = keywords;
	out->flags = flags;
	out->uid = uid;
	return 0;
}

int mbx_record_parse(const uint8_t *p, size_t len, struct mbx_record *out,
		     struct mbx_fault *fault)
{
	struct mbx_record r = { 0 };
	const uint8_t *comma, *field, *cr;
	size_t line;
	int err;

	if (len > MBX_LINE_WINDOW)
		len = MBX_LINE_WINDOW;
	err = find_line(p, len, &line, fault);
	if (err < 0)
		return err;
	cr = p + line - 2;
	comma = find(p, cr, ',');
	if (!comma)
		return bad(fault, 0, "date and comma");
	field = find(comma + 1, cr, ';');
	if (!field)
		return bad(fault, (size_t)(comma + 1 - p),
			   "size and semicolon");
	if (p + line - field != FIELD_SIZE || mbx_field_parse(field, &r) < 0)
		return bad(fault, (size_t)(field + 1 - p),
			   "12 hex digits, minus, 8 hex digits, CR LF");
	if (parse_size(comma + 1, field, &r.size) < 0)
		return bad(fault, (size_t)(comma + 1 - p),
			   "size, decimal, not 0");
	r.line = (uint32_t)line;
	r.date_len = (uint32_t)(comma - p);
	r.date_ok = mbx_date_parse(p, r.date_len, &r.date) == 0;
	*out = r;
	return 0;
}

ptrdiff_t mbx_record_format(const struct mbx_record *r, uint8_t *out)
{
	char date[MBX_DATE_LEN + 1];
	char line[MBX_LINE_MAX + 1];
	int n;

	if (!r->size || r->size > 9999999999999)
		return -EINVAL;
	mbx_date_format(r->date, date);
	n = snprintf(line, sizeof(line), "%s,%llu;%08x%04x-%08x\r\n", date,
		     (unsigned long long)r->size, r->keywords,
		     r->flags & 0xffff, r->uid);
	memcpy(out, line, (size_t)n);
	return n;
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

/* "/dd dd:dd" against text: 'd' stands for a digit, '.' for any octet. */
static bool looks_like(const uint8_t *p, const uint8_t *end, const char *shape)
{
	for (; *shape; shape++, p++) {
		if (p == end)
			return false;
		if (*shape == 'd' ? !is_digit(*p)
				  : *shape != '.' && *shape != (char)*p)
			return false;
	}
	return true;
}

/* After the minutes of a "From " line: seconds, year and zone, line end. */
static bool ends_from_line(const uint8_t *p, const uint8_t *end)
{
	static const char *const shapes[] = {
		" dddd", " dddd ...", " dddd .dddd", " ... dddd", " .dddd dddd",
	};
	size_t len, i;

	if (looks_like(p, end, ":dd"))
		p += 3;
	len = (size_t)(end - p);
	for (i = 0; i < ARRAY_LEN(shapes); i++) {
		if (looks_like(p, end, shapes[i]) &&
		    (strlen(shapes[i]) == len ||
		     looks_like(p + strlen(shapes[i]), end, " remote from ")))
			return true;
	}
	return false;
}

/*
 * "From " anybody, then "www mmm dd hh:mm", seconds or not, year and zone in
 * the orders that c-client's unix driver knows (src/osdep/unix/unix.h, VALID).
 */
static bool is_from_line(const uint8_t *p, const uint8_t *end)
{
	static const char date[] = " ... ... .d dd:dd";
	const uint8_t *lf;

	if (!looks_like(p, end, "From "))
		return false;
	lf = memchr(p, '\n', (size_t)(end - p));
	if (!lf)
		return false;
	end = lf[-1] == '\r' ? lf - 1 : lf;
	for (p += 4; p < end; p++) {
		if (looks_like(p, end, date) &&
		    ends_from_line(p + sizeof(date) - 1, end))
			return true;
	}
	return false;
}

static bool is_mbox(const uint8_t *p, const uint8_t *end)
{
	uint8_t last = '\n';

	for (; p < end && strchr("\r\n \t", *p) && *p; p++)
		last = *p;
	return last == '\n' && is_from_line(p, end);
}

/* MTX and Tenex: a record line as in MBX, at the very start, in octal. */
static enum mbx_kind sniff_tenex(const uint8_t *p, size_t len)
{
	const uint8_t *end = p + (len < SNIFF_LINE ? len : SNIFF_LINE);
	const uint8_t *lf = find(p, end, '\n');
	const uint8_t *cr = find(p, end, '\r');
	const uint8_t *comma;

	if (!lf || lf - p < 20 || (cr && cr < lf - 1))
		return MBX_IS_OTHER;
	if (!looks_like(p + 2, end, "-...-"))
		return MBX_IS_OTHER;
	comma = find(p + 18, lf, ',');
	if (!comma || !find(comma + 1, lf, ';'))
		return MBX_IS_OTHER;
	return lf[-1] == '\r' ? MBX_IS_MTX : MBX_IS_TENEX;
}

enum mbx_kind mbx_sniff(const uint8_t *p, size_t len)
{
	struct mbx_header h;

	if (!len)
		return MBX_IS_EMPTY;
	if (looks_like(p, p + len, "*mbx*"))
		return mbx_header_parse(p, len, &h, NULL) == 0 ? MBX_IS_MBX
							       : MBX_IS_DAMAGED;
	if (looks_like(p, p + len, "\1\1\1\1\n"))
		return MBX_IS_MMDF;
	if (is_mbox(p, p + len))
		return MBX_IS_MBOX;
	return sniff_tenex(p, len);
}

const char *mbx_kind_name(enum mbx_kind kind)
{
	switch (kind) {
	case MBX_IS_MBX:
		return "MBX";
	case MBX_IS_EMPTY:
		return "empty";
	case MBX_IS_DAMAGED:
		return "damaged MBX";
	case MBX_IS_MBOX:
		return "unix mbox";
	case MBX_IS_MTX:
		return "MTX";
	case MBX_IS_TENEX:
		return "Tenex";
	case MBX_IS_MMDF:
		return "MMDF";
	case MBX_IS_OTHER:
		break;
	}
	return "not a mail file";
}
