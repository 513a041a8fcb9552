#include "compat/mbx.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"
#include "compat/mbx_internal.h"
#include "compat/mbxwalk.h"

enum {
	SLICE = 4096, /* records looked at under one parse lock */
	/* Small messages: many records in one read. Large ones: only lines. */
	WINDOW_SMALL = 4096,
};

/* A scan under way. */
struct scanner {
	struct mbx_box *box;
	struct scan *scan;
	store_msg_fn *fn;
	void *arg;
	bool header_seen;
	struct mbx_window window;
};

static const struct store_ops mbx_ops;

/* ---- store: list and open ------------------------------------------------ */

static int mbx_list(struct store *s, store_list_fn *fn, void *arg)
{
	struct mbx_store *ms = (struct mbx_store *)s;
	AUTO_FD int fd = pattern_open(ms->root, ms->user, "", O_RDONLY);

	return fd < 0 ? fd : mbxwalk_list(fd, &ms->opt, ms->walked, fn, arg);
}

static void mbx_store_free(struct store *s)
{
	struct mbx_store *ms = (struct mbx_store *)s;

	if (!ms)
		return;
	mbxwalk_cache_free(ms->walked);
	free(ms->user);
	free(ms);
}

int mbx_store_new(const struct pattern *root, const char *user,
		  const struct mbx_options *opt, struct store **out)
{
	struct mbx_store *ms = calloc(1, sizeof(*ms));

	if (!ms)
		return -ENOMEM;
	ms->user = strdup(user ? user : "");
	if (!ms->user) {
		free(ms);
		return -ENOMEM;
	}
	ms->base.ops = &mbx_ops;
	ms->root = root;
	ms->opt = *opt;
	ms->walked = mbxwalk_cache_new();
	ms->lock = (struct mbxlock_options){ .dir = opt->lock_dir,
					     .ms = opt->lock_ms,
					     .uid = opt->owner,
					     .gid = opt->group };
	*out = &ms->base;
	return 0;
}

/* Looked at through O_PATH before it is opened for reading: opening a device
 * can do things. */
static int check_openable(struct mbx_store *ms, const char *folder)
{
	AUTO_FD int fd = pattern_open(ms->root, ms->user, folder, O_PATH);
	const char *fs_name;
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOTSUP;
	if (io_is_network_fs(fd, &fs_name))
		return -EREMOTE;
	if (st.st_nlink > 1)
		return -EMLINK;
	return mbxwalk_refusal(&ms->opt, &st) ? -EPERM : 0;
}

static int mbx_open(struct store *s, const char *folder, struct box **out)
{
	struct mbx_store *ms = (struct mbx_store *)s;
	struct mbx_box *b;
	int ret = check_openable(ms, folder);
	AUTO_FD int fd = -1;

	if (ret < 0)
		return ret;
	fd = pattern_open(ms->root, ms->user, folder, O_RDONLY);
	if (fd < 0)
		return fd;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->folder = strdup(folder);
	if (!b->folder) {
		free(b);
		return -ENOMEM;
	}
	b->base.ops = &mbx_ops;
	b->store = ms;
	b->lock = ms->lock;
	b->fd = base_steal_fd(&fd);
	b->write_fd = -1;
	(void)pthread_mutex_init(&b->share_lock, NULL);
	(void)pthread_mutex_init(&b->sync_lock, NULL);
	*out = &b->base;
	return 0;
}

static void mbx_close(struct box *box)
{
	struct mbx_box *b = (struct mbx_box *)box;

	if (!b)
		return;
	if (b->session)
		mbx_end(box, NULL);
	base_auto_close(&b->write_fd);
	(void)close(b->fd);
	(void)pthread_mutex_destroy(&b->share_lock);
	(void)pthread_mutex_destroy(&b->sync_lock);
	free(b->folder);
	free(b);
}

/* ---- box: stamp and locks ------------------------------------------------ */

/* UW renames INBOX away and makes a new one: then the file lives on, and is
 * another folder's. */
static bool name_shows(const struct mbx_box *b, const struct stat *st)
{
	AUTO_FD int fd =
		pattern_open(b->store->root, b->store->user, b->folder, O_PATH);
	struct stat now;

	return fd >= 0 && fstat(fd, &now) == 0 && now.st_dev == st->st_dev &&
		now.st_ino == st->st_ino;
}

struct stamp mbx_stamp_of(const struct stat *st)
{
	return (struct stamp){ .dev = st->st_dev,
			       .ino = st->st_ino,
			       .size = (uint64_t)st->st_size,
			       .mtime_ns = io_ns(&st->st_mtim),
			       .ctime_ns = io_ns(&st->st_ctim) };
}

int mbx_stamp(struct box *box, struct stamp *out)
{
	struct mbx_box *b = (struct mbx_box *)box;
	struct stat st;

	if (fstat(b->fd, &st) < 0)
		return -errno;
	if (st.st_nlink == 0 || !name_shows(b, &st))
		return -ESTALE;
	*out = mbx_stamp_of(&st);
	return 0;
}

int mbx_share_begin(struct mbx_box *b)
{
	struct mbxlock_wait wait = mbxlock_wait_start(b->lock.ms);
	int ret;

	/* The mutex is held for one try only: threads that wait for the same
	 * lock wait side by side, not one after the other. */
	do {
		(void)pthread_mutex_lock(&b->share_lock);
		ret = b->shares ? 0 : mbxlock_share(b->fd, 0);
		if (ret == 0)
			b->shares++;
		(void)pthread_mutex_unlock(&b->share_lock);
	} while (ret == -EAGAIN && mbxlock_wait_more(&wait));
	return ret;
}

void mbx_share_end(struct mbx_box *b)
{
	(void)pthread_mutex_lock(&b->share_lock);
	if (--b->shares == 0)
		mbxlock_unshare(b->fd);
	(void)pthread_mutex_unlock(&b->share_lock);
}

/* ---- box: scan ----------------------------------------------------------- */

int mbx_window_at(struct mbx_window *w, int fd, uint64_t off, uint64_t end,
		  const uint8_t **p, size_t *len)
{
	uint64_t want =
		end - off < MBX_LINE_WINDOW ? end - off : MBX_LINE_WINDOW;
	size_t fill = w->small ? sizeof(w->data) : MBX_LINE_WINDOW;
	ssize_t n;

	if (off < w->off || off + want > w->off + w->len) {
		n = io_read_at(fd, w->data, fill, off);
		if (n < 0)
			return (int)n;
		if ((uint64_t)n < want)
			return -ESTALE; /* it shrank below us */
		w->off = off;
		w->len = (size_t)n;
	}
	*p = w->data + (off - w->off);
	*len = (size_t)want;
	return 0;
}

void mbx_window_expect(struct mbx_window *w, uint64_t size)
{
	w->small = size < WINDOW_SMALL;
}

uint32_t mbx_next_uid(struct scan_point *at, const struct mbx_record *r,
		      uint64_t off, struct damage *d)
{
	bool good = r->uid != 0 && !at->broken && r->uid > at->uid_prev;
	uint32_t uid;

	if (r->uid != 0 && !at->broken && !good) {
		at->broken = 1;
		damage_add(d, DAMAGE_UID, off, r->uid,
			   "UID %u follows %u; this and later messages are "
			   "shown with UIDs of their own",
			   r->uid, at->uid_prev);
	}
	if (good && r->uid > at->uid_last)
		damage_add(d, DAMAGE_UIDLAST, off, r->uid,
			   "UID %u is above UIDLAST (%u) in the header", r->uid,
			   at->uid_last);
	uid = good ? r->uid : at->uid_last + 1;
	if (uid == 0)
		return 0; /* none is left */
	at->uid_prev = uid;
	if (uid > at->uid_last)
		at->uid_last = uid;
	return uid;
}

void mbx_tail_note(struct mbx_box *b, const struct mbx_record *r, uint64_t off,
		   uint32_t uidvalidity, const struct scan_point *after)
{
	if (r->uid == 0 || after->broken)
		return;
	b->tail = (struct mbx_tail){ .off = off,
				     .uidvalidity = uidvalidity,
				     .after = *after };
}

static int deliver(struct scanner *c, const struct mbx_record *r)
{
	struct scan *s = c->scan;
	uint64_t off = s->next.off;
	struct msg m = { .uid_disk = r->uid,
			 .flags = r->flags,
			 .keywords = r->keywords,
			 .date = r->date,
			 .size = r->size,
			 .off = off + r->line,
			 .line = r->line,
			 .no_date = !r->date_ok };

	s->next.off = m.off + m.size;
	m.uid = mbx_next_uid(&s->next, r, off, &s->damage);
	mbx_tail_note(c->box, r, off, s->uidvalidity, &s->next);
	if (r->flags & MSG_EXPUNGED)
		return 0;
	if (m.uid == 0 || m.uid == UINT32_MAX) {
		/* Dovecot has no use for 2^32 - 1 either. */
		damage_add(&s->damage, DAMAGE_UID, off, r->uid,
			   "no UID is left below 2^32 - 1");
		return 0;
	}
	if (!r->date_ok)
		damage_add(&s->damage, DAMAGE_DATE, off, m.uid,
			   "unreadable date in the record of UID %u, shown as "
			   "1970 if it never was another; UW cannot open this "
			   "mailbox",
			   m.uid);
	return c->fn(&m, NULL, c->arg);
}

/* One record at scan->next. Return: 1 when delivered, 0 at the end of what can
 * be read (damage included), -errno. */
static int scan_one(struct scanner *c, uint64_t end)
{
	struct mbx_fault fault = { .off = 0, .want = "" };
	struct scan *s = c->scan;
	uint64_t off = s->next.off;
	struct mbx_record r;
	const uint8_t *p = NULL;
	size_t len = 0;
	int ret;

	if (off == end)
		return 0;
	ret = mbx_window_at(&c->window, c->box->fd, off, end, &p, &len);
	if (ret < 0)
		return ret;
	ret = mbx_record_parse(p, len, &r, &fault);
	if (ret == -EAGAIN) {
		damage_add(&s->damage, DAMAGE_RECORD, off, 0,
			   "the file ends in the middle of a record line");
		return 0;
	}
	if (ret < 0) {
		damage_add(&s->damage, DAMAGE_RECORD, off + fault.off, 0,
			   "record at %ju: expected %s at %ju", (uintmax_t)off,
			   fault.want, (uintmax_t)(off + fault.off));
		return 0;
	}
	if (r.size > end - off - r.line) {
		damage_add(&s->damage, DAMAGE_RECORD, off, r.uid,
			   "record at %ju: its message of %ju octets runs past "
			   "the end of the file",
			   (uintmax_t)off, (uintmax_t)r.size);
		return 0;
	}
	mbx_window_expect(&c->window, r.size);
	ret = deliver(c, &r);
	return ret < 0 ? ret : 1;
}

static void header_damage(struct scan *s, const struct mbx_header *h)
{
	for (unsigned i = 0; i < h->keyword_lines; i++)
		if (h->keywords.name[i][0] == '\0')
			damage_add(&s->damage, DAMAGE_KEYWORDS, 25, 0,
				   "keyword slot %u has a name of more than 50 "
				   "octets and cannot be shown",
				   i);
	if (h->keyword_hidden > 0)
		damage_add(&s->damage, DAMAGE_KEYWORDS, 25, 0,
			   "keyword table has a hole at slot %u; the %u "
			   "names after it are out of use",
			   h->keyword_lines, h->keyword_hidden);
}

/* For every slice: whoever had the lock before may have raised UIDLAST. */
static int scan_header(struct scanner *c, uint64_t size)
{
	struct scan *s = c->scan;
	uint8_t head[MBX_HEADER_SIZE];
	struct mbx_fault fault = { .off = 0, .want = "" };
	struct mbx_header h;
	ssize_t n = io_read_at(c->box->fd, head, sizeof(head), 0);
	int ret;

	if (n < 0)
		return (int)n;
	if ((uint64_t)n < sizeof(head) && (uint64_t)n < size)
		return -ESTALE;
	ret = mbx_header_parse(head, (size_t)n, &h, &fault);
	if (ret < 0) {
		damage_add(&s->damage, DAMAGE_HEADER, fault.off, 0,
			   "not an MBX file any more (%s): expected %s at %ju",
			   mbx_kind_name(mbx_sniff(head, (size_t)n)),
			   fault.want, (uintmax_t)fault.off);
		return ret;
	}
	if (c->header_seen && h.uidvalidity != s->uidvalidity)
		return -ESTALE;
	s->uidvalidity = h.uidvalidity;
	s->keywords = h.keywords;
	if (!c->header_seen)
		header_damage(s, &h);
	c->header_seen = true;
	if (s->next.off < MBX_HEADER_SIZE)
		s->next.off = MBX_HEADER_SIZE;
	if (h.uidlast > s->next.uid_last)
		s->next.uid_last = h.uidlast;
	return 0;
}

/* At most SLICE records under one parse lock. Return: as scan_one(). */
static int scan_slice(struct scanner *c)
{
	struct scan *s = c->scan;
	struct stat st;
	int ret;

	if (fstat(c->box->fd, &st) < 0)
		return -errno;
	if (st.st_size == 0 && s->next.off == 0)
		return 0; /* a mailbox about to be born */
	if ((uint64_t)st.st_size < s->next.off)
		return -ESTALE;
	ret = scan_header(c, (uint64_t)st.st_size);
	if (ret < 0)
		return ret;
	/* What was read before this lock was taken may show old flags. */
	c->window.len = 0;
	ret = 1;
	for (unsigned i = 0; i < SLICE && ret > 0; i++)
		ret = scan_one(c, (uint64_t)st.st_size);
	return ret;
}

static int scan_locked(struct scanner *c)
{
	struct mbxparse lock;
	int ret = 1;

	while (ret > 0 && c->box->session)
		ret = scan_slice(c); /* the lock is held already */
	/* Whoever waits for the lock wakes up to find its name gone and must
	 * open it anew: without a rest we would always be faster. */
	while (ret > 0) {
		mbx_rest(c->box);
		ret = mbxlock_parse(c->box->fd, &c->box->lock, &lock);
		if (ret < 0)
			break;
		ret = scan_slice(c);
		mbxlock_parse_release(&lock, &c->box->lock);
		mbx_let_go(c->box);
	}
	return ret;
}

static int mbx_scan(struct box *box, struct scan *s, store_msg_fn *fn,
		    void *arg)
{
	struct mbx_box *b = (struct mbx_box *)box;
	AUTO_FREE struct scanner *c = calloc(1, sizeof(*c));
	int ret = c ? mbx_share_begin(b) : -ENOMEM;

	if (ret < 0)
		return ret;
	*c = (struct scanner){ .box = b, .scan = s, .fn = fn, .arg = arg };
	mbx_window_expect(&c->window, 0);
	s->next = s->from;
	s->uidvalidity = 0;
	s->keywords = (struct keywords){ 0 };
	s->damage = (struct damage){ .kind = DAMAGE_NONE };
	ret = mbx_stamp(box, &s->stamp);
	if (ret == 0)
		ret = scan_locked(c);
	mbx_share_end(b);
	log_trace(LOG_STORE, "mbx: %s: scan from %ju to %ju: %d", b->folder,
		  (uintmax_t)s->from.off, (uintmax_t)s->next.off, ret);
	s->uidnext = s->next.uid_last;
	if (s->uidnext < UINT32_MAX)
		s->uidnext++;
	return ret;
}

static const struct store_ops mbx_ops = {
	.name = "mbx",
	.list = mbx_list,
	.open = mbx_open,
	.free = mbx_store_free,
	.close = mbx_close,
	.stamp = mbx_stamp,
	.scan = mbx_scan,
	.read = mbx_read,
	.holds = mbx_holds,
	.begin = mbx_begin,
	.end = mbx_end,
	.flag = mbx_flag,
	.keyword = mbx_keyword,
	.expunge = mbx_expunge,
	.append = mbx_append,
	.assign = mbx_assign,
	.reserve = mbx_reserve,
	.mend = mbx_mend,
	.renumber = mbx_renumber,
	.reslot = mbx_reslot,
	.touch = mbx_touch,
	.sync = mbx_sync,
};
