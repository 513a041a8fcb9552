/*
 * Messages of a legacy folder that are real files: delivered through the view,
 * and perhaps in the MBX as well by now.
 */
#include "fs/mail_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "compat/io.h"
#include "compat/log.h"
#include "fs/change.h"
#include "fs/files.h"
#include "fs/lease.h"
#include "fs/mirror.h"

static bool is_there(const struct place *p)
{
	struct stat st;

	return fstatat(p->dir->fd, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- holding a file ------------------------------------------------------ */

/* A file that nobody else can change. */
struct grip {
	struct folder *f, *other; /* NULL, or locked as well */
	uint32_t uid;		  /* of its copy in the MBX; 0: there is none */
	bool leased;
};

static int lock_both(struct folder *f, struct folder *other)
{
	struct folder *first = !other || f < other ? f : other;
	struct folder *second = first == f ? other : f;
	int ret = files_lock(first);

	if (ret < 0 || !second)
		return ret;
	ret = files_lock(second);
	if (ret < 0)
		files_unlock(first);
	return ret;
}

static void unlock_both(struct grip *g)
{
	files_unlock(g->f);
	if (g->other)
		files_unlock(g->other);
}

static bool is_held(struct folder *f, const char *base)
{
	const struct file *file = files_find(f, base);

	return file && file->held;
}

static int wait_for(struct folder *f, const char *base)
{
	int ret = files_lock(f);

	if (ret < 0)
		return ret;
	ret = files_wait(f, base);
	files_unlock(f);
	return ret;
}

/*
 * Who holds a file waits for the lease sooner or later, so nobody waits for him
 * with it. One that is not in the MBX needs none: a delivery does not wait for
 * UW.
 */
static int grip(struct grip *g, const struct place *p, struct folder *other)
{
	bool lease = false, doubt;
	int ret;

	for (;;) {
		*g = (struct grip){ .f = p->f, .other = other };
		ret = lease ? lease_begin(p->f) : 0;
		if (ret < 0)
			return ret;
		g->leased = lease;
		ret = lock_both(p->f, other);
		if (ret < 0)
			break;
		g->uid = mirror_uid(p->f, p->base);
		doubt = mirror_in_doubt(p->f, p->base);
		if (!is_held(p->f, p->base) &&
		    (lease || (g->uid == 0 && !doubt)))
			return 0;
		lease = g->uid != 0 || doubt;
		unlock_both(g);
		if (g->leased)
			lease_end(p->f, false);
		ret = wait_for(p->f, p->base);
		if (ret < 0)
			return ret;
	}
	if (g->leased)
		lease_end(p->f, false);
	return ret;
}

static void let_go(struct grip *g, bool stale)
{
	unlock_both(g);
	if (g->leased)
		lease_end(g->f, stale);
}

/* ---- files --------------------------------------------------------------- */

static int unlink_as_user(const struct place *p)
{
	struct identity was;
	int ret = mail_act_as_user(p->dir, &was);

	if (ret < 0)
		return ret;
	ret = files_unlink(p->f, p->in_new, p->name);
	identity_leave(was);
	return ret;
}

static int rename_as_user(const struct place *p, const struct place *to)
{
	struct identity was;
	int ret = mail_act_as_user(p->dir, &was);

	if (ret < 0)
		return ret;
	ret = files_rename(p->f, p->in_new, p->name, to->in_new, to->name);
	identity_leave(was);
	return ret;
}

/*
 * The MBX first, the journal last: after a crash between, mirror_settle() finds
 * a file whose copy was expunged, and removes it. The other way round it would
 * be mirrored anew.
 */
static int unlink_once(const struct place *p, struct grip *g)
{
	int ret = is_there(p) ? 0 : -ENOENT;

	if (ret == 0 && g->uid != 0)
		ret = change_remove(p->f, g->uid);
	if (ret == 0)
		ret = unlink_as_user(p);
	/* What cannot be written down is found out at the next sync. */
	if (ret == 0 && g->uid != 0 && mirror_forget(p->f, p->base) < 0)
		log_trace(LOG_VIEW, "%s: still in the journal", p->base);
	return ret;
}

int mail_file_unlink(const struct place *p)
{
	struct grip g;
	int ret = -ESTALE;

	for (int i = 0; i < MAIL_TRIES && ret == -ESTALE; i++) {
		ret = grip(&g, p, NULL);
		if (ret < 0)
			return ret;
		ret = unlink_once(p, &g);
		let_go(&g, ret == -ESTALE);
	}
	return ret;
}

/* Its flags change, in both stores. */
static int reflag_once(const struct place *p, const struct place *to,
		       struct grip *g)
{
	int ret = is_there(p) ? 0 : -ENOENT;

	if (ret == 0 && g->uid != 0)
		ret = change_flags(p->f, g->uid, p->name, to->name, to->in_new);
	return ret == 0 ? rename_as_user(p, to) : ret;
}

int mail_file_reflag(const struct place *p, const struct place *to)
{
	struct grip g;
	int ret = -ESTALE;

	if (p->in_new == to->in_new && strcmp(p->name, to->name) == 0)
		return 0;
	if (is_there(to))
		return -EEXIST;
	for (int i = 0; i < MAIL_TRIES && ret == -ESTALE; i++) {
		ret = grip(&g, p, NULL);
		if (ret < 0)
			return ret;
		ret = reflag_once(p, to, &g);
		let_go(&g, ret == -ESTALE);
	}
	return ret;
}

/* The file has left its name, so its copy in the MBX is to go. When that
 * cannot be done now the message is there twice; better than not at all. */
static void drop_copy(const struct place *p, uint32_t uid)
{
	int ret = -ESTALE;
	char name[400];

	for (int i = 0; i < MAIL_TRIES && ret == -ESTALE; i++) {
		ret = lease_begin(p->f);
		if (ret < 0)
			break;
		ret = change_remove(p->f, uid);
		if (ret == 0)
			ret = mirror_forget(p->f, p->base);
		lease_end(p->f, ret == -ESTALE);
	}
	if (ret == 0)
		return;
	folder_log_name(p->f, name, sizeof(name));
	log_err("%s: message %u was moved away, and its copy in the mailbox "
		"cannot be expunged: %s",
		name, uid, strerrordesc_np(-ret));
}

/* A file gets another base name, or goes elsewhere. */
static int move_once(const struct place *p, const struct place *to)
{
	struct identity was = { .err = 0 };
	int ret = is_there(p) ? 0 : -ENOENT;

	if (ret == 0 && to->f)
		ret = mail_admit(to);
	if (ret == 0)
		ret = mail_act_as_user(to->dir, &was);
	if (ret < 0)
		return ret;
	if (to->f == p->f)
		ret = files_rename(p->f, p->in_new, p->name, to->in_new,
				   to->name);
	else if (to->f)
		ret = files_hand_over(p->f, p->in_new, p->name, to->f,
				      to->in_new, to->name);
	else
		ret = files_take_out(p->f, p->in_new, p->name, to->dir->fd,
				     to->name);
	identity_leave(was);
	return ret;
}

int mail_file_move(const struct place *p, const struct place *to)
{
	struct folder *other = to->f == p->f ? NULL : to->f;
	struct grip g;
	int ret = grip(&g, p, other);

	if (ret < 0)
		return ret;
	ret = move_once(p, to);
	let_go(&g, false);
	/* Before its copy goes: a crash may leave both, never none. */
	if (ret == 0 && g.uid != 0 &&
	    (to->dir == p->dir || io_fsync_dir(to->dir->fd) == 0))
		drop_copy(p, g.uid);
	if (ret == 0 && to->f)
		mirror_note(to->f);
	return ret;
}
