/*
 * io.h - every system call that changes a disk, and reading without a trace.
 *
 * One seam: durability is decided here, and tests stop the program here.
 * IO_STOP_AT=n in the environment makes the process exit with status 100 just
 * before its n-th disk-changing call; with IO_STOP_FROM=file, too, calls count
 * only while that file exists (io_stop_init() reads both; builds with
 * -DJANUSMAIL_NO_TESTS do not react to them).
 */
#pragma once

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include "compat/base.h"

/**
 * io_open_beneath - open @path below directory @dirfd, nothing above it
 * No symlink in any part of the path, no magic link, no "..", no blocking on a
 * FIFO, no controlling terminal, no atime change where we may ask for that.
 * @path: "" or "." is @dirfd itself, opened anew
 * @flags: O_RDONLY, O_RDWR, O_PATH, O_DIRECTORY...; a new file gets mode 0600
 *
 * Return: a descriptor (close-on-exec); -ELOOP for a symlink; -EXDEV for a
 * path that leaves @dirfd or has a ".."; -errno.
 */
MUST_CHECK int io_open_beneath(int dirfd, const char *path, int flags);

/** io_open_within - the same on the mount that @dirfd lies on; a path onto
 * another one, be it of the same filesystem, gives -EXDEV */
MUST_CHECK int io_open_within(int dirfd, const char *path, int flags);

/** io_read_at - pread() until @len octets or the end of the file; restarted
 * after signals. Return: octets; -errno. */
MUST_CHECK ssize_t io_read_at(int fd, void *buf, size_t len, uint64_t off);

/** io_absolute - @path, from the root of the tree, without slashes at its end
 * Return: 0; -ENAMETOOLONG; -errno */
MUST_CHECK int io_absolute(const char *path, char *out, size_t size);

/**
 * io_readdir - the next entry of a stream that only this thread reads
 * @out: NULL at the end; "." and ".." are left out
 * Return: 0; -errno.
 */
MUST_CHECK int io_readdir(DIR *d, const struct dirent **out);

/** io_read_file - a whole small regular file into memory, NUL-terminated
 * @max: larger files give -EFBIG
 * @out: to be freed by the caller. Return: 0; -errno. */
MUST_CHECK int io_read_file(int dirfd, const char *name, size_t max, char **out,
			    size_t *len_out);

/**
 * io_replace_file - write a file of mode 0600 as a whole, or not at all
 * Writes @name.tmp beside it, fsyncs, renames over @name, fsyncs @dirfd.
 * @name: one component
 * @uid, @gid: owner of the new file; (uid_t)-1 leaves it
 *
 * Return: 0; -errno, and the old file is still there (or, when only the fsync
 * of @dirfd failed, the new one).
 */
MUST_CHECK int io_replace_file(int dirfd, const char *name, const void *data,
			       size_t len, uid_t uid, gid_t gid);

/** io_mkdir - make a directory owned by @uid:@gid; -EEXIST if it is there
 * @uid: (uid_t)-1 leaves it; only root can give it to somebody else */
MUST_CHECK int io_mkdir(int dirfd, const char *name, mode_t mode, uid_t uid,
			gid_t gid);
MUST_CHECK int io_fsync_dir(int dirfd);
MUST_CHECK int io_rename(int from_dir, const char *from, int to_dir,
			 const char *to, unsigned flags);
MUST_CHECK int io_link(int from_dir, const char *from, int to_dir,
		       const char *to);
/** io_rename_new - rename, never over another file. Where the filesystem
 * cannot promise that, somebody who makes the name at this very moment is not
 * kept out. Return: 0; -EEXIST; -errno */
MUST_CHECK int io_rename_new(int from_dir, const char *from, int to_dir,
			     const char *to);
/** io_link_fd - one more name for the file @fd, which may be O_PATH */
MUST_CHECK int io_link_fd(int fd, int to_dir, const char *to);
MUST_CHECK int io_unlink(int dirfd, const char *name, int flags);
/** io_pwrite - all @len octets at @off, one step however many writes it takes
 * Return: 0; -errno, and some of them may have been written. */
MUST_CHECK int io_pwrite(int fd, const void *data, size_t len, uint64_t off);
MUST_CHECK int io_truncate(int fd, uint64_t size);
MUST_CHECK int io_fsync(int fd);
/** io_sync_fs - make durable all that was written to the filesystem of @fd, by
 * whomever: for many files this is far less work than fsync() of each */
MUST_CHECK int io_sync_fs(int fd);
/** io_set_owner - no step if it is that already; (uid_t)-1 leaves it */
MUST_CHECK int io_set_owner(int fd, uid_t uid, gid_t gid);
/** io_reserve - room on the disk for @len octets at @off, behind the end of the
 * file as well; its size stays. 0 also where a filesystem cannot do that */
MUST_CHECK int io_reserve(int fd, uint64_t off, uint64_t len);
/** io_set_times - atime and mtime, as futimens(2) takes them */
MUST_CHECK int io_set_times(int fd, const struct timespec times[2]);
/** io_set_mtime - set mtime to @ns since the epoch; atime is left alone */
MUST_CHECK int io_set_mtime(int fd, int64_t ns);

/**
 * io_scratch - a file without a name, to work in and to forget
 * In @dir if its filesystem can do that, else in memory. Its room is allocated,
 * so writing through a mapping does not hit a full disk. No step: nothing of it
 * outlives the process.
 * Return: a descriptor; -errno.
 */
MUST_CHECK int io_scratch(const char *dir, uint64_t size);

/** io_is_network_fs - whether @fd lies on a filesystem of another host, where
 * neither LMDB nor UW's locks work; @name_out: its name, static; FUSE is not
 * counted among them */
bool io_is_network_fs(int fd, const char **name_out);
/** io_is_network_type - the same of what statfs(2) calls f_type */
bool io_is_network_type(uint32_t type, const char **name_out);

/** io_ns - a timespec as nanoseconds since the epoch */
int64_t io_ns(const struct timespec *ts);

/** io_stop_init - read IO_STOP_AT; call once, before threads exist */
void io_stop_init(void);
/** io_step - a change to a disk that a library makes for us comes now
 * @name: for people */
void io_step(const char *name);
