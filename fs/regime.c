#include "fs/regime.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "compat/mbxlock.h"
#include "fs/folder_internal.h"
#include "fs/settle.h"

enum {
	MEND_AGAIN_MS = 1000,
	LOOK_MS = 100, /* for UW's locks, in a thread that has other work */
};

/* Somebody who undoes it must not keep us at it. */
static bool is_too_soon(struct folder *f)
{
	int64_t now = clock_ms();

	if (f->mended_ms && now - f->mended_ms < MEND_AGAIN_MS)
		return true;
	f->mended_ms = now;
	return false;
}

/* UIDLAST is below a UID in use: a session of UW has written an old header
 * back, or did not come to its end. */
static bool raise_uidlast(struct folder *f)
{
	struct box *box = f->box->box;
	uint32_t was, is;
	char name[400];

	if (box->ops->mend(box, &was, &is) < 0) {
		settle_regime(f);
		return false;
	}
	if (is == was)
		return false;
	folder_log_name(f, name, sizeof(name));
	log_warn("%s: UIDLAST was %u, below a UID in use, and is %u now: UW "
		 "would have numbered all messages anew",
		 name, was, is);
	return true;
}

/* ---- numbers ------------------------------------------------------------- */

struct rows {
	struct number *list;
	size_t count, room;
};

static int add_row(const struct msg *m, const char *name, void *arg)
{
	struct rows *r = arg;
	size_t room = r->room ? 2 * r->room : 256;
	struct number *more;

	(void)name;
	if (r->count == r->room) {
		more = reallocarray(r->list, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		r->list = more;
		r->room = room;
	}
	r->list[r->count++] = (struct number){ .off = m->off,
					       .uid_disk = m->uid_disk,
					       .uid = m->uid };
	return 0;
}

static int by_place(const void *x, const void *y)
{
	const struct number *a = x, *b = y;

	return a->off < b->off ? -1 : a->off > b->off;
}

static int put_back(struct folder *f, const struct index_folder *row)
{
	struct box *box = f->box->box;
	struct rows r = { .list = NULL };
	struct numbering n = { .uidvalidity = f->id.uidvalidity,
			       .uidlast = row->uidnext ? row->uidnext - 1 : 0 };
	int ret = index_each(f->fs->index, f->id.number, add_row, &r);

	if (r.count > 0)
		qsort(r.list, r.count, sizeof(*r.list), by_place);
	n.list = r.list;
	n.count = r.count;
	if (ret == 0)
		ret = box->ops->renumber(box, &n);
	free(r.list);
	return ret;
}

/* ---- keyword slots ------------------------------------------------------- */

struct messages {
	struct msg *list;
	size_t count, room;
};

static int add_message(const struct msg *m, const char *name, void *arg)
{
	struct messages *a = arg;
	size_t room = a->room ? 2 * a->room : 256;
	struct msg *more;

	(void)name;
	if (a->count == a->room) {
		more = reallocarray(a->list, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		a->list = more;
		a->room = room;
	}
	a->list[a->count++] = *m;
	return 0;
}

/* What the slots mean on disk is what they mean, from the next sync on. */
static int give_slots(struct folder *f, const struct index_folder *row)
{
	struct box *box = f->box->box;
	struct messages a = { .list = NULL };
	int ret = index_each(f->fs->index, f->id.number, add_message, &a);

	if (ret == 0)
		ret = box->ops->reslot(box, &row->keywords, a.list, a.count);
	free(a.list);
	f->slots_true |= ret == 0;
	return ret;
}

/* ---- both ---------------------------------------------------------------- */

/* A file without a header has no UIDVALIDITY yet, which is another thing. */
static bool is_zero(const struct folder *f, const struct index_folder *row)
{
	return row->uidvalidity == 0 && row->next.off != 0 &&
		f->id.uidvalidity != 0;
}

static bool is_due(const struct folder *f, const struct index_folder *row)
{
	if (row->damage.kind == DAMAGE_REGIME ||
	    row->damage.kind == DAMAGE_SLOTS)
		return true;
	/* What is worse than this has to be seen to first. */
	return (row->damage.kind == DAMAGE_UID && row->next.broken) ||
		(row->damage.kind == DAMAGE_NONE && is_zero(f, row));
}

static void say_done(struct folder *f, const struct index_folder *row)
{
	char name[400];

	folder_log_name(f, name, sizeof(name));
	if (row->damage.kind == DAMAGE_REGIME)
		log_warn("%s: another program had numbered the messages anew; "
			 "UIDVALIDITY %u and their UIDs are put back",
			 name, f->id.uidvalidity);
	else if (row->damage.kind == DAMAGE_SLOTS)
		log_warn("%s: a program of UW had put a keyword in the place "
			 "of another, which has a slot of its own again",
			 name);
	else if (row->damage.kind == DAMAGE_UID)
		log_warn("%s: UIDs were out of order, and are those that were "
			 "shown now; UIDVALIDITY stays",
			 name);
	else
		log_info("%s: UIDVALIDITY was 0 and is %u now", name,
			 f->id.uidvalidity);
}

bool regime_mend(struct folder *f, const struct index_folder *row)
{
	int ret;

	if (row->damage.kind != DAMAGE_UIDLAST && !is_due(f, row))
		return false;
	if (is_too_soon(f)) {
		settle_regime(f);
		return false;
	}
	if (row->damage.kind == DAMAGE_UIDLAST)
		return raise_uidlast(f);
	ret = row->damage.kind == DAMAGE_SLOTS ? give_slots(f, row)
					       : put_back(f, row);
	log_trace(LOG_SYNC, "folder %u: mended: %d", f->id.number, ret);
	if (ret == 0)
		say_done(f, row);
	else
		settle_regime(f);
	/* -ESTALE: the rows are not those of the file any more. */
	return ret == 0 || ret == -ESTALE;
}

/* ---- later --------------------------------------------------------------- */

static int look_locked(struct folder *f)
{
	struct index_folder row;

	if (f->lease.box)
		return -EAGAIN;
	if (!f->box || !f->synced ||
	    index_folder_get(f->fs->index, f->id.number, &row) < 0)
		return 0; /* whoever syncs it next looks again */
	if (!is_due(f, &row) && row.damage.kind != DAMAGE_UIDLAST)
		return 0;
	return regime_mend(f, &row) && folder_sync(f) == 0 ? 0 : -EAGAIN;
}

int regime_look(struct folder *f)
{
	int ret;

	if (atomic_load(&f->deleted) || atomic_load(&f->gone))
		return 0;
	if (pthread_mutex_trylock(&f->sync_lock) != 0)
		return -EAGAIN;
	mbxlock_limit(LOOK_MS);
	ret = look_locked(f);
	mbxlock_limit(UINT32_MAX);
	(void)pthread_mutex_unlock(&f->sync_lock);
	return ret;
}
