#include "fs/wake.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/text.h"
#include "fs/folder.h"
#include "fs/node.h"
#include "fs/user.h"

enum { THREADS_MAX = 8 };

static struct {
	bool mounted;
	unsigned major, minor;
	atomic_int tids[THREADS_MAX]; /* 0: free */
	atomic_uint files;
} w;

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

int wake_start(const char *mountpoint)
{
	struct statx st;
	int ret = device_of(AT_FDCWD, mountpoint, &st);

	w.mounted = ret == 0;
	if (ret < 0)
		return ret;
	w.major = st.stx_dev_major;
	w.minor = st.stx_dev_minor;
	return 0;
}

int wake_begin_thread(void)
{
	for (unsigned i = 0; i < THREADS_MAX; i++) {
		int none = 0;

		if (atomic_compare_exchange_strong(&w.tids[i], &none, gettid()))
			return 0;
	}
	return -ENFILE;
}

void wake_end_thread(void)
{
	for (unsigned i = 0; i < THREADS_MAX; i++) {
		int own = gettid();

		(void)atomic_compare_exchange_strong(&w.tids[i], &own, 0);
	}
}

bool wake_is_ours(pid_t pid)
{
	/* FUSE has 0 for processes of another PID namespace. */
	for (unsigned i = 0; pid != 0 && i < THREADS_MAX; i++)
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

bool wake_folder(struct folder *f)
{
	AUTO_FD int dir = -1;

	if (!w.mounted || !wake_is_ours(gettid()) || !wake_is_known(f))
		return false;
	dir = open_new(f);
	if (dir < 0)
		return false; /* being unmounted, or the folder is gone */
	/* No change to a disk: our own daemon swallows both. Where somebody has
	 * a file of that name, its "removal" alone wakes. */
	(void)mknodat(dir, WAKE_NAME, S_IFREG | 0600, 0);
	(void)unlinkat(dir, WAKE_NAME, 0);
	return true;
}
