/*
 * The queue of folders that may have something to do, the threads that do it,
 * and what others ask.
 *
 * There are several threads because one may wait for a mailbox that somebody
 * keeps locked. A folder is worked on by one at a time.
 */
#include "fs/mirror.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "fs/files.h"
#include "fs/folder_internal.h"
#include "fs/kept.h"
#include "fs/mirror_internal.h"
#include "fs/user.h"

enum {
	THREADS = 4,
	NOTE_MS = 20,	     /* what comes together is done together */
	POLL_MS = 500,	     /* files that Dovecot has not numbered yet, */
	POLL_FOR_MS = 60000, /* for so long; then */
	POLL_SLOW_MS = 5000,
	AGAIN_MS = 200,
	BACKOFF_MAX_MS = 30000,
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake, idle;
	struct mirror *queue;
	pthread_t threads[THREADS];
	unsigned started;
	atomic_bool stop;
} work = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the folder's -------------------------------------------------------- */

struct mirror *mirror_of(struct folder *f)
{
	struct mirror *m = atomic_load(&f->mirror), *none = NULL;

	if (m)
		return m;
	m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	m->folder = f;
	atomic_init(&m->whole, true);
	(void)pthread_mutex_init(&m->lock, NULL);
	if (atomic_compare_exchange_strong(&f->mirror, &none, m))
		return m;
	(void)pthread_mutex_destroy(&m->lock);
	free(m);
	return none;
}

void mirror_free(struct folder *f)
{
	struct mirror *m = atomic_load(&f->mirror), **at;

	if (!m)
		return;
	(void)pthread_mutex_lock(&work.lock);
	while (m->busy)
		(void)pthread_cond_wait(&work.idle, &work.lock);
	for (at = &work.queue; *at && *at != m; at = &(*at)->next)
		;
	if (*at)
		*at = m->next;
	(void)pthread_mutex_unlock(&work.lock);
	atomic_store(&f->mirror, NULL);
	mirror_clear_pending(m);
	mirror_free_match(m);
	(void)pthread_mutex_destroy(&m->lock);
	free(m->pending);
	free(m);
}

/* ---- the queue ----------------------------------------------------------- */

/* With the queue's lock. */
static void enqueue(struct mirror *m, int64_t due_ms)
{
	if (m->due_ms == 0) {
		m->next = work.queue;
		work.queue = m;
	}
	if (m->due_ms == 0 || m->due_ms > due_ms)
		m->due_ms = due_ms;
	(void)pthread_cond_signal(&work.wake);
}

void mirror_note(struct folder *f)
{
	struct mirror *m = mirror_of(f);
	int64_t now = clock_ms();

	if (!m)
		return;
	(void)pthread_mutex_lock(&work.lock);
	m->noted_ms = now;
	/* Whoever is waiting for something waits on, more or less. */
	if (m->busy)
		m->noted = true;
	else
		enqueue(m, now + NOTE_MS + m->backoff_ms);
	(void)pthread_mutex_unlock(&work.lock);
}

/* With the queue's lock. @wait_ms: until the first one is due; -1: none */
static struct mirror *take_due(int64_t *wait_ms)
{
	struct mirror **first = NULL, *m;
	int64_t now = clock_ms();

	for (struct mirror **at = &work.queue; *at; at = &(*at)->next)
		if (!first || (*at)->due_ms < (*first)->due_ms)
			first = at;
	*wait_ms = first ? (*first)->due_ms - now : -1;
	if (!first || *wait_ms > 0)
		return NULL;
	m = *first;
	*first = m->next;
	m->due_ms = 0;
	m->busy = true;
	m->noted = false;
	return m;
}

static void wait_for_work(int64_t ms)
{
	struct timespec until;

	if (ms < 0) {
		(void)pthread_cond_wait(&work.wake, &work.lock);
		return;
	}
	until = clock_in_ms(ms);
	(void)pthread_cond_clockwait(&work.wake, &work.lock, CLOCK_MONOTONIC,
				     &until);
}

/* ---- counting ------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
	const struct pending *x = a, *y = b;

	return strcmp(x->base, y->base);
}

struct counting {
	struct journal *j;
	struct pending *pending; /* by base */
	size_t count;
	struct mirror_status *s;
};

static int count_file(const struct file *file, void *arg)
{
	const struct counting *c = arg;
	struct pending key = { .base = (char *)(uintptr_t)file->base };
	const struct pending *p = NULL;
	uint32_t uid;
	bool sure;

	c->s->files++;
	if (journal_by_base(c->j, file->base, &uid, &sure) && sure) {
		c->s->mirrored++;
		return 0;
	}
	if (c->count > 0)
		p = bsearch(&key, c->pending, c->count, sizeof(*p), by_name);
	if (!p)
		c->s->no_uid++;
	else if (p->why)
		c->s->refused++;
	else
		c->s->waiting++;
	return 0;
}

/* A copy, so that no lock is held while the files are counted. */
static int copy_pending(struct mirror *m, struct pending **out,
			size_t *count_out)
{
	struct pending *copy;
	size_t n = 0;

	(void)pthread_mutex_lock(&m->lock);
	copy = calloc(m->count + 1, sizeof(*copy));
	for (; copy && n < m->count; n++) {
		copy[n] = m->pending[n];
		copy[n].base = strdup(m->pending[n].base);
		if (!copy[n].base)
			break;
	}
	*count_out = n;
	n = m->count - n;
	(void)pthread_mutex_unlock(&m->lock);
	*out = copy;
	return copy && n == 0 ? 0 : -ENOMEM;
}

static void free_pending(struct pending *p, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(p[i].base);
	free(p);
}

static int64_t oldest(const struct pending *p, size_t count)
{
	int64_t now = clock_ms(), lag = 0;

	for (size_t i = 0; i < count; i++)
		if (!p[i].why && now - p[i].since_ms > lag)
			lag = now - p[i].since_ms;
	return lag;
}

int mirror_status(struct folder *f, struct mirror_status *out)
{
	struct mirror *m = mirror_of(f);
	struct counting c = { .j = folder_journal(f), .s = out };
	int ret;

	*out = (struct mirror_status){ 0 };
	if (!m || !c.j)
		return m ? -EIO : -ENOMEM;
	ret = copy_pending(m, &c.pending, &c.count);
	if (ret == 0) {
		if (c.count > 0)
			qsort(c.pending, c.count, sizeof(*c.pending), by_name);
		ret = files_lock(f);
	}
	if (ret == 0) {
		ret = files_each(f, count_file, &c);
		files_unlock(f);
		out->lag_ms = oldest(c.pending, c.count);
	}
	free_pending(c.pending, c.count);
	return ret;
}

int mirror_each_refused(struct folder *f, mirror_refused_fn *fn, void *arg)
{
	struct mirror *m = mirror_of(f);
	struct pending *p = NULL;
	size_t count = 0;
	int ret = m ? copy_pending(m, &p, &count) : -ENOMEM;

	for (size_t i = 0; ret == 0 && i < count; i++)
		if (p[i].why)
			ret = fn(p[i].base, p[i].why, arg);
	free_pending(p, count);
	return ret;
}

const char *mirror_waits_for(struct folder *f)
{
	struct mirror *m = mirror_of(f);
	const char *why;

	if (!m)
		return NULL;
	(void)pthread_mutex_lock(&m->lock);
	why = m->why;
	(void)pthread_mutex_unlock(&m->lock);
	return why;
}

/* Return: whether it is time to say it. */
static bool note_why(struct mirror *m, const char *why, int64_t after_ms)
{
	int64_t now = clock_ms();
	bool due;

	(void)pthread_mutex_lock(&m->lock);
	if (why && (!m->why || strcmp(why, m->why) != 0)) {
		m->why_ms = now;
		m->why_said = false;
	}
	due = why ? !m->why_said && now - m->why_ms >= after_ms : m->why_said;
	m->why = why;
	if (due)
		m->why_said = why != NULL;
	(void)pthread_mutex_unlock(&m->lock);
	return due;
}

void mirror_say_why(struct mirror *m, const char *why, int64_t after_ms)
{
	char name[400], who[KEPT_BY];
	int64_t ms;

	if (!note_why(m, why, after_ms))
		return;
	folder_log_name(m->folder, name, sizeof(name));
	if (why && kept_now(m->folder, who, &ms))
		log_warn("%s: what was delivered here is not in the MBX yet: "
			 "%s (%s); tried again and again",
			 name, why, who);
	else if (why)
		log_warn("%s: what was delivered here is not in the MBX yet: "
			 "%s; tried again and again",
			 name, why);
	else
		log_info("%s: the MBX is being followed again", name);
}

/* ---- working on a folder ------------------------------------------------- */

static int64_t backoff(struct mirror *m, int err)
{
	if (err == -ESTALE)
		return AGAIN_MS;
	m->backoff_ms = m->backoff_ms ? 2 * m->backoff_ms : AGAIN_MS;
	if (m->backoff_ms > BACKOFF_MAX_MS)
		m->backoff_ms = BACKOFF_MAX_MS;
	return m->backoff_ms;
}

/* When to look again although nobody said anything; -1: never. Who has the
 * control files outside the mount does not tell us of changes. */
static int64_t next_look(struct mirror *m)
{
	struct mirror_status s;
	int64_t since;

	(void)pthread_mutex_lock(&work.lock);
	since = clock_ms() - m->noted_ms;
	(void)pthread_mutex_unlock(&work.lock);
	if (mirror_status(m->folder, &s) < 0)
		return POLL_SLOW_MS;
	if (s.no_uid == 0)
		return -1;
	if (since < POLL_FOR_MS)
		return POLL_MS;
	return m->folder->fs->opt->has_control ? POLL_SLOW_MS : -1;
}

static bool is_out_of_sight(const struct folder *f)
{
	return atomic_load(&f->gone) || atomic_load(&f->deleted);
}

/* Somebody has removed Dovecot's list, or Dovecot has made a new one since: the
 * MBX says which UIDVALIDITY is the right one, and the sooner the better. */
static int read_list(struct mirror *m)
{
	int ret = mirror_read_list(m);

	if (ret != -ENOENT && ret != -ESTALE)
		return ret;
	folder_relist(m->folder);
	if (folder_ready(m->folder) == 0)
		ret = mirror_read_list(m);
	return ret;
}

/* Return: milliseconds until the next look; -1: none is needed. */
static int64_t look_after(struct mirror *m)
{
	struct folder *f = m->folder;
	bool more = true;
	int ret = 0;

	if (is_out_of_sight(f))
		return -1;
	if (!atomic_load(&f->settled))
		ret = folder_ready(f);
	if (ret == 0 && !atomic_load(&f->settled))
		ret = -ESTALE;
	if (ret == 0)
		ret = read_list(m);
	if (ret == -ENOENT || ret == -EBADMSG) /* Dovecot's to mend */
		return next_look(m);
	while (ret == 0 && more && !work.stop)
		ret = mirror_work(m, &more);
	if (ret < 0)
		return backoff(m, ret);
	m->backoff_ms = 0;
	return next_look(m);
}

static void *run(void *arg)
{
	(void)arg;
	(void)pthread_mutex_lock(&work.lock);
	while (!work.stop) {
		int64_t wait_ms;
		struct mirror *m = take_due(&wait_ms);

		if (!m) {
			wait_for_work(wait_ms);
			continue;
		}
		(void)pthread_mutex_unlock(&work.lock);
		wait_ms = look_after(m);
		(void)pthread_mutex_lock(&work.lock);
		m->busy = false;
		if (m->noted && (wait_ms < 0 || wait_ms > NOTE_MS) &&
		    m->backoff_ms == 0)
			wait_ms = NOTE_MS;
		if (wait_ms >= 0)
			enqueue(m, clock_ms() + wait_ms);
		(void)pthread_cond_broadcast(&work.idle);
	}
	(void)pthread_mutex_unlock(&work.lock);
	return NULL;
}

int mirror_start(struct fs *fs)
{
	int ret = 0;

	(void)fs;
	work.stop = false;
	(void)pthread_cond_init(&work.wake, NULL);
	(void)pthread_cond_init(&work.idle, NULL);
	for (; ret == 0 && work.started < THREADS; work.started++) {
		ret = -pthread_create(&work.threads[work.started], NULL, run,
				      NULL);
		if (ret < 0)
			break;
	}
	if (ret < 0)
		mirror_stop();
	return ret;
}

void mirror_stop(void)
{
	(void)pthread_mutex_lock(&work.lock);
	work.stop = true;
	(void)pthread_cond_broadcast(&work.wake);
	(void)pthread_mutex_unlock(&work.lock);
	while (work.started > 0)
		(void)pthread_join(work.threads[--work.started], NULL);
}

/* ---- what others ask ----------------------------------------------------- */

static bool is_row_of(struct folder *f, uint32_t uid, const char *base)
{
	char name[INDEX_NAME_MAX + 1];

	return index_name_of(f->fs->index, folder_id(f).number, uid, name) ==
		0 &&
		strcmp(name, base) == 0;
}

uint32_t mirror_uid(struct folder *f, const char *base)
{
	struct journal *j = folder_journal(f);
	uint32_t uid;
	bool sure;

	if (!j || !journal_by_base(j, base, &uid, &sure))
		return 0;
	return sure || is_row_of(f, uid, base) ? uid : 0;
}

bool mirror_in_doubt(struct folder *f, const char *base)
{
	struct journal *j = folder_journal(f);
	uint32_t uid;
	bool sure;

	return !atomic_load(&f->settled) && j &&
		journal_by_base(j, base, &uid, &sure) && !sure;
}

int mirror_admit(struct folder *f, const char *base)
{
	struct journal *j = folder_journal(f);

	return j ? journal_clear(j, base) : 0;
}

int mirror_forget(struct folder *f, const char *base)
{
	struct journal *j = folder_journal(f);
	struct mirror *m = mirror_of(f);
	uint32_t uid;
	bool sure;

	if (!j)
		return -EIO;
	if (!journal_by_base(j, base, &uid, &sure))
		return 0;
	/* Should the file stay after all, it is a delivered one again. */
	if (m)
		atomic_store(&m->whole, true);
	return journal_out(j, base);
}

static bool is_as_before(struct folder *f, const struct msg *msg)
{
	struct msg was;

	return index_by_uid(f->fs->index, f->id.number, msg->uid, &was) == 0 &&
		was.date == msg->date && was.size == msg->size;
}

/* An older mailbox was put back, and UW has given the UID of a copy that this
 * one never had to mail of its own. */
static const char *disown(struct mirror *m, struct journal *j,
			  const struct msg *msg)
{
	char name[400];
	int ret = journal_out(j, m->name);

	folder_log_name(m->folder, name, sizeof(name));
	log_warn("%s: UID %u of the mailbox is not the message any more that "
		 "was delivered here under it; that stays, and is appended "
		 "again%s%s",
		 name, msg->uid, ret < 0 ? "; journal: " : "",
		 ret < 0 ? strerrordesc_np(-ret) : "");
	atomic_store(&m->whole, true);
	mirror_note(m->folder);
	return ret < 0 ? NULL : "";
}

const char *mirror_name_of(const struct msg *msg, void *arg)
{
	struct folder *f = arg;
	struct mirror *m = mirror_of(f);
	struct journal *j = folder_journal(f);
	bool sure;
	int ret;

	if (!m || !j)
		return NULL;
	if (!journal_by_uid(j, msg->uid, m->name, &sure))
		return "";
	if (sure && (is_as_before(f, msg) || !mirror_differs(f, msg, m->name)))
		return m->name;
	if (sure)
		return disown(m, j, msg);
	ret = mirror_same(f, msg, m->name);
	if (ret < 0)
		return ret == -ENOENT ? "" : NULL;
	/* If the journal cannot be written the row says it: mirror_uid() */
	if (journal_in(j, msg->uid, m->name) < 0)
		log_trace(LOG_SYNC, "%s: the journal does not know", m->name);
	return m->name;
}
