#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir_path[64];

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void fixture_remove(const char *path)
{
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): no thread changes cwd */
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void remove_dir(void)
{
	fixture_remove(dir_path);
}

static fixture_walk_fn *walk_fn;

static int walk_one(const char *path, const struct stat *st, int type,
		    struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	walk_fn(path, type == FTW_D);
	return 0;
}

void fixture_walk(const char *top, fixture_walk_fn *fn)
{
	walk_fn = fn;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): as above */
	cr_assert_eq(nftw(top, walk_one, 16, FTW_PHYS), 0);
}

const char *fixture_dir(void)
{
	if (dir_path[0])
		return dir_path;
	(void)snprintf(dir_path, sizeof(dir_path),
		       "/tmp/janusmail-test-XXXXXX");
	cr_assert_not_null(mkdtemp(dir_path));
	(void)atexit(remove_dir);
	return dir_path;
}

static void put(int fd, const void *data, size_t len)
{
	cr_assert_eq(write(fd, data, len), (ssize_t)len);
}

void fixture_write(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0, "%s", path);
	put(fd, data, len);
	(void)close(fd);
}

void fixture_mbx_header(const char *path, unsigned uidvalidity,
			unsigned uidlast, ...)
{
	char head[2048] = "";
	int n = snprintf(head, sizeof(head), "*mbx*\r\n%08x%08x\r\n",
			 uidvalidity, uidlast);
	int lines = 0;
	const char *kw;
	va_list ap;
	int fd;

	va_start(ap, uidlast);
	while ((kw = va_arg(ap, const char *))) {
		n += snprintf(head + n, sizeof(head) - (size_t)n, "%s\r\n", kw);
		lines++;
	}
	va_end(ap);
	for (; lines < 30; lines++)
		n += snprintf(head + n, sizeof(head) - (size_t)n, "\r\n");
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0, "%s", path);
	cr_assert_eq(pwrite(fd, head, sizeof(head), 0), (ssize_t)sizeof(head));
	(void)close(fd);
}

void fixture_mbx(const char *path, const char *line, const void *text,
		 size_t len)
{
	int fd;

	if (access(path, F_OK) != 0)
		fixture_mbx_header(path, 0x4b000001, 0, (char *)NULL);
	fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	cr_assert_geq(fd, 0, "%s", path);
	put(fd, line, strlen(line));
	put(fd, "\r\n", 2);
	put(fd, text, len);
	(void)close(fd);
}

const char *fixture_path(const char *name)
{
	static char ring[8][1024];
	static unsigned next;
	char *out = ring[next++ % ARRAY_LEN(ring)];

	(void)snprintf(out, sizeof(ring[0]), "%s/%s", fixture_dir(), name);
	return out;
}

void fixture_patch(const char *path, uint64_t off, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	cr_assert_geq(fd, 0, "%s", path);
	cr_assert_eq(pwrite(fd, data, len, (off_t)off), (ssize_t)len);
	(void)close(fd);
}

/* In the child: never returns, and leaves no trace in the test's own state. */
static void hold(const char *path, int how, int tell)
{
	int fd;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)umask(0);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0 || flock(fd, how | LOCK_NB) < 0 || write(tell, "", 1) != 1)
		_exit(1);
	for (;;)
		(void)pause();
}

pid_t fixture_hold(const char *path, int how)
{
	int tell[2];
	pid_t pid;
	char c;

	cr_assert_eq(pipe(tell), 0);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0)
		hold(path, how, tell[1]);
	(void)close(tell[1]);
	cr_assert_eq(read(tell[0], &c, 1), 1, "%s could not be locked", path);
	(void)close(tell[0]);
	return pid;
}

void fixture_let_go(pid_t pid)
{
	cr_assert_eq(kill(pid, SIGKILL), 0);
	(void)fixture_exit(pid);
}

int fixture_exit(pid_t pid)
{
	int status;
	pid_t got;

	do {
		got = waitpid(pid, &status, 0);
	} while (got < 0 && errno == EINTR);
	cr_assert_eq(got, pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int take(const struct msg *m, const char *name, void *arg)
{
	struct fixture_scan *out = arg;

	cr_assert_lt(out->count, (size_t)FIXTURE_MSGS);
	out->msgs[out->count] = *m;
	(void)snprintf(out->names[out->count++], FIXTURE_NAME, "%s",
		       name ? name : "");
	return 0;
}

int fixture_scan(struct box *b, struct fixture_scan *out)
{
	out->count = 0;
	return b->ops->scan(b, &out->scan, take, out);
}

bool fixture_is(struct box *b, const struct fixture_scan *got, size_t i,
		const void *text, size_t len)
{
	AUTO_FREE char *buf = malloc(len + 1);
	ssize_t n;

	cr_assert(buf && i < got->count);
	n = b->ops->read(b, &got->msgs[i], got->names[i], buf, len + 1, 0);
	return n == (ssize_t)len && got->msgs[i].size == len &&
		memcmp(buf, text, len) == 0;
}
