/* The changes of index.h: rows that differ by what the caller did himself. */
#include "index/index.h"

#include <errno.h>
#include <stdlib.h>

#include "index/db.h"
#include "index/row.h"
#include "index/table.h"

struct change {
	uint32_t folder;
	const struct stamp *stamp;
	int64_t stamp_ns;
	const struct msg *msgs;
	const uint32_t *uids;
	size_t count;
	const char *name; /* of the one message; "" if none of its own */
	const struct keywords *keywords;
};

static bool change_begin(struct db_txn *t, const struct change *c,
			 struct index_folder *f)
{
	bool there = table_folder(t, c->folder, f);

	if (!there)
		db_fail(t, -ENOENT);
	return there;
}

static void change_end(struct db_txn *t, const struct change *c,
		       struct index_folder *f)
{
	if (c->stamp) {
		f->stamp = *c->stamp;
		f->stamp_ns = c->stamp_ns;
	}
	table_put_folder(t, c->folder, f);
}

static void update_msg(struct db_txn *t, uint32_t folder,
		       struct index_folder *f, const struct msg *to)
{
	char name[ROW_NAME_MAX + 1];
	struct msg m;

	if (!table_msg(t, folder, to->uid, &m, name)) {
		db_fail(t, -ENOENT);
		return;
	}
	db_fail(t, table_uncount(f, &m));
	m.flags = to->flags;
	m.keywords = to->keywords;
	m.uid_disk = to->uid_disk;
	table_count(f, &m);
	table_put_msg(t, folder, &m, name, DB_PUT);
}

static void update(struct db_txn *t, void *arg)
{
	const struct change *c = arg;
	struct index_folder f;

	if (!change_begin(t, c, &f))
		return;
	for (size_t i = 0; i < c->count && !t->err; i++)
		update_msg(t, c->folder, &f, &c->msgs[i]);
	change_end(t, c, &f);
}

int index_update(struct index *ix, uint32_t folder, const struct stamp *stamp,
		 int64_t stamp_ns, const struct msg *msgs, size_t count)
{
	struct change c = { .folder = folder,
			    .stamp = stamp,
			    .stamp_ns = stamp_ns,
			    .msgs = msgs,
			    .count = count };

	for (size_t i = 0; i < count; i++)
		if (msgs[i].flags & MSG_EXPUNGED)
			return -EINVAL;
	return db_write(index_db(ix), update, &c);
}

static void remove_msgs(struct db_txn *t, void *arg)
{
	const struct change *c = arg;
	char name[ROW_NAME_MAX + 1];
	struct index_folder f;
	struct msg m;

	if (!change_begin(t, c, &f))
		return;
	for (size_t i = 0; i < c->count; i++) {
		if (!table_msg(t, c->folder, c->uids[i], &m, name))
			continue;
		db_fail(t, table_uncount(&f, &m));
		table_del_msg(t, c->folder, c->uids[i]);
	}
	change_end(t, c, &f);
}

int index_remove(struct index *ix, uint32_t folder, const struct stamp *stamp,
		 int64_t stamp_ns, const uint32_t *uids, size_t count)
{
	struct change c = { .folder = folder,
			    .stamp = stamp,
			    .stamp_ns = stamp_ns,
			    .uids = uids,
			    .count = count };

	return db_write(index_db(ix), remove_msgs, &c);
}

/* -ESTALE: something lies between, or the UIDs do not ascend; or it is not
 * known what lies behind the scan point. */
static int move_scan_point(struct index_folder *f, const struct msg *m)
{
	struct scan_point *next = &f->next;

	if (m->line == 0)
		return 0;
	if (f->damage.kind == DAMAGE_RECORD || f->damage.kind == DAMAGE_HEADER)
		return -ESTALE;
	if (next->off == 0 || m->off - m->line != next->off ||
	    m->uid <= next->uid_prev)
		return -ESTALE;
	next->off = m->off + m->size;
	next->uid_prev = m->uid;
	if (next->uid_last < m->uid)
		next->uid_last = m->uid;
	return 0;
}

static void insert(struct db_txn *t, void *arg)
{
	const struct change *c = arg;
	const struct msg *m = c->msgs;
	char name[ROW_NAME_MAX + 1];
	struct index_folder f;
	struct msg other;

	if (!change_begin(t, c, &f))
		return;
	if (table_msg(t, c->folder, m->uid, &other, name))
		db_fail(t, -EEXIST);
	db_fail(t, move_scan_point(&f, m));
	table_put_msg(t, c->folder, m, c->name, DB_PUT);
	if (c->name[0])
		table_put_name(t, c->folder, m->uid, c->name);
	table_count(&f, m);
	if (f.uidnext <= m->uid)
		f.uidnext = m->uid == UINT32_MAX ? m->uid : m->uid + 1;
	change_end(t, c, &f);
}

static bool has_place(const struct msg *m)
{
	uint64_t end;

	return m->line >= ROW_LINE_MIN && m->line <= ROW_LINE_MAX &&
		m->off > m->line && m->size != 0 &&
		!__builtin_add_overflow(m->off, m->size, &end);
}

int index_insert(struct index *ix, uint32_t folder, const struct stamp *stamp,
		 int64_t stamp_ns, const struct msg *m, const char *name)
{
	bool own = name && !table_is_plain(folder, m, name);
	struct change c = { .folder = folder,
			    .stamp = stamp,
			    .stamp_ns = stamp_ns,
			    .msgs = m,
			    .name = own ? name : "" };

	if (m->uid == 0 || (m->flags & MSG_EXPUNGED) || (own && !*name))
		return -EINVAL;
	if (m->line ? !has_place(m) : !own)
		return -EINVAL;
	return db_write(index_db(ix), insert, &c);
}

static void set_keywords(struct db_txn *t, void *arg)
{
	const struct change *c = arg;
	struct index_folder f;

	if (!change_begin(t, c, &f))
		return;
	f.keywords = *c->keywords;
	change_end(t, c, &f);
}

int index_set_keywords(struct index *ix, uint32_t folder,
		       const struct stamp *stamp, int64_t stamp_ns,
		       const struct keywords *keywords)
{
	struct change c = { .folder = folder,
			    .stamp = stamp,
			    .stamp_ns = stamp_ns,
			    .keywords = keywords };

	return db_write(index_db(ix), set_keywords, &c);
}
