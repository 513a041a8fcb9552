#include "compat/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/journaltab.h"

enum {
	JOURNAL_SIZE_MAX = 1 << 30,
	LINES_MIN = 1000, /* fewer are not worth a new file */
};

struct journal {
	pthread_mutex_t lock;
	int dirfd;
	char *name;
	uid_t uid;
	gid_t gid;
	struct journaltab tab;
	/* Open from the first line to journal_sync(): there may be a journal
	 * for each of very many folders. */
	int fd;
	uint64_t end;  /* where the next line goes */
	bool torn;     /* there may be something behind it */
	bool missing;  /* the file is to be made */
	bool dirty;    /* lines are not durable */
	uint64_t outs; /* bases that such lines drop, by a bit of their hash */
	size_t next_try; /* lines; a replacement that failed waits */
};

static void close_file(struct journal *j)
{
	if (j->fd >= 0)
		(void)close(j->fd);
	j->fd = -1;
}

static int load(struct journal *j)
{
	AUTO_FREE char *text = NULL;
	size_t len, used;
	int rc = io_read_file(j->dirfd, j->name, JOURNAL_SIZE_MAX, &text, &len);

	if (rc == -ENOENT) {
		j->missing = true;
		return 0;
	}
	if (rc == 0)
		rc = journaltab_parse(&j->tab, text, len, &used);
	if (rc)
		return rc;
	j->end = used;
	j->torn = used != len;
	return 0;
}

int journal_open(int dirfd, const char *name, uid_t uid, gid_t gid,
		 struct journal **out)
{
	struct journal *j = calloc(1, sizeof(*j));
	int rc;

	if (!j)
		return -ENOMEM;
	*j = (struct journal){
		.uid = uid, .gid = gid, .fd = -1, .next_try = LINES_MIN
	};
	(void)pthread_mutex_init(&j->lock, NULL);
	j->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 0);
	rc = j->dirfd < 0 ? -errno : 0;
	j->name = strdup(name);
	if (rc == 0)
		rc = j->name ? journaltab_init(&j->tab) : -ENOMEM;
	if (rc == 0)
		rc = load(j);
	if (rc) {
		journal_close(j);
		return rc;
	}
	*out = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (!j)
		return;
	close_file(j);
	if (j->dirfd >= 0)
		(void)close(j->dirfd);
	journaltab_fini(&j->tab);
	free(j->name);
	(void)pthread_mutex_destroy(&j->lock);
	free(j);
}

/* Whether the file there is another one than @old; -1: none was open. */
static bool is_other_file(const struct journal *j, int old)
{
	struct stat was, is;

	return old < 0 || fstat(old, &was) != 0 ||
		fstatat(j->dirfd, j->name, &is, AT_SYMLINK_NOFOLLOW) != 0 ||
		was.st_ino != is.st_ino || was.st_dev != is.st_dev;
}

/* The file as the tables are. */
static int replace(struct journal *j)
{
	AUTO_FREE char *text = NULL;
	size_t len;
	int rc = journaltab_format(&j->tab, &text, &len);

	if (rc)
		return rc;
	rc = io_replace_file(j->dirfd, j->name, text, len, j->uid, j->gid);
	/* The new file may be there even if it is not known to be durable. */
	if (rc && !is_other_file(j, j->fd))
		return rc;
	close_file(j);
	j->missing = rc != 0; /* which one it is does not matter then */
	if (rc)
		return rc;
	j->torn = false;
	j->dirty = false;
	j->outs = 0;
	j->end = len;
	j->tab.lines = journaltab_live(&j->tab);
	return 0;
}

/* The file ready for a line at j->end. */
static int open_file(struct journal *j)
{
	struct stat st;
	int rc = 0;

	if (j->missing)
		rc = replace(j);
	if (rc || j->fd >= 0)
		return rc;
	j->fd = io_open_beneath(j->dirfd, j->name, O_RDWR);
	if (j->fd < 0 && j->fd != -ENOENT) {
		rc = j->fd;
		j->fd = -1;
		return rc;
	}
	/* Somebody removed or emptied it: what we know is more. */
	if (j->fd < 0 ||
	    (fstat(j->fd, &st) == 0 && (uint64_t)st.st_size < j->end)) {
		close_file(j);
		rc = replace(j);
		if (rc)
			return rc;
		j->fd = io_open_beneath(j->dirfd, j->name, O_RDWR);
	}
	rc = j->fd < 0 ? j->fd : 0;
	if (rc)
		j->fd = -1;
	return rc;
}

static int append(struct journal *j, const char *line, size_t len)
{
	int rc = open_file(j);

	if (rc == 0 && j->torn)
		rc = io_truncate(j->fd, j->end);
	if (rc)
		return rc;
	j->torn = true;
	rc = io_pwrite(j->fd, line, len, j->end);
	if (rc)
		return rc;
	j->torn = false;
	j->dirty = true;
	j->end += len;
	j->tab.lines++;
	return 0;
}

/* After the change is in the tables. A failure is no harm: the old file says
 * the same in more lines. */
static void tidy(struct journal *j)
{
	size_t lines = j->tab.lines;

	if (lines < j->next_try || journaltab_live(&j->tab) > lines / 2)
		return;
	j->next_try = replace(j) == 0 ? LINES_MIN : lines * 2;
}

/* Another file is in the MBX under that UID. */
static bool is_taken(const struct journal *j, const struct journaltab_node *n)
{
	const struct journaltab_node *old = journaltab_by_uid(&j->tab, n->uid);

	return *n->base && !n->sure && old && old->sure &&
		strcmp(old->base, n->base) != 0;
}

static int put(struct journal *j, struct journaltab_node *n)
{
	char line[JOURNALTAB_LINE];
	int rc;

	if (!n)
		return -ENOMEM;
	(void)pthread_mutex_lock(&j->lock);
	rc = is_taken(j, n) ? -EEXIST
			    : append(j, line, journaltab_line(n, line));
	if (rc == 0) {
		if (*n->base)
			journaltab_put(&j->tab, n);
		else
			journaltab_put_letters(&j->tab, n);
		tidy(j);
	}
	(void)pthread_mutex_unlock(&j->lock);
	if (rc)
		free(n);
	return rc;
}

static int put_entry(struct journal *j, uint32_t uid, const char *base,
		     bool sure)
{
	struct journaltab_node *n;
	uint32_t old;
	bool old_sure;

	if (!uid || !journaltab_is_base(base))
		return -EINVAL;
	if (journal_by_base(j, base, &old, &old_sure) && old == uid &&
	    old_sure == sure)
		return 0;
	n = journaltab_new(base, uid);
	if (n)
		n->sure = sure;
	return put(j, n);
}

int journal_try(struct journal *j, uint32_t uid, const char *base)
{
	return put_entry(j, uid, base, false);
}

int journal_in(struct journal *j, uint32_t uid, const char *base)
{
	return put_entry(j, uid, base, true);
}

/* With the lock. */
static int make_durable(struct journal *j)
{
	int rc = 0;

	if (j->dirty && !j->missing) {
		rc = io_fsync(j->fd);
		/* What a later fsync says about these lines is worth nothing:
		 * the file is written anew. */
		j->missing = rc != 0;
		j->dirty = rc != 0;
	} else if (j->dirty) {
		rc = replace(j);
	}
	if (rc)
		return rc;
	j->outs = 0;
	close_file(j);
	return 0;
}

static uint64_t bit_of(const char *base)
{
	uint64_t h = 5381;

	for (; *base; base++)
		h = h * 33 + (uint8_t)*base;
	return UINT64_C(1) << ((h ^ h >> 7) % 64);
}

/* With the lock. */
static int drop(struct journal *j, const char *base)
{
	char line[JOURNALTAB_LINE];
	int rc;

	if (!journaltab_by_base(&j->tab, base))
		return 0;
	rc = append(j, line, journaltab_out_line(base, line));
	if (rc)
		return rc;
	j->outs |= bit_of(base);
	(void)journaltab_drop(&j->tab, base);
	tidy(j);
	return 0;
}

int journal_out(struct journal *j, const char *base)
{
	int rc;

	(void)pthread_mutex_lock(&j->lock);
	rc = drop(j, base);
	(void)pthread_mutex_unlock(&j->lock);
	return rc;
}

int journal_clear(struct journal *j, const char *base)
{
	int rc;

	(void)pthread_mutex_lock(&j->lock);
	rc = drop(j, base);
	if (rc == 0 && (j->outs & bit_of(base)))
		rc = make_durable(j);
	(void)pthread_mutex_unlock(&j->lock);
	return rc;
}

int journal_set_letters(struct journal *j, uint32_t uid, uint32_t letters)
{
	struct journaltab_node *n;

	if (!uid || letters >> 26)
		return -EINVAL;
	if (journal_letters(j, uid) == letters)
		return 0;
	n = journaltab_new("", uid);
	if (n)
		n->letters = letters;
	return put(j, n);
}

int journal_sync(struct journal *j)
{
	int rc;

	(void)pthread_mutex_lock(&j->lock);
	rc = make_durable(j);
	(void)pthread_mutex_unlock(&j->lock);
	return rc;
}

bool journal_by_base(struct journal *j, const char *base, uint32_t *uid_out,
		     bool *sure_out)
{
	const struct journaltab_node *n;

	(void)pthread_mutex_lock(&j->lock);
	n = journaltab_by_base(&j->tab, base);
	if (n) {
		*uid_out = n->uid;
		*sure_out = n->sure;
	}
	(void)pthread_mutex_unlock(&j->lock);
	return n;
}

bool journal_by_uid(struct journal *j, uint32_t uid, char *base_out,
		    bool *sure_out)
{
	const struct journaltab_node *n;

	(void)pthread_mutex_lock(&j->lock);
	n = journaltab_by_uid(&j->tab, uid);
	if (n) {
		memcpy(base_out, n->base, strlen(n->base) + 1);
		*sure_out = n->sure;
	}
	(void)pthread_mutex_unlock(&j->lock);
	return n;
}

uint32_t journal_letters(struct journal *j, uint32_t uid)
{
	const struct journaltab_node *n;
	uint32_t letters;

	(void)pthread_mutex_lock(&j->lock);
	n = journaltab_letters(&j->tab, uid);
	letters = n ? n->letters : 0;
	(void)pthread_mutex_unlock(&j->lock);
	return letters;
}

uint32_t journal_all_letters(struct journal *j, uint64_t *count_out)
{
	const struct journaltab_node *n = NULL;
	uint32_t letters = 0;

	(void)pthread_mutex_lock(&j->lock);
	while ((n = journaltab_next(&j->tab.letters, n)))
		letters |= n->letters;
	*count_out = j->tab.letters.count;
	(void)pthread_mutex_unlock(&j->lock);
	return letters;
}

/* The entries, and behind them the names they point at. */
static struct journal_entry *copy_entries(const struct journaltab *t)
{
	const struct journaltab_node *n = NULL;
	struct journal_entry *copy, *e;
	size_t room = t->by_uid.count * sizeof(*copy);
	char *text;

	while ((n = journaltab_next(&t->by_uid, n)))
		room += strlen(n->base) + 1;
	copy = malloc(room ? room : 1);
	if (!copy)
		return NULL;
	text = (char *)(copy + t->by_uid.count);
	for (e = copy; (n = journaltab_next(&t->by_uid, n)); e++) {
		size_t len = strlen(n->base) + 1;

		memcpy(text, n->base, len);
		*e = (struct journal_entry){ text, n->uid, n->sure };
		text += len;
	}
	return copy;
}

int journal_each(struct journal *j, journal_fn *fn, void *arg)
{
	struct journal_entry *copy;
	size_t i, count;
	int rc = 0;

	(void)pthread_mutex_lock(&j->lock);
	copy = copy_entries(&j->tab);
	count = j->tab.by_uid.count;
	(void)pthread_mutex_unlock(&j->lock);
	if (!copy)
		return -ENOMEM;
	for (i = 0; rc == 0 && i < count; i++)
		rc = fn(&copy[i], arg);
	free(copy);
	return rc;
}

struct letters {
	uint32_t uid, letters;
};

int journal_each_letters(struct journal *j, journal_letters_fn *fn, void *arg)
{
	const struct journaltab_node *n = NULL;
	struct letters *copy;
	size_t i, count;
	int rc = 0;

	(void)pthread_mutex_lock(&j->lock);
	count = j->tab.letters.count;
	copy = reallocarray(NULL, count + 1, sizeof(*copy));
	for (i = 0; copy && (n = journaltab_next(&j->tab.letters, n)); i++)
		copy[i] = (struct letters){ n->uid, n->letters };
	(void)pthread_mutex_unlock(&j->lock);
	if (!copy)
		return -ENOMEM;
	for (i = 0; rc == 0 && i < count; i++)
		rc = fn(copy[i].uid, copy[i].letters, arg);
	free(copy);
	return rc;
}
