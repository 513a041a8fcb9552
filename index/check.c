#include "index/check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "compat/text.h"
#include "index/db.h"
#include "index/row.h"
#include "index/table.h"

enum { MBX_HEADER = 2048 };

struct check {
	check_fn *fn;
	void *arg;
	int64_t findings;
	struct db_txn *t;
};

/* What the rows of one folder add up to. */
struct sum {
	uint32_t folder;
	const struct index_folder *row;
	uint64_t messages, unseen, octets;
	uint64_t end; /* where the MBX message before this one ends */
	uint32_t uid; /* the last one, and the last one of an MBX */
	uint32_t mbx_uid;
};

static void find(struct check *c, unsigned invariant, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

static void find(struct check *c, unsigned invariant, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	c->findings++;
	if (c->fn)
		c->fn(invariant, text, c->arg);
}

static void find_key(struct check *c, const char *table,
		     const struct db_row *row)
{
	char hex[2 * 16 + 1] = "";

	for (size_t i = 0; i < row->key_len && i < 16; i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", row->key[i]);
	find(c, 1, "%s: key %s (%zu octets): row of %zu octets, version %d",
	     table, hex, row->key_len, row->len, row->len ? row->data[0] : -1);
}

static struct db_slice all(void)
{
	return (struct db_slice){ NULL, 0 };
}

/* Messages, within their folder. */

/* One that is listed although no scan has seen it again: what came before it
 * may have moved since, and so may others like it. */
static bool is_unseen(const struct index_folder *f, const struct msg *m)
{
	return (f->damage.kind == DAMAGE_RECORD ||
		f->damage.kind == DAMAGE_HEADER) &&
		table_behind(&f->next, m);
}

static void check_mbx_msg(struct check *c, struct sum *s, const struct msg *m)
{
	uint64_t start, end;

	s->mbx_uid = m->uid;
	if (m->size == 0)
		find(c, 3, "folder %u: UID %u: size 0", s->folder, m->uid);
	if (m->line < ROW_LINE_MIN || m->line > ROW_LINE_MAX)
		find(c, 4, "folder %u: UID %u: record line of %u octets",
		     s->folder, m->uid, m->line);
	if (__builtin_sub_overflow(m->off, m->line, &start) ||
	    start < MBX_HEADER ||
	    __builtin_add_overflow(m->off, m->size, &end)) {
		find(c, 4,
		     "folder %u: UID %u: at %" PRIu64 ", %" PRIu64
		     " octets: no place in an MBX",
		     s->folder, m->uid, m->off, m->size);
		return;
	}
	if (is_unseen(s->row, m))
		return;
	if (start < s->end)
		find(c, 4,
		     "folder %u: UID %u: its record starts at %" PRIu64
		     ", the message before it ends at %" PRIu64,
		     s->folder, m->uid, start, s->end);
	s->end = end;
}

static void check_own_name(struct check *c, const struct sum *s, uint32_t uid,
			   const char *name)
{
	char shown[4 * ROW_NAME_MAX + 1];
	uint8_t key[ROW_KEY_NAME_MAX];
	ssize_t len = row_key_name(s->folder, name, key);
	struct db_row row;
	uint32_t other;

	if (len < 0)
		return;
	(void)text_escape(name, strlen(name), shown, sizeof(shown));
	if (!db_get(c->t, DB_NAME, (struct db_slice){ key, (size_t)len }, &row))
		find(c, 7, "folder %u: UID %u: no row for its name %.200s",
		     s->folder, uid, shown);
	else if (row_name_parse(row.data, row.len, &other) == 0 && other != uid)
		find(c, 7, "folder %u: UID %u: its name %.200s is UID %u's",
		     s->folder, uid, shown, other);
}

static void check_msg(struct check *c, struct sum *s, const struct db_row *row)
{
	char name[ROW_NAME_MAX + 1];
	uint32_t folder, uid;
	struct msg m;

	if (row_key_msg_parse(row->key, row->key_len, &folder, &uid) ||
	    row_msg_parse(row->data, row->len, uid, &m, name)) {
		find_key(c, "msg", row);
		return;
	}
	if (uid == 0)
		find(c, 3, "folder %u: a message with UID 0", s->folder);
	if (m.flags & MSG_EXPUNGED)
		find(c, 3, "folder %u: UID %u: expunged", s->folder, uid);
	if (name[0])
		check_own_name(c, s, uid, name);
	if (!name[0] || m.line != 0)
		check_mbx_msg(c, s, &m);
	s->uid = uid;
	s->messages++;
	s->octets += m.size;
	if (!(m.flags & MSG_SEEN))
		s->unseen++;
}

/* Folders. */

static void check_sum(struct check *c, const struct sum *s, const char *what,
		      uint64_t row, uint64_t sum)
{
	if (row != sum)
		find(c, 5, "folder %u: %s: %" PRIu64 ", the rows give %" PRIu64,
		     s->folder, what, row, sum);
}

static void check_totals(struct check *c, const struct sum *s)
{
	const struct index_folder *f = s->row;

	check_sum(c, s, "messages", f->messages, s->messages);
	check_sum(c, s, "unseen", f->unseen, s->unseen);
	check_sum(c, s, "octets", f->octets, s->octets);
	if (s->end > f->next.off && s->end > 0)
		find(c, 4,
		     "folder %u: the last message ends at %" PRIu64
		     ", the next record starts at %" PRIu64,
		     s->folder, s->end, f->next.off);
	if (s->messages && f->uidnext <= s->uid && s->uid != UINT32_MAX)
		find(c, 6, "folder %u: uidnext %u, UID %u is there", s->folder,
		     f->uidnext, s->uid);
	if (f->next.uid_last < s->mbx_uid)
		find(c, 6, "folder %u: last UID used %u, UID %u is there",
		     s->folder, f->next.uid_last, s->mbx_uid);
	if ((f->damage.kind == DAMAGE_NONE) != (f->damage.count == 0))
		find(c, 8, "folder %u: damage %s with %" PRIu64 " findings",
		     s->folder, damage_name(f->damage.kind), f->damage.count);
}

static void check_folder(struct check *c, const struct db_row *row)
{
	struct index_folder f;
	struct sum s = { .row = &f };
	struct db_cursor cur;

	if (row_key_folder_parse(row->key, row->key_len, &s.folder) ||
	    row_folder_parse(row->data, row->len, &f)) {
		find_key(c, "folder", row);
		return;
	}
	db_cursor_open(&cur, c->t, DB_MSG,
		       (struct db_slice){ row->key, row->key_len },
		       ROW_KEY_FOLDER);
	while (db_cursor_next(&cur))
		check_msg(c, &s, &cur.row);
	db_cursor_close(&cur);
	check_totals(c, &s);
}

static void check_folders(struct check *c)
{
	struct db_cursor cur;

	db_cursor_open(&cur, c->t, DB_FOLDER, all(), 0);
	while (db_cursor_next(&cur))
		check_folder(c, &cur.row);
	db_cursor_close(&cur);
}

/* The first message at or after @from; whether there is one. */
static bool first_msg(struct check *c, struct db_slice from, struct db_row *out)
{
	struct db_cursor cur;
	bool there;

	db_cursor_open(&cur, c->t, DB_MSG, from, 0);
	there = db_cursor_next(&cur);
	db_cursor_close(&cur);
	if (there)
		*out = cur.row;
	return there;
}

/* Hops from folder to folder: what lies inside them was looked at already. */
static void check_orphans(struct check *c)
{
	uint8_t key[ROW_KEY_FOLDER];
	struct db_slice from = all();
	struct db_row msg, row;
	uint32_t folder, uid;

	while (first_msg(c, from, &msg)) {
		if (row_key_msg_parse(msg.key, msg.key_len, &folder, &uid)) {
			find_key(c, "msg", &msg);
			return;
		}
		row_key_folder(folder, key);
		from = (struct db_slice){ key, sizeof(key) };
		if (!db_get(c->t, DB_FOLDER, from, &row))
			find(c, 2, "folder %u has messages, and no row",
			     folder);
		if (folder == UINT32_MAX)
			return;
		row_key_folder(folder + 1, key);
	}
}

/* Names. */

static void check_name(struct check *c, const struct db_row *row)
{
	char shown[4 * ROW_NAME_MAX + 1];
	char name[ROW_NAME_MAX + 1], has[ROW_NAME_MAX + 1];
	uint32_t folder, uid;
	struct db_row msg_row;
	uint8_t key[ROW_KEY_MSG];
	struct msg m;

	if (row_key_name_parse(row->key, row->key_len, &folder, name) ||
	    row_name_parse(row->data, row->len, &uid)) {
		find_key(c, "name", row);
		return;
	}
	(void)text_escape(name, strlen(name), shown, sizeof(shown));
	row_key_msg(folder, uid, key);
	if (!db_get(c->t, DB_MSG, (struct db_slice){ key, sizeof(key) },
		    &msg_row))
		find(c, 7, "folder %u: name %.200s: no UID %u", folder, shown,
		     uid);
	else if (row_msg_parse(msg_row.data, msg_row.len, uid, &m, has) == 0 &&
		 strcmp(name, has) != 0)
		find(c, 7, "folder %u: name %.200s: UID %u has another name",
		     folder, shown, uid);
}

static void check_names(struct check *c)
{
	struct db_cursor cur;

	db_cursor_open(&cur, c->t, DB_NAME, all(), 0);
	while (db_cursor_next(&cur))
		check_name(c, &cur.row);
	db_cursor_close(&cur);
}

static void check_all(struct db_txn *t, void *arg)
{
	struct check *c = arg;

	c->t = t;
	check_folders(c);
	check_orphans(c);
	check_names(c);
}

int64_t check_index(struct index *ix, check_fn *fn, void *arg)
{
	struct check c = { .fn = fn, .arg = arg };
	int err = db_read(index_db(ix), check_all, &c);

	return err ? err : c.findings;
}
