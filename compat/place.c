#include "compat/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/text.h"

enum { WORD = 300 }; /* octets of a path in a message */

int place_stat(const struct pattern *p, const char *name, struct stat *st)
{
	AUTO_FD int fd = pattern_open(p, name, "", O_PATH);

	if (fd < 0)
		return fd;
	return fstat(fd, st) < 0 ? -errno : 0;
}

/* Not across a mount: that could be our own. */
static int tree_stat(const struct places *all, const char *name,
		     struct stat *st)
{
	AUTO_FD int fd =
		io_open_within(all->store_fd, all->multi ? name : ".", O_PATH);

	if (fd < 0)
		return fd == -EXDEV || fd == -ELOOP ? -ENOENT : fd;
	return fstat(fd, st) < 0 ? -errno : 0;
}

/* The patterns that name a user's mail, one after the other; NULL at the end.
 */
static const struct pattern *nth_place(const struct places *all, unsigned i)
{
	if (i < all->inbox_count)
		return &all->inbox[i];
	return i == all->inbox_count ? all->folders : NULL;
}

int place_exists(const struct places *all, const char *name)
{
	const struct pattern *p;
	bool linked = false;
	struct stat st;
	int ret = -ENOENT;

	for (unsigned i = 0; ret < 0 && (p = nth_place(all, i)); i++) {
		ret = place_stat(p, name, &st);
		linked = linked || ret == -ELOOP;
	}
	if (ret < 0)
		ret = tree_stat(all, name, &st);
	if (ret == 0 && all->multi && !S_ISDIR(st.st_mode) &&
	    !S_ISREG(st.st_mode))
		ret = -ENOENT;
	if (ret == -ENOTDIR)
		ret = -ENOENT;
	return ret == -ENOENT && linked ? -ELOOP : ret;
}

/* ---- whose it is --------------------------------------------------------- */

/* What was found about the owner, and where. */
struct evidence {
	bool found, doubt;
	uid_t uid;
	gid_t gid;
	char path[WORD];
	/* Seen, but no evidence: of root's, or in a public directory. */
	char roots[WORD], public[WORD];
	struct place_owner *out;
};

static void path_of(const struct pattern *p, const char *name, bool home,
		    char *out)
{
	char path[PATH_MAX];

	if (pattern_path(p, name, "", path, sizeof(path)) < 0)
		path[0] = '\0';
	/* The home is the path without what follows the %u component. */
	if (home && strlen(path) > strlen(p->rest) + 1)
		path[strlen(path) - strlen(p->rest) - 1] = '\0';
	(void)text_escape(path, strlen(path), out, WORD);
}

static void add_evidence(struct evidence *e, const struct stat *st,
			 const char *path)
{
	if (st->st_uid == 0) {
		if (!e->roots[0])
			memcpy(e->roots, path, WORD);
		return;
	}
	if (!e->found) {
		e->found = true;
		e->uid = st->st_uid;
		e->gid = st->st_gid;
		memcpy(e->path, path, WORD);
		return;
	}
	if (e->uid == st->st_uid || e->doubt)
		return;
	e->doubt = true;
	(void)snprintf(e->out->why, sizeof(e->out->why),
		       "%s belongs to uid %u, but %s to uid %u: chown one of "
		       "them, or give owner=UID:GID",
		       e->path, e->uid, path, st->st_uid);
}

static void look(struct evidence *e, const struct pattern *p, const char *name,
		 bool home)
{
	AUTO_FD int fd = home ? pattern_open_home(p, name)
			      : pattern_open(p, name, "", O_PATH);
	char path[WORD];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || (home && !S_ISDIR(st.st_mode)))
		return;
	path_of(p, name, home, path);
	if (pattern_is_public(p))
		memcpy(e->public, path, WORD);
	else
		add_evidence(e, &st, path);
}

static void look_at_homes(struct evidence *e, const struct places *all,
			  const char *name)
{
	const struct pattern *p;

	for (unsigned i = 0; (p = nth_place(all, i)); i++)
		look(e, p, name, true);
	if (all->subscriptions)
		look(e, all->subscriptions, name, true);
}

static void look_at_places(struct evidence *e, const struct places *all,
			   const char *name)
{
	const struct pattern *p;

	for (unsigned i = 0; (p = nth_place(all, i)); i++)
		look(e, p, name, false);
}

static int refuse(struct evidence *e)
{
	char *why = e->out->why;

	if (e->public[0])
		(void)snprintf(why, sizeof(e->out->why),
			       "%s lies in a directory that everybody may "
			       "write to, so its owner proves nothing: give a "
			       "pattern that names the home, e.g. "
			       "subscriptions=/home/%%u/.mailboxlist, or "
			       "owner=UID:GID",
			       e->public);
	else
		(void)snprintf(why, sizeof(e->out->why),
			       "%s belongs to root: chown it to the user, or "
			       "give owner=UID:GID",
			       e->roots);
	return -EACCES;
}

/* Root's own mail, and a single user's, who is whoever the admin says. */
static bool may_be_root(const struct places *all, const char *name)
{
	return !all->multi || strcmp(name, "root") == 0;
}

static void tree_path(const struct places *all, const char *name, char *out)
{
	char path[PATH_MAX];

	if (text_path(path, sizeof(path), "%s%s%s", all->store,
		      *name ? "/" : "", name) < 0)
		path[0] = '\0';
	(void)text_escape(path, strlen(path), out, WORD);
}

static int decide(struct evidence *e, const struct places *all,
		  const char *name)
{
	char path[WORD];
	struct stat tree;
	bool has_tree = tree_stat(all, name, &tree) == 0;

	if (e->doubt)
		return -EACCES;
	if (has_tree && tree.st_uid != 0 && geteuid() == 0) {
		tree_path(all, name, path);
		add_evidence(e, &tree, path);
	}
	if (e->doubt)
		return -EACCES;
	if (!e->found && !may_be_root(all, name) &&
	    (e->roots[0] || e->public[0]))
		return refuse(e);
	if (!e->found && has_tree) {
		e->uid = tree.st_uid;
		e->gid = tree.st_gid;
	}
	e->out->uid = e->uid;
	e->out->gid = e->gid;
	return 0;
}

int place_owner(const struct places *all, const char *name,
		struct place_owner *out)
{
	struct evidence e = { .out = out };

	*out = (struct place_owner){ .uid = all->owner_uid,
				     .gid = all->owner_gid };
	if (all->has_owner)
		return 0;
	look_at_homes(&e, all, name);
	if (!e.found)
		look_at_places(&e, all, name);
	return decide(&e, all, name);
}
