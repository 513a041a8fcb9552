#include "compat/mbxswitch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "compat/io.h"
#include "compat/mbxrec.h"
#include "compat/msg.h"
#include "compat/text.h"

/*
 * offset  len  the note, ASCII, hex digits; the place is at 1600 of the file
 *      0   18  "janusmail-compact "
 *     18   16  offset in the file
 *     34    2  octets there that change
 *     36  128  what they were, zeros behind
 *    164  128  what they become, zeros behind
 *    292    1  ";"
 */
enum {
	NOTE_AT = MBXSWITCH_NOTE_AT,
	NOTE_OFF = 18,
	NOTE_LEN = 34,
	NOTE_OLD = 36,
	NOTE_NEW = NOTE_OLD + 2 * MBXSWITCH_MAX,
	NOTE_END = NOTE_NEW + 2 * MBXSWITCH_MAX,
	NOTE_SIZE = NOTE_END + 1,
	HOLE_DATE = 26,
	HOLE_REST = 25, /* of a line, but for date and digits of the size */
};

_Static_assert(NOTE_AT > 25 + MBX_KEYWORDS * (MBX_KEYWORD_MAX + 2) &&
		       NOTE_AT + NOTE_SIZE <= MBX_HEADER_SIZE - 10 &&
		       NOTE_AT / 512 == (NOTE_AT + NOTE_SIZE - 1) / 512,
	       "the note lies in the padding, on one sector");

static const char magic[] = "janusmail-compact ";

struct note {
	uint64_t at;
	size_t len;
	uint8_t old[MBXSWITCH_MAX], new[MBXSWITCH_MAX];
};

static void put_hex(uint8_t *out, const uint8_t *data)
{
	char digits[3];
	size_t i;

	for (i = 0; i < MBXSWITCH_MAX; i++) {
		(void)snprintf(digits, sizeof(digits), "%02x", data[i]);
		memcpy(out + 2 * i, digits, 2);
	}
}

static int get_hex(const uint8_t *p, uint8_t *out)
{
	uint64_t n;
	size_t i;

	for (i = 0; i < MBXSWITCH_MAX; i++) {
		if (text_hex(p + 2 * i, 2, &n) < 0)
			return -EBADMSG;
		out[i] = (uint8_t)n;
	}
	return 0;
}

static void format_note(const struct note *n, uint8_t *out)
{
	char head[NOTE_OLD + 1];

	(void)snprintf(head, sizeof(head), "%s%016jx%02zx", magic,
		       (uintmax_t)n->at, n->len);
	memcpy(out, head, NOTE_OLD);
	put_hex(out + NOTE_OLD, n->old);
	put_hex(out + NOTE_NEW, n->new);
	out[NOTE_END] = ';';
}

static int parse_note(const uint8_t *p, struct note *out)
{
	uint64_t len;

	if (memcmp(p, magic, NOTE_OFF) != 0 || p[NOTE_END] != ';' ||
	    text_hex(p + NOTE_OFF, 16, &out->at) < 0 ||
	    text_hex(p + NOTE_LEN, 2, &len) < 0 || !len ||
	    len > MBXSWITCH_MAX || out->at < MBX_HEADER_SIZE ||
	    get_hex(p + NOTE_OLD, out->old) < 0 ||
	    get_hex(p + NOTE_NEW, out->new) < 0)
		return -EBADMSG;
	out->len = (size_t)len;
	return 0;
}

static int read_exactly(int fd, void *buf, size_t len, uint64_t off)
{
	ssize_t n = io_read_at(fd, buf, len, off);

	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -EBADMSG;
}

/* Return: 1: @out is the note; 0: zeros; -EBADMSG: something else. */
static int read_note(int fd, struct note *out)
{
	uint8_t raw[NOTE_SIZE];
	size_t i;
	int rc = read_exactly(fd, raw, sizeof(raw), NOTE_AT);

	if (rc)
		return rc;
	if (parse_note(raw, out) == 0)
		return 1;
	for (i = 0; i < sizeof(raw); i++) {
		if (raw[i])
			return -EBADMSG;
	}
	return 0;
}

/* @now: the first @k octets as in @a, the others as in @b, for some @k. */
static bool is_mix(const uint8_t *now, const uint8_t *a, const uint8_t *b,
		   size_t len)
{
	size_t k = 0;

	while (k < len && now[k] == a[k])
		k++;
	return memcmp(now + k, b + k, len - k) == 0;
}

static int is_torn(int fd, const struct note *n)
{
	uint8_t now[MBXSWITCH_MAX];
	int rc = read_exactly(fd, now, n->len, n->at);

	/* A file that is shorter has gone on since. */
	if (rc == -EBADMSG)
		return 0;
	if (rc)
		return rc;
	if (memcmp(now, n->old, n->len) == 0 ||
	    memcmp(now, n->new, n->len) == 0)
		return 0;
	return is_mix(now, n->new, n->old, n->len) ||
		is_mix(now, n->old, n->new, n->len);
}

static int look(int fd, struct note *n, enum mbxswitch_state *out)
{
	int rc = read_note(fd, n);

	*out = MBXSWITCH_NONE;
	if (rc <= 0)
		return rc;
	rc = is_torn(fd, n);
	if (rc >= 0)
		*out = rc ? MBXSWITCH_TORN : MBXSWITCH_DONE;
	return rc < 0 ? rc : 0;
}

int mbxswitch_look(int fd, enum mbxswitch_state *out)
{
	struct note n;

	return look(fd, &n, out);
}

int mbxswitch_recover(int fd)
{
	static const uint8_t zeros[NOTE_SIZE];
	enum mbxswitch_state state;
	struct note n;
	int rc = look(fd, &n, &state);

	if (rc || state == MBXSWITCH_NONE)
		return rc;
	if (state == MBXSWITCH_TORN) {
		rc = io_pwrite(fd, n.new, n.len, n.at);
		if (rc == 0)
			rc = io_fsync(fd);
	}
	if (rc == 0)
		rc = io_pwrite(fd, zeros, sizeof(zeros), NOTE_AT);
	return rc == 0 ? io_fsync(fd) : rc;
}

int mbxswitch_write(int fd, uint64_t at, const uint8_t *data, size_t len)
{
	struct note n, before;
	uint8_t raw[NOTE_SIZE];
	int rc = read_note(fd, &before);

	if (rc < 0)
		return rc;
	n = (struct note){ .at = at, .len = len };
	memcpy(n.new, data, len);
	rc = read_exactly(fd, n.old, len, at);
	if (rc)
		return rc;
	format_note(&n, raw);
	rc = io_pwrite(fd, raw, sizeof(raw), NOTE_AT);
	if (rc == 0)
		rc = io_fsync(fd);
	if (rc == 0)
		rc = io_pwrite(fd, data, len, at);
	return rc == 0 ? io_fsync(fd) : rc;
}

/* How many digits make line and message fill @region. */
static unsigned size_digits(uint64_t region, unsigned rest)
{
	uint64_t limit = 10;
	unsigned digits = 1;

	while (region - rest - digits >= limit) {
		limit *= 10;
		digits++;
	}
	return digits;
}

/* Of an expunged record UW does not read the date (mbx.c, mbx_parse()), so
 * where there is no room for one it is empty. */
size_t mbxswitch_hole(uint64_t region, uint32_t uid, uint8_t *out)
{
	bool dated = region > HOLE_DATE + HOLE_REST + 1;
	unsigned rest = HOLE_REST + (dated ? HOLE_DATE : 0);
	unsigned digits = size_digits(region, rest);
	char line[MBXSWITCH_MAX + 1];
	int n;

	/* A size with one digit more may have one digit less: 0-padded. */
	n = snprintf(line, sizeof(line), "%s,%0*ju;%08x%04x-%08x\r\n",
		     dated ? " 1-Jan-1970 00:00:00 +0000" : "", (int)digits,
		     (uintmax_t)(region - rest - digits), 0U,
		     (unsigned)(MSG_EXPUNGED | MSG_OLD | MSG_DELETED), uid);
	memcpy(out, line, (size_t)n);
	return (size_t)n;
}
