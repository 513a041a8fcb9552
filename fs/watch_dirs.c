/*
 * Which directories are watched, and what they mean to whom.
 *
 * inotify has one number for a directory, however often it is asked for, so
 * users whose INBOXes lie in one directory share a watch. It is given back when
 * it means nothing to anybody any more.
 *
 * Directories are opened as their mailboxes are, beneath what the admin named
 * and without following links, and then watched by their descriptors.
 */
#include "fs/watch_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "compat/clock.h"
#include "compat/digest.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/pattern.h"
#include "compat/text.h"
#include "fs/attr.h"
#include "fs/folder.h"
#include "fs/folder_internal.h"
#include "fs/fs.h"
#include "fs/user.h"

enum {
	BUCKETS = 4096,
	LIMIT_UNKNOWN = 8192,
	RETRY_MS = 60000,
	MASK = IN_MODIFY | IN_ATTRIB | IN_CREATE | IN_DELETE | IN_MOVED_FROM |
		IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR,
};

/* A directory that is watched. */
struct watched {
	int wd;
	unsigned uses;
	struct watched *next;
};

static struct {
	pthread_mutex_t lock;
	int fd;
	struct watch_target *buckets[BUCKETS];
	struct watched *watched[BUCKETS];
	uint32_t count, max;
	atomic_bool said_full;
} d = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };

static const char why_none[] = "inotify is not to be had";
static const char why_asked[] = "watch=poll";
static const char why_full[] = "there are no more inotify watches";
static const char why_many[] = "there are too many directories";
static const char why_more[] =
	"too many directories: what is new in those without a mailbox is "
	"looked for";
static const char why_denied[] = "a directory cannot be watched";
static const char why_filesystem[] =
	"a directory lies on a filesystem that does not tell of all changes";

/* ---- the table, with the lock -------------------------------------------- */

static struct watch_target **bucket(int wd, const char *name)
{
	uint64_t h = name ? digest_quick(name, strlen(name)) : 0;

	return &d.buckets[(h + (unsigned)wd) % BUCKETS];
}

/* Those of a mail directory are found without a name. */
static struct watch_target **bucket_of(const struct watch_target *t)
{
	return bucket(t->wd, t->kind == WATCH_MAIL ? NULL : t->name);
}

static void take_out(struct watch_target *t)
{
	struct watch_target **at = bucket_of(t);

	while (*at != t)
		at = &(*at)->next_here;
	*at = t->next_here;
}

static struct watched **find_watched(int wd)
{
	struct watched **at = &d.watched[(unsigned)wd % BUCKETS];

	while (*at && (*at)->wd != wd)
		at = &(*at)->next;
	return at;
}

static int use(int wd)
{
	struct watched **at = find_watched(wd), *more;

	if (*at) {
		(*at)->uses++;
		return 0;
	}
	more = d.count < d.max ? calloc(1, sizeof(*more)) : NULL;
	if (!more) {
		(void)inotify_rm_watch(d.fd, wd);
		return d.count < d.max ? -ENOMEM : -ENOSPC;
	}
	*more = (struct watched){ .wd = wd, .uses = 1 };
	*at = more;
	d.count++;
	return 0;
}

static void forget_watched(struct watched **at)
{
	struct watched *gone = *at;

	*at = gone->next;
	free(gone);
	d.count--;
}

static void unuse(int wd)
{
	struct watched **at = find_watched(wd);

	if (!*at || --(*at)->uses > 0)
		return;
	forget_watched(at);
	(void)inotify_rm_watch(d.fd, wd);
}

/* ---- targets, with the lock ---------------------------------------------- */

static struct watch_target *find_target(struct user *u, enum watch_kind kind,
					const char *name)
{
	struct watch_target *t = u->watch.targets;

	while (t && (t->kind != kind || strcmp(t->name, name) != 0))
		t = t->next;
	return t;
}

static struct watch_target *new_target(struct user *u, enum watch_kind kind,
				       const char *name)
{
	struct watch_target *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	*t = (struct watch_target){ .wd = -1,
				    .kind = kind,
				    .user = u,
				    .name = strdup(name),
				    .next = u->watch.targets };
	if (!t->name) {
		free(t);
		return NULL;
	}
	u->watch.targets = t;
	return t;
}

static void unwatch(struct watch_target *t)
{
	if (t->wd < 0)
		return;
	take_out(t);
	unuse(t->wd);
	(void)atomic_fetch_sub(&t->user->watch.watches, 1);
	t->wd = -1;
}

static int watch_as(struct watch_target *t, int wd)
{
	struct watch_target **at;
	int ret;

	if (t->wd == wd)
		return 0;
	ret = use(wd);
	if (ret < 0)
		return ret;
	unwatch(t);
	t->wd = wd;
	(void)atomic_fetch_add(&t->user->watch.watches, 1);
	at = bucket_of(t);
	t->next_here = *at;
	*at = t;
	return 0;
}

static void drop_others(struct user *u, bool all)
{
	struct watch_target **at = &u->watch.targets;

	while (*at) {
		struct watch_target *t = *at;

		if (!all && t->round == u->watch.round) {
			at = &t->next;
			continue;
		}
		*at = t->next;
		unwatch(t);
		free(t->name);
		free(t);
	}
}

/* ---- what a user needs --------------------------------------------------- */

static int add_watch(struct user *u, int fd, enum watch_kind kind,
		     const char *name)
{
	struct watch_target *t;
	char path[64];
	int ret;

	attr_fd_path(fd, path);
	(void)pthread_mutex_lock(&d.lock);
	t = find_target(u, kind, name);
	if (!t)
		t = new_target(u, kind, name);
	ret = t ? inotify_add_watch(d.fd, path, MASK) : -ENOMEM;
	if (t && ret < 0)
		ret = -errno;
	if (ret >= 0)
		ret = watch_as(t, ret);
	if (t)
		t->round = u->watch.round;
	(void)pthread_mutex_unlock(&d.lock);
	return ret;
}

/* @fd: of a directory */
static int watch_fd(struct user *u, int fd, enum watch_kind kind,
		    const char *name)
{
	const char *filesystem;

	(void)io_is_network_fs(fd, &filesystem);
	return strcmp(filesystem, "local") == 0 ? add_watch(u, fd, kind, name)
						: -EOPNOTSUPP;
}

/* Where that is nowhere, nobody tells when it comes: it is tried again. */
static int need_parent(struct user *u, const struct pattern *p,
		       enum watch_kind kind)
{
	char name[NAME_MAX + 1];
	AUTO_FD int fd = pattern_open_parent(p, u->name, name);

	if (fd == -ENOENT || fd == -ENOTDIR) {
		u->watch.missing = true;
		return 0;
	}
	return fd < 0 ? fd : watch_fd(u, fd, kind, name);
}

static int need_inbox(struct user *u)
{
	const struct options *o = u->fs->opt;
	const struct folder *f = user_folder(u, "");
	int ret = 0;

	if (f && f->place != LEDGER_PLACE_FOLDERS)
		return need_parent(u, &o->inbox[f->place], WATCH_AN_INBOX);
	for (unsigned i = 0; ret == 0 && i < o->inbox_count; i++)
		ret = need_parent(u, &o->inbox[i], WATCH_AN_INBOX);
	return ret;
}

static int need_dir(int fd, const char *path, void *arg)
{
	return watch_fd(arg, fd, WATCH_MAIL, path);
}

static int need_all(struct user *u)
{
	const struct options *o = u->fs->opt;
	int ret = need_inbox(u);

	if (ret == 0 && o->has_subscriptions)
		ret = need_parent(u, &o->subscriptions, WATCH_A_LIST);
	if (ret == 0 && o->has_folders)
		ret = need_parent(u, &o->folders, WATCH_A_PLACE);
	if (ret == 0 && o->has_folders)
		ret = watch_tree_walk(u, need_dir, u, &u->watch.more);
	return ret;
}

/* ---- a user -------------------------------------------------------------- */

static const char *why(int err)
{
	switch (err) {
	case -ENOSPC:
	case -ENOMEM:
		return why_full;
	case -E2BIG:
		return why_many;
	case -EOPNOTSUPP:
		return why_filesystem;
	default:
		return why_denied;
	}
}

static void say(struct user *u, const char *reason)
{
	const char *was = atomic_exchange(&u->watch.why, reason);
	char name[400];

	if (was == reason || !reason || reason == why_asked ||
	    reason == why_none || reason == why_more)
		return;
	if (reason == why_full && !atomic_exchange(&d.said_full, true))
		log_warn("watch: the %u inotify watches that may be used are "
			 "in use: other users' mailboxes are looked at every "
			 "%u ms instead; raise fs.inotify.max_user_watches, "
			 "or watches=",
			 d.max, u->fs->opt->poll_ms);
	if (reason != why_full)
		log_info("user %s: mailboxes are looked at every %u ms: %s",
			 text_escape(u->name, strlen(u->name), name,
				     sizeof(name)),
			 u->fs->opt->poll_ms, reason);
}

void watch_dirs_user(struct user *u)
{
	struct watch_user *wu = &u->watch;
	const char *reason = NULL;
	int ret = 0;

	if (u->fs->opt->watch == WATCH_POLL)
		reason = why_asked;
	else if (d.fd < 0)
		reason = why_none;
	wu->round++;
	wu->missing = wu->more = false;
	if (!reason)
		ret = need_all(u);
	if (ret < 0)
		reason = why(ret);
	(void)pthread_mutex_lock(&d.lock);
	drop_others(u, reason != NULL);
	(void)pthread_mutex_unlock(&d.lock);
	atomic_store(&wu->retry_ms,
		     ret < 0 || wu->missing ? clock_ms() + RETRY_MS : 0);
	atomic_store(&wu->how,
		     reason		? WATCHED_POLL
			     : wu->more ? WATCHED_PARTLY
					: WATCHED_INOTIFY);
	say(u, wu->more && !reason ? why_more : reason);
}

/* ---- events -------------------------------------------------------------- */

static void each_in(struct watch_target *const *list, int wd, const char *name,
		    watch_target_fn *fn, void *arg)
{
	for (const struct watch_target *t = *list; t; t = t->next_here)
		if (t->wd == wd &&
		    (!name ||
		     (t->kind != WATCH_MAIL && strcmp(t->name, name) == 0)))
			fn(t, arg);
}

void watch_dirs_each(int wd, const char *name, watch_target_fn *fn, void *arg)
{
	(void)pthread_mutex_lock(&d.lock);
	if (name)
		each_in(bucket(wd, name), wd, name, fn, arg);
	for (const struct watch_target *t = *bucket(wd, NULL); t && name;
	     t = t->next_here)
		if (t->wd == wd && t->kind == WATCH_MAIL)
			fn(t, arg);
	/* Of the directory itself: that is rare. */
	for (size_t i = 0; !name && i < BUCKETS; i++)
		each_in(&d.buckets[i], wd, NULL, fn, arg);
	(void)pthread_mutex_unlock(&d.lock);
}

static void lose(struct watch_target **t, int wd)
{
	while (*t) {
		struct watch_target *gone = *t;

		if (gone->wd != wd) {
			t = &gone->next_here;
			continue;
		}
		*t = gone->next_here;
		gone->wd = -1;
		(void)atomic_fetch_sub(&gone->user->watch.watches, 1);
	}
}

void watch_dirs_gone(int wd)
{
	struct watched **at;

	(void)pthread_mutex_lock(&d.lock);
	at = find_watched(wd);
	for (size_t i = 0; *at && i < BUCKETS; i++)
		lose(&d.buckets[i], wd);
	if (*at)
		forget_watched(at);
	(void)pthread_mutex_unlock(&d.lock);
}

/* ---- start and end ------------------------------------------------------- */

/* Half of what there are: we are not alone. */
static uint32_t default_max(void)
{
	AUTO_FD int dir =
		open("/proc/sys/fs/inotify", O_PATH | O_DIRECTORY | O_CLOEXEC);
	AUTO_FD int fd = dir < 0
		? -1
		: openat(dir, "max_user_watches", O_RDONLY | O_CLOEXEC);
	char text[32];
	const uint8_t *p = (const uint8_t *)text;
	ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text));
	uint64_t n;

	if (len <= 0 || text_number(&p, p + len, UINT32_MAX, &n) < 0)
		n = LIMIT_UNKNOWN;
	return n < 2 ? 1 : (uint32_t)(n / 2);
}

int watch_dirs_open(struct fs *fs)
{
	d.max = fs->opt->watches_max ? fs->opt->watches_max : default_max();
	if (fs->opt->watch == WATCH_POLL)
		return 0;
	d.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (d.fd >= 0)
		return 0;
	log_warn("watch: inotify is not to be had (%s): all mailboxes are "
		 "looked at every %u ms",
		 strerrordesc_np(errno), fs->opt->poll_ms);
	return -errno;
}

static int forget_user(struct user *u, void *arg)
{
	(void)arg;
	drop_others(u, true);
	return 0;
}

void watch_dirs_close(struct fs *fs)
{
	if (d.fd < 0)
		return;
	(void)!user_each_attached(fs, forget_user, NULL);
	base_auto_close(&d.fd);
	d.fd = -1;
}

int watch_dirs_fd(void)
{
	return d.fd;
}

uint32_t watch_dirs_count(uint32_t *max_out)
{
	uint32_t n;

	(void)pthread_mutex_lock(&d.lock);
	n = d.count;
	*max_out = d.max;
	(void)pthread_mutex_unlock(&d.lock);
	return n;
}
