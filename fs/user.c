#include "fs/user.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "compat/mbx.h"
#include "compat/text.h"
#include "fs/discover.h"
#include "fs/move.h"
#include "fs/place.h"
#include "fs/remove.h"
#include "fs/seed.h"
#include "fs/tree.h"

enum {
	USER_BUCKETS = 4096,
	REFRESH_MS = 1000,
	REFRESH_SHARE = 20,
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
	(void)pthread_mutex_lock(&u->lock);
	u->folders[u->count++] = f;
	(void)pthread_mutex_unlock(&u->lock);
	return 0;
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
	(void)pthread_mutex_lock(&u->lock);
	user_sort(u);
	(void)pthread_mutex_unlock(&u->lock);
	return ret;
}

/* With the refresh_lock. */
static int refresh(struct user *u, bool *missing_out)
{
	int64_t start = clock_ms();
	int ret = discover_folders(u, missing_out);

	if (ret == 0)
		ret = show_folders(u);
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
		ret = seed_subscriptions(u);
	u->attached = ret == 0;
	(void)pthread_mutex_unlock(&u->lock);
	if (ret == 0)
		log_not_served(u);
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
	int ret = place_owner(u->fs, u->name, &owner);

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

static bool is_attached(struct user *u)
{
	bool attached;

	(void)pthread_mutex_lock(&u->lock);
	attached = u->attached;
	(void)pthread_mutex_unlock(&u->lock);
	return attached;
}

int user_find(struct fs *fs, const char *name, struct user **out)
{
	struct user *u;
	int ret;

	if (fs->multi && !pattern_user_valid(name))
		return -ENOENT;
	ret = place_exists(fs, name);
	if (ret < 0)
		return ret == -ELOOP ? -ENOENT : ret;
	u = table_get(fs, name);
	if (!u)
		return -ENOMEM;
	*out = u;
	if (is_attached(u))
		return 0;
	(void)pthread_mutex_lock(&u->refresh_lock);
	if (!is_attached(u))
		ret = attach_owned(u);
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

/* Walking takes up to a twentieth of the time. */
static bool is_due(struct user *u, int64_t took_ms)
{
	int64_t every = took_ms * REFRESH_SHARE;

	if (every < REFRESH_MS)
		every = REFRESH_MS;
	return clock_ms() - atomic_load(&u->refreshed_ms) >= every;
}

int user_refresh(struct user *u)
{
	bool missing;
	int ret = 0;

	if (!is_due(u, 0) || pthread_mutex_trylock(&u->refresh_lock) != 0)
		return 0;
	if (is_due(u, u->refresh_took_ms))
		ret = refresh(u, &missing);
	(void)pthread_mutex_unlock(&u->refresh_lock);
	return ret;
}

static int by_key(const void *key, const void *element)
{
	const struct folder *const *f = element;

	return strcmp(key, (*f)->dir);
}

/* A folder that is gone, too. */
static struct folder *find_folder(struct user *u, const char *dir)
{
	struct folder **found = NULL, *f;

	(void)pthread_mutex_lock(&u->lock);
	if (u->count > 0)
		found = bsearch(dir, u->folders, u->count,
				sizeof(struct folder *), by_key);
	f = found ? *found : NULL;
	(void)pthread_mutex_unlock(&u->lock);
	return f;
}

struct folder *user_folder(struct user *u, const char *dir)
{
	struct folder *f = find_folder(u, dir);

	return f && !atomic_load(&f->gone) ? f : NULL;
}

struct folder *user_gone_folder(struct user *u, const char *dir)
{
	struct folder *f = find_folder(u, dir);

	return f && atomic_load(&f->gone) ? f : NULL;
}

bool user_hides(struct user *u, const char *dir)
{
	const struct folder *f = user_gone_folder(u, dir);

	return f && !atomic_load(&f->plain);
}

void user_drop(struct user *u, struct folder *f)
{
	size_t i = 0;

	atomic_store(&f->deleted, true);
	atomic_store(&f->gone, true);
	(void)pthread_mutex_lock(&u->lock);
	while (i < u->count && u->folders[i] != f)
		i++;
	if (i < u->count) {
		u->count--;
		memmove(u->folders + i, u->folders + i + 1,
			(u->count - i) * sizeof(struct folder *));
	}
	(void)pthread_mutex_unlock(&u->lock);
}

int user_save_folder(struct user *u, const struct folder *f, uint32_t number,
		     uint32_t uidvalidity)
{
	struct ledger_folder *l;
	int ret;

	(void)pthread_mutex_lock(&u->lock);
	l = &u->ledger.folders[f->line];
	l->number = number;
	l->uidvalidity = uidvalidity;
	memcpy(l->guid, f->guid, sizeof(l->guid));
	l->dirty = true;
	ret = user_commit(u);
	(void)pthread_mutex_unlock(&u->lock);
	return ret;
}
