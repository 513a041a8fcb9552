/*
 * mbx.h - the MBX back end of store.h.
 *
 * Every octet of the structure is read under c-client's locks (mbxlock.h):
 * shared flock on the file for the whole operation, so that nobody moves
 * bytes, and the parse lock for slices of at most some thousand records, so
 * that no UW process waits longer than a few milliseconds.
 *
 * UIDs. What is shown is the UID on disk where UIDs ascend; messages that have
 * none yet get the UID that UW will give them (UIDLAST + 1 in file order,
 * expunged ones counted). From the first UID out of order on, fresh numbers
 * above the highest one so far are shown; nothing is written.
 *
 * Writing (mbxwrite.c, mbxappend.c) holds both locks. Nothing moves: fields of
 * fixed width are overwritten, records appended. The first append to a box that
 * was not scanned walks over all records with the parse lock held; after a scan
 * it looks only at what came since.
 */
#pragma once

#include <sys/types.h>

#include "compat/base.h"
#include "compat/pattern.h"
#include "compat/store.h"

struct mbx_options {
	const char *lock_dir; /* where UW makes its lock files: "/tmp" */
	unsigned lock_ms;     /* deadline for every lock */
	uid_t owner;	      /* files of others are refused; -1: anybody's */
	gid_t group;	      /* the lock files we make belong to owner:group */
	uint64_t max_file;    /* append() lets no file grow beyond; 0: any size.
				 32-bit builds of UW stop at 2^31 - 1 */
};

/**
 * mbx_store_new - the mail directory that @root names for @user
 * @root must outlive the store. open() takes a path below the directory, or ""
 * when @root names a single mailbox file.
 */
MUST_CHECK int mbx_store_new(const struct pattern *root, const char *user,
			     const struct mbx_options *opt, struct store **out);
