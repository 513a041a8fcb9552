/*
 * settle.h - what is due some time after changes to an MBX, done by a thread
 * of its own so that nobody waits for it:
 *
 *	fsync		of the MBX and the folder's journal, 50 ms after the
 *			last change, or 500 ms after the first
 *	touch		when the second of the change is over (store.h)
 *	confirm		two seconds later: if the file still is as we left it,
 *			that is noted, and a delivery by UW costs a look at its
 *			end instead of one at everything
 *	letters		Dovecot writes the name of a new keyword letter after
 *			the letter; when its control files lie outside the view
 *			nobody tells us
 *	regime		numbers in the MBX that could not be put back are tried
 *			again, see regime.h
 *
 * Threads: all functions are safe. The lock is a leaf.
 */
#pragma once

#include "compat/base.h"
#include "fs/folder.h"

/** settle_note - with the sync_lock: @b was changed */
void settle_note(struct folder *f, struct folder_box *b);
/** settle_letters - messages have a letter without a name */
void settle_letters(struct folder *f);
/** settle_regime - with the sync_lock: regime_look() at it again */
void settle_regime(struct folder *f);

/** settle_sync - what was changed is durable when this returns; no lock is
 * needed. Return: 0; -errno */
MUST_CHECK int settle_sync(struct folder *f);

MUST_CHECK int settle_start(void);
/** settle_stop - everything is durable, and nothing is due any more */
void settle_stop(void);
