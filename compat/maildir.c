#include "compat/maildir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/basename.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/text.h"
#include "compat/uidlist.h"

enum {
	TRIES = 3,	       /* scans of a folder that keeps changing */
	CONTROL_MAX = 1 << 30, /* octets of a control file */
	GROW_FIRST = 256,
};

struct maildir_store {
	struct store base;
	int fd;
};

/* One file of cur/ or new/. */
struct entry {
	char *file;	 /* whole file name */
	size_t base_len; /* of it, the base name */
	bool in_new, left_out;
	uint32_t uid; /* 0: the uidlist does not name it */
	struct msg msg;
};

struct maildir_box {
	struct box base;
	int root_fd; /* the store's */
	char *folder;
	int fd, cur_fd, new_fd;
	/* From the last scan, by base name: read() needs whole names. */
	struct entry *entries;
	size_t count, room;
};

static const struct store_ops maildir_ops;

/* ---- entries ------------------------------------------------------------- */

static void entries_clear(struct maildir_box *b)
{
	for (size_t i = 0; i < b->count; i++)
		free(b->entries[i].file);
	free(b->entries);
	b->entries = NULL;
	b->count = b->room = 0;
}

static int entry_add(struct maildir_box *b, const char *file, bool in_new)
{
	struct entry *e;

	if (b->count == b->room) {
		size_t room = b->room ? b->room * 2 : GROW_FIRST;
		struct entry *more = reallocarray(b->entries, room, sizeof(*e));

		if (!more)
			return -ENOMEM;
		b->entries = more;
		b->room = room;
	}
	e = &b->entries[b->count];
	*e = (struct entry){ .file = strdup(file), .in_new = in_new };
	if (!e->file)
		return -ENOMEM;
	e->base_len = info_split(file, strlen(file));
	b->count++;
	return 0;
}

static int name_cmp(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int c = memcmp(a, b, a_len < b_len ? a_len : b_len);

	if (c)
		return c;
	return a_len < b_len ? -1 : a_len > b_len;
}

static int by_name(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return name_cmp(x->file, x->base_len, y->file, y->base_len);
}

static struct entry *entry_find(struct maildir_box *b, const char *name,
				size_t len)
{
	size_t lo = 0, hi = b->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		struct entry *e = &b->entries[mid];
		int c = name_cmp(name, len, e->file, e->base_len);

		if (c == 0)
			return e;
		if (c < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return NULL;
}

/* ---- store --------------------------------------------------------------- */

int maildir_store_new(int dirfd, const char *path, struct store **out)
{
	struct maildir_store *ms;
	AUTO_FD int fd =
		openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstatat(fd, "cur", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -EBADMSG : -errno;
	if (!S_ISDIR(st.st_mode))
		return -EBADMSG;
	ms = calloc(1, sizeof(*ms));
	if (!ms)
		return -ENOMEM;
	ms->base.ops = &maildir_ops;
	ms->fd = base_steal_fd(&fd);
	*out = &ms->base;
	return 0;
}

static void maildir_free(struct store *s)
{
	struct maildir_store *ms = (struct maildir_store *)s;

	if (!ms)
		return;
	(void)close(ms->fd);
	free(ms);
}

static bool has_cur(int rootfd, const char *name)
{
	char path[NAME_MAX + 8];
	struct stat st;

	return text_path(path, sizeof(path), "%s/cur", name) == 0 &&
		fstatat(rootfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		S_ISDIR(st.st_mode);
}

static bool is_symlink(int dirfd, const char *name)
{
	struct stat st;

	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		S_ISLNK(st.st_mode);
}

static int open_stream(int dirfd, DIR **out)
{
	int fd = io_open_beneath(dirfd, ".", O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return fd;
	*out = fdopendir(fd);
	if (!*out) {
		int ret = -errno;

		(void)close(fd);
		return ret;
	}
	return 0;
}

static int maildir_list(struct store *s, store_list_fn *fn, void *arg)
{
	struct maildir_store *ms = (struct maildir_store *)s;
	struct store_entry e = { .name = "", .is_folder = true };
	const struct dirent *de;
	DIR *d;
	int ret = open_stream(ms->fd, &d);

	if (ret < 0)
		return ret;
	ret = fn(&e, arg);
	while (ret == 0) {
		ret = io_readdir(d, &de);
		if (ret < 0 || !de)
			break;
		/* "..DOVECOT-TRASHED" and the like are not folders. */
		if (de->d_name[0] != '.' || de->d_name[1] == '.' ||
		    de->d_name[1] == '\0' || !has_cur(ms->fd, de->d_name))
			continue;
		e.name = de->d_name;
		e.why = is_symlink(ms->fd, de->d_name)
			? "a symbolic link; these are not followed"
			: NULL;
		e.is_folder = e.why == NULL;
		ret = fn(&e, arg);
	}
	(void)closedir(d);
	return ret;
}

static void maildir_close(struct box *box)
{
	struct maildir_box *b = (struct maildir_box *)box;

	if (!b)
		return;
	entries_clear(b);
	base_auto_close(&b->fd);
	base_auto_close(&b->cur_fd);
	base_auto_close(&b->new_fd);
	free(b->folder);
	free(b);
}

static int maildir_open(struct store *s, const char *folder, struct box **out)
{
	const int flags = O_RDONLY | O_DIRECTORY;
	struct maildir_store *ms = (struct maildir_store *)s;
	struct maildir_box *b = calloc(1, sizeof(*b));
	int ret = 0;

	if (!b)
		return -ENOMEM;
	b->base.ops = &maildir_ops;
	b->root_fd = ms->fd;
	b->folder = strdup(*folder ? folder : ".");
	/* With O_DIRECTORY a symlink would be -ENOTDIR. */
	b->fd = io_open_beneath(ms->fd, *folder ? folder : ".", O_PATH);
	b->cur_fd = b->fd < 0 ? -1 : io_open_beneath(b->fd, "cur", flags);
	b->new_fd = b->fd < 0 ? -1 : io_open_beneath(b->fd, "new", flags);
	if (!b->folder)
		ret = -ENOMEM;
	else if (b->fd < 0)
		ret = b->fd;
	else if (b->cur_fd < 0 || b->new_fd < 0)
		ret = b->cur_fd < 0 ? b->cur_fd : b->new_fd;
	if (ret < 0) {
		maildir_close(&b->base);
		return ret;
	}
	*out = &b->base;
	return 0;
}

/* ---- box: stamp and scan ------------------------------------------------- */

/* A folder that was renamed lives on under its other name. */
static bool name_shows(const struct maildir_box *b, const struct stat *cur)
{
	char path[NAME_MAX + 8];
	struct stat st;

	return text_path(path, sizeof(path), "%s/cur", b->folder) == 0 &&
		fstatat(b->root_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		st.st_dev == cur->st_dev && st.st_ino == cur->st_ino;
}

static int maildir_stamp(struct box *box, struct stamp *out)
{
	struct maildir_box *b = (struct maildir_box *)box;
	struct stat cur, new, ctl = { .st_size = 0 };

	if (fstat(b->cur_fd, &cur) < 0 || fstat(b->new_fd, &new) < 0)
		return -errno;
	if (cur.st_nlink == 0 || new.st_nlink == 0 || !name_shows(b, &cur))
		return -ESTALE;
	if (fstatat(b->fd, "dovecot-uidlist", &ctl, AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno != ENOENT)
		return -errno;
	*out = (struct stamp){ .dev = cur.st_dev,
			       .ino = cur.st_ino,
			       .size = (uint64_t)ctl.st_size,
			       .mtime_ns = io_ns(&cur.st_mtim),
			       .ctime_ns = io_ns(&new.st_mtim),
			       .ctl_ns = io_ns(&ctl.st_mtim) };
	return 0;
}

/* Names of one directory; flags and dates too. */
static int gather(struct maildir_box *b, int dirfd, bool in_new)
{
	const struct dirent *de;
	DIR *d;
	int ret = open_stream(dirfd, &d);

	if (ret < 0)
		return ret;
	while (ret == 0) {
		ret = io_readdir(d, &de);
		if (ret < 0 || !de)
			break;
		if (de->d_name[0] == '.' || de->d_type == DT_DIR)
			continue;
		ret = entry_add(b, de->d_name, in_new);
	}
	(void)closedir(d);
	return ret;
}

static int fill_entry(struct maildir_box *b, struct entry *e, struct damage *d)
{
	struct msg *m = &e->msg;
	struct stat st;

	if (fstatat(e->in_new ? b->new_fd : b->cur_fd, e->file, &st,
		    AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	if (!S_ISREG(st.st_mode)) {
		damage_add(d, DAMAGE_ACCESS, 0, e->uid,
			   "%s holds something that is not a regular file",
			   e->in_new ? "new" : "cur");
		e->left_out = true;
		return 0;
	}
	info_parse(e->file, strlen(e->file), &m->flags, &m->keywords);
	if (!e->in_new)
		m->flags |= MSG_OLD;
	m->uid = e->uid;
	m->size = (uint64_t)st.st_size;
	m->date = st.st_mtim.tv_sec;
	return 0;
}

static int take_record(const struct uidlist_record *r, void *arg)
{
	struct maildir_box *b = arg;
	/* Old Dovecots wrote the flags too. */
	size_t len = info_split(r->name, r->name_len);
	struct entry *e = entry_find(b, r->name, len);

	/* The same name twice: Dovecot takes the last one, so do we. */
	if (e)
		e->uid = r->uid;
	return 0;
}

static int load_control(struct maildir_box *b, struct scan *s)
{
	struct uidlist_header h = { .uidvalidity = 0 };
	AUTO_FREE char *list = NULL;
	AUTO_FREE char *words = NULL;
	size_t len = 0;
	int ret;

	s->uidvalidity = s->uidnext = 0;
	ret = io_read_file(b->fd, "dovecot-uidlist", CONTROL_MAX, &list, &len);
	if (ret == 0)
		ret = uidlist_parse(list, len, &h, take_record, b);
	if (ret == -EBADMSG)
		damage_add(&s->damage, DAMAGE_UID, 0, 0,
			   "dovecot-uidlist is damaged; UIDs are missing");
	else if (ret < 0 && ret != -ENOENT)
		return ret;
	s->uidvalidity = h.uidvalidity;
	s->uidnext = h.uidnext ? h.uidnext : 1;
	ret = io_read_file(b->fd, "dovecot-keywords", CONTROL_MAX, &words,
			   &len);
	if (ret == 0)
		ret = dkeywords_parse(words, len, &s->keywords);
	if (ret == -EBADMSG)
		damage_add(&s->damage, DAMAGE_KEYWORDS, 0, 0,
			   "dovecot-keywords is damaged; names are missing");
	else if (ret < 0 && ret != -ENOENT)
		return ret;
	return 0;
}

static int load_all(struct maildir_box *b, struct scan *s)
{
	struct stamp after;
	int ret;

	entries_clear(b);
	s->damage = (struct damage){ .kind = DAMAGE_NONE };
	s->keywords = (struct keywords){ 0 };
	ret = maildir_stamp(&b->base, &s->stamp);
	if (ret == 0)
		ret = gather(b, b->new_fd, true);
	if (ret == 0)
		ret = gather(b, b->cur_fd, false);
	if (ret < 0)
		return ret;
	if (b->count > 0)
		qsort(b->entries, b->count, sizeof(*b->entries), by_name);
	ret = load_control(b, s);
	for (size_t i = 0; ret == 0 && i < b->count; i++)
		ret = fill_entry(b, &b->entries[i], &s->damage);
	if (ret < 0)
		return ret;
	ret = maildir_stamp(&b->base, &after);
	if (ret < 0)
		return ret;
	return stamp_equal(&s->stamp, &after) ? 0 : -ESTALE;
}

static int by_uid(const void *a, const void *b)
{
	const struct entry *const *x = a, *const *y = b;
	/* Those without a UID come last. */
	uint32_t p = (*x)->uid - 1, q = (*y)->uid - 1;

	if (p != q)
		return p < q ? -1 : 1;
	return by_name(*x, *y);
}

static int deliver(struct maildir_box *b, struct scan *s, store_msg_fn *fn,
		   void *arg)
{
	AUTO_FREE struct entry **order = NULL;
	char name[NAME_MAX + 1];
	int ret = 0;

	order = calloc(b->count + 1, sizeof(struct entry *));
	if (!order)
		return -ENOMEM;
	for (size_t i = 0; i < b->count; i++)
		order[i] = &b->entries[i];
	qsort(order, b->count, sizeof(struct entry *), by_uid);
	for (size_t i = 0; ret >= 0 && i < b->count; i++) {
		if (order[i]->left_out)
			continue;
		if (order[i]->uid >= s->uidnext)
			s->uidnext = order[i]->uid + 1;
		(void)snprintf(name, sizeof(name), "%.*s",
			       (int)order[i]->base_len, order[i]->file);
		ret = fn(&order[i]->msg, name, arg);
	}
	return ret < 0 ? ret : 0;
}

static int maildir_scan(struct box *box, struct scan *s, store_msg_fn *fn,
			void *arg)
{
	struct maildir_box *b = (struct maildir_box *)box;
	int ret = -ESTALE;

	for (int i = 0; i < TRIES && ret == -ESTALE; i++)
		ret = load_all(b, s);
	if (ret < 0)
		return ret;
	s->next = (struct scan_point){ .off = 0 };
	return deliver(b, s, fn, arg);
}

/* ---- box: read ----------------------------------------------------------- */

static ssize_t maildir_read(struct box *box, const struct msg *m,
			    const char *name, void *buf, size_t len,
			    uint64_t off)
{
	struct maildir_box *b = (struct maildir_box *)box;
	const struct entry *e = entry_find(b, name, strlen(name));
	AUTO_FD int fd = -1;
	struct stat st;

	if (!e || e->left_out)
		return -ESTALE;
	if (off >= m->size)
		return 0;
	if (len > m->size - off)
		len = m->size - off;
	fd = io_open_beneath(e->in_new ? b->new_fd : b->cur_fd, e->file,
			     O_RDONLY);
	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size != m->size)
		return -ESTALE;
	return io_read_at(fd, buf, len, off);
}

static const struct store_ops maildir_ops = {
	.name = "maildir",
	.list = maildir_list,
	.open = maildir_open,
	.free = maildir_free,
	.close = maildir_close,
	.stamp = maildir_stamp,
	.scan = maildir_scan,
	.read = maildir_read,
};

/* ---- making -------------------------------------------------------------- */

static int make_dir(int dirfd, const char *name, uid_t uid, gid_t gid)
{
	int ret = io_mkdir(dirfd, name, 0700, uid, gid);

	return ret == -EEXIST ? 0 : ret;
}

int maildir_make_folder(int rootfd, const char *dir, uid_t uid, gid_t gid)
{
	static const char *const subs[] = { "cur", "new", "tmp" };
	AUTO_FD int fd = -1;
	struct stat st;
	int ret = *dir ? make_dir(rootfd, dir, uid, gid) : 0;

	if (ret < 0)
		return ret;
	fd = io_open_beneath(rootfd, *dir ? dir : ".", O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(subs); i++)
		ret = make_dir(fd, subs[i], uid, gid);
	if (ret == 0 && *dir && fstatat(fd, "maildirfolder", &st, 0) < 0)
		ret = io_replace_file(fd, "maildirfolder", "", 0, uid, gid);
	return ret;
}
