#include "fs/attr.h"

#include <errno.h>
#include <stdio.h>

#include "fs/user.h"
#include "index/index.h"

enum { ROOT_INO = 1, BLOCK = 4096, SECTOR = 512 };

void attr_message(struct stat *st, struct folder *f, const struct msg *m)
{
	*st = (struct stat){
		.st_ino = index_ino(folder_id(f).number, m->uid),
		.st_mode = S_IFREG | 0600,
		.st_nlink = 1,
		.st_uid = f->user->uid,
		.st_gid = f->user->gid,
		.st_size = (off_t)m->size,
		.st_blksize = BLOCK,
		.st_blocks = (blkcnt_t)((m->size + SECTOR - 1) / SECTOR),
		.st_mtim = { .tv_sec = m->date },
		.st_atim = { .tv_sec = m->date },
		.st_ctim = { .tv_sec = m->date },
	};
}

void attr_adjust(struct stat *st, const struct node *n)
{
	if (n->folder &&
	    (n->kind == NODE_CUR || n->kind == NODE_NEW || n->kind == NODE_TMP))
		st->st_mode = S_IFDIR | 0500;
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
