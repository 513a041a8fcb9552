/*
 * When the rows are true. A lease starts with the file as the rows have it: the
 * stamp under UW's locks is the one of the last sync, and one that a change
 * since then cannot have left (stamp_settled()). While it lasts every change to
 * the file is ours, and is in the rows when it is made. At the end the stamp is
 * taken under the locks, with a fraction of a second that only we give
 * (STAMP_OWN_NS); so whatever others do next shows, without another look at the
 * messages, however soon it comes.
 */
#include "fs/lease.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "compat/mbxlock.h"
#include "fs/folder_internal.h"
#include "fs/kept.h"
#include "fs/settle.h"
#include "fs/user.h"
#include "index/sync.h"

enum {
	IDLE_US = 2000,	     /* after the last change */
	MAX_US = 10000,	     /* nobody waits for us longer than about this */
	NAP_US = 1000,	     /* how often the thread looks */
	MARGIN_MS = 100,     /* beyond lockwait=, for one who waits himself */
	TICK_US = 20000,     /* two of the file system's clock */
	TRIES = 3,	     /* when the MBX changes under us again and again */
	CROWD_LOCK_MS = 300, /* who is not among the first FOLDER_CROWD */
	IN_VAIN_MS = 100,    /* who comes after one that waited in vain */
	STUCK_MS = 2000,
	ALL_AT_ONCE = 32, /* half of the threads that serve */
	SMALL = 32 << 20, /* octets of an MBX that is scanned in no time */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct folder *first; /* with a lease, or one that has ended */
	pthread_t thread;
	bool stop, running;
} leases = { .lock = PTHREAD_MUTEX_INITIALIZER,
	     .wake = PTHREAD_COND_INITIALIZER };

/* ---- the end of a lease -------------------------------------------------- */

/* All with the sync_lock. The lease is over for readers before it is for UW:
 * they have to look for themselves then, behind us. */
static void finish(struct folder *f, bool stale)
{
	struct folder_box *b = f->lease.box;
	struct stamp s = { .ino = 0 };

	if (!b)
		return;
	f->lease.box = NULL;
	atomic_store(&f->lease.held, false);
	b->box->ops->end(b->box, stale ? NULL : &s);
	folder_bump_done(f);
	if (s.ino == 0)
		folder_distrust(f);
	else if (!stamp_equal(&s, &f->stamp))
		folder_trust(f, &s);
	settle_note(f, b);
	folder_let_go(b);
}

void lease_finish(struct folder *f)
{
	finish(f, false);
}

void lease_end(struct folder *f, bool stale)
{
	if (stale || f->lease.stale)
		finish(f, true);
	atomic_store(&f->lease.used_us, clock_us());
	(void)pthread_mutex_unlock(&f->sync_lock);
}

/* ---- the start ----------------------------------------------------------- */

static bool is_true(const struct folder *f, const struct stamp *now)
{
	return f->synced && stamp_equal(now, &f->stamp) &&
		stamp_settled(&f->stamp, f->stamp_ns);
}

/*
 * With UW's locks: are the rows true? Somebody may have written just before we
 * got them. A mailbox that is not large is looked at on the spot, or a busy
 * session of UW would keep us out for good; a large one is better scanned
 * without keeping everybody waiting, after its times have settled, until that
 * has been in vain often enough.
 */
static int confirm_rows(struct folder *f, struct folder_box *b, bool last)
{
	struct stamp now;
	int ret = b->box->ops->stamp(b->box, &now);

	if (ret < 0 || is_true(f, &now))
		return ret;
	if (!last && now.size > SMALL)
		return -ESTALE;
	f->lease.starting = true;
	ret = folder_sync(f);
	f->lease.starting = false;
	return ret == 0 && f->box != b ? -ESTALE : ret;
}

static int begin_once(struct folder *f, bool last)
{
	struct folder_box *b = folder_hold(f);
	int ret = b ? b->box->ops->begin(b->box) : -ESTALE;

	if (ret == 0) {
		ret = confirm_rows(f, b, last);
		if (ret < 0)
			b->box->ops->end(b->box, NULL);
	}
	if (ret < 0) {
		folder_let_go(b);
		if (ret == -ESTALE && !last)
			clock_nap_us(TICK_US);
		return ret;
	}
	f->lease.box = b;
	f->lease.stale = false;
	atomic_store(&f->lease.began_us, clock_us());
	atomic_store(&f->lease.used_us, clock_us());
	atomic_store(&f->lease.held, true);
	return 0;
}

/* When flags may have changed at most, the look under the locks is enough; new
 * mail also has to get into Dovecot's files, which nobody should wait for. */
static bool can_look_later(struct folder *f)
{
	struct folder_box *b = f->box;
	struct stamp now;

	return b && f->synced && !f->late && f->stamp.size <= SMALL &&
		b->box->ops->stamp(b->box, &now) == 0 &&
		now.ino == f->stamp.ino && now.size == f->stamp.size &&
		f->state == FOLDER_OK;
}

static int begin(struct folder *f)
{
	int ret = -ESTALE;

	for (int i = 0; i < TRIES && ret == -ESTALE; i++) {
		ret = i == 0 && can_look_later(f) ? 0 : folder_sync(f);
		if (ret == 0)
			ret = begin_once(f, i == TRIES - 1);
	}
	return ret == -ESTALE ? -EAGAIN : ret;
}

static void enlist(struct folder *f)
{
	(void)pthread_mutex_lock(&leases.lock);
	if (!f->lease.listed) {
		f->lease.listed = true;
		f->lease.next = leases.first;
		leases.first = f;
		(void)pthread_cond_signal(&leases.wake);
	}
	(void)pthread_mutex_unlock(&leases.lock);
}

static int begin_within(struct folder *f, int64_t ms)
{
	int64_t left = ms - clock_ms();
	int ret = 0;

	if (f->lease.box && clock_us() - f->lease.began_us >= MAX_US)
		finish(f, false);
	if (!f->lease.box) {
		mbxlock_limit(left > 0 ? (unsigned)left : 0);
		atomic_store(&f->sync_since, clock_ms());
		/* Who only tries comes again. */
		f->glance = ms == 0;
		ret = begin(f);
		f->glance = false;
		atomic_store(&f->sync_since, 0);
		kept_look(f);
		mbxlock_limit(UINT_MAX);
		if (ret == 0)
			enlist(f);
	}
	if (ret < 0)
		(void)pthread_mutex_unlock(&f->sync_lock);
	return ret;
}

/*
 * A user who keeps his mailbox locked must not take all threads that serve: few
 * wait for as long as a flag is worth, more of them only while others get on,
 * the rest not at all.
 */
static int lock_to_write(struct folder *f, int ahead, unsigned patience)
{
	if (ahead < FOLDER_CROWD)
		return clock_lock(&f->sync_lock, (int64_t)patience + MARGIN_MS);
	if (ahead < ALL_AT_ONCE)
		return folder_lock_in_crowd(f, patience, STUCK_MS);
	return clock_lock(&f->sync_lock, 0);
}

/*
 * The kernel keeps the directory locked while a rename or an unlink in it
 * waits: nobody can list it, or look a name up. When one has waited in vain,
 * those that come soon after him hardly wait, until somebody gets the lock.
 */
static bool is_in_vain(const struct folder *f)
{
	return atomic_load(&f->is_kept) &&
		clock_ms() < atomic_load(&f->lease.in_vain_until);
}

static void note_outcome(struct folder *f, int ret)
{
	int64_t lasts = (int64_t)f->fs->opt->lock_ms + IN_VAIN_MS;

	if (ret == 0)
		atomic_store(&f->lease.in_vain_until, 0);
	else if (ret == -EAGAIN)
		atomic_store(&f->lease.in_vain_until, clock_ms() + lasts);
}

int lease_begin(struct folder *f)
{
	unsigned patience = f->fs->opt->lock_ms;
	bool in_vain = patience > IN_VAIN_MS && is_in_vain(f);
	int64_t until = clock_ms() + (in_vain ? IN_VAIN_MS : (int64_t)patience);
	int ahead = atomic_fetch_add(&f->user->waiting, 1);
	int ret = lock_to_write(f, ahead, in_vain ? IN_VAIN_MS : patience);

	atomic_store(&f->used_ms, clock_ms());
	if (ahead >= FOLDER_CROWD)
		until = clock_ms() + CROWD_LOCK_MS;
	if (ret == 0)
		ret = begin_within(f, until);
	/* Others of the crowd have not waited long enough to say. */
	if (in_vain || ahead < FOLDER_CROWD)
		note_outcome(f, ret);
	(void)atomic_fetch_sub(&f->user->waiting, 1);
	return ret;
}

int lease_try(struct folder *f)
{
	return pthread_mutex_trylock(&f->sync_lock) == 0 ? begin_within(f, 0)
							 : -EAGAIN;
}

/* ---- what comes later (settle.h) ----------------------------------------- */

/* With the sync_lock. Times alone change, so the rows stay as true as they
 * were. */
static int touch_locked(struct folder *f, struct folder_box *b)
{
	struct stamp s;
	bool true_before;
	int ret = b->box->ops->begin(b->box);

	if (ret < 0)
		return ret;
	ret = b->box->ops->stamp(b->box, &s);
	true_before = ret == 0 && f->box == b && is_true(f, &s);
	if (ret == 0)
		ret = b->box->ops->touch(b->box);
	if (ret == 0 && b->box->touch_due != 0)
		ret = -EAGAIN; /* not yet */
	b->box->ops->end(b->box, true_before ? &s : NULL);
	if (true_before && s.ino != 0 && !stamp_equal(&s, &f->stamp))
		folder_trust(f, &s);
	return ret;
}

int lease_touch(struct folder *f, struct folder_box *b)
{
	int ret = -EAGAIN;

	if (pthread_mutex_trylock(&f->sync_lock) != 0)
		return -EAGAIN;
	/* The end of a lease sets its time anew, and settle_note() says so. */
	if (f->lease.box != b) {
		mbxlock_limit(0);
		ret = touch_locked(f, b);
		mbxlock_limit(UINT_MAX);
	}
	(void)pthread_mutex_unlock(&f->sync_lock);
	return ret;
}

int lease_confirm(struct folder *f)
{
	struct folder_box *b;
	struct stamp s;

	if (pthread_mutex_trylock(&f->sync_lock) != 0)
		return -EAGAIN;
	b = folder_hold(f);
	if (b && !f->lease.box && f->synced &&
	    b->box->ops->stamp(b->box, &s) == 0 && stamp_equal(&s, &f->stamp) &&
	    stamp_is_own(&s))
		folder_trust(f, &s);
	folder_let_go(b);
	(void)pthread_mutex_unlock(&f->sync_lock);
	return 0;
}

/* ---- the thread ---------------------------------------------------------- */

static bool is_over(const struct folder *f)
{
	int64_t now = clock_us();

	return now - atomic_load(&f->lease.used_us) >= IDLE_US ||
		now - atomic_load(&f->lease.began_us) >= MAX_US;
}

/* Who has the sync_lock is making a change, or ends the lease himself when he
 * makes the next one. */
static bool end_if_over(struct folder *f, bool stop)
{
	if (!stop && !is_over(f))
		return false;
	if (stop)
		(void)pthread_mutex_lock(&f->sync_lock);
	else if (pthread_mutex_trylock(&f->sync_lock) != 0)
		return false;
	finish(f, false);
	(void)pthread_mutex_lock(&leases.lock);
	f->lease.listed = false;
	(void)pthread_mutex_unlock(&leases.lock);
	(void)pthread_mutex_unlock(&f->sync_lock);
	return true;
}

static void end_all_over(bool stop)
{
	struct folder *list, *next;

	(void)pthread_mutex_lock(&leases.lock);
	list = leases.first;
	leases.first = NULL;
	(void)pthread_mutex_unlock(&leases.lock);
	for (; list; list = next) {
		next = list->lease.next;
		if (end_if_over(list, stop))
			continue;
		(void)pthread_mutex_lock(&leases.lock);
		list->lease.next = leases.first;
		leases.first = list;
		(void)pthread_mutex_unlock(&leases.lock);
	}
}

static void *run(void *arg)
{
	bool stop = false;

	while (!stop) {
		end_all_over(false);
		clock_nap_us(NAP_US);
		(void)pthread_mutex_lock(&leases.lock);
		while (!leases.first && !leases.stop)
			(void)pthread_cond_wait(&leases.wake, &leases.lock);
		stop = leases.stop;
		(void)pthread_mutex_unlock(&leases.lock);
	}
	return arg;
}

int lease_start(void)
{
	int ret = settle_start();

	leases.stop = false;
	if (ret == 0) {
		ret = -pthread_create(&leases.thread, NULL, run, NULL);
		if (ret < 0)
			settle_stop();
	}
	leases.running = ret == 0;
	return ret;
}

void lease_stop(void)
{
	if (!leases.running)
		return;
	leases.running = false;
	(void)pthread_mutex_lock(&leases.lock);
	leases.stop = true;
	(void)pthread_cond_signal(&leases.wake);
	(void)pthread_mutex_unlock(&leases.lock);
	(void)pthread_join(leases.thread, NULL);
	end_all_over(true);
	settle_stop();
}
