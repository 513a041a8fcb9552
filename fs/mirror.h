/*
 * mirror.h - messages delivered through the view, appended to the MBX as well.
 *
 * A thread of its own appends them in the order of the UIDs that Dovecot gave
 * them, UIDLAST first, so that the old server can be started again at any
 * moment and has everything. The file stays what shows, byte for byte; its
 * flags and those in the MBX are kept in step, in both directions. Which file
 * is in the MBX under which UID is in the folder's journal (journal.h).
 *
 * Where UW has used a UID that Dovecot gave to a file, the copy in the MBX gets
 * the next one: a disagreement, shown in status.
 *
 * What an MBX cannot hold (no octets; larger than mbxmax= allows) stays a file
 * only, and status names it. A keyword without a slot does not keep a message
 * back: its letter is the journal's (change.h).
 *
 * With mirror=off nothing is appended; UIDLAST is raised all the same, so that
 * UW does not use Dovecot's UIDs.
 *
 * Threads: all functions are safe; lock order: sync_lock -> files -> index.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/msg.h"
#include "fs/folder.h"

/** mirror_start - the thread. Return: 0; -errno */
MUST_CHECK int mirror_start(struct fs *fs);
void mirror_stop(void);

/** mirror_free - what is known of a folder that nobody uses any more */
void mirror_free(struct folder *f);

/** mirror_note - a file was delivered into the folder, or Dovecot has written
 * its uidlist: there may be something to do */
void mirror_note(struct folder *f);

/** mirror_hold_uids - with the sync_lock, nothing being left to settle: when
 * UIDLAST says less than was given out before, as in a mailbox that came back
 * from a backup, it is raised soon, or UW would use those UIDs again */
void mirror_hold_uids(struct folder *f, const struct index_folder *row);

/** mirror_uid - the UID that the file with this base name has in the MBX, also
 * where the journal could not be told, but the row was; 0 if it is not there.
 * With the files' lock. */
uint32_t mirror_uid(struct folder *f, const char *base);

/** mirror_in_doubt - an earlier life was about to append it, and nobody has
 * looked yet whether it did. With the files' lock. */
bool mirror_in_doubt(struct folder *f, const char *base);

/**
 * mirror_admit - a file with this base name is about to come in. What the
 * journal says about an earlier one, which left or was expunged, is forgotten
 * durably first: or the new one would be taken for the one that is gone. With
 * the files' lock; no file and no row has the name. Return: 0; -errno
 */
MUST_CHECK int mirror_admit(struct folder *f, const char *base);

/** mirror_forget - the file is not in the MBX any more, or is about not to be:
 * goes before what is done to it. Return: 0; -errno */
MUST_CHECK int mirror_forget(struct folder *f, const char *base);

/** mirror_name_of - sync hook: the name of the file whose copy a message of the
 * MBX is; NULL. @arg: the folder, whose sync_lock is held */
const char *mirror_name_of(const struct msg *m, void *arg);

/**
 * mirror_match - sync hook for rows under a new folder number, after UW has
 * numbered the mailbox anew: the file that a message is the copy of, by date
 * and octets. mirror_renumber() keeps what was found.
 */
const char *mirror_match(const struct msg *m, void *arg);
/** mirror_match_start - forget what an earlier try has found */
void mirror_match_start(struct folder *f);
/** mirror_renumber - with the sync_lock: the new number's journal gets what
 * mirror_match() found; before the ledger names the number. Return: 0; -errno
 */
MUST_CHECK int mirror_renumber(struct folder *f, uint32_t number);

/** mirror_settle - with the sync_lock, the rows are up to date: files get the
 * flags that UW gave their copies, and go where UW expunged them
 * Return: 0; -ESTALE: the rows are to be made anew; -errno: f->settled says
 * whether the folder can be shown all the same */
MUST_CHECK int mirror_settle(struct folder *f);

/* What there is to say about it. */
struct mirror_status {
	uint64_t files;	   /* delivered, in the folder now */
	uint64_t mirrored; /* of them */
	uint64_t no_uid;   /* Dovecot has not numbered them yet */
	uint64_t waiting;  /* numbered, not in the MBX yet */
	uint64_t refused;  /* cannot be in the MBX: mirror_each_refused() */
	int64_t lag_ms;	   /* how long the oldest of @waiting waits */
};
/** mirror_status - Return: 0; -errno */
MUST_CHECK int mirror_status(struct folder *f, struct mirror_status *out);
/** mirror_waits_for - why the waiting ones wait, for people, static; NULL */
const char *mirror_waits_for(struct folder *f);
/** mirror_each_refused - @why: for people, static */
typedef int mirror_refused_fn(const char *name, const char *why, void *arg);
MUST_CHECK int mirror_each_refused(struct folder *f, mirror_refused_fn *fn,
				   void *arg);
/** mirror_each_disagreement - messages whose UIDs differ */
typedef int mirror_disagreement_fn(const char *base, uint32_t dovecot,
				   uint32_t mbx, const char *why, void *arg);
MUST_CHECK int mirror_each_disagreement(struct folder *f,
					mirror_disagreement_fn *fn, void *arg);
