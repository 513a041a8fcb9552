#include "tools/report.h"

#include <string.h>

#include "compat/text.h"
#include "tools/human.h"

const char *report_result_name(enum report_result result)
{
	static const char *const names[] = { "same", "different", "trouble" };

	return names[result];
}

const char *report_user(const char *user, char *out)
{
	return text_escape(user, strlen(user), out, REPORT_USER + 1);
}

const char *report_spec(const struct report *r, int i, char *out)
{
	const char *spec = r->side[i]->spec;
	size_t len = strlen(spec);

	return text_is_utf8(spec, len)
		? spec
		: text_escape(spec, len, out, REPORT_SPEC);
}

/* ---- totals that explain themselves -------------------------------------- */

static void add(char *out, const char *between, uint64_t n, const char *what)
{
	char count[HUMAN_MAX];
	size_t used = strlen(out);

	if (n > 0)
		(void)snprintf(out + used, REPORT_SUM - used, "%s%s %s",
			       strchr(out, '=') ? between : " = ",
			       human_count(n, count), what);
}

const char *report_sum(const struct tally *t, int i, char *out)
{
	static const char *const here[] = { "only in A", "only in B" };
	uint64_t came = i == 1 ? t->only_came : 0;

	(void)human_count(t->messages[i], out);
	add(out, " + ", t->same, "the same");
	add(out, " + ", t->changed, "that differ");
	add(out, " + ", t->unread, "that cannot be read");
	add(out, " + ", came, "delivered since");
	add(out, " + ", t->only[i] - came, here[i]);
	return out;
}

const char *report_origin(const struct tally *t, char *out)
{
	*out = '\0';
	if (t->ours[1] == 0)
		return out;
	(void)human_count(t->messages[1], out);
	add(out, " + ", t->ours[1], "out of the MBX");
	add(out, " + ", t->came[1], "delivered since");
	add(out, " + ", t->messages[1] - t->ours[1] - t->came[1],
	    "of unknown origin");
	return out;
}

/* ---- findings ------------------------------------------------------------ */

static void one_side(FILE *f, const char *what, const struct finding *found)
{
	for (int i = 0; i < 2; i++)
		if (found->side[i])
			(void)fprintf(f, "%s in %c: %s", what, 'A' + i,
				      found->side[i]);
}

void report_what(FILE *f, const struct finding *found)
{
	const char *name = finding_name(found->kind);

	switch (found->kind) {
	case FINDING_USER:
	case FINDING_FOLDER:
	case FINDING_SUBSCRIBED:
	case FINDING_MESSAGE:
		(void)fprintf(f, "%s ", name);
		one_side(f, "only", found);
		break;
	case FINDING_SWAPPED:
		(void)fprintf(f, "swapped with UID %s", found->side[1]);
		break;
	case FINDING_DAMAGED:
	case FINDING_UNREADABLE:
	case FINDING_NOT_A_MAILBOX:
	case FINDING_CHANGING:
		one_side(f, name, found);
		break;
	default:
		(void)fprintf(f, "%s: %s in A, %s in B", name, found->side[0],
			      found->side[1]);
	}
}
