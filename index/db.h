/*
 * db.h - LMDB, and nothing that knows about mail.
 *
 *	static void work(struct db_txn *t, void *arg)
 *	{
 *		db_put(t, DB_MSG, key, row, DB_PUT);
 *		db_del(t, DB_NAME, key);
 *	}
 *	err = db_write(db, work, arg);
 *
 * A transaction remembers its first error; after that every call on it does
 * nothing and the transaction is aborted at its end. So work is written in a
 * straight line, and the result of db_write() is the one check.
 *
 * The map grows by itself: work that does not fit is undone, the map is
 * doubled and the work RUNS AGAIN. It must start from its arguments each time
 * and change nothing outside the transaction that it cannot change twice.
 *
 * A commit hands its pages to the kernel and does not wait for the disk: the
 * end of the process loses nothing, the end of the kernel may leave a file that
 * is damaged in ways no check finds. Who opens it must know which it was
 * (owner.h).
 *
 * Threads: any number of readers beside one writer. Work must not begin a
 * transaction of its own: the map could not grow until it ends.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat/base.h"

struct MDB_cursor;
struct MDB_txn;
struct db;

enum db_table { DB_META, DB_FOLDER, DB_MSG, DB_NAME, DB_TABLES };
enum db_mode { DB_READ, DB_WRITE };

enum {
	DB_KEY_MAX = 260,
	DB_ROW_MAX = 4608,
	DB_MAP_START = 16 << 20,
};

struct db_slice {
	const void *p;
	size_t len;
};

struct db_row {
	size_t key_len, len;
	uint8_t key[DB_KEY_MAX];
	uint8_t data[DB_ROW_MAX];
};

struct db_txn {
	struct db *db;
	struct MDB_txn *mdb;
	int err;   /* the first error: 0 or -errno */
	bool full; /* it was that the map is full */
};

/**
 * db_open - open the LMDB environment in directory @dir
 * @mode: DB_WRITE makes the files and tables that are missing
 * @map: size of the map of a new file; one that exists has its own
 *
 * The file's meta pages are checked before LMDB sees them: it would crash on
 * some files that are not its own or have lost their end.
 *
 * Return: 0; -EUCLEAN, not logged: damaged, or not ours; -ENOENT; -errno.
 */
MUST_CHECK int db_open(const char *dir, enum db_mode mode, size_t map,
		       struct db **out);
/** db_close - NULL is fine; does not wait for the disk */
void db_close(struct db *db);
/** db_sync - wait until all that was committed before lies on the disk */
MUST_CHECK int db_sync(struct db *db);

typedef void db_work(struct db_txn *t, void *arg);
/** db_read - run @work on an unchanging view. Return: its error. */
MUST_CHECK int db_read(struct db *db, db_work *work, void *arg);
/** db_write - run @work and commit, or leave everything as it was */
MUST_CHECK int db_write(struct db *db, db_work *work, void *arg);
/** db_fail - make @err (-errno) the error, if there is none yet; 0 is none */
void db_fail(struct db_txn *t, int err);

/** db_get - whether @key is there; @out: its row (key included) */
bool db_get(struct db_txn *t, enum db_table table, struct db_slice key,
	    struct db_row *out);
/** db_last - whether @table holds anything; @out: the row of its last key */
bool db_last(struct db_txn *t, enum db_table table, struct db_row *out);

enum db_how {
	DB_PUT,	       /* a row that is there is replaced */
	DB_PUT_NEW,    /* a row that is there is error -EEXIST, not logged */
	DB_PUT_APPEND, /* the key sorts after all others: fills pages */
};
void db_put(struct db_txn *t, enum db_table table, struct db_slice key,
	    struct db_slice row, enum db_how how);
/** db_del - delete; a key that is not there is fine */
void db_del(struct db_txn *t, enum db_table table, struct db_slice key);
/** db_del_prefix - delete all keys that start with @prefix */
void db_del_prefix(struct db_txn *t, enum db_table table,
		   struct db_slice prefix);

/*
 *	db_cursor_open(&c, t, DB_MSG, from, 4);
 *	while (db_cursor_next(&c))
 *		... c.row ...
 *	db_cursor_close(&c);
 */
struct db_cursor {
	struct db_txn *txn;
	struct MDB_cursor *mdb;
	size_t prefix; /* the keys' first octets that must stay the same */
	bool started;
	struct db_row row;
};
/** db_cursor_open - walk the keys from @from on (empty: all) that share its
 * first @prefix octets */
void db_cursor_open(struct db_cursor *c, struct db_txn *t, enum db_table table,
		    struct db_slice from, size_t prefix);
/** db_cursor_next - whether there is a row; false at an error as well */
bool db_cursor_next(struct db_cursor *c);
void db_cursor_close(struct db_cursor *c);

struct db_stats {
	uint64_t puts, dels; /* since db_open(), undone ones too */
	uint64_t map, used;  /* octets */
};
MUST_CHECK int db_stats(struct db *db, struct db_stats *out);
