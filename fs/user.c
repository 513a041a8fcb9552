#include "fs/user.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compat/foldername.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/mbx.h"
#include "compat/text.h"
#include "fs/discover.h"
#include "fs/seed.h"

enum {
	USER_BUCKETS = 4096,
	REFRESH_MS = 1000,
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
	(void)pthread_mutex_destroy(&u->lock);
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

static int64_t now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* ---- who has mail, and whose it is --------------------------------------- */

/* The owner of the first legacy place there is, else of the new tree. */
static int find_owner(struct fs *fs, const char *name, uid_t *uid, gid_t *gid)
{
	const struct options *o = fs->opt;
	struct stat st;
	int ret = -ENOENT;

	for (unsigned i = 0; ret < 0 && i < o->inbox_count; i++)
		ret = discover_stat(&o->inbox[i], name, &st);
	if (ret < 0 && o->has_folders)
		ret = discover_stat(&o->folders, name, &st);
	if (ret < 0)
		ret = fstatat(fs->store_fd, fs->multi ? name : ".", &st,
			      AT_SYMLINK_NOFOLLOW) < 0
			? -errno
			: 0;
	if (ret == 0 && fs->multi && !S_ISDIR(st.st_mode) &&
	    !S_ISREG(st.st_mode))
		ret = -ENOENT;
	if (ret < 0)
		return ret == -ENOTDIR ? -ENOENT : ret;
	*uid = o->has_owner ? o->owner_uid : st.st_uid;
	*gid = o->has_owner ? o->owner_gid : st.st_gid;
	return 0;
}

/* ---- attaching ----------------------------------------------------------- */

static int make_stores(struct user *u)
{
	const struct options *o = u->fs->opt;
	struct mbx_options opt = { .lock_dir = o->lockdir,
				   .lock_ms = o->lock_ms,
				   .owner = o->has_owner ? (uid_t)-1 : u->uid,
				   .group = u->gid };
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

static int open_tree(struct user *u)
{
	struct fs *fs = u->fs;
	int ret = 0;

	if (fs->multi)
		ret = io_mkdir(fs->store_fd, u->name, 0700, u->uid, u->gid);
	if (ret < 0 && ret != -EEXIST)
		return ret;
	u->fd = io_open_beneath(fs->store_fd, fs->multi ? u->name : ".",
				O_RDONLY | O_DIRECTORY);
	return u->fd < 0 ? u->fd : 0;
}

static const char *ledger_file(const struct user *u)
{
	return u->fs->multi ? u->name : "ledger";
}

static int make_dir(const struct user *u, int dirfd, const char *name)
{
	int ret = io_mkdir(dirfd, name, 0700, u->uid, u->gid);

	return ret == -EEXIST ? 0 : ret;
}

/* cur, new, tmp, and Maildir++'s mark of a subfolder. */
static int make_folder_dirs(const struct user *u, const char *dir)
{
	static const char *const subs[] = { "cur", "new", "tmp" };
	AUTO_FD int fd = -1;
	struct stat st;
	int ret = *dir ? make_dir(u, u->fd, dir) : 0;

	if (ret < 0)
		return ret;
	fd = io_open_beneath(u->fd, *dir ? dir : ".", O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(subs); i++)
		ret = make_dir(u, fd, subs[i]);
	if (ret == 0 && *dir && fstatat(fd, "maildirfolder", &st, 0) < 0)
		ret = io_replace_file(fd, "maildirfolder", "", 0, u->uid,
				      u->gid);
	return ret;
}

/* ---- folders ------------------------------------------------------------- */

static int random_guid(char *out)
{
	uint8_t raw[16];

	if (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		return -EIO;
	for (size_t i = 0; i < sizeof(raw); i++)
		(void)snprintf(out + 2 * i, 3, "%02x", raw[i]);
	return 0;
}

/* Numbers for the new lines from @first on, then the ledger, then what can be
 * seen: a crash between leaves nothing that is not made good by doing it
 * again. */
static int settle(struct user *u, size_t first)
{
	struct ledger *l = &u->ledger;
	uint32_t number;
	int ret;

	if (first == l->count)
		return 0;
	ret = ledger_number(u->fs->state_fd, (uint32_t)(l->count - first),
			    &number);
	for (size_t i = first; ret == 0 && i < l->count; i++) {
		l->folders[i].number = number++;
		ret = random_guid(l->folders[i].guid);
	}
	return ret < 0 ? ret
		       : ledger_save(u->fs->ledgers_fd, ledger_file(u), l);
}

static int by_dir(const void *a, const void *b)
{
	const struct folder *const *x = a, *const *y = b;

	return strcmp((*x)->dir, (*y)->dir);
}

static void note_renamed(struct folder *f)
{
	char plain[FOLDERNAME_MAX + 1];
	char from[PATH_MAX], name[400];
	bool changed = false;

	if (f->dir[0] == '\0')
		return;
	foldername_map(f->legacy, f->fs->opt->dots, plain, &changed);
	f->renamed = changed || strcmp(plain, f->dir) != 0;
	if (!f->renamed)
		return;
	folder_log_name(f, name, sizeof(name));
	log_warn("%s: shows the mailbox %s, whose name a Maildir++ folder "
		 "cannot have",
		 name,
		 text_escape(f->legacy, strlen(f->legacy), from, sizeof(from)));
}

static int show_folders(struct user *u, size_t first)
{
	struct folder **more;
	int ret = 0;

	more = reallocarray(u->folders, u->ledger.count + 1,
			    sizeof(struct folder *));
	if (!more)
		return -ENOMEM;
	u->folders = more;
	for (size_t i = first; ret == 0 && i < u->ledger.count; i++) {
		const struct ledger_folder *l = &u->ledger.folders[i];

		if (l->phase != PHASE_LEGACY)
			continue;
		ret = make_folder_dirs(u, l->dir);
		if (ret < 0)
			break;
		more[u->count] = folder_new(u->fs, u, l);
		if (!more[u->count])
			return -ENOMEM;
		note_renamed(more[u->count]);
		u->count++;
	}
	/* Without a legacy INBOX, INBOX is an empty native one. */
	if (ret == 0 && (u->mail || u->inbox[0]))
		ret = make_folder_dirs(u, "");
	if (u->count > 0)
		qsort(u->folders, u->count, sizeof(struct folder *), by_dir);
	return ret;
}

/* With the user's lock. */
static int refresh(struct user *u)
{
	size_t first = u->ledger.count;
	int ret;

	ret = discover_folders(u);
	if (ret == 0)
		ret = settle(u, first);
	if (ret == 0)
		ret = show_folders(u, u->attached ? first : 0);
	u->refreshed_ms = now_ms();
	return ret;
}

static int attach(struct user *u)
{
	int ret = open_tree(u);

	if (ret == 0)
		ret = make_stores(u);
	if (ret == 0)
		ret = ledger_load(u->fs->ledgers_fd, ledger_file(u),
				  &u->ledger);
	if (ret == 0)
		ret = refresh(u);
	if (ret == 0)
		ret = seed_subscriptions(u);
	for (size_t i = 0; ret == 0 && i < u->not_served_count; i++)
		log_warn("%s: %s: not shown: %s", u->name,
			 u->not_served[i].path, u->not_served[i].why);
	u->attached = ret == 0;
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
	for (size_t i = 0; i < ARRAY_LEN(u->inbox); i++) {
		if (u->inbox[i])
			u->inbox[i]->ops->free(u->inbox[i]);
		u->inbox[i] = NULL;
	}
	if (u->mail)
		u->mail->ops->free(u->mail);
	u->mail = NULL;
	ledger_fini(&u->ledger);
	u->count = 0;
	base_auto_close(&u->fd);
	u->fd = -1;
}

int user_find(struct fs *fs, const char *name, struct user **out)
{
	struct user *u;
	uid_t uid;
	gid_t gid;
	int ret;

	if (fs->multi && !pattern_user_valid(name))
		return -ENOENT;
	ret = find_owner(fs, name, &uid, &gid);
	if (ret < 0)
		return ret == -ELOOP ? -ENOENT : ret;
	u = table_get(fs, name);
	if (!u)
		return -ENOMEM;
	(void)pthread_mutex_lock(&u->lock);
	if (!u->attached) {
		u->uid = uid;
		u->gid = gid;
		ret = attach(u);
		if (ret < 0) {
			log_err("user %s: cannot be shown: %s", name,
				ret == -EBADMSG
					? "the ledger in the new store is "
					  "damaged; restore it from a backup"
					: strerrordesc_np(-ret));
			detach(u);
		}
	}
	(void)pthread_mutex_unlock(&u->lock);
	*out = u;
	return ret;
}

struct user *user_attached(struct fs *fs, const char *name)
{
	struct users *t = fs->users;
	struct user *u;
	bool attached;

	(void)pthread_mutex_lock(&t->lock);
	u = t->buckets[hash(name)];
	while (u && strcmp(u->name, name) != 0)
		u = u->next;
	(void)pthread_mutex_unlock(&t->lock);
	if (!u)
		return NULL;
	(void)pthread_mutex_lock(&u->lock);
	attached = u->attached;
	(void)pthread_mutex_unlock(&u->lock);
	return attached ? u : NULL;
}

int user_refresh(struct user *u)
{
	int ret = 0;

	(void)pthread_mutex_lock(&u->lock);
	if (now_ms() - u->refreshed_ms >= REFRESH_MS)
		ret = refresh(u);
	(void)pthread_mutex_unlock(&u->lock);
	return ret;
}

struct folder *user_folder(struct user *u, const char *dir)
{
	struct folder *found = NULL;
	size_t lo = 0, hi;

	(void)pthread_mutex_lock(&u->lock);
	hi = u->count;
	while (lo < hi && !found) {
		size_t mid = lo + (hi - lo) / 2;
		int c = strcmp(dir, u->folders[mid]->dir);

		if (c == 0)
			found = u->folders[mid];
		else if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	(void)pthread_mutex_unlock(&u->lock);
	return found;
}

int user_save_folder(struct user *u, const struct folder *f, uint32_t number,
		     uint32_t uidvalidity)
{
	int ret = -ENOENT;

	(void)pthread_mutex_lock(&u->lock);
	for (size_t i = 0; i < u->ledger.count; i++) {
		struct ledger_folder *l = &u->ledger.folders[i];

		if (strcmp(l->dir, f->dir) != 0)
			continue;
		l->number = number;
		l->uidvalidity = uidvalidity;
		memcpy(l->guid, f->guid, sizeof(l->guid));
		ret = ledger_save(u->fs->ledgers_fd, ledger_file(u),
				  &u->ledger);
		break;
	}
	(void)pthread_mutex_unlock(&u->lock);
	return ret;
}

/* ---- everyone ------------------------------------------------------------ */

struct names {
	struct fs *fs;
	char **names;
	size_t count;
};

static int add_name(const char *name, void *arg)
{
	struct names *n = arg;
	char **more;
	uid_t uid;
	gid_t gid;
	int ret = pattern_user_valid(name) ? find_owner(n->fs, name, &uid, &gid)
					   : -ENOENT;

	if (ret == -ELOOP)
		log_warn("user %s: not shown: a symbolic link lies where the "
			 "mail should be",
			 name);
	if (ret < 0)
		return 0;
	more = reallocarray(n->names, n->count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	n->names = more;
	more[n->count] = strdup(name);
	if (!more[n->count])
		return -ENOMEM;
	n->count++;
	return 0;
}

static int add_native(struct names *n)
{
	const struct dirent *de;
	int ret = 0;
	int fd = io_open_beneath(n->fs->store_fd, ".", O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		base_auto_close(&fd);
		return fd < 0 ? fd : -EIO;
	}
	while (ret == 0) {
		ret = io_readdir(d, &de);
		if (ret < 0 || !de)
			break;
		if (de->d_type == DT_DIR || de->d_type == DT_UNKNOWN)
			ret = add_name(de->d_name, n);
	}
	(void)closedir(d);
	return ret;
}

static int gather_names(struct names *n)
{
	const struct options *o = n->fs->opt;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < o->inbox_count; i++)
		ret = pattern_users(&o->inbox[i], add_name, n);
	if (ret == 0 && o->has_folders)
		ret = pattern_users(&o->folders, add_name, n);
	return ret == 0 ? add_native(n) : ret;
}

static int by_text(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

int user_each_name(struct fs *fs, user_name_fn *fn, void *arg)
{
	struct names n = { .fs = fs };
	int ret;

	if (!fs->multi)
		return fn("", arg);
	ret = gather_names(&n);
	if (n.count > 0)
		qsort(n.names, n.count, sizeof(*n.names), by_text);
	for (size_t i = 0; ret == 0 && i < n.count; i++)
		if (i == 0 || strcmp(n.names[i - 1], n.names[i]) != 0)
			ret = fn(n.names[i], arg);
	for (size_t i = 0; i < n.count; i++)
		free(n.names[i]);
	free(n.names);
	return ret;
}
