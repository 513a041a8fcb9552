#include "compat/dump.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "compat/basename.h"
#include "compat/foldername.h"
#include "compat/text.h"

enum { WORD_MAX = 4 * KEYWORD_NAME_MAX };

struct word {
	char text[WORD_MAX + 1];
};

void dump_header(FILE *f)
{
	(void)fputs("janusmail-dump 1\n", f);
}

static void put_name(FILE *f, const char *dir)
{
	char shown[4 * FOLDERNAME_MAX + 1];
	const char *name = *dir == '.' ? dir + 1 : *dir ? dir : "INBOX";

	(void)fputs(text_escape(name, strlen(name), shown, sizeof(shown)), f);
}

void dump_folder(FILE *f, const struct dump_folder *d)
{
	(void)fputs("folder ", f);
	put_name(f, d->dir);
	(void)fprintf(f,
		      " uidvalidity=%" PRIu32 " uidnext=%" PRIu32
		      " messages=%" PRIu64 "\n",
		      d->uidvalidity, d->uidnext, d->messages);
}

void dump_subscribed(FILE *f, const char *dir)
{
	(void)fputs("subscribed ", f);
	put_name(f, dir);
	(void)fputc('\n', f);
}

static void put_flags(FILE *f, uint32_t flags)
{
	char info[INFO_MAX + 1];

	info_format(flags, 0, info);
	(void)fprintf(f, " flags=%s", info[3] ? info + 3 : "-");
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

static void put_keywords(FILE *f, uint32_t bits, const struct keywords *k)
{
	struct word words[KEYWORD_SLOTS];
	const char *before = "=";
	size_t n = 0;
	size_t i;

	for (i = 0; i < KEYWORD_SLOTS; i++) {
		if (bits & 1U << i && k->name[i][0])
			word_from(k->name[i], &words[n++]);
	}
	qsort(words, n, sizeof(words[0]), word_cmp);
	(void)fputs(" keywords", f);
	for (i = 0; i < n; i++) {
		if (i && word_cmp(&words[i - 1], &words[i]) == 0)
			continue;
		(void)fprintf(f, "%s%s", before, words[i].text);
		before = ",";
	}
	if (!n)
		(void)fputs("=-", f);
}

static void put_date(FILE *f, int64_t date)
{
	struct text_utc t;

	text_utc(date, &t);
	(void)fprintf(f, " date=%04" PRId64 "-%02u-%02uT%02u:%02u:%02uZ",
		      t.year, t.month, t.day, t.hour, t.minute, t.second);
}

void dump_message(FILE *f, const struct msg *m, const struct keywords *k,
		  const char *sha256)
{
	(void)fprintf(f, "%" PRIu32, m->uid);
	put_flags(f, m->flags);
	put_keywords(f, m->keywords, k);
	put_date(f, m->date);
	(void)fprintf(f, " size=%" PRIu64 " sha256=%s\n", m->size, sha256);
}
