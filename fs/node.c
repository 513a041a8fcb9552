#include "fs/node.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROOT_INO = 1, BUCKETS_FIRST = 1024 };

struct nodes {
	pthread_mutex_t lock;
	struct node **buckets;
	size_t size; /* of buckets; a power of two */
	uint64_t count;
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
	return n;
}

struct nodes *nodes_new(int root_fd, const struct node_role *role)
{
	struct nodes *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	(void)pthread_mutex_init(&t->lock, NULL);
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
	base_auto_close(&n->fd);
	free(n);
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
		if (n->ino != ROOT_INO)
			set_role(n, role);
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
