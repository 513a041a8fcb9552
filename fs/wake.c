#include "fs/wake.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/text.h"
#include "fs/folder.h"
#include "fs/node.h"
#include "fs/user.h"

enum {
	WAKERS = 8,
	PER_USER = 2, /* his directories may be locked for long */
};

static TAILQ_HEAD(jobs, wake_job) queue = TAILQ_HEAD_INITIALIZER(queue);

static struct {
	pthread_mutex_t lock; /* a leaf */
	pthread_cond_t news;
	bool running, stop;
	unsigned major, minor, threads;
	pthread_t thread[WAKERS];
	atomic_int tids[WAKERS]; /* 0: not there */
	atomic_uint ended, files;
	atomic_ulong wakes;
} w = { .lock = PTHREAD_MUTEX_INITIALIZER, .news = PTHREAD_COND_INITIALIZER };

/* ---- the mount ----------------------------------------------------------- */

/* The root's attributes as the kernel has them: at the start nobody answers
 * yet. */
static int device_of(int fd, const char *path, struct statx *out)
{
	return statx(fd, path,
		     AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC,
		     STATX_TYPE, out) < 0
		? -errno
		: 0;
}

bool wake_is_ours(pid_t pid)
{
	/* FUSE has 0 for processes of another PID namespace. */
	for (unsigned i = 0; pid != 0 && i < WAKERS; i++)
		if (atomic_load_explicit(&w.tids[i], memory_order_relaxed) ==
		    pid)
			return true;
	return false;
}

/* Folder numbers begin with 1. */
uint64_t wake_ino(void)
{
	return index_ino(0, atomic_fetch_add(&w.files, 1) + 1);
}

bool wake_is_known(struct folder *f)
{
	uint64_t ino = atomic_load(&f->watch.new_ino);

	return ino != 0 && node_get(f->fs->nodes, ino) != NULL;
}

/* Our own mount, not what lies under it or over it. */
static int open_mount(const char *mountpoint)
{
	AUTO_FD int fd = open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statx st = { .stx_dev_major = 0 };
	int ret = fd < 0 ? -errno : device_of(fd, "", &st);

	if (ret == 0 &&
	    (st.stx_dev_major != w.major || st.stx_dev_minor != w.minor))
		ret = -EXDEV;
	return ret < 0 ? ret : base_steal_fd(&fd);
}

static int open_new(const struct folder *f)
{
	AUTO_FD int top = open_mount(f->fs->opt->mountpoint);
	char path[PATH_MAX];
	const char *dir = f->dir;
	int ret = text_path(path, sizeof(path), "%s%s%s%snew", f->user->name,
			    *f->user->name ? "/" : "", dir, *dir ? "/" : "");

	if (ret < 0 || top < 0)
		return ret < 0 ? ret : top;
	return io_open_within(top, path, O_PATH | O_DIRECTORY);
}

static void poke(const struct folder *f)
{
	AUTO_FD int dir = open_new(f);

	if (dir < 0)
		return; /* being unmounted, or the folder is gone */
	/* No change to a disk: our own daemon swallows both. */
	if (mknodat(dir, WAKE_NAME, S_IFREG | 0600, 0) == 0)
		(void)unlinkat(dir, WAKE_NAME, 0);
	(void)atomic_fetch_add(&w.wakes, 1);
}

/* ---- the threads --------------------------------------------------------- */

void wake_folder(struct folder *f)
{
	struct wake_job *j = &f->watch.wake;

	if (!wake_is_known(f))
		return;
	(void)pthread_mutex_lock(&w.lock);
	if (w.running && !j->queued) {
		j->folder = f;
		j->queued = true;
		TAILQ_INSERT_TAIL(&queue, j, link);
		(void)pthread_cond_signal(&w.news);
	}
	(void)pthread_mutex_unlock(&w.lock);
}

/* With the lock. */
static struct wake_job *take(void)
{
	struct wake_job *j;

	TAILQ_FOREACH(j, &queue, link)
	{
		if (j->busy || j->folder->user->watch.waking >= PER_USER)
			continue;
		TAILQ_REMOVE(&queue, j, link);
		j->queued = false;
		j->busy = true;
		j->folder->user->watch.waking++;
		return j;
	}
	return NULL;
}

/* With the lock. */
static void give_back(struct wake_job *j)
{
	j->busy = false;
	j->folder->user->watch.waking--;
	/* Others of this user may have been passed over. */
	(void)pthread_cond_signal(&w.news);
}

/* Nothing is logged from here: the log's descriptor may be another one. */
static void *run(void *arg)
{
	atomic_int *tid = arg;

	/* Before it is known as ours, and so before it uses the mount. */
	if (close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_UNSHARE) == 0)
		atomic_store(tid, gettid());
	(void)pthread_mutex_lock(&w.lock);
	while (!w.stop) {
		struct wake_job *j = atomic_load(tid) ? take() : NULL;

		if (!j) {
			(void)pthread_cond_wait(&w.news, &w.lock);
			continue;
		}
		(void)pthread_mutex_unlock(&w.lock);
		poke(j->folder);
		(void)pthread_mutex_lock(&w.lock);
		give_back(j);
	}
	(void)pthread_mutex_unlock(&w.lock);
	atomic_store(tid, 0);
	(void)atomic_fetch_add(&w.ended, 1);
	return NULL;
}

unsigned long wake_count(void)
{
	return atomic_load(&w.wakes);
}

int wake_start(const char *mountpoint)
{
	struct statx st;
	int ret = device_of(AT_FDCWD, mountpoint, &st);

	if (ret < 0)
		return ret;
	w.major = st.stx_dev_major;
	w.minor = st.stx_dev_minor;
	for (w.threads = 0; ret == 0 && w.threads < WAKERS; w.threads++) {
		ret = -pthread_create(&w.thread[w.threads], NULL, run,
				      &w.tids[w.threads]);
		if (ret < 0)
			return ret;
	}
	w.running = true;
	return 0;
}

void wake_stop(void (*answer)(void *arg), void *arg)
{
	(void)pthread_mutex_lock(&w.lock);
	w.stop = true;
	w.running = false;
	(void)pthread_cond_broadcast(&w.news);
	(void)pthread_mutex_unlock(&w.lock);
	while (atomic_load(&w.ended) < w.threads)
		answer(arg);
	for (unsigned i = 0; i < w.threads; i++)
		(void)pthread_join(w.thread[i], NULL);
	w.threads = 0;
}
