/* The ledger's files: its text is ledger_text.c's. */
#include "compat/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "compat/io.h"
#include "compat/text.h"

enum {
	LEDGER_SIZE_MAX = 64 << 20,
	NUMBER_DIGITS = 8,
	APPENDED_MAX = 64, /* lines, and as many as there are folders */
};

static const char counter_name[] = "next-folder";
static const char counter_lock[] = "next-folder.lock";

int ledger_load(int dirfd, const char *name, struct ledger *out)
{
	AUTO_FREE char *text = NULL;
	size_t len;
	int rc;

	*out = (struct ledger){ .count = 0 };
	rc = io_read_file(dirfd, name, LEDGER_SIZE_MAX, &text, &len);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	return ledger_parse(text, len, out);
}

int ledger_save(int dirfd, const char *name, const struct ledger *l)
{
	AUTO_FREE char *text = NULL;
	size_t len;
	int rc = ledger_format(l, &text, &len);

	if (rc)
		return rc;
	return io_replace_file(dirfd, name, text, len, (uid_t)-1, (gid_t)-1);
}

static int append_dirty(int dirfd, const char *name, const struct ledger *l)
{
	AUTO_FD int fd = io_open_beneath(dirfd, name, O_RDWR);
	AUTO_FREE char *text = NULL;
	struct stat st;
	size_t len;
	int rc = fd < 0 ? fd : ledger_format_dirty(l, &text, &len);

	if (rc)
		return rc;
	if (fstat(fd, &st) != 0)
		return -errno;
	rc = io_pwrite(fd, text, len, (uint64_t)st.st_size);
	return rc == 0 ? io_fsync(fd) : rc;
}

int ledger_commit(int dirfd, const char *name, struct ledger *l)
{
	size_t i, dirty = 0;
	bool append;
	int rc;

	for (i = 0; i < l->count; i++)
		dirty += l->folders[i].dirty;
	if (!dirty)
		return 0;
	append = l->whole && dirty <= l->count / 2 + 1 &&
		l->appended + dirty <= l->count + APPENDED_MAX;
	rc = append ? append_dirty(dirfd, name, l)
		    : ledger_save(dirfd, name, l);
	/* After a failure it may end in half a line. */
	l->whole = rc == 0;
	if (rc)
		return rc;
	l->appended = append ? l->appended + dirty : 0;
	for (i = 0; i < l->count; i++)
		l->folders[i].dirty = false;
	return 0;
}

/* A counter that is not there yet begins with 1; 0 means no folder. */
static int read_counter(int dirfd, uint32_t *next_out)
{
	AUTO_FREE char *text = NULL;
	uint64_t next;
	size_t len;
	int rc;

	*next_out = 1;
	rc = io_read_file(dirfd, counter_name, PATH_MAX, &text, &len);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	if (len != NUMBER_DIGITS + 1 || text[NUMBER_DIGITS] != '\n' ||
	    text_hex((const uint8_t *)text, NUMBER_DIGITS, &next) != 0 ||
	    next == 0 || next > (uint64_t)INT32_MAX + 1)
		return -EBADMSG;
	*next_out = (uint32_t)next;
	return 0;
}

int ledger_number(int dirfd, uint32_t count, uint32_t *first_out)
{
	AUTO_FD int lock = -1;
	char text[NUMBER_DIGITS + 2];
	uint32_t next;
	int rc;

	/* Not the counter itself: that is replaced by a rename. */
	lock = io_open_beneath(dirfd, counter_lock, O_RDWR | O_CREAT);
	if (lock < 0)
		return lock;
	do {
		rc = flock(lock, LOCK_EX);
	} while (rc != 0 && errno == EINTR);
	if (rc != 0)
		return -errno;
	rc = read_counter(dirfd, &next);
	if (rc)
		return rc;
	if (count > (uint32_t)INT32_MAX + 1 - next)
		return -EOVERFLOW;
	(void)snprintf(text, sizeof(text), "%08" PRIx32 "\n", next + count);
	rc = io_replace_file(dirfd, counter_name, text, strlen(text), (uid_t)-1,
			     (gid_t)-1);
	if (rc == 0)
		*first_out = next;
	return rc;
}

int ledger_guid(char *out)
{
	uint8_t raw[16];

	if (getrandom(raw, sizeof(raw), 0) != sizeof(raw))
		return -EIO;
	for (size_t i = 0; i < sizeof(raw); i++)
		(void)snprintf(out + 2 * i, 3, "%02x", raw[i]);
	return 0;
}
