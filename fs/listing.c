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
#include "compat/digest.h"
#include "compat/io.h"
#include "fs/files.h"
#include "fs/folder.h"
#include "fs/mail.h"
#include "fs/user.h"
#include "fs/view.h"
#include "index/sync.h"

enum { TRIES = 3 }; /* when rows are made anew meanwhile */

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

/* ---- messages ------------------------------------------------------------ */

/* Of a folder whose messages are the union of the MBX and real files. */
struct gather {
	struct listing *listing;
	struct folder *f;
	struct folder_id id;
	bool in_new;
	uint32_t *made_up; /* UIDs of those that show under names of ours, in */
	size_t count, room; /* cur/ or new/; ascending */
};

static int remember(struct gather *g, uint32_t uid)
{
	if (room_for(&g->made_up, &g->room, g->count + 1, sizeof(*g->made_up)) <
	    0)
		return -ENOMEM;
	g->made_up[g->count++] = uid;
	return 0;
}

static int add_message(const struct msg *m, const char *name, void *arg)
{
	struct gather *g = arg;
	char file[FOLDER_FILE_MAX + 1];
	int ret = 0;

	if (!name && m->uid > g->id.shown)
		return 0;
	if (!name)
		ret = remember(g, m->uid);
	if (ret < 0 || info_in_new(m) != g->in_new ||
	    (name && files_find(g->f, name)))
		return ret;
	folder_file_name(g->f, &g->id, m, name, file);
	/* UW gave flags to one whose name had just room for itself. */
	if (strlen(file) > NAME_MAX)
		return 0;
	return add(g->listing, file, index_ino(g->id.number, m->uid), S_IFREG);
}

static int add_messages(struct gather *g)
{
	struct listing *l = g->listing;
	size_t count = l->count, text_len = l->text_len;
	int ret;

	do {
		l->count = count;
		l->text_len = text_len;
		g->count = 0;
		g->id = folder_id(g->f);
		ret = index_each(g->f->fs->index, g->id.number, add_message, g);
		/* Meanwhile UW reset UIDVALIDITY: these are not its names. */
	} while (ret == 0 && folder_id(g->f).number != g->id.number);
	return ret;
}

static int compare(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* A file in the new store that is a copy of a message shown from the MBX. */
static bool is_copy(const struct gather *g, const char *name)
{
	struct basename b;

	return g && g->count > 0 &&
		basename_parse(name, info_split(name, strlen(name)), &b) == 0 &&
		b.folder == g->id.number &&
		bsearch(&b.uid, g->made_up, g->count, sizeof(*g->made_up),
			compare);
}

/* ---- real directories ---------------------------------------------------- */

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

/* @g: of the messages that lie there as well; NULL if there are none */
static int add_real(struct fs *fs, struct node *dir, const struct gather *g,
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
		    is_copy(g, de->d_name))
			continue;
		ret = add(l, de->d_name, de->d_ino, type_of(dir->fd, de));
	}
	(void)closedir(d);
	return ret;
}

/*
 * Rows and files under one lock: while a message goes from one to the other, or
 * a file changes its name, the listing must have it once.
 */
static int add_union(struct fs *fs, struct node *dir, struct folder *f,
		     struct listing *l)
{
	struct gather g = { .listing = l,
			    .f = f,
			    .in_new = dir->kind == NODE_NEW };
	unsigned anew = atomic_load(&f->anew);
	int ret = folder_freshen(f) < 0 ? -EIO : files_lock(f);

	if (ret < 0)
		return ret;
	ret = add_messages(&g);
	if (ret == 0)
		ret = add_real(fs, dir, &g, l);
	files_unlock(f);
	/* The rows were dropped meanwhile, to be made anew. */
	if (ret == 0 && anew != atomic_load(&f->anew))
		ret = -ESTALE;
	free(g.made_up);
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
 * 62 bits go.
 */
static uint64_t user_ino(const struct fs *fs, const char *name)
{
	struct stat st;

	if (fstatat(fs->store_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return st.st_ino;
	return (digest_quick(name, strlen(name)) & ~(3ULL << 62)) | 1ULL << 62;
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
	struct folder *mail = mail_dir(dir), *f = view_folder(dir);
	enum node_kind kind = dir->kind;
	int ret = 0;

	if (mail)
		return add_union(fs, dir, mail, l);
	if (kind == NODE_USERS)
		return add_users(fs, l);
	if (kind == NODE_MAIL)
		ret = user_refresh(dir->user);
	if (kind == NODE_FOLDER && f)
		ret = folder_shown(f);
	return ret == 0 ? add_real(fs, dir, NULL, l) : ret;
}

static int fill(struct fs *fs, struct node *dir, struct listing *l)
{
	int ret;

	l->count = l->text_len = 0;
	ret = add(l, ".", dir->ino, S_IFDIR);
	if (ret == 0)
		ret = add(l, "..", dir->ino, S_IFDIR);
	return ret == 0 ? add_all(fs, dir, l) : ret;
}

int listing_new(struct fs *fs, struct node *dir, struct listing **out)
{
	struct listing *l = calloc(1, sizeof(*l));
	int ret = l ? -ESTALE : -ENOMEM;

	for (int i = 0; i < TRIES && ret == -ESTALE; i++)
		ret = fill(fs, dir, l);
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
