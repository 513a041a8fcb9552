/*
 * table.h - rows as values, inside a transaction.
 *
 * Each function does one row and what hangs on it, nothing else: sums and
 * stamps of the folder row are the caller's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/msg.h"
#include "index/db.h"
#include "index/index.h"

/** table_folder - the row of a folder; whether it is there */
bool table_folder(struct db_txn *t, uint32_t folder, struct index_folder *out);
/** table_msg - the row of a message, and its name ("": none of its own;
 * ROW_NAME_MAX + 1 octets); whether it is there */
bool table_msg(struct db_txn *t, uint32_t folder, uint32_t uid, struct msg *out,
	       char *name_out);
/** table_named - whether a message of the folder has the own name @name */
bool table_named(struct db_txn *t, uint32_t folder, const char *name);

void table_put_folder(struct db_txn *t, uint32_t folder,
		      const struct index_folder *f);
/** table_put_msg - the message's row alone; @name: "" if none of its own */
void table_put_msg(struct db_txn *t, uint32_t folder, const struct msg *m,
		   const char *name, enum db_how how);
/** table_put_name - the name row; -EEXIST when another message has the name */
void table_put_name(struct db_txn *t, uint32_t folder, uint32_t uid,
		    const char *name);

/** table_count - add a message to the sums of its folder's row */
void table_count(struct index_folder *f, const struct msg *m);
/** table_uncount - take it out again; -EUCLEAN: the sums do not hold it */
MUST_CHECK int table_uncount(struct index_folder *f, const struct msg *m);

/** table_behind - whether a message lies, by its UID or by its place in an
 * MBX, behind the point where a scan ended */
bool table_behind(const struct scan_point *end, const struct msg *m);

/** table_is_plain - whether @name is what basename.h makes of a message that
 * lies in an MBX, so that it is none of its own. Under any UIDVALIDITY: folder
 * numbers are not used again. */
bool table_is_plain(uint32_t folder, const struct msg *m, const char *name);

/** table_del_msg - the message's row and its name row; none is fine */
void table_del_msg(struct db_txn *t, uint32_t folder, uint32_t uid);
/** table_del_name - the name row of a message that is there, by the name that
 * its row has; none is fine */
void table_del_name(struct db_txn *t, uint32_t folder, uint32_t uid);
