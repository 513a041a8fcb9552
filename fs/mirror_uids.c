/*
 * Dovecot's numbers. It appends to dovecot-uidlist in place, so only the tail
 * is read, unless the file is another one. The list is read without its lock:
 * half a line is left for the next time.
 */
#include "compat/clock.h"
#include "fs/mirror_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/basename.h"
#include "compat/io.h"
#include "compat/log.h"
#include "fs/files.h"
#include "fs/folder_internal.h"
#include "fs/seed.h"
#include "fs/user.h"

enum { LIST_MAX = 1 << 30, HEADER_MAX = 4096 };

/* ---- what a record means ------------------------------------------------- */

/* The base name of a record as a string; @out: NAME_MAX + 1 octets */
static bool base_of(const struct uidlist_record *r, char *out)
{
	if (r->name_len > NAME_MAX)
		return false;
	memcpy(out, r->name, r->name_len);
	out[r->name_len] = '\0';
	return true;
}

static bool is_ours(struct folder *f, const struct uidlist_record *r,
		    struct basename *b)
{
	return basename_parse(r->name, r->name_len, b) == 0 &&
		b->folder == folder_id(f).number;
}

/* The journal's UID, 0 if it has none. */
static uint32_t uid_in_mbx(struct folder *f, const char *base)
{
	struct journal *j = folder_journal(f);
	uint32_t uid;
	bool sure;

	return j && journal_by_base(j, base, &uid, &sure) && sure ? uid : 0;
}

static bool is_file(struct folder *f, const char *base)
{
	bool found;

	if (files_lock(f) < 0)
		return false;
	found = files_find(f, base) != NULL;
	files_unlock(f);
	return found;
}

/* Under the name that it has as a message of the MBX only. */
static bool is_in_mbx(struct folder *f, uint32_t uid)
{
	struct msg m;

	return index_by_uid(f->fs->index, folder_id(f).number, uid, &m) == 0;
}

/* A file that is yet to be appended, and UW has given its UID away. */
static bool is_overtaken(struct folder *f, const char *base, uint32_t uid)
{
	struct msg m;

	return index_by_uid(f->fs->index, folder_id(f).number, uid, &m) == 0 &&
		is_file(f, base);
}

bool mirror_disagrees(struct folder *f, const struct uidlist_record *r,
		      uint32_t *mbx_out, const char **why_out)
{
	char base[NAME_MAX + 1];
	struct basename b;
	struct msg m;

	*mbx_out = 0;
	if (!base_of(r, base))
		return false;
	/* A message that left the folder and came back is a file with the name
	 * that it had in the MBX. */
	if (is_ours(f, r, &b) &&
	    ((b.uid == r->uid && is_in_mbx(f, b.uid)) || !is_file(f, base))) {
		*mbx_out = b.uid;
		*why_out = "Dovecot numbered it before it was known which "
			   "number UW gives it";
		/* Records stay in the list when messages have gone. */
		return b.uid != r->uid &&
			index_by_uid(f->fs->index, folder_id(f).number, b.uid,
				     &m) == 0;
	}
	*mbx_out = uid_in_mbx(f, base);
	if (*mbx_out != 0) {
		*why_out = "UW had used Dovecot's number before it could be "
			   "appended";
		return *mbx_out != r->uid;
	}
	*why_out = "UW has given Dovecot's number to another message; it is "
		   "yet to be appended, with another one";
	return is_overtaken(f, base, r->uid);
}

/* ---- pending ------------------------------------------------------------- */

void mirror_clear_pending(struct mirror *m)
{
	(void)pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->count; i++)
		free(m->pending[i].base);
	m->count = 0;
	(void)pthread_mutex_unlock(&m->lock);
}

void mirror_drop(struct mirror *m, uint32_t uid)
{
	(void)pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->count; i++) {
		if (m->pending[i].uid != uid)
			continue;
		free(m->pending[i].base);
		m->count--;
		memmove(&m->pending[i], &m->pending[i + 1],
			(m->count - i) * sizeof(*m->pending));
		break;
	}
	(void)pthread_mutex_unlock(&m->lock);
}

/* With the lock. They come by ascending UID. */
static int append_pending(struct mirror *m, const char *base, uint32_t uid)
{
	struct pending *p;

	if (m->count == m->room) {
		size_t room = m->room ? 2 * m->room : 64;

		p = reallocarray(m->pending, room, sizeof(*p));
		if (!p)
			return -ENOMEM;
		m->pending = p;
		m->room = room;
	}
	p = &m->pending[m->count];
	*p = (struct pending){ .base = strdup(base),
			       .uid = uid,
			       .since_ms = clock_ms() };
	if (!p->base)
		return -ENOMEM;
	m->count++;
	return 0;
}

static int by_base(const void *a, const void *b)
{
	const struct pending *const *x = a, *const *y = b;
	int by_name = strcmp((*x)->base, (*y)->base);

	return by_name ? by_name
		       : ((*x)->uid > (*y)->uid) - ((*x)->uid < (*y)->uid);
}

static void leave_out(struct mirror *m, struct pending **all)
{
	size_t kept = 0;

	for (size_t i = 0; i + 1 < m->count; i++) {
		if (strcmp(all[i]->base, all[i + 1]->base) != 0)
			continue;
		free(all[i]->base);
		all[i]->uid = 0;
		all[i]->base = all[i + 1]->base; /* to compare with the next */
	}
	for (size_t i = 0; i < m->count; i++)
		if (m->pending[i].uid != 0)
			m->pending[kept++] = m->pending[i];
	m->count = kept;
}

/* A message that left and came back may be in the list twice: Dovecot goes by
 * the last record. */
static int drop_earlier(struct mirror *m)
{
	struct pending **all;
	int ret;

	if (m->folder->fs->opt->mirror_off)
		return 0;
	(void)pthread_mutex_lock(&m->lock);
	all = reallocarray(NULL, m->count + 1, sizeof(struct pending *));
	for (size_t i = 0; all && i < m->count; i++)
		all[i] = &m->pending[i];
	if (all && m->count > 1) {
		qsort(all, m->count, sizeof(struct pending *), by_base);
		leave_out(m, all);
	}
	(void)pthread_mutex_unlock(&m->lock);
	ret = all ? 0 : -ENOMEM;
	free(all);
	return ret;
}

/* ---- reading ------------------------------------------------------------- */

struct reading {
	struct mirror *m;
	uint32_t last;
	uint64_t disagreements;
};

static int take_record(const struct uidlist_record *r, void *arg)
{
	struct reading *g = arg;
	struct folder *f = g->m->folder;
	char base[NAME_MAX + 1];
	const char *why;
	uint32_t mbx;
	bool found;
	int ret;

	if (r->uid <= g->last)
		return -ESTALE; /* not the tail of what was read */
	g->last = r->uid;
	if (mirror_disagrees(f, r, &mbx, &why))
		g->disagreements++;
	if (mbx != 0 || !base_of(r, base))
		return 0;
	ret = files_lock(f);
	if (ret < 0)
		return ret;
	found = files_find(f, base) != NULL;
	files_unlock(f);
	if (!found)
		return 0;
	(void)pthread_mutex_lock(&g->m->lock);
	ret = append_pending(g->m, base, r->uid);
	(void)pthread_mutex_unlock(&g->m->lock);
	return ret;
}

/* The header's line, and what follows from @off on, as a list of its own. */
static int read_from(int fd, uint64_t off, uint64_t size, char **out,
		     size_t *len_out)
{
	AUTO_FREE char *text = NULL;
	const char *lf;
	size_t head, rest;
	ssize_t n;

	if (size > LIST_MAX || off > size)
		return size > LIST_MAX ? -EFBIG : -ESTALE;
	text = malloc(HEADER_MAX + (size_t)(size - off) + 1);
	if (!text)
		return -ENOMEM;
	n = io_read_at(fd, text, HEADER_MAX, 0);
	if (n < 0)
		return (int)n;
	lf = memchr(text, '\n', (size_t)n);
	if (!lf)
		return -EBADMSG;
	head = (size_t)(lf - text) + 1;
	if (off < head)
		off = head;
	rest = (size_t)(size - off);
	n = io_read_at(fd, text + head, rest, off);
	if (n < 0)
		return (int)n;
	/* Half a line is somebody's who is writing it. */
	rest = (size_t)n;
	while (rest > 0 && text[head + rest - 1] != '\n')
		rest--;
	*len_out = head + rest;
	*out = base_steal_ptr(&text);
	return 0;
}

static int open_list(struct folder *f, struct stat *st)
{
	AUTO_FD int dir = f->fs->opt->has_control
		? seed_open_control(f->user, f->dir)
		: folder_open_dir(f, "");
	AUTO_FD int fd = dir < 0
		? dir
		: io_open_beneath(dir, "dovecot-uidlist", O_RDONLY);

	if (fd >= 0 && fstat(fd, st) < 0)
		return -errno;
	return base_steal_fd(&fd);
}

static void note_disagreements(struct folder *f, uint64_t count, bool whole)
{
	(void)pthread_rwlock_wrlock(&f->lock);
	f->disagreements = whole ? count : f->disagreements + count;
	(void)pthread_rwlock_unlock(&f->lock);
}

/* @off: 0 reads it from its start */
static int read_list(struct mirror *m, int fd, const struct stat *st,
		     uint64_t off)
{
	struct mirror_list *l = &m->list;
	struct reading g = { .m = m, .last = off ? l->last : 0 };
	struct uidlist_header h = { .uidnext = 0 };
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	int ret;

	if (off == 0)
		mirror_clear_pending(m);
	ret = read_from(fd, off, (uint64_t)st->st_size, &text, &len);
	if (ret == 0)
		ret = uidlist_parse(text, len, &h, NULL, NULL);
	if (ret == 0 && h.uidvalidity != folder_id(m->folder).uidvalidity)
		ret = -ESTALE;
	if (ret == 0)
		ret = uidlist_parse(text, len, &h, take_record, &g);
	if (ret == 0)
		ret = drop_earlier(m);
	if (ret < 0)
		return ret;
	note_disagreements(m->folder, g.disagreements, off == 0);
	if (off == 0)
		off = len;
	else
		off += len -
			(size_t)((const char *)memchr(text, '\n', len) - text) -
			1;
	*l = (struct mirror_list){ .dev = st->st_dev,
				   .ino = st->st_ino,
				   .size = (uint64_t)st->st_size,
				   .mtime_ns = io_ns(&st->st_mtim),
				   .off = off,
				   .last = g.last,
				   .uidnext = h.uidnext > g.last ? h.uidnext
								 : g.last + 1 };
	return 0;
}

int mirror_read_list(struct mirror *m)
{
	const struct mirror_list *l = &m->list;
	uint32_t number = folder_id(m->folder).number;
	AUTO_FD int fd = -1;
	struct stat st = { .st_size = 0 };
	bool same, whole;
	int ret;

	fd = open_list(m->folder, &st);
	if (fd < 0)
		return fd;
	whole = atomic_exchange(&m->whole, false) || m->number != number;
	same = !whole && l->dev == st.st_dev && l->ino == st.st_ino;
	if (same && l->size == (uint64_t)st.st_size &&
	    l->mtime_ns == io_ns(&st.st_mtim))
		return 0;
	ret = -ESTALE;
	if (same && l->off <= (uint64_t)st.st_size)
		ret = read_list(m, fd, &st, l->off);
	if (ret == -ESTALE)
		ret = read_list(m, fd, &st, 0);
	if (ret < 0)
		atomic_store(&m->whole, true);
	else if (whole)
		m->reserved = 0;
	if (m->number != number)
		m->ours = 0;
	if (ret == 0)
		m->number = number;
	return ret;
}

/* ---- UIDLAST ------------------------------------------------------------- */

/*
 * UIDLAST has risen and it was not us: UW has used those UIDs, although its
 * messages may be gone by now. Its clients must not find others under them.
 */
static int note_overtaken(struct mirror *m, uint64_t *clashes)
{
	struct index_folder row;
	int ret = index_folder_get(m->folder->fs->index, m->number, &row);

	if (ret < 0)
		return ret;
	(void)pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->count && m->ours != 0; i++) {
		struct pending *p = &m->pending[i];

		if (p->clash || p->uid <= m->ours || p->uid > row.next.uid_last)
			continue;
		p->clash = true;
		++*clashes;
	}
	(void)pthread_mutex_unlock(&m->lock);
	if (row.next.uid_last > m->ours)
		m->ours = row.next.uid_last;
	return 0;
}

void mirror_hold_uids(struct folder *f, const struct index_folder *row)
{
	struct mirror *m;
	char name[400];

	if (row->damage.kind != DAMAGE_NONE || row->uidvalidity == 0 ||
	    row->uidnext == 0 || row->next.uid_last >= row->uidnext - 1)
		return;
	m = mirror_of(f);
	if (!m)
		return;
	folder_log_name(f, name, sizeof(name));
	log_info("%s: UIDs up to %u had been given out, and the mailbox says "
		 "up to %u: its UIDLAST is to be raised",
		 name, row->uidnext - 1, row->next.uid_last);
	/* The kernel may have octets of messages that were there then. */
	atomic_store(&f->replaced, true);
	atomic_store(&m->whole, true);
	mirror_note(f);
}

int mirror_reserve(struct mirror *m, uint64_t *clashes_out)
{
	uint32_t last = m->list.uidnext - 1;
	struct box *box = m->folder->box->box;
	int ret;

	*clashes_out = 0;
	ret = note_overtaken(m, clashes_out);
	if (ret < 0 || m->list.uidnext == 0 || last <= m->reserved)
		return ret;
	ret = box->ops->reserve(box, last);
	if (ret < 0)
		return ret;
	m->reserved = last;
	if (last > m->ours)
		m->ours = last;
	return 0;
}

/* ---- a journal that was lost --------------------------------------------- */

struct claiming {
	struct folder *f;
	struct journal *j;
	uint64_t count;
};

static int claim_record(const struct uidlist_record *r, void *arg)
{
	struct claiming *c = arg;
	char base[NAME_MAX + 1];
	int ret;

	if (!base_of(r, base) || !is_in_mbx(c->f, r->uid) ||
	    !is_file(c->f, base))
		return 0;
	ret = journal_try(c->j, r->uid, base);
	c->count++;
	return ret == -EEXIST ? 0 : ret;
}

static int has_entry(const struct journal_entry *e, void *arg)
{
	(void)e;
	(void)arg;
	return 1;
}

int mirror_claim(struct folder *f, struct journal *j)
{
	struct claiming c = { .f = f, .j = j };
	struct uidlist_header h = { .uidnext = 0 };
	AUTO_FREE char *text = NULL;
	AUTO_FD int fd = -1;
	struct stat st = { .st_size = 0 };
	char name[400];
	size_t len = 0;
	int ret = journal_each(j, has_entry, NULL);

	if (ret != 0)
		return ret < 0 ? ret : 0;
	fd = open_list(f, &st);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	ret = read_from(fd, 0, (uint64_t)st.st_size, &text, &len);
	if (ret == 0)
		ret = uidlist_parse(text, len, &h, NULL, NULL);
	if (ret == 0 && h.uidvalidity == f->id.uidvalidity)
		ret = uidlist_parse(text, len, &h, claim_record, &c);
	if (ret < 0)
		return ret == -EBADMSG ? 0 : ret;
	if (c.count == 0)
		return 0;
	folder_log_name(f, name, sizeof(name));
	log_info("%s: nothing says which of the messages that were delivered "
		 "here are in the mailbox; %ju are compared",
		 name, (uintmax_t)c.count);
	return journal_sync(j);
}

/* ---- for status ---------------------------------------------------------- */

struct telling {
	struct folder *f;
	const char *text; /* the list */
	size_t len;
	mirror_disagreement_fn *fn;
	void *arg;
};

static int is_later(const struct uidlist_record *r, void *arg)
{
	const struct uidlist_record *of = arg;

	return r->uid > of->uid && r->name_len == of->name_len &&
		memcmp(r->name, of->name, r->name_len) == 0;
}

/* A message that left and came back may be in the list twice, for a while:
 * Dovecot goes by the last record. */
static bool is_last(const struct telling *t, const struct uidlist_record *r)
{
	struct uidlist_record of = *r;
	struct uidlist_header h;

	return uidlist_parse(t->text, t->len, &h, is_later, &of) != 1;
}

static int tell_record(const struct uidlist_record *r, void *arg)
{
	const struct telling *t = arg;
	char base[NAME_MAX + 1];
	const char *why;
	uint32_t mbx;

	if (!mirror_disagrees(t->f, r, &mbx, &why) || !base_of(r, base) ||
	    !is_last(t, r))
		return 0;
	return t->fn(base, r->uid, mbx, why, t->arg);
}

int mirror_each_disagreement(struct folder *f, mirror_disagreement_fn *fn,
			     void *arg)
{
	struct telling t = { .f = f, .fn = fn, .arg = arg };
	struct uidlist_header h;
	AUTO_FREE char *text = NULL;
	AUTO_FD int fd = -1;
	struct stat st = { .st_size = 0 };
	size_t len = 0;
	int ret;

	fd = open_list(f, &st);
	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	ret = read_from(fd, 0, (uint64_t)st.st_size, &text, &len);
	t.text = text;
	t.len = len;
	if (ret == 0)
		ret = uidlist_parse(text, len, &h, tell_record, &t);
	/* What Dovecot cannot read either says nothing. */
	return ret == -EBADMSG ? 0 : ret;
}
