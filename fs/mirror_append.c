/*
 * Putting files into the MBX. In this order, so that a crash at any point is
 * made good by the next life:
 *
 *	journal_try, journal_sync	this file may be there under this UID
 *	box reserve			no one else gets Dovecot's UIDs
 *	box append			durable, or nothing
 *	journal_in			it is; need not be durable:
 *					mirror_same()
 *	index_insert			the row has the file's name
 *
 * Until journal_in nobody may rename or remove the file (files_hold()): its
 * flags are those that were appended. A lease is ended after some ten
 * milliseconds: UW waits.
 */
#include "compat/clock.h"
#include "fs/mirror_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compat/identity.h"
#include "compat/io.h"
#include "compat/log.h"
#include "fs/change.h"
#include "fs/files.h"
#include "fs/folder_internal.h"
#include "fs/follow.h"
#include "fs/lease.h"
#include "fs/user.h"

enum {
	BATCH = 32,		/* messages under one lease, */
	BATCH_OCTETS = 4 << 20, /* and octets, but always one */
	LEASE_MS = 8,		/* no further one is begun after that */
	LOCKED_MS = 1000,	/* who had it for less is not worth a word */
	WARM = 1 << 18,		/* larger ones are read before UW has to wait */
	CHUNK = 1 << 16,
};

/* One file that is being appended. */
struct one {
	struct pending p; /* base: a copy of ours */
	char name[NAME_MAX + 1];
	bool in_new;
	uint64_t size;
	uint32_t uid; /* wanted in the MBX */
};

struct batch {
	struct mirror *m;
	struct folder *f;
	struct journal *j;
	struct one *all;
	size_t count;
	bool stale;
};

/* ---- what is to be done -------------------------------------------------- */

static void refuse(struct mirror *m, uint32_t uid, const char *why)
{
	char name[400], base[400];
	bool found = false;

	(void)pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->count; i++) {
		struct pending *p = &m->pending[i];

		if (p->uid != uid || p->why)
			continue;
		p->why = why;
		(void)snprintf(base, sizeof(base), "%s", p->base);
		found = true;
	}
	(void)pthread_mutex_unlock(&m->lock);
	if (!found)
		return;
	folder_log_name(m->folder, name, sizeof(name));
	log_warn("%s: %s cannot be in the MBX: %s", name, base, why);
}

static void set_clash(struct mirror *m, uint32_t uid)
{
	(void)pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->count; i++)
		if (m->pending[i].uid == uid)
			m->pending[i].clash = true;
	(void)pthread_mutex_unlock(&m->lock);
}

/* Those whose UID is free go first, or they would lose theirs as well.
 * Return: how many were copied to @out; -ENOMEM. */
static ssize_t choose(struct mirror *m, struct one *out)
{
	size_t n = 0;
	int ret = 0;

	(void)pthread_mutex_lock(&m->lock);
	for (int clash = 0; clash < 2 && n == 0; clash++) {
		for (size_t i = 0; i < m->count && n < BATCH && ret == 0; i++) {
			const struct pending *p = &m->pending[i];

			if (p->why || p->clash != (clash == 1))
				continue;
			out[n] = (struct one){ .p = *p, .uid = p->uid };
			out[n].p.base = strdup(p->base);
			if (out[n].p.base)
				n++;
			else
				ret = -ENOMEM;
		}
	}
	(void)pthread_mutex_unlock(&m->lock);
	return n > 0 ? (ssize_t)n : ret;
}

static int open_one(struct folder *f, const struct one *o)
{
	AUTO_FD int dir = folder_open_dir(f, o->in_new ? "new" : "cur");

	return dir < 0 ? dir : io_open_beneath(dir, o->name, O_RDONLY);
}

/* Opened with the lock: one that is renamed between the two would seem gone,
 * and later ones would be appended, whose UIDs are higher.
 * @fd_out: the file, or -errno; NULL to hold it instead
 * Return: 0; -ENOENT: there is no such file (any more); -errno. */
static int find(struct folder *f, struct one *o, int *fd_out)
{
	const struct file *file;
	int ret = files_lock(f);

	if (ret < 0)
		return ret;
	file = files_find(f, o->p.base);
	if (file) {
		(void)snprintf(o->name, sizeof(o->name), "%s", file->name);
		o->in_new = file->in_new;
		if (fd_out)
			*fd_out = open_one(f, o);
		else
			files_hold(f, o->p.base);
	}
	files_unlock(f);
	return file ? 0 : -ENOENT;
}

static int read_through(int fd)
{
	AUTO_FREE char *buf = malloc(CHUNK);
	uint64_t off = 0;
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	while ((n = io_read_at(fd, buf, CHUNK, off)) > 0)
		off += (size_t)n;
	return (int)n;
}

/* One file that cannot be read must not keep all others back.
 * @fd: open, or -errno. Return: 0; 1; -errno. */
static int check_file(struct batch *b, struct one *o, int fd)
{
	struct stat st = { .st_size = 0 };
	int ret = fd < 0 ? fd : 0;

	if (ret == 0 && fstat(fd, &st) < 0)
		return -errno;
	o->size = (uint64_t)st.st_size;
	if (ret == -ELOOP || ret == -ENXIO ||
	    (ret == 0 && !S_ISREG(st.st_mode))) {
		refuse(b->m, o->p.uid, "it is not a regular file");
		return 1;
	}
	if (ret == 0 && o->size == 0) {
		refuse(b->m, o->p.uid,
		       "it has no octets, and UW cannot open a mailbox with "
		       "such a message");
		return 1;
	}
	if (ret == 0 && o->size > WARM)
		ret = read_through(fd);
	if (ret != -EACCES && ret != -EPERM && ret != -EIO)
		return ret;
	refuse(b->m, o->p.uid, "it cannot be read");
	return 1;
}

/* Return: 0; 1: it needs not, or cannot be, appended; -errno. */
static int look_at(struct batch *b, struct one *o)
{
	AUTO_FD int fd = -1;
	uint32_t uid;
	bool known, sure = false;
	int ret = find(b->f, o, &fd);

	if ((ret < 0 && ret != -ENOENT) || fd == -ENOENT)
		return ret < 0 ? ret : -ESTALE; /* removed behind the mount */
	known = journal_by_base(b->j, o->p.base, &uid, &sure);
	if (ret == -ENOENT || (ret == 0 && known && sure)) {
		mirror_drop(b->m, o->p.uid);
		ret = known && !sure ? journal_out(b->j, o->p.base) : 0;
		return ret < 0 ? ret : 1;
	}
	return check_file(b, o, fd);
}

/* Leaves those in b->all that are to be appended. */
static int look_at_all(struct batch *b)
{
	size_t kept = 0, octets = 0;
	int ret = 0;

	for (size_t i = 0; i < b->count; i++) {
		struct one *o = &b->all[i];

		if (ret >= 0 && octets < BATCH_OCTETS)
			ret = look_at(b, o);
		else if (ret >= 0)
			ret = 1;
		if (ret != 0) {
			free(o->p.base);
			continue;
		}
		octets += o->size;
		b->all[kept++] = *o;
	}
	b->count = kept;
	return ret < 0 ? ret : 0;
}

/* ---- appending ----------------------------------------------------------- */

/* What the letters of the name mean.
 * @rest_out: letters that have no slot */
static void wanted(struct folder *f, const struct one *o, struct msg *want,
		   uint32_t *rest_out)
{
	struct folder_id id = folder_id(f);
	uint32_t flags, letters;

	info_parse(o->name, strlen(o->name), &flags, &letters);
	*want = (struct msg){ .uid = o->uid,
			      .flags = flags & MSG_SYSTEM,
			      .keywords = letters_slots(&id.letters, letters,
							rest_out) };
	if (!o->in_new)
		want->flags |= MSG_OLD;
}

static int append_as_user(struct folder *f, int fd, const struct msg *want,
			  struct msg *got)
{
	const struct user *u = f->user;
	struct box *box = f->box->box;
	struct identity was = identity_enter_caller(u->uid, u->gid, NULL, 0);
	int ret = was.err;

	if (ret == 0)
		ret = box->ops->append(box, fd, want, got);
	identity_leave(was);
	return ret;
}

/* Letters that have no slot yet get one if their name is known; otherwise the
 * journal keeps them. */
static int give_letters(struct batch *b, const struct one *o,
			const struct msg *got, uint32_t rest)
{
	struct folder_id id = folder_id(b->f);
	char from[FOLDER_FILE_MAX + 1];
	int ret;

	(void)snprintf(from, sizeof(from), "%s", o->p.base);
	info_format(got->flags, letters_of(&id.letters, got->keywords),
		    from + strlen(from));
	ret = change_flags(b->f, got->uid, from, o->name, o->in_new);
	if (ret == 0)
		return 0;
	b->stale = true;
	return change_keep_letters(b->f, got->uid, rest);
}

static int record(struct batch *b, const struct one *o, const struct msg *got,
		  uint32_t rest)
{
	int in = journal_in(b->j, got->uid, o->p.base);
	int ret;

	/* Where the row cannot follow, a sync makes it. */
	ret = index_insert(b->f->fs->index, b->f->id.number, NULL, 0, got,
			   o->p.base);
	/* It is there all the same, and its row says so: mirror_uid() */
	if (in < 0) {
		b->stale = true;
		return in;
	}
	mirror_drop(b->m, o->p.uid);
	if (got->uid > b->m->ours)
		b->m->ours = got->uid;
	if (ret < 0) {
		b->stale = true;
		return rest ? change_keep_letters(b->f, got->uid, rest) : 0;
	}
	return rest ? give_letters(b, o, got, rest) : 0;
}

/* With the file held, and a lease. */
static int append_held(struct batch *b, const struct one *o)
{
	AUTO_FD int fd = open_one(b->f, o);
	struct msg want, got;
	uint32_t rest;
	struct stat st;
	int ret;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	wanted(b->f, o, &want, &rest);
	want.date = st.st_mtim.tv_sec;
	ret = append_as_user(b->f, fd, &want, &got);
	log_trace(LOG_SYNC, "folder %u: append of %s as %u: %d",
		  b->f->id.number, o->name, want.uid, ret);
	return ret < 0 ? ret : record(b, o, &got, rest);
}

/* What an append gave. Return: 0: the others may go on; -errno. */
static int judge(struct batch *b, const struct one *o, int ret)
{
	switch (ret) {
	case -EEXIST:
		set_clash(b->m, o->p.uid);
		b->stale = o->p.clash; /* the next UID was no such */
		return o->p.clash ? -ESTALE : 0;
	case -ENOENT: /* it was removed meanwhile */
		mirror_drop(b->m, o->p.uid);
		return journal_out(b->j, o->p.base);
	case -EINVAL:
		refuse(b->m, o->p.uid,
		       "it has no octets, or no UID is left for it");
		break;
	case -EFBIG:
		refuse(b->m, o->p.uid,
		       "the mailbox would become larger than mbxmax= allows");
		break;
	case -EOVERFLOW:
		refuse(b->m, o->p.uid, "the mailbox has no UID left");
		break;
	case -ESTALE:
		b->stale = true;
		return ret;
	default:
		return ret;
	}
	return journal_out(b->j, o->p.base);
}

static int append_one(struct batch *b, struct one *o)
{
	uint32_t uid;
	int ret;

	/* A sync since has found out that it is there, or the journal could
	 * not be told. */
	uid = mirror_uid(b->f, o->p.base);
	if (uid != 0) {
		ret = journal_in(b->j, uid, o->p.base);
		if (ret == 0)
			mirror_drop(b->m, o->p.uid);
		return ret;
	}
	ret = find(b->f, o, NULL);
	if (ret == -ENOENT)
		return judge(b, o, ret);
	if (ret < 0)
		return ret;
	ret = append_held(b, o);
	files_let_go(b->f, o->p.base);
	return ret < 0 ? judge(b, o, ret) : 0;
}

/* ---- under a lease ------------------------------------------------------- */

static bool is_damaged(const struct folder *f)
{
	return f->damage.kind == DAMAGE_RECORD ||
		f->damage.kind == DAMAGE_HEADER ||
		f->damage.kind == DAMAGE_REGIME;
}

/* What Dovecot has numbered need not be looked for in its list again. */
static void note_listed(const struct batch *b)
{
	struct folder *f = b->f;
	uint32_t last = b->m->list.uidnext - 1;

	if (f->uidlist_read && b->m->list.uidnext > 0 && last > f->listed)
		f->listed = last;
}

/*
 * UW has used the UIDs of these. They get the next ones, above all that Dovecot
 * has given out; it is told, by the next UID in the header of its list, so that
 * it does not use them for others.
 */
static int number_anew(struct batch *b)
{
	struct index_folder row;
	uint32_t next;
	int ret = index_folder_get(b->f->fs->index, b->f->id.number, &row);

	if (ret < 0)
		return ret;
	next = row.uidnext > b->m->list.uidnext ? row.uidnext
						: b->m->list.uidnext;
	for (size_t i = 0; ret == 0 && i < b->count; i++) {
		if (next == UINT32_MAX)
			return -EOVERFLOW;
		b->all[i].uid = next++;
		ret = journal_try(b->j, b->all[i].uid, b->all[i].p.base);
	}
	return ret < 0 ? ret : journal_sync(b->j);
}

static int tell_dovecot(struct batch *b)
{
	struct index_folder row;
	int ret = index_folder_get(b->f->fs->index, b->f->id.number, &row);

	atomic_store(&b->m->whole, true);
	mirror_note(b->f);
	if (ret == 0)
		ret = follow_uidlist(b->f, &row);
	if (ret == -EBUSY)
		b->f->late = true;
	return ret == -EBUSY ? 0 : ret;
}

static int work_leased(struct batch *b)
{
	bool clash = b->count > 0 && b->all[0].p.clash;
	int64_t began = clock_ms();
	uint64_t clashes = 0;
	int ret = is_damaged(b->f) ? -EBADMSG : mirror_reserve(b->m, &clashes);

	if (ret == 0)
		note_listed(b);
	if (clashes > 0)
		return ret; /* those whose UID is free go first */
	if (ret == 0 && clash)
		ret = number_anew(b);
	for (size_t i = 0; ret == 0 && i < b->count && !b->stale; i++) {
		if (i > 0 && clock_ms() - began > LEASE_MS)
			break;
		ret = append_one(b, &b->all[i]);
	}
	if (ret == 0 && clash && !b->stale)
		ret = tell_dovecot(b);
	return ret;
}

/* ---- a batch ------------------------------------------------------------- */

static const char *reason(int err)
{
	switch (err) {
	case -EAGAIN:
		return "another process keeps the mailbox locked";
	case -EBADMSG:
		return "the mailbox is damaged";
	case -EIO:
		return "the mailbox cannot be used";
	default:
		return strerrordesc_np(-err);
	}
}

static int try_all(struct batch *b)
{
	bool changed = false, sure;
	uint32_t uid;
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < b->count; i++) {
		const struct one *o = &b->all[i];

		if (o->p.clash ||
		    (journal_by_base(b->j, o->p.base, &uid, &sure) &&
		     uid == o->uid))
			continue;
		ret = journal_try(b->j, o->uid, o->p.base);
		/* The append will say the same: it goes under the next UID. */
		if (ret == -EEXIST)
			ret = 0;
		changed = true;
	}
	return ret == 0 && changed ? journal_sync(b->j) : ret;
}

/* Not for UIDs that UW has passed already, nor for those that it will give to
 * what lies in the MBX: to look at a mailbox must not change it. */
static bool needs_lease(const struct batch *b)
{
	struct mirror *m = b->m;
	uint32_t last = m->list.uidnext - 1;
	struct index_folder row;

	if (b->count > 0 || m->list.uidnext == 0 || last <= m->reserved)
		return b->count > 0;
	if (index_folder_get(b->f->fs->index, m->number, &row) < 0)
		return true;
	if (row.next.uid_last >= last)
		m->reserved = last;
	return row.next.uid_last < last;
}

static int work_batch(struct batch *b)
{
	int ret = look_at_all(b);

	if (ret == 0)
		ret = try_all(b);
	if (ret < 0 || !needs_lease(b))
		return ret;
	ret = lease_begin(b->f);
	if (ret < 0)
		return ret;
	/* Another number means another mailbox, and another journal: Dovecot's
	 * list has to be read again. */
	ret = b->f->id.number == b->m->number ? work_leased(b) : -ESTALE;
	lease_end(b->f, b->stale);
	return ret;
}

static void free_batch(struct batch *b)
{
	for (size_t i = 0; i < b->count; i++)
		free(b->all[i].p.base);
	free(b->all);
}

static bool has_waiting(struct mirror *m)
{
	bool found = false;

	(void)pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < m->count && !found; i++)
		found = !m->pending[i].why;
	(void)pthread_mutex_unlock(&m->lock);
	return found;
}

int mirror_work(struct mirror *m, bool *more_out)
{
	struct batch b = { .m = m,
			   .f = m->folder,
			   .j = folder_journal(m->folder),
			   .all = calloc(BATCH, sizeof(*b.all)) };
	ssize_t n = 0;
	int ret = b.all ? 0 : -ENOMEM;

	*more_out = false;
	if (ret == 0 && !b.j)
		ret = -EIO;
	if (ret == 0 && !m->folder->fs->opt->mirror_off)
		n = choose(m, b.all);
	if (ret == 0 && n < 0)
		ret = (int)n;
	if (ret == 0) {
		b.count = (size_t)n;
		ret = work_batch(&b);
	}
	free_batch(&b);
	/* For -ESTALE the rows are made anew, and it is tried again. */
	if (ret != -ESTALE)
		mirror_say_why(m, ret < 0 ? reason(ret) : NULL,
			       ret == -EAGAIN ? LOCKED_MS : 0);
	*more_out =
		ret == 0 && !m->folder->fs->opt->mirror_off && has_waiting(m);
	return ret;
}
