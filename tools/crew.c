#include "tools/crew.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "tools/jobs.h"

enum { AHEAD = 2, TICK_MS = 250 };

struct crew {
	const struct crew_work *work;
	struct names names;
	/* What follows is guarded. */
	pthread_mutex_t lock;
	pthread_cond_t turn; /* something was done, or can be */
	struct crew_user *users;
	size_t due;	   /* the user whose results are handed over */
	uint64_t messages; /* of users who are done */
	int err;
	bool over;
};

/* ---- which users --------------------------------------------------------- */

static int all_names(struct crew *c)
{
	int ret = 0;

	for (int i = 0; i < 2; i++) {
		const struct source *s = c->work->side[i];

		for (size_t k = 0; s && ret == 0 && k < s->users.count; k++)
			ret = names_add(&c->names, s->users.list[k]);
	}
	names_sort(&c->names);
	return ret;
}

/* The mail of one user without a name goes with that of the one who was asked
 * for. */
static bool is_many(const struct crew *c)
{
	const struct source *b = c->work->side[1];

	return c->work->side[0]->many || (b && b->many);
}

static int wanted_names(struct crew *c)
{
	const struct names *w = c->work->users;
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < w->count; i++) {
		bool found = false;

		for (int k = 0; k < 2; k++) {
			const struct source *s = c->work->side[k];

			found = found ||
				(s && s->many &&
				 names_has_sorted(&s->users, w->list[i]));
		}
		if (found)
			ret = names_add(&c->names, w->list[i]);
		else
			ret = -ENOENT;
		if (ret == -ENOENT)
			log_err("no user %s", w->list[i]);
	}
	names_sort(&c->names);
	return ret;
}

static int choose_users(struct crew *c)
{
	const struct names *w = c->work->users;
	int ret;

	ret = w && w->count > 0 && is_many(c) ? wanted_names(c) : all_names(c);
	if (ret < 0)
		return ret;
	c->users = calloc(c->names.count + 1, sizeof(*c->users));
	if (!c->users)
		return -ENOMEM;
	for (size_t i = 0; i < c->names.count; i++)
		c->users[i].name = c->names.list[i];
	return 0;
}

/* ---- a user's folders ---------------------------------------------------- */

static void open_sides(struct crew *c, struct crew_user *u)
{
	for (int i = 0; i < 2; i++) {
		struct source *s = c->work->side[i];
		const char *name = s && s->many ? u->name : "";

		u->err[i] = !s || !names_has_sorted(&s->users, name)
			? -ENOENT
			: s->ops->user(s, name, &u->side[i]);
	}
}

static bool is_wanted(const struct crew *c, const char *dir)
{
	const struct names *w = c->work->folders;
	char name[FACT_NAME_MAX + 1];

	if (!w || w->count == 0)
		return true;
	fact_name(dir, name);
	return names_has(w, name);
}

static int add_folder(struct crew_user *u, const char *dir)
{
	struct crew_folder *more =
		reallocarray(u->folders, u->count + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	u->folders = more;
	memset(&more[u->count], 0, sizeof(*more));
	(void)stpcpy(more[u->count].dir, dir);
	u->count++;
	return 0;
}

/* The folders of both sides, as a merge of two sorted lists. */
static int merge_folders(const struct crew *c, struct crew_user *u)
{
	static const struct source_user none;
	const struct source_user *a = u->side[0] ? u->side[0] : &none;
	const struct source_user *b = u->side[1] ? u->side[1] : &none;
	size_t i = 0, k = 0;

	while (i < a->count || k < b->count) {
		int order = i == a->count ? 1
			: k == b->count
			? -1
			: strcmp(a->folders[i].dir, b->folders[k].dir);
		bool in[2] = { order <= 0, order >= 0 };
		const struct source_folder *f =
			in[0] ? &a->folders[i] : &b->folders[k];
		struct crew_folder *new;

		i += in[0];
		k += in[1];
		if ((a->partial && !in[0]) || (b->partial && !in[1]) ||
		    !is_wanted(c, f->dir))
			continue;
		if (add_folder(u, f->dir) < 0)
			return -ENOMEM;
		new = &u->folders[u->count - 1];
		new->has[0] = in[0];
		new->has[1] = in[1];
		new->at[0] = i - 1;
		new->at[1] = k - 1;
		new->weight = 1 + f->octets;
		if (in[0] && in[1] && b->folders[k - 1].octets > f->octets)
			new->weight = 1 + b->folders[k - 1].octets;
	}
	return 0;
}

/* ---- the threads --------------------------------------------------------- */

/* The next folder of any listed user, or the next user to be listed. Return:
 * whether there is one. */
static bool find_job(struct crew *c, struct crew_user **user,
		     struct crew_folder **folder)
{
	size_t last = c->due + c->work->jobs + AHEAD;

	for (size_t i = c->due; i < c->names.count && i < last; i++) {
		struct crew_user *u = &c->users[i];

		*user = u;
		*folder = NULL;
		if (u->state == CREW_WAITING)
			return true;
		if (u->state == CREW_LISTED && u->taken < u->count) {
			*folder = &u->folders[u->taken++];
			return true;
		}
	}
	return false;
}

static void fail(struct crew *c, int err)
{
	if (c->err == 0)
		c->err = err;
	c->over = true;
}

static void do_job(struct crew *c, struct crew_user *u, struct crew_folder *f)
{
	int ret;

	if (!f)
		u->state = CREW_LISTING;
	(void)pthread_mutex_unlock(&c->lock);
	if (f) {
		ret = c->work->folder(u, f, c->work->arg);
	} else {
		open_sides(c, u);
		ret = u->err[0] == -ENOMEM || u->err[1] == -ENOMEM
			? -ENOMEM
			: merge_folders(c, u);
	}
	(void)pthread_mutex_lock(&c->lock);
	if (ret < 0)
		fail(c, ret);
	if (f) {
		f->done = true;
		u->done++;
	} else {
		u->state = CREW_LISTED;
	}
	(void)pthread_cond_broadcast(&c->turn);
}

static void *work_on(void *arg)
{
	struct crew *c = arg;
	struct crew_folder *f;
	struct crew_user *u;

	(void)pthread_mutex_lock(&c->lock);
	while (!c->over) {
		if (find_job(c, &u, &f))
			do_job(c, u, f);
		else
			(void)pthread_cond_wait(&c->turn, &c->lock);
	}
	(void)pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* ---- handing over -------------------------------------------------------- */

static double part_of_user(const struct crew_user *u, uint64_t *messages)
{
	double done = 0, all = 0;

	if (u->state != CREW_LISTED)
		return 0;
	for (size_t i = 0; i < u->count; i++) {
		const struct crew_folder *f = &u->folders[i];
		uint64_t read = atomic_load(&f->read);
		uint64_t expected = atomic_load(&f->expected);
		double part = f->done ? 1 : 0;

		if (!f->done && expected > 0)
			part = read < expected ? (double)read / (double)expected
					       : 1;
		*messages += read;
		all += (double)f->weight;
		done += part * (double)f->weight;
	}
	return all > 0 ? done / all : 1;
}

static void tick(struct crew *c)
{
	struct crew_progress p = { .users = c->names.count,
				   .users_done = c->due,
				   .messages = c->messages };
	double done = (double)c->due;

	if (!c->work->tick)
		return;
	for (size_t i = c->due; i < c->names.count; i++) {
		if (c->users[i].state == CREW_WAITING)
			break;
		done += part_of_user(&c->users[i], &p.messages);
	}
	p.part = c->names.count ? done / (double)c->names.count : 1;
	c->work->tick(&p, c->work->arg);
}

/* With the lock, until *@flag or the end. */
static void wait_for(struct crew *c, bool (*ready)(const void *), const void *p)
{
	while (!c->over && !ready(p)) {
		struct timespec until = clock_in_ms(TICK_MS);

		(void)pthread_cond_timedwait(&c->turn, &c->lock, &until);
		tick(c);
	}
}

static bool is_listed(const void *p)
{
	return ((const struct crew_user *)p)->state == CREW_LISTED;
}

static bool is_done(const void *p)
{
	return ((const struct crew_folder *)p)->done;
}

static void user_fini(struct crew_user *u)
{
	for (size_t i = 0; i < u->count; i++)
		pile_fini(&u->folders[i].out);
	free(u->folders);
	u->folders = NULL;
	u->count = 0;
	for (int i = 0; i < 2; i++) {
		if (u->side[i])
			u->side[i]->ops->leave(u->side[i]);
		u->side[i] = NULL;
	}
}

/* Without the lock: the user's folders are done, nobody else looks at them. */
static int hand_over(struct crew *c, struct crew_user *u)
{
	const struct crew_work *w = c->work;
	int ret = w->user_begin(u, w->arg);

	for (size_t i = 0; ret == 0 && i < u->count; i++) {
		struct crew_folder *f = &u->folders[i];

		(void)pthread_mutex_lock(&c->lock);
		wait_for(c, is_done, f);
		ret = c->err;
		(void)pthread_mutex_unlock(&c->lock);
		if (ret == 0)
			ret = w->folder_done(u, f, w->arg);
		pile_fini(&f->out);
	}
	return ret < 0 ? ret : w->user_end(u, w->arg);
}

static int lead(struct crew *c)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < c->names.count; i++) {
		struct crew_user *u = &c->users[i];

		(void)pthread_mutex_lock(&c->lock);
		wait_for(c, is_listed, u);
		ret = c->err;
		(void)pthread_mutex_unlock(&c->lock);
		if (ret == 0)
			ret = hand_over(c, u);
		(void)pthread_mutex_lock(&c->lock);
		if (ret == 0) {
			(void)part_of_user(u, &c->messages);
			c->due++;
		}
		(void)pthread_cond_broadcast(&c->turn);
		(void)pthread_mutex_unlock(&c->lock);
		if (ret == 0)
			user_fini(u);
	}
	return ret;
}

static int start(struct crew *c, pthread_t *threads, unsigned *count)
{
	pthread_condattr_t attr;

	(void)pthread_mutex_init(&c->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&c->turn, &attr);
	(void)pthread_condattr_destroy(&attr);
	for (*count = 0; *count < c->work->jobs && *count < JOBS_MAX;
	     (*count)++) {
		int err = pthread_create(&threads[*count], NULL, work_on, c);

		/* One is enough. */
		if (err)
			return *count ? 0 : -err;
	}
	return 0;
}

int crew_run(const struct crew_work *work)
{
	struct crew c = { .work = work };
	pthread_t threads[JOBS_MAX];
	unsigned count = 0;
	int ret = choose_users(&c);

	if (ret == 0)
		ret = start(&c, threads, &count);
	if (ret == 0)
		ret = lead(&c);
	if (count > 0) {
		(void)pthread_mutex_lock(&c.lock);
		c.over = true;
		(void)pthread_cond_broadcast(&c.turn);
		(void)pthread_mutex_unlock(&c.lock);
	}
	for (unsigned i = 0; i < count; i++)
		(void)pthread_join(threads[i], NULL);
	for (size_t i = 0; c.users && i < c.names.count; i++)
		user_fini(&c.users[i]);
	free(c.users);
	names_fini(&c.names);
	return ret;
}
