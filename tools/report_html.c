/*
 * One page for a browser, with nothing from elsewhere and no script: totals,
 * a bar for each user, the differences. What stands above the differences is
 * known last, so they wait in a pile.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/human.h"
#include "tools/report.h"

/* More than people read, and than browsers show well; the rest is counted. */
enum { ROWS_MAX = 5000 };

struct html_report {
	struct report base;
	struct pile users, rows;
	uint64_t row_count;
};

static const char style[] =
	":root{color-scheme:light dark;--ground:#fbfbf9;--text:#1d2321;"
	"--quiet:#5d6663;--line:#d9dcd6;--card:#fff;--same:#2f7d5b;"
	"--diff:#c2570c;--only:#2f6fb0;--bad:#b3261e}\n"
	"@media(prefers-color-scheme:dark){:root{--ground:#14181a;"
	"--text:#e4e8e5;--quiet:#98a29e;--line:#31383a;--card:#1b2023;"
	"--same:#4fae85;--diff:#f0924a;--only:#6ea8e5;--bad:#ef6b63}}\n"
	"*{box-sizing:border-box}body{margin:0 auto;padding:1.5rem 1rem 4rem;"
	"max-width:72rem;background:var(--ground);color:var(--text);"
	"font:15px/1.5 system-ui,sans-serif}\n"
	"h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;"
	"margin:2rem 0 .5rem}code{overflow-wrap:anywhere}\n"
	".quiet{color:var(--quiet)}a{color:var(--only)}.num{text-align:right;white-space:nowrap;"
	"font-variant-numeric:tabular-nums}\n"
	".verdict{display:inline-block;padding:.15rem .7rem;border-radius:1rem;"
	"color:#fff;font-weight:600}.verdict.same{background:var(--same)}"
	".verdict.different{background:var(--diff)}"
	".verdict.trouble{background:var(--bad)}\n"
	"@media(prefers-color-scheme:dark){.verdict{color:#14181a}}\n"
	".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;"
	"background:var(--card);border:1px solid var(--line)}"
	"th,td{padding:.3rem .6rem;border-top:1px solid var(--line);"
	"text-align:left;vertical-align:top}th{font-weight:600;"
	"color:var(--quiet)}td.what{overflow-wrap:anywhere;min-width:16rem}\n"
	".users{display:grid;grid-template-columns:repeat(auto-fill,"
	"minmax(17rem,1fr));gap:.2rem 1.5rem}.user{display:grid;"
	"grid-template-columns:minmax(0,1fr) 6rem 5rem;gap:.5rem;"
	"align-items:center;border-bottom:1px solid var(--line);"
	"font-size:.87rem}.user b{font-weight:400;overflow:hidden;"
	"text-overflow:ellipsis;white-space:nowrap}.user.off b{"
	"font-weight:600}\n"
	"svg{display:block;width:100%;height:.6rem;border-radius:.15rem;"
	"background:var(--line)}.s{fill:var(--same)}.c{fill:var(--diff)}"
	".o{fill:var(--only)}.u{fill:var(--bad)}\n"
	".key i{display:inline-block;width:.8rem;height:.8rem;"
	"border-radius:.15rem;margin:0 .3rem 0 1rem;vertical-align:-.1rem}"
	".key i:first-child{margin-left:0}\n"
	".kind{white-space:nowrap}.kind.trouble{color:var(--bad);"
	"font-weight:600}.kind.difference{color:var(--diff)}"
	".kind.note{color:var(--quiet)}\n"
	/* A row becomes a paragraph where five columns have no room. */
	"@media(max-width:44rem){.found tr{display:block;padding:.4rem 0;"
	"border-top:1px solid var(--line)}.found tr:first-child{display:none}"
	".found td{display:inline;border:0;padding:0 .6rem}"
	".found td.what{display:block;min-width:0}}\n";

/* ---- text ---------------------------------------------------------------- */

static void escape(FILE *f, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&':
			(void)fputs("&amp;", f);
			break;
		case '<':
			(void)fputs("&lt;", f);
			break;
		case '>':
			(void)fputs("&gt;", f);
			break;
		case '"':
			(void)fputs("&quot;", f);
			break;
		case '\'':
			(void)fputs("&#39;", f);
			break;
		default:
			(void)fputc(*text, f);
		}
	}
}

/* What was written to @f goes to the pile; @f is closed. */
static void keep(struct html_report *r, struct pile *p, FILE *f, char **text,
		 const size_t *len)
{
	if (fclose(f) != 0)
		r->base.err = true;
	if (*text && !r->base.err && pile_add(p, *text, *len) < 0)
		r->base.err = true;
	free(*text);
	*text = NULL;
}

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

/* ---- rows ---------------------------------------------------------------- */

static void write_what(FILE *f, const struct finding *found)
{
	char *text = NULL;
	size_t len = 0;
	FILE *what = open_memstream(&text, &len);

	if (!what)
		return;
	report_what(what, found);
	if (fclose(what) == 0 && text)
		escape(f, text);
	free(text);
}

static void write_row(FILE *f, const char *user, const char *dir,
		      const struct finding *found)
{
	static const char *const classes[] = { "difference", "trouble",
					       "note" };
	char word[REPORT_USER + 1], name[FACT_NAME_MAX + 1];

	(void)fputs("<tr><td>", f);
	escape(f, report_user(user, word));
	(void)fputs("<td>", f);
	if (dir) {
		fact_name(dir, name);
		escape(f, name);
	}
	(void)fputs("<td class=num>", f);
	if (dir && found->uid)
		(void)fprintf(f, "%" PRIu32, found->uid);
	(void)fprintf(f, "<td class=\"kind %s\">%s<td class=what>",
		      classes[finding_class(found->kind)],
		      finding_name(found->kind));
	write_what(f, found);
	(void)fputc('\n', f);
}

static void finding(struct report *base, const char *user, const char *dir,
		    const struct finding *found)
{
	struct html_report *r = (struct html_report *)base;
	char *text = NULL;
	size_t len = 0;
	FILE *f;

	if (r->row_count++ >= ROWS_MAX)
		return;
	f = open_memstream(&text, &len);
	if (!f) {
		r->base.err = true;
		return;
	}
	write_row(f, user, dir, found);
	keep(r, &r->rows, f, &text, &len);
}

/* ---- users --------------------------------------------------------------- */

static void bar_part(FILE *f, const char *class, double *at, uint64_t n,
		     uint64_t all)
{
	double width = all ? 100.0 * (double)n / (double)all : 0;

	/* What is there at all can be seen. */
	if (n > 0 && width < 3)
		width = 3;
	if (n > 0)
		(void)fprintf(f,
			      "<rect class=%s x=\"%.2f\" y=0 width=\"%.2f\" "
			      "height=10 />",
			      class, *at, width);
	*at += width;
}

static void write_bar(FILE *f, const struct tally *t)
{
	uint64_t only = t->only[0] + t->only[1];
	uint64_t all = t->same + t->changed + t->unread + only;
	double at = 0;

	(void)fputs("<svg viewBox=\"0 0 100 10\" preserveAspectRatio=none "
		    "role=img>",
		    f);
	/* First what needs a look: it is never cut off. */
	bar_part(f, "u", &at, t->unread, all);
	bar_part(f, "c", &at, t->changed, all);
	bar_part(f, "o", &at, only, all);
	bar_part(f, "s", &at, t->same, all);
	(void)fputs("</svg>", f);
}

static void user_end(struct report *base, const char *user,
		     const struct tally *t)
{
	struct html_report *r = (struct html_report *)base;
	char word[REPORT_USER + 1], count[HUMAN_MAX], *text = NULL;
	bool off = t->differences || t->troubles;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f) {
		r->base.err = true;
		return;
	}
	(void)fprintf(f, "<div class=\"user%s\"><b title=\"",
		      off ? " off" : "");
	escape(f, report_user(user, word));
	(void)fputs("\">", f);
	escape(f, *word ? word : "all mail");
	(void)fputs("</b>", f);
	write_bar(f, t);
	(void)fprintf(f, "<span class=num>%s</span></div>\n",
		      human_count(t->messages[0] > t->messages[1]
					  ? t->messages[0]
					  : t->messages[1],
				  count));
	keep(r, &r->users, f, &text, &len);
}

/* ---- the page ------------------------------------------------------------ */

static void copy(struct html_report *r, struct pile *p)
{
	char buf[BUFSIZ];
	ssize_t n = pile_rewind(p);

	while (n >= 0 && (n = pile_get(p, buf, sizeof(buf))) > 0)
		(void)fwrite(buf, 1, (size_t)n, r->base.f);
	if (n < 0)
		r->base.err = true;
}

static void total(FILE *f, const char *what, uint64_t a, uint64_t b)
{
	char x[HUMAN_MAX], y[HUMAN_MAX];

	(void)fprintf(f, "<tr><th>%s<td class=num>%s<td class=num>%s\n", what,
		      human_count(a, x), human_count(b, y));
}

static void totals(struct report *r, const struct tally *t)
{
	char text[REPORT_SUM], spec[REPORT_SPEC];
	FILE *f = r->f;

	(void)fputs("<h2>Totals</h2>\n<div class=wide><table>"
		    "<tr><th><th class=num>A<th class=num>B\n",
		    f);
	if (r->side[0]->many || r->side[1]->many)
		total(f, "users", t->users[0], t->users[1]);
	total(f, "folders", t->folders[0], t->folders[1]);
	total(f, "messages", t->messages[0], t->messages[1]);
	total(f, "octets", t->octets[0], t->octets[1]);
	(void)fputs("</table></div>\n", f);
	for (int i = 0; i < 2; i++) {
		(void)fprintf(f, "<p>%c: %s <code>", 'A' + i, r->side[i]->kind);
		escape(f, report_spec(r, i, spec));
		(void)fprintf(f, "</code><br>messages: %s\n",
			      report_sum(t, i, text));
	}
	if (*report_origin(t, text))
		(void)fprintf(f, "<br>messages: %s\n", text);
}

static void head(FILE *f, const struct tally *t, enum report_result result)
{
	char x[HUMAN_MAX], y[HUMAN_MAX];
	const char *name = report_result_name(result);

	(void)fprintf(f,
		      "<!doctype html>\n<html lang=en><head>"
		      "<meta charset=utf-8><meta name=viewport "
		      "content=\"width=device-width,initial-scale=1\">\n"
		      "<title>%s: janusmail verify</title>\n<style>%s</style>"
		      "</head><body>\n<h1>janusmail verify</h1>\n"
		      "<p><span class=\"verdict %s\">%s</span> "
		      "<span class=quiet>%s, %s</span>\n"
		      "<p><a href=\"#users\">Users</a> \u00b7 "
		      "<a href=\"#differences\">Differences</a>\n",
		      name, style, name, name,
		      human_things(t->differences, "difference", x),
		      human_things(t->troubles, "trouble", y));
}

static void differences(struct html_report *r)
{
	char x[HUMAN_MAX];
	FILE *f = r->base.f;

	if (r->row_count == 0) {
		(void)fputs("<h2 id=differences>Differences</h2>\n<p>none\n",
			    f);
		return;
	}
	(void)fputs("<h2 id=differences>Differences</h2>\n"
		    "<div class=wide><table class=found>"
		    "<tr><th>User<th>Folder<th class=num>UID<th>Kind<th>What\n",
		    f);
	copy(r, &r->rows);
	(void)fputs("</table></div>\n", f);
	if (r->row_count > ROWS_MAX)
		(void)fprintf(f,
			      "<p class=quiet>and %s more; janusmail verify "
			      "without --html, or with --json, tells all of "
			      "them\n",
			      human_count(r->row_count - ROWS_MAX, x));
}

static void end(struct report *base, const struct tally *all,
		enum report_result result)
{
	struct html_report *r = (struct html_report *)base;
	FILE *f = base->f;

	head(f, all, result);
	totals(base, all);
	(void)fputs("<h2 id=users>Users</h2>\n<p class=\"key quiet\">"
		    "<i style=\"background:var(--same)\"></i>the same"
		    "<i style=\"background:var(--diff)\"></i>different"
		    "<i style=\"background:var(--only)\"></i>on one side"
		    "<i style=\"background:var(--bad)\"></i>cannot be read\n"
		    "<div class=users>\n",
		    f);
	copy(r, &r->users);
	(void)fputs("</div>\n", f);
	differences(r);
	(void)fputs("</body></html>\n", f);
}

static void html_free(struct report *base)
{
	struct html_report *r = (struct html_report *)base;

	pile_fini(&r->users);
	pile_fini(&r->rows);
	free(r);
}

static const struct report_ops html_ops = {
	.begin = nothing,
	.user_begin = user_begin,
	.folder_begin = folder_begin,
	.finding = finding,
	.folder_end = nothing,
	.user_end = user_end,
	.end = end,
	.free = html_free,
};

struct report *report_html(FILE *f, const struct source *const side[2])
{
	struct html_report *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->base = (struct report){ .ops = &html_ops,
				   .f = f,
				   .side = { side[0], side[1] } };
	return &r->base;
}
