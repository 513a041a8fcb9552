#include "fs/node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fixture.h"
#include "fs/shed.h"

enum { ROOT = 1, FILES = 40 };

static struct nodes *nodes;
static int top = -1;

/* Descriptors of ours, and room for @files more. */
static void begin(void)
{
	struct node_role role = { .kind = NODE_MAIL };

	top = open(fixture_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(top, 0);
	nodes = nodes_new(openat(top, ".", O_PATH | O_CLOEXEC), &role);
	cr_assert_not_null(nodes);
}

static void end(void)
{
	nodes_free(nodes);
	(void)close(top);
}

static unsigned descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	cr_assert_not_null(d);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n;
}

/* As a lookup of @name, below directory node @dir, does it. */
static struct node *take(struct node *dir, const char *name)
{
	struct node_role role = { .kind = NODE_PLAIN,
				  .parent = dir ? dir->ino : ROOT,
				  .name = name };
	int fd = openat(dir ? dir->fd : top, name,
			O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct node *n = NULL;
	struct stat st;

	cr_assert_geq(fd, 0, "%s", name);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(node_take(nodes, fd, &st, &role, &n), 0);
	return n;
}

static struct node *take_file(unsigned i)
{
	char name[32];
	int fd;

	(void)snprintf(name, sizeof(name), "f%u", i);
	fd = openat(top, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_eq(write(fd, name, strlen(name)), (ssize_t)strlen(name));
	(void)close(fd);
	return take(NULL, name);
}

static ino_t pinned_ino(struct node *n)
{
	int fd = node_pin(nodes, n);
	struct stat st = { .st_ino = 0 };

	cr_assert_geq(fd, 0, "%d", fd);
	cr_assert_eq(fstat(fd, &st), 0);
	node_unpin(nodes, n);
	return st.st_ino;
}

TEST(node, is_what_was_taken_until_it_is_forgotten)
{
	struct node *a, *b;
	uint64_t ino;

	begin();
	a = take_file(1);
	b = take_file(2);
	ino = a->ino;
	cr_expect_neq(a, b);
	cr_expect_eq(node_get(nodes, ino), a);
	cr_expect_eq(take(NULL, "f1"), a);
	cr_expect_eq(node_count(nodes), 3);
	node_forget(nodes, ino, 1);
	cr_expect_eq(node_get(nodes, ino), a);
	node_forget(nodes, ino, 1);
	cr_expect_null(node_get(nodes, ino));
	node_forget(nodes, ino, 1);
	node_forget(nodes, ROOT, 100);
	cr_expect_not_null(node_get(nodes, ROOT));
	cr_expect_eq(node_count(nodes), 2);
	end();
}

TEST(node, without_a_limit_everything_stays_open)
{
	unsigned before;

	begin();
	before = descriptors();
	for (unsigned i = 0; i < FILES; i++)
		(void)take_file(i);
	cr_expect_eq(descriptors(), before + FILES);
	end();
}

TEST(node, files_take_a_quarter_and_come_back)
{
	struct node *files[FILES];
	unsigned before;

	begin();
	nodes_limit(nodes, FILES);
	before = descriptors();
	for (unsigned i = 0; i < FILES; i++)
		files[i] = take_file(i);
	cr_expect_eq(descriptors(), before + FILES / 4);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < FILES; i++)
			cr_expect_eq(pinned_ino(files[i]), files[i]->ino);
	cr_expect_eq(descriptors(), before + FILES / 4);
	for (unsigned i = 0; i < FILES; i++)
		node_forget(nodes, files[i]->ino, 1);
	cr_expect_eq(descriptors(), before);
	end();
}

TEST(node, what_was_used_last_stays_open)
{
	struct node *files[FILES];

	begin();
	nodes_limit(nodes, 16);
	files[0] = take_file(0);
	for (unsigned i = 1; i < FILES; i++) {
		files[i] = take_file(i);
		(void)pinned_ino(files[0]);
	}
	/* Gone from the disk: only what is open can still be had. */
	cr_assert_eq(unlinkat(top, "f0", 0), 0);
	cr_assert_eq(unlinkat(top, "f1", 0), 0);
	cr_expect_eq(pinned_ino(files[0]), files[0]->ino);
	cr_expect_eq(node_pin(nodes, files[1]), -ESTALE);
	end();
}

TEST(node, what_is_held_stays_open_without_a_name)
{
	struct node *held, *pinned;

	begin();
	nodes_limit(nodes, 16);
	held = take_file(0);
	pinned = take_file(1);
	node_hold(nodes, held->ino);
	cr_assert_geq(node_pin(nodes, pinned), 0);
	for (unsigned i = 2; i < FILES; i++)
		(void)take_file(i);
	cr_assert_eq(unlinkat(top, "f0", 0), 0);
	cr_assert_eq(unlinkat(top, "f1", 0), 0);
	cr_expect(nodes_relieve(nodes));
	cr_expect_eq(pinned_ino(held), held->ino);
	cr_expect_eq(pinned_ino(pinned), pinned->ino);
	node_release(nodes, held->ino);
	node_unpin(nodes, pinned);
	cr_expect(nodes_relieve(nodes));
	cr_expect_eq(node_pin(nodes, held), -ESTALE);
	cr_expect_eq(node_pin(nodes, pinned), -ESTALE);
	node_hold(nodes, 4711);
	node_release(nodes, 4711);
	end();
}

TEST(node, another_file_of_that_name_is_not_taken_for_it)
{
	struct node *a;

	begin();
	nodes_limit(nodes, 16);
	a = take_file(0);
	(void)take_file(1);
	cr_expect(nodes_relieve(nodes));
	cr_assert_eq(renameat(top, "f1", top, "f0"), 0);
	cr_expect_eq(node_pin(nodes, a), -ESTALE);
	cr_assert_eq(unlinkat(top, "f0", 0), 0);
	cr_assert_eq(symlinkat("/etc/passwd", top, "f0"), 0);
	cr_expect_eq(node_pin(nodes, a), -ESTALE);
	cr_assert_eq(unlinkat(top, "f0", 0), 0);
	cr_assert_eq(mkdirat(top, "f0", 0700), 0);
	cr_expect_eq(node_pin(nodes, a), -ESTALE);
	end();
}

TEST(node, a_file_is_found_under_its_last_name)
{
	struct node *a;

	begin();
	nodes_limit(nodes, 16);
	a = take_file(0);
	cr_assert_eq(renameat(top, "f0", top, "g"), 0);
	cr_expect_eq(take(NULL, "g"), a);
	cr_expect(nodes_relieve(nodes));
	cr_expect_eq(pinned_ino(a), a->ino);
	end();
}

TEST(node, there_is_no_relief_without_a_limit)
{
	begin();
	(void)take_file(0);
	cr_expect_not(nodes_relieve(nodes));
	end();
}

/* ---- a crowd ------------------------------------------------------------- */

/* What a kernel does: it forgets the directory with all that is in it. */
static struct {
	pthread_mutex_t lock;
	unsigned asked;
	bool deaf;
	char last[NAME_MAX + 1];
} kernel = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void make_tree(unsigned folders, unsigned first)
{
	static const char *const subs[] = { "cur", "new", "tmp" };
	char name[32];

	for (unsigned i = first; i < first + folders; i++) {
		struct node *f;

		(void)snprintf(name, sizeof(name), ".f%u", i);
		cr_assert_eq(mkdirat(top, name, 0700), 0);
		f = take(NULL, name);
		for (size_t s = 0; s < ARRAY_LEN(subs); s++) {
			cr_assert_eq(mkdirat(f->fd, subs[s], 0700), 0);
			(void)take(f, subs[s]);
		}
	}
}

static uint64_t ino_of(int dirfd, const char *name)
{
	struct stat st;

	cr_assert_eq(fstatat(dirfd, name, &st, 0), 0, "%s", name);
	return st.st_ino;
}

static void forget(void *arg, uint64_t parent, const char *name)
{
	char sub[NAME_MAX + 8];
	static const char *const subs[] = { "cur", "new", "tmp" };

	(void)arg;
	(void)pthread_mutex_lock(&kernel.lock);
	kernel.asked++;
	(void)snprintf(kernel.last, sizeof(kernel.last), "%s", name);
	(void)pthread_mutex_unlock(&kernel.lock);
	cr_assert_eq(parent, ROOT);
	if (kernel.deaf)
		return;
	for (size_t s = 0; s < ARRAY_LEN(subs); s++) {
		(void)snprintf(sub, sizeof(sub), "%s/%s", name, subs[s]);
		node_forget(nodes, ino_of(top, sub), 1);
	}
	node_forget(nodes, ino_of(top, name), 1);
}

static unsigned asked(void)
{
	unsigned n;

	(void)pthread_mutex_lock(&kernel.lock);
	n = kernel.asked;
	(void)pthread_mutex_unlock(&kernel.lock);
	return n;
}

static void answer(void *arg)
{
	(void)arg;
	(void)usleep(1000);
}

static bool wait_until_asked(unsigned n)
{
	for (unsigned i = 0; i < 500 && asked() < n; i++)
		(void)usleep(10000);
	return asked() >= n;
}

TEST(shed, leaves_half_of_what_directories_may_have)
{
	struct shed *s = NULL;
	uint64_t left;

	begin();
	cr_assert_eq(shed_start(nodes, 80, forget, NULL, &s), 0);
	make_tree(9, 0);
	(void)usleep(100000);
	cr_expect_eq(asked(), 0);
	make_tree(2, 9);
	cr_expect(wait_until_asked(5));
	(void)usleep(100000);
	left = node_count(nodes);
	cr_expect_leq(left, 20);
	cr_expect_gt(left, 12);
	shed_stop(s, answer);
	end();
}

TEST(shed, asks_for_each_once_a_round_and_does_not_spin)
{
	struct shed *s = NULL;
	unsigned n;

	kernel.deaf = true;
	begin();
	cr_assert_eq(shed_start(nodes, 40, forget, NULL, &s), 0);
	make_tree(10, 0);
	cr_expect(wait_until_asked(10));
	(void)usleep(300000);
	n = asked();
	cr_expect_leq(n, 20, "%u", n);
	/* Nothing can be had, and nobody waits for ever. */
	cr_expect_not(nodes_relieve(nodes));
	cr_expect_gt(asked(), n);
	shed_stop(s, answer);
	end();
}

TEST(shed, begins_when_descriptors_run_out)
{
	struct shed *s = NULL;

	begin();
	cr_assert_eq(shed_start(nodes, 1000, forget, NULL, &s), 0);
	make_tree(10, 0);
	cr_expect_eq(asked(), 0);
	cr_expect(nodes_relieve(nodes));
	cr_expect_eq(asked(), 6);
	shed_stop(s, answer);
	end();
}

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool waits, answered;
} lookup = { .lock = PTHREAD_MUTEX_INITIALIZER,
	     .cond = PTHREAD_COND_INITIALIZER };

/* A kernel that waits for a request of ours to be answered first. */
static void forget_after_lookup(void *arg, uint64_t parent, const char *name)
{
	(void)arg;
	(void)parent;
	(void)name;
	(void)pthread_mutex_lock(&lookup.lock);
	lookup.waits = true;
	(void)pthread_cond_broadcast(&lookup.cond);
	while (!lookup.answered)
		(void)pthread_cond_wait(&lookup.cond, &lookup.lock);
	(void)pthread_mutex_unlock(&lookup.lock);
}

static void answer_lookup(void *arg)
{
	(void)arg;
	(void)pthread_mutex_lock(&lookup.lock);
	lookup.answered = true;
	(void)pthread_cond_broadcast(&lookup.cond);
	(void)pthread_mutex_unlock(&lookup.lock);
}

TEST(shed, requests_are_answered_until_it_has_ended)
{
	struct shed *s = NULL;

	begin();
	cr_assert_eq(shed_start(nodes, 8, forget_after_lookup, NULL, &s), 0);
	make_tree(3, 0);
	(void)pthread_mutex_lock(&lookup.lock);
	while (!lookup.waits)
		(void)pthread_cond_wait(&lookup.cond, &lookup.lock);
	(void)pthread_mutex_unlock(&lookup.lock);
	shed_stop(s, answer_lookup);
	end();
}
