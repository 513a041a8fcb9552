#include "tools/verify.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

enum { USERS = 40, FOLDERS = 5, MESSAGES = 30 };

/* A store of many users that is made up: every message of a folder has the
 * folder's number in it. */
struct made {
	struct source base;
	uint32_t odd_flags;   /* of UID 3 of user u07's folder 2 */
	atomic_uint opened;   /* that folder */
	unsigned wrong_until; /* only the first so many times it is opened, and
				 it changes each time */
};

struct made_user {
	struct source_user base;
	struct made *made;
	bool is_odd;
};

struct made_box {
	struct source_box base;
	struct made *made;
	uint32_t uid, folder;
	bool is_odd, is_wrong;
};

static int next(struct source_box *base, struct fact *out)
{
	struct made_box *b = (struct made_box *)base;

	if (b->uid == MESSAGES)
		return -ENOENT;
	b->uid++;
	*out = (struct fact){ .uid = b->uid, .keywords = "-", .size = 10 };
	(void)snprintf(out->sha256, sizeof(out->sha256), "%u.%u", b->folder,
		       b->uid);
	memcpy(out->crlf, out->sha256, sizeof(out->crlf));
	if (b->is_odd && b->is_wrong && b->uid == 3)
		out->flags = b->made->odd_flags;
	return 0;
}

static bool changed(struct source_box *base)
{
	struct made_box *b = (struct made_box *)base;

	return b->is_odd && b->made->wrong_until > 0 && b->is_wrong;
}

static void close_box(struct source_box *b)
{
	free(b);
}

static const struct source_ops ops;

static int open_box(struct source_user *base, size_t folder,
		    struct source_box **out)
{
	struct made_user *u = (struct made_user *)base;
	struct made_box *b = calloc(1, sizeof(*b));

	cr_assert_not_null(b);
	b->base.ops = &ops;
	b->base.messages = MESSAGES;
	b->base.octets = 10UL * MESSAGES;
	b->made = u->made;
	b->folder = (uint32_t)folder;
	b->is_odd = u->is_odd && folder == 2;
	if (b->is_odd) {
		unsigned n = atomic_fetch_add(&u->made->opened, 1);

		b->is_wrong =
			u->made->wrong_until == 0 || n < u->made->wrong_until;
	}
	*out = &b->base;
	return 0;
}

static int user(struct source *base, const char *name, struct source_user **out)
{
	struct made_user *u = calloc(1, sizeof(*u));
	char dir[16];

	cr_assert_not_null(u);
	u->base.ops = &ops;
	u->made = (struct made *)base;
	u->is_odd = strcmp(name, "u07") == 0;
	cr_assert_eq(source_add_folder(&u->base, "", 0), 0);
	for (unsigned i = 1; i < FOLDERS; i++) {
		(void)snprintf(dir, sizeof(dir), ".f%u", i);
		cr_assert_eq(source_add_folder(&u->base, dir, i * 1000UL), 0);
	}
	*out = &u->base;
	return 0;
}

static void leave(struct source_user *u)
{
	source_user_fini(u);
	free(u);
}

static const struct source_ops ops = {
	.user = user,
	.leave = leave,
	.open = open_box,
	.next = next,
	.changed = changed,
	.close = close_box,
};

static void make(struct made *m, uint32_t odd_flags, unsigned wrong_until)
{
	char name[16];

	*m = (struct made){ .odd_flags = odd_flags,
			    .wrong_until = wrong_until };
	cr_assert_eq(source_init(&m->base, &ops, "MBX", "made:"), 0);
	m->base.many = true;
	for (unsigned i = 0; i < USERS; i++) {
		(void)snprintf(name, sizeof(name), "u%02u", i);
		cr_assert_eq(names_add(&m->base.users, name), 0);
	}
}

/* The report of two stores of which the second has odd flags. */
static char *verify(struct made *odd, unsigned jobs, const struct names *users,
		    enum report_result *result)
{
	struct made plain;
	const struct source *const side[2] = { &plain.base, &odd->base };
	struct verify v = { .side = { &plain.base, &odd->base },
			    .users = users,
			    .jobs = jobs };
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	make(&plain, 0, 0);
	v.report = report_text(f, side);
	cr_assert_eq(verify_run(&v, result), 0);
	v.report->ops->free(v.report);
	cr_assert_eq(fclose(f), 0);
	source_fini(&plain.base);
	return text;
}

TEST(verify, says_the_same_with_any_number_of_threads)
{
	enum report_result result;
	char *first = NULL;

	for (unsigned jobs = 1; jobs < 9; jobs += 3) {
		struct made odd;
		char *text;

		make(&odd, MSG_SEEN, 0);
		text = verify(&odd, jobs, NULL, &result);
		cr_assert_eq(result, REPORT_DIFFERENT);
		if (!first)
			first = strdup(text);
		cr_assert_str_eq(text, first);
		free(text);
		source_fini(&odd.base);
	}
	cr_assert_not_null(
		strstr(first, "u07 f2 UID 3: flags: - in A, S in B"));
	cr_assert_not_null(strstr(first, "messages              6,000"));
	cr_assert_not_null(
		strstr(first, "different: 1 difference, 0 troubles"));
	free(first);
}

TEST(verify, does_not_report_what_was_on_its_way)
{
	enum report_result result;
	struct made odd;
	char *text;

	make(&odd, MSG_SEEN, 1);
	text = verify(&odd, 2, NULL, &result);
	cr_assert_eq(result, REPORT_SAME, "%s", text);
	cr_assert_eq(odd.opened, 2);
	cr_assert_not_null(strstr(text, "same: 0 differences"));
	cr_assert_not_null(strstr(text, "A: 6,000 = 6,000 the same"));
	free(text);
	source_fini(&odd.base);
}

TEST(verify, reports_what_never_comes_to_rest_and_says_so)
{
	enum report_result result;
	struct made odd;
	char *text;

	make(&odd, MSG_SEEN, 100);
	text = verify(&odd, 2, NULL, &result);
	cr_assert_eq(result, REPORT_DIFFERENT);
	cr_assert_eq(odd.opened, 3);
	cr_assert_not_null(strstr(text,
				  "u07 f2 UID 3: flags: - in A, S in B\n"
				  "u07 f2: note: changing"));
	free(text);
	source_fini(&odd.base);
}

TEST(verify, looks_at_the_users_it_was_asked_for)
{
	struct names users = { .count = 0 };
	enum report_result result;
	struct made odd;
	char *text;

	cr_assert_eq(names_add(&users, "u08"), 0);
	make(&odd, MSG_SEEN, 0);
	text = verify(&odd, 2, &users, &result);
	cr_assert_eq(result, REPORT_SAME);
	cr_assert_eq(odd.opened, 0);
	cr_assert_not_null(strstr(text, "messages                150"));
	free(text);
	names_fini(&users);
	source_fini(&odd.base);
}
