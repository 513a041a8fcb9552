/*
 * Order, each step durable before the next: the note, the messages one after
 * the other, the spool cut, the note gone. Whoever is stopped in between finds
 * the note and compares.
 *
 * UW asks for the spool with the INBOX's parse lock in its hand, and waits for
 * it; so who has the spool must not wait for the parse lock for long. He lets
 * others to the spool for a moment then, all but the session lock: with that UW
 * finds the spool read-only and takes nothing out of it.
 */
#include "fs/snarf_take.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "compat/clock.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/mbxlock.h"
#include "compat/mbxrec.h"
#include "compat/spool.h"
#include "compat/spoollock.h"

enum {
	ROUNDS = 5, /* as long as somebody appends without asking */
	PATIENCE_MS = 200,
	PAUSE_MS = 1500, /* UW looks for the lock file every second */
	LINGER_MS = 10000,
	SHARE_OF_ROOM = 4, /* in lockdir=: one part of so many at most */
	CHUNK = 1 << 16,
};

static const char note_text[] = "janusmail-spool 1\n";

/* A file without a name, in memory as long as it is looked at. */
struct scratch {
	int fd;
	uint8_t *data;
	size_t len;
};

/* A message of the INBOX that may be one of the spool's. */
struct there {
	struct msg msg;
	bool used;
};

struct taking {
	struct user *u;
	const struct folder *f;
	struct box *box;
	int notes;
	const atomic_bool *stop;
	int64_t linger_ms; /* of clock_ms(), once it is stopped; 0 */
	struct spoollock lock;
	struct scratch spool; /* a copy: nobody can cut it under us */
	size_t left;	      /* octets of it that stay */
	struct there *there;
	size_t there_count, there_room;
	struct snarf_taken *out;
};

static int scratch_make(struct scratch *s, const char *dir, size_t len)
{
	void *p;

	*s = (struct scratch){ .fd = io_scratch(dir, len ? len : 1),
			       .len = len };
	if (s->fd < 0)
		return s->fd;
	p = mmap(NULL, len ? len : 1, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd,
		 0);
	if (p == MAP_FAILED) {
		base_auto_close(&s->fd);
		return -ENOMEM;
	}
	s->data = p;
	return 0;
}

static void scratch_free(struct scratch *s)
{
	if (s->data)
		(void)munmap(s->data, s->len ? s->len : 1);
	s->data = NULL;
	base_auto_close(&s->fd);
	s->fd = -1;
}

/* ---- the note ------------------------------------------------------------ */

static const char *note_name(const struct user *u)
{
	return *u->name ? u->name : "user";
}

bool snarf_noted(const struct user *u, int notes)
{
	return faccessat(notes, note_name(u), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int make_note(const struct taking *t)
{
	return io_replace_file(t->notes, note_name(t->u), note_text,
			       sizeof(note_text) - 1, (uid_t)-1, (gid_t)-1);
}

static int drop_note(const struct taking *t)
{
	int ret = io_unlink(t->notes, note_name(t->u), 0);

	if (ret == -ENOENT)
		return 0;
	return ret == 0 ? io_fsync_dir(t->notes) : ret;
}

/* ---- what is in the INBOX already ---------------------------------------- */

static int add_there(const struct msg *m, const char *name, void *arg)
{
	struct taking *t = arg;
	size_t room = t->there_room ? 2 * t->there_room : 256;
	struct there *more;

	(void)name;
	if (t->there_count == t->there_room) {
		more = reallocarray(t->there, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		t->there = more;
		t->there_room = room;
	}
	t->there[t->there_count++] = (struct there){ .msg = *m };
	return 0;
}

static int pass(const struct msg *m, const char *name, void *arg)
{
	(void)m;
	(void)name;
	(void)arg;
	return 0;
}

/* Return: 1: octet for octet; 0; -errno */
static int is_same(const struct taking *t, const struct msg *m,
		   const struct scratch *mail)
{
	AUTO_FREE uint8_t *buf = malloc(CHUNK);
	ssize_t n = 1;

	if (!buf)
		return -ENOMEM;
	for (size_t at = 0; at < mail->len; at += (size_t)n) {
		size_t want = mail->len - at < CHUNK ? mail->len - at : CHUNK;

		n = t->box->ops->read(t->box, m, NULL, buf, want, at);
		if (n < 0)
			return (int)n;
		if (n == 0 || memcmp(buf, mail->data + at, (size_t)n) != 0)
			return 0;
	}
	return 1;
}

static int is_there(struct taking *t, const struct scratch *mail,
		    const struct msg *want)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < t->there_count; i++) {
		struct there *x = &t->there[i];

		if (x->used || x->msg.size != mail->len ||
		    x->msg.date != want->date)
			continue;
		ret = is_same(t, &x->msg, mail);
		if (ret == 1)
			x->used = true;
	}
	return ret;
}

/* ---- a message ----------------------------------------------------------- */

/* With CR LF. Return: octets; only counted if @out is NULL. */
static size_t end_lines(const uint8_t *in, size_t len, uint8_t *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (in[i] == '\n' && (i == 0 || in[i - 1] != '\r')) {
			if (out)
				out[n] = '\r';
			n++;
		}
		if (out)
			out[n] = in[i];
		n++;
	}
	return n;
}

/* As UW gives it to INBOX, but for CRs within lines, which UW drops. */
static int make_mail(const struct taking *t, const struct spool_mail *m,
		     struct scratch *out)
{
	AUTO_FREE uint8_t *head = malloc(m->body - m->head + 1);
	const uint8_t *body = t->spool.data + m->body;
	size_t head_len, n;
	int ret;

	if (!head)
		return -ENOMEM;
	head_len = spool_header(t->spool.data, m, head);
	n = end_lines(head, head_len, NULL);
	ret = scratch_make(out, t->lock.opt.dir,
			   n + end_lines(body, m->body_len, NULL));
	if (ret < 0)
		return ret;
	(void)end_lines(head, head_len, out->data);
	(void)end_lines(body, m->body_len, out->data + n);
	return 0;
}

/* A "From " line without a zone means the machine's. */
static int64_t date_of(const struct spool_mail *m)
{
	time_t as_utc = m->date;
	struct tm tm;

	if (m->has_zone || !gmtime_r(&as_utc, &tm))
		return m->date;
	tm.tm_isdst = -1;
	return mbx_date_clamp(mktime(&tm));
}

/* ---- the INBOX is locked ------------------------------------------------- */

/* MTAs append; who rewrites the spool does not reckon with us. */
static int check_spool(const struct taking *t)
{
	AUTO_FREE uint8_t *buf = malloc(CHUNK);
	ssize_t n = 1;

	if (!buf)
		return -ENOMEM;
	for (size_t at = 0; at < t->spool.len; at += (size_t)n) {
		size_t want = t->spool.len - at;

		n = io_read_at(t->lock.fd, buf, want < CHUNK ? want : CHUNK,
			       at);
		if (n < 0)
			return (int)n;
		if (n == 0 || memcmp(buf, t->spool.data + at, (size_t)n) != 0)
			return -ESTALE;
	}
	return 0;
}

/* Who has the spool then is waited for as long as that may be: nobody has to
 * wait for us meanwhile. */
static int let_others(struct taking *t)
{
	const struct timespec pause = { .tv_sec = PAUSE_MS / 1000,
					.tv_nsec = PAUSE_MS % 1000 * 1000000L };
	struct mbxlock_wait wait;
	int ret;

	spoollock_pause(&t->lock);
	(void)nanosleep(&pause, NULL);
	wait = mbxlock_wait_start(t->u->fs->opt->lock_ms);
	do {
		ret = spoollock_resume(&t->lock);
	} while (ret == -EAGAIN && !atomic_load(t->stop) &&
		 mbxlock_wait_more(&wait));
	return ret == 0 ? check_spool(t) : ret;
}

/* Of INBOX's locks, and as long as others cannot get at the spool. */
static struct mbxlock_wait be_patient(const struct taking *t)
{
	struct mbxlock_wait wait;

	mbxlock_limit(UINT_MAX);
	wait = mbxlock_wait_start(t->u->fs->opt->lock_ms);
	mbxlock_limit(PATIENCE_MS);
	return wait;
}

/* INBOX was locked. Before anything was taken it may as well be done later; a
 * message that lies in both places must not be left to UW.
 * Return: 0: try again */
static int wait_for_inbox(struct taking *t, struct mbxlock_wait *wait)
{
	int ret;

	if (t->out->count == 0 || atomic_load(t->stop) ||
	    !mbxlock_wait_more(wait))
		return -EAGAIN;
	mbxlock_limit(UINT_MAX);
	ret = let_others(t);
	if (ret == 0)
		mbxlock_limit(PATIENCE_MS);
	return ret;
}

/* Without a note, too, the records are looked at: then append() need not do
 * it, which would keep the parse lock all the while. */
static int look_at_inbox(struct taking *t)
{
	store_msg_fn *fn = snarf_noted(t->u, t->notes) ? add_there : pass;
	struct mbxlock_wait wait = be_patient(t);
	int ret;

	for (;;) {
		struct scan scan = { .uidvalidity = 0 };

		t->there_count = 0;
		ret = t->box->ops->scan(t->box, &scan, fn, t);
		if (ret != -EAGAIN)
			return ret;
		ret = wait_for_inbox(t, &wait);
		if (ret < 0)
			return ret;
	}
}

/* ---- all of them --------------------------------------------------------- */

/* UW, too, lets go of what has no octet. */
static int put(struct taking *t, const struct scratch *mail,
	       const struct msg *want)
{
	struct msg got;
	int ret = mail->len > 0 ? is_there(t, mail, want) : 1;

	if (ret != 0)
		return ret < 0 ? ret : 0;
	ret = t->box->ops->append(t->box, mail->fd, want, &got);
	if (ret == 0)
		t->out->count++;
	return ret;
}

static int take_one(struct taking *t, const struct spool_mail *m)
{
	struct msg want = { .date = date_of(m), .flags = m->flags };
	struct mbxlock_wait wait = be_patient(t);
	struct scratch mail = { .fd = -1 };
	int ret = make_mail(t, m, &mail);

	while (ret == 0) {
		ret = put(t, &mail, &want);
		if (ret != -EAGAIN)
			break;
		ret = wait_for_inbox(t, &wait);
	}
	scratch_free(&mail);
	return ret;
}

/* What lies in both places is brought to an end if that is possible: the next
 * session of UW would take it, too. */
static bool is_over(struct taking *t)
{
	if (!atomic_load(t->stop))
		return false;
	if (t->linger_ms == 0)
		t->linger_ms = clock_ms() + LINGER_MS;
	return t->out->count == 0 || clock_ms() > t->linger_ms;
}

static int take_all(struct taking *t, size_t at)
{
	struct spool_mail m;
	int ret;

	while ((ret = spool_next(t->spool.data, t->spool.len, at, &m)) == 0) {
		if (is_over(t))
			return -ECANCELED;
		spoollock_refresh(&t->lock);
		ret = take_one(t, &m);
		if (ret < 0)
			return ret;
		at = m.end;
	}
	return ret == -ENOENT ? 0 : ret;
}

/* ---- is there room? ------------------------------------------------------ */

/* Quirk: some filesystems do not say. */
static bool has_room(const struct statvfs *fs, unsigned share, uint64_t need)
{
	return fs->f_blocks == 0 ||
		need <= fs->f_bavail / share * (uint64_t)fs->f_frsize;
}

/* In lockdir= UW, too, needs room, and a file of the user's own may have any
 * size and lie nowhere. What is copied once more, a message, is smaller. */
static int check_lockdir(const char *dir, size_t len)
{
	struct statvfs fs;

	if (statvfs(dir, &fs) < 0)
		return -errno;
	return has_room(&fs, SHARE_OF_ROOM, len) ? 0 : -ENOSPC;
}

static int check_disk(const struct taking *t, uint64_t need)
{
	const struct options *o = t->u->fs->opt;
	const struct pattern *p = t->f->place == LEDGER_PLACE_FOLDERS
		? &o->folders
		: &o->inbox[t->f->place];
	AUTO_FD int fd = pattern_open(p, t->u->name, t->f->legacy, O_PATH);
	struct statvfs fs;

	if (fd < 0)
		return fd;
	if (fstatvfs(fd, &fs) < 0)
		return -errno;
	return has_room(&fs, 1, need) ? 0 : -ENOSPC;
}

/* All of it or nothing: UW would take once more what lies in INBOX already when
 * there is no room for the rest. */
static int check_inbox(const struct taking *t, size_t keep)
{
	uint64_t max = t->u->fs->opt->mbx_max, need;
	struct spool_mail m = { .end = keep };
	struct stamp now;
	int ret = t->box->ops->stamp(t->box, &now);

	need = end_lines(t->spool.data + keep, t->spool.len - keep, NULL);
	while (spool_next(t->spool.data, t->spool.len, m.end, &m) == 0)
		need += MBX_LINE_MAX;
	if (ret < 0)
		return ret;
	if (max > 0 && need > max - (now.size < max ? now.size : max))
		return -EFBIG;
	return check_disk(t, need);
}

/* ---- the spool ----------------------------------------------------------- */

static int copy_spool(struct taking *t)
{
	struct stat st;
	size_t len;
	ssize_t n;
	int ret;

	if (fstat(t->lock.fd, &st) < 0)
		return -errno;
	len = (size_t)st.st_size;
	ret = check_lockdir(t->lock.opt.dir, len);
	if (ret < 0)
		return ret;
	ret = scratch_make(&t->spool, t->lock.opt.dir, len);
	if (ret < 0)
		return ret;
	n = io_read_at(t->lock.fd, t->spool.data, len, 0);
	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -ESTALE;
}

/* UW's own first message stays, and the file itself. The times say that there
 * is nothing new, as UW leaves them. */
static int cut_spool(struct taking *t, size_t keep)
{
	struct timespec times[2];
	struct stat st;
	int ret;

	if (fstat(t->lock.fd, &st) < 0)
		return -errno;
	t->out->rest = (size_t)st.st_size != t->spool.len;
	if (t->out->rest)
		return 0;
	t->left = keep;
	ret = io_truncate(t->lock.fd, keep);
	if (ret == 0)
		ret = io_fsync(t->lock.fd);
	if (ret < 0)
		return ret;
	times[0] = (struct timespec){ .tv_sec = time(NULL) };
	times[1] = (struct timespec){ .tv_sec = times[0].tv_sec - 1 };
	(void)!io_set_times(t->lock.fd, times);
	return drop_note(t);
}

static int take_locked(struct taking *t)
{
	struct spool_mail first;
	size_t keep = 0;
	int ret = copy_spool(t);

	t->left = t->spool.len;
	if (ret == 0)
		ret = spool_next(t->spool.data, t->spool.len, 0, &first);
	if (ret == -ENOENT)
		return drop_note(t);
	if (ret == 0 && first.is_pseudo)
		keep = first.end;
	if (ret < 0)
		return ret;
	if (keep == t->spool.len)
		return drop_note(t);
	ret = look_at_inbox(t);
	if (ret == 0 && !snarf_noted(t->u, t->notes))
		ret = check_inbox(t, keep);
	if (ret == 0 && t->there_count == 0)
		ret = make_note(t);
	if (ret == 0)
		ret = take_all(t, keep);
	return ret == 0 ? cut_spool(t, keep) : ret;
}

static void forget(struct taking *t)
{
	scratch_free(&t->spool);
	free(t->there);
	t->there = NULL;
	t->there_count = t->there_room = 0;
}

/* Before the locks are dropped: what comes after them is new. */
static int note_end(struct taking *t)
{
	struct snarf_taken *out = t->out;

	if (fstat(t->lock.fd, &out->st) < 0)
		return -errno;
	if ((size_t)out->st.st_size != t->left)
		out->rest = true;
	return 0;
}

int snarf_take(const struct folder *f, struct box *box, int notes,
	       const atomic_bool *stop, struct snarf_taken *out)
{
	struct user *u = f->user;
	struct mbxlock_options opt = { .dir = u->fs->opt->lockdir,
				       .uid = u->uid,
				       .gid = u->gid };
	struct taking t = { .u = u,
			    .f = f,
			    .box = box,
			    .notes = notes,
			    .stop = stop,
			    .spool = { .fd = -1 },
			    .out = out };
	int ret;

	*out = (struct snarf_taken){ .count = 0 };
	mbxlock_limit(UINT_MAX);
	ret = spoollock_take(&u->fs->opt->spool, u->name, &opt, &t.lock);
	if (ret < 0)
		return ret;
	for (int i = 0; i < ROUNDS; i++) {
		ret = take_locked(&t);
		if (ret < 0 || !out->rest)
			break;
		/* Were it left now, UW could take what we have, too. */
		forget(&t);
	}
	forget(&t);
	if (ret == 0)
		ret = note_end(&t);
	spoollock_drop(&t.lock);
	return ret;
}
