#include "fs/node.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "compat/clock.h"

enum { ROOT_INO = 1, BUCKETS_FIRST = 1024 };

struct nodes {
	pthread_mutex_t lock;
	struct node **buckets;
	size_t size; /* of buckets; a power of two */
	uint64_t count;

	uint64_t fds; /* open ones */
	TAILQ_HEAD(, node) idle;
	uint64_t idle_count, idle_max;

	pthread_cond_t changed; /* something that somebody waits for */
	unsigned waiting;
	uint64_t many; /* more descriptors than this are a crowd */
	uint64_t goal; /* of this round */
	uint64_t drops;
	unsigned round;
	bool urgent; /* descriptors have run out */
	bool ending, limited;
};

static size_t bucket(const struct nodes *t, uint64_t ino)
{
	/* Fibonacci hashing: inode numbers are often consecutive. */
	return (size_t)((ino * 0x9E3779B97F4A7C15ULL) >> 17) & (t->size - 1);
}

static struct node **find(struct nodes *t, uint64_t ino)
{
	struct node **at = &t->buckets[bucket(t, ino)];

	while (*at && (*at)->ino != ino)
		at = &(*at)->next;
	return at;
}

/* Doubling keeps chains short; when memory is short they just get longer. */
static void grow(struct nodes *t)
{
	struct nodes bigger = { .size = t->size * 2 };

	bigger.buckets = calloc(bigger.size, sizeof(struct node *));
	if (!bigger.buckets)
		return;
	for (size_t i = 0; i < t->size; i++) {
		struct node *n = t->buckets[i];

		while (n) {
			struct node *next = n->next;
			struct node **at =
				&bigger.buckets[bucket(&bigger, n->ino)];

			n->next = *at;
			*at = n;
			n = next;
		}
	}
	free(t->buckets);
	t->buckets = bigger.buckets;
	t->size = bigger.size;
}

static void changed(struct nodes *t)
{
	if (t->waiting > 0)
		(void)pthread_cond_broadcast(&t->changed);
}

/* ---- descriptors --------------------------------------------------------- */

static void idle_remove(struct nodes *t, struct node *n)
{
	TAILQ_REMOVE(&t->idle, n, idle);
	t->idle_count--;
}

/* Not every filesystem knows when. */
static struct node_birth birth_of(int fd)
{
	struct node_birth b = { .type = 0 };
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW,
		  STATX_TYPE | STATX_BTIME, &st) < 0)
		return b;
	b.type = st.stx_mode & S_IFMT;
	if (st.stx_mask & STATX_BTIME) {
		b.s = st.stx_btime.tv_sec;
		b.ns = st.stx_btime.tv_nsec;
	}
	return b;
}

static void close_node(struct nodes *t, struct node *n)
{
	if (n->fd < 0)
		return;
	if (!n->is_dir && n->pins == 0)
		idle_remove(t, n);
	base_auto_close(&n->fd);
	n->fd = -1;
	t->fds--;
	t->drops++;
}

/* Closed, to be opened again. */
static void set_aside(struct nodes *t, struct node *n)
{
	n->birth = birth_of(n->fd);
	close_node(t, n);
}

static void idle_trim(struct nodes *t)
{
	while (t->idle_count > t->idle_max)
		set_aside(t, TAILQ_FIRST(&t->idle));
}

static void idle_add(struct nodes *t, struct node *n)
{
	TAILQ_INSERT_TAIL(&t->idle, n, idle);
	t->idle_count++;
	idle_trim(t);
}

static void open_node(struct nodes *t, struct node *n, int fd)
{
	if (fd < 0)
		return;
	n->fd = fd;
	if (++t->fds == t->many + 1)
		changed(t);
	if (!n->is_dir && n->pins == 0)
		idle_add(t, n);
}

static void pin(struct nodes *t, struct node *n)
{
	if (n->pins++ == 0 && n->fd >= 0 && !n->is_dir)
		idle_remove(t, n);
}

static void unpin(struct nodes *t, struct node *n)
{
	if (n->pins > 0 && --n->pins == 0 && n->fd >= 0 && !n->is_dir)
		idle_add(t, n);
}

/* ---- the table ----------------------------------------------------------- */

static void count_subdir(struct nodes *t, uint64_t parent, int by)
{
	struct node *n = *find(t, parent);

	if (n && (by > 0 || n->subdirs > 0))
		n->subdirs += (uint64_t)(int64_t)by;
}

static void set_place(struct nodes *t, struct node *n, const char *name,
		      uint64_t parent)
{
	if (n->is_dir && n->parent != parent) {
		count_subdir(t, n->parent, -1);
		count_subdir(t, parent, 1);
	}
	n->parent = parent;
	if (n->name && name && strcmp(n->name, name) == 0)
		return;
	free(n->name);
	n->name = name ? strdup(name) : NULL;
}

static struct node *insert(struct nodes *t, uint64_t ino, bool is_dir,
			   const struct node_role *role)
{
	struct node *n = calloc(1, sizeof(*n));
	struct node **at;

	if (!n)
		return NULL;
	if (t->count >= t->size)
		grow(t);
	at = &t->buckets[bucket(t, ino)];
	*n = (struct node){ .ino = ino,
			    .fd = -1,
			    .is_dir = is_dir,
			    .kind = role->kind,
			    .user = role->user,
			    .folder = role->folder,
			    .next = *at };
	*at = n;
	t->count++;
	set_place(t, n, role->name, role->parent);
	return n;
}

static void init_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(cond, &attr);
	(void)pthread_condattr_destroy(&attr);
}

struct nodes *nodes_new(int root_fd, const struct node_role *role)
{
	struct nodes *t = calloc(1, sizeof(*t));
	struct node *root = NULL;

	if (!t)
		return NULL;
	(void)pthread_mutex_init(&t->lock, NULL);
	init_cond(&t->changed);
	TAILQ_INIT(&t->idle);
	t->many = t->idle_max = UINT64_MAX / 2;
	t->size = BUCKETS_FIRST;
	t->buckets = calloc(t->size, sizeof(struct node *));
	if (t->buckets)
		root = insert(t, ROOT_INO, true, role);
	if (!root) {
		free(t->buckets);
		free(t);
		return NULL;
	}
	root->lookups = 1;
	open_node(t, root, root_fd);
	return t;
}

static void drop(struct nodes *t, struct node **at)
{
	struct node *n = *at;

	*at = n->next;
	t->count--;
	if (n->is_dir)
		count_subdir(t, n->parent, -1);
	close_node(t, n);
	free(n->name);
	free(n);
	changed(t);
}

void nodes_free(struct nodes *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->size; i++)
		while (t->buckets[i])
			drop(t, &t->buckets[i]);
	free(t->buckets);
	(void)pthread_mutex_destroy(&t->lock);
	(void)pthread_cond_destroy(&t->changed);
	free(t);
}

struct node *node_get(struct nodes *t, uint64_t ino)
{
	struct node *n;

	(void)pthread_mutex_lock(&t->lock);
	n = *find(t, ino);
	(void)pthread_mutex_unlock(&t->lock);
	return n;
}

/* A folder may have been found since this was last seen. */
static void set_role(struct node *n, const struct node_role *role)
{
	atomic_store(&n->kind, role->kind);
	atomic_store(&n->user, role->user);
	atomic_store(&n->folder, role->folder);
}

/* The number of a file that was closed may be another's now. */
static void renew(struct nodes *t, struct node *n, bool is_dir,
		  const struct node_role *role)
{
	if (n->ino == ROOT_INO)
		return;
	if (n->is_dir != is_dir) {
		close_node(t, n);
		if (n->is_dir)
			count_subdir(t, n->parent, -1);
		n->is_dir = is_dir;
		n->parent = 0;
	}
	set_role(n, role);
	set_place(t, n, role->name, role->parent);
}

int node_take(struct nodes *t, int fd, const struct stat *st,
	      const struct node_role *role, struct node **out)
{
	bool is_dir = S_ISDIR(st->st_mode);
	struct node *n;

	(void)pthread_mutex_lock(&t->lock);
	n = *find(t, st->st_ino);
	if (n)
		renew(t, n, is_dir, role);
	else
		n = insert(t, st->st_ino, is_dir, role);
	if (n) {
		n->lookups++;
		if (n->fd < 0)
			open_node(t, n, base_steal_fd(&fd));
	}
	(void)pthread_mutex_unlock(&t->lock);
	base_auto_close(&fd);
	*out = n;
	return n ? 0 : -ENOMEM;
}

void node_forget(struct nodes *t, uint64_t ino, uint64_t count)
{
	struct node **at;

	(void)pthread_mutex_lock(&t->lock);
	at = find(t, ino);
	if (*at && ino != ROOT_INO) {
		(*at)->lookups -=
			count < (*at)->lookups ? count : (*at)->lookups;
		if ((*at)->lookups == 0)
			drop(t, at);
	}
	(void)pthread_mutex_unlock(&t->lock);
}

uint64_t node_count(struct nodes *t)
{
	uint64_t n;

	(void)pthread_mutex_lock(&t->lock);
	n = t->count;
	(void)pthread_mutex_unlock(&t->lock);
	return n;
}

/* ---- a node in use ------------------------------------------------------- */

/* Where it was last found, to look there once more. */
static int place_of(struct nodes *t, const struct node *n,
		    struct node_place *out, int *dirfd)
{
	const struct node *dir = *find(t, n->parent);

	if (!n->name || !dir || dir->fd < 0 ||
	    strlen(n->name) >= sizeof(out->name))
		return -ESTALE;
	memcpy(out->name, n->name, strlen(n->name) + 1);
	*dirfd = fcntl(dir->fd, F_DUPFD_CLOEXEC, 0);
	return *dirfd < 0 ? -errno : 0;
}

static int open_path(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	return errno == ENOENT || errno == ENOTDIR ? -ESTALE : -errno;
}

static bool is_file(int fd, uint64_t ino, const struct node_birth *want)
{
	struct node_birth got = birth_of(fd);
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_ino == ino &&
		got.type == want->type && got.s == want->s &&
		got.ns == want->ns;
}

int node_pin(struct nodes *t, struct node *n)
{
	AUTO_FD int dirfd = -1, fd = -1;
	struct node_birth birth;
	struct node_place at;
	int ret = 0;

	(void)pthread_mutex_lock(&t->lock);
	pin(t, n);
	birth = n->birth;
	if (n->fd < 0)
		ret = place_of(t, n, &at, &dirfd);
	(void)pthread_mutex_unlock(&t->lock);
	/* The disk may be slow: not with the lock. */
	if (ret == 0 && dirfd >= 0) {
		fd = open_path(dirfd, at.name);
		ret = fd < 0 ? fd : is_file(fd, n->ino, &birth) ? 0 : -ESTALE;
	}
	(void)pthread_mutex_lock(&t->lock);
	if (n->fd < 0 && ret == 0)
		open_node(t, n, base_steal_fd(&fd));
	if (n->fd >= 0)
		ret = n->fd;
	else
		unpin(t, n);
	(void)pthread_mutex_unlock(&t->lock);
	return ret;
}

void node_unpin(struct nodes *t, struct node *n)
{
	(void)pthread_mutex_lock(&t->lock);
	unpin(t, n);
	(void)pthread_mutex_unlock(&t->lock);
}

void node_hold(struct nodes *t, uint64_t ino)
{
	struct node *n;

	(void)pthread_mutex_lock(&t->lock);
	n = *find(t, ino);
	if (n)
		pin(t, n);
	(void)pthread_mutex_unlock(&t->lock);
}

void node_release(struct nodes *t, uint64_t ino)
{
	struct node *n;

	(void)pthread_mutex_lock(&t->lock);
	n = *find(t, ino);
	if (n)
		unpin(t, n);
	(void)pthread_mutex_unlock(&t->lock);
}

/* ---- a crowd ------------------------------------------------------------- */

enum {
	PAUSE_MS = 500,
	RELIEF_MS = 1000,
};

/* @until: NULL for ever. Return: false when that time has come. */
static bool wait_change(struct nodes *t, const struct timespec *until)
{
	int ret;

	t->waiting++;
	ret = until ? pthread_cond_timedwait(&t->changed, &t->lock, until)
		    : pthread_cond_wait(&t->changed, &t->lock);
	t->waiting--;
	return ret != ETIMEDOUT;
}

void nodes_limit(struct nodes *t, uint64_t files)
{
	(void)pthread_mutex_lock(&t->lock);
	t->many = files / 2;
	t->idle_max = files / 4;
	t->limited = true;
	idle_trim(t);
	changed(t);
	(void)pthread_mutex_unlock(&t->lock);
}

static bool is_crowd(const struct nodes *t)
{
	return t->urgent || t->fds > t->many;
}

bool nodes_await_crowd(struct nodes *t)
{
	struct timespec until = clock_in_ms(PAUSE_MS);
	bool ending;

	(void)pthread_mutex_lock(&t->lock);
	/* What is left of it is in use: asking again at once is no use. */
	while (t->round > 0 && is_crowd(t) && !t->urgent && !t->ending &&
	       wait_change(t, &until))
		;
	while (!t->ending && !is_crowd(t))
		(void)wait_change(t, NULL);
	ending = t->ending;
	t->round++;
	t->goal = (t->fds < t->many ? t->fds : t->many) / 2;
	(void)pthread_mutex_unlock(&t->lock);
	return !ending;
}

static struct node *fattest(const struct nodes *t)
{
	struct node *best = NULL;

	for (size_t i = 0; i < t->size; i++)
		for (struct node *n = t->buckets[i]; n; n = n->next)
			if (n->name && n->subdirs > 0 && n->round != t->round &&
			    (!best || n->subdirs > best->subdirs))
				best = n;
	return best;
}

bool nodes_victim(struct nodes *t, struct node_place *out)
{
	struct node *n = NULL;

	(void)pthread_mutex_lock(&t->lock);
	if (!t->ending && t->fds > t->goal)
		n = fattest(t);
	if (n) {
		n->round = t->round;
		out->parent = n->parent;
		(void)snprintf(out->name, sizeof(out->name), "%s", n->name);
	} else {
		t->urgent = false;
		changed(t);
	}
	(void)pthread_mutex_unlock(&t->lock);
	return n != NULL;
}

void nodes_settle(struct nodes *t, unsigned ms)
{
	struct timespec until = clock_in_ms(ms);

	(void)pthread_mutex_lock(&t->lock);
	while (!t->ending && t->fds > t->goal && wait_change(t, &until))
		;
	(void)pthread_mutex_unlock(&t->lock);
}

void nodes_end(struct nodes *t)
{
	(void)pthread_mutex_lock(&t->lock);
	t->ending = true;
	changed(t);
	(void)pthread_mutex_unlock(&t->lock);
}

bool nodes_relieve(struct nodes *t)
{
	struct timespec until = clock_in_ms(RELIEF_MS);
	uint64_t drops;
	bool ret;

	(void)pthread_mutex_lock(&t->lock);
	drops = t->drops;
	while (t->limited && t->idle_count > 0)
		set_aside(t, TAILQ_FIRST(&t->idle));
	if (t->limited && t->drops == drops) {
		t->urgent = true;
		changed(t);
	}
	while (t->urgent && !t->ending && wait_change(t, &until))
		;
	ret = t->drops != drops;
	(void)pthread_mutex_unlock(&t->lock);
	return ret;
}
