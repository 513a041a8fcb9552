#include "fs/user.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "compat/mbx.h"
#include "compat/place.h"
#include "compat/text.h"
#include "fs/discover.h"
#include "fs/move.h"
#include "fs/remove.h"
#include "fs/snarf.h"
#include "fs/subscribe.h"
#include "fs/tree.h"

enum {
	USER_BUCKETS = 4096,
	REFRESH_MS = 1000,
	REFRESH_SHARE = 20,
	REFRESH_SOON_MS = 100,
	REFRESH_SOON_SHARE = 4,
};

struct users {
	pthread_mutex_t lock;
	struct user *buckets[USER_BUCKETS];
};

struct users *users_new(void)
{
	struct users *t = calloc(1, sizeof(*t));

	if (t)
		(void)pthread_mutex_init(&t->lock, NULL);
	return t;
}

static void user_free(struct user *u)
{
	for (size_t i = 0; i < ARRAY_LEN(u->inbox); i++)
		if (u->inbox[i])
			u->inbox[i]->ops->free(u->inbox[i]);
	if (u->mail)
		u->mail->ops->free(u->mail);
	discover_clear(u);
	ledger_fini(&u->ledger);
	free(u->folders); /* the folders themselves: folder_free_all() */
	base_auto_close(&u->fd);
	for (size_t i = 0; i < u->retired_count; i++)
		free(u->retired[i]);
	free(u->retired);
	(void)pthread_mutex_destroy(&u->refresh_lock);
	(void)pthread_mutex_destroy(&u->lock);
	free(u->refusal);
	free(u->name);
	free(u);
}

void users_free(struct users *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < USER_BUCKETS; i++) {
		while (t->buckets[i]) {
			struct user *u = t->buckets[i];

			t->buckets[i] = u->next;
			user_free(u);
		}
	}
	(void)pthread_mutex_destroy(&t->lock);
	free(t);
}

static size_t hash(const char *name)
{
	size_t h = 5381;

	for (; *name; name++)
		h = h * 33 + (unsigned char)*name;
	return h % USER_BUCKETS;
}

/* ---- attaching ----------------------------------------------------------- */

static int make_stores(struct user *u)
{
	const struct options *o = u->fs->opt;
	struct mbx_options opt = { .lock_dir = o->lockdir,
				   .lock_ms = o->lock_ms,
				   .owner = o->has_owner ? (uid_t)-1 : u->uid,
				   .group = u->gid,
				   .max_file = o->mbx_max };
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < o->inbox_count; i++)
		ret = mbx_store_new(&o->inbox[i], u->name, &opt, &u->inbox[i]);
	if (ret == 0 && o->has_folders)
		ret = mbx_store_new(&o->folders, u->name, &opt, &u->mail);
	return ret;
}

struct store *user_store(struct user *u, int place)
{
	if (place == LEDGER_PLACE_FOLDERS)
		return u->mail;
	if (place < 0 || place >= OPTIONS_INBOX_MAX)
		return NULL;
	return u->inbox[place];
}

static const char *ledger_file(const struct user *u)
{
	return u->fs->multi ? u->name : "ledger";
}

int user_commit(struct user *u)
{
	return ledger_commit(u->fs->ledgers_fd, ledger_file(u), &u->ledger);
}

/* ---- folders ------------------------------------------------------------- */

static int by_dir(const void *a, const void *b)
{
	const struct folder *const *x = a, *const *y = b;

	return strcmp((*x)->dir, (*y)->dir);
}

void user_sort(struct user *u)
{
	if (u->count > 0)
		qsort(u->folders, u->count, sizeof(struct folder *), by_dir);
}

static int room_for_folders(struct user *u)
{
	struct folder **more;

	(void)pthread_mutex_lock(&u->lock);
	more = reallocarray(u->folders, u->ledger.count + 1,
			    sizeof(struct folder *));
	if (more)
		u->folders = more;
	(void)pthread_mutex_unlock(&u->lock);
	return more ? 0 : -ENOMEM;
}

/* Others look for folders meanwhile: their order is right at any time. */
static void insert_folder(struct user *u, struct folder *f)
{
	size_t at;

	(void)pthread_mutex_lock(&u->lock);
	at = u->count++;
	for (; at > 0 && strcmp(u->folders[at - 1]->dir, f->dir) > 0; at--)
		u->folders[at] = u->folders[at - 1];
	u->folders[at] = f;
	(void)pthread_mutex_unlock(&u->lock);
}

static int show_folder(struct user *u, size_t line)
{
	struct folder *f;
	int ret = tree_make_folder(u, u->ledger.folders[line].dir);

	if (ret < 0)
		return ret;
	f = folder_new(u->fs, u, &u->ledger.folders[line]);
	if (!f)
		return -ENOMEM;
	f->line = line;
	move_note_name(f);
	insert_folder(u, f);
	return 0;
}

static bool is_attached(struct user *u)
{
	bool attached;

	(void)pthread_mutex_lock(&u->lock);
	attached = u->attached;
	(void)pthread_mutex_unlock(&u->lock);
	return attached;
}

/* The lines that have no folder yet. */
static int show_folders(struct user *u)
{
	size_t before = u->count;
	int ret = room_for_folders(u);

	for (; ret == 0 && u->shown < u->ledger.count; u->shown++) {
		if (u->ledger.folders[u->shown].phase == PHASE_LEGACY)
			ret = show_folder(u, u->shown);
		if (ret < 0)
			break;
	}
	if (u->count == before)
		return ret;
	if (is_attached(u))
		watch_user(u);
	return ret;
}

/* With the refresh_lock. */
static int refresh(struct user *u, bool *missing_out)
{
	int64_t start = clock_ms();
	int ret = discover_folders(u, missing_out);

	if (ret == 0)
		ret = show_folders(u);
	if (ret == 0)
		atomic_store(&u->refresh_began_ms, start);
	u->refresh_took_ms = clock_ms() - start;
	atomic_store(&u->refreshed_ms, clock_ms());
	return ret;
}

/* What is in the ledger is shown, then what is in the legacy places is
 * compared with it; twice, when something is missing there. */
static int find_folders(struct user *u)
{
	bool missing = false;
	int ret = move_finish(u);

	if (ret == 0)
		ret = remove_finish(u);
	if (ret == 0)
		ret = tree_check_owners(u);
	if (ret == 0)
		ret = show_folders(u);
	if (ret == 0)
		ret = refresh(u, &missing);
	if (ret == 0 && missing)
		ret = refresh(u, &missing);
	/* Without a legacy INBOX, INBOX is an empty native one. */
	if (ret == 0 && (u->mail || u->inbox[0]))
		ret = tree_make_folder(u, "");
	return ret;
}

static void log_not_served(struct user *u)
{
	const struct not_served *first = u->not_served;
	size_t more = u->not_served_count;
	char name[400];

	if (more == 0)
		return;
	(void)text_escape(u->name, strlen(u->name), name, sizeof(name));
	if (more == 1)
		log_warn("%s: %s: not shown: %s", name, first->path,
			 first->why);
	else
		log_warn("%s: %zu files are not shown, the first: %s: %s; "
			 "janusmail status names them all",
			 name, more, first->path, first->why);
}

static int attach(struct user *u)
{
	int ret = tree_open(u);

	if (ret == 0)
		ret = make_stores(u);
	if (ret == 0)
		ret = ledger_load(u->fs->ledgers_fd, ledger_file(u),
				  &u->ledger);
	if (ret == 0)
		ret = find_folders(u);
	(void)pthread_mutex_lock(&u->lock);
	if (ret == 0)
		ret = subscribe_seed(u);
	(void)pthread_mutex_unlock(&u->lock);
	if (ret == 0 && subscribe_follow(u) < 0)
		log_trace(LOG_VIEW, "subscriptions: later");
	(void)pthread_mutex_lock(&u->lock);
	u->attached = ret == 0;
	(void)pthread_mutex_unlock(&u->lock);
	if (ret == 0)
		log_not_served(u);
	if (ret == 0)
		watch_user(u);
	return ret;
}

/* A fresh struct for the table; somebody else may have been quicker. */
static struct user *user_new(struct fs *fs, const char *name)
{
	struct user *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	*u = (struct user){ .fs = fs, .fd = -1, .name = strdup(name) };
	if (!u->name) {
		free(u);
		return NULL;
	}
	u->watch.job.user = u;
	(void)pthread_mutex_init(&u->refresh_lock, NULL);
	(void)pthread_mutex_init(&u->lock, NULL);
	return u;
}

static struct user *table_get(struct fs *fs, const char *name)
{
	struct users *t = fs->users;
	struct user *u;

	(void)pthread_mutex_lock(&t->lock);
	u = t->buckets[hash(name)];
	while (u && strcmp(u->name, name) != 0)
		u = u->next;
	if (!u) {
		u = user_new(fs, name);
		if (u) {
			u->next = t->buckets[hash(name)];
			t->buckets[hash(name)] = u;
		}
	}
	(void)pthread_mutex_unlock(&t->lock);
	return u;
}

/* What a failed attach leaves behind is undone, so that it can be tried again
 * from the start. */
static void detach(struct user *u)
{
	(void)pthread_mutex_lock(&u->lock);
	for (size_t i = 0; i < ARRAY_LEN(u->inbox); i++) {
		if (u->inbox[i])
			u->inbox[i]->ops->free(u->inbox[i]);
		u->inbox[i] = NULL;
	}
	if (u->mail)
		u->mail->ops->free(u->mail);
	u->mail = NULL;
	ledger_fini(&u->ledger);
	for (size_t i = 0; i < u->count; i++)
		folder_forget(u->folders[i]);
	u->count = u->shown = 0;
	base_auto_close(&u->fd);
	u->fd = -1;
	(void)pthread_mutex_unlock(&u->lock);
}

/* Return: whether it is to be logged. */
static bool set_refusal(struct user *u, const char *why)
{
	char *copy = why ? strdup(why) : NULL, *was;

	(void)pthread_mutex_lock(&u->lock);
	was = u->refusal;
	u->refusal = copy;
	(void)pthread_mutex_unlock(&u->lock);
	why = why && was && strcmp(why, was) == 0 ? NULL : why;
	free(was);
	return why != NULL;
}

/* With the refresh_lock. */
static int attach_owned(struct user *u)
{
	struct place_owner owner;
	char name[400];
	int ret = place_owner(&u->fs->places, u->name, &owner);

	(void)text_escape(u->name, strlen(u->name), name, sizeof(name));
	if (set_refusal(u, ret < 0 ? owner.why : NULL))
		log_err("user %s: not shown: %s", name, owner.why);
	if (ret < 0)
		return ret;
	u->uid = owner.uid;
	u->gid = owner.gid;
	ret = attach(u);
	if (ret < 0) {
		log_err("user %s: cannot be shown: %s", name,
			ret == -EBADMSG
				? "the ledger in the new store is damaged; "
				  "restore it from a backup"
				: strerrordesc_np(-ret));
		detach(u);
	}
	return ret;
}

int user_find(struct fs *fs, const char *name, struct user **out)
{
	struct user *u;
	int ret;

	if (fs->multi && !pattern_user_valid(name))
		return -ENOENT;
	ret = place_exists(&fs->places, name);
	if (ret < 0)
		return ret == -ELOOP ? -ENOENT : ret;
	u = table_get(fs, name);
	if (!u)
		return -ENOMEM;
	*out = u;
	if (is_attached(u))
		return 0;
	(void)pthread_mutex_lock(&u->refresh_lock);
	if (!is_attached(u)) {
		ret = attach_owned(u);
		if (ret == 0)
			snarf_kick();
	}
	(void)pthread_mutex_unlock(&u->refresh_lock);
	return ret;
}

static struct user *table_find(struct fs *fs, const char *name)
{
	struct users *t = fs->users;
	struct user *u;

	(void)pthread_mutex_lock(&t->lock);
	u = t->buckets[hash(name)];
	while (u && strcmp(u->name, name) != 0)
		u = u->next;
	(void)pthread_mutex_unlock(&t->lock);
	return u;
}

struct user *user_attached(struct fs *fs, const char *name)
{
	struct user *u = table_find(fs, name);

	return u && is_attached(u) ? u : NULL;
}

static size_t all_users(struct users *t, struct user ***out)
{
	size_t n = 0;

	(void)pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < USER_BUCKETS; i++)
		for (struct user *u = t->buckets[i]; u; u = u->next)
			n++;
	*out = calloc(n + 1, sizeof(struct user *));
	n = 0;
	for (size_t i = 0; *out && i < USER_BUCKETS; i++)
		for (struct user *u = t->buckets[i]; u; u = u->next)
			(*out)[n++] = u;
	(void)pthread_mutex_unlock(&t->lock);
	return n;
}

int user_each_attached(struct fs *fs, user_fn *fn, void *arg)
{
	AUTO_FREE struct user **list = NULL;
	size_t n = all_users(fs->users, &list);
	int ret = list ? 0 : -ENOMEM;

	for (size_t i = 0; ret == 0 && i < n; i++)
		if (is_attached(list[i]))
			ret = fn(list[i], arg);
	return ret;
}

char *user_refusal(struct fs *fs, const char *name)
{
	struct user *u = table_find(fs, name);
	char *why = NULL;

	if (!u)
		return NULL;
	(void)pthread_mutex_lock(&u->lock);
	why = u->refusal ? strdup(u->refusal) : NULL;
	(void)pthread_mutex_unlock(&u->lock);
	return why;
}

static bool is_due(struct user *u, int64_t every_ms)
{
	return clock_ms() - atomic_load(&u->refreshed_ms) >= every_ms;
}

/* Walking takes up to one part in @share of the time. */
static int refresh_after(struct user *u, int64_t ms, int64_t share)
{
	bool missing;
	int ret = 0;

	if (!is_due(u, ms) || pthread_mutex_trylock(&u->refresh_lock) != 0)
		return 0;
	if (is_due(u, u->refresh_took_ms * share))
		ret = refresh(u, &missing);
	(void)pthread_mutex_unlock(&u->refresh_lock);
	return ret;
}

int user_refresh(struct user *u)
{
	return refresh_after(u, REFRESH_MS, REFRESH_SHARE);
}

int user_refresh_soon(struct user *u)
{
	return refresh_after(u, REFRESH_SOON_MS, REFRESH_SOON_SHARE);
}
