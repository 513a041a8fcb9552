#include "fs/move.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "compat/foldername.h"
#include "compat/log.h"
#include "compat/text.h"
#include "fs/tree.h"

enum { PATIENCE_S = 1 };

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

static int lock_soon(pthread_mutex_t *m)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PATIENCE_S;
	return pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &until) == 0
		? 0
		: -EAGAIN;
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

/* Swaps the line's names for those in @n, in memory and on disk. */
static int write_down(struct user *u, const struct folder *f, struct names *n)
{
	struct ledger_folder *l, was;
	int ret;

	(void)pthread_mutex_lock(&u->lock);
	l = &u->ledger.folders[f->line];
	was = *l;
	l->dir = n->line_dir;
	l->legacy = n->line_legacy;
	l->moved_from = was.dir;
	l->dirty = true;
	ret = user_commit(u);
	if (ret < 0) {
		l->dir = was.dir;
		l->legacy = was.legacy;
		l->moved_from = was.moved_from;
	} else {
		retire(u, was.legacy);
		retire(u, was.moved_from);
		n->line_dir = n->line_legacy = NULL;
	}
	(void)pthread_mutex_unlock(&u->lock);
	return ret;
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
	l->moved_from = NULL;
	l->dirty = true;
	retire(u, f->legacy);
	f->legacy = n->legacy;
	n->legacy = NULL;
	user_sort(u);
	(void)pthread_mutex_unlock(&u->lock);
}

static int move_locked(struct user *u, struct folder *f, struct names *n)
{
	char was[400], is[400];
	int ret = write_down(u, f, n);

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
		ret = room_to_retire(u, 6);
	if (ret == 0)
		ret = lock_soon(&f->sync_lock);
	if (ret == 0) {
		ret = move_locked(u, f, &n);
		(void)pthread_mutex_unlock(&f->sync_lock);
	}
	names_fini(&n);
	return ret;
}

int move_finish(struct user *u)
{
	char name[PATH_MAX];
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < u->ledger.count; i++) {
		struct ledger_folder *l = &u->ledger.folders[i];

		if (!l->moved_from)
			continue;
		ret = tree_rename_folder(u, l->moved_from, l->dir);
		if (ret == -EEXIST) {
			log_warn("%s: is there already, so Dovecot's files "
				 "of the folder that was renamed to it stay "
				 "where they are",
				 text_escape(l->dir, strlen(l->dir), name,
					     sizeof(name)));
			ret = 0;
		}
		free(l->moved_from);
		l->moved_from = NULL;
		l->dirty = true;
	}
	return ret;
}
