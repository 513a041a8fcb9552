/*
 * MBX mailboxes: one, a directory of them, or those of many users, laid out as
 * janusmaild's options say.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "compat/layout.h"
#include "compat/ledger.h"
#include "compat/log.h"
#include "compat/mbx.h"
#include "compat/storelock.h"
#include "compat/subscriptions.h"
#include "compat/text.h"
#include "tools/source.h"

struct mbx_source {
	struct source base;
	struct layout at;
	char *single;	/* the name of the one mailbox, unless that is INBOX */
	bool plain;	/* a path: its file INBOX is the INBOX */
	int ledgers_fd; /* of store=; -1 */
	struct mbx_options mbx;
};

/* A mailbox of a user: in which of his stores, under which name. */
struct place {
	struct store *store;
	char *name;
};

struct mbx_user {
	struct source_user base;
	const struct mbx_source *source;
	char *name;
	struct store *inbox, *folders;
	struct place *places; /* of base.folders, in the same order */
	char inbox_path[PATH_MAX];
	struct ledger ledger;
	int inbox_place; /* which inbox= it was */
};

static const struct source_ops mbx_ops;

/* ---- a user's mailboxes -------------------------------------------------- */

static void mbx_leave(struct source_user *base)
{
	struct mbx_user *u = (struct mbx_user *)base;

	for (size_t i = 0; u->places && i < base->count; i++)
		free(u->places[i].name);
	free(u->places);
	source_user_fini(base);
	if (u->inbox)
		u->inbox->ops->free(u->inbox);
	if (u->folders)
		u->folders->ops->free(u->folders);
	ledger_fini(&u->ledger);
	free(u->name);
	free(u);
}

static int add_place(struct mbx_user *u, struct store *s, const char *name,
		     const char *dir, uint64_t octets)
{
	struct place *more =
		reallocarray(u->places, u->base.count + 1, sizeof(*more));
	char *copy = more ? strdup(name) : NULL;
	int ret;

	if (more)
		u->places = more;
	if (!copy)
		return -ENOMEM;
	more[u->base.count] = (struct place){ .store = s, .name = copy };
	ret = source_add_folder(&u->base, dir, octets);
	if (ret < 0)
		free(copy);
	return ret;
}

/* The directory that the view gives a mailbox; NULL if it has none yet. */
static const char *ledger_dir(const struct mbx_user *u, int place,
			      const char *legacy)
{
	for (size_t i = 0; i < u->ledger.count; i++) {
		const struct ledger_folder *l = &u->ledger.folders[i];

		if (l->phase != PHASE_DELETED && l->place == place &&
		    strcmp(l->legacy, legacy) == 0)
			return l->dir;
	}
	return NULL;
}

static void map_name(const struct mbx_user *u, const char *name, char *out)
{
	const char *known = ledger_dir(u, LEDGER_PLACE_FOLDERS, name);
	bool changed;

	if (known)
		(void)snprintf(out, FOLDERNAME_MAX + 1, "%s", known);
	else if (u->source->plain && strcmp(name, "INBOX") == 0)
		*out = '\0';
	else
		foldername_map(name, u->source->at.dots, out, &changed);
}

/* Where a pattern was said to be of directories. */
static int add_single(struct mbx_user *u)
{
	const struct pattern *p = &u->source->at.folders;
	const char *path = *p->rest ? p->rest : p->text;
	const char *last = strrchr(path, '/');
	char dir[FOLDERNAME_MAX + 1];

	map_name(u, last ? last + 1 : path, dir);
	u->base.partial = true;
	return add_place(u, u->folders, "", dir, 0);
}

static int found_one(const struct store_entry *e, void *arg)
{
	struct mbx_user *u = arg;
	char path[PATH_MAX], dir[FOLDERNAME_MAX + 1];

	if (!e->is_folder)
		return source_add_note(&u->base, e->name, e->why, false);
	if (e->name[0] == '\0')
		return add_single(u);
	if (pattern_path(&u->source->at.folders, u->name, e->name, path,
			 sizeof(path)) == 0 &&
	    strcmp(path, u->inbox_path) == 0)
		return 0;
	map_name(u, e->name, dir);
	return add_place(u, u->folders, e->name, dir, e->size);
}

static int add_inbox(struct mbx_user *u, const struct pattern *p, int fd)
{
	const struct mbx_source *s = u->source;
	char dir[FOLDERNAME_MAX + 1] = "";
	struct stat st;
	int ret;

	if (fstat(fd, &st) < 0)
		return -errno;
	ret = mbx_store_new(p, u->name, &s->mbx, &u->inbox);
	if (ret < 0)
		return ret;
	if (pattern_path(p, u->name, "", u->inbox_path, sizeof(u->inbox_path)) <
	    0)
		u->inbox_path[0] = '\0';
	if (s->single)
		map_name(u, s->single, dir);
	return add_place(u, u->inbox, "", dir, (uint64_t)st.st_size);
}

/* The first that is there; where that cannot be seen the next one may not be
 * the right one. */
static int find_inbox(struct mbx_user *u)
{
	const struct layout *at = &u->source->at;

	for (unsigned i = 0; i < at->inbox_count; i++) {
		AUTO_FD int fd =
			pattern_open(&at->inbox[i], u->name, "", O_PATH);

		if (fd >= 0)
			return add_inbox(u, &at->inbox[i], fd);
		if (fd != -ENOENT && fd != -ENOTDIR)
			return source_add_note(&u->base, "INBOX",
					       source_why(fd), true);
	}
	return 0;
}

static int find_folders(struct mbx_user *u)
{
	const struct mbx_source *s = u->source;
	int ret;

	if (!s->at.has_folders) {
		u->base.partial = true;
		return 0;
	}
	ret = mbx_store_new(&s->at.folders, u->name, &s->mbx, &u->folders);
	if (ret == 0)
		ret = u->folders->ops->list(u->folders, found_one, u);
	if (ret == -ENOENT)
		return 0;
	if (ret < 0 && ret != -ENOMEM)
		return source_add_note(&u->base, "the mail directory",
				       source_why(ret), true);
	return ret;
}

/* ---- names that clash ---------------------------------------------------- */

struct pair {
	struct source_folder folder;
	struct place place;
};

static int by_legacy(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	return strcmp(x->place.name, y->place.name);
}

static int by_dir(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;

	return strcmp(x->folder.dir, y->folder.dir);
}

static bool is_taken(const struct pair *pairs, size_t upto, const char *dir)
{
	for (size_t i = 0; i < upto; i++)
		if (strcmp(pairs[i].folder.dir, dir) == 0)
			return true;
	return false;
}

/* The names that a first mount gives: in order of the legacy names, the first
 * that there is gets the plain one. */
static int settle_names(struct mbx_user *u)
{
	size_t count = u->base.count;
	AUTO_FREE struct pair *pairs = calloc(count + 1, sizeof(*pairs));
	char first[FOLDERNAME_MAX + 1];

	if (!pairs)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		pairs[i] = (struct pair){ .folder = u->base.folders[i],
					  .place = u->places[i] };
	qsort(pairs, count, sizeof(*pairs), by_legacy);
	for (size_t i = 1; i < count; i++) {
		memcpy(first, pairs[i].folder.dir, sizeof(first));
		for (unsigned n = 2; is_taken(pairs, i, pairs[i].folder.dir);
		     n++)
			foldername_variant(first, n, pairs[i].folder.dir);
	}
	qsort(pairs, count, sizeof(*pairs), by_dir);
	for (size_t i = 0; i < count; i++) {
		u->base.folders[i] = pairs[i].folder;
		u->places[i] = pairs[i].place;
	}
	return 0;
}

/* ---- subscriptions ------------------------------------------------------- */

/* The directory of a mailbox that need not be there. */
static const char *subscribed_dir(const struct mbx_user *u, const char *legacy,
				  char *out)
{
	for (size_t i = 0; i < u->base.count; i++)
		if (u->places[i].store == u->folders &&
		    strcmp(u->places[i].name, legacy) == 0)
			return u->base.folders[i].dir;
	map_name(u, legacy, out);
	return out;
}

static int subscribe_line(struct mbx_user *u, const char *line, size_t len,
			  const char *prefix)
{
	char legacy[PATH_MAX], dir[FOLDERNAME_MAX + 1];
	const char *name;
	size_t name_len;

	switch (subscription_classify(line, len, prefix, &name, &name_len)) {
	case SUBSCRIPTION_INBOX:
		return names_add(&u->base.subscribed, "");
	case SUBSCRIPTION_FOLDER:
		if (name_len == 0 ||
		    text_path(legacy, sizeof(legacy), "%.*s", (int)name_len,
			      name) < 0)
			return 0;
		return names_add(&u->base.subscribed,
				 subscribed_dir(u, legacy, dir));
	default:
		return 0;
	}
}

static int read_list(struct mbx_user *u)
{
	const struct layout *at = &u->source->at;
	const char *prefix =
		layout_prefix(at->has_folders ? &at->folders : NULL,
			      at->has_subscriptions ? &at->subscriptions
						    : NULL);
	AUTO_FREE char *text = NULL;
	size_t len;
	int ret;

	if (u->base.partial || !at->has_subscriptions)
		return 0;
	u->base.has_subscribed = true;
	ret = subscription_read_list(&at->subscriptions, u->name, &text, &len);
	for (const char *p = text; ret == 0 && p && *p;) {
		size_t line = strcspn(p, "\n");

		ret = line ? subscribe_line(u, p, line, prefix) : 0;
		p += line + (p[line] == '\n');
	}
	names_sort(&u->base.subscribed);
	if (ret < 0 && ret != -ENOENT && ret != -ENOMEM)
		return source_add_note(&u->base, ".mailboxlist",
				       source_why(ret), true);
	return ret == -ENOENT ? 0 : ret;
}

/* ---- a user -------------------------------------------------------------- */

static int load_ledger(struct mbx_user *u)
{
	const struct mbx_source *s = u->source;
	int ret;

	if (s->ledgers_fd < 0)
		return 0;
	ret = ledger_load(s->ledgers_fd, s->base.many ? u->name : "ledger",
			  &u->ledger);
	if (ret < 0 && ret != -ENOMEM)
		return source_add_note(&u->base, "the ledger", source_why(ret),
				       true);
	return ret;
}

static int mbx_user(struct source *base, const char *name,
		    struct source_user **out)
{
	struct mbx_source *s = (struct mbx_source *)base;
	struct mbx_user *u = calloc(1, sizeof(*u));
	int ret;

	if (!u)
		return -ENOMEM;
	u->base.ops = &mbx_ops;
	u->source = s;
	u->name = strdup(name);
	ret = u->name ? load_ledger(u) : -ENOMEM;
	if (ret == 0)
		ret = find_inbox(u);
	if (ret == 0)
		ret = find_folders(u);
	if (ret == 0)
		ret = settle_names(u);
	if (ret == 0)
		ret = read_list(u);
	if (ret < 0) {
		mbx_leave(&u->base);
		return ret;
	}
	*out = &u->base;
	return 0;
}

static int mbx_open(struct source_user *base, size_t folder,
		    struct source_box **out)
{
	const struct mbx_user *u = (struct mbx_user *)base;
	const struct place *p = &u->places[folder];

	return source_store_open(&mbx_ops, p->store, p->name, false, out);
}

static void mbx_free(struct source *base)
{
	struct mbx_source *s = (struct mbx_source *)base;

	layout_fini(&s->at);
	base_auto_close(&s->ledgers_fd);
	free(s->single);
	source_fini(base);
	free(s);
}

static const struct source_ops mbx_ops = {
	.user = mbx_user,
	.leave = mbx_leave,
	.open = mbx_open,
	.next = source_store_next,
	.changed = source_store_changed,
	.close = source_store_close,
	.free = mbx_free,
};

/* ---- users --------------------------------------------------------------- */

static bool is_there(const struct pattern *p, const char *user)
{
	AUTO_FD int fd = pattern_open(p, user, "", O_PATH);

	/* What is there and cannot be opened is to be complained of. */
	return fd != -ENOENT && fd != -ENOTDIR && fd != -EINVAL;
}

static int add_user(const char *user, void *arg)
{
	struct mbx_source *s = arg;
	bool found = s->at.has_folders && is_there(&s->at.folders, user);

	for (unsigned i = 0; i < s->at.inbox_count; i++)
		found = found || is_there(&s->at.inbox[i], user);
	return found ? names_add(&s->base.users, user) : 0;
}

static int find_users(struct mbx_source *s)
{
	int ret = 0;

	if (!s->base.many)
		return names_add(&s->base.users, "");
	for (unsigned i = 0; ret == 0 && i < s->at.inbox_count; i++)
		ret = pattern_users(&s->at.inbox[i], add_user, s);
	if (ret == 0 && s->at.has_folders)
		ret = pattern_users(&s->at.folders, add_user, s);
	names_sort(&s->base.users);
	return ret;
}

/* ---- the spec ------------------------------------------------------------ */

static int set_store(struct mbx_source *s, const char *value)
{
	/* Where the ledgers of many users are, or that of one. */
	static const char *const dirs[] = { STORELOCK_DIR_MULTI "/users",
					    STORELOCK_DIR_SINGLE };
	char path[PATH_MAX];

	for (size_t i = 0; s->ledgers_fd < 0 && i < ARRAY_LEN(dirs); i++)
		if (text_path(path, sizeof(path), "%s/%s", value, dirs[i]) == 0)
			s->ledgers_fd =
				open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->ledgers_fd >= 0)
		return 0;
	log_err("store=%s: no store of janusmaild", value);
	return -EINVAL;
}

static int parse(struct mbx_source *s, const char *arg)
{
	const char *eq = strchr(arg, '='), *slash = strchr(arg, '/');
	char err[1024];
	int ret = layout_parse(&s->at, arg, &s->single, err, sizeof(err));

	s->plain = !eq || (slash && slash < eq);
	if (ret < 0)
		log_err("%s", err);
	if (ret == 0 && s->at.store)
		ret = set_store(s, s->at.store);
	s->base.many = s->at.multi;
	s->mbx = layout_mbx(&s->at, (uid_t)-1, (gid_t)-1);
	return ret;
}

int source_mbx_new(const char *spec, const char *arg, struct source **out)
{
	struct mbx_source *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	layout_init(&s->at);
	s->ledgers_fd = -1;
	ret = source_init(&s->base, &mbx_ops, "MBX", spec);
	if (ret == 0)
		ret = parse(s, arg);
	if (ret == 0) {
		ret = find_users(s);
		if (ret < 0)
			log_err("%s: %s", spec, source_why(ret));
	}
	if (ret < 0) {
		mbx_free(&s->base);
		return ret;
	}
	*out = &s->base;
	return 0;
}
