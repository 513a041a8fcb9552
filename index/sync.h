/*
 * sync.h - the one function that makes the index equal to a store.
 *
 * Idempotent. Three ways, cheapest first:
 *   nothing    the stamp is the one remembered, and it was older than a tick
 *              of the file system's clock when it was taken (two changes
 *              within one tick look like one)
 *   tail       the file only grew and nothing says that flags changed: scan
 *              from where the last scan ended
 *   full       scan everything and merge with the rows: rows that did not
 *              change are not written (a flag sweep writes only the rows whose
 *              flags changed; after a compaction only places change)
 * A tail scan that meets -ESTALE, or a folder that is not the one expected, is
 * repeated as a full one, once.
 *
 * When a tail scan is enough (MBX): same device, inode and UIDVALIDITY, size
 * grew, mtime the same to the nanosecond (or cut off to the second, where the
 * fraction was ours), that mtime was at least two seconds
 * old when it was remembered - UW keeps mtime over appends and moves it at
 * flag changes, but only in whole seconds - and no damage is known, so that
 * the damage of a folder is always that of all its parts. Everything else is
 * full.
 *
 * The store is scanned into memory (56 octets a message, and names), compared
 * with the rows in a read transaction, and only then is LMDB's one write lock
 * taken, for the rows that differ: a large folder does not hold up the others.
 *
 * Behind a record that cannot be read (DAMAGE_RECORD) no row is taken for gone:
 * the messages stay listed, as they were, until a scan comes past their place,
 * and the damage's text says how many. So it is when the file is empty and had
 * messages. They are in the folder row's sums; the back end's look at their
 * place decides whether they can be read. Only another UIDVALIDITY makes it
 * another mailbox, without them (but see sync_hooks.keep). uidnext never goes
 * down while UIDVALIDITY stays. A date that becomes unreadable (DAMAGE_DATE)
 * stays what it was.
 *
 * Messages without a UID (Maildir: not yet in the uidlist) get no row; they
 * are counted as the folder's "unlisted". When their number changes, both
 * cur/ and new/ count as changed.
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
	uint64_t added, removed, changed,
		moved; /* messages; moved: place only */
	/* The set of file names is another one: added, removed, other letters,
	 * other UID, date or size, moved between new/ and cur/. */
	bool cur_changed, new_changed;
	bool uidvalidity_changed;
	uint32_t uidvalidity;
	bool keywords_changed; /* the keyword table */
	/* A message with a name of its own was added or removed, or has other
	 * flags or keywords. */
	bool named_changed;
};

/*
 * Called when names changed, after the scan and BEFORE the rows are committed:
 * whoever tells others (directory times) must have told them before the index
 * says "nothing changed", or a crash between would hide the change for ever. A
 * failure here aborts the sync. No transaction is open meanwhile.
 */
typedef int sync_names_fn(const struct sync_result *r, void *arg);

/*
 * The base name of its own that message @m of an MBX has: one that was
 * delivered elsewhere first keeps the name that its delivery agent chose, which
 * the MBX does not know. Asked about messages
 * that the store delivers without a name, after the scan; no lock of a format
 * is held and no transaction is open. NULL: nothing is known about it; a name
 * that its row has stays. The name that basename.h makes, or one that is no
 * name ("", too long): it has none of its own. Good until the next call.
 */
typedef const char *sync_name_fn(const struct msg *m, void *arg);

/*
 * A message that was there is gone from the store. Called before the rows are
 * committed, inside a read transaction: it must not call the index.
 */
typedef void sync_gone_fn(const struct msg *m, void *arg);

/* What a caller wants to be asked and told; each may be NULL. */
struct sync_hooks {
	/* Messages keep the UIDs that their rows have when the file is the same
	 * one but has another UIDVALIDITY (DAMAGE_REGIME then, and rows and
	 * folder row show the one there was), or when its UIDs are out of
	 * order (DAMAGE_UID). See keep.h. */
	bool keep;
	/* But keywords are what the table on disk says now; without this slots
	 * keep the names that they had (DAMAGE_SLOTS), and messages what they
	 * have of them. */
	bool slots;
	sync_gone_fn *gone;
	sync_names_fn *names;
	sync_name_fn *name_of;
	void *arg; /* for all */
};

/**
 * sync_box - make the rows of folder number @folder equal to @box
 * @hooks: may be NULL
 *
 * Where @hooks gives two messages one name, the first in the index keeps it
 * and the other one has none of its own, with a log line.
 *
 * Threads: the caller holds the folder's write lock.
 *
 * Return: 0 (damage included: see the folder row); -EBADMSG when the file's
 * header is damaged (the folder row then says so, older rows are kept);
 * -EAGAIN, -ESTALE (changed under us again and again), -EPROTO (the back end
 * broke its contract: order of UIDs), -EEXIST (it gave two messages one name),
 * -errno: the index is as it was.
 */
MUST_CHECK int sync_box(struct index *ix, uint32_t folder, struct box *box,
			const struct sync_hooks *hooks,
			struct sync_result *out);
