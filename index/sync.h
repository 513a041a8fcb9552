/*
 * sync.h - the one function that makes the index equal to a store.
 *
 * Idempotent. Three ways, cheapest first:
 *   nothing    the stamp is the one remembered
 *   tail       the file only grew and nothing says that flags changed: scan
 *              from where the last scan ended
 *   full       scan everything and merge with the rows: rows that did not
 *              change are not written (a flag sweep writes only the rows whose
 *              flags changed; after a compaction only places change)
 * A tail scan that meets -ESTALE is repeated as a full one, once.
 *
 * When a tail scan is enough (MBX): same device, inode and UIDVALIDITY, size
 * grew, mtime the same to the nanosecond, and that mtime was at least two
 * seconds old when it was remembered - UW keeps mtime over appends and moves
 * it at flag changes, but only in whole seconds. Everything else is full.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/store.h"
#include "index/index.h"

enum sync_how { SYNC_NOTHING, SYNC_TAIL, SYNC_FULL };

struct sync_result {
	enum sync_how how;
	uint64_t added, removed, changed, moved; /* messages; moved: place only */
	bool cur_changed; /* the set of names in cur/ is another one */
	bool new_changed; /* the same for new/ */
	bool uidvalidity_changed;
};

/*
 * Called when names changed, after the scan and BEFORE the rows are committed:
 * whoever tells others (directory times) must have told them before the index
 * says "nothing changed", or a crash between would hide the change for ever. A
 * failure here aborts the sync.
 */
typedef int sync_names_fn(const struct sync_result *r, void *arg);

/**
 * sync_box - make the rows of folder number @folder equal to @box
 * @names: may be NULL
 *
 * Threads: the caller holds the folder's write lock.
 *
 * Return: 0 (damage included: see the folder row); -EBADMSG when the file's
 * header is damaged (the folder row then says so, older rows are kept);
 * -EAGAIN, -ESTALE (changed under us again and again), -errno: the index is as
 * it was.
 */
MUST_CHECK int sync_box(struct index *ix, uint32_t folder, struct box *box,
			sync_names_fn *names, void *arg,
			struct sync_result *out);

/**
 * sync_in_new - whether a message of an MBX shows in new/ rather than cur/
 * \Recent and without any flag or keyword; a file in new/ can carry none.
 */
bool sync_in_new(const struct msg *m);
