#include "fs/remove.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "compat/basename.h"
#include "compat/log.h"
#include "compat/mbxmove.h"
#include "compat/text.h"
#include "fs/folder_internal.h"
#include "fs/kept.h"
#include "fs/mirror.h"
#include "fs/move.h"
#include "fs/trash.h"
#include "fs/tree.h"

/* ---- the ledger ---------------------------------------------------------- */

static void keep(struct ledger_folder *l)
{
	free(l->trash);
	l->trash = NULL;
	l->phase = PHASE_LEGACY;
	l->dirty = true;
}

static int say_deleting(struct user *u, const struct folder *f,
			const char *name)
{
	struct ledger_folder *l;
	char *copy = strdup(name);
	int ret;

	if (!copy)
		return -ENOMEM;
	(void)pthread_mutex_lock(&u->lock);
	l = &u->ledger.folders[f->line];
	l->phase = PHASE_DELETING;
	l->trash = copy;
	l->dirty = true;
	ret = user_commit(u);
	if (ret < 0)
		keep(l);
	(void)pthread_mutex_unlock(&u->lock);
	return ret;
}

/* In memory; durable with the next commit, which is tried. */
static void say_legacy(struct user *u, const struct folder *f)
{
	struct ledger_folder *l;

	(void)pthread_mutex_lock(&u->lock);
	l = &u->ledger.folders[f->line];
	keep(l);
	if (user_commit(u) < 0)
		log_trace(LOG_VIEW, "%s: to be written later", l->dir);
	(void)pthread_mutex_unlock(&u->lock);
}

/* What the ledger says is durable already but for the end of it. */
static void say_deleted(struct user *u, const struct folder *f)
{
	(void)pthread_mutex_lock(&u->lock);
	if (ledger_delete(&u->ledger.folders[f->line]) < 0 ||
	    user_commit(u) < 0)
		log_trace(LOG_VIEW, "%s: to be written later", f->dir);
	(void)pthread_mutex_unlock(&u->lock);
}

/* ---- deleting ------------------------------------------------------------ */

static int put_dir_away(struct user *u, struct folder *f, const char *name,
			remove_dir_fn *away, void *arg)
{
	char folder[400];
	int ret = away ? away(arg) : trash_put_dir(u, f->dir, name);

	if (ret == 0)
		return 0;
	folder_log_name(f, folder, sizeof(folder));
	if (away) {
		log_warn("%s: its mailbox was deleted, but its directory "
			 "cannot be moved (%s); it goes into the trash",
			 folder, strerrordesc_np(-ret));
		ret = trash_put_dir(u, f->dir, name);
	}
	return ret;
}

static void note_deleted(struct user *u, struct folder *f, const char *name)
{
	char folder[400], legacy[PATH_MAX];

	say_deleted(u, f);
	user_drop(u, f);
	if (index_folder_drop(u->fs->index, folder_id(f).number) < 0)
		log_trace(LOG_VIEW, "folder %u: rows stay",
			  folder_id(f).number);
	folder_log_name(f, folder, sizeof(folder));
	log_info("%s: was deleted; its mailbox %s is in the trash as %s",
		 folder,
		 text_escape(f->legacy, strlen(f->legacy), legacy,
			     sizeof(legacy)),
		 name);
}

/* @box: NULL when there is no mailbox any more. */
static int remove_locked(struct user *u, struct folder *f, struct mbxmove *box,
			 remove_dir_fn *away, void *arg)
{
	AUTO_FD int trash = trash_open(u);
	char name[NAME_MAX + 1];
	int ret;

	if (trash < 0)
		return trash;
	trash_name(folder_id(f).number, f->legacy, name);
	ret = say_deleting(u, f, name);
	if (ret < 0)
		return ret;
	ret = box ? mbxmove_take(box, trash, name) : 0;
	if (ret == 0) {
		ret = put_dir_away(u, f, name, away, arg);
		/* With the mailbox gone there is no way back. */
		if (ret == 0 || box)
			note_deleted(u, f, name);
		if (ret == 0 || box)
			return 0;
	}
	say_legacy(u, f);
	return ret;
}

int remove_folder(struct user *u, struct folder *f, remove_dir_fn *away,
		  void *arg)
{
	struct mbxmove box;
	int ret = move_begin(u, f, &box);

	if (ret == -ENOENT || ret == -ENOTDIR)
		return remove_locked(u, f, NULL, away, arg);
	kept_refused(f, "cannot be deleted", ret);
	if (ret < 0)
		return ret;
	ret = remove_locked(u, f, &box, away, arg);
	mbxmove_end(&box);
	return ret;
}

int remove_gone(struct user *u, struct folder *f)
{
	struct mbxmove box;
	int ret = move_begin(u, f, &box);

	if (ret == 0)
		mbxmove_end(&box);
	return ret == -ENOENT || ret == -ENOTDIR
		? remove_locked(u, f, NULL, NULL, NULL)
		: -EEXIST;
}

/* Who deleted the mailbox deleted what was in it, mirrored mail too. */
static bool is_only_here(const char *name, void *arg)
{
	char base[NAME_MAX + 1];
	size_t len = info_split(name, strlen(name));
	struct journal *j = arg;
	bool sure = false;
	uint32_t uid;

	memcpy(base, name, len);
	base[len] = '\0';
	return !j || !journal_by_base(j, base, &uid, &sure) || !sure;
}

/*
 * Mail that was delivered through the view and is not in the mailbox nobody
 * asked to delete, so the folder shows it, as a native one would. Either way
 * other messages show from now on.
 */
void remove_note(struct folder *f, bool gone)
{
	bool plain = gone &&
		tree_has_mail(f->user, f->dir, is_only_here, folder_journal(f));
	bool seen = plain || atomic_load(&f->plain);
	int ret = gone ? 0 : tree_make_folder(f->user, f->dir);

	atomic_store(&f->plain, plain);
	/* What was delivered meanwhile is for the MBX again. */
	if (!gone)
		mirror_note(f);
	if (ret == 0 && seen)
		ret = folder_bump(f, "new");
	if (ret == 0 && seen)
		ret = folder_bump(f, "cur");
	if (ret < 0)
		log_trace(LOG_VIEW, "folder %u: %d", folder_id(f).number, ret);
}

/* ---- after a crash ------------------------------------------------------- */

static bool was_begun(const struct user *u, const char *name)
{
	char dir[NAME_MAX + 1];

	return trash_has(u, name) ||
		(text_path(dir, sizeof(dir), "%s.dir", name) == 0 &&
		 trash_has(u, dir));
}

static int finish_one(struct user *u, struct ledger_folder *l)
{
	bool is_there = move_is_file(u, l->legacy, l);
	int ret = is_there ? trash_forget(u, l->trash) : 0;

	if (ret < 0)
		return ret;
	if (is_there || !was_begun(u, l->trash)) {
		keep(l);
		return 0;
	}
	ret = trash_put_dir(u, l->dir, l->trash);
	return ret == 0 ? ledger_delete(l) : ret;
}

int remove_finish(struct user *u)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < u->ledger.count; i++)
		if (u->ledger.folders[i].phase == PHASE_DELETING)
			ret = finish_one(u, &u->ledger.folders[i]);
	return ret;
}
