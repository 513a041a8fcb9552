/*
 * Locks, and what is read under them: header, records, UIDs.
 *
 * UIDLAST in the header is raised, and on disk, before any UID above it is in a
 * record: a UW process that found it the other way round would reset
 * UIDVALIDITY (src/osdep/unix/mbx.c, mbx_parse()). A crash in between leaves
 * numbers that nobody has; records without a UID are then shown with higher
 * ones than before. That cannot be helped: the two places cannot change at
 * once.
 */
#include "compat/clock.h"
#include "compat/mbx_internal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compat/io.h"

enum { REST_US = 2000 };

/* ---- sessions ------------------------------------------------------------ */

int64_t mbx_now(void)
{
	struct timespec ts;

	/* Not time(): that clock may still be in the second before. */
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec;
}

static int open_to_write(struct mbx_box *b)
{
	AUTO_FD int fd = -1;
	struct stat was, now;

	if (b->write_fd >= 0)
		return 0;
	fd = pattern_open(b->store->root, b->store->user, b->folder, O_RDWR);
	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	if (fstat(b->fd, &was) < 0 || fstat(fd, &now) < 0)
		return -errno;
	if (was.st_dev != now.st_dev || was.st_ino != now.st_ino)
		return -ESTALE;
	b->write_fd = base_steal_fd(&fd);
	return 0;
}

/*
 * Quirk: UW gives up, and a delivery fails or a session becomes read-only, if
 * the lock file is there when it looks, gone when it opens it, and there again
 * when it looks once more (src/osdep/unix/env_unix.c, lock_work()). Seen with
 * strace when we took, removed and took the lock as fast as we could.
 */
void mbx_rest(const struct mbx_box *b)
{
	int64_t left = b->let_go + REST_US - clock_us();

	if (left <= REST_US)
		clock_nap_us(left);
}

void mbx_let_go(struct mbx_box *b)
{
	b->let_go = clock_us();
}

int mbx_begin(struct box *box)
{
	struct mbx_box *b = (struct mbx_box *)box;
	AUTO_FREE struct mbx_session *s = calloc(1, sizeof(*s));
	struct stamp stamp;
	int ret = s ? open_to_write(b) : -ENOMEM;

	assert(!b->session);
	if (ret < 0)
		return ret;
	mbx_rest(b);
	ret = mbx_share_begin(b);
	if (ret < 0)
		return ret;
	ret = mbxlock_parse(b->fd, &b->lock, &s->lock);
	if (ret < 0) {
		mbx_share_end(b);
		return ret;
	}
	b->session = base_steal_ptr(&s);
	/* Whoever renames or removes a mailbox needs it for himself, which
	 * nobody can have from here on: one look is enough. */
	ret = mbx_stamp(box, &stamp);
	if (ret < 0)
		mbx_end(box, NULL);
	return ret;
}

/* As UW does after a change, and after an append (so that the mailbox shows as
 * having new mail); who may not set them is not told there either. */
static void set_times(struct mbx_box *b, bool own)
{
	const struct mbx_session *s = b->session;
	int64_t now = mbx_now();
	struct timespec times[2] = { { .tv_sec = s->grown ? now - 1 : now },
				     s->mtime };

	if (s->marked) {
		b->mark = now > s->mtime.tv_sec ? now : s->mtime.tv_sec;
		b->base.touch_due = now + 1;
		times[1] = (struct timespec){ .tv_sec = b->mark };
	}
	if (!s->wrote)
		times[0] = (struct timespec){ .tv_nsec = UTIME_OMIT };
	if (own)
		times[1].tv_nsec = STAMP_OWN_NS;
	(void)!io_set_times(b->write_fd, times);
}

void mbx_end(struct box *box, struct stamp *out)
{
	struct mbx_box *b = (struct mbx_box *)box;
	const struct mbx_session *s = b->session;

	assert(s);
	if (s->wrote || (s->touched && out))
		set_times(b, out != NULL);
	if (out && mbx_stamp(box, out) < 0)
		*out = (struct stamp){ .ino = 0 };
	mbxlock_parse_release(&b->session->lock, &b->lock);
	mbx_let_go(b);
	mbx_share_end(b);
	free(b->session);
	b->session = NULL;
}

int mbx_session_load(struct mbx_box *b)
{
	struct mbx_session *s = b->session;
	struct stat st;
	ssize_t n;
	int ret;

	if (s->loaded)
		return 0;
	if (fstat(b->write_fd, &st) < 0)
		return -errno;
	n = io_read_at(b->write_fd, s->head, sizeof(s->head), 0);
	if (n < 0)
		return (int)n;
	ret = mbx_header_parse(s->head, (size_t)n, &s->header, NULL);
	if (ret < 0)
		return ret;
	s->size = (uint64_t)st.st_size;
	s->mtime = st.st_mtim;
	s->loaded = true;
	return 0;
}

int mbx_session_enter(struct mbx_box *b, bool *own)
{
	int ret;

	*own = !b->session;
	ret = *own ? mbx_begin(&b->base) : 0;
	if (ret < 0)
		return ret;
	ret = mbx_session_load(b);
	if (ret < 0)
		mbx_session_leave(b, *own);
	return ret;
}

void mbx_session_leave(struct mbx_box *b, bool own)
{
	if (own)
		mbx_end(&b->base, NULL);
}

int mbx_session_write(struct mbx_box *b, const void *data, size_t len,
		      uint64_t off)
{
	int ret;

	b->session->wrote = true;
	ret = io_pwrite(b->write_fd, data, len, off);
	/* Only now: a sync() beside us may have come before the octets. */
	atomic_store(&b->unsynced, true);
	return ret;
}

/* ---- walking ------------------------------------------------------------- */

int mbx_record_at(struct mbx_box *b, struct mbx_window *w, uint64_t off,
		  struct mbx_record *r)
{
	uint64_t end = b->session->size;
	const uint8_t *p = NULL;
	size_t len = 0;
	int ret = mbx_window_at(w, b->write_fd, off, end, &p, &len);

	if (ret < 0)
		return ret;
	if (mbx_record_parse(p, len, r, NULL) < 0 ||
	    r->size > end - off - r->line)
		return -EBADMSG;
	mbx_window_expect(w, r->size);
	return 0;
}

/* Whether the record where a walk could start still lies there. */
static bool tail_holds(struct mbx_box *b, struct mbx_window *w)
{
	const struct mbx_session *s = b->session;
	const struct mbx_tail *t = &b->tail;
	struct mbx_record r;

	return t->off >= MBX_HEADER_SIZE && t->after.off <= s->size &&
		t->uidvalidity == s->header.uidvalidity &&
		mbx_record_at(b, w, t->off, &r) == 0 &&
		t->off + r.line + r.size == t->after.off &&
		r.uid == t->after.uid_prev;
}

static void walk_start(struct mbx_box *b, struct mbx_window *w,
		       struct mbx_walk *walk)
{
	uint32_t uidlast = b->session->header.uidlast;

	*walk = (struct mbx_walk){ .at = { .off = MBX_HEADER_SIZE } };
	if (tail_holds(b, w)) {
		walk->at = b->tail.after;
		walk->uid_disk = walk->at.uid_prev;
	}
	if (walk->at.uid_last < uidlast)
		walk->at.uid_last = uidlast;
}

uint32_t mbx_walk_pass(struct mbx_box *b, struct mbx_walk *walk,
		       const struct mbx_record *r)
{
	struct damage ignored = { .kind = DAMAGE_NONE };
	struct scan_point before = walk->at;
	uint32_t uid = mbx_next_uid(&walk->at, r, before.off, &ignored);

	if (uid == 0 || uid == UINT32_MAX)
		walk->at.broken = 1; /* none is left */
	walk->at.off += r->line + r->size;
	if (r->uid == 0 && walk->zeros++ == 0)
		walk->zero = before;
	if (r->uid > walk->uid_disk)
		walk->uid_disk = r->uid;
	mbx_tail_note(b, r, before.off, b->session->header.uidvalidity,
		      &walk->at);
	return uid;
}

int mbx_session_walk(struct mbx_box *b)
{
	AUTO_FREE struct mbx_window *w = NULL;
	struct mbx_session *s = b->session;
	struct mbx_record r;
	struct mbx_walk walk;
	int ret = 0;

	if (s->walked)
		return 0;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	mbx_window_expect(w, 0);
	walk_start(b, w, &walk);
	while (ret == 0 && walk.at.off < s->size) {
		ret = mbx_record_at(b, w, walk.at.off, &r);
		if (ret == 0)
			(void)mbx_walk_pass(b, &walk, &r);
	}
	if (ret < 0)
		return ret;
	s->walk = walk;
	s->walked = true;
	return 0;
}

/* ---- UIDs ---------------------------------------------------------------- */

static int write_uidlast(struct mbx_box *b, uint32_t uid)
{
	char digits[9];

	(void)snprintf(digits, sizeof(digits), "%08x", uid);
	return mbx_session_write(b, digits, 8, MBX_UIDLAST_AT);
}

int mbx_raise_uidlast(struct mbx_box *b, uint32_t uid)
{
	int ret;

	if (uid <= b->session->header.uidlast)
		return 0;
	ret = write_uidlast(b, uid);
	if (ret < 0)
		return ret;
	b->session->header.uidlast = uid;
	return io_fsync(b->write_fd);
}

/* @text: offset of the message */
static int write_uid(struct mbx_box *b, uint64_t text, uint32_t uid)
{
	char digits[9];

	(void)snprintf(digits, sizeof(digits), "%08x", uid);
	return mbx_session_write(b, digits, 8, text - MBX_UID_BACK);
}

int mbx_number(struct mbx_box *b, uint64_t last, bool write, uint32_t *uid_out)
{
	AUTO_FREE struct mbx_window *w = calloc(1, sizeof(*w));
	struct mbx_session *s = b->session;
	struct damage ignored = { .kind = DAMAGE_NONE };
	struct scan_point at = s->walk.zero;
	struct mbx_record r;
	int ret = w ? 0 : -ENOMEM;

	if (s->walk.zeros == 0 || ret < 0)
		return ret;
	mbx_window_expect(w, 0);
	while (ret == 0 && at.off <= last && at.off < s->size) {
		uint64_t off = at.off;
		uint32_t was;

		ret = mbx_record_at(b, w, off, &r);
		if (ret < 0)
			break;
		was = r.uid;
		r.uid = mbx_next_uid(&at, &r, off, &ignored);
		at.off += r.line + r.size;
		if (write && was == 0)
			ret = write_uid(b, off + r.line, r.uid);
	}
	*uid_out = at.uid_prev;
	if (!write)
		return ret;
	s->walked = false;
	return ret < 0 ? ret : io_fsync(b->write_fd);
}
