/*
 * The messages of a folder: names, octets, those that are gone, and what the
 * journal keeps about them.
 */
#include "compat/basename.h"
#include "compat/clock.h"
#include "fs/folder_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/io.h"
#include "compat/log.h"
#include "fs/settle.h"
#include "index/sync.h"

enum {
	TRIES = 3,	 /* when messages are moved again and again */
	TICK_US = 20000, /* two of the file system's clock */
	GRAVES_FIRST = 16,
	GRAVES_MAX = 65536,
	JOURNAL_KEPT_MS = 600000,
};

/* Somebody may be using it still, for as long as a lock is waited for. */
struct old_journal {
	struct journal *journal;
	int64_t since_ms;
	struct old_journal *next;
};

static void forget_graves(struct folder *f);

/* ---- the journal --------------------------------------------------------- */

static pthread_mutex_t journals_lock = PTHREAD_MUTEX_INITIALIZER;

int folder_journal_open(struct folder *f, uint32_t number, struct journal **out)
{
	char name[16];
	AUTO_FD int dir = -1;
	int ret = io_mkdir(f->fs->state_fd, "journals", 0700, (uid_t)-1,
			   (gid_t)-1);

	if (ret < 0 && ret != -EEXIST)
		return ret;
	dir = io_open_within(f->fs->state_fd, "journals",
			     O_RDONLY | O_DIRECTORY);
	if (dir < 0)
		return dir;
	(void)snprintf(name, sizeof(name), "%08x", number);
	return journal_open(dir, name, (uid_t)-1, (gid_t)-1, out);
}

static void note_journal(struct folder *f, int err)
{
	char name[400];

	if (f->journal_error == err)
		return;
	f->journal_error = err;
	folder_log_name(f, name, sizeof(name));
	log_err("%s: its journal cannot be opened: %s", name,
		strerrordesc_np(-err));
}

struct journal *folder_journal(struct folder *f)
{
	struct journal *j = atomic_load(&f->journal);
	uint64_t count = 0;
	int ret = 0;

	if (j)
		return j;
	(void)pthread_mutex_lock(&journals_lock);
	j = atomic_load(&f->journal);
	if (!j)
		ret = folder_journal_open(f, folder_id(f).number, &j);
	if (ret < 0) {
		note_journal(f, ret);
		j = NULL;
	} else if (j) {
		(void)journal_all_letters(j, &count);
		atomic_store(&f->lettered, count > 0);
		atomic_store(&f->journal, j);
	}
	(void)pthread_mutex_unlock(&journals_lock);
	/* Dovecot may have named them when we were not there. */
	if (count > 0)
		settle_letters(f);
	return j;
}

/* Which file the message with a UID is, its octets have to tell now, unless
 * they have; where the UID is known to be another's they told as well. */
static int carry_over(const struct journal_entry *e, void *arg)
{
	uint32_t uid;
	bool sure;
	int ret = journal_by_base(arg, e->base, &uid, &sure)
		? 0
		: journal_try(arg, e->uid, e->base);

	return ret == -EEXIST ? 0 : ret;
}

/* With journals_lock. Those that nobody can be using any more go. */
static void retire_journal(struct folder *f, struct journal *j)
{
	struct old_journal *o = j ? calloc(1, sizeof(*o)) : NULL;
	int64_t now = clock_ms();

	for (struct old_journal **at = &f->old_journals; *at;) {
		struct old_journal *old = *at;

		if (now - old->since_ms < JOURNAL_KEPT_MS) {
			at = &old->next;
			continue;
		}
		*at = old->next;
		journal_close(old->journal);
		free(old);
	}
	if (!o)
		return; /* better leaked than used by somebody */
	*o = (struct old_journal){ j, now, f->old_journals };
	f->old_journals = o;
}

static void free_journals(struct folder *f)
{
	while (f->old_journals) {
		struct old_journal *o = f->old_journals;

		f->old_journals = o->next;
		journal_close(o->journal);
		free(o);
	}
	journal_close(atomic_load(&f->journal));
}

void folder_journal_renew(struct folder *f, uint32_t number)
{
	struct journal *was = folder_journal(f), *j = NULL;
	int ret = folder_journal_open(f, number, &j);

	if (ret == 0 && was)
		ret = journal_each(was, carry_over, j);
	if (ret == 0)
		ret = journal_sync(j);
	if (ret < 0)
		note_journal(f, ret);
	(void)pthread_mutex_lock(&journals_lock);
	retire_journal(f, was);
	atomic_store(&f->lettered, false);
	atomic_store(&f->journal, j);
	(void)pthread_mutex_unlock(&journals_lock);
	forget_graves(f);
}

uint32_t folder_letters(struct folder *f, uint32_t uid)
{
	struct journal *j =
		atomic_load(&f->lettered) ? atomic_load(&f->journal) : NULL;

	return j ? journal_letters(j, uid) : 0;
}

/* ---- names --------------------------------------------------------------- */

void folder_file_name(struct folder *f, const struct folder_id *id,
		      const struct msg *m, const char *base, char *out)
{
	struct basename b = { .folder = id->number,
			      .uidvalidity = id->uidvalidity,
			      .uid = m->uid,
			      .date = m->date,
			      .size = m->size };

	if (base && *base)
		(void)snprintf(out, INDEX_NAME_MAX + 1, "%s", base);
	else
		basename_format(&b, out);
	if (!info_in_new(m))
		info_format(m->flags,
			    letters_of(&id->letters, m->keywords) |
				    folder_letters(f, m->uid),
			    out + strlen(out));
}

/* Not so the copy of a file, which Dovecot has numbered. */
static bool is_unlisted(const struct folder_id *id, const struct msg *m,
			const char *base)
{
	struct basename b;

	return m->uid > id->shown &&
		basename_parse(base, strlen(base), &b) == 0 &&
		b.folder == id->number && b.uid == m->uid;
}

int folder_by_name(struct folder *f, bool in_new, const char *name,
		   struct msg *out)
{
	struct folder_id id = folder_id(f);
	char want[FOLDER_FILE_MAX + 1];
	char base[INDEX_NAME_MAX + 1];
	size_t len = info_split(name, strlen(name));
	int ret;

	if (len > INDEX_NAME_MAX)
		return -ENOENT;
	memcpy(base, name, len);
	base[len] = '\0';
	ret = index_by_name(f->fs->index, id.number, id.uidvalidity, base, out);
	if (ret < 0)
		return ret;
	folder_file_name(f, &id, out, base, want);
	if (is_unlisted(&id, out, base) || info_in_new(out) != in_new ||
	    strcmp(want, name) != 0)
		return -ENOENT;
	return 0;
}

static int keep_uid(const struct msg *m, const char *name, void *arg)
{
	uint32_t *uid = arg;

	(void)name;
	*uid = m->uid; /* they come in order */
	return 0;
}

int folder_highest(const struct folder *f, uint32_t *uid_out)
{
	*uid_out = 0;
	return index_each(f->fs->index, f->id.number, keep_uid, uid_out);
}

/* ---- octets, also of what is gone ---------------------------------------- */

/* The octets of an expunged message stay where they are until UW compacts the
 * mailbox. The last ones, round and round. */
struct graves {
	size_t count, room, next;
	struct msg *msgs;
};

static int room_for_one(struct graves *g)
{
	size_t room = g->room ? g->room * 2 : GRAVES_FIRST;
	struct msg *more;

	if (g->count < g->room || g->room == GRAVES_MAX)
		return 0;
	more = reallocarray(g->msgs, room, sizeof(*more));
	if (!more)
		return -ENOMEM;
	g->msgs = more;
	g->room = room;
	return 0;
}

/* Without memory, who has it open does without it. */
void folder_bury(struct folder *f, const struct msg *m)
{
	struct graves *g;

	(void)pthread_rwlock_wrlock(&f->lock);
	g = f->graves;
	if (!g)
		g = f->graves = calloc(1, sizeof(*g));
	if (g && room_for_one(g) == 0) {
		g->msgs[g->next] = *m;
		if (g->count == g->next)
			g->count++;
		g->next = (g->next + 1) % GRAVES_MAX;
	}
	(void)pthread_rwlock_unlock(&f->lock);
}

int folder_buried(struct folder *f, uint32_t uid, struct msg *out)
{
	int ret = -ENOENT;

	(void)pthread_rwlock_rdlock(&f->lock);
	for (size_t i = 0; f->graves && i < f->graves->count; i++) {
		if (f->graves->msgs[i].uid != uid)
			continue;
		*out = f->graves->msgs[i];
		ret = 0;
	}
	(void)pthread_rwlock_unlock(&f->lock);
	return ret;
}

static void forget_graves(struct folder *f)
{
	struct graves *g;

	(void)pthread_rwlock_wrlock(&f->lock);
	g = f->graves;
	f->graves = NULL;
	(void)pthread_rwlock_unlock(&f->lock);
	if (g)
		free(g->msgs);
	free(g);
}

void folder_mail_free(struct folder *f)
{
	forget_graves(f);
	free_journals(f);
}

/*
 * What is known before a row is looked up, so that the row cannot be older.
 * After the octets were read it must still hold, or every record before them
 * is looked at: UW may have moved the message just before we read, and what
 * lies in its place can look like it.
 */
struct footing {
	struct folder_box *box;
	uint32_t number, uidvalidity;
	struct stamp since; /* the rows show the file as it was then */
	int64_t lease;	    /* nobody else changes the file; 0: none is held */
};

static int64_t held_lease(struct folder *f)
{
	return atomic_load(&f->lease.held) ? atomic_load(&f->lease.began_us)
					   : 0;
}

static struct footing take_footing(struct folder *f)
{
	struct footing at = { .lease = held_lease(f), .box = folder_hold(f) };

	(void)pthread_rwlock_rdlock(&f->lock);
	at.number = f->id.number;
	at.uidvalidity = f->id.uidvalidity;
	if (f->fresh_settled)
		at.since = f->fresh;
	(void)pthread_rwlock_unlock(&f->lock);
	return at;
}

static int check_place(struct folder *f, struct footing *at,
		       const struct msg *m, bool buried)
{
	/* No sync looks at it any more. */
	if (buried)
		at->since = (struct stamp){ .ino = 0 };
	else if (at->lease && held_lease(f) == at->lease)
		return 0;
	return at->box->box->ops->holds(at->box->box, m, at->uidvalidity,
					&at->since);
}

/* -ENOENT: there is no such message. -ESTALE, -EBADMSG: it is not where it was,
 * or that cannot be told. In either case: sync, and try again. */
static ssize_t read_once(struct folder *f, struct footing *at, uint32_t uid,
			 void *buf, size_t len, uint64_t off)
{
	bool buried = false;
	struct msg m;
	ssize_t n = index_by_uid(f->fs->index, at->number, uid, &m);
	int ret = 0;

	if (n == -ENOENT) {
		n = folder_buried(f, uid, &m);
		buried = true;
	}
	if (n == 0 && !at->box)
		return -ESTALE;
	if (n == 0)
		n = at->box->box->ops->read(at->box->box, &m, NULL, buf, len,
					    off);
	if (n > 0)
		ret = check_place(f, at, &m, buried);
	return ret < 0 ? ret : n;
}

ssize_t folder_read(struct folder *f, uint64_t ino, void *buf, size_t len,
		    uint64_t off)
{
	uint32_t number, uid;
	int ret = index_ino_split(ino, &number, &uid);
	ssize_t n = -ENOENT;

	atomic_store(&f->used_ms, clock_ms());
	for (int i = 0; i < TRIES && ret == 0; i++) {
		struct footing at;

		ret = i > 0 ? folder_ready(f) : 0;
		if (ret < 0)
			return ret;
		folder_patience_begin(f);
		at = take_footing(f);
		n = at.number == number ? read_once(f, &at, uid, buf, len, off)
					: -ENOENT;
		folder_let_go(at.box);
		folder_patience_end(f, n);
		if (at.number != number ||
		    (n != -ENOENT && n != -ESTALE && n != -EBADMSG))
			break;
		/* Behind damage, and under other UIDs than those on disk, only
		 * a file that nobody has just changed. */
		if (n == -EBADMSG || (n == -ESTALE && i > 0))
			clock_nap_us(TICK_US);
	}
	if (n == -ENOENT)
		return -ESTALE;
	return n == -ESTALE || n == -EBADMSG ? -EAGAIN : n;
}
