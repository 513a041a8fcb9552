#include "tools/report.h"

#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "tools/human.h"
#include "tools/progress.h"

TEST(report, numbers_are_for_people)
{
	char out[HUMAN_MAX];

	cr_assert_str_eq(human_count(0, out), "0");
	cr_assert_str_eq(human_count(999, out), "999");
	cr_assert_str_eq(human_count(1204, out), "1,204");
	cr_assert_str_eq(human_count(UINT64_MAX, out),
			 "18,446,744,073,709,551,615");
	cr_assert_str_eq(human_things(1, "trouble", out), "1 trouble");
	cr_assert_str_eq(human_things(1000, "trouble", out), "1,000 troubles");
	cr_assert_str_eq(human_seconds(0, out), "0:00");
	cr_assert_str_eq(human_seconds(3599, out), "59:59");
	cr_assert_str_eq(human_seconds(3723, out), "1:02:03");
}

TEST(report, totals_explain_themselves)
{
	struct tally t = { .messages = { 1180, 1204 },
			   .same = 1180,
			   .only = { 0, 24 },
			   .only_came = 24,
			   .ours = { 0, 1180 },
			   .came = { 0, 24 } };
	char out[REPORT_SUM];

	cr_assert_str_eq(report_sum(&t, 0, out), "1,180 = 1,180 the same");
	cr_assert_str_eq(report_sum(&t, 1, out),
			 "1,204 = 1,180 the same + 24 delivered since");
	cr_assert_str_eq(report_origin(&t, out),
			 "1,204 = 1,180 out of the MBX + 24 delivered since");
	t = (struct tally){ .messages = { 5, 4 },
			    .same = 1,
			    .changed = 1,
			    .unread = 1,
			    .only = { 2, 1 } };
	cr_assert_str_eq(report_sum(&t, 0, out),
			 "5 = 1 the same + 1 that differ + 1 that cannot be "
			 "read + 2 only in A");
	cr_assert_str_eq(report_sum(&t, 1, out),
			 "4 = 1 the same + 1 that differ + 1 that cannot be "
			 "read + 1 only in B");
	cr_assert_str_eq(report_origin(&t, out), "");
	t = (struct tally){ .same = 0 };
	cr_assert_str_eq(report_sum(&t, 0, out), "0");
}

TEST(report, progress_is_never_above_all_of_it)
{
	struct crew_progress p = {
		.part = 0.5, .users = 2000, .users_done = 999, .messages = 41332
	};
	char line[200];

	cr_assert_str_eq(progress_line(&p, 10000, line, sizeof(line)),
			 "50 %, 999 of 2,000 users, 41,332 messages, "
			 "4,133/s, 0:10 left");
	p.part = 1.7;
	cr_assert_str_eq(progress_line(&p, 10000, line, sizeof(line)),
			 "100 %, 999 of 2,000 users, 41,332 messages, "
			 "4,133/s, 0:00 left");
	p = (struct crew_progress){ .part = 0 };
	cr_assert_str_eq(progress_line(&p, 0, line, sizeof(line)),
			 "0 %, 0 of 0 users, 0 messages, 0/s, ? left");
}

/* All that a report gets, with markup in every text. */
static char *
make_report(struct report *(*make)(FILE *, const struct source *const side[2]),
	    int rows)
{
	static char spec[] = "mbx:<a href=x>";
	static struct source s = { .kind = "MBX", .spec = spec, .many = true };
	const struct source *const side[2] = { &s, &s };
	struct finding f = { .kind = FINDING_KEYWORDS,
			     .uid = 7,
			     .side = { "<i>&", "\"'" } };
	struct tally t = { .changed = 1, .differences = 1 };
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	struct report *r = make(out, side);

	cr_assert_not_null(r);
	r->ops->begin(r);
	r->ops->user_begin(r, "<u>");
	r->ops->folder_begin(r, ".<f>", &t);
	for (int i = 0; i < rows; i++)
		r->ops->finding(r, "<u>", ".<f>", &f);
	r->ops->folder_end(r);
	r->ops->user_end(r, "<u>", &t);
	r->ops->end(r, &t, REPORT_DIFFERENT);
	cr_assert_not(r->err);
	r->ops->free(r);
	cr_assert_eq(fclose(out), 0);
	return text;
}

TEST(report, the_page_escapes_everything)
{
	char *text = make_report(report_html, 1);

	cr_assert_not_null(strstr(text, "&lt;i&gt;&amp; in A, &quot;&#39;"));
	cr_assert_not_null(strstr(text, "<td>&lt;u&gt;<td>&lt;f&gt;"));
	cr_assert_not_null(strstr(text, "mbx:&lt;a href=x&gt;"));
	cr_assert_null(strstr(text, "<i>"));
	cr_assert_null(strstr(text, "<u>"));
	cr_assert_null(strstr(text, "<f>"));
	free(text);
}

TEST(report, the_page_says_how_many_more_there_are)
{
	char *text = make_report(report_html, 6204);

	cr_assert_not_null(strstr(text, "and 1,204 more"));
	free(text);
}

TEST(report, the_text_is_a_line_a_finding)
{
	char *text = make_report(report_text, 2);
	static const char want[] =
		"<u> <f> UID 7: keywords: <i>& in A, \"' in B\n"
		"<u> <f> UID 7: keywords: <i>& in A, \"' in B\n"
		"A = mbx:<a href=x>\n";

	cr_assert_eq(strncmp(text, want, strlen(want)), 0, "%s", text);
	free(text);
}
