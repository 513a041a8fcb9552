#include "fs/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "compat/clock.h"
#include "compat/io.h"
#include "compat/mbxlock.h"
#include "compat/text.h"
#include "fs/files.h"
#include "fs/folder_internal.h"
#include "fs/kept.h"
#include "fs/mirror.h"
#include "fs/seed.h"
#include "fs/user.h"
#include "index/sync.h"

enum {
	NUMBER_BUCKETS = 16384,
	CROWD_MS = 50, /* longer than this */
	CROWD_LOCK_MS = 300,
	MARGIN_MS = 100, /* for one sync without waiting */
	BACKOFF_MS = 1000,
	STUCK_MS = 500, /* no sync takes that long but by waiting */
	LOOK_MS = 500,	/* for what is newer than what is known */
};

static struct {
	pthread_mutex_t lock;
	struct folder *buckets[NUMBER_BUCKETS];
} numbers = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the table by number ------------------------------------------------- */

static void number_add(struct folder *f)
{
	struct folder **at = &numbers.buckets[f->id.number % NUMBER_BUCKETS];

	(void)pthread_mutex_lock(&numbers.lock);
	f->next = *at;
	*at = f;
	(void)pthread_mutex_unlock(&numbers.lock);
}

void folder_number_change(struct folder *f, uint32_t number,
			  uint32_t uidvalidity)
{
	struct folder **at = &numbers.buckets[f->id.number % NUMBER_BUCKETS];

	if (number != f->id.number)
		folder_journal_renew(f, number);
	(void)pthread_mutex_lock(&numbers.lock);
	while (*at && *at != f)
		at = &(*at)->next;
	if (*at)
		*at = f->next;
	(void)pthread_rwlock_wrlock(&f->lock);
	f->id.number = number;
	f->id.uidvalidity = uidvalidity;
	(void)pthread_rwlock_unlock(&f->lock);
	at = &numbers.buckets[number % NUMBER_BUCKETS];
	f->next = *at;
	*at = f;
	(void)pthread_mutex_unlock(&numbers.lock);
}

void folder_show_up_to(struct folder *f, uint32_t uid)
{
	(void)pthread_rwlock_wrlock(&f->lock);
	f->id.shown = uid;
	(void)pthread_rwlock_unlock(&f->lock);
}

struct folder *folder_by_number(uint32_t number)
{
	struct folder *f;

	(void)pthread_mutex_lock(&numbers.lock);
	f = numbers.buckets[number % NUMBER_BUCKETS];
	while (f && f->id.number != number)
		f = f->next;
	(void)pthread_mutex_unlock(&numbers.lock);
	return f;
}

struct folder *folder_new(struct fs *fs, struct user *u,
			  const struct ledger_folder *l)
{
	struct folder *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	*f = (struct folder){ .fs = fs,
			      .user = u,
			      .dir = strdup(l->dir),
			      .legacy = strdup(l->legacy),
			      .place = l->place,
			      .id = { .number = l->number,
				      .uidvalidity = l->uidvalidity,
				      .shown = UINT32_MAX } };
	letters_clear(&f->id.letters);
	f->watch.job.user = u;
	f->watch.job.folder = f;
	f->lease.dirs[0] = f->lease.dirs[1] = -1;
	if (!f->dir || !f->legacy) {
		free(f->dir);
		free(f->legacy);
		free(f);
		return NULL;
	}
	memcpy(f->guid, l->guid, sizeof(f->guid));
	(void)pthread_mutex_init(&f->sync_lock, NULL);
	(void)pthread_rwlock_init(&f->lock, NULL);
	number_add(f);
	return f;
}

static void folder_free(struct folder *f)
{
	mirror_free(f);
	folder_let_go(f->box);
	folder_mail_free(f);
	files_free(f);
	(void)pthread_mutex_destroy(&f->sync_lock);
	(void)pthread_rwlock_destroy(&f->lock);
	free(f->dir);
	free(f->legacy);
	free(f);
}

void folder_forget(struct folder *f)
{
	struct folder **at = &numbers.buckets[f->id.number % NUMBER_BUCKETS];

	(void)pthread_mutex_lock(&numbers.lock);
	while (*at && *at != f)
		at = &(*at)->next;
	if (*at)
		*at = f->next;
	(void)pthread_mutex_unlock(&numbers.lock);
	folder_free(f);
}

void folder_free_all(void)
{
	for (size_t i = 0; i < NUMBER_BUCKETS; i++) {
		while (numbers.buckets[i]) {
			struct folder *f = numbers.buckets[i];

			numbers.buckets[i] = f->next;
			folder_free(f);
		}
	}
}

/* ---- what it is called, where it lies ------------------------------------ */

struct folder_id folder_id(struct folder *f)
{
	struct folder_id id;

	(void)pthread_rwlock_rdlock(&f->lock);
	id = f->id;
	(void)pthread_rwlock_unlock(&f->lock);
	return id;
}

void folder_log_name(const struct folder *f, char *out, size_t size)
{
	char user[200];
	char dir[400];

	(void)text_escape(f->user->name, strlen(f->user->name), user,
			  sizeof(user));
	(void)text_escape(f->dir, strlen(f->dir), dir, sizeof(dir));
	(void)snprintf(out, size, "%s%sfolder %s", user, *user ? ": " : "",
		       *dir ? dir + 1 : "INBOX");
}

int folder_open_dir(const struct folder *f, const char *sub)
{
	char path[PATH_MAX];
	int ret = text_path(path, sizeof(path), "%s%s%s",
			    *f->dir ? f->dir : ".", *sub ? "/" : "", sub);

	return ret < 0
		? ret
		: io_open_beneath(f->user->fd, path, O_RDONLY | O_DIRECTORY);
}

/*
 * Strictly later than it was and not in the future: Dovecot compares for
 * inequality, and scans a directory with a future time again and again. The
 * time is that of the real directory, so it outlives the daemon.
 */
int folder_bump_open(const struct folder *f, bool in_new, int fd)
{
	static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
	struct timespec now;
	struct stat st;
	int64_t was, ns;
	int ret;

	(void)pthread_mutex_lock(&turn);
	ret = fstat(fd, &st) < 0 ? -errno : 0;
	was = ret == 0 ? io_ns(&st.st_mtim) : 0;
	do {
		(void)clock_gettime(CLOCK_REALTIME, &now);
		ns = io_ns(&now);
	} while (ns == was);
	if (ns < was)
		ns = was + 1; /* the clock was set back */
	if (ret == 0)
		ret = io_set_mtime(fd, ns);
	if (ret == 0)
		files_bumped(f, in_new, was, ns);
	(void)pthread_mutex_unlock(&turn);
	return ret;
}

int folder_bump(struct folder *f, const char *sub)
{
	AUTO_FD int fd = folder_open_dir(f, sub);

	watch_moved(f);
	return fd < 0 ? fd : folder_bump_open(f, sub[0] == 'n', fd);
}

int folder_bump_soon(struct folder *f, bool in_new)
{
	int *fd = &f->lease.dirs[in_new];

	if (*fd < 0)
		*fd = folder_open_dir(f, in_new ? "new" : "cur");
	return *fd < 0 ? *fd : folder_bump_open(f, in_new, *fd);
}

void folder_bump_done(struct folder *f)
{
	for (unsigned i = 0; i < ARRAY_LEN(f->lease.dirs); i++) {
		base_auto_close(&f->lease.dirs[i]);
		f->lease.dirs[i] = -1;
	}
}

/* ---- the open MBX -------------------------------------------------------- */

struct folder_box *folder_hold(struct folder *f)
{
	struct folder_box *b;

	(void)pthread_rwlock_rdlock(&f->lock);
	b = f->box;
	if (b)
		(void)atomic_fetch_add(&b->users, 1);
	(void)pthread_rwlock_unlock(&f->lock);
	return b;
}

void folder_let_go(struct folder_box *b)
{
	if (!b || atomic_fetch_sub(&b->users, 1) > 1)
		return;
	b->box->ops->close(b->box);
	free(b);
}

static void close_if_idle(struct folder *f, int64_t limit)
{
	struct folder_box *b = NULL;

	if (atomic_load(&f->used_ms) > limit ||
	    pthread_mutex_trylock(&f->sync_lock) != 0)
		return;
	if (f->lease.box) {
		(void)pthread_mutex_unlock(&f->sync_lock);
		return;
	}
	(void)pthread_rwlock_wrlock(&f->lock);
	b = f->box;
	f->box = NULL; /* the rows stay right: the stamp tells */
	(void)pthread_rwlock_unlock(&f->lock);
	(void)pthread_mutex_unlock(&f->sync_lock);
	folder_let_go(b);
}

void folder_close_idle(int64_t ms)
{
	int64_t limit = clock_ms() - ms;

	for (size_t i = 0; i < NUMBER_BUCKETS; i++) {
		(void)pthread_mutex_lock(&numbers.lock);
		for (struct folder *f = numbers.buckets[i]; f; f = f->next)
			close_if_idle(f, limit);
		(void)pthread_mutex_unlock(&numbers.lock);
	}
}

/* ---- readiness ----------------------------------------------------------- */

/* Does the index show what the MBX shows, as far as a look can tell? */
static bool is_fresh(struct folder *f, enum folder_state *state)
{
	bool leased = atomic_load(&f->lease.held);
	struct folder_box *b = folder_hold(f);
	struct stamp now, seen;
	bool fresh;

	if (!b)
		return false;
	(void)pthread_rwlock_rdlock(&f->lock);
	fresh = f->fresh_enough;
	seen = f->fresh;
	*state = f->state;
	(void)pthread_rwlock_unlock(&f->lock);
	fresh = !atomic_load(&f->relist) &&
		(leased ||
		 (fresh && b->box->ops->stamp(b->box, &now) == 0 &&
		  stamp_equal(&now, &seen)));
	folder_let_go(b);
	return fresh;
}

int folder_lock_in_crowd(struct folder *f, unsigned patience, int64_t stuck)
{
	int ret = clock_lock(&f->sync_lock, 0);

	for (unsigned ms = 0; ret < 0 && ms < patience; ms += CROWD_MS) {
		int64_t since = atomic_load(&f->sync_since);

		if (since && clock_ms() - since > stuck)
			break;
		ret = clock_lock(&f->sync_lock, CROWD_MS);
	}
	return ret;
}

void folder_patience_begin(struct folder *f)
{
	unsigned ms = f->fs->opt->lock_ms;

	if (atomic_fetch_add(&f->user->waiting, 1) >= FOLDER_CROWD &&
	    ms > CROWD_LOCK_MS)
		ms = CROWD_LOCK_MS;
	if (clock_ms() < atomic_load(&f->locked_until))
		ms = 0;
	mbxlock_limit(ms);
}

void folder_patience_end(struct folder *f, ssize_t result)
{
	kept_look(f);
	mbxlock_limit(UINT_MAX);
	(void)atomic_fetch_sub(&f->user->waiting, 1);
	if (result == -EAGAIN)
		atomic_store(&f->locked_until, clock_ms() + BACKOFF_MS);
}

static int sync_in_turn(struct folder *f)
{
	unsigned patience = f->fs->opt->lock_ms + MARGIN_MS;
	int ret;

	if (atomic_load(&f->user->waiting) >= FOLDER_CROWD)
		ret = folder_lock_in_crowd(f, patience, STUCK_MS);
	else
		ret = clock_lock(&f->sync_lock, patience);
	if (ret < 0)
		return ret;
	folder_patience_begin(f);
	atomic_store(&f->sync_since, clock_ms());
	ret = folder_sync(f);
	atomic_store(&f->sync_since, 0);
	folder_patience_end(f, ret);
	(void)pthread_mutex_unlock(&f->sync_lock);
	return ret;
}

int folder_ready(struct folder *f)
{
	enum folder_state state = FOLDER_WAITING;
	int ret;

	atomic_store(&f->used_ms, clock_ms());
	if (is_fresh(f, &state))
		return state == FOLDER_UNREADABLE ? -EIO : 0;
	(void)atomic_fetch_add(&f->user->waiting, 1);
	ret = sync_in_turn(f);
	(void)atomic_fetch_sub(&f->user->waiting, 1);
	return ret;
}

bool folder_is_fresh(struct folder *f)
{
	enum folder_state state;

	return is_fresh(f, &state);
}

void folder_relist(struct folder *f)
{
	atomic_store(&f->relist, true);
}

/* With the sync_lock. */
static int sync_within(struct folder *f, unsigned ms, bool glance)
{
	int ret;

	mbxlock_limit(ms);
	atomic_store(&f->sync_since, clock_ms());
	f->glance = glance;
	ret = folder_sync(f);
	f->glance = false;
	atomic_store(&f->sync_since, 0);
	kept_look(f);
	mbxlock_limit(UINT_MAX);
	return ret;
}

int folder_look(struct folder *f, unsigned ms)
{
	int ret = clock_lock(&f->sync_lock, ms);

	if (ret < 0)
		return ret;
	ret = sync_within(f, ms, true);
	if (ret == 0 && f->late)
		ret = -EBUSY;
	(void)pthread_mutex_unlock(&f->sync_lock);
	return ret;
}

/* Somebody who has just kept it may do so still: that is only tried. It is told
 * when it has lasted for as long as a change would wait. */
static int look_again(struct folder *f)
{
	unsigned wait = f->fs->opt->lock_ms;
	bool told = wait == 0 || kept_for(f, wait);
	int ret = folder_lock_in_crowd(f, wait + MARGIN_MS, LOOK_MS);

	if (ret < 0)
		return ret;
	if (wait > LOOK_MS)
		wait = LOOK_MS;
	ret = sync_within(f, atomic_load(&f->is_kept) ? 0 : wait, !told);
	(void)pthread_mutex_unlock(&f->sync_lock);
	return ret;
}

int folder_freshen(struct folder *f)
{
	enum folder_state state = FOLDER_WAITING;
	int ret;

	if (!atomic_load(&f->known))
		return folder_ready(f);
	atomic_store(&f->used_ms, clock_ms());
	if (is_fresh(f, &state))
		return state == FOLDER_UNREADABLE ? -EIO : 0;
	ret = look_again(f);
	if (ret == -ENOENT)
		return -EIO;
	return ret == -EAGAIN && state != FOLDER_UNREADABLE ? 0 : ret;
}

int folder_shown(struct folder *f)
{
	int ret;

	if (atomic_load(&f->seeded))
		return 0;
	ret = folder_ready(f);
	if (ret < 0 && folder_id(f).uidvalidity != 0 && !seed_needed(f))
		ret = 0; /* seeded in an earlier life */
	return ret < 0 ? -EIO : 0;
}
