#include "index/sync.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "compat/basename.h"
#include "compat/io.h"
#include "compat/log.h"
#include "index/db.h"
#include "index/harvest.h"
#include "index/keep.h"
#include "index/row.h"
#include "index/table.h"

static const int64_t second_ns = 1000000000;

/* Which letter a slot shows as is known by name only, to whoever shows it: a
 * change of any slot counts. */
enum { SHOWN_KEYWORDS = (1 << 30) - 1 };

struct job {
	struct index *ix;
	uint32_t folder;
	const struct sync_hooks *hooks;
	bool known; /* @prev is filled */
	struct index_folder prev, row;
	struct scan scan;
	uint32_t on_disk; /* UIDVALIDITY */
	uint32_t slots;	  /* keywords that stay as their rows have them */
	struct harvest got;
	uint32_t *gone; /* UIDs of rows to delete */
	size_t gone_count, gone_room;
	uint64_t kept;	  /* rows that stay although no scan has seen them */
	int64_t began_ns; /* before the store was first asked */
	struct sync_result *r;
};

/* What the view shows of a message. */

static bool in_new(const struct msg *m)
{
	return m->line == 0 ? (m->flags & MSG_OLD) == 0 : info_in_new(m);
}

static bool same_file(const struct msg *a, const struct msg *b)
{
	return a->date == b->date && a->size == b->size &&
		(a->flags & MSG_SYSTEM) == (b->flags & MSG_SYSTEM) &&
		(a->keywords & SHOWN_KEYWORDS) ==
		(b->keywords & SHOWN_KEYWORDS);
}

static bool same_value(const struct msg *a, const struct msg *b)
{
	return a->date == b->date && a->size == b->size &&
		a->flags == b->flags && a->keywords == b->keywords;
}

static bool same_place(const struct msg *a, const struct msg *b)
{
	return a->off == b->off && a->line == b->line &&
		a->uid_disk == b->uid_disk;
}

static void touch(struct sync_result *r, const struct msg *m)
{
	if (in_new(m))
		r->new_changed = true;
	else
		r->cur_changed = true;
}

/* Merging: what differs between the rows and the harvest. */

static void merge_new(struct job *j, struct item *it)
{
	it->op = ITEM_ADDED;
	it->m.keywords &= ~j->slots;
	j->r->named_changed |= it->name != 0;
	j->r->added++;
	touch(j->r, &it->m);
}

static int merge_gone(struct job *j, const struct msg *old)
{
	int err = harvest_room(&j->gone, &j->gone_room, j->gone_count + 1,
			       sizeof(*j->gone));

	if (err)
		return err;
	j->gone[j->gone_count++] = old->uid;
	if (j->hooks->gone)
		j->hooks->gone(old, j->hooks->arg);
	j->r->removed++;
	touch(j->r, old);
	return 0;
}

/* What lies behind a record that cannot be read is not gone: when the file is
 * mended, the messages have to have the UIDs that they have now. */
static bool is_kept(const struct job *j, const struct msg *old)
{
	return j->scan.damage.kind == DAMAGE_RECORD &&
		!j->r->uidvalidity_changed && table_behind(&j->scan.next, old);
}

static int merge_missing(struct job *j, const struct msg *old, bool named)
{
	if (!is_kept(j, old)) {
		j->r->named_changed |= named;
		return merge_gone(j, old);
	}
	table_count(&j->row, old);
	j->kept++;
	return 0;
}

/* Whether the store's message is the one of the row, which has a name of its
 * own that the store cannot know. */
static bool keeps_name(const struct job *j, const struct msg *old,
		       const char *old_name, const struct item *it)
{
	return old_name[0] && !it->name && !it->plain && old->line != 0 &&
		it->m.line != 0 && !j->r->uidvalidity_changed &&
		old->date == it->m.date && old->size == it->m.size;
}

/* One whose date has become unreadable keeps the date, which is part of its
 * name. */
static void keep_date(const struct job *j, const struct msg *old,
		      struct item *it)
{
	if (it->m.date == 0 && j->scan.damage.kind != DAMAGE_NONE &&
	    it->m.line != 0 && old->size == it->m.size &&
	    !j->r->uidvalidity_changed)
		it->m.date = old->date;
}

static int merge_both(struct job *j, const struct msg *old,
		      const char *old_name, struct item *it)
{
	bool keeps = keeps_name(j, old, old_name, it);
	int err = keeps ? harvest_keep_name(&j->got, old_name, &it->name) : 0;
	const char *name = harvest_name(&j->got, it);
	bool renamed = strcmp(name, old_name) != 0;
	bool reborn = j->r->uidvalidity_changed && name[0] == '\0';

	it->m.keywords =
		(it->m.keywords & ~j->slots) | (old->keywords & j->slots);
	if (renamed || reborn || !same_file(old, &it->m) ||
	    in_new(old) != in_new(&it->m)) {
		touch(j->r, old);
		touch(j->r, &it->m);
	}
	if (renamed || !same_value(old, &it->m)) {
		it->op = renamed ? ITEM_RENAMED : ITEM_CHANGED;
		j->r->changed++;
		j->r->named_changed |= name[0] || old_name[0];
	} else if (!same_place(old, &it->m)) {
		it->op = ITEM_CHANGED;
		j->r->moved++;
	}
	return err;
}

static struct item *next_item(struct job *j, size_t *i)
{
	return *i < j->got.count ? &j->got.items[*i] : NULL;
}

/* Compares one row; @i is the first item that no row has met yet. */
static int merge_row(struct job *j, const struct db_row *row, size_t *i)
{
	char name[ROW_NAME_MAX + 1];
	uint32_t folder, uid;
	struct item *it;
	struct msg old;
	int err = row_key_msg_parse(row->key, row->key_len, &folder, &uid);

	if (!err)
		err = row_msg_parse(row->data, row->len, uid, &old, name);
	if (err)
		return err;
	for (; (it = next_item(j, i)) && it->m.uid < uid; (*i)++)
		merge_new(j, it);
	if (!it || it->m.uid != uid)
		return merge_missing(j, &old, name[0] != '\0');
	(*i)++;
	keep_date(j, &old, it);
	return merge_both(j, &old, name, it);
}

static void merge(struct db_txn *t, void *arg)
{
	struct job *j = arg;
	uint8_t key[ROW_KEY_FOLDER];
	struct db_cursor c;
	struct item *it;
	size_t i = 0;

	row_key_folder(j->folder, key);
	db_cursor_open(&c, t, DB_MSG, (struct db_slice){ key, sizeof(key) },
		       sizeof(key));
	while (db_cursor_next(&c))
		db_fail(t, merge_row(j, &c.row, &i));
	db_cursor_close(&c);
	for (; (it = next_item(j, &i)); i++)
		merge_new(j, it);
}

/* Writing what differs. */

/* Every old name goes before any new one comes: messages may swap names. */
static void apply_gone(struct db_txn *t, const struct job *j)
{
	for (size_t i = 0; i < j->gone_count; i++)
		table_del_msg(t, j->folder, j->gone[i]);
	for (size_t i = 0; i < j->got.count; i++)
		if (j->got.items[i].op == ITEM_RENAMED)
			table_del_name(t, j->folder, j->got.items[i].m.uid);
}

/* Whether the rows from @uid on sort after everything in the table. */
static bool at_end(const struct db_row *last, uint32_t folder, uint32_t uid)
{
	uint8_t key[ROW_KEY_MSG];

	row_key_msg(folder, uid, key);
	return memcmp(key, last->key, sizeof(key)) > 0;
}

/* A name that a hook gave may be taken: what it reads can be damaged. */
static const char *free_name(struct db_txn *t, const struct job *j,
			     const struct item *it)
{
	const char *name = harvest_name(&j->got, it);

	if (it->m.line == 0 || !table_named(t, j->folder, name))
		return name;
	log_warn("sync: folder %u: UID %u: another message has its name",
		 j->folder, it->m.uid);
	return "";
}

static void apply_items(struct db_txn *t, const struct job *j)
{
	struct db_row last;
	bool rest = !db_last(t, DB_MSG, &last);

	for (size_t i = 0; i < j->got.count; i++) {
		const struct item *it = &j->got.items[i];
		const char *name = harvest_name(&j->got, it);
		bool fresh = it->name && it->op != ITEM_CHANGED;

		if (it->op == ITEM_SAME)
			continue;
		rest = rest || at_end(&last, j->folder, it->m.uid);
		if (fresh)
			name = free_name(t, j, it);
		table_put_msg(t, j->folder, &it->m, name,
			      rest ? DB_PUT_APPEND : DB_PUT);
		if (fresh && name[0])
			table_put_name(t, j->folder, it->m.uid, name);
	}
}

static void apply(struct db_txn *t, void *arg)
{
	const struct job *j = arg;

	apply_gone(t, j);
	apply_items(t, j);
	table_put_folder(t, j->folder, &j->row);
}

/* When to look. */

static int64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	return io_ns(&ts);
}

/* UW keeps the whole seconds of the time that we gave the file. */
static bool same_mtime(const struct stamp *was, const struct stamp *now)
{
	int64_t fraction = stamp_is_own(was) ? STAMP_OWN_NS : 0;

	return now->mtime_ns == was->mtime_ns ||
		now->mtime_ns == was->mtime_ns - fraction;
}

static bool tail_enough(const struct index_folder *f, const struct stamp *now)
{
	const struct stamp *was = &f->stamp;

	return f->damage.kind == DAMAGE_NONE && f->next.off != 0 &&
		was->dev == now->dev && was->ino == now->ino &&
		was->size < now->size && same_mtime(was, now) &&
		was->mtime_ns <= f->stamp_ns - 2 * second_ns;
}

static int collect(struct job *j, struct box *box, struct scan_point from)
{
	harvest_clear(&j->got);
	j->scan = (struct scan){ .from = from };
	j->row.stamp_ns = now_ns();
	return box->ops->scan(box, &j->scan, harvest_add, &j->got);
}

static int collect_tail(struct job *j, struct box *box)
{
	int err = collect(j, box, j->prev.next);

	if (err)
		return err;
	/* What was true before the scan must still have been so in it. */
	if (!tail_enough(&j->prev, &j->scan.stamp) ||
	    j->scan.uidvalidity != j->prev.uidvalidity ||
	    (j->hooks->keep &&
	     (j->scan.next.broken || keep_renamed(&j->prev, &j->scan))) ||
	    (j->got.count && j->got.items[0].m.uid < j->prev.uidnext))
		return -ESTALE;
	return 0;
}

static int collect_any(struct job *j, struct box *box, const struct stamp *now)
{
	int err;

	if (j->known && tail_enough(&j->prev, now)) {
		j->r->how = SYNC_TAIL;
		err = collect_tail(j, box);
		if (err != -ESTALE)
			return err;
	}
	j->r->how = SYNC_FULL;
	return collect(j, box, (struct scan_point){ 0 });
}

/* The folder's row. */

static bool same_keywords(const struct keywords *a, const struct keywords *b)
{
	for (unsigned i = 0; i < KEYWORD_SLOTS; i++)
		if (strcmp(a->name[i], b->name[i]) != 0)
			return false;
	return true;
}

static void say_kept(struct damage *d, uint64_t kept)
{
	const size_t room = sizeof(d->text) - 1;
	char tail[96];
	size_t at = strnlen(d->text, room);
	size_t len;

	(void)snprintf(tail, sizeof(tail),
		       "; %" PRIu64 " message%s behind it %s listed but cannot "
		       "be read",
		       kept, kept == 1 ? "" : "s", kept == 1 ? "is" : "are");
	len = strlen(tail);
	if (at > room - len)
		at = room - len;
	memcpy(d->text + at, tail, len + 1);
}

static void fill_kept(struct job *j)
{
	struct index_folder *f = &j->row;

	if (j->kept == 0)
		return;
	say_kept(&f->damage, j->kept);
	if (f->next.uid_last < j->prev.next.uid_last)
		f->next.uid_last = j->prev.next.uid_last;
}

/* Does the folder count its UIDs as before? A mailbox about to be born has no
 * UIDVALIDITY yet. */
static bool counts_on(const struct job *j)
{
	return j->scan.uidvalidity == 0 ||
		j->scan.uidvalidity == j->prev.uidvalidity;
}

/* The sums hold already what merge() kept. */
static void fill_row(struct job *j)
{
	struct index_folder *f = &j->row;
	const struct harvest *h = &j->got;
	uint32_t last = h->count ? h->items[h->count - 1].m.uid : 0;

	f->stamp = j->scan.stamp;
	f->next = j->scan.next;
	f->uidvalidity = j->scan.uidvalidity;
	f->on_disk = j->on_disk;
	f->uidnext = j->scan.uidnext;
	if (f->uidnext <= last)
		f->uidnext = last == UINT32_MAX ? last : last + 1;
	if (counts_on(j) && f->uidnext < j->prev.uidnext)
		f->uidnext = j->prev.uidnext;
	f->keywords = j->scan.keywords;
	f->damage = j->scan.damage;
	fill_kept(j);
	f->unlisted = h->unlisted;
	if (j->r->how == SYNC_TAIL) {
		f->messages = j->prev.messages;
		f->unseen = j->prev.unseen;
		f->octets = j->prev.octets;
	}
	for (size_t i = 0; i < h->count; i++)
		table_count(f, &h->items[i].m);
}

static int compare(struct job *j)
{
	struct sync_result *r = j->r;

	/* Zero, when the folder is not known. */
	const struct index_folder *was = &j->prev;
	int err = 0;

	r->uidvalidity_changed =
		j->known && was->uidvalidity != j->scan.uidvalidity;
	r->uidvalidity = j->scan.uidvalidity;
	r->keywords_changed = !same_keywords(&was->keywords, &j->scan.keywords);
	if (r->how == SYNC_FULL)
		err = db_read(index_db(j->ix), merge, j);
	else
		for (size_t i = 0; i < j->got.count; i++)
			merge_new(j, &j->got.items[i]);
	if (j->got.unlisted != was->unlisted)
		r->cur_changed = r->new_changed = true;
	return err;
}

/* Asks for the names that the store does not know. */
static int ask_names(struct job *j)
{
	const struct sync_hooks *h = j->hooks;
	int err = 0;

	if (!h->name_of)
		return 0;
	for (size_t i = 0; i < j->got.count && !err; i++) {
		struct item *it = &j->got.items[i];
		const char *name;
		size_t len;

		if (it->name || it->m.line == 0)
			continue;
		name = h->name_of(&it->m, h->arg);
		if (!name)
			continue;
		len = strlen(name);
		it->plain = len == 0 || len > ROW_NAME_MAX ||
			table_is_plain(j->folder, &it->m, name);
		if (!it->plain)
			err = harvest_keep_name(&j->got, name, &it->name);
	}
	return err;
}

/* What was shown stays as it was, if there is a hook that wants that. */
static int keep_shown(struct job *j)
{
	int err;

	j->on_disk = j->scan.uidvalidity;
	if (!j->hooks->keep || !j->known || j->r->how != SYNC_FULL)
		return 0;
	err = keep_uids(j->ix, j->folder, &j->prev, &j->scan, &j->got);
	if (!err && !j->hooks->slots)
		j->slots = keep_slots(&j->prev, &j->scan);
	return err;
}

static int update(struct job *j)
{
	const struct sync_hooks *h = j->hooks;
	int err = keep_shown(j);

	if (!err)
		err = ask_names(j);
	if (!err)
		err = compare(j);
	if (!err && h->names && (j->r->cur_changed || j->r->new_changed))
		err = h->names(j->r, h->arg);
	if (err)
		return err;
	fill_row(j);
	return db_write(index_db(j->ix), apply, j);
}

/* The rows stay; only what is wrong, and when that was seen, is new. */
static int keep_rows(struct job *j, const struct stamp *stamp, int64_t at,
		     const struct damage *d)
{
	harvest_clear(&j->got);
	j->row = j->prev;
	j->row.stamp = *stamp;
	j->row.stamp_ns = at;
	j->row.damage = *d;
	return db_write(index_db(j->ix), apply, j);
}

static int header_damaged(struct job *j, const struct stamp *now)
{
	struct damage d = j->scan.damage;
	int err;

	if (d.kind == DAMAGE_NONE)
		damage_add(&d, DAMAGE_HEADER, 0, 0,
			   "the header cannot be read");
	/* Of the two looks at it the earlier one: nothing is missed. */
	err = keep_rows(j, now, j->began_ns, &d);
	return err ? err : -EBADMSG;
}

/* An MBX without even a header is one about to be born - or one that had
 * messages and was cut off. */
static bool is_emptied(const struct job *j)
{
	return j->known && j->prev.messages > 0 && j->prev.next.off != 0 &&
		j->scan.next.off == 0;
}

static int emptied(struct job *j)
{
	struct damage d = { .kind = DAMAGE_NONE };

	damage_add(&d, DAMAGE_RECORD, 0, 0, "the file is empty");
	say_kept(&d, j->prev.messages);
	return keep_rows(j, &j->scan.stamp, j->row.stamp_ns, &d);
}

static int sync_changed(struct job *j, struct box *box, const struct stamp *now)
{
	int err = collect_any(j, box, now);

	if (err == -EBADMSG)
		err = header_damaged(j, now);
	else if (!err && is_emptied(j))
		err = emptied(j);
	else if (!err)
		err = update(j);
	harvest_clear(&j->got);
	free(j->gone);
	return err;
}

int sync_box(struct index *ix, uint32_t folder, struct box *box,
	     const struct sync_hooks *hooks, struct sync_result *out)
{
	static const struct sync_hooks none = { 0 };
	struct job j = { .ix = ix,
			 .folder = folder,
			 .hooks = hooks ? hooks : &none,
			 .began_ns = now_ns(),
			 .r = out };
	struct stamp now;
	int err = index_folder_get(ix, folder, &j.prev);

	*out = (struct sync_result){ 0 };
	if (err && err != -ENOENT)
		return err;
	j.known = err == 0;
	err = box->ops->stamp(box, &now);
	if (err)
		return err;
	if (j.known && stamp_equal(&j.prev.stamp, &now) &&
	    stamp_settled(&j.prev.stamp, j.prev.stamp_ns))
		return j.prev.damage.kind == DAMAGE_HEADER ? -EBADMSG : 0;
	err = sync_changed(&j, box, &now);
	log_trace(LOG_SYNC,
		  "folder %u: %s: %d: +%" PRIu64 " -%" PRIu64
		  " changed %" PRIu64 " moved %" PRIu64,
		  folder, out->how == SYNC_TAIL ? "tail" : "full", err,
		  out->added, out->removed, out->changed, out->moved);
	return err;
}
