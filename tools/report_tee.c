#include <stdlib.h>

#include "tools/report.h"

struct tee {
	struct report base;
	struct report *to[2];
};

static void begin(struct report *base)
{
	struct tee *t = (struct tee *)base;

	t->to[0]->ops->begin(t->to[0]);
	t->to[1]->ops->begin(t->to[1]);
}

static void user_begin(struct report *base, const char *user)
{
	struct tee *t = (struct tee *)base;

	t->to[0]->ops->user_begin(t->to[0], user);
	t->to[1]->ops->user_begin(t->to[1], user);
}

static void folder_begin(struct report *base, const char *dir,
			 const struct tally *tally)
{
	struct tee *t = (struct tee *)base;

	t->to[0]->ops->folder_begin(t->to[0], dir, tally);
	t->to[1]->ops->folder_begin(t->to[1], dir, tally);
}

static void finding(struct report *base, const char *user, const char *dir,
		    const struct finding *f)
{
	struct tee *t = (struct tee *)base;

	t->to[0]->ops->finding(t->to[0], user, dir, f);
	t->to[1]->ops->finding(t->to[1], user, dir, f);
}

static void folder_end(struct report *base)
{
	struct tee *t = (struct tee *)base;

	t->to[0]->ops->folder_end(t->to[0]);
	t->to[1]->ops->folder_end(t->to[1]);
}

static void user_end(struct report *base, const char *user,
		     const struct tally *tally)
{
	struct tee *t = (struct tee *)base;

	t->to[0]->ops->user_end(t->to[0], user, tally);
	t->to[1]->ops->user_end(t->to[1], user, tally);
}

static void end(struct report *base, const struct tally *all,
		enum report_result result)
{
	struct tee *t = (struct tee *)base;

	t->to[0]->ops->end(t->to[0], all, result);
	t->to[1]->ops->end(t->to[1], all, result);
	base->err = t->to[0]->err || t->to[1]->err;
}

static void tee_free(struct report *base)
{
	struct tee *t = (struct tee *)base;

	t->to[0]->ops->free(t->to[0]);
	t->to[1]->ops->free(t->to[1]);
	free(t);
}

static const struct report_ops tee_ops = {
	.begin = begin,
	.user_begin = user_begin,
	.folder_begin = folder_begin,
	.finding = finding,
	.folder_end = folder_end,
	.user_end = user_end,
	.end = end,
	.free = tee_free,
};

struct report *report_tee(struct report *one, struct report *two)
{
	struct tee *t = one && two ? calloc(1, sizeof(*t)) : NULL;

	if (t) {
		*t = (struct tee){ .base = { .ops = &tee_ops },
				   .to = { one, two } };
		return &t->base;
	}
	if (one)
		one->ops->free(one);
	if (two)
		two->ops->free(two);
	return NULL;
}
