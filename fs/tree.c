#include "fs/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/foldername.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/maildir.h"
#include "compat/text.h"

int tree_open(struct user *u)
{
	struct fs *fs = u->fs;
	struct stat st;
	int ret = 0;

	/* One that is there and root's is for tree_check_owners(): what lies
	 * in it comes first. */
	if (fs->multi &&
	    fstatat(fs->store_fd, u->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		ret = io_mkdir(fs->store_fd, u->name, 0700, u->uid, u->gid);
	if (ret < 0 && ret != -EEXIST)
		return ret;
	u->fd = io_open_within(fs->store_fd, fs->multi ? u->name : ".",
			       O_RDONLY | O_DIRECTORY);
	return u->fd < 0 ? u->fd : 0;
}

int tree_make_folder(const struct user *u, const char *dir)
{
	return maildir_make_folder(u->fd, dir, u->uid, u->gid);
}

/* ---- renaming ------------------------------------------------------------ */

static int rename_in(int dirfd, const char *from, const char *to)
{
	int ret = io_rename(dirfd, from, dirfd, to, RENAME_NOREPLACE);

	if (ret == -ENOENT)
		return 0;
	return ret < 0 ? ret : io_fsync_dir(dirfd);
}

int tree_open_control(const struct user *u)
{
	const struct options *o = u->fs->opt;

	return o->has_control
		? pattern_open(&o->control, u->name, "", O_RDONLY | O_DIRECTORY)
		: -ENOENT;
}

static int rename_control(const struct user *u, const char *from,
			  const char *to)
{
	AUTO_FD int control = tree_open_control(u);
	int ret;

	if (control < 0)
		return control == -ENOENT ? 0 : control;
	ret = rename_in(control, from, to);
	/* What nobody knows there is seeded again. */
	return ret == -EEXIST ? 0 : ret;
}

int tree_rename_folder(const struct user *u, const char *from, const char *to)
{
	int ret = rename_in(u->fd, from, to);

	if (ret < 0)
		return ret;
	ret = rename_control(u, from, to);
	if (ret < 0)
		(void)!rename_in(u->fd, to, from);
	return ret;
}

/* ---- mail ---------------------------------------------------------------- */

/* Return: 1 when there is some; 0; -errno. */
static int look_for_mail(int fd, tree_mail_fn *counts, void *arg)
{
	const struct dirent *de;
	DIR *d = fdopendir(fd);
	int ret;

	if (!d) {
		ret = -errno;
		(void)close(fd);
		return ret;
	}
	do {
		ret = io_readdir(d, &de);
	} while (ret == 0 && de &&
		 (de->d_name[0] == '.' || !counts(de->d_name, arg)));
	ret = ret == 0 ? de != NULL : ret;
	(void)closedir(d);
	return ret;
}

bool tree_has_mail(const struct user *u, const char *dir, tree_mail_fn *counts,
		   void *arg)
{
	static const char *const subs[] = { "cur", "new" };
	char path[FOLDERNAME_MAX + 8];
	int fd, ret = 0;

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(subs); i++) {
		ret = text_path(path, sizeof(path), "%s/%s", dir, subs[i]);
		if (ret < 0)
			break;
		fd = io_open_beneath(u->fd, path, O_RDONLY | O_DIRECTORY);
		if (fd >= 0)
			ret = look_for_mail(fd, counts, arg);
		else if (fd != -ENOENT)
			ret = fd;
	}
	return ret != 0;
}

/* ---- owners -------------------------------------------------------------- */

struct audit {
	const struct user *user;
	unsigned long mended, wrong;
	char first[600]; /* of what is wrong; text_escape()d */
};

static void add_wrong(struct audit *a, const char *dir, const char *name)
{
	char path[FOLDERNAME_MAX + 32];

	if (a->wrong++ > 0)
		return;
	if (text_path(path, sizeof(path), "%s%s%s", dir, *dir ? "/" : "",
		      name) < 0)
		return;
	(void)text_escape(path, strlen(path), a->first, sizeof(a->first));
}

/* Can only root have put there what lies in it? Nobody can give a directory
 * to root, or move one of root's. */
static bool is_roots(const struct stat *st)
{
	return S_ISDIR(st->st_mode) && st->st_uid == 0 &&
		!(st->st_mode & (S_IWGRP | S_IWOTH));
}

static int give(struct audit *a, int fd)
{
	a->mended++;
	io_step("chown");
	return fchownat(fd, "", a->user->uid, a->user->gid, AT_EMPTY_PATH) < 0
		? -errno
		: 0;
}

/* @trusted: nobody but root may write to the directory that it lies in. In
 * another a file of root's may be a hard link that somebody made. */
static int check_name(struct audit *a, int dirfd, const char *dir,
		      const char *name, bool trusted)
{
	AUTO_FD int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid == a->user->uid)
		return 0;
	if (is_roots(&st) ||
	    (trusted && S_ISREG(st.st_mode) && st.st_uid == 0 &&
	     st.st_nlink == 1))
		return give(a, fd);
	add_wrong(a, dir, name);
	return 0;
}

/* What we make in a folder, and last the folder itself: once it is the user's,
 * he may put things there. */
static int check_folder(struct audit *a, const char *dir)
{
	static const char *const names[] = { "cur",
					     "new",
					     "tmp",
					     "maildirfolder",
					     "dovecot-keywords",
					     "dovecot-uidlist",
					     "subscriptions" };
	AUTO_FD int fd = io_open_beneath(a->user->fd, *dir ? dir : ".",
					 O_RDONLY | O_DIRECTORY);
	struct stat st;
	int ret = 0;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(names); i++)
		ret = check_name(a, fd, dir, names[i], is_roots(&st));
	if (ret < 0 || st.st_uid == a->user->uid)
		return ret;
	/* A single user's root is the directory that the admin made. */
	if (!*dir && !a->user->fs->multi)
		return 0;
	if (is_roots(&st))
		return give(a, fd);
	add_wrong(a, dir, "");
	return 0;
}

int tree_check_owners(struct user *u)
{
	struct audit a = { .user = u };
	char name[400];
	int ret = 0;

	if (geteuid() != 0 || u->uid == 0)
		return 0;
	for (size_t i = 0; ret == 0 && i < u->ledger.count; i++)
		if (u->ledger.folders[i].dir[0])
			ret = check_folder(&a, u->ledger.folders[i].dir);
	if (ret == 0)
		ret = check_folder(&a, "");
	(void)text_escape(u->name, strlen(u->name), name, sizeof(name));
	if (a.mended > 0)
		log_info("user %s: %lu files and directories in the new store "
			 "belonged to root; they are the user's now",
			 name, a.mended);
	if (a.wrong > 0)
		log_warn("user %s: %lu files or directories in the new store "
			 "do not belong to the user, so that Dovecot cannot "
			 "use them (the first: %s); chown them to %u:%u",
			 name, a.wrong, a.first, u->uid, u->gid);
	return ret;
}
