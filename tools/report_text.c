#include <stdlib.h>

#include "compat/fact.h"
#include "tools/human.h"
#include "tools/report.h"

static const char *const classes[] = { "", "trouble: ", "note: " };

static void nothing(struct report *r)
{
	(void)r;
}

static void user_begin(struct report *r, const char *user)
{
	(void)r;
	(void)user;
}

static void folder_begin(struct report *r, const char *dir,
			 const struct tally *t)
{
	(void)r;
	(void)dir;
	(void)t;
}

static void user_end(struct report *r, const char *user, const struct tally *t)
{
	(void)r;
	(void)user;
	(void)t;
}

static void finding(struct report *r, const char *user, const char *dir,
		    const struct finding *f)
{
	char word[REPORT_USER + 1], name[FACT_NAME_MAX + 1];

	(void)fputs(report_user(user, word), r->f);
	if (dir) {
		fact_name(dir, name);
		(void)fprintf(r->f, "%s%s", *user ? " " : "", name);
		if (f->uid)
			(void)fprintf(r->f, " UID %u", f->uid);
	}
	(void)fprintf(r->f, "%s%s", *user || dir ? ": " : "",
		      classes[finding_class(f->kind)]);
	report_what(r->f, f);
	(void)fputc('\n', r->f);
}

static void row(FILE *f, const char *what, uint64_t a, uint64_t b)
{
	char x[HUMAN_MAX], y[HUMAN_MAX];

	(void)fprintf(f, "%-10s %16s %16s\n", what, human_count(a, x),
		      human_count(b, y));
}

static void end(struct report *r, const struct tally *t,
		enum report_result result)
{
	char text[REPORT_SUM], x[HUMAN_MAX], y[HUMAN_MAX];

	(void)fprintf(r->f, "A = %s\nB = %s\n\n%-10s %16s %16s\n",
		      r->side[0]->spec, r->side[1]->spec, "", "A", "B");
	if (r->side[0]->many || r->side[1]->many)
		row(r->f, "users", t->users[0], t->users[1]);
	row(r->f, "folders", t->folders[0], t->folders[1]);
	row(r->f, "messages", t->messages[0], t->messages[1]);
	row(r->f, "octets", t->octets[0], t->octets[1]);
	(void)fprintf(r->f, "\nA: %s\n", report_sum(t, 0, text));
	(void)fprintf(r->f, "B: %s\n", report_sum(t, 1, text));
	if (*report_origin(t, text))
		(void)fprintf(r->f, "B: %s\n", text);
	if (t->bare_lf)
		(void)fprintf(r->f, "%s the same but for bare LF\n",
			      human_things(t->bare_lf, "message", x));
	(void)fprintf(r->f, "%s: %s, %s\n", report_result_name(result),
		      human_things(t->differences, "difference", x),
		      human_things(t->troubles, "trouble", y));
}

static void text_free(struct report *r)
{
	free(r);
}

static const struct report_ops text_ops = {
	.begin = nothing,
	.user_begin = user_begin,
	.folder_begin = folder_begin,
	.finding = finding,
	.folder_end = nothing,
	.user_end = user_end,
	.end = end,
	.free = text_free,
};

struct report *report_text(FILE *f, const struct source *const side[2])
{
	struct report *r = calloc(1, sizeof(*r));

	if (r)
		*r = (struct report){ .ops = &text_ops,
				      .f = f,
				      .side = { side[0], side[1] } };
	return r;
}
