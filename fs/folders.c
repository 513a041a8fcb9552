#include "fs/folders.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/clock.h"
#include "compat/foldername.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/mbxmove.h"
#include "compat/text.h"
#include "fs/attr.h"
#include "fs/folder_internal.h"
#include "fs/kept.h"
#include "fs/lease.h"
#include "fs/move.h"
#include "fs/remove.h"
#include "fs/user.h"
#include "fs/view.h"

/* ---- which ----------------------------------------------------------------
 */

static struct folder *folder_in(const struct node *parent, const char *name)
{
	return parent->kind == NODE_MAIL && name[0] == '.'
		? user_folder(parent->user, name)
		: NULL;
}

bool folders_is_legacy(const struct node *parent, const char *name)
{
	return folder_in(parent, name) != NULL;
}

/* ".a.b", not "..DOVECOT-TRASHED" */
static bool is_folder_name(const struct node *parent, const char *name)
{
	return parent->kind == NODE_MAIL && name[0] == '.' && name[1] &&
		name[1] != '.' && strlen(name) <= FOLDERNAME_MAX;
}

static bool is_there(int dirfd, const char *name)
{
	struct stat st;

	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- locks ----------------------------------------------------------------
 */

static int user_lock(struct user *u)
{
	bool crowd = atomic_fetch_add(&u->waiting, 1) >= FOLDER_CROWD;
	/* The other threads are for other users. */
	int64_t ms = crowd ? 0 : (int64_t)u->fs->opt->lock_ms + 1000;
	int ret = clock_lock(&u->refresh_lock, ms);

	(void)atomic_fetch_sub(&u->waiting, 1);
	return ret;
}

/* With the user's refresh_lock: none of us changes @f, or holds UW's locks on
 * its mailbox, until folder_unlock(). */
static int folder_lock(struct folder *f)
{
	int ret = clock_lock(&f->sync_lock, f->fs->opt->lock_ms);

	if (ret == 0)
		lease_finish(f);
	return ret;
}

static void folder_unlock(struct folder *f)
{
	(void)pthread_mutex_unlock(&f->sync_lock);
}

/* ---- another name ---------------------------------------------------------
 */

/* INBOX may lie in the mail directory, too. */
static bool is_inbox_file(const struct user *u, const char *legacy)
{
	const struct options *o = u->fs->opt;
	char path[PATH_MAX], inbox[PATH_MAX];

	if (pattern_path(&o->folders, u->name, legacy, path, sizeof(path)) < 0)
		return true;
	for (unsigned i = 0; i < o->inbox_count; i++)
		if (pattern_path(&o->inbox[i], u->name, "", inbox,
				 sizeof(inbox)) == 0 &&
		    strcmp(path, inbox) == 0)
			return true;
	return false;
}

/* Return: 0; -errno when the mailbox cannot have a name that shows as @dir. */
static int find_legacy(const struct user *u, const struct mbxmove *box,
		       const char *dir, char *out)
{
	int ret = foldername_legacy(dir, u->fs->opt->dots, out);

	if (ret == 0 && is_inbox_file(u, out))
		ret = -EEXIST;
	return ret == 0 ? mbxmove_check(box, out) : ret;
}

static int rename_locked(struct user *u, struct folder *f, const char *dir)
{
	char legacy[FOLDERNAME_MAX + 1], name[400];
	struct mbxmove box;
	int ret = move_begin(u, f, &box);

	kept_refused(f, "cannot be renamed", ret);
	if (ret < 0)
		return ret;
	ret = find_legacy(u, &box, dir, legacy);
	if (ret == 0) {
		ret = move_both(u, f, &box, legacy, dir);
	} else {
		folder_log_name(f, name, sizeof(name));
		log_info("%s: its mailbox keeps its name: %s", name,
			 strerrordesc_np(-ret));
		ret = move_both(u, f, NULL, f->legacy, dir);
	}
	mbxmove_end(&box);
	return ret;
}

/* What is left of a folder whose mailbox is gone. */
static int make_room(struct user *u, const char *dir)
{
	struct folder *f = user_gone_folder(u, dir);
	int ret = 0;

	if (!f)
		return 0;
	if (atomic_load(&f->plain) && is_there(u->fd, dir))
		return -EEXIST;
	ret = folder_lock(f);
	if (ret < 0)
		return ret;
	ret = remove_gone(u, f);
	folder_unlock(f);
	return ret;
}

static int rename_folder(struct user *u, struct folder *f, const char *dir)
{
	int ret = user_folder(u, dir) ? -EEXIST : make_room(u, dir);

	if (ret == 0 && is_there(u->fd, dir))
		ret = -EEXIST;
	if (ret == 0)
		ret = folder_lock(f);
	if (ret < 0)
		return ret;
	ret = rename_locked(u, f, dir);
	folder_unlock(f);
	return ret;
}

/* ---- away -----------------------------------------------------------------
 */

struct target {
	int from, to;
	const char *name, *to_name;
};

static int move_dir(void *arg)
{
	const struct target *t = arg;
	int ret = io_rename(t->from, t->name, t->to, t->to_name,
			    RENAME_NOREPLACE);

	return ret < 0 ? ret : io_fsync_dir(t->from);
}

static int remove_dir(void *arg)
{
	const struct target *t = arg;

	return io_unlink(t->from, t->name, AT_REMOVEDIR);
}

static int delete_folder(struct user *u, struct folder *f, remove_dir_fn *away,
			 struct target *t)
{
	int ret = folder_lock(f);

	if (ret < 0)
		return ret;
	ret = remove_folder(u, f, away, t);
	folder_unlock(f);
	return ret;
}

/* Not among messages, nor among the files of a folder that stays. */
static bool may_take(const struct node *to)
{
	return to->kind == NODE_MAIL || to->kind == NODE_PLAIN ||
		(to->kind == NODE_FOLDER && !view_folder(to));
}

static bool is_trash_name(const char *name)
{
	return name[0] == '.' && name[1] == '.' && name[2];
}

/* Dovecot moves what it deletes to "..DOVECOT-TRASHED", or into it. Whoever
 * moves a folder elsewhere wants to keep its mail. */
static bool is_trash(const struct node *to, const char *to_name)
{
	char link[64], path[PATH_MAX];
	const char *name;
	ssize_t n;

	if (to->kind == NODE_MAIL)
		return is_trash_name(to_name);
	attr_fd_path(to->fd, link);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	name = strrchr(path, '/');
	return name && is_trash_name(name + 1);
}

/* ---- what the view asks for -----------------------------------------------
 */

int folders_rename(struct node *from, const char *name, struct node *to,
		   const char *to_name)
{
	struct target t = {
		.from = from->fd, .to = to->fd, .name = name, .to_name = to_name
	};
	struct user *u = from->user;
	struct folder *f;
	int ret;

	if (to->user != u || !may_take(to))
		return -EACCES;
	ret = user_lock(u);
	if (ret < 0)
		return ret;
	f = folder_in(from, name);
	if (!f)
		ret = -ENOENT;
	else if (is_folder_name(to, to_name))
		ret = rename_folder(u, f, to_name);
	else if (is_there(to->fd, to_name))
		ret = -EEXIST;
	else if (!is_trash(to, to_name))
		ret = -EXDEV;
	else
		ret = delete_folder(u, f, move_dir, &t);
	(void)pthread_mutex_unlock(&u->refresh_lock);
	return ret;
}

/* Nothing at all may be in it. */
static int check_empty(int dirfd, const char *name)
{
	int fd = io_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY);
	const struct dirent *de;
	DIR *d;
	int ret;

	if (fd < 0)
		return fd;
	d = fdopendir(fd);
	if (!d) {
		ret = -errno;
		(void)close(fd);
		return ret;
	}
	ret = io_readdir(d, &de);
	(void)closedir(d);
	return ret == 0 && de ? -ENOTEMPTY : ret;
}

int folders_rmdir(struct node *parent, const char *name)
{
	struct target t = { .from = parent->fd, .name = name };
	struct user *u = parent->user;
	struct folder *f;
	int ret = user_lock(u);

	if (ret < 0)
		return ret;
	f = folder_in(parent, name);
	ret = f ? check_empty(parent->fd, name) : -ENOENT;
	if (ret == 0)
		ret = delete_folder(u, f, remove_dir, &t);
	(void)pthread_mutex_unlock(&u->refresh_lock);
	return ret;
}

int folders_make_room(struct node *parent, const char *name)
{
	struct user *u = parent->user;
	int ret;

	if (!is_folder_name(parent, name) || !user_gone_folder(u, name))
		return 0;
	ret = user_lock(u);
	if (ret < 0)
		return ret;
	ret = make_room(u, name);
	(void)pthread_mutex_unlock(&u->refresh_lock);
	return ret;
}
