/*
 * The directories below folders=.
 *
 * Those that mailboxes lie in are known; in the others the first mailbox may be
 * made at any time. Each is handed out before it is listed, so that whoever
 * watches it misses nothing between the two. As in the walk that looks for
 * mailboxes, links and other mounts are not entered, nor names with a dot.
 */
#include "fs/watch_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "compat/io.h"
#include "compat/pattern.h"
#include "compat/text.h"
#include "fs/folder.h"
#include "fs/fs.h"
#include "fs/user.h"

enum { USER_DIRS = 512 };

struct tree {
	int top;
	char **paths;
	size_t count, room;
	size_t holding; /* the first of them, sorted: mailboxes lie in these */
	bool more;
};

static int add(struct tree *t, const char *path, size_t len)
{
	if (t->count == t->room) {
		size_t room = t->room ? 2 * t->room : 16;
		char **more = reallocarray(t->paths, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		t->paths = more;
		t->room = room;
	}
	t->paths[t->count] = strndup(path, len);
	return t->paths[t->count] ? (t->count++, 0) : -ENOMEM;
}

static int add_parents(struct tree *t, const char *legacy)
{
	int ret = 0;

	for (const char *s = strchr(legacy, '/'); s && ret == 0;
	     s = strchr(s + 1, '/'))
		ret = add(t, legacy, (size_t)(s - legacy));
	return ret;
}

static int by_text(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static void drop_doubles(struct tree *t)
{
	size_t n = 0;

	qsort(t->paths, t->count, sizeof(*t->paths), by_text);
	for (size_t i = 0; i < t->count; i++) {
		if (n > 0 && strcmp(t->paths[n - 1], t->paths[i]) == 0)
			free(t->paths[i]);
		else
			t->paths[n++] = t->paths[i];
	}
	t->count = n;
}

static int add_holding(struct tree *t, struct user *u)
{
	int ret = add(t, "", 0);

	(void)pthread_mutex_lock(&u->lock);
	for (size_t i = 0; ret == 0 && i < u->count; i++)
		if (u->folders[i]->place == LEDGER_PLACE_FOLDERS)
			ret = add_parents(t, u->folders[i]->legacy);
	(void)pthread_mutex_unlock(&u->lock);
	if (ret < 0)
		return ret;
	drop_doubles(t);
	t->holding = t->count;
	return t->count > USER_DIRS ? -E2BIG : 0;
}

static bool is_holding(const struct tree *t, const char *path)
{
	return bsearch(&path, t->paths, t->holding, sizeof(*t->paths), by_text);
}

static bool is_dir(int dirfd, const struct dirent *de)
{
	struct stat st;

	if (de->d_name[0] == '.')
		return false;
	if (de->d_type != DT_UNKNOWN)
		return de->d_type == DT_DIR;
	return fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		S_ISDIR(st.st_mode);
}

static int add_child(struct tree *t, const char *path, const char *name)
{
	char sub[PATH_MAX];

	if (text_path(sub, sizeof(sub), "%s%s%s", path, *path ? "/" : "",
		      name) < 0 ||
	    is_holding(t, sub))
		return 0;
	t->more = t->count >= USER_DIRS;
	return t->more ? 0 : add(t, sub, strlen(sub));
}

/* Uses @fd up. */
static int list(struct tree *t, int fd, const char *path)
{
	DIR *d = fdopendir(fd);
	const struct dirent *de;
	int ret = 0;

	if (!d) {
		ret = -errno;
		base_auto_close(&fd);
		return ret;
	}
	while (ret == 0 && !t->more) {
		ret = io_readdir(d, &de);
		if (ret < 0 || !de)
			break;
		if (is_dir(dirfd(d), de))
			ret = add_child(t, path, de->d_name);
	}
	(void)closedir(d);
	return ret;
}

static int visit(struct tree *t, const char *path, watch_tree_fn *fn, void *arg)
{
	AUTO_FD int fd = io_open_within(t->top, path, O_RDONLY | O_DIRECTORY);
	int ret = fd < 0 ? fd : fn(fd, path, arg);

	if (ret == 0)
		ret = list(t, base_steal_fd(&fd), path);
	return ret;
}

/* Removed since; or nothing lies in it that would be shown. */
static bool is_harmless(const struct tree *t, size_t i, int err)
{
	if (err == -ENOENT || err == -ENOTDIR)
		return true;
	return i >= t->holding && err != -ENOSPC && err != -ENOMEM;
}

static int walk(struct tree *t, struct user *u, watch_tree_fn *fn, void *arg)
{
	int ret = add_holding(t, u);

	for (size_t i = 0; ret == 0 && i < t->count; i++) {
		ret = visit(t, t->paths[i], fn, arg);
		if (ret < 0 && is_harmless(t, i, ret))
			ret = 0;
	}
	return ret;
}

int watch_tree_walk(struct user *u, watch_tree_fn *fn, void *arg,
		    bool *more_out)
{
	struct tree t = { .count = 0 };
	AUTO_FD int top = pattern_open(&u->fs->opt->folders, u->name, "",
				       O_RDONLY | O_DIRECTORY);
	int ret;

	if (top < 0)
		return top == -ENOENT || top == -ENOTDIR ? 0 : top;
	t.top = top;
	ret = walk(&t, u, fn, arg);
	for (size_t i = 0; i < t.count; i++)
		free(t.paths[i]);
	free(t.paths);
	*more_out = t.more;
	return ret;
}
