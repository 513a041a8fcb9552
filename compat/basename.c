#include "compat/basename.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "compat/text.h"

/* Where the name has been read to; the first mismatch sets failed for good. */
struct reader {
	const uint8_t *p;
	const uint8_t *end;
	bool failed;
};

/* Letters in the order of a file name, and the flags they stand for. */
static const struct {
	char letter;
	uint32_t flag;
} letters[] = {
	{ 'D', MSG_DRAFT }, { 'F', MSG_FLAGGED }, { 'R', MSG_ANSWERED },
	{ 'S', MSG_SEEN },  { 'T', MSG_DELETED },
};

void basename_format(const struct basename *b, char *out)
{
	(void)snprintf(out, BASENAME_MAX + 1,
		       "%" PRIu32 ".V%08" PRIx32 "F%08" PRIx32 "D%08" PRIx64
		       ".janusmail,S=%" PRIu64,
		       b->uid, b->uidvalidity, b->folder, (uint64_t)b->date,
		       b->size);
}

static void read_word(struct reader *r, const char *word)
{
	size_t n = strlen(word);

	if (r->failed || (size_t)(r->end - r->p) < n ||
	    memcmp(r->p, word, n) != 0)
		r->failed = true;
	else
		r->p += n;
}

static uint64_t read_dec(struct reader *r, uint64_t max)
{
	uint64_t n = 0;

	if (!r->failed && text_number(&r->p, r->end, max, &n) < 0)
		r->failed = true;
	return n;
}

/* As many hex digits as there are before @stop or the end. */
static uint64_t read_hex(struct reader *r, char stop, unsigned max_digits)
{
	uint64_t n = 0;
	const uint8_t *s = r->p;

	while (s < r->end && *s != (uint8_t)stop)
		s++;
	if (r->failed || s == r->p || s - r->p > max_digits ||
	    text_hex(r->p, (unsigned)(s - r->p), &n) < 0)
		r->failed = true;
	else
		r->p = s;
	return n;
}

int basename_parse(const char *name, size_t len, struct basename *out)
{
	const uint8_t *start = (const uint8_t *)name;
	struct reader r = { .p = start, .end = start + len };
	struct basename b;
	char again[BASENAME_MAX + 1];

	b.uid = (uint32_t)read_dec(&r, UINT32_MAX);
	read_word(&r, ".V");
	b.uidvalidity = (uint32_t)read_hex(&r, 'F', 8);
	read_word(&r, "F");
	b.folder = (uint32_t)read_hex(&r, 'D', 8);
	read_word(&r, "D");
	b.date = (int64_t)read_hex(&r, '.', 16);
	read_word(&r, ".janusmail,S=");
	b.size = read_dec(&r, UINT64_MAX);
	if (r.failed || r.p != r.end)
		return -ENOENT;
	/* Upper case, leading zeros: read above, but not written by us. */
	basename_format(&b, again);
	if (strlen(again) != len || memcmp(again, name, len) != 0)
		return -ENOENT;
	*out = b;
	return 0;
}

void info_format(uint32_t flags, uint32_t keywords, char *out)
{
	size_t i;

	memcpy(out, ":2,", 3);
	out += 3;
	for (i = 0; i < ARRAY_LEN(letters); i++) {
		if (flags & letters[i].flag)
			*out++ = letters[i].letter;
	}
	for (i = 0; i < MAILDIR_LETTERS; i++) {
		if (keywords & 1U << i)
			*out++ = (char)('a' + i);
	}
	*out = '\0';
}

size_t info_split(const char *name, size_t len)
{
	const char *info = memmem(name, len, ":2,", 3);

	return info ? (size_t)(info - name) : len;
}

static uint32_t flag_of(char letter)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(letters); i++) {
		if (letters[i].letter == letter)
			return letters[i].flag;
	}
	return 0;
}

void info_parse(const char *name, size_t len, uint32_t *flags_out,
		uint32_t *keywords_out)
{
	size_t i;

	*flags_out = 0;
	*keywords_out = 0;
	for (i = info_split(name, len) + 3; i < len && name[i] != ','; i++) {
		*flags_out |= flag_of(name[i]);
		if (name[i] >= 'a' && name[i] <= 'z')
			*keywords_out |= 1U << (name[i] - 'a');
	}
}

bool info_in_new(const struct msg *m)
{
	return (m->flags & (MSG_OLD | MSG_SYSTEM)) == 0 && m->keywords == 0;
}
