#include "index/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"
#include "compat/text.h"

enum {
	LINE_MAX_OCTETS = 6 + OWNER_BOOT_MAX + 1,
	SIGN_MAX = PATH_MAX + 64,
};

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

/* Octets of the first line with its end; 0 for one that was cut off. */
static size_t first_line(const char *p, size_t len)
{
	const char *end = memchr(p, '\n', len);

	return end ? (size_t)(end - p) + 1 : 0;
}

bool owner_sound(int fd, const char *boot)
{
	char got[LINE_MAX_OCTETS + 1], want[LINE_MAX_OCTETS + 1];
	ssize_t n = io_read_at(fd, got, LINE_MAX_OCTETS, 0);
	size_t len = n > 0 ? first_line(got, (size_t)n) : 0;
	size_t mark = strlen(marks[OWNER_CLEAN]);

	if (len <= mark)
		return false;
	if (memcmp(got, marks[OWNER_CLEAN], mark) == 0)
		return true;
	return *boot && format(want, OWNER_OPEN, boot) == len &&
		memcmp(got, want, len) == 0;
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

void owner_sign(int fd, const char *mountpoint)
{
	char line[SIGN_MAX + 1], word[PATH_MAX] = "";
	size_t at = 0;
	ssize_t n = io_read_at(fd, line, LINE_MAX_OCTETS, 0);
	int len;

	at = n > 0 ? first_line(line, (size_t)n) : 0;
	if (at == 0)
		return;
	if (mountpoint)
		(void)text_escape(mountpoint, strlen(mountpoint), word,
				  sizeof(word));
	len = snprintf(line, sizeof(line), "process %ld%s%s\n", (long)getpid(),
		       *word ? ", mounted on " : "", word);
	if (len < 0 || (size_t)len >= sizeof(line) ||
	    pwrite(fd, line, (size_t)len, (off_t)at) != len)
		len = 0;
	/* Of a line that was there before, nothing stays behind this one. */
	if (ftruncate(fd, (off_t)at + len) < 0)
		log_warn("index: owner: %s", strerrordesc_np(errno));
}

const char *owner_signed(int dirfd, char *out, size_t size)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	char *line = NULL;

	if (io_read_file(dirfd, "owner", LINE_MAX_OCTETS + SIGN_MAX, &text,
			 &len) == 0)
		line = strchr(text, '\n');
	if (!line || first_line(line + 1, strlen(line + 1)) <= 1)
		(void)snprintf(out, size, "another process");
	else
		(void)snprintf(out, size, "%.*s", (int)strcspn(line + 1, "\n"),
			       line + 1);
	return out;
}
