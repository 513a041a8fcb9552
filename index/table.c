#include "index/table.h"

#include <errno.h>
#include <string.h>

#include "compat/basename.h"
#include "index/row.h"

bool table_folder(struct db_txn *t, uint32_t folder, struct index_folder *out)
{
	uint8_t key[ROW_KEY_FOLDER];
	struct db_row row;

	row_key_folder(folder, key);
	if (!db_get(t, DB_FOLDER, (struct db_slice){ key, sizeof(key) }, &row))
		return false;
	db_fail(t, row_folder_parse(row.data, row.len, out));
	return t->err == 0;
}

bool table_msg(struct db_txn *t, uint32_t folder, uint32_t uid, struct msg *out,
	       char *name_out)
{
	uint8_t key[ROW_KEY_MSG];
	struct db_row row;

	row_key_msg(folder, uid, key);
	if (!db_get(t, DB_MSG, (struct db_slice){ key, sizeof(key) }, &row))
		return false;
	db_fail(t, row_msg_parse(row.data, row.len, uid, out, name_out));
	return t->err == 0;
}

bool table_named(struct db_txn *t, uint32_t folder, const char *name)
{
	uint8_t key[ROW_KEY_NAME_MAX];
	ssize_t len = row_key_name(folder, name, key);
	struct db_row row;

	return len > 0 &&
		db_get(t, DB_NAME, (struct db_slice){ key, (size_t)len }, &row);
}

void table_put_folder(struct db_txn *t, uint32_t folder,
		      const struct index_folder *f)
{
	uint8_t key[ROW_KEY_FOLDER], row[ROW_FOLDER_MAX];
	size_t len = row_folder_format(f, row);

	row_key_folder(folder, key);
	db_put(t, DB_FOLDER, (struct db_slice){ key, sizeof(key) },
	       (struct db_slice){ row, len }, DB_PUT);
}

void table_put_msg(struct db_txn *t, uint32_t folder, const struct msg *m,
		   const char *name, enum db_how how)
{
	uint8_t key[ROW_KEY_MSG], row[ROW_MSG_MAX];
	ssize_t len = row_msg_format(m, name[0] ? name : NULL, row);

	if (len < 0) {
		db_fail(t, (int)len);
		return;
	}
	row_key_msg(folder, m->uid, key);
	db_put(t, DB_MSG, (struct db_slice){ key, sizeof(key) },
	       (struct db_slice){ row, (size_t)len }, how);
}

void table_put_name(struct db_txn *t, uint32_t folder, uint32_t uid,
		    const char *name)
{
	uint8_t key[ROW_KEY_NAME_MAX], row[ROW_NAME];
	ssize_t len = row_key_name(folder, name, key);

	if (len < 0) {
		db_fail(t, (int)len);
		return;
	}
	row_name_format(uid, row);
	db_put(t, DB_NAME, (struct db_slice){ key, (size_t)len },
	       (struct db_slice){ row, sizeof(row) }, DB_PUT_NEW);
}

void table_count(struct index_folder *f, const struct msg *m)
{
	f->messages++;
	f->octets += m->size;
	if (!(m->flags & MSG_SEEN))
		f->unseen++;
}

int table_uncount(struct index_folder *f, const struct msg *m)
{
	uint64_t unseen = m->flags & MSG_SEEN ? 0 : 1;

	if (f->messages < 1 || f->octets < m->size || f->unseen < unseen)
		return -EUCLEAN;
	f->messages--;
	f->octets -= m->size;
	f->unseen -= unseen;
	return 0;
}

bool table_behind(const struct scan_point *end, const struct msg *m)
{
	return m->line != 0 &&
		(m->uid > end->uid_prev || m->off - m->line >= end->off);
}

bool table_is_plain(uint32_t folder, const struct msg *m, const char *name)
{
	struct basename b;

	return m->line != 0 && basename_parse(name, strlen(name), &b) == 0 &&
		b.folder == folder && b.uid == m->uid && b.date == m->date &&
		b.size == m->size;
}

void table_del_msg(struct db_txn *t, uint32_t folder, uint32_t uid)
{
	uint8_t key[ROW_KEY_MSG];

	table_del_name(t, folder, uid);
	row_key_msg(folder, uid, key);
	db_del(t, DB_MSG, (struct db_slice){ key, sizeof(key) });
}

void table_del_name(struct db_txn *t, uint32_t folder, uint32_t uid)
{
	char name[ROW_NAME_MAX + 1];
	uint8_t key[ROW_KEY_NAME_MAX];
	struct msg m;
	ssize_t len;

	if (!table_msg(t, folder, uid, &m, name) || !name[0])
		return;
	len = row_key_name(folder, name, key);
	if (len > 0)
		db_del(t, DB_NAME, (struct db_slice){ key, (size_t)len });
}
