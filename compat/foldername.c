#include "compat/foldername.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "compat/digest.h"
#include "compat/text.h"

/* "_" and the hash; what the name may have beside it. */
enum { HASH_LEN = 17, CUT_MAX = FOLDERNAME_MAX - HASH_LEN };
enum { VARIANTS = 1000 }; /* of a name that is taken */
enum { LEVELS_MAX = 20 }; /* mbxwalk.c looks no deeper */

/*
 * A name as code points, '/' between levels. Each becomes at least one octet,
 * so that more than this many can only be cut.
 */
struct points {
	uint32_t cp[FOLDERNAME_MAX];
	size_t count;
	bool full;
	bool changed;
	enum foldername_dots dots;
};

static void push(struct points *pts, uint32_t cp)
{
	if (pts->count == ARRAY_LEN(pts->cp))
		pts->full = true;
	else
		pts->cp[pts->count++] = cp;
}

/* A code point of the name that must be given up. */
static void push_instead(struct points *pts, uint32_t cp)
{
	push(pts, cp);
	pts->changed = true;
}

static void push_text(struct points *pts, uint32_t cp)
{
	bool control = cp < 0x20 || (cp >= 0x7f && cp < 0xa0);
	bool special = cp == '.' || (cp == '~' && pts->count == 0);

	if (control || (special && pts->dots == DOTS_UNDERSCORE))
		push_instead(pts, '_');
	else
		push(pts, cp);
}

static const char base64[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static int base64_value(char c)
{
	const char *at = c ? strchr(base64, c) : NULL;

	return at ? (int)(at - base64) : -1;
}

/* The inside of one shift: base64 of UTF-16. */
struct shift {
	uint32_t bits; /* the lowest @left of them are not used yet */
	unsigned left;
	uint32_t high; /* the first half of a surrogate pair */
	bool any;
};

/* Return: 1 and a code point in @cp_out; 0 when there is none yet; -EBADMSG. */
static int shift_add(struct shift *s, char c, uint32_t *cp_out)
{
	int value = base64_value(c);
	uint32_t unit;

	if (value < 0)
		return -EBADMSG;
	s->bits = s->bits << 6 | (uint32_t)value;
	s->left += 6;
	if (s->left < 16)
		return 0;
	s->left -= 16;
	unit = s->bits >> s->left & 0xffff;
	s->bits &= (1U << s->left) - 1;
	s->any = true;
	if (unit >= 0xd800 && unit < 0xdc00 && !s->high) {
		s->high = unit;
		return 0;
	}
	if ((unit >= 0xdc00 && unit < 0xe000) != (s->high != 0))
		return -EBADMSG;
	if (unit >= 0x20 && unit < 0x7f)
		return -EBADMSG;
	*cp_out = unit;
	if (s->high)
		*cp_out = 0x10000 + ((s->high & 0x3ff) << 10) + (unit & 0x3ff);
	s->high = 0;
	return 1;
}

/* @p is behind the '&'; @pts may be NULL. Return: behind the '-'; NULL. */
static const char *read_shift(const char *p, const char *end,
			      struct points *pts)
{
	struct shift s = { .any = false };
	uint32_t cp;
	int rc;

	for (; p < end && *p != '-'; p++) {
		rc = shift_add(&s, *p, &cp);
		if (rc < 0)
			return NULL;
		if (rc && pts)
			push_text(pts, cp);
	}
	if (p == end || !s.any || s.high || s.left >= 6 || s.bits)
		return NULL;
	p++;
	/* Two shifts that should have been one. */
	if (p + 1 < end && p[0] == '&' && p[1] != '-')
		return NULL;
	return p;
}

static int read_mutf7(const char *p, const char *end, struct points *pts)
{
	while (p < end) {
		char c = *p++;

		if (c < 0x20 || c > 0x7e)
			return -EBADMSG;
		if (c == '&' && p < end && *p == '-') {
			p++;
		} else if (c == '&') {
			p = read_shift(p, end, pts);
			if (!p)
				return -EBADMSG;
			continue;
		}
		if (pts)
			push_text(pts, (uint32_t)c);
	}
	return 0;
}

bool foldername_mutf7_valid(const char *name, size_t len)
{
	return read_mutf7(name, name + len, NULL) == 0;
}

static void read_utf8(const char *p, const char *end, struct points *pts)
{
	uint32_t cp, more;

	while (p < end) {
		cp = (unsigned char)*p++;
		more = cp < 0x80 ? 0 : cp < 0xe0 ? 1 : cp < 0xf0 ? 2 : 3;
		if (more)
			cp &= 0x3fU >> more;
		for (; more; more--)
			cp = cp << 6 | ((unsigned char)*p++ & 0x3f);
		push_text(pts, cp);
	}
}

static bool is_inbox(const struct points *pts)
{
	static const char inbox[] = "INBOX";
	size_t i;

	if (pts->count != sizeof(inbox) - 1)
		return false;
	for (i = 0; i < pts->count; i++) {
		if ((pts->cp[i] & ~0x20U) != (unsigned char)inbox[i])
			return false;
	}
	return true;
}

static void read_level(const char *p, const char *end, struct points *pts)
{
	size_t len = (size_t)(end - p);

	if (!len) {
		push_instead(pts, '_');
	} else if (foldername_mutf7_valid(p, len)) {
		(void)read_mutf7(p, end, pts);
	} else if (text_is_utf8(p, len)) {
		pts->changed = true;
		read_utf8(p, end, pts);
	} else {
		pts->changed = true;
		while (p < end)
			push_text(pts, (unsigned char)*p++);
	}
}

static void read_name(const char *legacy, struct points *pts)
{
	const char *end = strchrnul(legacy, '/');

	read_level(legacy, end, pts);
	if (is_inbox(pts)) {
		push_instead(pts, '_');
		push_instead(pts, '2');
	}
	while (*end && !pts->full) {
		legacy = end + 1;
		end = strchrnul(legacy, '/');
		push(pts, '/');
		read_level(legacy, end, pts);
	}
}

/* Writing: what does not fit is counted but not stored. */
struct writer {
	char *out;
	size_t len;
	uint32_t bits;
	unsigned left;
	bool shifted;
};

static void put(struct writer *w, char c)
{
	if (w->len < FOLDERNAME_MAX)
		w->out[w->len] = c;
	w->len++;
}

static void put_bits(struct writer *w, uint32_t unit)
{
	w->bits = w->bits << 16 | unit;
	for (w->left += 16; w->left >= 6; w->left -= 6)
		put(w, base64[w->bits >> (w->left - 6) & 0x3f]);
	w->bits &= (1U << w->left) - 1;
}

static void put_wide(struct writer *w, uint32_t cp)
{
	if (!w->shifted)
		put(w, '&');
	w->shifted = true;
	if (cp < 0x10000) {
		put_bits(w, cp);
		return;
	}
	put_bits(w, 0xd800 + ((cp - 0x10000) >> 10));
	put_bits(w, 0xdc00 + ((cp - 0x10000) & 0x3ff));
}

static void end_shift(struct writer *w)
{
	if (!w->shifted)
		return;
	if (w->left)
		put(w, base64[w->bits << (6 - w->left) & 0x3f]);
	put(w, '-');
	w->shifted = false;
	w->left = 0;
	w->bits = 0;
}

/* Return: what w->len would be after end_shift(). */
static size_t closed_len(const struct writer *w)
{
	if (!w->shifted)
		return w->len;
	return w->len + (w->left ? 2 : 1);
}

static void put_escape(struct writer *w, uint32_t c)
{
	static const char hex[] = "0123456789abcdef";

	put(w, '\\');
	put(w, hex[c >> 4]);
	put(w, hex[c & 0xf]);
}

static void put_point(struct writer *w, uint32_t cp, enum foldername_dots dots)
{
	bool first = w->len == 1;

	if (cp > 0x7e) {
		put_wide(w, cp);
		return;
	}
	end_shift(w);
	if (cp == '/') {
		put(w, '.');
	} else if (dots == DOTS_ESCAPE &&
		   (cp == '.' || cp == '\\' || (cp == '~' && first))) {
		put_escape(w, cp);
	} else {
		put(w, (char)cp);
		if (cp == '&')
			put(w, '-');
	}
}

/* Return: length of the name of the first @count code points. */
static size_t write_name(const struct points *pts, size_t count, char *out)
{
	struct writer w = { .out = out };
	size_t i;

	put(&w, '.');
	for (i = 0; i < count; i++)
		put_point(&w, pts->cp[i], pts->dots);
	end_shift(&w);
	return w.len;
}

/* Return: how many code points make a name that can have the hash behind it
 * and does not end in an empty level. */
static size_t points_that_fit(const struct points *pts)
{
	char scratch[FOLDERNAME_MAX];
	struct writer w = { .out = scratch };
	size_t count = 0, i;

	put(&w, '.');
	for (i = 0; i < pts->count; i++) {
		put_point(&w, pts->cp[i], pts->dots);
		if (closed_len(&w) > CUT_MAX)
			break;
		if (pts->cp[i] != '/')
			count = i + 1;
	}
	return count;
}

void foldername_map(const char *legacy, enum foldername_dots dots, char *out,
		    bool *changed_out)
{
	struct points pts = { .dots = dots };
	size_t len;

	read_name(legacy, &pts);
	len = write_name(&pts, pts.count, out);
	if (pts.full || len > FOLDERNAME_MAX) {
		pts.changed = true;
		len = write_name(&pts, points_that_fit(&pts), out);
		(void)snprintf(out + len, HASH_LEN + 1, "_%016" PRIx64,
			       digest_quick(legacy, strlen(legacy)));
		len += HASH_LEN;
	}
	out[len] = '\0';
	*changed_out = pts.changed;
}

/* Undoes put_escape(). Return: octets read. */
static size_t unescape(const char *p, enum foldername_dots dots, char *out)
{
	static const struct {
		const char *text;
		char c;
	} escapes[] = { { "\\2e", '.' }, { "\\5c", '\\' }, { "\\7e", '~' } };

	for (size_t i = 0; i < ARRAY_LEN(escapes); i++) {
		if (dots == DOTS_ESCAPE &&
		    strncmp(p, escapes[i].text, 3) == 0) {
			*out = escapes[i].c;
			return 3;
		}
	}
	*out = *p;
	if (*p == '.')
		*out = '/';
	return 1;
}

static bool is_for_uw(const char *legacy)
{
	unsigned levels = 1;

	if (strchr("~#{", *legacy) || strpbrk(legacy, "*%"))
		return false;
	for (const char *p = legacy; *p; p++) {
		if (*p == '.' && (p == legacy || p[-1] == '/'))
			return false;
		levels += *p == '/';
	}
	return levels < LEVELS_MAX;
}

int foldername_legacy(const char *dir, enum foldername_dots dots, char *out)
{
	char again[FOLDERNAME_MAX + 1];
	bool changed;
	size_t len = 0;

	if (*dir != '.' || strlen(dir) > FOLDERNAME_MAX)
		return -EINVAL;
	for (const char *p = dir + 1; *p; len++)
		p += unescape(p, dots, out + len);
	out[len] = '\0';
	if (!*out || *out == '/' || out[len - 1] == '/' || !is_for_uw(out))
		return -EINVAL;
	foldername_map(out, dots, again, &changed);
	return !changed && strcmp(again, dir) == 0 ? 0 : -EINVAL;
}

/* Octets of the unit at @p that must not be torn: a shift, an escape. */
static size_t unit_len(const char *p)
{
	const char *dash = *p == '&' ? strchr(p, '-') : NULL;

	if (dash)
		return (size_t)(dash - p) + 1;
	if (*p == '\\' && strspn(p + 1, "0123456789abcdef") >= 2)
		return 3;
	return 1;
}

void foldername_variant(const char *dir, unsigned n, char *out)
{
	char suffix[16];
	size_t len = 0, room, unit;

	(void)snprintf(suffix, sizeof(suffix), "_%u", n);
	room = FOLDERNAME_MAX - strlen(suffix);
	while (dir[len]) {
		unit = unit_len(dir + len);
		if (len + unit > room)
			break;
		len += unit;
	}
	while (len > 1 && dir[len] && dir[len - 1] == '.')
		len--;
	memcpy(out, dir, len);
	memcpy(out + len, suffix, strlen(suffix) + 1);
}

int foldername_free(const char *legacy, enum foldername_dots dots,
		    foldername_taken_fn *taken, void *arg, char *out)
{
	char first[FOLDERNAME_MAX + 1];
	bool changed;

	foldername_map(legacy, dots, first, &changed);
	memcpy(out, first, sizeof(first));
	for (unsigned n = 2; taken(out, arg); n++) {
		if (n > VARIANTS)
			return -EEXIST;
		foldername_variant(first, n, out);
	}
	return 0;
}
