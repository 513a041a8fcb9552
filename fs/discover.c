#include "fs/discover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/foldername.h"
#include "compat/text.h"

enum { VARIANTS = 1000 }; /* of a name that is taken */

int discover_stat(const struct pattern *p, const char *name, struct stat *st)
{
	AUTO_FD int fd = pattern_open(p, name, "", O_PATH);

	if (fd < 0)
		return fd;
	return fstat(fd, st) < 0 ? -errno : 0;
}

void discover_clear(struct user *u)
{
	for (size_t i = 0; i < u->not_served_count; i++)
		free(u->not_served[i].path);
	free(u->not_served);
	u->not_served = NULL;
	u->not_served_count = 0;
}

/* Names found in one walk. */
struct found {
	struct user *user;
	char **names;
	size_t count;
	char inbox[PATH_MAX]; /* path of the INBOX file: not a folder too */
};

static int add_not_served(struct user *u, const char *path, const char *why)
{
	char word[PATH_MAX];
	struct not_served *more =
		reallocarray(u->not_served, u->not_served_count + 1,
			     sizeof(*more));

	if (!more)
		return -ENOMEM;
	u->not_served = more;
	more += u->not_served_count;
	more->path =
		strdup(text_escape(path, strlen(path), word, sizeof(word)));
	more->why = why;
	if (!more->path)
		return -ENOMEM;
	u->not_served_count++;
	return 0;
}

static int found_one(const struct store_entry *e, void *arg)
{
	struct found *f = arg;
	struct user *u = f->user;
	char path[PATH_MAX];
	char **more;

	if (pattern_path(&u->fs->opt->folders, u->name, e->name, path,
			 sizeof(path)) == 0 &&
	    strcmp(path, f->inbox) == 0)
		return 0;
	if (e->name[0] == '\0')
		return add_not_served(u, path,
				      "folders= should name a directory");
	if (!e->is_folder)
		return add_not_served(u, e->name, e->why);
	more = reallocarray(f->names, f->count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	f->names = more;
	more[f->count] = strdup(e->name);
	if (!more[f->count])
		return -ENOMEM;
	f->count++;
	return 0;
}

static int by_text(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static void found_fini(struct found *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->names[i]);
	free(f->names);
}

static bool is_known(const struct user *u, int place, const char *legacy)
{
	for (size_t i = 0; i < u->ledger.count; i++) {
		const struct ledger_folder *l = &u->ledger.folders[i];

		if (l->place == place && strcmp(l->legacy, legacy) == 0)
			return true;
	}
	return false;
}

/* In use by another folder, or by a directory that the user made? */
static bool dir_is_taken(const struct user *u, const char *dir)
{
	struct stat st;

	for (size_t i = 0; i < u->ledger.count; i++)
		if (strcmp(u->ledger.folders[i].dir, dir) == 0)
			return true;
	return fstatat(u->fd, dir, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int free_dir(const struct user *u, const char *legacy, char *out)
{
	char first[FOLDERNAME_MAX + 1];
	bool changed;

	foldername_map(legacy, u->fs->opt->dots, first, &changed);
	memcpy(out, first, sizeof(first));
	for (unsigned n = 2; dir_is_taken(u, out); n++) {
		if (n > VARIANTS)
			return -EEXIST;
		foldername_variant(first, n, out);
	}
	return 0;
}

/* A line in the ledger for a folder not known before. The number is filled in
 * when all new ones are counted. */
static int add_folder(struct user *u, int place, const char *legacy)
{
	char dir[FOLDERNAME_MAX + 1] = "";
	struct ledger_folder *l;
	int ret = place == LEDGER_PLACE_FOLDERS ? free_dir(u, legacy, dir) : 0;

	if (ret < 0)
		return ret;
	l = ledger_add(&u->ledger, dir, legacy);
	if (!l)
		return -ENOMEM;
	l->place = place;
	l->phase = PHASE_LEGACY;
	return 0;
}

static bool has_inbox(const struct user *u)
{
	for (size_t i = 0; i < u->ledger.count; i++)
		if (u->ledger.folders[i].dir[0] == '\0')
			return true;
	return false;
}

/* The first pattern that exists wins, once and for all. */
static int find_inbox(struct user *u)
{
	const struct options *o = u->fs->opt;
	struct stat st;

	if (has_inbox(u))
		return 0;
	for (unsigned i = 0; i < o->inbox_count; i++)
		if (discover_stat(&o->inbox[i], u->name, &st) == 0)
			return add_folder(u, (int)i, "");
	return 0;
}

static int find_folders(struct user *u)
{
	struct found f = { .user = u };
	int ret;

	for (size_t i = 0; i < u->ledger.count; i++) {
		const struct ledger_folder *l = &u->ledger.folders[i];

		if (l->dir[0] == '\0' && l->place >= 0 &&
		    pattern_path(&u->fs->opt->inbox[l->place], u->name, "",
				 f.inbox, sizeof(f.inbox)) < 0)
			f.inbox[0] = '\0';
	}
	ret = u->mail->ops->list(u->mail, found_one, &f);
	/* Sorted, so that who gets the plain name does not depend on the
	 * order of the directory. */
	if (f.count > 0)
		qsort(f.names, f.count, sizeof(*f.names), by_text);
	for (size_t i = 0; ret == 0 && i < f.count; i++)
		if (!is_known(u, LEDGER_PLACE_FOLDERS, f.names[i]))
			ret = add_folder(u, LEDGER_PLACE_FOLDERS, f.names[i]);
	found_fini(&f);
	return ret == -ENOENT ? 0 : ret;
}

int discover_folders(struct user *u)
{
	int ret;

	discover_clear(u);
	ret = find_inbox(u);
	return ret == 0 && u->mail ? find_folders(u) : ret;
}
