#include "fs/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "compat/basename.h"
#include "compat/digest.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/text.h"
#include "fs/folder_internal.h"

enum { BUCKETS_FIRST = 64 };

/* Of a directory that was not read, or may have changed since. */
static const int64_t NEVER = INT64_MIN;

/* A change in the same tick of the filesystem's clock leaves the same time. */
static const int64_t TICK_NS = 20000000;

struct entry {
	struct file file;
	uint64_t hash;
	struct entry *next;
	char text[]; /* base, name */
};

/* Entries by base name; chains, a power of two of them. */
struct set {
	struct entry **buckets;
	size_t size;
	uint64_t count;
	bool doubles; /* there are more files than entries */
};

struct files {
	pthread_mutex_t lock;
	pthread_cond_t let_go;
	struct set set;
	/* cur/ and new/: while the lock is held, and the time of what was read
	 */
	int dirs[2];
	_Atomic int64_t at[2];
	bool said_doubles;
};

static const char *sub_name(bool in_new)
{
	return in_new ? "new" : "cur";
}

/* ---- the set ------------------------------------------------------------- */

static struct entry **set_find(const struct set *s, const char *name)
{
	size_t len = info_split(name, strlen(name));
	uint64_t hash = digest_quick(name, len);
	struct entry **at = &s->buckets[hash & (s->size - 1)];

	while (*at &&
	       ((*at)->hash != hash || strlen((*at)->file.base) != len ||
		memcmp((*at)->file.base, name, len) != 0))
		at = &(*at)->next;
	return at;
}

static int set_init(struct set *s)
{
	*s = (struct set){ .size = BUCKETS_FIRST };
	s->buckets = calloc(s->size, sizeof(struct entry *));
	return s->buckets ? 0 : -ENOMEM;
}

static void set_fini(struct set *s)
{
	for (size_t i = 0; s->buckets && i < s->size; i++) {
		while (s->buckets[i]) {
			struct entry *e = s->buckets[i];

			s->buckets[i] = e->next;
			free(e);
		}
	}
	free(s->buckets);
	*s = (struct set){ .size = 0 };
}

/* When memory is short chains just get longer. */
static void set_grow(struct set *s)
{
	size_t size = s->size * 2;
	struct entry **more = calloc(size, sizeof(struct entry *));

	if (!more)
		return;
	for (size_t i = 0; i < s->size; i++) {
		while (s->buckets[i]) {
			struct entry *e = s->buckets[i];

			s->buckets[i] = e->next;
			e->next = more[e->hash & (size - 1)];
			more[e->hash & (size - 1)] = e;
		}
	}
	free(s->buckets);
	s->buckets = more;
	s->size = size;
}

static struct entry *entry_new(const char *name, bool in_new)
{
	size_t len = strlen(name) + 1, base = info_split(name, len - 1);
	struct entry *e = malloc(sizeof(*e) + base + 1 + len);

	if (!e)
		return NULL;
	memcpy(e->text, name, base);
	e->text[base] = '\0';
	memcpy(e->text + base + 1, name, len);
	e->file = (struct file){ .base = e->text,
				 .name = e->text + base + 1,
				 .in_new = in_new };
	e->hash = digest_quick(name, base);
	e->next = NULL;
	return e;
}

static int set_add(struct set *s, const char *name, bool in_new)
{
	struct entry *e;

	if (*set_find(s, name)) {
		s->doubles = true;
		return 0;
	}
	e = entry_new(name, in_new);
	if (!e)
		return -ENOMEM;
	if (s->count >= s->size)
		set_grow(s);
	e->next = s->buckets[e->hash & (s->size - 1)];
	s->buckets[e->hash & (s->size - 1)] = e;
	s->count++;
	return 0;
}

static void set_remove(struct set *s, const char *name)
{
	struct entry **at = set_find(s, name);
	struct entry *e = *at;

	if (!e || strcmp(e->file.name, name) != 0)
		return;
	*at = e->next;
	s->count--;
	free(e);
}

/* ---- reading ------------------------------------------------------------- */

static bool is_message(int dirfd, const struct dirent *de)
{
	struct stat st;

	if (de->d_name[0] == '.' || de->d_type == DT_DIR)
		return false;
	return de->d_type != DT_UNKNOWN ||
		fstatat(dirfd, de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		!S_ISDIR(st.st_mode);
}

/* What is younger than a tick may change once more and look the same. */
static int64_t time_of(const struct stat *st)
{
	struct timespec now;
	int64_t ns = io_ns(&st->st_mtim);

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return io_ns(&now) - ns < TICK_NS ? NEVER : ns;
}

static int read_dir(int dir, bool in_new, struct set *s, int64_t *at)
{
	int fd = io_open_beneath(dir, ".", O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;
	struct stat st;
	int ret = 0;

	if (!d) {
		ret = fd < 0 ? fd : -errno;
		base_auto_close(&fd);
		return ret;
	}
	if (fstat(fd, &st) < 0)
		ret = -errno;
	*at = ret == 0 ? time_of(&st) : NEVER;
	while (ret == 0) {
		ret = io_readdir(d, &de);
		if (ret < 0 || !de)
			break;
		if (is_message(fd, de))
			ret = set_add(s, de->d_name, in_new);
	}
	(void)closedir(d);
	return ret;
}

static void note_doubles(struct folder *f, struct files *t)
{
	char name[400];

	if (t->set.doubles && !t->said_doubles) {
		folder_log_name(f, name, sizeof(name));
		log_warn("%s: several files in cur/ and new/ of the new store "
			 "have one base name; Dovecot will rename them",
			 name);
	}
	t->said_doubles = t->set.doubles;
}

static int read_both(struct folder *f, struct files *t)
{
	int64_t at[2] = { NEVER, NEVER };
	struct set fresh;
	int ret = set_init(&fresh);

	for (int i = 0; ret == 0 && i < 2; i++)
		ret = read_dir(t->dirs[i], i == 1, &fresh, &at[i]);
	if (ret < 0) {
		set_fini(&fresh);
		return ret;
	}
	for (size_t i = 0; i < t->set.size; i++) {
		for (struct entry *e = t->set.buckets[i]; e; e = e->next) {
			struct entry *is = *set_find(&fresh, e->file.base);

			if (is)
				is->file.held = e->file.held;
		}
	}
	set_fini(&t->set);
	t->set = fresh;
	atomic_store(&t->at[0], at[0]);
	atomic_store(&t->at[1], at[1]);
	note_doubles(f, t);
	return 0;
}

static bool is_as_read(struct files *t, bool in_new)
{
	struct stat st;

	return fstat(t->dirs[in_new], &st) == 0 &&
		io_ns(&st.st_mtim) == atomic_load(&t->at[in_new]);
}

static void close_dirs(struct files *t)
{
	for (unsigned i = 0; i < ARRAY_LEN(t->dirs); i++) {
		base_auto_close(&t->dirs[i]);
		t->dirs[i] = -1;
	}
}

static int open_dirs(struct folder *f, struct files *t)
{
	t->dirs[0] = folder_open_dir(f, "cur");
	t->dirs[1] = t->dirs[0] < 0 ? t->dirs[0] : folder_open_dir(f, "new");
	if (t->dirs[1] >= 0)
		return 0;
	return t->dirs[1] == -ENOENT ? -EIO : t->dirs[1];
}

/* Come to hold the lock: see that the table is what lies there. */
static int enter(struct folder *f, struct files *t)
{
	int ret = open_dirs(f, t);

	if (ret == 0 && (!is_as_read(t, false) || !is_as_read(t, true)))
		ret = read_both(f, t);
	if (ret < 0)
		close_dirs(t);
	return ret;
}

/* ---- the table ----------------------------------------------------------- */

static struct files *table_of(struct folder *f)
{
	struct files *t = atomic_load(&f->files), *was = NULL;

	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	if (set_init(&t->set) < 0) {
		free(t);
		return NULL;
	}
	(void)pthread_mutex_init(&t->lock, NULL);
	(void)pthread_cond_init(&t->let_go, NULL);
	atomic_init(&t->at[0], NEVER);
	atomic_init(&t->at[1], NEVER);
	if (atomic_compare_exchange_strong(&f->files, &was, t))
		return t;
	set_fini(&t->set);
	free(t);
	return was;
}

int files_lock(struct folder *f)
{
	struct files *t = table_of(f);
	int ret;

	if (!t)
		return -ENOMEM;
	(void)pthread_mutex_lock(&t->lock);
	ret = enter(f, t);
	if (ret < 0)
		(void)pthread_mutex_unlock(&t->lock);
	return ret;
}

void files_unlock(struct folder *f)
{
	close_dirs(f->files);
	(void)pthread_mutex_unlock(&f->files->lock);
}

void files_free(struct folder *f)
{
	struct files *t = f->files;

	if (!t)
		return;
	set_fini(&t->set);
	(void)pthread_mutex_destroy(&t->lock);
	(void)pthread_cond_destroy(&t->let_go);
	free(t);
	f->files = NULL;
}

const struct file *files_find(struct folder *f, const char *name)
{
	const struct entry *e = *set_find(&f->files->set, name);

	return e ? &e->file : NULL;
}

uint64_t files_count(const struct folder *f)
{
	return f->files->set.count;
}

int files_each(struct folder *f, files_fn *fn, void *arg)
{
	const struct set *s = &f->files->set;
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < s->size; i++)
		for (struct entry *e = s->buckets[i]; ret == 0 && e;
		     e = e->next)
			ret = fn(&e->file, arg);
	return ret;
}

/* ---- changes ------------------------------------------------------------- */

/*
 * Strictly later than the time we gave it before, which the change itself has
 * written over, also when the clock was set back.
 */
static int move_on(struct folder *f, bool in_new)
{
	_Atomic int64_t *at = &f->files->at[in_new];
	int fd = f->files->dirs[in_new];
	int ret = folder_bump_open(f, in_new, fd);
	int64_t last = atomic_load(at), ns;
	struct stat st;

	if (ret < 0 || fstat(fd, &st) < 0) {
		atomic_store(at, NEVER);
		return ret < 0 ? ret : -errno;
	}
	ns = io_ns(&st.st_mtim);
	if (ns <= last) {
		ns = last + 1;
		ret = io_set_mtime(fd, ns);
	}
	/* Of files with one base name any may be gone now. */
	atomic_store(at, ret < 0 || f->files->set.doubles ? NEVER : ns);
	return ret;
}

/* The change is made: it cannot fail any more. */
static void changed(struct folder *f, bool in_new)
{
	char name[400];
	int ret = move_on(f, in_new);

	if (ret == 0)
		return;
	folder_log_name(f, name, sizeof(name));
	log_err("%s: the time of %s/ cannot be set: %s", name, sub_name(in_new),
		strerrordesc_np(-ret));
}

static void added(struct folder *f, bool in_new, const char *name)
{
	if (name[0] != '.' && set_add(&f->files->set, name, in_new) < 0)
		atomic_store(&f->files->at[in_new], NEVER);
}

static bool same_base(const char *a, const char *b)
{
	size_t len = info_split(a, strlen(a));

	return len == info_split(b, strlen(b)) && memcmp(a, b, len) == 0;
}

static int rename_file(const struct files *t, bool from_new, const char *from,
		       bool to_new, const char *to)
{
	struct stat st;

	if (from_new == to_new && strcmp(from, to) == 0)
		return fstatat(t->dirs[to_new], to, &st, AT_SYMLINK_NOFOLLOW) <
				0
			? -errno
			: 0;
	return io_rename_new(t->dirs[from_new], from, t->dirs[to_new], to);
}

int files_rename(struct folder *f, bool from_new, const char *from, bool to_new,
		 const char *to)
{
	struct entry *e = *set_find(&f->files->set, from);
	bool held = e && e->file.held;
	int ret;

	if (!same_base(from, to) && files_find(f, to))
		return -EEXIST;
	ret = rename_file(f->files, from_new, from, to_new, to);
	if (ret < 0)
		return ret;
	set_remove(&f->files->set, from);
	added(f, to_new, to);
	if (held)
		files_hold(f, to);
	changed(f, to_new);
	if (from_new != to_new)
		changed(f, from_new);
	return 0;
}

int files_unlink(struct folder *f, bool in_new, const char *name)
{
	int ret = io_unlink(f->files->dirs[in_new], name, 0);

	if (ret < 0)
		return ret;
	set_remove(&f->files->set, name);
	changed(f, in_new);
	return 0;
}

int files_take_in(struct folder *f, int from_dir, const char *from, bool to_new,
		  const char *to)
{
	int dir = f->files->dirs[to_new];
	int ret = files_find(f, to) ? -EEXIST
				    : io_rename_new(from_dir, from, dir, to);
	if (ret < 0)
		return ret;
	added(f, to_new, to);
	changed(f, to_new);
	return 0;
}

int files_take_out(struct folder *f, bool in_new, const char *name, int to_dir,
		   const char *to)
{
	int ret = io_rename_new(f->files->dirs[in_new], name, to_dir, to);

	if (ret < 0)
		return ret;
	set_remove(&f->files->set, name);
	changed(f, in_new);
	return 0;
}

int files_hand_over(struct folder *f, bool from_new, const char *from,
		    struct folder *g, bool to_new, const char *to)
{
	int ret = files_take_in(g, f->files->dirs[from_new], from, to_new, to);

	if (ret < 0)
		return ret;
	set_remove(&f->files->set, from);
	changed(f, from_new);
	return 0;
}

int files_link_in(struct folder *f, int fd, bool to_new, const char *to)
{
	int dir = f->files->dirs[to_new];
	int ret = files_find(f, to) ? -EEXIST : io_link_fd(fd, dir, to);
	if (ret < 0)
		return ret;
	added(f, to_new, to);
	changed(f, to_new);
	return 0;
}

void files_made(struct folder *f, bool in_new, const char *name)
{
	if (!files_find(f, name))
		added(f, in_new, name);
	changed(f, in_new);
}

void files_bumped(const struct folder *f, bool in_new, int64_t was, int64_t is)
{
	struct files *t = atomic_load(&f->files);

	if (t)
		(void)atomic_compare_exchange_strong(&t->at[in_new], &was, is);
}

/* ---- holding ------------------------------------------------------------- */

void files_hold(struct folder *f, const char *base)
{
	struct entry *e = *set_find(&f->files->set, base);

	if (e)
		e->file.held = true;
}

/* Also where the directories cannot be opened any more. */
void files_let_go(struct folder *f, const char *base)
{
	struct files *t = f->files;
	struct entry *e;

	(void)pthread_mutex_lock(&t->lock);
	e = *set_find(&t->set, base);
	if (e)
		e->file.held = false;
	(void)pthread_cond_broadcast(&t->let_go);
	(void)pthread_mutex_unlock(&t->lock);
}

int files_wait(struct folder *f, const char *base)
{
	const struct entry *e = *set_find(&f->files->set, base);
	struct files *t = f->files;

	if (!e || !e->file.held)
		return 0;
	while (e && e->file.held) {
		close_dirs(t);
		(void)pthread_cond_wait(&t->let_go, &t->lock);
		e = *set_find(&t->set, base);
	}
	return enter(f, t);
}
