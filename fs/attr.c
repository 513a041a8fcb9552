#include "fs/attr.h"

#include <errno.h>
#include <stdio.h>

#include "fs/user.h"

enum { ROOT_INO = 1, BLOCK = 4096, SECTOR = 512 };

void attr_message(struct stat *st, const struct user *u, uint64_t ino,
		  const struct msg *m)
{
	*st = (struct stat){
		.st_ino = ino,
		.st_mode = S_IFREG | 0600,
		.st_nlink = 1,
		.st_uid = u->uid,
		.st_gid = u->gid,
		.st_size = (off_t)m->size,
		.st_blksize = BLOCK,
		.st_blocks = (blkcnt_t)((m->size + SECTOR - 1) / SECTOR),
		.st_mtim = { .tv_sec = m->date },
		.st_atim = { .tv_sec = m->date },
		.st_ctim = { .tv_sec = m->date },
	};
}

int attr_users(struct stat *st, const struct fs *fs)
{
	if (fstat(fs->store_fd, st) < 0)
		return -errno;
	st->st_ino = ROOT_INO;
	st->st_mode = S_IFDIR | 0755;
	return 0;
}

void attr_fd_path(int fd, char *out)
{
	(void)snprintf(out, 64, "/proc/self/fd/%d", fd);
}
