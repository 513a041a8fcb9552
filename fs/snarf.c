#include "fs/snarf.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "compat/clock.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/mbxlock.h"
#include "compat/place.h"
#include "compat/spool.h"
#include "compat/text.h"
#include "fs/folder_internal.h"
#include "fs/snarf_take.h"

enum {
	TICK_MS = 2000,
	SHARE = 50,	  /* of the time is spent on looking: 1/50 at most */
	RETRY_MS = 60000, /* what is wrong stays so for a while */
	HEAD = 16384,	  /* octets in which UW's own message lies */
};

#define USUAL "/var/mail/%u"
#define NOTES "spool"

static struct {
	struct fs *fs;
	int notes; /* directory */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	atomic_bool stop;
	bool started;
	bool kicked;	   /* with the lock */
	int64_t useful_ms; /* of this round, spent on mail that was taken */
} work = { .notes = -1, .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- why it stays where it is -------------------------------------------- */

static const char *reason(int err)
{
	switch (err) {
	case -EAGAIN:
		return "it is locked";
	case -EPERM:
		return "the spool belongs to somebody else";
	case -EMLINK:
		return "the spool has hard links";
	case -ELOOP:
		return "the spool is a symbolic link";
	case -ENOTSUP:
		return "the spool is not a regular file";
	case -EREMOTE:
		return "the spool lies on a network filesystem";
	case -EBADMSG:
		return "the spool or INBOX is damaged";
	case -ENOSPC:
		return "there is too little room in lockdir=, or on the disk "
		       "of INBOX";
	case -EFBIG:
		return "INBOX would grow beyond mbxmax=";
	case -ENOLINK:
		return "INBOX is not an MBX";
	default:
		return strerrordesc_np(-err);
	}
}

static void say(struct user *u, int err)
{
	char path[400];

	atomic_store(&u->spool.why, err < 0 ? reason(err) : NULL);
	if (u->spool.error == err)
		return;
	/* To be locked for a moment is usual; status tells. */
	if (err < 0 && err != -EAGAIN && err != -ENOLINK) {
		if (pattern_path(&u->fs->opt->spool, u->name, "", path,
				 sizeof(path)) < 0)
			path[0] = '\0';
		log_err("%s: mail stays there: %s", path, reason(err));
	}
	u->spool.error = err;
}

/* ---- one user ------------------------------------------------------------ */

static bool is_seen(const struct user_spool *s, const struct stat *st)
{
	return s->ino == st->st_ino && s->dev == st->st_dev &&
		s->size == (uint64_t)st->st_size &&
		s->mtime_ns == io_ns(&st->st_mtim);
}

/* @st: from when it was locked; who has waited for that may have put something
 * into it since. */
static void note_seen(struct user_spool *s, const struct stat *st)
{
	s->dev = st->st_dev;
	s->ino = st->st_ino;
	s->size = (uint64_t)st->st_size;
	s->mtime_ns = io_ns(&st->st_mtim);
}

/* A box of our own: to the folder, what it gets is foreign mail. */
static int take(struct user *u, struct folder *f, struct snarf_taken *out)
{
	struct store *s = f ? user_store(u, f->place) : NULL;
	struct box *box = NULL;
	int ret;

	if (!s || atomic_load(&f->gone) || atomic_load(&f->deleted))
		return -ENOLINK;
	ret = s->ops->open(s, f->legacy, &box);
	if (ret == 0)
		ret = snarf_take(f, box, work.notes, &work.stop, out);
	if (box)
		s->ops->close(box);
	return ret;
}

static void note_kept(struct user *u, int err)
{
	struct mbxlock_past past = mbxlock_past();

	if (err != -EAGAIN)
		past.ino = 0;
	atomic_store(&u->spool.kept_dev, past.dev);
	atomic_store(&u->spool.kept_ino, past.ino);
	mbxlock_limit(UINT_MAX);
}

/* Of work; waiting for locks costs nothing. */
static int64_t spent_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return io_ns(&ts) / 1000000;
}

static void take_in(struct user *u)
{
	struct folder *f = user_folder(u, "");
	struct snarf_taken taken = { .count = 0 };
	int64_t began = spent_ms();
	char name[400];
	int ret = take(u, f, &taken);

	note_kept(u, ret);
	u->spool.is_clean = ret == 0 && !taken.rest;
	if (ret == -ECANCELED || ret == -ESTALE || ret == -ENOENT)
		ret = 0; /* next time */
	else if (ret == 0 && !taken.rest)
		note_seen(&u->spool, &taken.st);
	say(u, ret);
	/* These cost nothing, and may be otherwise in a moment. */
	if (ret == 0 || ret == -EAGAIN || ret == -ENOLINK)
		u->spool.retry_ms = 0;
	else
		u->spool.retry_ms = clock_ms() + RETRY_MS;
	if (taken.count == 0)
		return;
	folder_log_name(f, name, sizeof(name));
	log_info("%s: %u messages came from the spool", name, taken.count);
	(void)!folder_ready(f); /* logged */
	if (ret == 0)
		work.useful_ms += spent_ms() - began;
}

static int look(struct user *u, void *arg)
{
	struct stat st;

	(void)arg;
	if (atomic_load(&work.stop))
		return -ECANCELED;
	if (place_stat(&work.fs->opt->spool, u->name, &st) < 0 ||
	    clock_ms() < u->spool.retry_ms)
		return 0;
	if (st.st_size == 0 || is_seen(&u->spool, &st)) {
		/* An earlier try may have left its note. */
		if (u->spool.is_clean || !snarf_noted(u, work.notes)) {
			u->spool.is_clean = true;
			return 0;
		}
	}
	take_in(u);
	return 0;
}

/* ---- the thread ---------------------------------------------------------- */

static void pause_for(int64_t ms)
{
	struct timespec until = clock_in_ms(ms);

	(void)pthread_mutex_lock(&work.lock);
	if (!atomic_load(&work.stop) && !work.kicked)
		(void)pthread_cond_clockwait(&work.wake, &work.lock,
					     CLOCK_MONOTONIC, &until);
	work.kicked = false;
	(void)pthread_mutex_unlock(&work.lock);
}

static void *run(void *arg)
{
	int64_t began, pause;

	(void)arg;
	while (!atomic_load(&work.stop)) {
		began = spent_ms();
		work.useful_ms = 0;
		(void)!user_each_attached(work.fs, look, NULL);
		pause = (spent_ms() - began - work.useful_ms) * SHARE;
		pause_for(pause < TICK_MS ? TICK_MS : pause);
	}
	return NULL;
}

static int open_notes(const struct fs *fs)
{
	int ret = io_mkdir(fs->state_fd, NOTES, 0700, (uid_t)-1, (gid_t)-1);

	if (ret < 0 && ret != -EEXIST)
		return ret;
	return io_open_within(fs->state_fd, NOTES, O_RDONLY | O_DIRECTORY);
}

int snarf_start(struct fs *fs)
{
	int ret;

	if (!fs->opt->has_spool)
		return 0;
	work.fs = fs;
	work.notes = open_notes(fs);
	(void)pthread_cond_init(&work.wake, NULL);
	ret = work.notes < 0 ? work.notes
			     : -pthread_create(&work.thread, NULL, run, NULL);
	work.started = ret == 0;
	if (ret < 0)
		log_err("spool: cannot be looked after: %s",
			strerrordesc_np(-ret));
	return ret;
}

void snarf_kick(void)
{
	if (!work.started)
		return;
	(void)pthread_mutex_lock(&work.lock);
	work.kicked = true;
	(void)pthread_cond_signal(&work.wake);
	(void)pthread_mutex_unlock(&work.lock);
}

void snarf_stop(void)
{
	if (!work.started)
		return;
	(void)pthread_mutex_lock(&work.lock);
	atomic_store(&work.stop, true);
	(void)pthread_cond_signal(&work.wake);
	(void)pthread_mutex_unlock(&work.lock);
	(void)pthread_join(work.thread, NULL);
	work.started = false;
	base_auto_close(&work.notes);
}

/* ---- what waits ---------------------------------------------------------- */

/* Octets of the spool but for UW's own message; 0 if that is not a spool. */
static uint64_t mail_octets(const struct pattern *p, const char *user,
			    const struct stat *st)
{
	AUTO_FD int fd = pattern_open(p, user, "", O_RDONLY);
	uint8_t head[HEAD];
	struct spool_mail first;
	ssize_t n = fd < 0 ? fd : io_read_at(fd, head, sizeof(head), 0);
	uint64_t size = (uint64_t)st->st_size;

	if (n <= 0 || spool_next(head, (size_t)n, 0, &first) < 0)
		return 0;
	if (!first.is_pseudo)
		return size;
	return first.end < size ? size - first.end : 0;
}

/* INBOX itself may lie where others have their spool. */
static bool is_inbox(const struct user *u, const struct stat *st)
{
	const struct options *o = u->fs->opt;
	struct stat inbox;

	for (unsigned i = 0; i < o->inbox_count; i++)
		if (place_stat(&o->inbox[i], u->name, &inbox) == 0 &&
		    inbox.st_ino == st->st_ino && inbox.st_dev == st->st_dev)
			return true;
	return false;
}

static bool look_waiting(struct user *u, const struct pattern *p,
			 struct snarf_waiting *out)
{
	char path[sizeof(out->path) / 4];
	struct stat st;

	if (place_stat(p, u->name, &st) < 0 || !S_ISREG(st.st_mode) ||
	    st.st_size == 0 || is_inbox(u, &st))
		return false;
	out->octets = mail_octets(p, u->name, &st);
	if (out->octets == 0 ||
	    pattern_path(p, u->name, "", path, sizeof(path)) < 0)
		return false;
	(void)text_escape(path, strlen(path), out->path, sizeof(out->path));
	return true;
}

static void add_why(struct user *u, struct snarf_waiting *out)
{
	struct mbxlock_past kept = { .dev = atomic_load(&u->spool.kept_dev),
				     .ino = atomic_load(&u->spool.kept_ino) };

	out->why = atomic_load(&u->spool.why);
	if (kept.ino && out->why)
		(void)mbxlock_keeper(&kept, out->who, sizeof(out->who));
}

bool snarf_waiting(struct user *u, struct snarf_waiting *out)
{
	const struct options *o = u->fs->opt;
	struct pattern usual;
	bool found = false;

	*out = (struct snarf_waiting){ .octets = 0 };
	if (o->has_spool) {
		found = look_waiting(u, &o->spool, out);
		add_why(u, out);
		return found;
	}
	/* A single user's name is not known. */
	if (!u->fs->multi)
		return false;
	if (pattern_init(&usual, USUAL) == 0)
		found = look_waiting(u, &usual, out);
	pattern_fini(&usual);
	out->why = "there is no spool= to say that it is to be taken";
	return found;
}
