/*
 * Which file a message of the MBX is the copy of, by what is in them: after a
 * crash between the append and the note that it was done, and after UW has
 * numbered the mailbox anew.
 */
#include "fs/mirror_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"
#include "compat/mbxrec.h"
#include "fs/files.h"
#include "fs/folder_internal.h"

enum { CHUNK = 1 << 16 };

/* ---- octets -------------------------------------------------------------- */

static int open_found(struct folder *f, const struct file *file)
{
	AUTO_FD int dir = folder_open_dir(f, file->in_new ? "new" : "cur");

	return dir < 0 ? dir : io_open_beneath(dir, file->name, O_RDONLY);
}

/* With the lock: one that is renamed between the two is not gone. */
static int open_file(struct folder *f, const char *base)
{
	const struct file *file;
	int ret = files_lock(f);

	if (ret < 0)
		return ret;
	file = files_find(f, base);
	ret = file ? open_found(f, file) : -ENOENT;
	files_unlock(f);
	return ret;
}

struct compare {
	struct box *box;
	const struct msg *m;
	uint64_t off; /* in the MBX */
	uint8_t last;
	uint8_t in[CHUNK], want[2 * CHUNK], got[2 * CHUNK];
};

/* As an append writes it: a CR before each LF that has none. */
static size_t with_cr(struct compare *c, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (c->in[i] == '\n' && c->last != '\r')
			c->want[n++] = '\r';
		c->want[n++] = c->in[i];
		c->last = c->in[i];
	}
	return n;
}

static int read_all(struct compare *c, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = c->box->ops->read(c->box, c->m, NULL, c->got + done,
					      len - done, c->off + done);

		if (n <= 0)
			return n < 0 ? (int)n : -ENOENT;
		done += (size_t)n;
	}
	return 0;
}

static int compare(struct compare *c, int fd)
{
	uint64_t off = 0;
	ssize_t n;

	while ((n = io_read_at(fd, c->in, CHUNK, off)) > 0) {
		size_t len = with_cr(c, (size_t)n);
		int ret;

		if (len > c->m->size - c->off)
			return -ENOENT;
		ret = read_all(c, len);
		if (ret < 0)
			return ret;
		if (memcmp(c->want, c->got, len) != 0)
			return -ENOENT;
		off += (size_t)n;
		c->off += len;
	}
	if (n < 0)
		return (int)n;
	return c->off == c->m->size ? 0 : -ENOENT;
}

static int compare_octets(struct folder *f, const struct msg *m, int fd)
{
	AUTO_FREE struct compare *c = calloc(1, sizeof(*c));
	struct folder_box *b = folder_hold(f);
	int ret = -ESTALE;

	if (c && b) {
		c->box = b->box;
		c->m = m;
		ret = compare(c, fd);
	}
	folder_let_go(b);
	return c ? ret : -ENOMEM;
}

int mirror_same(struct folder *f, const struct msg *m, const char *base)
{
	AUTO_FD int fd = open_file(f, base);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (mbx_date_clamp(st.st_mtim.tv_sec) != m->date ||
	    (uint64_t)st.st_size > m->size)
		return -ENOENT;
	return compare_octets(f, m, fd);
}

bool mirror_differs(struct folder *f, const struct msg *m, const char *base)
{
	AUTO_FD int fd = open_file(f, base);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return false;
	if ((uint64_t)st.st_size > m->size)
		return true;
	if (mbx_date_clamp(st.st_mtim.tv_sec) == m->date &&
	    (uint64_t)st.st_size >= m->size / 2)
		return false;
	return compare_octets(f, m, fd) == -ENOENT;
}

/* ---- after a reset ------------------------------------------------------- */

/* A file that was in the MBX before, or was to be. */
struct candidate {
	char *base;
	int64_t date;
	struct msg was; /* its row before; uid 0: it had none */
	bool taken;
};

struct match {
	struct candidate *all; /* by date */
	size_t count, room;
};

static void forget_candidates(struct match *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->all[i].base);
	free(t->all);
	free(t);
}

void mirror_free_match(struct mirror *m)
{
	if (m->match)
		forget_candidates(m->match);
	m->match = NULL;
	for (size_t i = 0; i < m->found_count; i++)
		free(m->found[i].base);
	free(m->found);
	m->found = NULL;
	m->found_count = m->found_room = 0;
}

struct collecting {
	struct folder *f;
	struct match *t;
};

static int add_candidate(const struct journal_entry *e, void *arg)
{
	const struct collecting *c = arg;
	struct match *t = c->t;
	struct candidate *a;
	AUTO_FD int fd = open_file(c->f, e->base);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 0; /* the file is gone: its copy is a message like any */
	if (t->count == t->room) {
		size_t room = t->room ? 2 * t->room : 64;

		a = reallocarray(t->all, room, sizeof(*a));
		if (!a)
			return -ENOMEM;
		t->all = a;
		t->room = room;
	}
	a = &t->all[t->count];
	*a = (struct candidate){ .base = strdup(e->base),
				 .date = mbx_date_clamp(st.st_mtim.tv_sec) };
	if (!a->base)
		return -ENOMEM;
	if (e->sure &&
	    index_by_uid(c->f->fs->index, c->f->id.number, e->uid, &a->was) < 0)
		a->was.uid = 0;
	t->count++;
	return 0;
}

static int by_date(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return (x->date > y->date) - (x->date < y->date);
}

static struct match *collect(struct folder *f)
{
	struct collecting c = { .f = f, .t = calloc(1, sizeof(*c.t)) };
	struct journal *j = folder_journal(f);

	if (!c.t)
		return NULL;
	if (j && journal_each(j, add_candidate, &c) < 0) {
		forget_candidates(c.t);
		return NULL;
	}
	if (c.t->count > 0)
		qsort(c.t->all, c.t->count, sizeof(*c.t->all), by_date);
	return c.t;
}

/* A reset moves no octets: what lies in its place is the message. */
static bool is_in_place(const struct candidate *a, const struct msg *m)
{
	return a->was.uid != 0 && a->was.off == m->off &&
		a->was.line == m->line && a->was.size == m->size &&
		a->was.date == m->date;
}

static int remember(struct mirror *m, uint32_t uid, const char *base)
{
	struct mirror_found *found;

	if (m->found_count == m->found_room) {
		size_t room = m->found_room ? 2 * m->found_room : 64;

		found = reallocarray(m->found, room, sizeof(*found));
		if (!found)
			return -ENOMEM;
		m->found = found;
		m->found_room = room;
	}
	found = &m->found[m->found_count];
	*found = (struct mirror_found){ .uid = uid, .base = strdup(base) };
	if (!found->base)
		return -ENOMEM;
	m->found_count++;
	return 0;
}

static struct candidate *first_of(struct match *t, int64_t date)
{
	size_t lo = 0, hi = t->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (t->all[mid].date < date)
			lo = mid + 1;
		else
			hi = mid;
	}
	return t->all + lo;
}

const char *mirror_match(const struct msg *msg, void *arg)
{
	struct folder *f = arg;
	struct mirror *m = mirror_of(f);
	struct candidate *a;

	if (!m)
		return NULL;
	if (!m->match)
		m->match = collect(f);
	if (!m->match)
		return NULL;
	a = first_of(m->match, msg->date);
	for (; a < m->match->all + m->match->count && a->date == msg->date;
	     a++) {
		if (a->taken)
			continue;
		if (!is_in_place(a, msg) && mirror_same(f, msg, a->base) < 0)
			continue;
		if (remember(m, msg->uid, a->base) < 0)
			return NULL;
		a->taken = true;
		return a->base;
	}
	return "";
}

static int write_journal(struct mirror *m, uint32_t number)
{
	struct journal *j = NULL;
	int ret = folder_journal_open(m->folder, number, &j);

	for (size_t i = 0; ret == 0 && i < m->found_count; i++)
		ret = journal_in(j, m->found[i].uid, m->found[i].base);
	if (ret == 0)
		ret = journal_sync(j);
	journal_close(j);
	return ret;
}

void mirror_match_start(struct folder *f)
{
	struct mirror *m = mirror_of(f);

	if (m)
		mirror_free_match(m);
}

int mirror_renumber(struct folder *f, uint32_t number)
{
	struct mirror *m = mirror_of(f);
	char name[400];
	int ret;

	if (!m)
		return -ENOMEM;
	ret = m->found_count > 0 ? write_journal(m, number) : 0;
	if (ret == 0 && m->found_count > 0) {
		folder_log_name(f, name, sizeof(name));
		log_info("%s: of the messages that were delivered here, %zu "
			 "are in the mailbox under new numbers",
			 name, m->found_count);
	}
	mirror_free_match(m);
	/* What was not found is to be forgotten. */
	atomic_store(&f->settled, false);
	return ret;
}
