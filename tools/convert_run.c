#include "tools/convert_run.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "compat/pace.h"
#include "tools/convert_folder.h"
#include "tools/convert_report.h"

enum { LOOK_US = 50000, REPORT_US = 1000000 };

/* A user whose folders are being converted. */
struct turn {
	struct convert_user *user;
	size_t next;	  /* the folder that nobody has taken yet */
	unsigned running; /* folders under way, and one for who hands out */
};

struct worker {
	struct run *run;
	pthread_t thread;
	_Atomic uint64_t done; /* octets of the folder under way */
};

struct run {
	struct convert_site *site;
	const struct convert_how *how;
	struct pace pace;
	struct convert_report report;
	pthread_mutex_t lock; /* guards what follows */
	size_t next_user;
	struct turn *turn;
	uint64_t done; /* octets of folders that are finished */
	unsigned working;
};

static struct pace *signalled;

static void on_signal(int number)
{
	(void)number;
	atomic_store(&signalled->cancelled, true);
}

/* ---- who is next --------------------------------------------------------- */

static bool is_wanted(const struct names *list, const char *name)
{
	return list->count == 0 || names_has(list, name);
}

static const char *dir_of(const struct convert_user *u,
			  const struct convert_box *b)
{
	return u->ledger.folders[b->line].dir;
}

static bool folder_is_wanted(const struct run *r, const struct convert_user *u,
			     const struct convert_box *b)
{
	const char *dir = dir_of(u, b);

	return is_wanted(&r->how->folders, *dir ? dir + 1 : "INBOX");
}

/* With the lock. */
static void release(struct turn *t)
{
	if (--t->running > 0)
		return;
	convert_user_close(t->user);
	free(t);
}

/* With the lock. Return: 0; -errno: this user cannot be had. */
static int open_user(struct run *r, const char *name)
{
	struct turn *t = calloc(1, sizeof(*t));
	char why[1100] = "out of memory";
	int ret = t
		? convert_user_open(r->site, name, &t->user, why, sizeof(why))
		: -ENOMEM;

	if (ret == 0) {
		ret = convert_user_subscribe(t->user);
		if (ret < 0)
			(void)snprintf(why, sizeof(why), "subscriptions: %s",
				       strerrordesc_np(-ret));
	}
	convert_report_user(&r->report, name, ret < 0 ? why : NULL);
	if (ret < 0) {
		if (t)
			convert_user_close(t->user);
		free(t);
		return ret;
	}
	for (size_t i = 0; i < t->user->note_count; i++)
		convert_report_note(&r->report, name, &t->user->notes[i]);
	t->running = 1;
	r->turn = t;
	return 0;
}

/* With the lock. */
static bool next_user(struct run *r)
{
	while (r->next_user < r->site->users.count) {
		const char *name = r->site->users.list[r->next_user++];

		if (!is_wanted(&r->how->users, name))
			continue;
		if (open_user(r, name) == 0)
			return true;
	}
	return false;
}

/* With the lock. Return: false when the user has no more. */
static bool next_folder(struct run *r, size_t *out)
{
	struct turn *t = r->turn;

	for (; t->next < t->user->count; t->next++)
		if (folder_is_wanted(r, t->user, &t->user->boxes[t->next])) {
			*out = t->next++;
			t->running++;
			return true;
		}
	r->turn = NULL;
	release(t);
	return false;
}

static bool take(struct run *r, struct turn **turn, size_t *folder)
{
	bool found = false;

	(void)pthread_mutex_lock(&r->lock);
	while (!found && !atomic_load(&r->pace.cancelled) &&
	       (r->turn || next_user(r))) {
		*turn = r->turn;
		found = next_folder(r, folder);
	}
	(void)pthread_mutex_unlock(&r->lock);
	return found;
}

/* ---- working ------------------------------------------------------------- */

/* A full disk is nobody's own trouble. */
static bool is_hopeless(int err)
{
	return err == -ENOSPC || err == -EROFS || err == -ENOMEM;
}

static void convert_one(struct worker *w, struct turn *t, size_t folder)
{
	const struct convert_box *b = &t->user->boxes[folder];
	struct convert_outcome *out = calloc(1, sizeof(*out));
	struct run *r = w->run;
	char dir[FOLDERNAME_MAX + 1];

	(void)pthread_mutex_lock(&t->user->lock);
	(void)snprintf(dir, sizeof(dir), "%s", dir_of(t->user, b));
	(void)pthread_mutex_unlock(&t->user->lock);
	if (out) {
		convert_folder_run(t->user, b, &r->pace, &w->done, out);
		if (out->err != -ECANCELED)
			convert_report_folder(&r->report, t->user->name, dir,
					      out);
		if (is_hopeless(out->err))
			atomic_store(&r->pace.cancelled, true);
		convert_outcome_fini(out);
	}
	free(out);
	(void)pthread_mutex_lock(&r->lock);
	r->done += b->octets;
	atomic_store(&w->done, 0);
	release(t);
	(void)pthread_mutex_unlock(&r->lock);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct run *r = w->run;
	struct turn *turn;
	size_t folder;

	pace_idle_io();
	while (take(r, &turn, &folder))
		convert_one(w, turn, folder);
	(void)pthread_mutex_lock(&r->lock);
	r->working--;
	(void)pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* ---- how much there is --------------------------------------------------- */

static uint64_t octets_of(struct run *r, const char *name)
{
	struct convert_user *u;
	uint64_t octets = 0;
	char why[1100];

	if (convert_user_open(r->site, name, &u, why, sizeof(why)) < 0)
		return 0;
	for (size_t i = 0; i < u->count; i++)
		if (folder_is_wanted(r, u, &u->boxes[i]))
			octets += u->boxes[i].octets;
	convert_user_close(u);
	return octets;
}

/* For who wants to see how far it is. */
static void measure(struct run *r)
{
	bool dry = r->site->dry;

	if (!r->report.json && !r->report.tty)
		return;
	r->site->dry = true;
	for (size_t i = 0; i < r->site->users.count; i++)
		if (is_wanted(&r->how->users, r->site->users.list[i]))
			r->report.total += octets_of(r, r->site->users.list[i]);
	r->site->dry = dry;
}

/* ---- all of it ----------------------------------------------------------- */

static bool is_over(struct run *r, struct worker *w, uint64_t *done)
{
	bool over;

	(void)pthread_mutex_lock(&r->lock);
	over = r->working == 0;
	*done = r->done;
	for (unsigned i = 0; i < r->how->jobs; i++)
		*done += atomic_load(&w[i].done);
	(void)pthread_mutex_unlock(&r->lock);
	return over;
}

static void watch(struct run *r, struct worker *w)
{
	int64_t next = 0;
	uint64_t done;

	while (!is_over(r, w, &done)) {
		if (clock_us() >= next) {
			next = clock_us() + REPORT_US;
			convert_report_progress(&r->report, done);
		}
		clock_nap_us(LOOK_US);
	}
	convert_report_progress(&r->report, done);
}

/* Return: how many there are */
static unsigned start(struct run *r, struct worker *w)
{
	unsigned started = 0;
	int err = 0;

	(void)pthread_mutex_lock(&r->lock);
	while (err == 0 && started < r->how->jobs) {
		w[started].run = r;
		err = pthread_create(&w[started].thread, NULL, work,
				     &w[started]);
		started += err == 0;
	}
	r->working = started;
	(void)pthread_mutex_unlock(&r->lock);
	if (err)
		log_warn("convert: %u threads instead of %u", started,
			 r->how->jobs);
	return started;
}

static void catch_signals(struct run *r)
{
	struct sigaction sa = { .sa_handler = on_signal };

	signalled = &r->pace;
	(void)sigaction(SIGINT, &sa, NULL);
	(void)sigaction(SIGTERM, &sa, NULL);
	(void)sigaction(SIGHUP, &sa, NULL);
}

static int status_of(const struct run *r)
{
	if (r->report.trouble > 0 || atomic_load(&r->pace.cancelled))
		return CONVERT_TROUBLE;
	return r->report.quarantined + r->report.findings > 0
		? CONVERT_QUARANTINED
		: CONVERT_ALL;
}

int convert_run(struct convert_site *s, const struct convert_how *how)
{
	struct run r = { .site = s, .how = how };
	AUTO_FREE struct worker *w = calloc(how->jobs, sizeof(*w));
	unsigned started;
	int status;

	if (!w)
		return CONVERT_TROUBLE;
	(void)pthread_mutex_init(&r.lock, NULL);
	pace_init(&r.pace, how->rate, how->max_load);
	convert_report_init(&r.report, how->json, s->dry);
	catch_signals(&r);
	measure(&r);
	started = start(&r, w);
	watch(&r, w);
	for (unsigned i = 0; i < started; i++)
		(void)pthread_join(w[i].thread, NULL);
	(void)pthread_mutex_lock(&r.lock);
	if (r.turn)
		release(r.turn);
	(void)pthread_mutex_unlock(&r.lock);
	convert_report_end(&r.report, atomic_load(&r.pace.cancelled));
	status = started == 0 ? CONVERT_TROUBLE : status_of(&r);
	convert_report_fini(&r.report);
	pace_fini(&r.pace);
	(void)pthread_mutex_destroy(&r.lock);
	return status;
}
