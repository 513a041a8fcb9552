#include "compat/dump.h"

#include <inttypes.h>

#include "compat/fact.h"

void dump_header(FILE *f)
{
	(void)fputs("janusmail-dump 1\n", f);
}

static void put_name(FILE *f, const char *dir)
{
	char shown[FACT_NAME_MAX + 1];

	fact_name(dir, shown);
	(void)fputs(shown, f);
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

void dump_message(FILE *f, const struct fact *m)
{
	char flags[FACT_FLAGS_MAX + 1], date[FACT_DATE_MAX + 1];

	fact_flags(m->flags, flags);
	fact_date(m->date, date);
	(void)fprintf(f,
		      "%" PRIu32 " flags=%s keywords=%s date=%s size=%" PRIu64
		      " sha256=%s\n",
		      m->uid, flags, m->keywords, date, m->size,
		      *m->sha256 ? m->sha256 : "-");
}
