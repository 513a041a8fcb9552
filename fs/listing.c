#include "fs/listing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/basename.h"
#include "compat/io.h"
#include "fs/folder.h"
#include "fs/user.h"
#include "fs/view.h"
#include "index/sync.h"

struct item {
	uint64_t ino;
	size_t name; /* offset in text */
	mode_t type;
};

struct listing {
	struct item *items;
	size_t count, room;
	char *text;
	size_t text_len, text_room;
};

static int room_for(void *array, size_t *room, size_t want, size_t size)
{
	size_t bigger = *room ? *room : 64;
	void *old, *more;

	if (want <= *room)
		return 0;
	while (bigger < want)
		bigger *= 2;
	memcpy(&old, array, sizeof(old));
	more = reallocarray(old, bigger, size);
	if (!more)
		return -ENOMEM;
	memcpy(array, &more, sizeof(more));
	*room = bigger;
	return 0;
}

static int add(struct listing *l, const char *name, uint64_t ino, mode_t type)
{
	size_t len = strlen(name) + 1;

	if (room_for(&l->items, &l->room, l->count + 1, sizeof(*l->items)) <
		    0 ||
	    room_for(&l->text, &l->text_room, l->text_len + len, 1) < 0)
		return -ENOMEM;
	memcpy(l->text + l->text_len, name, len);
	l->items[l->count++] =
		(struct item){ .ino = ino, .name = l->text_len, .type = type };
	l->text_len += len;
	return 0;
}

/* ---- real directories ---------------------------------------------------- */

/* A message file of the new store whose MBX message is shown already. */
static bool is_shown(struct folder *f, const char *name)
{
	size_t len = info_split(name, strlen(name));
	char base[BASENAME_MAX + 1];
	struct folder_id id;
	struct msg m;

	if (!f || len > BASENAME_MAX)
		return false;
	memcpy(base, name, len);
	base[len] = '\0';
	id = folder_id(f);
	return index_by_name(f->fs->index, id.number, id.uidvalidity, base,
			     &m) == 0;
}

/* Dovecot takes an unknown type for a folder, so it must be known. */
static mode_t type_of(int dirfd, const struct dirent *de)
{
	struct stat st;

	if (de->d_type != DT_UNKNOWN)
		return (mode_t)DTTOIF((mode_t)de->d_type);
	if (fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return S_IFREG;
	return st.st_mode & S_IFMT;
}

/* @f: whose messages lie there as well; NULL if there is none */
static int add_real(struct fs *fs, struct node *dir, struct folder *f,
		    struct listing *l)
{
	int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;
	int ret = d ? 0 : -errno;

	if (!d) {
		base_auto_close(&fd);
		return ret;
	}
	while (ret == 0) {
		ret = io_readdir(d, &de);
		if (ret < 0 || !de)
			break;
		if (view_is_hidden(fs, dir, de->d_name) ||
		    is_shown(f, de->d_name))
			continue;
		ret = add(l, de->d_name, de->d_ino, type_of(dir->fd, de));
	}
	(void)closedir(d);
	return ret;
}

/* ---- messages ------------------------------------------------------------ */

struct gather {
	struct listing *listing;
	struct folder *folder;
	struct folder_id id;
	bool in_new;
};

static int add_message(const struct msg *m, const char *name, void *arg)
{
	const struct gather *g = arg;
	char file[FOLDER_FILE_MAX + 1];

	if (sync_in_new(m) != g->in_new || m->uid > g->id.shown)
		return 0;
	folder_file_name(g->folder, &g->id, m, name, file);
	return add(g->listing, file, index_ino(g->id.number, m->uid), S_IFREG);
}

static int add_messages(struct folder *f, bool in_new, struct listing *l)
{
	struct gather g = { .listing = l, .folder = f, .in_new = in_new };
	size_t count = l->count, text_len = l->text_len;
	int ret = folder_ready(f);

	if (ret < 0)
		return -EIO;
	do {
		l->count = count;
		l->text_len = text_len;
		g.id = folder_id(f);
		ret = index_each(f->fs->index, g.id.number, add_message, &g);
		/* Meanwhile UW reset UIDVALIDITY: these are not its names. */
	} while (ret == 0 && folder_id(f).number != g.id.number);
	return ret;
}

/* ---- users --------------------------------------------------------------- */

struct user_names {
	struct fs *fs;
	struct listing *listing;
};

/*
 * The number of a user's tree, which need not be there before he is first
 * looked up: then one of no real file and no message, and his alone as far as
 * 62 bits go. FNV-1a.
 */
static uint64_t user_ino(const struct fs *fs, const char *name)
{
	uint64_t hash = 0xcbf29ce484222325;
	struct stat st;

	if (fstatat(fs->store_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return st.st_ino;
	for (const char *p = name; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 0x100000001b3;
	return (hash & ~(3ULL << 62)) | 1ULL << 62;
}

static int add_user(const char *name, void *arg)
{
	const struct user_names *n = arg;

	return add(n->listing, name, user_ino(n->fs, name), S_IFDIR);
}

static int add_users(struct fs *fs, struct listing *l)
{
	struct user_names n = { .fs = fs, .listing = l };

	return user_each_name(fs, add_user, &n);
}

static int add_all(struct fs *fs, struct node *dir, struct listing *l)
{
	enum node_kind kind = dir->kind;
	struct folder *f = view_folder(dir);
	int ret = 0;

	if (kind == NODE_USERS)
		return add_users(fs, l);
	if (kind == NODE_MAIL)
		ret = user_refresh(dir->user);
	if (kind == NODE_FOLDER && f)
		ret = folder_shown(f);
	if (kind != NODE_CUR && kind != NODE_NEW)
		f = NULL;
	if (ret == 0 && f)
		ret = add_messages(f, kind == NODE_NEW, l);
	return ret == 0 ? add_real(fs, dir, f, l) : ret;
}

int listing_new(struct fs *fs, struct node *dir, struct listing **out)
{
	struct listing *l = calloc(1, sizeof(*l));
	int ret = l ? add(l, ".", dir->ino, S_IFDIR) : -ENOMEM;

	if (ret == 0)
		ret = add(l, "..", dir->ino, S_IFDIR);
	if (ret == 0)
		ret = add_all(fs, dir, l);
	if (ret < 0) {
		listing_free(l);
		return ret;
	}
	*out = l;
	return 0;
}

void listing_free(struct listing *l)
{
	if (!l)
		return;
	free(l->items);
	free(l->text);
	free(l);
}

size_t listing_count(const struct listing *l)
{
	return l->count;
}

struct listing_entry listing_get(const struct listing *l, size_t i)
{
	const struct item *it = &l->items[i];

	return (struct listing_entry){ .name = l->text + it->name,
				       .ino = it->ino,
				       .type = it->type };
}
