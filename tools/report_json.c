/*
 * One JSON document, written as it comes: its frame by hand, each object in it
 * by jansson.
 */
#include <jansson.h>
#include <stdlib.h>

#include "compat/fact.h"
#include "tools/report.h"

struct json_report {
	struct report base;
	bool any_user, any_folder, any_finding;
};

/* Text that is not UTF-8 does not come here: names are escaped. */
static void put(FILE *f, json_t *object)
{
	char *text = object ? json_dumps(object, JSON_ENCODE_ANY) : NULL;

	(void)fputs(text ? text : "null", f);
	free(text);
	json_decref(object);
}

static void comma(FILE *f, bool *any)
{
	if (*any)
		(void)fputc(',', f);
	(void)fputc('\n', f);
	*any = true;
}

static void begin(struct report *r)
{
	char word[REPORT_SPEC];

	(void)fputs("{\"schema\": 1", r->f);
	for (int i = 0; i < 2; i++) {
		(void)fprintf(r->f, ", \"%c\": ", 'a' + i);
		put(r->f,
		    json_pack("{s:s, s:s}", "kind", r->side[i]->kind, "spec",
			      report_spec(r, i, word)));
	}
	(void)fputs(", \"users\": [", r->f);
}

static void user_begin(struct report *base, const char *user)
{
	struct json_report *r = (struct json_report *)base;
	char word[REPORT_USER + 1];

	comma(base->f, &r->any_user);
	(void)fputs("{\"name\": ", base->f);
	put(base->f, json_string(report_user(user, word)));
	(void)fputs(", \"findings\": [", base->f);
	r->any_finding = r->any_folder = false;
}

static json_t *counts(const struct tally *t)
{
	json_t *j = json_object();

	for (int i = 0; i < 2; i++) {
		char key[2] = { (char)('a' + i), '\0' };

		(void)json_object_set_new(
			j, key,
			json_pack("{s:I, s:I, s:I, s:I}", "folders",
				  (json_int_t)t->folders[i], "messages",
				  (json_int_t)t->messages[i], "octets",
				  (json_int_t)t->octets[i], "only",
				  (json_int_t)t->only[i]));
	}
	(void)json_object_update_new(
		j,
		json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "same",
			  (json_int_t)t->same, "changed",
			  (json_int_t)t->changed, "unread",
			  (json_int_t)t->unread, "bare_lf",
			  (json_int_t)t->bare_lf, "from_mbx",
			  (json_int_t)t->ours[1], "delivered",
			  (json_int_t)t->came[1], "differences",
			  (json_int_t)t->differences, "troubles",
			  (json_int_t)t->troubles));
	return j;
}

static void folder_begin(struct report *base, const char *dir,
			 const struct tally *t)
{
	struct json_report *r = (struct json_report *)base;
	char name[FACT_NAME_MAX + 1];

	/* The first one ends the findings of the user himself. */
	if (!r->any_folder)
		(void)fputs("], \"folders\": [", base->f);
	comma(base->f, &r->any_folder);
	fact_name(dir, name);
	(void)fputs("{\"name\": ", base->f);
	put(base->f, json_string(name));
	(void)fputs(", \"counts\": ", base->f);
	put(base->f, counts(t));
	(void)fputs(", \"findings\": [", base->f);
	r->any_finding = false;
}

static void finding(struct report *base, const char *user, const char *dir,
		    const struct finding *f)
{
	static const char *const classes[] = { "difference", "trouble",
					       "note" };
	struct json_report *r = (struct json_report *)base;
	json_t *j = json_pack("{s:s, s:s}", "kind", finding_name(f->kind),
			      "class", classes[finding_class(f->kind)]);

	(void)user;
	if (dir && f->uid)
		(void)json_object_set_new(j, "uid", json_integer(f->uid));
	for (int i = 0; i < 2; i++)
		if (f->side[i])
			(void)json_object_set_new(j, i ? "b" : "a",
						  json_string(f->side[i]));
	comma(base->f, &r->any_finding);
	put(base->f, j);
}

static void folder_end(struct report *r)
{
	(void)fputs("]}", r->f);
}

static void user_end(struct report *base, const char *user,
		     const struct tally *t)
{
	struct json_report *r = (struct json_report *)base;

	(void)user;
	if (!r->any_folder)
		(void)fputs("], \"folders\": [", base->f);
	(void)fputs("], \"counts\": ", base->f);
	put(base->f, counts(t));
	(void)fputc('}', base->f);
}

static void end(struct report *r, const struct tally *t,
		enum report_result result)
{
	(void)fputs("], \"totals\": ", r->f);
	put(r->f, counts(t));
	(void)fprintf(r->f, ", \"result\": \"%s\"}\n",
		      report_result_name(result));
}

static void json_free(struct report *r)
{
	free(r);
}

static const struct report_ops json_ops = {
	.begin = begin,
	.user_begin = user_begin,
	.folder_begin = folder_begin,
	.finding = finding,
	.folder_end = folder_end,
	.user_end = user_end,
	.end = end,
	.free = json_free,
};

struct report *report_json(FILE *f, const struct source *const side[2])
{
	struct json_report *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->base = (struct report){ .ops = &json_ops,
				   .f = f,
				   .side = { side[0], side[1] } };
	return &r->base;
}
