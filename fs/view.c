#include "fs/view.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/basename.h"
#include "compat/log.h"
#include "compat/storelock.h"
#include "fs/attr.h"
#include "fs/files.h"
#include "fs/folder.h"
#include "fs/mail.h"
#include "fs/user.h"

bool view_is_message(uint64_t ino)
{
	uint32_t folder, uid;

	return index_ino_split(ino, &folder, &uid) == 0;
}

struct folder *view_folder(const struct node *n)
{
	struct folder *f = n->folder;

	/* INBOX may turn up after its root was first looked up. */
	if (n->kind == NODE_MAIL)
		return user_folder(n->user, "");
	/* The kernel knows a directory for longer than it is a folder's. */
	return f && !atomic_load(&f->deleted) && !atomic_load(&f->plain) ? f
									 : NULL;
}

bool view_is_hidden(const struct fs *fs, const struct node *parent,
		    const char *name)
{
	if (parent->kind != NODE_MAIL)
		return false;
	if (name[0] == '.')
		return user_hides(parent->user, name);
	return !fs->multi && strcmp(name, STORELOCK_DIR_SINGLE) == 0;
}

/* The control files that follow what UW does (seed.h, subscribe.h), and those
 * that Dovecot renames over them: the kernel keeps what it was told of the old
 * name. */
static enum node_kind control_kind(const struct node *parent, const char *name)
{
	static const struct {
		const char *name;
		enum node_kind kind;
	} files[] = { { "dovecot-uidlist", NODE_UIDLIST },
		      { "dovecot-uidlist.tmp", NODE_UIDLIST },
		      { "dovecot-keywords", NODE_KEYWORDS },
		      { "dovecot-keywords.lock", NODE_KEYWORDS } };

	if (parent->kind == NODE_MAIL &&
	    (strcmp(name, "subscriptions") == 0 ||
	     strcmp(name, "subscriptions.lock") == 0))
		return NODE_SUBSCRIPTIONS;
	if ((parent->kind != NODE_MAIL && parent->kind != NODE_FOLDER) ||
	    !view_folder(parent))
		return NODE_PLAIN;
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		if (strcmp(name, files[i].name) == 0)
			return files[i].kind;
	return NODE_PLAIN;
}

static struct node_role role_in(const struct node *parent, const char *name,
				const struct stat *st)
{
	static const struct {
		const char *name;
		enum node_kind kind;
	} subs[] = { { "cur", NODE_CUR },
		     { "new", NODE_NEW },
		     { "tmp", NODE_TMP } };
	struct node_role role = { .kind = NODE_PLAIN,
				  .user = parent->user,
				  .parent = parent->ino,
				  .name = name };

	if (S_ISREG(st->st_mode))
		role.kind = control_kind(parent, name);
	if (role.kind != NODE_PLAIN)
		role.folder = view_folder(parent);
	if (!S_ISDIR(st->st_mode) ||
	    (parent->kind != NODE_MAIL && parent->kind != NODE_FOLDER))
		return role;
	for (size_t i = 0; i < ARRAY_LEN(subs); i++) {
		if (strcmp(name, subs[i].name) == 0) {
			role.kind = subs[i].kind;
			role.folder = view_folder(parent);
		}
	}
	if (parent->kind == NODE_MAIL && name[0] == '.') {
		role.kind = NODE_FOLDER;
		role.folder = user_folder(parent->user, name);
	}
	return role;
}

static void fill(struct view_entry *out, const struct stat *st,
		 const struct node *n)
{
	enum node_kind kind = n->kind;

	*out = (struct view_entry){ .st = *st,
				    .watched = mail_dir(n) != NULL,
				    .fleeting = kind == NODE_UIDLIST ||
					    kind == NODE_KEYWORDS ||
					    kind == NODE_SUBSCRIPTIONS };
}

/* Becomes a node with one lookup more; @fd is used up. */
static int enter(struct fs *fs, struct node *parent, const char *name, int fd,
		 struct view_entry *out)
{
	struct node_role role;
	struct node *n;
	struct stat st;
	int ret;

	if (fstat(fd, &st) < 0) {
		ret = -errno;
		base_auto_close(&fd);
		return ret;
	}
	/* Another filesystem's inode numbers could be the same. */
	if (st.st_dev != fs->store_dev) {
		base_auto_close(&fd);
		return -EXDEV;
	}
	role = role_in(parent, name, &st);
	if (role.kind == NODE_FOLDER && !role.folder) {
		if (user_hides(parent->user, name)) {
			base_auto_close(&fd);
			return -ENOENT;
		}
		role.folder = user_folder(parent->user, name);
	}
	if (role.kind == NODE_NEW && role.folder)
		atomic_store(&role.folder->watch.new_ino, st.st_ino);
	ret = node_take(fs->nodes, fd, &st, &role, &n);
	if (ret < 0)
		return ret;
	fill(out, &st, n);
	return 0;
}

int view_enter(struct fs *fs, struct node *parent, const char *name, int fd,
	       struct view_entry *out)
{
	char path[64];
	int own;

	/* A node holds O_PATH, so that it pins the inode and nothing else. */
	attr_fd_path(fd, path);
	own = open(path, O_PATH | O_CLOEXEC);
	return own < 0 ? -errno : enter(fs, parent, name, own, out);
}

static int lookup_user(struct fs *fs, const struct node *parent,
		       const char *name, struct view_entry *out)
{
	struct node_role role = { .kind = NODE_MAIL,
				  .parent = parent->ino,
				  .name = name };
	struct node *n;
	struct stat st;
	int fd, ret = user_find(fs, name, &role.user);

	if (ret < 0)
		return ret;
	fd = openat(role.user->fd, ".", O_PATH | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		ret = -errno;
		base_auto_close(&fd);
		return ret;
	}
	ret = node_take(fs->nodes, fd, &st, &role, &n);
	if (ret == 0)
		fill(out, &st, n);
	return ret;
}

static int lookup_real(struct fs *fs, struct node *parent, const char *name,
		       struct view_entry *out)
{
	int fd = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : enter(fs, parent, name, fd, out);
}

/* ---- messages of an MBX -------------------------------------------------- */

enum view_row view_row(struct folder *f, const char *name, struct msg *out)
{
	struct folder_id id = folder_id(f);
	size_t len = info_split(name, strlen(name));
	char base[NAME_MAX + 1];
	struct basename b;

	if (len > NAME_MAX)
		return VIEW_NO_ROW;
	memcpy(base, name, len);
	base[len] = '\0';
	if (index_by_name(f->fs->index, id.number, id.uidvalidity, base, out) <
	    0)
		return VIEW_NO_ROW;
	return basename_parse(base, len, &b) == 0 && b.folder == id.number &&
			b.uid == out->uid
		? VIEW_MADE_UP
		: VIEW_OWN_NAME;
}

static bool is_our_form(struct folder *f, const char *name)
{
	struct basename b;

	return basename_parse(name, info_split(name, strlen(name)), &b) == 0 &&
		b.folder == folder_id(f).number;
}

static int lookup_row(struct folder *f, bool in_new, const char *name,
		      struct view_entry *out)
{
	uint32_t number;
	struct msg m;
	int ret;

	do {
		number = folder_id(f).number;
		ret = folder_by_name(f, in_new, name, &m);
		/* Else UW reset UIDVALIDITY between the two. */
	} while (number != folder_id(f).number);
	if (ret < 0)
		return ret;
	*out = (struct view_entry){ .message = true };
	attr_message(&out->st, f->user, index_ino(number, m.uid), &m);
	return 0;
}

/* What is known stays reachable while the MBX is locked. */
static void look_at(struct folder *f)
{
	if (folder_freshen(f) < 0)
		log_trace(LOG_VIEW, "folder %u: not up to date",
			  folder_id(f).number);
}

/* Only where no file has that base name: the file is what shows. */
static int lookup_named(struct folder *f, bool in_new, const char *name,
			struct view_entry *out)
{
	bool is_file;
	struct msg m;
	int ret;

	if (!atomic_load(&f->seeded))
		look_at(f);
	if (view_row(f, name, &m) != VIEW_OWN_NAME)
		return -ENOENT;
	ret = files_lock(f);
	if (ret < 0)
		return ret;
	is_file = files_find(f, name) != NULL;
	files_unlock(f);
	return is_file ? -ENOENT : lookup_row(f, in_new, name, out);
}

/*
 * A name that is not of our making is asked of the directory, not of the MBX:
 * those who deliver, and look whether their name is free, do not wait for UW.
 */
static int lookup_message(struct fs *fs, struct node *parent, struct folder *f,
			  const char *name, struct view_entry *out)
{
	bool in_new = parent->kind == NODE_NEW;
	struct msg m;
	int ret;

	if (is_our_form(f, name)) {
		look_at(f);
		if (view_row(f, name, &m) == VIEW_MADE_UP)
			return lookup_row(f, in_new, name, out);
	}
	ret = lookup_real(fs, parent, name, out);
	if (ret != -ENOENT || name[0] == '.')
		return ret;
	return lookup_named(f, in_new, name, out);
}

/* Without the list Dovecot would number all messages anew. Who has removed it
 * gets it back, with the UIDs of the MBX. */
static int lookup_list(struct fs *fs, struct node *parent, struct folder *f,
		       struct view_entry *out)
{
	int ret;

	folder_relist(f);
	ret = folder_ready(f);
	return ret < 0 ? -EIO : lookup_real(fs, parent, "dovecot-uidlist", out);
}

int view_lookup(struct fs *fs, struct node *parent, const char *name,
		struct view_entry *out)
{
	struct folder *f = mail_dir(parent);
	int ret;

	if (parent->kind == NODE_USERS)
		return lookup_user(fs, parent, name, out);
	if (view_is_hidden(fs, parent, name))
		return -ENOENT;
	if (f)
		return lookup_message(fs, parent, f, name, out);
	f = parent->kind == NODE_MAIL || parent->kind == NODE_FOLDER
		? view_folder(parent)
		: NULL;
	/* The names in INBOX's directory that are other folders do not
	 * depend on INBOX. */
	if (f && name[0] != '.') {
		ret = folder_shown(f);
		if (ret < 0)
			return ret;
	}
	ret = lookup_real(fs, parent, name, out);
	if (ret == -ENOENT && f && !fs->opt->has_control &&
	    strcmp(name, "dovecot-uidlist") == 0)
		ret = lookup_list(fs, parent, f, out);
	if (ret == -ENOENT && parent->kind == NODE_MAIL && name[0] == '.' &&
	    user_refresh(parent->user) == 0)
		ret = lookup_real(fs, parent, name, out);
	return ret;
}

int view_message(struct fs *fs, uint64_t ino, struct folder **f_out,
		 struct msg *out)
{
	uint32_t number, uid;
	int ret = index_ino_split(ino, &number, &uid);

	*f_out = ret == 0 ? folder_by_number(number) : NULL;
	if (!*f_out)
		return -ESTALE;
	ret = index_by_uid(fs->index, number, uid, out);
	if (ret == -ENOENT)
		ret = folder_buried(*f_out, uid, out);
	return ret == -ENOENT ? -ESTALE : ret;
}

static int stat_message(struct fs *fs, uint64_t ino, struct view_entry *out)
{
	struct folder *f;
	struct msg m;
	int ret = view_message(fs, ino, &f, &m);

	if (ret < 0)
		return ret;
	*out = (struct view_entry){ .message = true };
	attr_message(&out->st, f->user, ino, &m);
	return 0;
}

int view_stat(struct fs *fs, uint64_t ino, struct view_entry *out)
{
	struct folder *f = NULL;
	struct node *n = view_is_message(ino) ? NULL : node_get(fs->nodes, ino);

	/* Whatever is wrong is logged, and said again at opendir. */
	if (n && n->kind != NODE_USERS)
		f = mail_dir(n);
	if (f && folder_freshen(f) < 0)
		log_trace(LOG_VIEW, "%ju: not up to date", (uintmax_t)ino);
	return view_stat_now(fs, ino, out);
}

int view_stat_now(struct fs *fs, uint64_t ino, struct view_entry *out)
{
	struct node *n;
	struct stat st;
	int fd, ret;

	if (view_is_message(ino))
		return stat_message(fs, ino, out);
	n = node_get(fs->nodes, ino);
	if (!n)
		return -ESTALE;
	if (n->kind == NODE_USERS) {
		*out = (struct view_entry){ .message = false };
		return attr_users(&out->st, fs);
	}
	fd = node_pin(fs->nodes, n);
	if (fd < 0)
		return fd;
	ret = fstat(fd, &st) < 0 ? -errno : 0;
	node_unpin(fs->nodes, n);
	if (ret < 0)
		return ret;
	fill(out, &st, n);
	out->st.st_ino = ino;
	return 0;
}

/* Folder directories, and the three directories in them, are not for removing
 * while the legacy file is the truth. */
static bool is_fixed(const struct node *parent, const char *name)
{
	if (parent->kind == NODE_MAIL && name[0] == '.')
		return user_folder(parent->user, name) != NULL;
	if (parent->kind != NODE_MAIL && parent->kind != NODE_FOLDER)
		return false;
	return view_folder(parent) &&
		(strcmp(name, "cur") == 0 || strcmp(name, "new") == 0 ||
		 strcmp(name, "tmp") == 0);
}

int view_may_change(const struct node *parent, const char *name)
{
	if (parent->kind == NODE_USERS)
		return -EPERM;
	return name && is_fixed(parent, name) ? -EACCES : 0;
}
