#include "index/db.h"

#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"
#include "index/dbfile.h"

enum { READERS = 1024, MAX_RESIZES = 32 };

static const char *const table_names[DB_TABLES] = { "meta", "folder", "msg",
						    "name" };

struct db {
	MDB_env *env;
	MDB_dbi table[DB_TABLES];
	/* Shared by running transactions, exclusive to change the map. */
	pthread_rwlock_t map_lock;
	/* LMDB has a lock of its own for this; ours also covers pad_file() and
	 * growing, so that the writer that waits finds room. */
	pthread_mutex_t writer;
	atomic_uint_fast64_t puts, dels;
	char dir[];
};

/* Errors. */

static int err_of(int rc)
{
	switch (rc) {
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_KEYEXIST:
		return -EEXIST;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_INVALID:
	case MDB_VERSION_MISMATCH:
	case MDB_INCOMPATIBLE:
		return -EUCLEAN;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
		return -ENOSPC;
	case MDB_READERS_FULL:
		return -EAGAIN;
	default:
		return rc > 0 ? -rc : -EIO;
	}
}

static int report(const struct db *db, const char *what, int rc)
{
	int err = err_of(rc);

	log_err("index: %s: %s: %s", db->dir, what,
		rc > 0 ? strerrordesc_np(rc) : mdb_strerror(rc));
	return err;
}

void db_fail(struct db_txn *t, int err)
{
	if (!t->err)
		t->err = err;
}

static void stick(struct db_txn *t, const char *what, int rc)
{
	if (rc == 0 || t->err)
		return;
	if (rc == MDB_MAP_FULL)
		t->full = true;
	if (rc == MDB_MAP_FULL || rc == MDB_KEYEXIST)
		t->err = err_of(rc);
	else
		t->err = report(t->db, what, rc);
}

/* Opening and closing. */

static int open_tables(struct db *db, enum db_mode mode)
{
	unsigned flags = mode == DB_WRITE ? MDB_CREATE : 0;
	MDB_txn *txn;
	int rc = mdb_txn_begin(db->env, NULL,
			       mode == DB_WRITE ? 0 : (unsigned)MDB_RDONLY,
			       &txn);

	if (rc)
		return rc;
	for (unsigned i = 0; i < DB_TABLES && !rc; i++)
		rc = mdb_dbi_open(txn, table_names[i], flags, &db->table[i]);
	if (!rc)
		return mdb_txn_commit(txn);
	mdb_txn_abort(txn);
	/* A file of LMDB's without our tables is not ours. */
	return rc == MDB_NOTFOUND ? MDB_INVALID : rc;
}

static int open_env(struct db *db, enum db_mode mode, size_t map)
{
	unsigned flags = MDB_NOSYNC | MDB_NOTLS;
	int dead, rc;

	if (mode == DB_READ)
		flags |= MDB_RDONLY;
	rc = mdb_env_create(&db->env);
	if (rc)
		return rc;
	rc = mdb_env_set_maxdbs(db->env, DB_TABLES);
	if (!rc)
		rc = mdb_env_set_maxreaders(db->env, READERS);
	if (!rc && map)
		rc = mdb_env_set_mapsize(db->env, map);
	if (!rc)
		rc = mdb_env_open(db->env, db->dir, flags, 0600);
	if (!rc)
		rc = mdb_reader_check(db->env, &dead);
	if (!rc)
		rc = open_tables(db, mode);
	return rc;
}

static struct db *db_new(const char *dir)
{
	size_t len = strlen(dir) + 1;
	struct db *db = calloc(1, sizeof(*db) + len);
	pthread_rwlockattr_t attr;

	if (!db)
		return NULL;
	memcpy(db->dir, dir, len);
	/* Readers come without a pause: a writer that needs a larger map must
	 * not wait for the last of them. */
	(void)pthread_rwlockattr_init(&attr);
	(void)pthread_rwlockattr_setkind_np(
		&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	(void)pthread_rwlock_init(&db->map_lock, &attr);
	(void)pthread_rwlockattr_destroy(&attr);
	(void)pthread_mutex_init(&db->writer, NULL);
	return db;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	if (db->env)
		mdb_env_close(db->env);
	(void)pthread_mutex_destroy(&db->writer);
	(void)pthread_rwlock_destroy(&db->map_lock);
	free(db);
}

int db_open(const char *dir, enum db_mode mode, size_t map, struct db **out)
{
	int err = dbfile_check(dir, mode);
	struct db *db;
	int rc;

	if (err && (err != -ENOENT || mode == DB_READ))
		return err;
	db = db_new(dir);
	if (!db)
		return -ENOMEM;
	rc = open_env(db, mode, err ? map : 0);
	if (!rc) {
		*out = db;
		return 0;
	}
	err = err_of(rc);
	if (err != -EUCLEAN)
		err = report(db, "open", rc);
	db_close(db);
	return err;
}

int db_sync(struct db *db)
{
	/* Without MDB_WRITEMAP this is fdatasync(2) of the file and no more
	 * (LMDB 0.9 mdb.c, mdb_env_sync()): transactions may run meanwhile. */
	int rc = mdb_env_sync(db->env, 1);

	return rc ? report(db, "sync", rc) : 0;
}

/* Transactions. */

static int resize(struct db *db, size_t map)
{
	int rc;

	(void)pthread_rwlock_wrlock(&db->map_lock);
	rc = mdb_env_set_mapsize(db->env, map);
	(void)pthread_rwlock_unlock(&db->map_lock);
	return rc;
}

/* On success the map is locked against a change. */
static int begin(struct db_txn *t, unsigned flags)
{
	struct db *db = t->db;
	int dead, rc;

	for (unsigned i = 0; i < MAX_RESIZES; i++) {
		(void)pthread_rwlock_rdlock(&db->map_lock);
		rc = mdb_txn_begin(db->env, NULL, flags, &t->mdb);
		if (rc == 0)
			return 0;
		(void)pthread_rwlock_unlock(&db->map_lock);
		if (rc == MDB_MAP_RESIZED)
			rc = resize(db, 0);
		else if (rc == MDB_READERS_FULL && i == 0)
			rc = mdb_reader_check(db->env, &dead);
		if (rc)
			return report(db, "begin", rc);
	}
	return report(db, "begin", MDB_MAP_RESIZED);
}

int db_read(struct db *db, db_work *work, void *arg)
{
	struct db_txn t = { .db = db };
	int err = begin(&t, MDB_RDONLY);

	if (err)
		return err;
	work(&t, arg);
	mdb_txn_abort(t.mdb);
	(void)pthread_rwlock_unlock(&db->map_lock);
	return t.err;
}

/*
 * A page that was taken at the end of the file and given back in the same
 * transaction counts as used but is never written. The check at open would
 * take such a file for one that lost its end, so it gets its length here.
 */
static void pad_file(struct db *db)
{
	MDB_envinfo info;
	struct stat st;
	MDB_stat pages;
	off_t need;
	int fd;

	if (mdb_env_info(db->env, &info) || mdb_env_stat(db->env, &pages) ||
	    mdb_env_get_fd(db->env, &fd) || fstat(fd, &st) < 0)
		return;
	need = (off_t)(info.me_last_pgno + 1) * (off_t)pages.ms_psize;
	/* Failing costs a rebuild at worst. */
	if (st.st_size < need && ftruncate(fd, need) < 0)
		log_warn("index: %s: cannot lengthen data.mdb: %s", db->dir,
			 strerrordesc_np(errno));
}

static void attempt(struct db_txn *t, db_work *work, void *arg)
{
	t->err = begin(t, 0);
	if (t->err)
		return;
	work(t, arg);
	if (t->err) {
		mdb_txn_abort(t->mdb);
	} else {
		io_step("commit");
		stick(t, "commit", mdb_txn_commit(t->mdb));
	}
	(void)pthread_rwlock_unlock(&t->db->map_lock);
}

static int grow(struct db *db)
{
	MDB_envinfo info;
	int dead, rc;

	/* Dead readers keep old pages from being used again. */
	(void)mdb_reader_check(db->env, &dead);
	rc = mdb_env_info(db->env, &info);
	if (!rc && info.me_mapsize > DBFILE_MAP_MAX / 2)
		rc = MDB_MAP_FULL;
	if (!rc)
		rc = resize(db, info.me_mapsize * 2);
	return rc ? report(db, "grow", rc) : 0;
}

static int write_growing(struct db *db, db_work *work, void *arg)
{
	for (;;) {
		struct db_txn t = { .db = db };
		int err;

		attempt(&t, work, arg);
		if (!t.full)
			return t.err;
		err = grow(db);
		if (err)
			return err;
	}
}

int db_write(struct db *db, db_work *work, void *arg)
{
	int err;

	(void)pthread_mutex_lock(&db->writer);
	err = write_growing(db, work, arg);
	if (!err)
		pad_file(db);
	(void)pthread_mutex_unlock(&db->writer);
	return err;
}

/* Rows. */

static MDB_val val_of(struct db_slice s)
{
	/* LMDB only reads what is given to it in this way. */
	return (MDB_val){ s.len, (void *)(uintptr_t)s.p };
}

static bool row_of(struct db_txn *t, MDB_val key, MDB_val data,
		   struct db_row *out)
{
	if (key.mv_size > sizeof(out->key) || data.mv_size > DB_ROW_MAX) {
		db_fail(t, -EUCLEAN);
		return false;
	}
	memcpy(out->key, key.mv_data, key.mv_size);
	memcpy(out->data, data.mv_data, data.mv_size);
	out->key_len = key.mv_size;
	out->len = data.mv_size;
	return true;
}

bool db_get(struct db_txn *t, enum db_table table, struct db_slice key,
	    struct db_row *out)
{
	MDB_val k = val_of(key), v;
	int rc;

	if (t->err)
		return false;
	rc = mdb_get(t->mdb, t->db->table[table], &k, &v);
	if (rc == 0)
		return row_of(t, k, v, out);
	if (rc != MDB_NOTFOUND)
		stick(t, "get", rc);
	return false;
}

bool db_last(struct db_txn *t, enum db_table table, struct db_row *out)
{
	MDB_cursor *cursor;
	MDB_val k, v;
	int rc;

	if (t->err)
		return false;
	rc = mdb_cursor_open(t->mdb, t->db->table[table], &cursor);
	if (!rc) {
		rc = mdb_cursor_get(cursor, &k, &v, MDB_LAST);
		mdb_cursor_close(cursor);
	}
	if (rc == 0)
		return row_of(t, k, v, out);
	if (rc != MDB_NOTFOUND)
		stick(t, "last", rc);
	return false;
}

void db_put(struct db_txn *t, enum db_table table, struct db_slice key,
	    struct db_slice row, enum db_how how)
{
	static const unsigned flags[] = { 0, MDB_NOOVERWRITE, MDB_APPEND };
	MDB_val k = val_of(key), v = val_of(row);

	if (t->err)
		return;
	if (key.len > DB_KEY_MAX || row.len > DB_ROW_MAX) {
		db_fail(t, -E2BIG);
		return;
	}
	stick(t, "put",
	      mdb_put(t->mdb, t->db->table[table], &k, &v, flags[how]));
	t->db->puts++;
}

void db_del(struct db_txn *t, enum db_table table, struct db_slice key)
{
	MDB_val k = val_of(key);
	int rc;

	if (t->err)
		return;
	rc = mdb_del(t->mdb, t->db->table[table], &k, NULL);
	if (rc != MDB_NOTFOUND)
		stick(t, "del", rc);
	t->db->dels++;
}

void db_cursor_open(struct db_cursor *c, struct db_txn *t, enum db_table table,
		    struct db_slice from, size_t prefix)
{
	c->txn = t;
	c->mdb = NULL;
	c->prefix = prefix;
	c->started = false;
	c->row.key_len = from.len;
	c->row.len = 0;
	if (t->err)
		return;
	if (from.len == 0) {
		/* LMDB knows no empty key; this one sorts before all. */
		c->row.key_len = 1;
		c->row.key[0] = 0;
	} else {
		memcpy(c->row.key, from.p, from.len);
	}
	stick(t, "cursor",
	      mdb_cursor_open(t->mdb, t->db->table[table], &c->mdb));
}

bool db_cursor_next(struct db_cursor *c)
{
	MDB_val k = { c->row.key_len, c->row.key }, v;
	int rc;

	if (c->txn->err || !c->mdb)
		return false;
	rc = mdb_cursor_get(c->mdb, &k, &v,
			    c->started ? MDB_NEXT : MDB_SET_RANGE);
	c->started = true;
	if (rc && rc != MDB_NOTFOUND)
		stick(c->txn, "next", rc);
	if (rc || k.mv_size < c->prefix ||
	    memcmp(k.mv_data, c->row.key, c->prefix) != 0)
		return false;
	return row_of(c->txn, k, v, &c->row);
}

void db_cursor_close(struct db_cursor *c)
{
	if (c->mdb)
		mdb_cursor_close(c->mdb);
	c->mdb = NULL;
}

void db_del_prefix(struct db_txn *t, enum db_table table,
		   struct db_slice prefix)
{
	struct db_cursor c;
	bool more = true;

	/* Looked up anew each time: what a cursor stands on after a deletion
	 * differs between versions of LMDB. */
	while (more) {
		db_cursor_open(&c, t, table, prefix, prefix.len);
		more = db_cursor_next(&c);
		db_cursor_close(&c);
		if (more)
			db_del(t, table,
			       (struct db_slice){ c.row.key, c.row.key_len });
	}
}

int db_stats(struct db *db, struct db_stats *out)
{
	MDB_envinfo info;
	MDB_stat pages;
	int rc;

	(void)pthread_rwlock_rdlock(&db->map_lock);
	rc = mdb_env_info(db->env, &info);
	if (!rc)
		rc = mdb_env_stat(db->env, &pages);
	(void)pthread_rwlock_unlock(&db->map_lock);
	if (rc)
		return report(db, "stat", rc);
	*out = (struct db_stats){
		.puts = db->puts,
		.dels = db->dels,
		.map = info.me_mapsize,
		.used = (info.me_last_pgno + 1) * pages.ms_psize,
	};
	return 0;
}
