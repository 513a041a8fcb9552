#include "fs/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compat/basename.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/text.h"
#include "compat/uidlist.h"
#include "fs/seed.h"
#include "fs/user.h"
#include "index/sync.h"

enum {
	NUMBER_BUCKETS = 16384,
	TRIES = 3, /* when the MBX is replaced again and again */
};

static struct {
	pthread_mutex_t lock;
	struct folder *buckets[NUMBER_BUCKETS];
} numbers = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- the table by number ------------------------------------------------- */

static void number_add(struct folder *f)
{
	struct folder **at = &numbers.buckets[f->number % NUMBER_BUCKETS];

	(void)pthread_mutex_lock(&numbers.lock);
	f->next = *at;
	*at = f;
	(void)pthread_mutex_unlock(&numbers.lock);
}

static void number_change(struct folder *f, uint32_t number)
{
	struct folder **at = &numbers.buckets[f->number % NUMBER_BUCKETS];

	(void)pthread_mutex_lock(&numbers.lock);
	while (*at && *at != f)
		at = &(*at)->next;
	if (*at)
		*at = f->next;
	f->number = number;
	at = &numbers.buckets[number % NUMBER_BUCKETS];
	f->next = *at;
	*at = f;
	(void)pthread_mutex_unlock(&numbers.lock);
}

struct folder *folder_by_number(uint32_t number)
{
	struct folder *f;

	(void)pthread_mutex_lock(&numbers.lock);
	f = numbers.buckets[number % NUMBER_BUCKETS];
	while (f && f->number != number)
		f = f->next;
	(void)pthread_mutex_unlock(&numbers.lock);
	return f;
}

struct folder *folder_new(struct fs *fs, struct user *u,
			  const struct ledger_folder *l)
{
	struct folder *f = calloc(1, sizeof(*f));
	pthread_rwlockattr_t attr;

	if (!f)
		return NULL;
	*f = (struct folder){ .fs = fs,
			      .user = u,
			      .dir = strdup(l->dir),
			      .legacy = strdup(l->legacy),
			      .place = l->place,
			      .number = l->number,
			      .uidvalidity = l->uidvalidity };
	if (!f->dir || !f->legacy) {
		free(f->dir);
		free(f->legacy);
		free(f);
		return NULL;
	}
	memcpy(f->guid, l->guid, sizeof(f->guid));
	/* Readers come all the time; a sync must not wait for ever. */
	(void)pthread_rwlockattr_init(&attr);
	(void)pthread_rwlockattr_setkind_np(
		&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&f->lock, &attr);
	(void)pthread_rwlockattr_destroy(&attr);
	number_add(f);
	return f;
}

static void folder_free(struct folder *f)
{
	if (f->box)
		f->box->ops->close(f->box);
	(void)pthread_rwlock_destroy(&f->lock);
	free(f->dir);
	free(f->legacy);
	free(f);
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

/* ---- directory times ----------------------------------------------------- */

/*
 * Strictly later than it was and not in the future: Dovecot compares for
 * inequality, and scans a directory with a future time again and again. The
 * time is that of the real directory, so it outlives the daemon.
 */
static int bump(const struct folder *f, const char *sub)
{
	AUTO_FD int fd = folder_open_dir(f, sub);
	struct timespec now;
	struct stat st;
	int64_t ns;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	do {
		(void)clock_gettime(CLOCK_REALTIME, &now);
		ns = io_ns(&now);
	} while (ns == io_ns(&st.st_mtim));
	if (ns < io_ns(&st.st_mtim))
		ns = io_ns(&st.st_mtim) + 1; /* the clock was set back */
	return io_set_mtime(fd, ns);
}

static int names_changed(const struct sync_result *r, void *arg)
{
	const struct folder *f = arg;
	int ret = 0;

	if (r->new_changed)
		ret = bump(f, "new");
	if (ret == 0 && r->cur_changed)
		ret = bump(f, "cur");
	return ret;
}

/* ---- damage -------------------------------------------------------------- */

/* Says it once: again only when it is another finding. */
static void note_damage(struct folder *f, const struct damage *d,
			enum folder_state state)
{
	bool same = f->damage.kind == d->kind && f->damage.off == d->off &&
		strcmp(f->damage.text, d->text) == 0;
	enum folder_state was = f->state;
	char name[400];
	char path[PATH_MAX];

	f->damage = *d;
	f->state = state;
	if (same && was == state)
		return;
	folder_log_name(f, name, sizeof(name));
	if (d->kind == DAMAGE_NONE) {
		if (was == FOLDER_DAMAGED || was == FOLDER_UNREADABLE)
			log_info("%s: the damage is gone", name);
		return;
	}
	(void)text_escape(f->legacy, strlen(f->legacy), path, sizeof(path));
	log_err("%s (%s): %s at offset %ju: %s; %s", name,
		*path ? path : "inbox", damage_name(d->kind), (uintmax_t)d->off,
		d->text,
		state == FOLDER_UNREADABLE
			? "nothing of it can be served"
			: "what can be read is served, the file is left as it is");
}

static void note_access(struct folder *f, int err)
{
	struct damage d = { .kind = DAMAGE_NONE };
	const char *what;

	switch (err) {
	case -ENOENT:
		what = "the mailbox file is gone";
		break;
	case -ELOOP:
		what = "a symbolic link lies where the mailbox file should be";
		break;
	case -ENOTSUP:
		what = "not a regular file (a directory, FIFO or device)";
		break;
	case -EMLINK:
		what = "the file has hard links";
		break;
	case -EREMOTE:
		what = "it lies on a network filesystem, where UW's locks do "
		       "not work; run janusmail on the file server";
		break;
	case -EPERM:
		what = "the file belongs to another user";
		break;
	default:
		what = strerrordesc_np(-err);
		break;
	}
	damage_add(&d, DAMAGE_ACCESS, 0, 0,
		   "%s: expected a mailbox file of "
		   "the user's own",
		   what ? what : "it cannot be opened");
	note_damage(f, &d, FOLDER_UNREADABLE);
}

/* ---- sync ---------------------------------------------------------------- */

static void close_box(struct folder *f)
{
	if (f->box)
		f->box->ops->close(f->box);
	f->box = NULL;
	f->synced = false;
}

static int open_box(struct folder *f)
{
	struct store *s = user_store(f->user, f->place);
	int ret;

	if (f->box)
		return 0;
	ret = s ? s->ops->open(s, f->legacy, &f->box) : -ENOENT;
	if (ret < 0)
		note_access(f, ret);
	return ret;
}

/*
 * The UIDVALIDITY on disk is not the one that names carry: the folder is shown
 * for the first time, or UW has numbered it anew. Either way names start
 * afresh; after a reset under a new folder number, so that no inode number is
 * used for two messages.
 */
static int new_regime(struct folder *f, uint32_t on_disk)
{
	bool reset = f->uidvalidity != 0;
	uint32_t number = f->number;
	char name[400];
	int ret = 0;

	if (reset) {
		folder_log_name(f, name, sizeof(name));
		log_warn("%s: UW has reset UIDVALIDITY from %u to %u; clients "
			 "will fetch this folder again",
			 name, f->uidvalidity, on_disk);
		ret = ledger_number(f->fs->state_fd, 1, &number);
		if (ret == 0)
			ret = index_folder_drop(f->fs->index, f->number);
	}
	if (ret < 0)
		return ret;
	/* IMAP forbids 0, and a mailbox about to be born has none yet. */
	f->uidvalidity = on_disk ? on_disk : (uint32_t)time(NULL);
	if (number != f->number)
		number_change(f, number);
	return user_save_folder(f->user, f);
}

static int run_sync(struct folder *f, struct index_folder *row)
{
	struct sync_hooks hooks = { .names = names_changed, .arg = f };
	struct sync_result r;
	int ret = sync_box(f->fs->index, f->number, f->box, &hooks, &r);

	log_trace(LOG_SYNC, "folder %u: %d how %d +%ju -%ju ~%ju", f->number,
		  ret, (int)r.how, (uintmax_t)r.added, (uintmax_t)r.removed,
		  (uintmax_t)r.changed);
	if (ret < 0 && ret != -EBADMSG)
		return ret;
	return index_folder_get(f->fs->index, f->number, row) == 0 ? ret : -EIO;
}

/*
 * A slot shows as a letter once dovecot-keywords has its name: Dovecot makes a
 * name up for a letter it does not know, and keeps it. UW may have named slots
 * since the folder was seeded. The time of cur/ moves first: names change with
 * this, and a crash must not hide that.
 */
static int show_keywords(struct folder *f, const struct keywords *k)
{
	bool missing;
	int ret = seed_keywords(f, k, SEED_LOOK, &missing);

	if (ret == 0 && missing) {
		ret = bump(f, "cur");
		if (ret == 0)
			ret = seed_keywords(f, k, SEED_WRITE, &missing);
	}
	if (ret == 0)
		f->letters = dkeywords_letters(k);
	return ret;
}

static bool regime_differs(const struct folder *f,
			   const struct index_folder *row)
{
	if (f->uidvalidity == 0)
		return true;
	return row->uidvalidity != 0 && row->uidvalidity != f->uidvalidity;
}

static int sync_once(struct folder *f)
{
	struct index_folder row;
	bool again = false;
	int ret = run_sync(f, &row);
	int header = ret;

	if (ret < 0 && ret != -EBADMSG)
		return ret;
	/* With a damaged header the earlier rows stand, if there are any. */
	if (header == 0 && regime_differs(f, &row)) {
		again = f->uidvalidity != 0;
		ret = new_regime(f, row.uidvalidity);
		if (ret == 0 && again)
			ret = run_sync(f, &row);
		if (ret < 0)
			return ret;
	}
	if (header == 0) {
		ret = again || seed_needed(f) ? seed_folder(f, again) : 0;
		if (ret == 0)
			ret = show_keywords(f, &row.keywords);
		if (ret < 0)
			return ret;
	}
	f->stamp = row.stamp;
	f->stamp_ns = row.stamp_ns;
	f->synced = true;
	if (header == 0)
		atomic_store(&f->seeded, true);
	if (header < 0 && row.messages == 0)
		note_damage(f, &row.damage, FOLDER_UNREADABLE);
	else
		note_damage(f, &row.damage,
			    row.damage.kind == DAMAGE_NONE ? FOLDER_OK
							   : FOLDER_DAMAGED);
	return 0;
}

/* With any lock: do the rows show a file with this stamp? */
static bool shows(const struct folder *f, const struct stamp *now)
{
	return f->synced && stamp_equal(now, &f->stamp) &&
		sync_settled(&f->stamp, f->stamp_ns);
}

static bool is_fresh(struct folder *f)
{
	struct stamp now;

	return f->box && f->box->ops->stamp(f->box, &now) == 0 &&
		shows(f, &now);
}

/* With the write lock. */
static int sync_locked(struct folder *f)
{
	struct stamp now;
	char name[400];
	int ret = -ESTALE;

	for (int i = 0; i < TRIES && ret == -ESTALE; i++) {
		ret = open_box(f);
		if (ret < 0)
			return -EIO;
		ret = f->box->ops->stamp(f->box, &now);
		if (ret == 0 && shows(f, &now))
			return 0; /* another thread was here first */
		if (ret == 0)
			ret = sync_once(f);
		if (ret == -ESTALE)
			close_box(f);
	}
	if (ret == 0 || ret == -EIO)
		return ret;
	folder_log_name(f, name, sizeof(name));
	log_err("%s: cannot be brought up to date: %s", name,
		ret == -EAGAIN ? "UW keeps it locked" : strerrordesc_np(-ret));
	return ret;
}

int folder_ready(struct folder *f)
{
	bool fresh;
	int ret = 0;

	atomic_store(&f->used_ms, now_ms());
	(void)pthread_rwlock_rdlock(&f->lock);
	fresh = is_fresh(f);
	if (fresh && f->state == FOLDER_UNREADABLE)
		ret = -EIO;
	(void)pthread_rwlock_unlock(&f->lock);
	if (fresh)
		return ret;
	(void)pthread_rwlock_wrlock(&f->lock);
	ret = sync_locked(f);
	if (ret == 0 && f->state == FOLDER_UNREADABLE)
		ret = -EIO;
	(void)pthread_rwlock_unlock(&f->lock);
	return ret;
}

int folder_shown(struct folder *f)
{
	int ret;

	if (atomic_load(&f->seeded))
		return 0;
	ret = folder_ready(f);
	if (ret < 0 && f->uidvalidity != 0 && !seed_needed(f))
		ret = 0; /* seeded in an earlier life */
	return ret < 0 ? -EIO : 0;
}

static void close_if_idle(struct folder *f, int64_t limit)
{
	/* Only tried: the lock order is the other way round. */
	if (atomic_load(&f->used_ms) > limit ||
	    pthread_rwlock_trywrlock(&f->lock) != 0)
		return;
	if (f->box)
		f->box->ops->close(f->box);
	f->box = NULL; /* the rows stay right: the stamp tells */
	(void)pthread_rwlock_unlock(&f->lock);
}

void folder_close_idle(int64_t ms)
{
	int64_t limit = now_ms() - ms;

	for (size_t i = 0; i < NUMBER_BUCKETS; i++) {
		(void)pthread_mutex_lock(&numbers.lock);
		for (struct folder *f = numbers.buckets[i]; f; f = f->next)
			close_if_idle(f, limit);
		(void)pthread_mutex_unlock(&numbers.lock);
	}
}

/* ---- messages ------------------------------------------------------------ */

void folder_file_name(const struct folder *f, const struct msg *m, char *out)
{
	struct basename b = { .folder = f->number,
			      .uidvalidity = f->uidvalidity,
			      .uid = m->uid,
			      .date = m->date,
			      .size = m->size };

	basename_format(&b, out);
	if (!sync_in_new(m))
		info_format(m->flags, m->keywords & f->letters,
			    out + strlen(out));
}

int folder_by_name(struct folder *f, bool in_new, const char *name,
		   struct msg *out)
{
	char want[NAME_MAX + 1];
	char base[BASENAME_MAX + 1];
	size_t len = info_split(name, strlen(name));
	int ret;

	if (len > BASENAME_MAX)
		return -ENOENT;
	memcpy(base, name, len);
	base[len] = '\0';
	(void)pthread_rwlock_rdlock(&f->lock);
	ret = index_by_name(f->fs->index, f->number, f->uidvalidity, base, out);
	if (ret == 0) {
		folder_file_name(f, out, want);
		if (sync_in_new(out) != in_new || strcmp(want, name) != 0)
			ret = -ENOENT;
	}
	(void)pthread_rwlock_unlock(&f->lock);
	return ret;
}

/* With the read lock. -ESTALE: sync, and try again. */
static ssize_t read_locked(struct folder *f, uint32_t uid, void *buf,
			   size_t len, uint64_t off)
{
	struct msg m;
	int ret = index_by_uid(f->fs->index, f->number, uid, &m);

	if (ret == -ENOENT || (ret == 0 && !f->box))
		return -ESTALE;
	if (ret < 0)
		return ret;
	return f->box->ops->read(f->box, &m, NULL, buf, len, off);
}

ssize_t folder_read(struct folder *f, uint32_t uid, void *buf, size_t len,
		    uint64_t off)
{
	ssize_t n = -ESTALE;
	int ret;

	atomic_store(&f->used_ms, now_ms());
	for (int i = 0; i < TRIES && n == -ESTALE; i++) {
		ret = i > 0 ? folder_ready(f) : 0;
		if (ret < 0)
			return ret;
		(void)pthread_rwlock_rdlock(&f->lock);
		n = read_locked(f, uid, buf, len, off);
		(void)pthread_rwlock_unlock(&f->lock);
	}
	return n;
}
