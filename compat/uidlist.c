#include "compat/uidlist.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "compat/text.h"

/* What is left of one line. */
struct line {
	const char *p, *end;
};

/* Return: false when there is no further line that has its LF. Dovecot drops
 * a CR before the LF. */
static bool next_line(struct line *text, struct line *out)
{
	const char *lf = memchr(text->p, '\n', (size_t)(text->end - text->p));

	if (!lf)
		return false;
	out->p = text->p;
	out->end = lf > text->p && lf[-1] == '\r' ? lf - 1 : lf;
	text->p = lf + 1;
	return true;
}

static void skip_spaces(struct line *l)
{
	while (l->p < l->end && *l->p == ' ')
		l->p++;
}

/* Up to the next space; the spaces after it are skipped. */
static bool next_word(struct line *l, struct line *out)
{
	const char *space;

	if (l->p == l->end)
		return false;
	space = memchr(l->p, ' ', (size_t)(l->end - l->p));
	out->p = l->p;
	out->end = space ? space : l->end;
	l->p = out->end;
	skip_spaces(l);
	return true;
}

static size_t line_len(const struct line *l)
{
	return (size_t)(l->end - l->p);
}

/* A word that is a number and nothing else. */
static int get_number(struct line w, uint64_t max, uint64_t *out)
{
	const uint8_t *p = (const uint8_t *)w.p;
	const uint8_t *end = (const uint8_t *)w.end;
	int rc = text_number(&p, end, max, out);

	return rc == 0 && p != end ? -EBADMSG : rc;
}

static int get_u32(struct line w, uint32_t *out)
{
	uint64_t n;
	int rc = get_number(w, UINT32_MAX, &n);

	if (rc == 0)
		*out = (uint32_t)n;
	return rc;
}

static int get_guid(struct line w, char *out)
{
	enum { DIGITS = 32 };
	uint64_t half;

	if (line_len(&w) != DIGITS ||
	    text_hex((const uint8_t *)w.p, DIGITS / 2, &half) != 0 ||
	    text_hex((const uint8_t *)w.p + DIGITS / 2, DIGITS / 2, &half) != 0)
		return -EBADMSG;
	memcpy(out, w.p, DIGITS);
	out[DIGITS] = '\0';
	return 0;
}

static int parse_header_3(struct line l, struct uidlist_header *h)
{
	struct line w;
	int rc = 0;
	char key;

	while (rc == 0 && next_word(&l, &w)) {
		key = *w.p++;
		if (key == 'V')
			rc = get_u32(w, &h->uidvalidity);
		else if (key == 'N')
			rc = get_u32(w, &h->uidnext);
		else if (key == 'G')
			rc = get_guid(w, h->guid);
	}
	return rc;
}

static int parse_header_1(struct line l, struct uidlist_header *h)
{
	struct line w;
	int rc = -EBADMSG;

	if (next_word(&l, &w))
		rc = get_u32(w, &h->uidvalidity);
	if (rc == 0)
		rc = next_word(&l, &w) ? get_u32(w, &h->uidnext) : -EBADMSG;
	return rc;
}

static int parse_header(struct line l, struct uidlist_header *h)
{
	int rc = -EBADMSG;

	if (line_len(&l) < 2 || l.p[1] != ' ')
		return rc;
	h->version = (unsigned)(*l.p - '0');
	l.p += 2;
	skip_spaces(&l);
	if (h->version == 1)
		rc = parse_header_1(l, h);
	else if (h->version == 3)
		rc = parse_header_3(l, h);
	return rc == 0 && (!h->uidvalidity || !h->uidnext) ? -EBADMSG : rc;
}

/* Of a repeated key Dovecot takes the first value, and what is no number it
 * takes for not given. */
static void get_size(struct line value, uint64_t *out)
{
	uint64_t n;

	if (*out == UINT64_MAX && get_number(value, INT64_MAX, &n) == 0)
		*out = n;
}

static void get_string(struct line value, const char **out, size_t *len_out)
{
	if (*out)
		return;
	*out = value.p;
	*len_out = line_len(&value);
}

static void parse_fields(struct line *l, struct uidlist_record *r)
{
	struct line w;
	char key;

	while (l->p < l->end && *l->p != ':' && next_word(l, &w)) {
		key = *w.p++;
		if (key == 'S')
			get_size(w, &r->psize);
		else if (key == 'W')
			get_size(w, &r->vsize);
		else if (key == 'G')
			get_string(w, &r->guid, &r->guid_len);
		else if (key == 'P')
			get_string(w, &r->pop3_uidl, &r->pop3_len);
	}
	if (l->p < l->end)
		l->p++; /* the ':' */
}

static int parse_record(struct line l, const struct uidlist_header *h,
			struct uidlist_record *r)
{
	struct line w;
	int rc;

	*r = (struct uidlist_record){ .psize = UINT64_MAX,
				      .vsize = UINT64_MAX };
	if (memchr(l.p, '\0', line_len(&l)))
		return -EBADMSG;
	rc = next_word(&l, &w) ? get_u32(w, &r->uid) : -EBADMSG;
	if (rc || !r->uid || r->uid == UINT32_MAX)
		return -EBADMSG;
	if (h->version == 1 && r->uid >= h->uidnext)
		return -EBADMSG;
	if (h->version == 3)
		parse_fields(&l, r);
	r->name = l.p;
	r->name_len = line_len(&l);
	return !r->name_len || memchr(l.p, '/', r->name_len) ? -EBADMSG : 0;
}

int uidlist_parse(const char *text, size_t len, struct uidlist_header *out,
		  uidlist_fn *fn, void *arg)
{
	struct line all = { text, text + len }, one;
	struct uidlist_record rec;
	uint32_t last = 0;
	int rc;

	*out = (struct uidlist_header){ .version = 0 };
	if (!next_line(&all, &one))
		return -EBADMSG;
	rc = parse_header(one, out);
	while (rc == 0 && next_line(&all, &one)) {
		rc = parse_record(one, out, &rec);
		if (rc == 0 && rec.uid <= last)
			rc = -EBADMSG;
		if (rc == 0 && fn)
			rc = fn(&rec, arg);
		last = rec.uid;
	}
	return rc;
}

void uidlist_write_header(FILE *f, const struct uidlist_header *h)
{
	(void)fprintf(f, "3 V%" PRIu32 " N%" PRIu32, h->uidvalidity,
		      h->uidnext);
	if (*h->guid)
		(void)fprintf(f, " G%s", h->guid);
	(void)fputc('\n', f);
}

/* Where the digits of N are; of two Dovecot takes the last. */
static bool find_uidnext(struct line l, struct line *out)
{
	struct line w;
	bool found = false, first = line_len(&l) > 0 && *l.p == '1';

	if (first && next_word(&l, &w) && next_word(&l, &w))
		return next_word(&l, out);
	while (next_word(&l, &w)) {
		if (*w.p != 'N')
			continue;
		*out = (struct line){ w.p + 1, w.end };
		found = true;
	}
	return found;
}

bool uidlist_write_raised(FILE *f, const char *text, size_t len,
			  uint32_t uidnext)
{
	struct line all = { text, text + len }, one, n;

	if (!next_line(&all, &one) || !find_uidnext(one, &n))
		return false;
	(void)fwrite(text, 1, (size_t)(n.p - text), f);
	(void)fprintf(f, "%" PRIu32, uidnext);
	(void)fwrite(n.end, 1, (size_t)(text + len - n.end), f);
	return true;
}

static bool has_any(const char *p, size_t len, const char *set, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		if (memchr(p, set[i], len))
			return true;
	}
	return false;
}

static void write_field(FILE *f, char key, const char *value, size_t len)
{
	static const char bad[] = { ' ', '\n', '\r', '\0' };

	if (value && !has_any(value, len, bad, sizeof(bad)))
		(void)fprintf(f, " %c%.*s", key, (int)len, value);
}

bool uidlist_write_record(FILE *f, const struct uidlist_record *r)
{
	static const char bad[] = { '/', '\n', '\r', '\0' };

	if (!r->uid || r->uid == UINT32_MAX || !r->name_len ||
	    has_any(r->name, r->name_len, bad, sizeof(bad)))
		return false;
	(void)fprintf(f, "%" PRIu32, r->uid);
	if (r->psize != UINT64_MAX)
		(void)fprintf(f, " S%" PRIu64, r->psize);
	if (r->vsize != UINT64_MAX)
		(void)fprintf(f, " W%" PRIu64, r->vsize);
	write_field(f, 'P', r->pop3_uidl, r->pop3_len);
	write_field(f, 'G', r->guid, r->guid_len);
	(void)fprintf(f, " :%.*s\n", (int)r->name_len, r->name);
	return true;
}

enum { DKEYWORDS = 26 };

int dkeywords_parse(const char *text, size_t len, struct keywords *out)
{
	struct line all = { text, text + len }, one, word;
	uint64_t slot;

	memset(out, 0, sizeof(*out));
	if (memchr(text, '\0', len))
		return -EBADMSG;
	while (next_line(&all, &one)) {
		if (!next_word(&one, &word) ||
		    get_number(word, DKEYWORDS - 1, &slot) != 0 ||
		    one.p == one.end || line_len(&one) > KEYWORD_NAME_MAX)
			continue;
		memcpy(out->name[slot], one.p, line_len(&one));
		out->name[slot][line_len(&one)] = '\0';
	}
	return 0;
}

bool dkeywords_can_show(const char *name)
{
	for (; *name; name++) {
		if (*name <= 0x20 || *name > 0x7e ||
		    strchr("(){%*\"\\]", *name))
			return false;
	}
	return true;
}

uint32_t dkeywords_letters(const struct keywords *k)
{
	uint32_t bits = 0;

	for (unsigned i = 0; i < DKEYWORDS; i++)
		if (*k->name[i] && dkeywords_can_show(k->name[i]))
			bits |= 1U << i;
	return bits;
}

void dkeywords_write(FILE *f, const struct keywords *k)
{
	uint32_t bits = dkeywords_letters(k);

	for (unsigned i = 0; i < DKEYWORDS; i++)
		if (bits & (1U << i))
			(void)fprintf(f, "%u %s\n", i, k->name[i]);
}
