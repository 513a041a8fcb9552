#include "fixture.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

static void remove_dir(void)
{
	(void)nftw(dir_path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *fixture_dir(void)
{
	if (dir_path[0])
		return dir_path;
	(void)snprintf(dir_path, sizeof(dir_path), "/tmp/janusmail-test-XXXXXX");
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
