#include "tools/verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/clock.h"
#include "tools/compare.h"
#include "tools/crew.h"
#include "tools/human.h"
#include "tools/progress.h"

enum { TRIES = 3 };

static const int64_t nap_us = 200000;

struct run {
	const struct verify *v;
	struct progress progress;
	struct tally user, all;
};

/* ---- a folder, in one of the threads ------------------------------------- */

static int one_sided(struct compare *c, int i)
{
	struct source_box *b = c->box[i];
	char text[HUMAN_MAX];
	const char *side[2] = { NULL, NULL };

	c->tally->folders[i]++;
	c->tally->messages[i] += b->messages;
	c->tally->octets[i] += b->octets;
	c->tally->only[i] += b->messages;
	side[i] = b->damage;
	if (*b->damage &&
	    compare_put(c, FINDING_DAMAGED, 0, side[0], side[1]) < 0)
		return -ENOMEM;
	side[i] = human_things(b->messages, "message", text);
	return compare_put(c, FINDING_FOLDER, 0, side[0], side[1]);
}

static int two_sided(struct compare *c)
{
	c->tally->folders[0]++;
	c->tally->folders[1]++;
	return compare_folder(c);
}

/* There is always an INBOX, also where nothing has come yet. */
static bool is_no_inbox(const struct crew_folder *f, const struct source_box *b)
{
	return *f->dir == '\0' && b->messages == 0 && b->err == 0 &&
		*b->damage == '\0';
}

static void close_boxes(struct compare *c)
{
	for (int i = 0; i < 2; i++) {
		if (c->box[i])
			c->box[i]->ops->close(c->box[i]);
		c->box[i] = NULL;
	}
}

static int open_boxes(struct crew_user *u, struct crew_folder *f,
		      struct compare *c)
{
	int ret = 0;

	for (int i = 0; ret == 0 && i < 2; i++) {
		if (!f->has[i])
			continue;
		ret = u->side[i]->ops->open(u->side[i], f->at[i], &c->box[i]);
		if (ret == 0)
			atomic_fetch_add(&f->expected, c->box[i]->messages);
	}
	return ret;
}

static int try_once(struct crew_user *u, struct crew_folder *f,
		    struct compare *c, bool *changed)
{
	int ret, i;

	pile_fini(&f->out);
	f->tally = (struct tally){ .same = 0 };
	atomic_store(&f->read, 0);
	atomic_store(&f->expected, 0);
	ret = open_boxes(u, f, c);
	i = c->box[0] ? 0 : 1;
	if (ret == 0 && c->box[0] && c->box[1])
		ret = two_sided(c);
	else if (ret == 0 && c->box[i] && !is_no_inbox(f, c->box[i]))
		ret = one_sided(c, i);
	*changed = false;
	for (i = 0; i < 2; i++)
		*changed = *changed ||
			(c->box[i] && c->box[i]->ops->changed(c->box[i]));
	close_boxes(c);
	return ret;
}

/* What differs may have been in flight: then it is looked at again. */
static int check_folder(struct crew_user *u, struct crew_folder *f, void *arg)
{
	static const char text[] = "while it was read; what differs may have "
				   "been on its way";
	const struct run *run = arg;
	struct compare c = { .crlf = run->v->crlf,
			     .out = &f->out,
			     .tally = &f->tally,
			     .progress = &f->read };
	bool changed = false;
	int ret = 0;

	for (int i = 1; i <= TRIES; i++) {
		c.last_try = i == TRIES;
		ret = try_once(u, f, &c, &changed);
		if (ret < 0 && ret != -ESTALE)
			return ret;
		if (ret == 0 && (!changed || f->tally.differences == 0))
			return 0;
		if (i < TRIES)
			clock_nap_us(i * nap_us);
	}
	return ret < 0 ? ret : compare_put(&c, FINDING_CHANGING, 0, text, NULL);
}

/* ---- a user, in order ---------------------------------------------------- */

static void tell(struct run *run, const char *user, const char *dir,
		 const struct finding *f)
{
	progress_clear(&run->progress);
	run->v->report->ops->finding(run->v->report, user, dir, f);
}

/* One about the user himself. */
static void tell_user(struct run *run, const struct crew_user *u,
		      enum finding_kind kind, int i, const char *text)
{
	struct finding f = { .kind = kind };

	f.side[i] = text;
	if (finding_class(kind) == FINDING_DIFFERENCE)
		run->user.differences++;
	else if (finding_class(kind) == FINDING_TROUBLE)
		run->user.troubles++;
	tell(run, u->name, NULL, &f);
}

static void check_sides(struct run *run, const struct crew_user *u)
{
	char text[HUMAN_MAX];

	for (int i = 0; i < 2; i++) {
		if (u->side[i])
			run->user.users[i] = 1;
		else if (u->err[i] != -ENOENT)
			tell_user(run, u, FINDING_UNREADABLE, i,
				  source_why(u->err[i]));
		else if (u->side[!i]) {
			tell_user(run, u, FINDING_USER, !i,
				  human_things(u->side[!i]->count, "folder",
					       text));
		}
	}
}

static void tell_notes(struct run *run, const struct crew_user *u, int i)
{
	const struct source_user *s = u->side[i];
	char text[1024];

	for (size_t k = 0; s && k < s->note_count; k++) {
		(void)snprintf(text, sizeof(text), "%s: %s", s->notes[k].what,
			       s->notes[k].why);
		tell_user(run, u,
			  s->notes[k].trouble ? FINDING_UNREADABLE
					      : FINDING_NOT_A_MAILBOX,
			  i, text);
	}
}

static void check_subscribed(struct run *run, const struct crew_user *u, int i)
{
	const struct source_user *s = u->side[i], *o = u->side[!i];
	char name[FACT_NAME_MAX + 1];

	for (size_t k = 0; k < s->subscribed.count; k++) {
		if (names_has_sorted(&o->subscribed, s->subscribed.list[k]))
			continue;
		fact_name(s->subscribed.list[k], name);
		tell_user(run, u, FINDING_SUBSCRIBED, i, name);
	}
}

static bool knows_subscribed(const struct run *run, const struct crew_user *u)
{
	const struct names *folders = run->v->folders;
	bool all = !folders || folders->count == 0;

	for (int i = 0; i < 2; i++)
		all = all && u->side[i] && u->side[i]->has_subscribed &&
			!u->side[i]->partial;
	return all;
}

static int user_begin(struct crew_user *u, void *arg)
{
	struct run *run = arg;

	run->user = (struct tally){ .same = 0 };
	run->v->report->ops->user_begin(run->v->report, u->name);
	check_sides(run, u);
	tell_notes(run, u, 0);
	tell_notes(run, u, 1);
	if (knows_subscribed(run, u)) {
		check_subscribed(run, u, 0);
		check_subscribed(run, u, 1);
	}
	return 0;
}

static int folder_done(struct crew_user *u, struct crew_folder *f, void *arg)
{
	AUTO_FREE char *buf = NULL;
	struct run *run = arg;
	struct report *r = run->v->report;
	struct finding found;
	int ret = pile_rewind(&f->out);

	r->ops->folder_begin(r, f->dir, &f->tally);
	while (ret == 0) {
		ret = finding_get(&f->out, &found, &buf);
		if (ret == 0)
			tell(run, u->name, f->dir, &found);
	}
	r->ops->folder_end(r);
	tally_add(&run->user, &f->tally);
	return ret == -ENOENT ? 0 : ret;
}

static int user_end(struct crew_user *u, void *arg)
{
	struct run *run = arg;

	run->v->report->ops->user_end(run->v->report, u->name, &run->user);
	tally_add(&run->all, &run->user);
	return 0;
}

static void tick(const struct crew_progress *p, void *arg)
{
	struct run *run = arg;

	progress_show(&run->progress, p);
}

int verify_run(const struct verify *v, enum report_result *result)
{
	struct run run = { .v = v };
	struct crew_work work = { .side = { v->side[0], v->side[1] },
				  .users = v->users,
				  .folders = v->folders,
				  .jobs = v->jobs,
				  .arg = &run,
				  .folder = check_folder,
				  .user_begin = user_begin,
				  .folder_done = folder_done,
				  .user_end = user_end,
				  .tick = tick };
	int ret;

	progress_start(&run.progress);
	v->report->ops->begin(v->report);
	ret = crew_run(&work);
	progress_clear(&run.progress);
	if (ret < 0)
		return ret;
	*result = run.all.troubles    ? REPORT_TROUBLE
		: run.all.differences ? REPORT_DIFFERENT
				      : REPORT_SAME;
	v->report->ops->end(v->report, &run.all, *result);
	return 0;
}
