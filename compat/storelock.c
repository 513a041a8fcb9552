#include "compat/storelock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"
#include "compat/text.h"

enum { TEXT_MAX = 4 * PATH_MAX + 64 };

static const char file[] = "in-use";

int storelock_open_dir(int dirfd, const char *name, bool make)
{
	AUTO_FD int fd = -1;
	struct stat st;
	int ret = make ? io_mkdir(dirfd, name, 0700, (uid_t)-1, (gid_t)-1) : 0;

	if (ret < 0 && ret != -EEXIST)
		return ret;
	fd = io_open_within(dirfd, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return st.st_uid == geteuid() ? base_steal_fd(&fd) : -EPERM;
}

static int refuse(int dirfd, const char *store)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;

	if (io_read_file(dirfd, file, TEXT_MAX, &text, &len) == 0)
		text[strcspn(text, "\n")] = '\0';
	log_err("%s: is in use by %s: end that (umount, if it is a mount), or "
		"choose another directory (store=)",
		store, text && *text ? text : "another process");
	return -EBUSY;
}

/* For people; what counts is the lock. */
static int sign(int fd, const char *doing, const char *where)
{
	char word[4 * PATH_MAX + 1], line[TEXT_MAX];
	int len;

	(void)text_escape(where, strlen(where), word, sizeof(word));
	len = snprintf(line, sizeof(line), "process %ld, %s %s\n",
		       (long)getpid(), doing, word);
	if (len < 0 || (size_t)len >= sizeof(line))
		len = 0;
	if (ftruncate(fd, 0) < 0)
		return -errno;
	return pwrite(fd, line, (size_t)len, 0) == len ? 0 : -EIO;
}

int storelock_take(int dirfd, const char *store, const char *doing,
		   const char *where)
{
	AUTO_FD int fd = io_open_beneath(dirfd, file, O_RDWR | O_CREAT);
	int ret = 0;

	if (fd < 0)
		ret = fd;
	else if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		ret = errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (ret == -EBUSY)
		return refuse(dirfd, store);
	if (ret == 0)
		ret = sign(fd, doing, where);
	if (ret < 0) {
		log_err("%s: our lock file in it cannot be made: %s", store,
			strerrordesc_np(-ret));
		return ret;
	}
	return base_steal_fd(&fd);
}
