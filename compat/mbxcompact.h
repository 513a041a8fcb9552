/*
 * mbxcompact.h - the octets of expunged messages taken out of an MBX.
 *
 * The file stays the same one (nobody may rename over an MBX) and is a mailbox
 * that UW can open, with all messages and UIDs, at every moment: nothing but
 * holes, that is expunged records, is written to, and what was made ready in
 * them becomes visible with one small write (mbxswitch.h). A crash leaves holes
 * for the next time. How: mbxcompact.c.
 *
 * Needs the exclusive lock: nobody else has the mailbox open in UW. A daemon
 * may serve it; it notices by size and times.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/store.h"

struct mbxcompact {
	uint64_t messages; /* that stay */
	uint64_t expunged; /* records that go */
	uint64_t before;   /* size of the file */
	uint64_t after;	   /* and then; what it would be */
	uint64_t room;	   /* by how much it grows meanwhile */
	bool unfinished;   /* an earlier one was interrupted in mid-write */
	uint64_t fault;	   /* for -EBADMSG: where, */
	const char *want;  /* and what was expected there; static */
	char holder[64];   /* for -EBUSY: who has it open */
};

enum mbxcompact_mode { MBXCOMPACT_DO, MBXCOMPACT_LOOK };

/**
 * mbxcompact_run - @box: of an mbx_store_new(), not begun
 * Messages without a UID get theirs first, as UW would do.
 * Return: 0; -EBUSY; -EAGAIN: the parse lock is busy; -EBADMSG: damaged,
 * nothing is changed; -ENOSPC, -EDQUOT: nothing but such UIDs is changed;
 * -errno, and it is a whole mailbox, perhaps with other holes.
 */
MUST_CHECK int mbxcompact_run(struct box *box, enum mbxcompact_mode mode,
			      struct mbxcompact *out);
