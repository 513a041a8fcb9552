#include "fs/settle.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "fs/change.h"
#include "fs/folder_internal.h"
#include "fs/lease.h"
#include "fs/regime.h"
#include "fs/seed.h"

enum {
	TICK_MS = 25,
	IDLE_MS = 50,  /* after the last change */
	LATE_MS = 500, /* after the first one */
	RETRY_MS = 1000,
	CONFIRM_MS = 2100, /* sync.h: mtime has to be two seconds old */
	NAMES_EVERY_MS = 200,
	NAMES_FOR_MS = 10000,
	REGIME_MS = 2000,
	TOUCH_MAX_MS = 1500, /* at the end nobody waits longer for the second */
};

/* What is due for a folder, each at a time of clock_ms(); 0: not. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct folder *first;
	pthread_t thread;
	bool stop;
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER,
	    .wake = PTHREAD_COND_INITIALIZER };

/* ---- what there is to do ------------------------------------------------- */

/* With the lock. */
static void enlist(struct folder *f)
{
	if (f->settle.listed)
		return;
	f->settle.listed = true;
	f->settle.next = queue.first;
	queue.first = f;
	(void)pthread_cond_signal(&queue.wake);
}

/* The box that was noted before was another one: the file was replaced. */
static void take_box(struct folder *f, struct folder_box *b)
{
	struct folder_box *was;

	(void)pthread_mutex_lock(&queue.lock);
	was = f->settle.box;
	if (was != b) {
		(void)atomic_fetch_add(&b->users, 1);
		f->settle.box = b;
	}
	(void)pthread_mutex_unlock(&queue.lock);
	if (!was || was == b)
		return;
	if (was->box->ops->sync(was->box) < 0)
		log_warn("folder %u: the last changes to a mailbox that was "
			 "replaced may not have reached the disk",
			 f->id.number);
	folder_let_go(was);
}

void settle_note(struct folder *f, struct folder_box *b)
{
	int64_t now = clock_ms();

	take_box(f, b);
	(void)pthread_mutex_lock(&queue.lock);
	if (f->settle.first_ms == 0)
		f->settle.first_ms = now;
	f->settle.sync_ms = now + IDLE_MS;
	if (f->settle.sync_ms > f->settle.first_ms + LATE_MS)
		f->settle.sync_ms = f->settle.first_ms + LATE_MS;
	f->settle.touch_at = b->box->touch_due;
	f->settle.touch_ms = f->settle.touch_at ? now : 0;
	f->settle.confirm_ms = now + CONFIRM_MS;
	enlist(f);
	(void)pthread_mutex_unlock(&queue.lock);
}

void settle_letters(struct folder *f)
{
	int64_t now = clock_ms();

	(void)pthread_mutex_lock(&queue.lock);
	f->settle.names_ms = now;
	f->settle.names_until = now + NAMES_FOR_MS;
	enlist(f);
	(void)pthread_mutex_unlock(&queue.lock);
}

/* With the lock: as folder_hold() does, of the box that was noted. */
static struct folder_box *hold_noted(const struct folder *f)
{
	struct folder_box *b = f->settle.box;

	if (b)
		(void)atomic_fetch_add(&b->users, 1);
	return b;
}

static int sync_both(struct folder *f, struct folder_box *b)
{
	struct journal *j = atomic_load(&f->journal);
	int ret = b ? b->box->ops->sync(b->box) : 0;

	return ret == 0 && j ? journal_sync(j) : ret;
}

void settle_regime(struct folder *f)
{
	(void)pthread_mutex_lock(&queue.lock);
	if (f->settle.regime_ms == 0)
		f->settle.regime_ms = clock_ms() + REGIME_MS;
	enlist(f);
	(void)pthread_mutex_unlock(&queue.lock);
}

int settle_sync(struct folder *f)
{
	struct folder_box *b = folder_hold(f), *noted;
	int ret = 0;

	(void)pthread_mutex_lock(&queue.lock);
	noted = hold_noted(f);
	(void)pthread_mutex_unlock(&queue.lock);
	/* The file was closed after the change, or is open anew. */
	if (noted && noted != b)
		ret = noted->box->ops->sync(noted->box);
	if (ret == 0)
		ret = sync_both(f, b);
	folder_let_go(noted);
	folder_let_go(b);
	return ret;
}

/* Whether it is time for what is due at *@at; it is not due any more then. */
static bool is_time(int64_t *at, int64_t now)
{
	bool due;

	(void)pthread_mutex_lock(&queue.lock);
	due = *at != 0 && *at <= now;
	if (due)
		*at = 0;
	(void)pthread_mutex_unlock(&queue.lock);
	return due;
}

/* Unless it became due anew. */
static void again(int64_t *at, int64_t when)
{
	(void)pthread_mutex_lock(&queue.lock);
	if (*at == 0)
		*at = when;
	(void)pthread_mutex_unlock(&queue.lock);
}

/* ---- doing it ------------------------------------------------------------ */

static void make_durable(struct folder *f, struct folder_box *b, int64_t now)
{
	char name[400];
	int ret;

	if (!is_time(&f->settle.sync_ms, now))
		return;
	(void)pthread_mutex_lock(&queue.lock);
	f->settle.first_ms = 0;
	(void)pthread_mutex_unlock(&queue.lock);
	ret = sync_both(f, b);
	if (ret == 0)
		return;
	again(&f->settle.sync_ms, now + RETRY_MS);
	folder_log_name(f, name, sizeof(name));
	log_err("%s: changes may not have reached the disk: %s", name,
		strerrordesc_np(-ret));
}

static void touch(struct folder *f, struct folder_box *b, int64_t now)
{
	int ret;

	if (!is_time(&f->settle.touch_ms, now))
		return;
	ret = lease_touch(f, b);
	if (ret == -EAGAIN)
		again(&f->settle.touch_ms, now);
	else if (ret < 0 && ret != -ESTALE)
		log_warn("folder %u: running sessions of UW may not notice a "
			 "change of flags: %s",
			 folder_id(f).number, strerrordesc_np(-ret));
	if (ret < 0)
		return;
	/* The file has another time now: the two seconds begin anew. */
	(void)pthread_mutex_lock(&queue.lock);
	f->settle.confirm_ms = now + CONFIRM_MS;
	(void)pthread_mutex_unlock(&queue.lock);
}

static void confirm(struct folder *f, int64_t now)
{
	if (is_time(&f->settle.confirm_ms, now) && lease_confirm(f) == -EAGAIN)
		again(&f->settle.confirm_ms, now);
}

static void look_for_names(struct folder *f, int64_t now)
{
	int64_t changed;
	bool more;

	if (!is_time(&f->settle.names_ms, now))
		return;
	changed = seed_keywords_time(f);
	if (changed != f->settle.names_seen && change_look(f) == 0)
		f->settle.names_seen = changed;
	(void)pthread_mutex_lock(&queue.lock);
	more = atomic_load(&f->lettered) && now < f->settle.names_until;
	(void)pthread_mutex_unlock(&queue.lock);
	if (more)
		again(&f->settle.names_ms, now + NAMES_EVERY_MS);
}

static void look_at_regime(struct folder *f, int64_t now)
{
	if (is_time(&f->settle.regime_ms, now) && regime_look(f) < 0)
		again(&f->settle.regime_ms, now + REGIME_MS);
}

/* With the lock: whether nothing is left; then its box is given back. */
static bool is_done(struct folder *f, struct folder_box **box)
{
	const struct folder_settle *s = &f->settle;

	if (s->sync_ms || s->touch_ms || s->confirm_ms || s->names_ms ||
	    s->regime_ms)
		return false;
	*box = s->box;
	f->settle.box = NULL;
	f->settle.listed = false;
	return true;
}

/* What nobody misses when the program ends. */
static void leave_out(struct folder_settle *s)
{
	s->confirm_ms = s->names_ms = s->regime_ms = 0;
}

static void do_one(struct folder *f, bool last)
{
	struct folder_box *b, *done = NULL;
	int64_t now = clock_ms();
	struct timespec wall;
	bool second_over;

	(void)clock_gettime(CLOCK_REALTIME, &wall);
	(void)pthread_mutex_lock(&queue.lock);
	b = hold_noted(f);
	second_over = wall.tv_sec >= f->settle.touch_at;
	if (last)
		leave_out(&f->settle);
	(void)pthread_mutex_unlock(&queue.lock);
	make_durable(f, b, last ? now + LATE_MS : now);
	if (second_over)
		touch(f, b, now);
	confirm(f, now);
	look_for_names(f, now);
	if (!last)
		look_at_regime(f, now);
	(void)pthread_mutex_lock(&queue.lock);
	if (last)
		leave_out(&f->settle);
	if (!is_done(f, &done)) {
		f->settle.next = queue.first;
		queue.first = f;
	}
	(void)pthread_mutex_unlock(&queue.lock);
	folder_let_go(b);
	folder_let_go(done);
}

static void do_all(bool last)
{
	struct folder *list, *next;

	(void)pthread_mutex_lock(&queue.lock);
	list = queue.first;
	queue.first = NULL;
	(void)pthread_mutex_unlock(&queue.lock);
	for (; list; list = next) {
		next = list->settle.next;
		do_one(list, last);
	}
}

/* ---- the thread ---------------------------------------------------------- */

static void nap(void)
{
	const struct timespec ts = { .tv_nsec = TICK_MS * 1000000L };

	(void)nanosleep(&ts, NULL);
}

static void *run(void *arg)
{
	bool stop = false;

	while (!stop) {
		do_all(false);
		nap();
		(void)pthread_mutex_lock(&queue.lock);
		while (!queue.first && !queue.stop)
			(void)pthread_cond_wait(&queue.wake, &queue.lock);
		stop = queue.stop;
		(void)pthread_mutex_unlock(&queue.lock);
	}
	return arg;
}

int settle_start(void)
{
	queue.stop = false;
	return -pthread_create(&queue.thread, NULL, run, NULL);
}

void settle_stop(void)
{
	int64_t until;

	(void)pthread_mutex_lock(&queue.lock);
	queue.stop = true;
	(void)pthread_cond_signal(&queue.wake);
	(void)pthread_mutex_unlock(&queue.lock);
	(void)pthread_join(queue.thread, NULL);
	until = clock_ms() + TOUCH_MAX_MS;
	do_all(true);
	while (queue.first && clock_ms() < until) {
		nap();
		do_all(true);
	}
	for (struct folder *f = queue.first; f; f = f->settle.next) {
		folder_let_go(f->settle.box);
		f->settle.box = NULL;
	}
	queue.first = NULL;
}
