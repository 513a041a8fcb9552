#include "compat/fact.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/basename.h"
#include "compat/text.h"

enum { WORD_MAX = 4 * KEYWORD_NAME_MAX };

struct word {
	char text[WORD_MAX + 1];
};

/* ---- flags and keywords -------------------------------------------------- */

void fact_flags(uint32_t flags, char out[FACT_FLAGS_MAX + 1])
{
	char info[INFO_MAX + 1];
	const char *letters = info + strlen(":2,");
	size_t len;

	info_format(flags & MSG_SYSTEM, 0, info);
	if (!*letters)
		letters = "-";
	len = strnlen(letters, FACT_FLAGS_MAX);
	memcpy(out, letters, len);
	out[len] = '\0';
}

int fact_flags_parse(const char *word, uint32_t *out)
{
	char info[INFO_MAX + 1], again[FACT_FLAGS_MAX + 1];
	uint32_t keywords;

	if (strlen(word) > FACT_FLAGS_MAX)
		return -EBADMSG;
	(void)snprintf(info, sizeof(info), ":2,%s", word);
	info_parse(info, strlen(info), out, &keywords);
	fact_flags(*out, again);
	return strcmp(again, word) == 0 ? 0 : -EBADMSG;
}

static void word_from(const char *name, struct word *out)
{
	size_t used = 0;
	char lower[KEYWORD_NAME_MAX + 1];
	char *comma;
	size_t i;

	for (i = 0; i < KEYWORD_NAME_MAX && name[i]; i++) {
		lower[i] = name[i];
		if (name[i] >= 'A' && name[i] <= 'Z')
			lower[i] = (char)(name[i] - 'A' + 'a');
	}
	lower[i] = '\0';
	for (name = lower; *name; name = comma + 1) {
		comma = strchrnul(name, ',');
		(void)text_escape(name, (size_t)(comma - name),
				  out->text + used, sizeof(out->text) - used);
		used += strlen(out->text + used);
		if (!*comma)
			return;
		memcpy(out->text + used, "\\x2c", 5);
		used += 4;
	}
}

static int word_cmp(const void *a, const void *b)
{
	const struct word *wa = a;
	const struct word *wb = b;

	return strcmp(wa->text, wb->text);
}

void fact_keywords(uint32_t bits, const struct keywords *k,
		   char out[FACT_KEYWORDS_MAX + 1])
{
	struct word words[KEYWORD_SLOTS];
	char *end = out;
	size_t n = 0;

	if (bits == 0) {
		memcpy(out, "-", 2);
		return;
	}
	for (size_t i = 0; i < KEYWORD_SLOTS; i++) {
		if (bits & 1U << i && k->name[i][0])
			word_from(k->name[i], &words[n++]);
	}
	qsort(words, n, sizeof(words[0]), word_cmp);
	for (size_t i = 0; i < n; i++) {
		if (i && word_cmp(&words[i - 1], &words[i]) == 0)
			continue;
		if (end > out)
			*end++ = ',';
		end = stpcpy(end, words[i].text);
	}
	if (n == 0)
		memcpy(out, "-", 2);
	else if (strcmp(out, "-") == 0)
		memcpy(out, "\\x2d", 5);
}

/* ---- dates --------------------------------------------------------------- */

void fact_date(int64_t date, char out[FACT_DATE_MAX + 1])
{
	struct text_utc t;

	text_utc(date, &t);
	(void)snprintf(out, FACT_DATE_MAX + 1,
		       "%04" PRId64 "-%02u-%02uT%02u:%02u:%02uZ", t.year,
		       t.month, t.day, t.hour, t.minute, t.second);
}

/* @mark: what stands behind the number */
static int take(const uint8_t **p, const uint8_t *end, char mark, uint64_t max,
		uint64_t *out)
{
	if (text_number(p, end, max, out) < 0 || *p == end ||
	    **p != (uint8_t)mark)
		return -EBADMSG;
	(*p)++;
	return 0;
}

int fact_date_parse(const char *word, int64_t *out)
{
	static const char marks[] = "--T::Z";
	/* The last year that 64 bits of seconds can name. */
	static const uint64_t max[] = { 292277026596, 12, 31, 23, 59, 59 };
	const uint8_t *p = (const uint8_t *)word, *end = p + strlen(word);
	uint64_t n[ARRAY_LEN(max)];
	char again[FACT_DATE_MAX + 1];
	bool minus = *word == '-';
	int64_t year;

	p += minus;
	for (size_t i = 0; i < ARRAY_LEN(max); i++)
		if (take(&p, end, marks[i], max[i], &n[i]) < 0)
			return -EBADMSG;
	if (p != end || n[1] == 0 || n[2] == 0)
		return -EBADMSG;
	year = minus ? -(int64_t)n[0] : (int64_t)n[0];
	if (__builtin_mul_overflow(text_days(year, (unsigned)n[1],
					     (unsigned)n[2]),
				   86400, out) ||
	    __builtin_add_overflow(*out,
				   (int64_t)(n[3] * 3600 + n[4] * 60 + n[5]),
				   out))
		return -EBADMSG;
	fact_date(*out, again);
	return strcmp(again, word) == 0 ? 0 : -EBADMSG;
}

/* ---- names --------------------------------------------------------------- */

static const char inbox[] = "INBOX";
static const char not_inbox[] = "\\x49NBOX"; /* a directory ".INBOX" */

void fact_name(const char *dir, char out[FACT_NAME_MAX + 1])
{
	const char *name = *dir == '.' ? dir + 1 : dir;

	if (*dir == '\0')
		memcpy(out, inbox, sizeof(inbox));
	else if (strcmp(name, inbox) == 0)
		memcpy(out, not_inbox, sizeof(not_inbox));
	else
		(void)text_escape(name, strlen(name), out, FACT_NAME_MAX + 1);
}

int fact_name_parse(const char *word, char out[FOLDERNAME_MAX + 1])
{
	char plain[FACT_NAME_MAX + 1], again[FACT_NAME_MAX + 1];
	ptrdiff_t len;

	if (strcmp(word, inbox) == 0) {
		*out = '\0';
		return 0;
	}
	if (strlen(word) > FACT_NAME_MAX)
		return -EBADMSG;
	len = text_unescape(word, plain);
	if (len < 1 || len >= FOLDERNAME_MAX || strlen(plain) != (size_t)len ||
	    *plain == '.' || strchr(plain, '/'))
		return -EBADMSG;
	out[0] = '.';
	memcpy(out + 1, plain, (size_t)len + 1);
	fact_name(out, again);
	return strcmp(again, word) == 0 ? 0 : -EBADMSG;
}
