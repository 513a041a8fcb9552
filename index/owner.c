#include "index/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "compat/io.h"

enum { LINE_MAX_OCTETS = 6 + OWNER_BOOT_MAX + 1 };

static const char *const marks[] = {
	[OWNER_OPEN] = "open ", [OWNER_CLEAN] = "clean"
};

void owner_boot(char *out)
{
	AUTO_FD int fd = open("/proc/sys/kernel/random/boot_id",
			      O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : io_read_at(fd, out, OWNER_BOOT_MAX, 0);

	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
}

int owner_take(int dirfd, int *fd_out)
{
	AUTO_FD int fd =
		openat(dirfd, "owner",
		       O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	*fd_out = base_steal_fd(&fd);
	return 0;
}

static size_t format(char *line, enum owner_mark mark, const char *boot)
{
	int len = snprintf(line, LINE_MAX_OCTETS + 1, "%s %.*s\n", marks[mark],
			   OWNER_BOOT_MAX, boot);

	return len < 0 ? 0 : (size_t)len;
}

bool owner_sound(int fd, const char *boot)
{
	char got[LINE_MAX_OCTETS + 1], want[LINE_MAX_OCTETS + 1];
	ssize_t n = io_read_at(fd, got, LINE_MAX_OCTETS, 0);
	size_t mark = strlen(marks[OWNER_CLEAN]);

	/* A line that was cut off is no mark. */
	if (n <= (ssize_t)mark || got[n - 1] != '\n')
		return false;
	if (memcmp(got, marks[OWNER_CLEAN], mark) == 0)
		return true;
	return *boot && format(want, OWNER_OPEN, boot) == (size_t)n &&
		memcmp(got, want, (size_t)n) == 0;
}

/* In place: the lock is on this very file. It lies within one sector, and one
 * that is torn all the same is no mark. */
int owner_mark(int fd, enum owner_mark mark, const char *boot)
{
	char line[LINE_MAX_OCTETS + 1];
	size_t len = format(line, mark, boot);
	ssize_t n = pwrite(fd, line, len, 0);

	if (n < 0)
		return -errno;
	if ((size_t)n != len)
		return -EIO;
	if (ftruncate(fd, (off_t)len) < 0 || fsync(fd) < 0)
		return -errno;
	return 0;
}
