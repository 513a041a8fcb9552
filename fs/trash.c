#include "fs/trash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/text.h"
#include "fs/tree.h"

enum { ENDING = 8 };

static int make_and_open(int dirfd, const char *name)
{
	int ret = io_mkdir(dirfd, name, 0700, (uid_t)-1, (gid_t)-1);

	if (ret == 0)
		ret = io_fsync_dir(dirfd);
	if (ret < 0 && ret != -EEXIST)
		return ret;
	return io_open_within(dirfd, name, O_RDONLY | O_DIRECTORY);
}

int trash_open(const struct user *u)
{
	AUTO_FD int trash = make_and_open(u->fs->state_fd, "trash");

	if (trash < 0 || !u->fs->multi)
		return base_steal_fd(&trash);
	return make_and_open(trash, u->name);
}

/* text_escape() leaves '/' alone. Return: octets of @legacy that fit. */
static size_t escape(const char *legacy, char *out, size_t size)
{
	size_t len = 0;
	char word[8];

	for (const char *p = legacy; *p; p++) {
		if (*p == '/')
			(void)snprintf(word, sizeof(word), "\\x2f");
		else if ((unsigned char)*p < 0x80)
			(void)text_escape(p, 1, word, sizeof(word));
		else
			(void)snprintf(word, sizeof(word), "\\x%02x",
				       (unsigned char)*p);
		if (len + strlen(word) >= size)
			break;
		memcpy(out + len, word, strlen(word));
		len += strlen(word);
	}
	out[len] = '\0';
	return len;
}

void trash_name(uint32_t number, const char *legacy, char *out)
{
	size_t size = NAME_MAX + 1 - ENDING;
	struct timespec now;
	int len;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	len = snprintf(out, size, "%jd.%08" PRIx32 ".", (intmax_t)now.tv_sec,
		       number);
	(void)escape(legacy, out + len, size - (size_t)len);
}

static int open_if_there(const struct user *u)
{
	char path[PATH_MAX];
	int ret = text_path(path, sizeof(path), "trash%s%s",
			    u->fs->multi ? "/" : "", u->name);

	return ret < 0
		? ret
		: io_open_within(u->fs->state_fd, path, O_RDONLY | O_DIRECTORY);
}

bool trash_has(const struct user *u, const char *name)
{
	AUTO_FD int trash = open_if_there(u);
	struct stat st;

	return trash >= 0 &&
		fstatat(trash, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static int forget(int trash, const char *name, const char *ending)
{
	char path[NAME_MAX + 1];
	int ret = text_path(path, sizeof(path), "%s%s", name, ending);

	if (ret == 0)
		ret = io_unlink(trash, path, 0);
	return ret == -ENOENT ? 0 : ret;
}

int trash_forget(const struct user *u, const char *name)
{
	AUTO_FD int trash = open_if_there(u);
	int ret;

	if (trash < 0)
		return trash == -ENOENT ? 0 : trash;
	ret = forget(trash, name, ".tmp");
	if (ret == 0)
		ret = forget(trash, name, "");
	return ret == 0 ? io_fsync_dir(trash) : ret;
}

static int put(int from, const char *dir, int trash, const char *name,
	       const char *ending)
{
	char path[NAME_MAX + 1];
	int ret = text_path(path, sizeof(path), "%s%s", name, ending);

	if (ret == 0)
		ret = io_rename(from, dir, trash, path, RENAME_NOREPLACE);
	if (ret < 0)
		return ret == -ENOENT ? 0 : ret;
	ret = io_fsync_dir(trash);
	return ret == 0 ? io_fsync_dir(from) : ret;
}

/* The files that say which UIDs a folder has: a new one of that name must not
 * find them. */
static int forget_control(int control, const char *dir)
{
	static const char *const names[] = { "dovecot-uidlist",
					     "dovecot-keywords" };
	AUTO_FD int fd = io_open_beneath(control, dir, O_RDONLY | O_DIRECTORY);
	int ret = 0;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(names); i++) {
		ret = io_unlink(fd, names[i], 0);
		if (ret == -ENOENT)
			ret = 0;
	}
	return ret;
}

int trash_put_dir(const struct user *u, const char *dir, const char *name)
{
	AUTO_FD int trash = trash_open(u);
	AUTO_FD int control = -1;
	int ret = trash < 0 ? trash : put(u->fd, dir, trash, name, ".dir");

	if (ret < 0)
		return ret;
	control = tree_open_control(u);
	if (control < 0)
		return control == -ENOENT ? 0 : control;
	ret = put(control, dir, trash, name, ".control");
	return ret == -EXDEV ? forget_control(control, dir) : ret;
}
