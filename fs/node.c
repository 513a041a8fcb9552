#include "fs/node.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROOT_INO = 1, BUCKETS_FIRST = 1024 };

struct nodes {
	pthread_mutex_t lock;
	struct node **buckets;
	size_t size; /* of buckets; a power of two */
	uint64_t count;

	pthread_cond_t changed; /* something that somebody waits for */
	unsigned waiting;
	uint64_t many; /* more than this are a crowd; 0: no limit */
	uint64_t goal; /* of this round */
	uint64_t drops;
	unsigned round;
	bool urgent; /* descriptors have run out */
	bool ending;
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

static void count_child(struct nodes *t, uint64_t parent, int by)
{
	struct node *n = *find(t, parent);

	if (n && (by > 0 || n->children > 0))
		n->children += (uint64_t)(int64_t)by;
}

/* Without memory for the name the directory is never a victim. */
static void set_place(struct nodes *t, struct node *n,
		      const struct node_role *role)
{
	if (n->parent != role->parent) {
		count_child(t, n->parent, -1);
		count_child(t, role->parent, 1);
		n->parent = role->parent;
	}
	if (n->name && role->name && strcmp(n->name, role->name) == 0)
		return;
	free(n->name);
	n->name = role->name ? strdup(role->name) : NULL;
}

static struct node *insert(struct nodes *t, uint64_t ino, int fd,
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
			    .fd = fd,
			    .kind = role->kind,
			    .user = role->user,
			    .folder = role->folder,
			    .lookups = 1,
			    .next = *at };
	*at = n;
	t->count++;
	set_place(t, n, role);
	if (t->many && t->count == t->many + 1)
		changed(t);
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

	if (!t)
		return NULL;
	(void)pthread_mutex_init(&t->lock, NULL);
	init_cond(&t->changed);
	t->size = BUCKETS_FIRST;
	t->buckets = calloc(t->size, sizeof(struct node *));
	if (!t->buckets || !insert(t, ROOT_INO, root_fd, role)) {
		free(t->buckets);
		free(t);
		return NULL;
	}
	return t;
}

static void drop(struct nodes *t, struct node **at)
{
	struct node *n = *at;

	*at = n->next;
	t->count--;
	t->drops++;
	count_child(t, n->parent, -1);
	base_auto_close(&n->fd);
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

int node_take(struct nodes *t, int fd, const struct stat *st,
	      const struct node_role *role, struct node **out)
{
	struct node *n;

	(void)pthread_mutex_lock(&t->lock);
	n = *find(t, st->st_ino);
	if (n) {
		n->lookups++;
		if (n->ino != ROOT_INO) {
			set_role(n, role);
			set_place(t, n, role);
		}
		base_auto_close(&fd);
	} else {
		n = insert(t, st->st_ino, fd, role);
	}
	(void)pthread_mutex_unlock(&t->lock);
	if (!n) {
		base_auto_close(&fd);
		return -ENOMEM;
	}
	*out = n;
	return 0;
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

/* ---- a crowd ------------------------------------------------------------- */

enum {
	PAUSE_MS = 500,
	ROOM_MS = 200,
	RELIEF_MS = 1000,
};

static struct timespec in_ms(unsigned ms)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_sec += ms / 1000;
	ts.tv_nsec += (long)(ms % 1000) * 1000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_sec++;
		ts.tv_nsec -= 1000000000;
	}
	return ts;
}

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

void nodes_limit(struct nodes *t, uint64_t many)
{
	(void)pthread_mutex_lock(&t->lock);
	t->many = many;
	changed(t);
	(void)pthread_mutex_unlock(&t->lock);
}

static bool is_crowd(const struct nodes *t)
{
	return t->urgent || (t->many && t->count > t->many);
}

bool nodes_await_crowd(struct nodes *t)
{
	struct timespec until = in_ms(PAUSE_MS);
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
	t->goal = (t->count < t->many ? t->count : t->many) / 2;
	(void)pthread_mutex_unlock(&t->lock);
	return !ending;
}

static struct node *fattest(const struct nodes *t)
{
	struct node *best = NULL;

	for (size_t i = 0; i < t->size; i++)
		for (struct node *n = t->buckets[i]; n; n = n->next)
			if (n->name && n->children > 0 &&
			    n->round != t->round &&
			    (!best || n->children > best->children))
				best = n;
	return best;
}

bool nodes_victim(struct nodes *t, struct node_place *out)
{
	struct node *n = NULL;

	(void)pthread_mutex_lock(&t->lock);
	if (!t->ending && t->count > t->goal)
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
	struct timespec until = in_ms(ms);

	(void)pthread_mutex_lock(&t->lock);
	while (!t->ending && t->count > t->goal && wait_change(t, &until))
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

void nodes_wait_for_room(struct nodes *t)
{
	struct timespec until;

	(void)pthread_mutex_lock(&t->lock);
	if (t->many && t->count > t->many + t->many / 2) {
		until = in_ms(ROOM_MS);
		while (!t->ending && t->count > t->many + t->many / 2 &&
		       wait_change(t, &until))
			;
	}
	(void)pthread_mutex_unlock(&t->lock);
}

bool nodes_relieve(struct nodes *t)
{
	struct timespec until = in_ms(RELIEF_MS);
	uint64_t drops;
	bool ret;

	(void)pthread_mutex_lock(&t->lock);
	drops = t->drops;
	t->urgent = t->many > 0;
	changed(t);
	while (t->urgent && !t->ending && wait_change(t, &until))
		;
	ret = t->drops != drops;
	(void)pthread_mutex_unlock(&t->lock);
	return ret;
}
