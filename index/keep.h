/*
 * keep.h - messages keep the UIDs that were shown, whatever the store says now.
 *
 * UW numbers a mailbox anew when it finds a UID out of order, or one above
 * UIDLAST. To whoever has seen the old numbers that is a fault of the store.
 * The rows know them. A UID must never come to stand for another message, so a
 * message of the scan is that of a row only if
 *
 *  - both have the same UID on disk, size and date, and UIDVALIDITY on disk is
 *    what it was when the row was written; or the row's had no UID yet and lies
 *    where it lay;
 *  - or no second message has that size and date, now or then; or it lies
 *    where it lay, and one that was found otherwise does so behind it: octets
 *    move only when something before them is taken out.
 *
 * Any other message gets a UID that was never given out.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/store.h"
#include "index/harvest.h"
#include "index/index.h"

/**
 * keep_uids - give the messages in @h the UIDs of their rows
 * @was: the folder's row; @scan: the full scan that delivered @h
 * @last: the highest UID that was given out, or is now
 *
 * @h is in the order of the new UIDs then.
 *
 * Return: 1; 0 when too few messages are known: that is another mailbox, and
 * nothing was changed; -EOVERFLOW when no UID is left; -errno.
 */
MUST_CHECK int keep_uids(struct index *ix, uint32_t folder,
			 const struct index_folder *was,
			 const struct scan *scan, struct harvest *h,
			 uint32_t *last);
