/*
 * One thread waits for news (inotify, or the next poll) and puts what they are
 * about into a queue; a few others take it from there. What is a folder's job
 * is done by one thread at a time and not again at once, so a mailbox that
 * changes all the time costs no more than one that changes now and then. A lock
 * of UW is tried for moments; who holds it has us come again, later and later.
 * There are several threads, and no more than two work for one user.
 */
#include "fs/watch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "compat/place.h"
#include "fs/folder.h"
#include "fs/folder_internal.h"
#include "fs/fs.h"
#include "fs/subscribe.h"
#include "fs/user.h"
#include "fs/wake.h"
#include "fs/watch_internal.h"

enum {
	WORKERS = 4,
	PER_USER = 2,
	SOON_MS = 5, /* so that a change in several steps is one */
	GAP_MS = 50, /* between two looks at the same thing */
	PATIENCE_MS = 50,
	WAKE_GAP_MS = 200,
	AGAIN_MS = 50,	   /* first pause while something is locked, doubled */
	AGAIN_DOUBLED = 4, /* times; and after */
	AGAIN_TRIES = 60,  /* of them */
	AGAIN_RARE_MS = 10000, /* this */
	LIST_AGAIN_MS = 1000,
	LOOK_MS = 300, /* between two walks over a mail directory */
	REST_SHARE = 10,
	REST_MAX_MS = 5000,
	NAP_US = 2000, /* so that events come in heaps */
};

static TAILQ_HEAD(jobs, watch_job) queue = TAILQ_HEAD_INITIALIZER(queue);

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct fs *fs;
	int stop_fd;
	bool running;
	atomic_bool stop;
	unsigned workers;
	pthread_t thread, worker[WORKERS];
} w = { .lock = PTHREAD_MUTEX_INITIALIZER, .stop_fd = -1 };

/* ---- the queue ----------------------------------------------------------- */

static bool is_off(const struct fs *fs)
{
	return fs->opt->watch == WATCH_OFF;
}

/* With the lock. Most come for about the same time from now. */
static void insert(struct watch_job *j, int64_t due)
{
	struct watch_job *before = TAILQ_LAST(&queue, jobs);

	while (before && before->due_ms > due)
		before = TAILQ_PREV(before, jobs, link);
	j->due_ms = due;
	j->queued = true;
	if (before)
		TAILQ_INSERT_AFTER(&queue, before, j, link);
	else
		TAILQ_INSERT_HEAD(&queue, j, link);
	if (w.running)
		(void)pthread_cond_signal(&w.wake);
}

/* With the lock. */
static void put(struct watch_job *j, int64_t due)
{
	if (due < j->free_ms)
		due = j->free_ms;
	if (j->busy) {
		if (j->again_ms == 0 || due < j->again_ms)
			j->again_ms = due;
		return;
	}
	if (j->queued) {
		if (j->due_ms <= due)
			return;
		TAILQ_REMOVE(&queue, j, link);
	}
	insert(j, due);
}

static void ask(struct watch_job *j, int64_t ms)
{
	(void)pthread_mutex_lock(&w.lock);
	put(j, clock_ms() + ms);
	(void)pthread_mutex_unlock(&w.lock);
}

void watch_ask(struct user *u, unsigned what, int64_t ms)
{
	if (is_off(u->fs))
		return;
	(void)atomic_fetch_or(&u->watch.what, what);
	ask(&u->watch.job, ms);
}

void watch_ask_folders(struct user *u, unsigned looks, int64_t ms)
{
	atomic_store(&u->watch.asked_ms, clock_ms());
	if (atomic_load(&u->watch.looks) < looks)
		atomic_store(&u->watch.looks, looks);
	watch_ask(u, WATCH_FOLDERS, ms);
}

void watch_ask_folder(struct folder *f)
{
	if (is_off(f->fs) || !atomic_load(&f->seeded))
		return;
	ask(&f->watch.job, SOON_MS);
}

void watch_user(struct user *u)
{
	watch_ask(u, WATCH_DIRS, 0);
}

void watch_moved(struct folder *f)
{
	(void)atomic_fetch_add(&f->watch.moved, 1);
}

/* ---- a folder ------------------------------------------------------------ */

static int64_t come_again(struct watch_folder *wf)
{
	unsigned n = wf->tries++;

	if (n >= AGAIN_TRIES)
		return AGAIN_RARE_MS;
	n = n < AGAIN_DOUBLED ? n : AGAIN_DOUBLED;
	return (int64_t)AGAIN_MS << n;
}

/* Return: 0, or in how many milliseconds there is something left to do. */
static int64_t wake_watchers(struct folder *f)
{
	struct watch_folder *wf = &f->watch;
	unsigned moved = atomic_load(&wf->moved);
	int64_t now = clock_ms();

	if (moved == wf->told)
		return 0;
	if (now < wf->woken_ms + WAKE_GAP_MS)
		return wf->woken_ms + WAKE_GAP_MS - now;
	wf->told = moved;
	wf->woken_ms = now;
	wake_folder(f);
	return 0;
}

static int64_t do_folder(struct folder *f)
{
	struct watch_folder *wf = &f->watch;
	int64_t again;
	int ret;

	if (atomic_load(&f->deleted) || atomic_load(&f->gone))
		return 0;
	ret = folder_is_fresh(f) ? 0 : folder_look(f, PATIENCE_MS);
	log_trace(LOG_VIEW, "watch: folder %u: %d", folder_id(f).number, ret);
	if (ret == -ENOENT)
		watch_ask_folders(f->user, 2, SOON_MS);
	again = wake_watchers(f);
	if (ret != -EAGAIN && ret != -EBUSY) {
		wf->tries = 0;
		return again;
	}
	return again ? again : come_again(wf);
}

/* ---- a user -------------------------------------------------------------- */

/* Copied, for who calls functions that take the user's lock. */
void watch_each_folder(struct user *u, void (*fn)(struct folder *f))
{
	for (size_t i = 0;; i++) {
		struct folder *f = NULL;

		(void)pthread_mutex_lock(&u->lock);
		if (i < u->count)
			f = u->folders[i];
		(void)pthread_mutex_unlock(&u->lock);
		if (!f)
			return;
		fn(f);
	}
}

static void ask_if_known(struct folder *f)
{
	if (wake_is_known(f))
		watch_ask_folder(f);
}

static bool was_last_look(struct watch_user *wu)
{
	unsigned n = atomic_load(&wu->looks), left;

	do {
		left = n > 1 ? n - 1 : 0;
	} while (!atomic_compare_exchange_weak(&wu->looks, &n, left));
	return left == 0;
}

/* Return: in how many milliseconds to come again; 0. */
static int64_t look_for_folders(struct user *u)
{
	struct watch_user *wu = &u->watch;
	int64_t asked = atomic_load(&wu->asked_ms);

	if (user_refresh_soon(u) < 0)
		return 0; /* logged where it is found; a listing says it, too */
	/* It may be too early for another walk, or one was under way already.
	 */
	if (atomic_load(&u->refresh_began_ms) >= asked) {
		if (was_last_look(wu))
			return 0;
		atomic_store(&wu->asked_ms, clock_ms());
	}
	(void)atomic_fetch_or(&wu->what, WATCH_FOLDERS);
	return LOOK_MS;
}

/* What is made before there is a watch for it tells nobody: one more look for
 * folders, when there was none. */
static void look_at_dirs(struct user *u)
{
	struct watch_user *wu = &u->watch;
	bool had_all = atomic_load(&wu->how) == WATCHED_INOTIFY && !wu->missing;

	watch_dirs_user(u);
	if (!had_all && atomic_load(&wu->how) != WATCHED_POLL)
		watch_ask_folders(u, 1, 0);
}

static int64_t do_user(struct user *u)
{
	unsigned what = atomic_exchange(&u->watch.what, 0);
	int64_t again = 0;

	if (what & WATCH_DIRS)
		look_at_dirs(u);
	if (what & WATCH_FOLDERS)
		again = look_for_folders(u);
	if (what & WATCH_ALL)
		watch_each_folder(u, watch_ask_folder);
	/* What changed between the last look and the first watch. */
	else if (what & WATCH_DIRS)
		watch_each_folder(u, ask_if_known);
	if ((what & (WATCH_LIST | WATCH_DIRS)) &&
	    subscribe_follow(u) == -EBUSY) {
		(void)atomic_fetch_or(&u->watch.what, WATCH_LIST);
		again = LIST_AGAIN_MS;
	}
	return again;
}

/* ---- the workers --------------------------------------------------------- */

/* With the lock. @due_out: when to look again; 0: when somebody says so */
static struct watch_job *take(int64_t *due_out)
{
	int64_t now = clock_ms();
	struct watch_job *j;

	*due_out = 0;
	TAILQ_FOREACH(j, &queue, link)
	{
		if (j->due_ms > now) {
			*due_out = j->due_ms;
			return NULL;
		}
		if (j->user->watch.busy < PER_USER)
			break;
	}
	if (!j)
		return NULL;
	TAILQ_REMOVE(&queue, j, link);
	j->queued = false;
	j->busy = true;
	j->began_ms = now;
	j->user->watch.busy++;
	return j;
}

/* Walks over large trees take up to a tenth of the time. */
static int64_t rest(const struct watch_job *j, int64_t took)
{
	int64_t ms = j->folder ? 0 : took * REST_SHARE;

	if (ms < GAP_MS)
		return GAP_MS;
	return ms < REST_MAX_MS ? ms : REST_MAX_MS;
}

/* With the lock. */
static void give_back(struct watch_job *j, int64_t again)
{
	int64_t now = clock_ms(), due = j->again_ms;

	if (again > 0 && (due == 0 || now + again < due))
		due = now + again;
	j->busy = false;
	j->again_ms = 0;
	j->free_ms = now + rest(j, now - j->began_ms);
	j->user->watch.busy--;
	if (due > 0)
		put(j, due);
	/* Others of this user may have been passed over. */
	(void)pthread_cond_signal(&w.wake);
}

static void wait_until(int64_t due_ms)
{
	struct timespec ts = { .tv_sec = due_ms / 1000,
			       .tv_nsec = due_ms % 1000 * 1000000 };

	if (due_ms == 0)
		(void)pthread_cond_wait(&w.wake, &w.lock);
	else
		(void)pthread_cond_clockwait(&w.wake, &w.lock, CLOCK_MONOTONIC,
					     &ts);
}

static void *work(void *arg)
{
	int64_t due, again;

	(void)pthread_mutex_lock(&w.lock);
	while (!atomic_load(&w.stop)) {
		struct watch_job *j = take(&due);

		if (!j) {
			wait_until(due);
			continue;
		}
		(void)pthread_mutex_unlock(&w.lock);
		again = j->folder ? do_folder(j->folder) : do_user(j->user);
		(void)pthread_mutex_lock(&w.lock);
		give_back(j, again);
	}
	(void)pthread_mutex_unlock(&w.lock);
	return arg;
}

/* ---- news ---------------------------------------------------------------- */

static int count_polled(struct user *u, void *arg)
{
	uint64_t *n = arg;

	*n += atomic_load(&u->watch.how) == WATCHED_POLL;
	return 0;
}

static int ask_everything(struct user *u, void *arg)
{
	(void)arg;
	watch_ask_folders(u, 2, SOON_MS);
	watch_ask(u, WATCH_DIRS | WATCH_LIST | WATCH_ALL, SOON_MS);
	return 0;
}

void watch_ask_all(struct fs *fs)
{
	(void)!user_each_attached(fs, ask_everything, NULL);
}

static void *listen_for_news(void *arg)
{
	struct pollfd fds[2] = { { .fd = w.stop_fd, .events = POLLIN },
				 { .fd = watch_dirs_fd(), .events = POLLIN } };
	int64_t every = w.fs->opt->poll_ms, next = clock_ms() + every;

	while (!atomic_load(&w.stop)) {
		int64_t left = next - clock_ms();
		int n = poll(fds, 2, left > 0 ? (int)left : 0);

		if (n > 0 && fds[1].revents) {
			clock_nap_us(NAP_US);
			watch_events_read(w.fs);
		}
		if (clock_ms() >= next) {
			(void)!user_each_attached(w.fs, watch_poll_user, NULL);
			next = clock_ms() + every;
		}
	}
	return arg;
}

/* ---- start and end ------------------------------------------------------- */

static int first_look(struct user *u, void *arg)
{
	(void)arg;
	watch_user(u);
	return 0;
}

static int start_threads(void)
{
	int ret = -pthread_create(&w.thread, NULL, listen_for_news, NULL);

	w.running = ret == 0;
	for (w.workers = 0; ret == 0 && w.workers < WORKERS; w.workers++) {
		ret = -pthread_create(&w.worker[w.workers], NULL, work, NULL);
		if (ret < 0)
			return ret;
	}
	return ret;
}

int watch_start(struct fs *fs)
{
	int ret;

	if (is_off(fs))
		return 0;
	w.fs = fs;
	ret = wake_start(fs->opt->mountpoint);
	if (ret < 0)
		log_warn("%s: nobody who watches a folder will be told of "
			 "changes by UW: %s",
			 fs->opt->mountpoint, strerrordesc_np(-ret));
	w.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w.stop_fd < 0)
		return -errno;
	ret = watch_dirs_open(fs);
	if (ret < 0)
		log_trace(LOG_VIEW, "watch: no inotify: %d", ret);
	ret = start_threads();
	return ret == 0 ? user_each_attached(fs, first_look, NULL) : ret;
}

void watch_stop(void (*answer)(void *arg), void *arg)
{
	uint64_t one = 1;

	wake_stop(answer, arg);
	if (w.running) {
		(void)pthread_mutex_lock(&w.lock);
		atomic_store(&w.stop, true);
		(void)pthread_cond_broadcast(&w.wake);
		(void)pthread_mutex_unlock(&w.lock);
		if (write(w.stop_fd, &one, sizeof(one)) < 0)
			log_warn("watch: its thread ends late");
		(void)pthread_join(w.thread, NULL);
		for (unsigned i = 0; i < w.workers; i++)
			(void)pthread_join(w.worker[i], NULL);
		w.running = false;
	}
	if (w.fs)
		watch_dirs_close(w.fs);
	base_auto_close(&w.stop_fd);
	w.stop_fd = -1;
}

void watch_totals(struct fs *fs, struct watch_totals *out)
{
	*out = (struct watch_totals){ .off = is_off(fs),
				      .wakes = wake_count() };
	out->watches = watch_dirs_count(&out->watches_max);
	(void)!user_each_attached(fs, count_polled, &out->polled);
}
