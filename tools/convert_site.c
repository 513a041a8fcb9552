#include "tools/convert_site.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"
#include "compat/storelock.h"
#include "compat/text.h"

/* ---- where the mail lies ------------------------------------------------- */

static int add_user(const char *name, void *arg)
{
	struct convert_site *s = arg;
	int ret = pattern_user_valid(name) ? place_exists(&s->places, name)
					   : -ENOENT;
	char word[400];

	if (ret == 0)
		return names_add(&s->users, name);
	if (ret == -ELOOP)
		log_warn("user %s: left out: a symbolic link lies where the "
			 "mail should be",
			 text_escape(name, strlen(name), word, sizeof(word)));
	return 0;
}

static int find_users(struct convert_site *s)
{
	const struct pattern *p;
	int ret = s->at.multi ? 0 : names_add(&s->users, "");

	for (unsigned i = 0; ret == 0 && (p = layout_place(&s->at, i)); i++)
		ret = pattern_users(p, add_user, s);
	names_sort(&s->users);
	return ret;
}

static struct places places_of(const struct convert_site *s)
{
	const struct layout *l = &s->at;

	return (struct places){
		.inbox = l->inbox,
		.inbox_count = l->inbox_count,
		.folders = l->has_folders ? &l->folders : NULL,
		.subscriptions =
			l->has_subscriptions ? &l->subscriptions : NULL,
		.has_owner = l->has_owner,
		.owner_uid = l->owner_uid,
		.owner_gid = l->owner_gid,
		.multi = l->multi,
		.store_fd = s->store_fd,
		.store = s->dir,
	};
}

static int parse(struct convert_site *s, const char *spec)
{
	const char *eq = strchr(spec, '='), *slash = strchr(spec, '/');
	char err[1024];
	int ret = layout_parse(&s->at, spec, &s->single, err, sizeof(err));

	s->plain = !eq || (slash && slash < eq);
	if (ret < 0)
		log_err("convert: %s", err);
	return ret;
}

/* ---- the tree ------------------------------------------------------------ */

static int open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* A single user's root is his from its birth. */
static int make_root(const struct convert_site *s)
{
	struct place_owner owner = { .uid = (uid_t)-1, .gid = (gid_t)-1 };
	char above[PATH_MAX];
	const char *slash;
	AUTO_FD int fd = -1;
	int ret = s->at.multi ? 0 : place_owner(&s->places, "", &owner);

	if (ret < 0) {
		log_err("convert: %s", owner.why);
		return ret;
	}
	slash = strrchr(s->dir, '/');
	if (text_path(above, sizeof(above), "%.*s/", (int)(slash - s->dir),
		      s->dir) < 0)
		return -ENAMETOOLONG;
	fd = open_dir(above);
	if (fd < 0)
		return fd;
	ret = io_mkdir(fd, slash + 1, s->at.multi ? 0755 : 0700, owner.uid,
		       owner.gid);
	return ret == -EEXIST ? 0 : ret;
}

static int open_tree(struct convert_site *s)
{
	bool multi = s->at.multi;
	int ret = s->dry ? 0 : make_root(s);

	if (ret < 0)
		return ret;
	s->store_fd = open_dir(s->dir);
	if (s->store_fd < 0)
		return s->store_fd;
	s->state_fd = storelock_open_dir(s->store_fd,
					 multi ? STORELOCK_DIR_MULTI
					       : STORELOCK_DIR_SINGLE,
					 !s->dry);
	if (s->state_fd < 0)
		return s->state_fd;
	s->ledgers_fd = multi
		? storelock_open_dir(s->state_fd, "users", !s->dry)
		: fcntl(s->state_fd, F_DUPFD_CLOEXEC, 0);
	return s->ledgers_fd < 0 ? s->ledgers_fd : 0;
}

int convert_site_open(struct convert_site *s, const char *spec, const char *dir,
		      bool dry)
{
	char path[PATH_MAX];
	int ret;

	*s = (struct convert_site){ .dry = dry,
				    .store_fd = -1,
				    .state_fd = -1,
				    .ledgers_fd = -1,
				    .lock_fd = -1 };
	ret = parse(s, spec);
	if (ret < 0)
		return ret;
	ret = io_absolute(dir, path, sizeof(path));
	s->dir = ret == 0 ? strdup(path) : NULL;
	if (!s->dir)
		return ret < 0 ? ret : -ENOMEM;
	s->places = places_of(s);
	ret = open_tree(s);
	s->places.store_fd = s->store_fd;
	if (ret == -ENOENT && dry)
		ret = 0;
	if (ret < 0) {
		log_err("convert: %s: %s", dir, strerrordesc_np(-ret));
		return ret;
	}
	if (s->state_fd >= 0 && !dry) {
		ret = storelock_take(s->state_fd, s->dir, "converting", spec);
		if (ret < 0)
			return ret;
		s->lock_fd = ret;
	}
	return find_users(s);
}

void convert_site_close(struct convert_site *s)
{
	names_fini(&s->users);
	base_auto_close(&s->lock_fd);
	base_auto_close(&s->ledgers_fd);
	base_auto_close(&s->state_fd);
	base_auto_close(&s->store_fd);
	layout_fini(&s->at);
	free(s->single);
	free(s->dir);
}
