/*
 * regime.h - the numbers in an MBX are to be those that were shown.
 *
 * UW numbers a mailbox anew when it finds a UID above UIDLAST or out of order,
 * also where that was its own fault. Dovecot's clients never see it: messages
 * keep the UIDs of their rows (index/keep.h). The numbers on disk are put back
 * when nobody else has the mailbox open; sessions of UW keep numbers in memory
 * and would write them over ours. Until then it is tried again and again, and
 * log and status tell of it. UIDLAST alone is raised at once, which disturbs
 * nobody, and a UIDVALIDITY of 0, which IMAP forbids, becomes the one that was
 * shown in its place.
 *
 * Likewise a keyword whose slot got another name gets a slot of its own.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"
#include "fs/folder.h"
#include "index/index.h"

/** regime_mend - with the sync_lock, the rows being up to date: put numbers
 * back if that is due and possible
 * Return: whether the MBX is another now: sync again. */
bool regime_mend(struct folder *f, const struct index_folder *row);

/** regime_look - the same some time later, and the sync
 * Return: 0: nothing is due any more; -EAGAIN: again later */
MUST_CHECK int regime_look(struct folder *f);
