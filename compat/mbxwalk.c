#include "compat/mbxwalk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/mbxrec.h"
#include "compat/text.h"

enum {
	WALK_DEPTH = 20, /* as deep as c-client's LIST goes */
	TABLE_FIRST = 64,
};

/* Within one tick of the clock a file can change without a new ctime. */
static const int64_t settled_ns = 2000000000;

/* ---- what files are ------------------------------------------------------ */

struct sniffed {
	uint64_t dev, ino, size;
	int64_t ctime_ns;
	enum mbx_kind kind;
	bool used;
};

struct table {
	struct sniffed *slots;
	size_t size, count; /* size: a power of two, or 0 */
};

/* What this walk sees goes into a table of its own, so that what is gone is
 * forgotten. */
struct mbxwalk_cache {
	struct table last, now;
};

struct mbxwalk_cache *mbxwalk_cache_new(void)
{
	return calloc(1, sizeof(struct mbxwalk_cache));
}

void mbxwalk_cache_free(struct mbxwalk_cache *c)
{
	if (!c)
		return;
	free(c->last.slots);
	free(c->now.slots);
	free(c);
}

/* The slot of a file, or the free one where it would be. */
static struct sniffed *slot_of(const struct table *t, uint64_t dev,
			       uint64_t ino)
{
	size_t i = (size_t)(((ino ^ dev) * 0x9E3779B97F4A7C15ULL) >> 20);

	for (;; i++) {
		struct sniffed *s = &t->slots[i & (t->size - 1)];

		if (!s->used || (s->dev == dev && s->ino == ino))
			return s;
	}
}

static bool table_grow(struct table *t)
{
	struct table more = { .size = t->size ? 2 * t->size : TABLE_FIRST,
			      .count = t->count };

	more.slots = calloc(more.size, sizeof(*more.slots));
	if (!more.slots)
		return false;
	for (size_t i = 0; i < t->size; i++) {
		const struct sniffed *s = &t->slots[i];

		if (s->used)
			*slot_of(&more, s->dev, s->ino) = *s;
	}
	free(t->slots);
	*t = more;
	return true;
}

static void table_put(struct table *t, const struct sniffed *s)
{
	struct sniffed *at;

	/* Without memory it is just looked at again. */
	if (t->count >= t->size / 2 && !table_grow(t))
		return;
	at = slot_of(t, s->dev, s->ino);
	t->count += !at->used;
	*at = *s;
}

static void cache_turn(struct mbxwalk_cache *c)
{
	if (!c)
		return;
	free(c->last.slots);
	c->last = c->now;
	c->now = (struct table){ .size = 0 };
}

/* ---- the walk ------------------------------------------------------------ */

struct walk {
	const struct mbx_options *opt;
	struct mbxwalk_cache *cache;
	int64_t start_ns;
	store_list_fn *fn;
	void *arg;
};

static bool cache_get(struct walk *w, const struct stat *st,
		      enum mbx_kind *kind)
{
	const struct table *t = w->cache ? &w->cache->last : NULL;
	const struct sniffed *s =
		t && t->size ? slot_of(t, st->st_dev, st->st_ino) : NULL;

	if (!s || !s->used || s->size != (uint64_t)st->st_size ||
	    s->ctime_ns != io_ns(&st->st_ctim))
		return false;
	*kind = s->kind;
	table_put(&w->cache->now, s);
	return true;
}

static void cache_put(struct walk *w, const struct stat *st, enum mbx_kind kind)
{
	struct sniffed s = { .dev = st->st_dev,
			     .ino = st->st_ino,
			     .size = (uint64_t)st->st_size,
			     .ctime_ns = io_ns(&st->st_ctim),
			     .kind = kind,
			     .used = true };

	if (w->cache && s.ctime_ns < w->start_ns - settled_ns)
		table_put(&w->cache->now, &s);
}

const char *mbxwalk_refusal(const struct mbx_options *opt,
			    const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return "a directory";
	if (!S_ISREG(st->st_mode))
		return "not a regular file";
	if (st->st_nlink > 1)
		return "it has hard links, so its owner is in doubt";
	if (opt->owner != (uid_t)-1 && st->st_uid != opt->owner)
		return "it belongs to another user";
	return NULL;
}

static enum mbx_kind sniff_fd(int fd)
{
	uint8_t head[MBX_HEADER_SIZE];
	ssize_t n = io_read_at(fd, head, sizeof(head), 0);

	return n < 0 ? MBX_IS_OTHER : mbx_sniff(head, (size_t)n);
}

static int report(struct walk *w, const char *path, const char *why)
{
	struct store_entry e = { .name = path,
				 .is_folder = why == NULL,
				 .why = why };

	return w->fn(&e, w->arg);
}

static int report_folder(struct walk *w, const char *path,
			 const struct stat *st)
{
	struct store_entry e = { .name = path,
				 .is_folder = true,
				 .dev = st->st_dev,
				 .ino = st->st_ino,
				 .size = (uint64_t)st->st_size };

	return w->fn(&e, w->arg);
}

static int report_kind(struct walk *w, const char *path, const struct stat *st,
		       enum mbx_kind kind)
{
	const char *last = strrchr(path, '/');
	const char *name = last ? last + 1 : path;

	if (kind == MBX_IS_MBX || kind == MBX_IS_DAMAGED)
		return report_folder(w, path, st);
	if (name[0] == '.' && name[1])
		return 0; /* shell start-up files and the like */
	if (kind == MBX_IS_EMPTY)
		return report_folder(w, path, st);
	return report(w, path, mbx_kind_name(kind));
}

/* Below a bind mount may lie our own mountpoint; waiting for ourselves would
 * never end. */
static const char *why_closed(int err, const char *other)
{
	return err == -EXDEV ? "it lies on another mount than the directory "
			       "above it"
			     : other;
}

static int walk_file(struct walk *w, int dirfd, const char *name,
		     const char *path)
{
	AUTO_FD int fd = -1;
	enum mbx_kind kind;
	struct stat st;
	const char *why;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    !mbxwalk_refusal(w->opt, &st) && cache_get(w, &st, &kind))
		return report_kind(w, path, &st, kind);
	fd = io_open_within(dirfd, name, O_RDONLY);
	if (fd == -ENOENT)
		return 0; /* removed since it was listed */
	if (fd < 0)
		return report(w, path,
			      why_closed(fd,
					 "it cannot be opened for reading"));
	if (fstat(fd, &st) < 0)
		return -errno;
	why = mbxwalk_refusal(w->opt, &st);
	if (why)
		return name[0] == '.' && name[1] ? 0 : report(w, path, why);
	kind = sniff_fd(fd);
	cache_put(w, &st, kind);
	return report_kind(w, path, &st, kind);
}

static int walk_dir(struct walk *w, int dirfd, const char *path,
		    unsigned depth);

static int walk_sub(struct walk *w, int dirfd, const char *name,
		    const char *path, unsigned depth)
{
	AUTO_FD int fd = -1;

	if (depth >= WALK_DEPTH)
		return report(w, path, "more than 20 levels deep");
	fd = io_open_within(dirfd, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return report(w, path, why_closed(fd, "it cannot be opened"));
	return walk_dir(w, fd, path, depth + 1);
}

static int walk_entry(struct walk *w, int dirfd, const char *name,
		      unsigned char type, const char *path, unsigned depth)
{
	struct stat st;

	if (type == DT_UNKNOWN) {
		if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return 0;
		type = (unsigned char)IFTODT(st.st_mode);
	}
	switch (type) {
	case DT_REG:
		return walk_file(w, dirfd, name, path);
	case DT_DIR:
		if (name[0] == '.')
			return 0; /* .ssh, .cache: never mail */
		return walk_sub(w, dirfd, name, path, depth);
	case DT_LNK:
		return report(w, path,
			      "a symbolic link; these are not "
			      "followed below a user's directory");
	default:
		return report(w, path, "not a regular file");
	}
}

static int walk_dir(struct walk *w, int dirfd, const char *path, unsigned depth)
{
	char sub[PATH_MAX];
	const struct dirent *de;
	int ret = 0;
	/* A stream of its own, so that closedir() leaves the caller's fd. */
	int own = io_open_beneath(dirfd, ".", O_RDONLY | O_DIRECTORY);
	DIR *d;

	if (own < 0)
		return own;
	d = fdopendir(own);
	if (!d) {
		ret = -errno;
		(void)close(own);
		return ret;
	}
	while (ret == 0) {
		ret = io_readdir(d, &de);
		if (ret < 0 || !de)
			break;
		if (text_path(sub, sizeof(sub), "%s%s%s", path,
			      *path ? "/" : "", de->d_name) < 0)
			ret = report(w, path, "a path below it is too long");
		else
			ret = walk_entry(w, dirfd, de->d_name, de->d_type, sub,
					 depth);
	}
	(void)closedir(d);
	return ret;
}

static const char *refusal_of_kind(enum mbx_kind kind)
{
	if (kind == MBX_IS_MBX || kind == MBX_IS_DAMAGED ||
	    kind == MBX_IS_EMPTY)
		return NULL;
	return mbx_kind_name(kind);
}

int mbxwalk_list(int fd, const struct mbx_options *opt,
		 struct mbxwalk_cache *cache, store_list_fn *fn, void *arg)
{
	struct walk w = { .opt = opt, .cache = cache, .fn = fn, .arg = arg };
	struct timespec now;
	struct stat st;
	const char *why;
	int ret;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode)) {
		why = mbxwalk_refusal(opt, &st);
		return report(&w, "",
			      why ? why : refusal_of_kind(sniff_fd(fd)));
	}
	(void)clock_gettime(CLOCK_REALTIME, &now);
	w.start_ns = io_ns(&now);
	ret = walk_dir(&w, fd, "", 1);
	cache_turn(cache);
	return ret;
}
