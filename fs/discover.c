#include "fs/discover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/foldername.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/mbxrec.h"
#include "compat/place.h"
#include "compat/text.h"
#include "fs/move.h"
#include "fs/remove.h"

enum { MISSED_TWICE = 2 }; /* a walk may miss a file that is being renamed */

struct name {
	char *text;
	const char *why; /* not served; NULL for a mailbox */
	uint64_t dev, ino;
	bool known; /* has a line in the ledger */
};

/* One look at the legacy places. */
struct look {
	struct user *user;
	struct name *names; /* ascending */
	size_t count, room;
	char inbox[PATH_MAX]; /* path of the INBOX file: not a folder too */
	uint64_t dev;	      /* of the mail directory */
	/* By line of the ledger as it was before. */
	size_t lines;
	struct folder **folders;
	bool *missing;
	void *taken; /* tsearch() tree of directory names */
};

/* ---- the walk ------------------------------------------------------------ */

static int add_name(struct look *k, const char *text,
		    const struct store_entry *e)
{
	if (k->count == k->room) {
		size_t room = k->room ? 2 * k->room : 64;
		struct name *more = reallocarray(k->names, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		k->names = more;
		k->room = room;
	}
	k->names[k->count] = (struct name){ .text = strdup(text),
					    .why = e->why,
					    .dev = e->dev,
					    .ino = e->ino };
	return k->names[k->count].text ? (k->count++, 0) : -ENOMEM;
}

static int found_one(const struct store_entry *e, void *arg)
{
	static const struct store_entry no_dir = {
		.why = "folders= should name a directory"
	};
	struct look *k = arg;
	char path[PATH_MAX];

	if (pattern_path(&k->user->fs->opt->folders, k->user->name, e->name,
			 path, sizeof(path)) == 0 &&
	    strcmp(path, k->inbox) == 0)
		return 0;
	if (e->name[0] == '\0')
		return add_name(k, path, &no_dir);
	return add_name(k, e->name, e);
}

static int by_text(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return strcmp(x->text, y->text);
}

static void find_inbox_path(struct look *k)
{
	const struct user *u = k->user;

	for (size_t i = 0; i < u->ledger.count; i++) {
		const struct ledger_folder *l = &u->ledger.folders[i];

		if (l->phase != PHASE_DELETED && l->dir[0] == '\0' &&
		    l->place >= 0 && l->place < OPTIONS_INBOX_MAX &&
		    pattern_path(&u->fs->opt->inbox[l->place], u->name, "",
				 k->inbox, sizeof(k->inbox)) < 0)
			k->inbox[0] = '\0';
	}
}

/* Return: 0; -ENOENT when there is no mail directory; -errno. */
static int walk(struct look *k)
{
	struct user *u = k->user;
	struct stat st;
	int ret = place_stat(&u->fs->opt->folders, u->name, &st);

	if (ret < 0)
		return ret;
	k->dev = st.st_dev;
	find_inbox_path(k);
	ret = u->mail->ops->list(u->mail, found_one, k);
	if (k->count > 0)
		qsort(k->names, k->count, sizeof(*k->names), by_text);
	return ret;
}

static int by_key(const void *key, const void *element)
{
	const struct name *n = element;

	return strcmp(key, n->text);
}

static struct name *find_name(const struct look *k, const char *text)
{
	return k->count
		? bsearch(text, k->names, k->count, sizeof(*k->names), by_key)
		: NULL;
}

/* ---- what is not served -------------------------------------------------- */

static void free_not_served(struct not_served *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(list[i].path);
	free(list);
}

void discover_clear(struct user *u)
{
	free_not_served(u->not_served, u->not_served_count);
	u->not_served = NULL;
	u->not_served_count = 0;
}

static int note_not_served(struct look *k)
{
	struct user *u = k->user;
	struct not_served *list = calloc(k->count + 1, sizeof(*list)), *was;
	char word[PATH_MAX];
	size_t n = 0, was_count;

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < k->count; i++) {
		const char *text = k->names[i].text;

		if (!k->names[i].why)
			continue;
		list[n].why = k->names[i].why;
		list[n].path = strdup(
			text_escape(text, strlen(text), word, sizeof(word)));
		if (!list[n++].path) {
			free_not_served(list, n);
			return -ENOMEM;
		}
	}
	(void)pthread_mutex_lock(&u->lock);
	was = u->not_served;
	was_count = u->not_served_count;
	u->not_served = list;
	u->not_served_count = n;
	(void)pthread_mutex_unlock(&u->lock);
	free_not_served(was, was_count);
	return 0;
}

/* ---- what is missing ----------------------------------------------------- */

/* Below something that could not be looked into nothing is known. */
static bool is_blocked(const struct look *k, const char *legacy)
{
	char path[PATH_MAX];
	const struct name *n;

	if (text_path(path, sizeof(path), "%s", legacy) < 0)
		return true;
	for (char *slash = strrchr(path, '/'); slash;
	     slash = strrchr(path, '/')) {
		*slash = '\0';
		n = find_name(k, path);
		if (n && n->why)
			return true;
	}
	return false;
}

static void note_file(struct user *u, size_t line, const struct name *n)
{
	struct ledger_folder *l = &u->ledger.folders[line];

	if (n->why || (l->dev == n->dev && l->ino == n->ino))
		return;
	(void)pthread_mutex_lock(&u->lock);
	l->dev = n->dev;
	l->ino = n->ino;
	l->dirty = true;
	(void)pthread_mutex_unlock(&u->lock);
}

/* Not one file left, and the directory is on another device: then what is
 * missing is a mount. */
static bool is_unmounted(const struct look *k, size_t seen)
{
	const struct ledger *l = &k->user->ledger;

	for (size_t i = 0; seen == 0 && i < k->lines; i++)
		if (k->missing[i] && l->folders[i].dev &&
		    l->folders[i].dev != k->dev)
			return true;
	return false;
}

static int compare(struct look *k)
{
	struct user *u = k->user;
	size_t seen = 0;

	k->lines = u->ledger.count;
	k->missing = calloc(k->lines + 1, sizeof(*k->missing));
	k->folders = calloc(k->lines + 1, sizeof(struct folder *));
	if (!k->missing || !k->folders)
		return -ENOMEM;
	for (size_t i = 0; i < u->count; i++)
		k->folders[u->folders[i]->line] = u->folders[i];
	for (size_t i = 0; i < k->lines; i++) {
		const struct ledger_folder *l = &u->ledger.folders[i];
		struct name *n = l->place == LEDGER_PLACE_FOLDERS &&
				l->phase != PHASE_DELETED
			? find_name(k, l->legacy)
			: NULL;

		if (n) {
			n->known = true;
			seen++;
			note_file(u, i, n);
		} else {
			k->missing[i] = l->place == LEDGER_PLACE_FOLDERS &&
				k->folders[i] && !is_blocked(k, l->legacy);
		}
	}
	if (is_unmounted(k, seen))
		memset(k->missing, 0, k->lines * sizeof(*k->missing));
	return 0;
}

/* Return: whether it is the first time. */
static bool note_missing(struct folder *f, bool missing)
{
	char name[400], path[PATH_MAX];
	bool was = atomic_load(&f->gone), is;

	f->missed = missing ? f->missed + 1 : 0;
	is = f->missed >= MISSED_TWICE;
	if (was != is)
		remove_note(f, is);
	atomic_store(&f->gone, is);
	if (was != is) {
		folder_log_name(f, name, sizeof(name));
		(void)text_escape(f->legacy, strlen(f->legacy), path,
				  sizeof(path));
		log_info(
			"%s: the mailbox %s is %s", name, path,
			!is ? "back"
				: atomic_load(&f->plain)
				? "gone; mail that was delivered since is shown"
				: "gone; the folder is hidden until it is back");
	}
	return f->missed == 1;
}

static bool note_all_missing(const struct look *k)
{
	bool fresh = false;

	for (size_t i = 0; i < k->lines; i++)
		if (k->folders[i] && note_missing(k->folders[i], k->missing[i]))
			fresh = true;
	return fresh;
}

/* ---- directory names ----------------------------------------------------- */

static int compare_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void keep(void *node)
{
	(void)node; /* the ledger's */
}

static int take_dir(struct look *k, const char *dir)
{
	return tsearch(dir, &k->taken, compare_text) ? 0 : -ENOMEM;
}

static bool is_new(const struct name *n)
{
	return !n->known && !n->why;
}

/* Before the first name is looked for, if there is anything to look for. */
static int take_all_dirs(struct look *k)
{
	const struct ledger *l = &k->user->ledger;
	int ret = 0;
	size_t first = 0;

	while (first < k->count && !is_new(&k->names[first]))
		first++;
	if (first == k->count)
		return 0;
	for (size_t i = 0; ret == 0 && i < l->count; i++)
		ret = take_dir(k, l->folders[i].dir);
	return ret;
}

/* In use by another folder, or by a directory that the user made? */
static bool dir_is_taken(const char *dir, void *arg)
{
	const struct look *k = arg;
	struct stat st;

	return tfind(dir, &k->taken, compare_text) ||
		fstatat(k->user->fd, dir, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int free_dir(struct look *k, const char *legacy, char *out)
{
	return foldername_free(legacy, k->user->fs->opt->dots, dir_is_taken, k,
			       out);
}

/* ---- what was renamed ---------------------------------------------------- */

struct lost {
	uint64_t dev, ino;
	size_t line;
};

static int by_file(const void *a, const void *b)
{
	const struct lost *x = a, *y = b;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static size_t list_lost(const struct look *k, struct lost *out)
{
	size_t n = 0;

	for (size_t i = 0; i < k->lines; i++) {
		const struct ledger_folder *l = &k->user->ledger.folders[i];

		if (k->missing[i] && l->ino)
			out[n++] = (struct lost){ .dev = l->dev,
						  .ino = l->ino,
						  .line = i };
	}
	if (n > 0)
		qsort(out, n, sizeof(*out), by_file);
	return n;
}

/* The number of a file that is no more is given to another one soon. */
static bool is_same_mailbox(struct user *u, const struct name *n, size_t line)
{
	AUTO_FD int fd =
		pattern_open(&u->fs->opt->folders, u->name, n->text, O_RDONLY);
	uint8_t head[MBX_HEADER_SIZE];
	struct mbx_header h;
	uint32_t uidvalidity;
	struct stat st;
	ssize_t len;

	(void)pthread_mutex_lock(&u->lock);
	uidvalidity = u->ledger.folders[line].uidvalidity;
	(void)pthread_mutex_unlock(&u->lock);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_ino != n->ino ||
	    st.st_dev != n->dev)
		return false;
	len = io_read_at(fd, head, sizeof(head), 0);
	return len >= 0 && mbx_header_parse(head, (size_t)len, &h, NULL) == 0 &&
		(uidvalidity == 0 || h.uidvalidity == uidvalidity);
}

static int follow(struct look *k, struct name *n, size_t line)
{
	struct user *u = k->user;
	char dir[FOLDERNAME_MAX + 1];
	int ret = free_dir(k, n->text, dir);

	if (ret == 0)
		ret = move_folder(u, k->folders[line], n->text, dir);
	if (ret == 0)
		ret = take_dir(k, u->ledger.folders[line].dir);
	if (ret < 0 && ret != -EAGAIN)
		return ret;
	/* A busy one is looked at again the next time. */
	n->known = true;
	k->missing[line] = false;
	return 0;
}

static int follow_renames(struct look *k)
{
	AUTO_FREE struct lost *lost = calloc(k->lines + 1, sizeof(*lost));
	size_t count = lost ? list_lost(k, lost) : 0;
	int ret = lost ? 0 : -ENOMEM;

	for (size_t i = 0; ret == 0 && count > 0 && i < k->count; i++) {
		struct name *n = &k->names[i];
		struct lost want = { .dev = n->dev, .ino = n->ino }, *l;

		if (!is_new(n))
			continue;
		l = bsearch(&want, lost, count, sizeof(want), by_file);
		if (l && k->missing[l->line] &&
		    is_same_mailbox(k->user, n, l->line))
			ret = follow(k, n, l->line);
	}
	return ret;
}

/* ---- what is new --------------------------------------------------------- */

static int add_line(struct look *k, int place, const struct name *n,
		    uint32_t number)
{
	struct user *u = k->user;
	char dir[FOLDERNAME_MAX + 1] = "";
	struct ledger_folder *l = NULL;
	char guid[33];
	int ret = n ? free_dir(k, n->text, dir) : 0;

	if (ret == 0)
		ret = ledger_guid(guid);
	if (ret < 0)
		return ret;
	(void)pthread_mutex_lock(&u->lock);
	l = ledger_add(&u->ledger, dir, n ? n->text : "");
	if (l) {
		l->place = place;
		l->phase = PHASE_LEGACY;
		l->number = number;
		l->dev = n ? n->dev : 0;
		l->ino = n ? n->ino : 0;
		memcpy(l->guid, guid, sizeof(guid));
		l->dirty = true;
	}
	(void)pthread_mutex_unlock(&u->lock);
	return l ? take_dir(k, l->dir) : -ENOMEM;
}

static bool has_inbox(const struct user *u)
{
	for (size_t i = 0; i < u->ledger.count; i++)
		if (u->ledger.folders[i].phase != PHASE_DELETED &&
		    u->ledger.folders[i].dir[0] == '\0')
			return true;
	return false;
}

/* The first pattern that exists wins, once and for all. Return: its number;
 * -1. */
static int new_inbox(const struct user *u)
{
	const struct options *o = u->fs->opt;
	struct stat st;

	if (has_inbox(u))
		return -1;
	for (unsigned i = 0; i < o->inbox_count; i++)
		if (place_stat(&o->inbox[i], u->name, &st) == 0)
			return (int)i;
	return -1;
}

static int add_inbox(struct look *k)
{
	int place = new_inbox(k->user);
	uint32_t number;
	int ret;

	if (place < 0)
		return 0;
	ret = ledger_number(k->user->fs->state_fd, 1, &number);
	return ret == 0 ? add_line(k, place, NULL, number) : ret;
}

static int add_new(struct look *k)
{
	uint32_t number = 0, count = 0;
	int ret = 0;

	for (size_t i = 0; i < k->count; i++)
		count += is_new(&k->names[i]);
	if (count > 0)
		ret = ledger_number(k->user->fs->state_fd, count, &number);
	for (size_t i = 0; ret == 0 && i < k->count; i++)
		if (is_new(&k->names[i]))
			ret = add_line(k, LEDGER_PLACE_FOLDERS, &k->names[i],
				       number++);
	return ret;
}

/* ---- all of it ----------------------------------------------------------- */

static void look_fini(struct look *k)
{
	for (size_t i = 0; i < k->count; i++)
		free(k->names[i].text);
	free(k->names);
	free(k->folders);
	free(k->missing);
	tdestroy(k->taken, keep);
}

static int look_at_folders(struct look *k, bool *missing_out)
{
	int ret = walk(k);

	if (ret < 0)
		return ret == -ENOENT ? 0 : ret;
	ret = note_not_served(k);
	if (ret == 0)
		ret = compare(k);
	if (ret == 0)
		ret = take_all_dirs(k);
	if (ret == 0)
		ret = follow_renames(k);
	if (ret == 0)
		ret = add_new(k);
	if (ret == 0)
		*missing_out = note_all_missing(k);
	return ret;
}

int discover_folders(struct user *u, bool *missing_out)
{
	struct look k = { .user = u };
	int ret = add_inbox(&k);

	*missing_out = false;
	if (ret == 0 && u->mail)
		ret = look_at_folders(&k, missing_out);
	if (ret == 0) {
		(void)pthread_mutex_lock(&u->lock);
		ret = user_commit(u);
		(void)pthread_mutex_unlock(&u->lock);
	}
	look_fini(&k);
	return ret;
}
