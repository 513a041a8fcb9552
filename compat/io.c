#include "compat/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "compat/identity.h"
#include "compat/log.h"
#include "compat/text.h"

enum { STOPPED = 100 };

static atomic_ulong steps;
static unsigned long stop_at;
static const char *count_from;

#ifndef JANUSMAIL_NO_TESTS
/* Without getenv(3), which is not for programs with threads. */
static const char *environment(const char *name)
{
	size_t len = strlen(name);
	char **e;

	for (e = environ; *e; e++) {
		if (strncmp(*e, name, len) == 0 && (*e)[len] == '=')
			return *e + len + 1;
	}
	return NULL;
}
#endif

void io_stop_init(void)
{
#ifndef JANUSMAIL_NO_TESTS
	const char *at = environment("IO_STOP_AT");

	stop_at = at ? strtoul(at, NULL, 10) : 0;
	count_from = environment("IO_STOP_FROM");
#endif
	atomic_store(&steps, 0);
}

/* @name shows the call in the log of a stopped program. */
void io_step(const char *name)
{
	if (stop_at == 0 || (count_from && access(count_from, F_OK) != 0))
		return;
	if (atomic_fetch_add(&steps, 1) + 1 == stop_at) {
		if (count_from)
			log_info("stopped before step %lu: %s", stop_at, name);
		_exit(STOPPED);
	}
}

static bool has_dotdot(const char *path)
{
	const char *p = path;

	while (p) {
		p += *p == '/';
		if (strncmp(p, "..", 2) == 0 && (p[2] == '/' || !p[2]))
			return true;
		p = strchr(p, '/');
	}
	return false;
}

/* With O_PATH|O_NOFOLLOW the kernel opens a last symlink as itself. */
static int refuse_symlink(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && !S_ISLNK(st.st_mode))
		return fd;
	(void)close(fd);
	return -ELOOP;
}

static int openat2_retry(int dirfd, const char *path, struct open_how *how)
{
	int tries = 16;
	long fd;

	do {
		/* EAGAIN: a rename or mount elsewhere spoilt the proof that
		 * the walk stayed beneath. */
		fd = syscall(SYS_openat2, dirfd, path, how, sizeof(*how));
	} while (fd < 0 && (errno == EINTR || (errno == EAGAIN && --tries)));
	return fd < 0 ? -errno : (int)fd;
}

static int open_resolved(int dirfd, const char *path, int flags,
			 unsigned long long resolve)
{
	struct open_how how = {
		.resolve = resolve | RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS |
			RESOLVE_NO_MAGICLINKS,
	};
	int fd;

	if (has_dotdot(path))
		return -EXDEV;
	if (!*path)
		path = ".";
	flags |= O_CLOEXEC | O_NOFOLLOW;
	how.flags = (unsigned)flags;
	if (flags & O_PATH) {
		fd = openat2_retry(dirfd, path, &how);
		return fd < 0 ? fd : refuse_symlink(fd);
	}
	how.flags |= O_NONBLOCK | O_NOCTTY;
	if (flags & O_CREAT) {
		how.mode = 0600;
		io_step("create");
	}
	if ((flags & O_ACCMODE) != O_WRONLY)
		how.flags |= O_NOATIME;
	fd = openat2_retry(dirfd, path, &how);
	if (fd == -EPERM && (how.flags & O_NOATIME)) {
		/* Only the owner of a file may ask for that. */
		how.flags &= ~(unsigned long long)O_NOATIME;
		fd = openat2_retry(dirfd, path, &how);
	}
	return fd;
}

int io_open_beneath(int dirfd, const char *path, int flags)
{
	return open_resolved(dirfd, path, flags, 0);
}

int io_open_within(int dirfd, const char *path, int flags)
{
	return open_resolved(dirfd, path, flags, RESOLVE_NO_XDEV);
}

ssize_t io_read_at(int fd, void *buf, size_t len, uint64_t off)
{
	size_t done = 0;
	ssize_t n;

	if (off > INT64_MAX || len > INT64_MAX - off)
		return -EOVERFLOW;
	while (done < len) {
		n = pread(fd, (char *)buf + done, len - done,
			  (off_t)(off + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Until the end, wherever it has moved to since fstat(). */
static int read_all(int fd, size_t guess, size_t max, char **out,
		    size_t *len_out)
{
	size_t len = 0, room = guess + 1;
	ssize_t n;
	char *more;

	for (;;) {
		more = realloc(*out, room + 1);
		if (!more)
			return -ENOMEM;
		*out = more;
		n = io_read_at(fd, more + len, room - len, len);
		if (n < 0)
			return (int)n;
		len += (size_t)n;
		if (len > max)
			return -EFBIG;
		if (len < room)
			break;
		room = room < max / 2 ? room * 2 : max + 1;
	}
	more[len] = '\0';
	*len_out = len;
	return 0;
}

int io_absolute(const char *path, char *out, size_t size)
{
	char cwd[PATH_MAX] = "";
	size_t len;
	int ret;

	if (*path != '/' && !getcwd(cwd, sizeof(cwd)))
		return -errno;
	ret = text_path(out, size, "%s%s%s", cwd, *cwd ? "/" : "", path);
	if (ret < 0)
		return ret;
	len = strlen(out);
	while (len > 1 && out[len - 1] == '/')
		out[--len] = '\0';
	return 0;
}

static bool is_dots(const char *name)
{
	return name[0] == '.' &&
		(name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

int io_readdir(DIR *d, const struct dirent **out)
{
	do {
		errno = 0;
		/* NOLINTNEXTLINE(concurrency-mt-unsafe): see the header */
		*out = readdir(d);
	} while (*out && is_dots((*out)->d_name));
	return *out ? 0 : -errno;
}

int io_read_file(int dirfd, const char *name, size_t max, char **out,
		 size_t *len_out)
{
	AUTO_FD int fd = io_open_beneath(dirfd, name, O_RDONLY);
	struct stat st;
	int rc;

	*out = NULL;
	*len_out = 0;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	if ((uint64_t)st.st_size > max)
		return -EFBIG;
	rc = read_all(fd, (size_t)st.st_size, max, out, len_out);
	if (rc) {
		free(*out);
		*out = NULL;
	}
	return rc;
}

static int write_all(int fd, const void *data, size_t len)
{
	const char *p = data;
	ssize_t n;

	io_step("write");
	while (len) {
		n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int io_set_owner(int fd, uid_t uid, gid_t gid)
{
	struct stat st;

	if (uid == (uid_t)-1 && gid == (gid_t)-1)
		return 0;
	if (fstat(fd, &st) != 0)
		return -errno;
	if ((uid == (uid_t)-1 || st.st_uid == uid) &&
	    (gid == (gid_t)-1 || st.st_gid == gid))
		return 0;
	io_step("chown");
	return fchown(fd, uid, gid) == 0 ? 0 : -errno;
}

static int write_new(int dirfd, const char *name, const void *data, size_t len,
		     uid_t uid, gid_t gid)
{
	AUTO_FD int fd = -1;
	int rc;

	io_step("create");
	fd = openat(dirfd, name,
		    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	rc = write_all(fd, data, len);
	if (rc == 0)
		rc = io_set_owner(fd, uid, gid);
	if (rc)
		return rc;
	io_step("fsync");
	if (fsync(fd) != 0)
		return -errno;
	/* Some filesystems report a full disk here and nowhere else. */
	return close(base_steal_fd(&fd)) == 0 ? 0 : -errno;
}

int io_replace_file(int dirfd, const char *name, const void *data, size_t len,
		    uid_t uid, gid_t gid)
{
	char tmp[NAME_MAX + 1];
	int rc = text_path(tmp, sizeof(tmp), "%s.tmp", name);

	if (rc)
		return rc;
	rc = write_new(dirfd, tmp, data, len, uid, gid);
	if (rc == -EEXIST) {
		/* Left by a crash. Unlinked, not truncated: in a directory of
		 * the user it could be a link to anything. */
		rc = io_unlink(dirfd, tmp, 0);
		if (rc == 0)
			rc = write_new(dirfd, tmp, data, len, uid, gid);
	}
	if (rc == 0)
		rc = io_rename(dirfd, tmp, dirfd, name, 0);
	if (rc == 0)
		return io_fsync_dir(dirfd);
	if (rc != -EEXIST)
		(void)unlinkat(dirfd, tmp, 0);
	return rc;
}

/* In a parent where nobody else can put another directory in its place. */
static int give_dir(int dirfd, const char *name, mode_t mode, uid_t uid,
		    gid_t gid)
{
	AUTO_FD int fd = io_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) != 0)
		return -errno;
	if (st.st_uid != 0)
		return 0;
	if ((st.st_mode & 07777) != mode) {
		io_step("chmod");
		if (fchmod(fd, mode) != 0)
			return -errno;
	}
	return io_set_owner(fd, uid, gid);
}

static bool can_write(int dirfd, uid_t uid)
{
	struct stat st;

	return fstatat(dirfd, "", &st, AT_EMPTY_PATH) != 0 ||
		st.st_uid == uid || (st.st_mode & S_IWOTH);
}

/*
 * Under the identity of its owner a directory is right from its birth; that
 * does for everything below a user's root. The root itself lies where the user
 * cannot write: mkdir, then chown, and a crash between the two is healed by
 * the next call, which still says -EEXIST.
 */
int io_mkdir(int dirfd, const char *name, mode_t mode, uid_t uid, gid_t gid)
{
	bool other = geteuid() == 0 && uid != (uid_t)-1 && uid != 0;
	struct identity was;
	int rc, made;

	io_step("mkdir");
	if (other && can_write(dirfd, uid)) {
		was = identity_enter(uid, gid);
		if (was.err)
			return was.err;
		rc = mkdirat(dirfd, name, mode) == 0 ? 0 : -errno;
		identity_leave(was);
		return rc;
	}
	made = mkdirat(dirfd, name, other ? 0700 : mode) == 0 ? 0 : -errno;
	if (!other || (made && made != -EEXIST))
		return made;
	rc = give_dir(dirfd, name, mode, uid, gid);
	return rc && rc != -ENOTDIR ? rc : made;
}

int io_fsync_dir(int dirfd)
{
	AUTO_FD int fd = -1;
	int rc;

	io_step("fsync dir");
	rc = fsync(dirfd);
	if (rc != 0 && errno == EBADF) { /* O_PATH */
		fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		rc = fsync(fd);
	}
	/* EINVAL: this filesystem has no such thing. */
	return rc == 0 || errno == EINVAL ? 0 : -errno;
}

int io_rename(int from_dir, const char *from, int to_dir, const char *to,
	      unsigned flags)
{
	io_step("rename");
	return renameat2(from_dir, from, to_dir, to, flags) == 0 ? 0 : -errno;
}

int io_rename_new(int from_dir, const char *from, int to_dir, const char *to)
{
	int ret = io_rename(from_dir, from, to_dir, to, RENAME_NOREPLACE);
	struct stat st;

	if (ret != -EINVAL)
		return ret;
	if (fstatat(to_dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return io_rename(from_dir, from, to_dir, to, 0);
}

int io_link(int from_dir, const char *from, int to_dir, const char *to)
{
	io_step("link");
	return linkat(from_dir, from, to_dir, to, 0) == 0 ? 0 : -errno;
}

int io_link_fd(int fd, int to_dir, const char *to)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	io_step("link fd");
	return linkat(AT_FDCWD, path, to_dir, to, AT_SYMLINK_FOLLOW) == 0
		? 0
		: -errno;
}

int io_unlink(int dirfd, const char *name, int flags)
{
	io_step("unlink");
	return unlinkat(dirfd, name, flags) == 0 ? 0 : -errno;
}

int io_pwrite(int fd, const void *data, size_t len, uint64_t off)
{
	const char *p = data;
	ssize_t n;

	if (off > INT64_MAX || len > INT64_MAX - off)
		return -EOVERFLOW;
	io_step("pwrite");
	while (len) {
		n = pwrite(fd, p, len, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int io_truncate(int fd, uint64_t size)
{
	if (size > INT64_MAX)
		return -EOVERFLOW;
	io_step("truncate");
	return ftruncate(fd, (off_t)size) == 0 ? 0 : -errno;
}

int io_reserve(int fd, uint64_t off, uint64_t len)
{
	int rc;

	if (off > INT64_MAX || len > INT64_MAX - off)
		return -EFBIG;
	io_step("reserve");
	do {
		rc = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
	} while (rc != 0 && errno == EINTR);
	return rc == 0 || errno == EOPNOTSUPP ? 0 : -errno;
}

int io_fsync(int fd)
{
	io_step("fsync");
	return fsync(fd) == 0 ? 0 : -errno;
}

int io_sync_fs(int fd)
{
	io_step("syncfs");
	return syncfs(fd) == 0 ? 0 : -errno;
}

int io_scratch(const char *dir, uint64_t size)
{
	AUTO_FD int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int err;

	if (fd < 0)
		fd = memfd_create("scratch", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = size > INT64_MAX ? EFBIG : posix_fallocate(fd, 0, (off_t)size);
	return err ? -err : base_steal_fd(&fd);
}

enum { NS = 1000000000 };

int64_t io_ns(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * NS + ts->tv_nsec;
}

int io_set_times(int fd, const struct timespec times[2])
{
	io_step("set times");
	return futimens(fd, times) == 0 ? 0 : -errno;
}

int io_set_mtime(int fd, int64_t ns)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 0 } };
	int64_t rest = ns % NS;

	ts[1].tv_sec = (time_t)(ns / NS - (rest < 0));
	ts[1].tv_nsec = (long)(rest < 0 ? rest + NS : rest);
	io_step("set mtime");
	return futimens(fd, ts) == 0 ? 0 : -errno;
}

/* Numbers from linux/magic.h and, where that lacks them, from the sources of
 * the filesystems. */
static const struct {
	uint32_t type;
	bool network;
	const char *name;
} filesystems[] = {
	{ 0x6969, true, "nfs" },	  { 0x517b, true, "smb" },
	{ 0xff534d42, true, "cifs" },	  { 0xfe534d42, true, "smb2" },
	{ 0x5346414f, true, "afs" },	  { 0x6b414653, true, "kafs" },
	{ 0x00c36400, true, "ceph" },	  { 0x7461636f, true, "ocfs2" },
	{ 0x01161970, true, "gfs2" },	  { 0x0bd00bd0, true, "lustre" },
	{ 0x01021997, true, "9p" },	  { 0x73757245, true, "coda" },
	{ 0x47504653, true, "gpfs" },	  { 0xaad7aaea, true, "panfs" },
	{ 0x19830326, true, "fhgfs" },	  { 0x786f4256, true, "vboxsf" },
	{ 0x20030528, true, "orangefs" }, { 0x65735546, false, "fuse" },
};

bool io_is_network_type(uint32_t type, const char **name_out)
{
	*name_out = "local";
	for (size_t i = 0; i < ARRAY_LEN(filesystems); i++) {
		if (filesystems[i].type == type) {
			*name_out = filesystems[i].name;
			return filesystems[i].network;
		}
	}
	return false;
}

bool io_is_network_fs(int fd, const char **name_out)
{
	struct statfs sf;

	*name_out = "local";
	return fstatfs(fd, &sf) == 0 &&
		io_is_network_type((uint32_t)sf.f_type, name_out);
}
