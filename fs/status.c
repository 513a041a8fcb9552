#include "fs/status.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/locktime.h"
#include "compat/pattern.h"
#include "compat/text.h"
#include "compat/uidlist.h"
#include "fs/change.h"
#include "fs/folder.h"
#include "fs/kept.h"
#include "fs/mirror.h"
#include "fs/seed.h"
#include "fs/snarf.h"
#include "fs/user.h"
#include "index/index.h"

enum { SCHEMA = 1 };

/* As it is, if JSON can hold it; escaped otherwise. */
static json_t *name_json(const char *name)
{
	size_t len = strlen(name);
	char *word;
	json_t *j;

	if (text_is_utf8(name, len))
		return json_stringn(name, len);
	word = malloc(4 * len + 1);
	if (!word)
		return NULL;
	j = json_string(text_escape(name, len, word, 4 * len + 1));
	free(word);
	return j;
}

static DIR *open_dir(int userfd, const char *dir, const char *sub)
{
	char path[PATH_MAX];
	int fd;
	DIR *d;

	if (text_path(path, sizeof(path), "%s/%s", *dir ? dir : ".", sub) < 0)
		return NULL;
	fd = io_open_beneath(userfd, path, O_RDONLY | O_DIRECTORY);
	d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		base_auto_close(&fd);
	return d;
}

static uint64_t count_files(int userfd, const char *dir, const char *sub)
{
	DIR *d = open_dir(userfd, dir, sub);
	const struct dirent *de;
	uint64_t n = 0;

	if (!d)
		return 0;
	while (io_readdir(d, &de) == 0 && de)
		if (de->d_name[0] != '.' && de->d_type != DT_DIR)
			n++;
	(void)closedir(d);
	return n;
}

/* Message files that lie in the new store. */
static json_t *store_json(const struct user *u, const char *dir)
{
	uint64_t n = count_files(u->fd, dir, "cur");

	n += count_files(u->fd, dir, "new");
	return json_pack("{s:I}", "messages", (json_int_t)n);
}

static json_t *damage_json(const struct damage *d)
{
	json_t *j =
		json_pack("{s:s, s:I, s:I, s:o}", "kind", damage_name(d->kind),
			  "offset", (json_int_t)d->off, "count",
			  (json_int_t)d->count, "text", name_json(d->text));

	if (d->uid)
		(void)json_object_set_new(j, "uid",
					  json_integer((json_int_t)d->uid));
	return j;
}

/* Keywords that no letter in a Maildir name stands for: the 26 are in use, or
 * IMAP cannot carry the name. They stay in the MBX. */
static json_t *hidden_keywords(const struct folder *f, const struct keywords *k)
{
	const struct letters *map = &f->id.letters;
	json_t *list = json_array();

	for (unsigned i = 0; i < KEYWORD_SLOTS; i++)
		if (f->letters_known && k->name[i][0] && map->letter[i] < 0)
			(void)json_array_append_new(list,
						    name_json(k->name[i]));
	if (json_array_size(list) > 0)
		return list;
	json_decref(list);
	return NULL;
}

static json_t *legacy_json(struct folder *f, bool known,
			   const struct index_folder *row)
{
	const struct options *o = f->fs->opt;
	const struct pattern *p = f->place == LEDGER_PLACE_FOLDERS
		? &o->folders
		: &o->inbox[f->place];
	char path[PATH_MAX] = "";
	json_t *j, *hidden;

	if (pattern_path(p, f->user->name, f->legacy, path, sizeof(path)) < 0)
		path[0] = '\0';
	j = json_pack("{s:o, s:o}", "path", name_json(path), "name",
		      name_json(f->legacy));
	if (!j || !known)
		return j;
	(void)json_object_update_new(
		j,
		json_pack("{s:I, s:I, s:I, s:I, s:I}", "messages",
			  (json_int_t)row->messages, "unseen",
			  (json_int_t)row->unseen, "octets",
			  (json_int_t)row->octets, "uidvalidity",
			  (json_int_t)f->id.uidvalidity, "uidnext",
			  (json_int_t)row->uidnext));
	hidden = hidden_keywords(f, &row->keywords);
	if (hidden)
		(void)json_object_set_new(j, "keywords_not_shown", hidden);
	if (f->disagreements > 0)
		(void)json_object_set_new(
			j, "uid_disagreements",
			json_integer((json_int_t)f->disagreements));
	return j;
}

/* ---- what was delivered -------------------------------------------------- */

static int add_refused(const char *name, const char *why, void *list)
{
	return json_array_append_new(list,
				     json_pack("{s:o, s:s}", "name",
					       name_json(name), "why", why)) < 0
		? -ENOMEM
		: 0;
}

static int add_disagreement(const char *base, uint32_t dovecot, uint32_t mbx,
			    const char *why, void *list)
{
	return json_array_append_new(list,
				     json_pack("{s:o, s:I, s:I, s:s}", "name",
					       name_json(base), "dovecot",
					       (json_int_t)dovecot, "mbx",
					       (json_int_t)mbx, "why", why)) < 0
		? -ENOMEM
		: 0;
}

/* Letters of keywords that messages have and the MBX cannot hold, by the name
 * that Dovecot has for them. */
static void add_unnamed(struct folder *f, json_t *j)
{
	struct keywords names;
	uint32_t letters;
	uint64_t messages = change_unnamed(f, &letters);
	json_t *list;

	if (messages == 0 || seed_read_keywords(f, &names) < 0)
		return;
	list = json_array();
	for (unsigned i = 0; i < MAILDIR_LETTERS; i++) {
		char letter[2] = { (char)('a' + i), '\0' };

		if (letters & (1U << i))
			(void)json_array_append_new(
				list,
				names.name[i][0] ? name_json(names.name[i])
						 : json_string(letter));
	}
	(void)json_object_set_new(j, "keywords_kept_out", list);
	(void)json_object_set_new(j, "keywords_kept_out_messages",
				  json_integer((json_int_t)messages));
}

/* Only of a folder that was looked at: nothing is opened for a report. */
static json_t *delivered_json(struct folder *f)
{
	const char *why = mirror_waits_for(f);
	json_t *refused = json_array();
	struct mirror_status s;
	json_t *j;

	if (mirror_status(f, &s) < 0 ||
	    mirror_each_refused(f, add_refused, refused) < 0) {
		json_decref(refused);
		return NULL;
	}
	j = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:o}", "mirror",
		      f->fs->opt->mirror_off ? "off" : "on", "files",
		      (json_int_t)s.files, "mirrored", (json_int_t)s.mirrored,
		      "no_uid", (json_int_t)s.no_uid, "waiting",
		      (json_int_t)s.waiting, "lag_ms", (json_int_t)s.lag_ms,
		      "refused", refused);
	if (why)
		(void)json_object_set_new(j, "waits_for", json_string(why));
	return j;
}

static void add_delivered(struct folder *f, json_t *j, bool disagreements)
{
	json_t *legacy = json_object_get(j, "legacy"), *list;

	if (!atomic_load(&f->seeded) || atomic_load(&f->gone))
		return;
	(void)json_object_set_new(j, "delivered", delivered_json(f));
	add_unnamed(f, legacy);
	if (!disagreements)
		return;
	list = json_array();
	/* The folder's own number only grows; some of them are gone since. */
	if (mirror_each_disagreement(f, add_disagreement, list) == 0) {
		(void)json_object_set(legacy, "disagreements", list);
		(void)json_object_set_new(
			legacy, "uid_disagreements",
			json_integer((json_int_t)json_array_size(list)));
	}
	json_decref(list);
}

/* ---- legacy folders ------------------------------------------------------ */

static void add_kept(struct folder *f, json_t *j)
{
	char who[KEPT_BY];
	int64_t ms;

	if (kept_now(f, who, &ms))
		(void)json_object_set_new(j, "locked",
					  json_pack("{s:o, s:I}", "by",
						    name_json(who), "ms",
						    (json_int_t)ms));
}

static json_t *folder_json(struct folder *f)
{
	static const char *const states[] = { "waiting", "ok", "damaged",
					      "unreadable" };
	struct index_folder row;
	bool known, disagreements;
	json_t *j;

	(void)pthread_rwlock_rdlock(&f->lock);
	disagreements = f->disagreements > 0;
	known = index_folder_get(f->fs->index, f->id.number, &row) == 0;
	j = json_pack("{s:o, s:s, s:s, s:b}", "name",
		      name_json(*f->dir ? f->dir + 1 : "INBOX"), "phase",
		      "legacy", "state",
		      atomic_load(&f->gone) ? "gone" : states[f->state],
		      "renamed", f->renamed);
	(void)json_object_set_new(j, "legacy", legacy_json(f, known, &row));
	if (f->damage.kind != DAMAGE_NONE)
		(void)json_object_set_new(j, "damage", damage_json(&f->damage));
	(void)pthread_rwlock_unlock(&f->lock);
	(void)json_object_set_new(j, "store", store_json(f->user, f->dir));
	add_kept(f, j);
	add_delivered(f, j, disagreements);
	return j;
}

/* ---- native folders ------------------------------------------------------ */

static void add_native(const struct user *u, const char *dir, json_t *list)
{
	(void)json_array_append_new(
		list,
		json_pack("{s:o, s:s, s:s, s:b, s:o}", "name",
			  name_json(*dir ? dir + 1 : "INBOX"), "phase",
			  "native", "state", "ok", "renamed", 0, "store",
			  store_json(u, dir)));
}

static bool is_native(struct user *u, const char *dir)
{
	bool legacy = user_folder(u, dir) || user_hides(u, dir);
	DIR *d = legacy ? NULL : open_dir(u->fd, dir, "cur");

	if (d)
		(void)closedir(d);
	return d != NULL;
}

static void add_natives(struct user *u, json_t *list)
{
	DIR *d = open_dir(u->fd, "", ".");
	const struct dirent *de;

	if (!d)
		return;
	if (is_native(u, ""))
		add_native(u, "", list);
	while (io_readdir(d, &de) == 0 && de)
		if (de->d_name[0] == '.' && de->d_name[1] != '\0' &&
		    de->d_name[1] != '.' && is_native(u, de->d_name))
			add_native(u, de->d_name, list);
	(void)closedir(d);
}

/* ---- users --------------------------------------------------------------- */

static json_t *not_served_json(const struct user *u)
{
	json_t *list = json_array();

	for (size_t i = 0; i < u->not_served_count; i++)
		(void)json_array_append_new(list,
					    json_pack("{s:s, s:s}", "path",
						      u->not_served[i].path,
						      "why",
						      u->not_served[i].why));
	return list;
}

struct gather {
	struct fs *fs;
	const atomic_bool *stop;
	json_t *users;
};

static json_t *folders_json(const struct gather *g, struct user *u,
			    struct folder *const *folders, size_t count)
{
	json_t *list = json_array();

	/* A folder's lock is taken before its user's, never after. */
	for (size_t i = 0; i < count && !atomic_load(g->stop); i++)
		(void)json_array_append_new(list, folder_json(folders[i]));
	if (!atomic_load(g->stop))
		add_natives(u, list);
	return list;
}

static json_t *watch_json(struct user *u)
{
	static const char *const how[] = { "off", "inotify", "inotify",
					   "poll" };
	const struct watch_user *wu = &u->watch;
	int64_t last = atomic_load(&wu->last_event);
	const char *why = atomic_load(&wu->why);
	json_t *j =
		json_pack("{s:s, s:I, s:I}", "how", how[atomic_load(&wu->how)],
			  "places", (json_int_t)atomic_load(&wu->watches),
			  "events", (json_int_t)atomic_load(&wu->events));

	if (why)
		(void)json_object_set_new(j, "why", json_string(why));
	if (last != 0)
		(void)json_object_set_new(j, "last_event",
					  json_integer((json_int_t)last));
	return j;
}

static json_t *watches_json(struct fs *fs)
{
	static const char *const mode[] = { "inotify", "poll", "off" };
	struct watch_totals t;

	watch_totals(fs, &t);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "mode",
			 mode[fs->opt->watch], "watches", (json_int_t)t.watches,
			 "watches_max", (json_int_t)t.watches_max, "poll_ms",
			 (json_int_t)fs->opt->poll_ms, "users_polled",
			 (json_int_t)t.polled, "wakes", (json_int_t)t.wakes);
}

static json_t *locks_json(void)
{
	struct locktime t = locktime_get();

	return json_pack("{s:I, s:I, s:I, s:I}", "taken", (json_int_t)t.count,
			 "median_us", (json_int_t)t.median_us, "p99_us",
			 (json_int_t)t.most_us, "longest_us",
			 (json_int_t)t.longest_us);
}

static void add_spool(struct user *u, json_t *j)
{
	struct snarf_waiting w;
	json_t *spool;

	if (!snarf_waiting(u, &w))
		return;
	spool = json_pack("{s:s, s:I, s:s?}", "path", w.path, "octets",
			  (json_int_t)w.octets, "why", w.why);
	if (w.who[0])
		(void)json_object_set_new(spool, "locked_by", name_json(w.who));
	(void)json_object_set_new(j, "spool", spool);
}

static json_t *user_json(const struct gather *g, struct user *u)
{
	AUTO_FREE struct folder **folders = NULL;
	json_t *skipped, *j;
	size_t count;

	(void)pthread_mutex_lock(&u->lock);
	folders = calloc(u->count + 1, sizeof(struct folder *));
	count = folders ? u->count : 0;
	if (count > 0)
		memcpy(folders, u->folders, count * sizeof(struct folder *));
	skipped = not_served_json(u);
	(void)pthread_mutex_unlock(&u->lock);
	j = json_pack("{s:o, s:b, s:I, s:I, s:o, s:o, s:o}", "name",
		      name_json(u->name), "attached", 1, "uid",
		      (json_int_t)u->uid, "gid", (json_int_t)u->gid, "watch",
		      watch_json(u), "folders",
		      folders_json(g, u, folders, count), "not_served",
		      skipped);
	if (j)
		add_spool(u, j);
	return j;
}

static int add_user(const char *name, void *arg)
{
	const struct gather *g = arg;
	struct user *u = user_attached(g->fs, name);
	char *why;
	json_t *j;

	if (atomic_load(g->stop))
		return -ECANCELED;
	if (u)
		j = user_json(g, u);
	else
		j = json_pack("{s:o, s:b, s:[], s:[]}", "name", name_json(name),
			      "attached", 0, "folders", "not_served");
	why = u ? NULL : user_refusal(g->fs, name);
	if (why)
		(void)json_object_set_new(j, "error", json_string(why));
	free(why);
	return json_array_append_new(g->users, j) < 0 ? -ENOMEM : 0;
}

json_t *status_json(struct fs *fs, const atomic_bool *stop)
{
	struct gather g = { .fs = fs, .stop = stop, .users = json_array() };
	int ret = user_each_name(fs, add_user, &g);
	json_t *j;

	if (atomic_load(stop)) {
		json_decref(g.users);
		return NULL;
	}
	j = json_pack("{s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "schema",
		      SCHEMA, "version", JANUSMAIL_VERSION, "mountpoint",
		      name_json(fs->opt->mountpoint), "store",
		      name_json(fs->opt->store), "index",
		      name_json(fs->opt->index), "watch", watches_json(fs),
		      "locks", locks_json(), "users", g.users);
	if (ret < 0)
		(void)json_object_set_new(j, "error",
					  json_string(strerrordesc_np(-ret)));
	return j;
}
