#include "fs/move.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "compat/clock.h"
#include "compat/foldername.h"
#include "compat/log.h"
#include "compat/mbxmove.h"
#include "compat/text.h"
#include "fs/tree.h"

enum {
	PATIENCE_MS = 1000,
	RETIRED = 8, /* names that one move takes out of use, at most */
};

void move_note_name(struct folder *f)
{
	char plain[FOLDERNAME_MAX + 1];
	char from[PATH_MAX], name[400];
	bool changed = false;

	if (f->dir[0] == '\0')
		return;
	foldername_map(f->legacy, f->fs->opt->dots, plain, &changed);
	changed = changed || strcmp(plain, f->dir) != 0;
	(void)pthread_rwlock_wrlock(&f->lock);
	f->renamed = changed;
	(void)pthread_rwlock_unlock(&f->lock);
	if (!changed)
		return;
	folder_log_name(f, name, sizeof(name));
	log_warn("%s: shows the mailbox %s, whose name a Maildir++ folder "
		 "cannot have",
		 name,
		 text_escape(f->legacy, strlen(f->legacy), from, sizeof(from)));
}

/* Names are read without a lock, so the old ones stay as long as the user. */
static int room_to_retire(struct user *u, size_t count)
{
	char **more = reallocarray(u->retired, u->retired_count + count,
				   sizeof(*more));

	if (!more)
		return -ENOMEM;
	u->retired = more;
	return 0;
}

static void retire(struct user *u, char *text)
{
	if (text)
		u->retired[u->retired_count++] = text;
}

/* Four strings: the ledger's and the folder's own. */
struct names {
	char *line_dir, *line_legacy, *dir, *legacy;
};

static int names_init(struct names *n, const char *dir, const char *legacy)
{
	*n = (struct names){ .line_dir = strdup(dir),
			     .line_legacy = strdup(legacy),
			     .dir = strdup(dir),
			     .legacy = strdup(legacy) };
	return n->line_dir && n->line_legacy && n->dir && n->legacy ? 0
								    : -ENOMEM;
}

static void names_fini(struct names *n)
{
	free(n->line_dir);
	free(n->line_legacy);
	free(n->dir);
	free(n->legacy);
}

/* Swaps the line's names for those in @n, in memory and on disk. @file: the
 * mailbox does not have its new name yet. */
static int write_down(struct user *u, const struct folder *f, struct names *n,
		      bool file)
{
	struct ledger_folder *l, was;
	int ret;

	(void)pthread_mutex_lock(&u->lock);
	l = &u->ledger.folders[f->line];
	was = *l;
	l->dir = n->line_dir;
	l->legacy = n->line_legacy;
	l->moved_from = was.dir;
	l->was_legacy = file ? was.legacy : NULL;
	l->dirty = true;
	ret = user_commit(u);
	if (ret < 0) {
		l->dir = was.dir;
		l->legacy = was.legacy;
		l->moved_from = was.moved_from;
		l->was_legacy = was.was_legacy;
	} else {
		retire(u, file ? NULL : was.legacy);
		retire(u, was.moved_from);
		retire(u, was.was_legacy);
		n->line_dir = n->line_legacy = NULL;
	}
	(void)pthread_mutex_unlock(&u->lock);
	return ret;
}

static void ledger_done(struct user *u, struct ledger_folder *l)
{
	retire(u, l->was_legacy);
	l->moved_from = l->was_legacy = NULL;
	l->dirty = true;
}

/* It came to nothing after write_down(). */
static void take_back(struct user *u, const struct folder *f, bool file)
{
	struct ledger_folder *l;

	(void)pthread_mutex_lock(&u->lock);
	l = &u->ledger.folders[f->line];
	retire(u, l->dir);
	l->dir = l->moved_from;
	if (file) {
		retire(u, l->legacy);
		l->legacy = l->was_legacy;
		l->was_legacy = NULL;
	}
	ledger_done(u, l);
	if (user_commit(u) < 0)
		log_trace(LOG_VIEW, "%s: to be written later", l->dir);
	(void)pthread_mutex_unlock(&u->lock);
}

/* From now on everybody sees the new names; @keep_dir: but the directory. */
static void publish(struct user *u, struct folder *f, struct names *n,
		    bool keep_dir)
{
	struct ledger_folder *l;

	(void)pthread_mutex_lock(&u->lock);
	l = &u->ledger.folders[f->line];
	if (keep_dir) {
		retire(u, l->dir);
		l->dir = l->moved_from;
	} else {
		retire(u, l->moved_from);
		retire(u, f->dir);
		f->dir = n->dir;
		n->dir = NULL;
	}
	ledger_done(u, l);
	retire(u, f->legacy);
	f->legacy = n->legacy;
	n->legacy = NULL;
	user_sort(u);
	(void)pthread_mutex_unlock(&u->lock);
}

static int move_locked(struct user *u, struct folder *f, struct names *n)
{
	char was[400], is[400];
	int ret = write_down(u, f, n, false);

	if (ret < 0)
		return ret;
	folder_log_name(f, was, sizeof(was));
	ret = tree_rename_folder(u, f->dir, n->dir);
	publish(u, f, n, ret < 0);
	if (ret < 0) {
		log_warn("%s: its mailbox was renamed; its directory cannot "
			 "be: %s",
			 was, strerrordesc_np(-ret));
	} else {
		folder_log_name(f, is, sizeof(is));
		log_info("%s: its mailbox was renamed: it is %s now", was, is);
	}
	move_note_name(f);
	return 0;
}

int move_folder(struct user *u, struct folder *f, const char *legacy,
		const char *dir)
{
	struct names n;
	int ret = names_init(&n, dir, legacy);

	if (ret == 0)
		ret = room_to_retire(u, RETIRED);
	if (ret == 0)
		ret = clock_lock(&f->sync_lock, PATIENCE_MS);
	if (ret == 0) {
		ret = move_locked(u, f, &n);
		(void)pthread_mutex_unlock(&f->sync_lock);
	}
	names_fini(&n);
	return ret;
}

/* ---- through the view ---------------------------------------------------- */

int move_begin(struct user *u, const struct folder *f, struct mbxmove *out)
{
	struct store *s = user_store(u, f->place);
	int ret = s && f->place == LEDGER_PLACE_FOLDERS
		? mbxmove_begin(s, f->legacy, out)
		: -EACCES;

	return ret == -EPERM ? -EACCES : ret;
}

static int rename_both(struct user *u, struct folder *f, struct mbxmove *box,
		       const struct names *n)
{
	int ret = box ? mbxmove_rename(box, n->legacy) : 0;

	if (ret < 0)
		return ret;
	ret = tree_rename_folder(u, f->dir, n->dir);
	if (ret < 0 && box && mbxmove_rename(box, f->legacy) < 0)
		log_err("%s: cannot be renamed back to %s", n->legacy,
			f->legacy);
	return ret;
}

static int move_written(struct user *u, struct folder *f, struct mbxmove *box,
			struct names *n)
{
	char was[400], is[400];
	int ret = rename_both(u, f, box, n);

	if (ret < 0) {
		take_back(u, f, box);
		return ret;
	}
	folder_log_name(f, was, sizeof(was));
	publish(u, f, n, false);
	(void)pthread_mutex_lock(&u->lock);
	/* If not now, the next one makes it durable. */
	if (user_commit(u) < 0)
		log_trace(LOG_VIEW, "%s: to be written later", f->dir);
	(void)pthread_mutex_unlock(&u->lock);
	folder_log_name(f, is, sizeof(is));
	log_info("%s: was renamed: it is %s now", was, is);
	move_note_name(f);
	return 0;
}

int move_both(struct user *u, struct folder *f, struct mbxmove *box,
	      const char *legacy, const char *dir)
{
	struct names n;
	int ret = names_init(&n, dir, legacy);

	if (ret == 0)
		ret = room_to_retire(u, RETIRED);
	if (ret == 0)
		ret = write_down(u, f, &n, box);
	if (ret == 0)
		ret = move_written(u, f, box, &n);
	names_fini(&n);
	return ret;
}

/* ---- after a crash ------------------------------------------------------- */

bool move_is_file(const struct user *u, const char *legacy,
		  const struct ledger_folder *l)
{
	AUTO_FD int fd = -1;
	struct stat st;

	if (!u->fs->opt->has_folders)
		return false;
	fd = pattern_open(&u->fs->opt->folders, u->name, legacy, O_PATH);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	return l->ino == 0 || (st.st_ino == l->ino && st.st_dev == l->dev);
}

/* Nothing but the ledger knows of it. */
static void forget_move(struct ledger_folder *l)
{
	free(l->dir);
	free(l->legacy);
	l->dir = l->moved_from;
	l->legacy = l->was_legacy;
	l->moved_from = l->was_legacy = NULL;
	l->dirty = true;
}

static int finish_move(struct user *u, struct ledger_folder *l)
{
	char name[PATH_MAX];
	int ret = tree_rename_folder(u, l->moved_from, l->dir);

	if (ret == -EEXIST) {
		log_warn("%s: is there already, so Dovecot's files of the "
			 "folder that was renamed to it stay where they are",
			 text_escape(l->dir, strlen(l->dir), name,
				     sizeof(name)));
		ret = 0;
	}
	if (ret < 0)
		return ret;
	free(l->moved_from);
	free(l->was_legacy);
	l->moved_from = l->was_legacy = NULL;
	l->dirty = true;
	return 0;
}

int move_finish(struct user *u)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < u->ledger.count; i++) {
		struct ledger_folder *l = &u->ledger.folders[i];

		if (!l->moved_from)
			continue;
		if (l->was_legacy && !move_is_file(u, l->legacy, l) &&
		    move_is_file(u, l->was_legacy, l))
			forget_move(l);
		else
			ret = finish_move(u, l);
	}
	return ret;
}
