/*
 * Changing an MBX in place: flags, keywords, expunges.
 *
 * Other programs have the file open and remember what they read, so:
 * - Only fields of fixed width are overwritten, and the first unused keyword
 *   line. Nothing moves. Of the flags only those bits change that were asked
 *   for. The UID of a record changes from none to one, never else.
 * - The last-writer field at the end of the header is left alone. UW rewrites
 *   the whole header from memory when it finds that field changed (src/osdep/
 *   unix/mbx.c, mbx_flag(), mbx_update_header()), with what may be an old
 *   UIDLAST. Sessions notice flags by mtime too, in whole seconds, later than
 *   the one they remember: hence the second touch, when the second is over.
 */
#include "compat/mbx_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "compat/io.h"

/* ---- UIDs ---------------------------------------------------------------- */

/* Give @m, which has none, its UID on disk, and those before it theirs. */
static int settle(struct mbx_box *b, const struct msg *m)
{
	uint32_t uid = 0;
	int ret = mbx_session_walk(b);

	if (ret < 0)
		return ret;
	if (b->session->walk.at.broken)
		return -EBADMSG;
	ret = mbx_number(b, m->off - m->line, false, &uid);
	if (ret < 0)
		return ret;
	if (uid != m->uid)
		return -ESTALE; /* not the number that was shown */
	ret = mbx_raise_uidlast(b, uid);
	return ret < 0 ? ret : mbx_number(b, m->off - m->line, true, &uid);
}

static int assign_locked(struct mbx_box *b)
{
	const struct mbx_walk *walk = &b->session->walk;
	uint32_t uid = 0;
	int ret = mbx_session_walk(b);

	if (ret < 0)
		return ret;
	if (walk->at.broken)
		return -EBADMSG;
	ret = mbx_raise_uidlast(b, walk->at.uid_prev);
	return ret < 0 ? ret : mbx_number(b, b->session->size, true, &uid);
}

int mbx_assign(struct box *box)
{
	struct mbx_box *b = (struct mbx_box *)box;
	bool own;
	int ret = mbx_session_enter(b, &own);

	if (ret < 0)
		return ret;
	ret = assign_locked(b);
	mbx_session_leave(b, own);
	return ret;
}

/* Numbers before UIDLAST: a record that has none yet was shown with the one
 * that follows UIDLAST as it is now. */
static int reserve_locked(struct mbx_box *b, uint32_t uid)
{
	int ret;

	if (uid <= b->session->header.uidlast)
		return 0;
	ret = assign_locked(b);
	return ret < 0 ? ret : mbx_raise_uidlast(b, uid);
}

int mbx_reserve(struct box *box, uint32_t uid)
{
	struct mbx_box *b = (struct mbx_box *)box;
	bool own;
	int ret = uid == UINT32_MAX ? -EINVAL : mbx_session_enter(b, &own);

	if (ret < 0)
		return ret;
	ret = reserve_locked(b, uid);
	mbx_session_leave(b, own);
	return ret;
}

int mbx_mend(struct box *box, uint32_t *was, uint32_t *is)
{
	struct mbx_box *b = (struct mbx_box *)box;
	bool own;
	int ret = mbx_session_enter(b, &own);

	if (ret < 0)
		return ret;
	*was = b->session->header.uidlast;
	ret = mbx_session_walk(b);
	if (ret == 0 && b->session->walk.at.broken)
		ret = -EBADMSG;
	if (ret == 0)
		ret = mbx_raise_uidlast(b, b->session->walk.uid_disk);
	*is = b->session->header.uidlast;
	mbx_session_leave(b, own);
	return ret;
}

/* ---- flags and expunge --------------------------------------------------- */

int mbx_line_of(struct mbx_box *b, const struct msg *m, struct mbx_record *r)
{
	uint8_t line[MBX_LINE_MAX];
	ssize_t n;

	if (m->line > MBX_LINE_MAX || m->off < m->line)
		return -EUCLEAN;
	n = io_read_at(b->write_fd, line, m->line, m->off - m->line);
	if (n < 0)
		return (int)n;
	if ((size_t)n < m->line || m->off + m->size > b->session->size ||
	    !mbx_line_is_of(line, m, r))
		return -ESTALE;
	return 0;
}

/* 12 digits, and never the UID behind them. */
int mbx_write_flags(struct mbx_box *b, uint64_t text,
		    const struct mbx_record *r)
{
	char digits[13];

	b->session->marked = true;
	(void)snprintf(digits, sizeof(digits), "%08x%04x", r->keywords,
		       r->flags & 0xffff);
	return mbx_session_write(b, digits, 12, text - MBX_FIELD_BACK);
}

uint32_t mbx_named_slots(const struct mbx_header *h)
{
	uint32_t slots = 0;

	for (unsigned i = 0; i < MBX_KEYWORDS; i++)
		if (h->keywords.name[i][0])
			slots |= UINT32_C(1) << i;
	return slots;
}

static int flag_locked(struct mbx_box *b, const struct msg *m,
		       const struct flag_change *c, struct msg *out)
{
	struct mbx_record was, r;
	int ret = mbx_line_of(b, m, &was);

	if (ret < 0)
		return ret;
	if (c->keywords_set & ~mbx_named_slots(&b->session->header))
		return -ESTALE;
	r = was;
	r.flags &= ~(c->clear & MSG_SYSTEM);
	r.flags |= c->set & (MSG_SYSTEM | MSG_OLD);
	r.keywords &= ~c->keywords_clear;
	r.keywords |= c->keywords_set;
	if (r.flags != was.flags || r.keywords != was.keywords)
		ret = mbx_write_flags(b, m->off, &r);
	if (ret == 0 && out) {
		*out = *m;
		out->flags = r.flags;
		out->keywords = r.keywords;
		out->uid_disk = r.uid;
	}
	return ret;
}

int mbx_flag(struct box *box, const struct msg *m, const char *name,
	     const struct flag_change *change, struct msg *out)
{
	struct mbx_box *b = (struct mbx_box *)box;
	bool own;
	int ret = mbx_session_enter(b, &own);

	(void)name;
	if (ret < 0)
		return ret;
	ret = flag_locked(b, m, change, out);
	mbx_session_leave(b, own);
	return ret;
}

static int expunge_locked(struct mbx_box *b, const struct msg *m)
{
	const uint32_t gone = MSG_EXPUNGED | MSG_DELETED;
	struct mbx_record r;
	int ret = mbx_line_of(b, m, &r);

	if (ret < 0 || (r.flags & gone) == gone)
		return ret;
	/* UW gives no UID to an expunged record, yet counts it at every
	 * parse: UIDs after it would be out of order. */
	if (r.uid == 0)
		ret = settle(b, m);
	if (ret < 0)
		return ret;
	r.flags |= gone;
	return mbx_write_flags(b, m->off, &r);
}

int mbx_expunge(struct box *box, const struct msg *m, const char *name)
{
	struct mbx_box *b = (struct mbx_box *)box;
	bool own;
	int ret = mbx_session_enter(b, &own);

	(void)name;
	if (ret < 0)
		return ret;
	ret = expunge_locked(b, m);
	mbx_session_leave(b, own);
	return ret;
}

/* ---- keywords ------------------------------------------------------------ */

/* Where the first line after the table starts: mbx_header_parse() found that
 * many, each with a CR. */
static size_t table_end(const struct mbx_session *s)
{
	const uint8_t *p = s->head + MBX_KEYWORDS_AT;

	for (unsigned i = 0; i < s->header.keyword_lines; i++)
		p = (const uint8_t *)rawmemchr(p, '\r') + 2;
	return (size_t)(p - s->head);
}

/* Whether only empty lines and padding would be overwritten. */
static bool is_blank(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] && p[i] != '\r' && p[i] != '\n')
			return false;
	return true;
}

static int write_keyword_lines(struct mbx_box *b, size_t at, const char *text,
			       size_t len)
{
	b->session->marked = true;
	return mbx_session_write(b, text, len, at);
}

/*
 * The first line that was never used gets the name; the empty lines after it
 * move down into the padding. A slot whose name is too long for UW, and a table
 * with a hole, are left alone: messages have their bits.
 */
static int create_keyword(struct mbx_box *b, const char *name)
{
	struct mbx_session *s = b->session;
	unsigned slot = s->header.keyword_lines;
	char text[MBX_KEYWORD_MAX + 1 + 2 * MBX_KEYWORDS];
	size_t at = table_end(s), len = 0;
	int ret;

	if (slot >= MBX_KEYWORDS || s->header.keyword_hidden > 0)
		return -ENOSPC;
	len = (size_t)snprintf(text, sizeof(text), "%s", name);
	for (unsigned i = slot; i < MBX_KEYWORDS; i++) {
		text[len++] = '\r';
		text[len++] = '\n';
	}
	if (at + len > MBX_PID_AT || !is_blank(s->head + at, len))
		return -ENOSPC;
	ret = write_keyword_lines(b, at, text, len);
	if (ret < 0)
		return ret;
	memcpy(s->head + at, text, len);
	(void)snprintf(s->header.keywords.name[slot], KEYWORD_NAME_MAX + 1,
		       "%s", name);
	s->header.keyword_lines++;
	return (int)slot;
}

static int keyword_locked(struct mbx_box *b, const char *name)
{
	const struct mbx_header *h = &b->session->header;

	for (unsigned i = 0; i < h->keyword_lines; i++)
		if (h->keywords.name[i][0] &&
		    strcasecmp(h->keywords.name[i], name) == 0)
			return (int)i;
	return mbx_keyword_valid(name) ? create_keyword(b, name) : -EINVAL;
}

int mbx_keyword(struct box *box, const char *name, unsigned *slot_out)
{
	struct mbx_box *b = (struct mbx_box *)box;
	bool own;
	int ret = mbx_session_enter(b, &own);

	if (ret < 0)
		return ret;
	ret = keyword_locked(b, name);
	mbx_session_leave(b, own);
	if (ret < 0)
		return ret;
	*slot_out = (unsigned)ret;
	return 0;
}

/* ---- touch and sync ------------------------------------------------------ */

static int touch_locked(struct mbx_box *b, int64_t now)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
	struct mbx_session *s = b->session;
	struct stat st;
	int ret = mbx_session_load(b);

	if (ret < 0 || s->marked)
		return ret; /* if marked: end() does it, and touch() again */
	/* Later than what anybody can remember from before the change? */
	if (s->mtime.tv_sec <= b->mark) {
		times[1].tv_sec = now > b->mark ? now : b->mark + 1;
		/* UW shows new mail where atime is before ctime: as before. */
		if (fstat(b->write_fd, &st) == 0 &&
		    st.st_atim.tv_sec >= st.st_ctim.tv_sec)
			times[0] = times[1];
		s->mtime = times[1];
		ret = io_set_times(b->write_fd, times);
		s->touched = ret == 0;
	}
	if (ret == 0 || ret == -EPERM)
		b->base.touch_due = 0;
	return ret;
}

int mbx_touch(struct box *box)
{
	struct mbx_box *b = (struct mbx_box *)box;
	int64_t now = mbx_now();
	bool own = !b->session;
	int ret = 0;

	if (b->base.touch_due == 0 || now < b->base.touch_due)
		return 0;
	if (own)
		ret = mbx_begin(box);
	if (ret < 0)
		return ret;
	ret = touch_locked(b, now);
	mbx_session_leave(b, own);
	return ret;
}

int mbx_sync(struct box *box)
{
	struct mbx_box *b = (struct mbx_box *)box;
	int ret = 0;

	/* Who finds nothing to do must not be told so before another one's
	 * fsync() is over. */
	(void)pthread_mutex_lock(&b->sync_lock);
	/* Cleared first: what is written from now on is for the next time. */
	if (atomic_exchange(&b->unsynced, false))
		ret = io_fsync(b->write_fd);
	if (ret < 0)
		atomic_store(&b->unsynced, true);
	(void)pthread_mutex_unlock(&b->sync_lock);
	return ret;
}
