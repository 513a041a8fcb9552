/*
 * Maildir++ trees: one, or those of many users; on a disk, or in a mounted
 * view.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"
#include "compat/maildir.h"
#include "compat/pattern.h"
#include "compat/subscriptions.h"
#include "compat/text.h"
#include "tools/mounted.h"
#include "tools/source.h"

enum { CONTROL_MAX = 16 << 20 };

struct maildir_source {
	struct source base;
	struct pattern root; /* of one user */
	bool is_view;
};

struct maildir_user {
	struct source_user base;
	bool is_view;
	struct store *store;
};

static const struct source_ops maildir_ops;

/* ---- a user -------------------------------------------------------------- */

static void maildir_leave(struct source_user *base)
{
	struct maildir_user *u = (struct maildir_user *)base;

	source_user_fini(base);
	if (u->store)
		u->store->ops->free(u->store);
	free(u);
}

static int found_one(const struct store_entry *e, void *arg)
{
	struct maildir_user *u = arg;

	return e->is_folder ? source_add_folder(&u->base, e->name, 0)
			    : source_add_note(&u->base, e->name, e->why, false);
}

static int by_dir(const void *a, const void *b)
{
	const struct source_folder *x = a, *y = b;

	return strcmp(x->dir, y->dir);
}

static int add_subscribed(const char *dir, void *arg)
{
	return names_add(arg, dir);
}

static int read_subscriptions(struct maildir_user *u, int fd)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int ret = io_read_file(fd, "subscriptions", CONTROL_MAX, &text, &len);

	if (ret == 0)
		ret = subscription_parse(text, len, add_subscribed,
					 &u->base.subscribed);
	names_sort(&u->base.subscribed);
	u->base.has_subscribed = ret == 0 || ret == -ENOENT;
	if (ret < 0 && ret != -ENOENT && ret != -ENOMEM)
		return source_add_note(&u->base, "subscriptions",
				       source_why(ret), true);
	return ret == -ENOENT ? 0 : ret;
}

static int look(struct maildir_user *u, int fd)
{
	int ret = maildir_store_new(fd, ".", &u->store);

	if (ret == 0)
		ret = u->store->ops->list(u->store, found_one, u);
	if (ret == 0 && u->base.count > 0)
		qsort(u->base.folders, u->base.count, sizeof(*u->base.folders),
		      by_dir);
	return ret < 0 ? ret : read_subscriptions(u, fd);
}

static int maildir_user(struct source *base, const char *name,
			struct source_user **out)
{
	struct maildir_source *s = (struct maildir_source *)base;
	AUTO_FD int fd =
		pattern_open(&s->root, name, "", O_RDONLY | O_DIRECTORY);
	struct maildir_user *u;
	int ret;

	if (fd < 0)
		return fd;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->base.ops = &maildir_ops;
	u->is_view = s->is_view;
	ret = look(u, fd);
	if (ret < 0) {
		maildir_leave(&u->base);
		return ret;
	}
	*out = &u->base;
	return 0;
}

static int maildir_open(struct source_user *base, size_t folder,
			struct source_box **out)
{
	const struct maildir_user *u = (struct maildir_user *)base;

	return source_store_open(&maildir_ops, u->store,
				 base->folders[folder].dir, u->is_view, out);
}

/* ---- the spec ------------------------------------------------------------ */

static void maildir_free(struct source *base)
{
	struct maildir_source *s = (struct maildir_source *)base;

	pattern_fini(&s->root);
	source_fini(base);
	free(s);
}

static const struct source_ops maildir_ops = {
	.user = maildir_user,
	.leave = maildir_leave,
	.open = maildir_open,
	.next = source_store_next,
	.changed = source_store_changed,
	.close = source_store_close,
	.free = maildir_free,
};

static int add_user(const char *user, void *arg)
{
	struct maildir_source *s = arg;
	AUTO_FD int fd = pattern_open(&s->root, user, "cur", O_PATH);

	if (fd == -ENOENT || fd == -ENOTDIR)
		return 0;
	return names_add(&s->base.users, user);
}

/* PATH becomes PATH/%u, if that is what it is. */
static int find_root(struct maildir_source *s, const char *arg)
{
	char text[2 * PATH_MAX], *end = text;
	AUTO_FREE char *real = NULL;
	AUTO_FD int cur = -1;
	int ret;

	if (strstr(arg, "%u"))
		return pattern_init(&s->root, arg);
	ret = pattern_literal(arg, &s->root);
	if (ret < 0)
		return ret;
	cur = pattern_open(&s->root, "", "cur", O_PATH | O_DIRECTORY);
	if (cur != -ENOENT)
		return cur < 0 ? cur : 0;
	real = strdup(s->root.text);
	pattern_fini(&s->root);
	if (!real)
		return -ENOMEM;
	for (const char *c = real; *c && end < text + sizeof(text) - 8; c++) {
		if (*c == '%')
			*end++ = '%';
		*end++ = *c;
	}
	memcpy(end, "/%u", sizeof("/%u"));
	return pattern_init(&s->root, text);
}

static int find_users(struct maildir_source *s)
{
	int ret;

	s->base.many = pattern_has_user(&s->root);
	if (!s->base.many)
		return names_add(&s->base.users, "");
	ret = pattern_users(&s->root, add_user, s);
	names_sort(&s->base.users);
	return ret == 0 && s->base.users.count == 0 ? -EBADMSG : ret;
}

static int make(const char *spec, const char *arg, bool is_view,
		struct source **out)
{
	struct maildir_source *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	s->root.base_fd = -1;
	s->is_view = is_view;
	ret = source_init(&s->base, &maildir_ops, is_view ? "view" : "Maildir",
			  spec);
	if (ret == 0)
		ret = find_root(s, arg);
	if (ret == 0)
		ret = find_users(s);
	if (ret == -EBADMSG)
		log_err("%s: has no cur/, and no directory in it has one",
			spec);
	else if (ret < 0)
		log_err("%s: %s", spec, source_why(ret));
	if (ret < 0) {
		maildir_free(&s->base);
		return ret;
	}
	*out = &s->base;
	return 0;
}

int source_maildir_new(const char *spec, const char *arg, struct source **out)
{
	return make(spec, arg, false, out);
}

int source_view_new(const char *spec, const char *arg, struct source **out)
{
	struct mounted m;
	int ret = mounted_find(arg, &m);

	if (ret < 0) {
		log_err("%s: is not in a janusmail mount", spec);
		return ret == -ENOENT ? -ENOTCONN : ret;
	}
	mounted_fini(&m);
	return make(spec, arg, true, out);
}
