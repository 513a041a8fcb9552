/*
 * Octets of a message that was found earlier.
 *
 * UW moves messages, and nobody is told: a place is good only as long as the
 * file is as it was when a scan found the message there. Afterwards the record
 * line at that place is a hint, no more. What has the same UID, date and size
 * can be another message: one that has no UID yet, of the same second and size;
 * one of another UIDVALIDITY; or the text of a mail that somebody made look
 * like a record. mbx_holds() tells them apart.
 */
#include "compat/mbx_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "compat/io.h"
#include "compat/log.h"

/* Is this the line of the message we mean? One that was expunged since stays
 * readable for those who have it open, as long as its octets are there. A
 * message whose UID was not yet assigned when it was indexed may have got it
 * since, and it is then the one that was predicted. Without a UID on disk no UW
 * session has written to the mailbox since, so nothing can have moved. A date
 * that cannot be read any more says nothing against it. */
bool mbx_line_is_of(const uint8_t *line, const struct msg *m,
		    struct mbx_record *out)
{
	return mbx_record_parse(line, m->line, out, NULL) == 0 &&
		out->line == m->line && out->size == m->size &&
		(out->date == m->date || !out->date_ok) &&
		(out->uid == m->uid_disk ||
		 (m->uid_disk == 0 && out->uid == m->uid));
}

static ssize_t read_checked(struct mbx_box *b, const struct msg *m, void *buf,
			    size_t len, uint64_t off)
{
	uint8_t line[MBX_LINE_MAX];
	struct iovec iov[2] = { { .iov_base = line, .iov_len = m->line },
				{ .iov_base = buf, .iov_len = len } };
	int parts = off == 0 ? 2 : 1;
	struct mbx_record r;
	ssize_t n;

	/* From the start of a message, line and text come in one call. */
	n = preadv(b->fd, iov, parts, (off_t)(m->off - m->line));
	if (n < 0)
		return -errno;
	if ((size_t)n < m->line || !mbx_line_is_of(line, m, &r))
		return -ESTALE;
	if (parts == 2) {
		n -= (ssize_t)m->line;
		if ((size_t)n == len)
			return n;
		off += (uint64_t)n;
		buf = (uint8_t *)buf + n;
		len -= (size_t)n;
	} else {
		n = 0;
	}
	ssize_t more = io_read_at(b->fd, buf, len, m->off + off);

	if (more < 0)
		return more;
	return (size_t)more == len ? n + more : -ESTALE;
}

ssize_t mbx_read(struct box *box, const struct msg *m, const char *name,
		 void *buf, size_t len, uint64_t off)
{
	struct mbx_box *b = (struct mbx_box *)box;
	ssize_t n;

	(void)name;
	if (off >= m->size)
		return 0;
	if (len > m->size - off)
		len = m->size - off;
	if (m->line > MBX_LINE_MAX || m->off < m->line)
		return -EUCLEAN;
	n = mbx_share_begin(b);
	if (n < 0)
		return n;
	n = read_checked(b, m, buf, len, off);
	mbx_share_end(b);
	log_trace(LOG_STORE, "mbx: %s: read UID %u, %zu at %ju: %zd", b->folder,
		  m->uid, len, (uintmax_t)off, n);
	return n;
}

/* ---- is it there? -------------------------------------------------------- */

static bool same_message(const struct mbx_record *r, uint32_t uid,
			 const struct msg *m)
{
	return uid == m->uid && r->line == m->line && r->size == m->size &&
		(r->date == m->date || !r->date_ok);
}

static int check_regime(const struct mbx_box *b, uint32_t uidvalidity,
			struct scan_point *at)
{
	uint8_t head[MBX_HEADER_SIZE];
	struct mbx_header h;
	ssize_t n = io_read_at(b->fd, head, sizeof(head), 0);
	int ret = n < 0 ? (int)n : mbx_header_parse(head, (size_t)n, &h, NULL);

	if (ret < 0)
		return ret;
	if (h.uidvalidity != 0 && h.uidvalidity != uidvalidity)
		return -ESTALE;
	*at = (struct scan_point){ .off = MBX_HEADER_SIZE,
				   .uid_last = h.uidlast };
	return 0;
}

/* The record at @at, and on to the next one. */
static int pass(const struct mbx_box *b, struct mbx_window *w, uint64_t end,
		struct scan_point *at, struct mbx_record *r)
{
	struct damage ignored = { .kind = DAMAGE_NONE };
	const uint8_t *p = NULL;
	uint64_t off = at->off;
	size_t len = 0;
	int ret = off < end ? mbx_window_at(w, b->fd, off, end, &p, &len)
			    : -ESTALE;

	if (ret < 0)
		return ret;
	if (mbx_record_parse(p, len, r, NULL) < 0 ||
	    r->size > end - off - r->line)
		return -EBADMSG;
	mbx_window_expect(w, r->size);
	at->off += r->line + r->size;
	return mbx_next_uid(at, r, off, &ignored) ? 0 : -EBADMSG;
}

/* Without the parse lock: with the shared lock nothing moves, and what flags
 * and UIDs are written meanwhile is written in place. */
static int walk_to(const struct mbx_box *b, const struct msg *m,
		   uint32_t uidvalidity)
{
	AUTO_FREE struct mbx_window *w = calloc(1, sizeof(*w));
	uint64_t want = m->off - m->line;
	struct scan_point at = { .off = 0 };
	struct mbx_record r = { .line = 0 };
	struct stat st;
	int ret = w ? check_regime(b, uidvalidity, &at) : -ENOMEM;

	if (ret == 0 && fstat(b->fd, &st) < 0)
		ret = -errno;
	if (ret < 0)
		return ret;
	mbx_window_expect(w, 0);
	while (ret == 0 && at.off < want)
		ret = pass(b, w, (uint64_t)st.st_size, &at, &r);
	if (ret == 0 && at.off == want)
		ret = pass(b, w, (uint64_t)st.st_size, &at, &r);
	else if (ret == 0)
		ret = -ESTALE;
	return ret == 0 && !same_message(&r, at.uid_prev, m) ? -ESTALE : ret;
}

int mbx_holds(struct box *box, const struct msg *m, uint32_t uidvalidity,
	      const struct stamp *since)
{
	struct mbx_box *b = (struct mbx_box *)box;
	struct stamp now;
	struct stat st;
	int ret;

	if (fstat(b->fd, &st) < 0)
		return -errno;
	now = mbx_stamp_of(&st);
	if (stamp_equal(&now, since))
		return 0;
	ret = mbx_share_begin(b);
	if (ret < 0)
		return ret;
	ret = walk_to(b, m, uidvalidity);
	mbx_share_end(b);
	log_trace(LOG_STORE, "mbx: %s: UID %u, is it at %ju: %d", b->folder,
		  m->uid, (uintmax_t)m->off, ret);
	return ret;
}
