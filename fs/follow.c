#include "fs/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/basename.h"
#include "compat/clock.h"
#include "compat/dotlock.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/uidlist.h"
#include "fs/folder_internal.h"
#include "fs/mirror_internal.h"
#include "fs/seed.h"
#include "fs/user.h"

enum {
	LIST_MAX = 1 << 30,
	FEW = 16,
	SAY_AGAIN_MS = 60000, /* on a busy day there is one a second */
};

static const char list_name[] = "dovecot-uidlist";
static const char lock_name[] = "dovecot-uidlist.lock";

/* ---- what the list says -------------------------------------------------- */

struct reading {
	struct folder *f;
	uint32_t last;	 /* highest UID in it */
	uint32_t in_mbx; /* of a message that lies in the MBX */
	uint64_t disagreements;
};

static int take_record(const struct uidlist_record *r, void *arg)
{
	struct reading *g = arg;
	const char *why;
	uint32_t mbx;

	g->last = r->uid;
	if (mirror_disagrees(g->f, r, &mbx, &why))
		g->disagreements++;
	if (mbx != 0)
		g->in_mbx = r->uid;
	return 0;
}

static void note_disagreements(struct folder *f, uint64_t count)
{
	char name[400];
	uint64_t was = f->disagreements;

	(void)pthread_rwlock_wrlock(&f->lock);
	f->disagreements = count;
	(void)pthread_rwlock_unlock(&f->lock);
	if (count == 0 || count == was ||
	    (f->disagreed_ms && clock_ms() - f->disagreed_ms < SAY_AGAIN_MS))
		return;
	f->disagreed_ms = clock_ms();
	folder_log_name(f, name, sizeof(name));
	log_warn("%s: messages with another UID at Dovecot than in the MBX: "
		 "%ju; IMAP clients of the two servers differ about them; "
		 "janusmail status names them",
		 name, (uintmax_t)count);
}

static int count_one(const char *base, uint32_t dovecot, uint32_t mbx,
		     const char *why, void *arg)
{
	(void)base;
	(void)dovecot;
	(void)mbx;
	(void)why;
	++*(uint64_t *)arg;
	return 0;
}

/* A few may be none: messages that the list has twice. */
static uint64_t count_again(struct folder *f, uint64_t count)
{
	uint64_t few = 0;

	if (count == 0 || count > FEW ||
	    mirror_each_disagreement(f, count_one, &few) < 0)
		return count;
	return few;
}

/* Sets f->listed. A list that Dovecot cannot read either is left to it. */
static int read_list(struct folder *f, int dir)
{
	struct reading g = { .f = f };
	struct uidlist_header h = { .uidnext = 0 };
	AUTO_FREE char *text = NULL;
	size_t len;
	int ret = io_read_file(dir, list_name, LIST_MAX, &text, &len);

	if (ret == 0)
		ret = uidlist_parse(text, len, &h, take_record, &g);
	if (ret < 0)
		return ret;
	f->last_record = g.in_mbx;
	f->listed = h.uidnext > g.last + 1 ? h.uidnext - 1 : g.last;
	f->uidlist_read = h.uidvalidity == f->id.uidvalidity;
	if (!f->uidlist_read)
		return -ESTALE;
	note_disagreements(f, count_again(f, g.disagreements));
	return 0;
}

/* ---- what is missing in it ----------------------------------------------- */

struct writing {
	const struct folder_id *id;
	uint32_t above;
	FILE *f;
	uint64_t count;	  /* lines */
	uint32_t listed;  /* highest UID with one */
	uint32_t highest; /* of all that have had one */
};

static int add_line(const struct msg *m, const char *name, void *arg)
{
	struct writing *w = arg;
	struct basename b = { .folder = w->id->number,
			      .uidvalidity = w->id->uidvalidity,
			      .uid = m->uid,
			      .date = m->date,
			      .size = m->size };
	char base[BASENAME_MAX + 1];
	struct uidlist_record r = { .uid = m->uid,
				    .psize = UINT64_MAX,
				    .vsize = UINT64_MAX };

	if (m->uid <= w->above)
		return 0;
	w->highest = m->uid;
	/* The copy of a delivered file, which is listed under another UID. */
	if (name)
		return 0;
	basename_format(&b, base);
	r.name = base;
	r.name_len = strlen(r.name);
	if (uidlist_write_record(w->f, &r)) {
		w->count++;
		w->listed = m->uid;
	}
	return 0;
}

/* The lines for rows above f->listed; @w->f is closed then. */
static int make_lines(struct folder *f, struct writing *w, char **text,
		      size_t *len)
{
	int ret;

	w->id = &f->id;
	w->above = w->listed = f->listed;
	w->f = open_memstream(text, len);
	if (!w->f)
		return -ENOMEM;
	ret = index_each(f->fs->index, f->id.number, add_line, w);
	return fclose(w->f) != 0 ? -ENOMEM : ret;
}

static int append(int dir, const char *text, size_t len)
{
	AUTO_FD int fd = io_open_beneath(dir, list_name, O_WRONLY);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	int ret;

	if (fd < 0 || end < 0)
		return fd < 0 ? fd : -errno;
	ret = io_pwrite(fd, text, len, (uint64_t)end);
	if (ret == 0)
		ret = io_fsync(fd);
	/* Dovecot must not find half a line. */
	if (ret < 0 && io_truncate(fd, (uint64_t)end) < 0)
		log_warn("%s: a failed append cannot be taken back", list_name);
	return ret;
}

/* Who has not read the list goes by its size and time. */
static int replace(const struct user *u, int dir, const char *text, size_t len)
{
	struct stat was, is;
	AUTO_FD int fd = -1;
	int ret;

	if (fstatat(dir, list_name, &was, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	ret = io_replace_file(dir, list_name, text, len, u->uid, u->gid);
	if (ret < 0)
		return ret;
	fd = io_open_beneath(dir, list_name, O_RDONLY);
	if (fd < 0 || fstat(fd, &is) < 0)
		return fd < 0 ? fd : -errno;
	if (io_ns(&is.st_mtim) > io_ns(&was.st_mtim))
		return 0;
	return io_set_mtime(fd, io_ns(&was.st_mtim) + 1);
}

/*
 * UIDs up to @uid are taken. No line says so: Dovecot makes a message of each
 * line above its next UID, whether there is such a file or not, and expunges it
 * when it has looked.
 */
static int raise_next(struct folder *f, int dir, uint32_t uid)
{
	AUTO_FREE char *text = NULL, *out = NULL;
	size_t len, out_len;
	FILE *mem;
	bool ok;
	int ret = io_read_file(dir, list_name, LIST_MAX, &text, &len);

	if (ret < 0)
		return ret;
	mem = open_memstream(&out, &out_len);
	if (!mem)
		return -ENOMEM;
	ok = uidlist_write_raised(mem, text, len, uid + 1);
	if (fclose(mem) != 0)
		return -ENOMEM;
	return ok ? replace(f->user, dir, out, out_len) : -EBADMSG;
}

static int bump_both(struct folder *f)
{
	int ret = folder_bump(f, "new");

	return ret == 0 ? folder_bump(f, "cur") : ret;
}

/* Messages that came and went while nobody looked have had UIDs, too; UW's
 * clients may remember them, so Dovecot must not give them out. But behind
 * damage there may be messages below UIDLAST that are yet to be listed. */
static void add_gone(struct writing *w, const struct index_folder *row)
{
	if (row->damage.kind != DAMAGE_RECORD && row->uidnext - 1 > w->highest)
		w->highest = row->uidnext - 1;
}

/* Mail shows all the same when that fails, and it is tried again: at worst a
 * message will have two UIDs. */
static void take_uids(struct folder *f, int dir, struct writing *w)
{
	int ret = raise_next(f, dir, w->highest);

	if (ret == 0)
		return;
	log_trace(LOG_SYNC, "folder %u: next UID %u: %d", f->id.number,
		  w->highest + 1, ret);
	w->highest = w->listed;
	f->late = true;
}

/*
 * With the lock file. What has a line must show before the lock is let go: who
 * has it next makes messages of the lines, and those that a listing lacks then
 * are expunged, to come back under other UIDs. The times move on both sides of
 * that: who looked in between looks again, and so does who looks after a crash.
 */
static int catch_up(struct folder *f, int dir, const struct index_folder *row)
{
	struct writing w = { .count = 0 };
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	/* Dovecot may have given out UIDs since. */
	int ret = read_list(f, dir);

	if (ret == 0)
		ret = make_lines(f, &w, &text, &len);
	add_gone(&w, row);
	if (ret == 0 && w.count > 0)
		ret = bump_both(f);
	if (ret == 0 && w.count > 0)
		ret = append(dir, text, len);
	if (ret < 0)
		return ret;
	if (w.highest > w.listed)
		take_uids(f, dir, &w);
	if (w.highest > f->listed)
		f->listed = w.highest;
	folder_show_up_to(f, row->uidnext - 1);
	return w.count > 0 ? bump_both(f) : 0;
}

int follow_uidlist(struct folder *f, const struct index_folder *row)
{
	AUTO_FD int dir = f->fs->opt->has_control
		? seed_open_control(f->user, f->dir)
		: folder_open_dir(f, "");
	uint32_t last = row->uidnext ? row->uidnext - 1 : 0;
	int ret = dir < 0 ? dir : 0;

	if (ret == 0 && !f->uidlist_read)
		ret = read_list(f, dir);
	if (ret == -ESTALE) {
		/* UW has reset UIDVALIDITY, and the list is the old one. */
		ret = seed_folder(f, true);
		if (ret == 0)
			ret = read_list(f, dir);
		if (ret < 0)
			return ret == -EBUSY ? -EAGAIN : ret;
	}
	if (ret == 0 && last > f->listed) {
		/* Of what showed while nothing could be listed Dovecot may have
		 * numbered some: it must not be gone. */
		if (!f->unlisted)
			folder_show_up_to(f, f->listed);
		ret = dotlock_take(f->user->uid, f->user->gid, dir, lock_name,
				   0);
		if (ret == 0) {
			ret = catch_up(f, dir, row);
			dotlock_drop(dir, lock_name);
		}
	}
	if (ret == -EBUSY)
		return ret;
	/* A list that cannot be read is Dovecot's to mend: it counts on. */
	f->unlisted = ret < 0;
	folder_show_up_to(f, ret == 0 ? last : UINT32_MAX);
	return ret == -EBADMSG || ret == -ENOENT ? 0 : ret;
}
