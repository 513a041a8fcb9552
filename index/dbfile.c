#include "index/dbfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "compat/io.h"

/*
 * What LMDB itself does not check. Offsets in its file, in the machine's byte
 * order; W is the size of a pointer. Source: LMDB 0.9 lmdb.c, MDB_page,
 * MDB_meta, MDB_db; the same in all of 0.9.
 *
 *	page	  0	W    page number
 *		  W+2	2    flags, 0x08: a meta page
 *	meta	  0	4    0xbeefc0de		  4	4    version, 1
 *	(at W+8)  8+W	W    size of the map
 *		  8+2W	4    size of a page
 *		 24+12W	W    last page used	 24+13W	W    transaction number
 *
 * The two meta pages are pages 0 and 1; the later transaction counts.
 */
enum {
	W = sizeof(size_t),
	META = W + 8,
	META_FLAGS = W + 2,
	META_MAP = META + 8 + W,
	META_PAGE_SIZE = META + 8 + 2 * W,
	META_LAST = META + 24 + 12 * W,
	META_TXN = META + 24 + 13 * W,
	META_END = META_TXN + W,
};

struct meta {
	uint32_t page_size;
	size_t map, last, txn;
};

static int read_meta(int fd, uint64_t off, struct meta *out)
{
	uint8_t p[META_END];
	uint32_t magic, version;
	uint16_t flags;
	ssize_t n = io_read_at(fd, p, sizeof(p), off);

	if (n < 0)
		return (int)n;
	if (n < (ssize_t)sizeof(p))
		return -EUCLEAN;
	memcpy(&flags, p + META_FLAGS, sizeof(flags));
	memcpy(&magic, p + META, sizeof(magic));
	memcpy(&version, p + META + 4, sizeof(version));
	memcpy(&out->map, p + META_MAP, W);
	memcpy(&out->page_size, p + META_PAGE_SIZE, 4);
	memcpy(&out->last, p + META_LAST, W);
	memcpy(&out->txn, p + META_TXN, W);
	if (!(flags & 0x08) || magic != 0xbeefc0de || version != 1)
		return -EUCLEAN;
	if (out->page_size < 512 || out->page_size > 65536 ||
	    (out->page_size & (out->page_size - 1)) != 0)
		return -EUCLEAN;
	return 0;
}

static int check_length(const struct meta *m, uint64_t size)
{
	uint64_t need;

	if (m->map > DBFILE_MAP_MAX || m->last < 1)
		return -EUCLEAN;
	if (__builtin_add_overflow((uint64_t)m->last, 1, &need) ||
	    __builtin_mul_overflow(need, m->page_size, &need) || need > size)
		return -EUCLEAN;
	return 0;
}

/* -ENOENT: nothing there yet */
static int check_fd(int fd)
{
	struct meta meta[2];
	struct stat st;
	int err;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EUCLEAN;
	if (st.st_size == 0)
		return -ENOENT;
	err = read_meta(fd, 0, &meta[0]);
	if (!err)
		err = read_meta(fd, meta[0].page_size, &meta[1]);
	if (err)
		return err;
	if (meta[1].page_size != meta[0].page_size)
		return -EUCLEAN;
	return check_length(&meta[meta[1].txn > meta[0].txn],
			    (uint64_t)st.st_size);
}

int dbfile_check(const char *dir, enum db_mode mode)
{
	static const struct timespec moment = { .tv_nsec = 20000000 };
	AUTO_FD int dirfd =
		open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	AUTO_FD int fd = -1;
	int err;

	if (dirfd < 0)
		return -errno;
	fd = io_open_beneath(dirfd, "data.mdb", O_RDONLY);
	if (fd == -ELOOP)
		return -EUCLEAN;
	if (fd < 0)
		return fd;
	err = check_fd(fd);
	if (err != -EUCLEAN || mode == DB_WRITE)
		return err;
	/* The owner may have been at pad_file(). */
	(void)nanosleep(&moment, NULL);
	return check_fd(fd);
}
