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
 * keep_uids - give the messages in @h the UIDs of their rows, where the store
 * has numbered them anew (DAMAGE_REGIME, said here) or has them out of order
 * @was: the folder's row; @scan: the full scan that delivered @h, which shows
 * the old UIDVALIDITY then
 *
 * Another file, and one of whose messages too few are known, is another
 * mailbox: nothing is changed. @h is in the order of UIDs.
 *
 * Return: 0; -EOVERFLOW when no UID is left; -errno.
 */
MUST_CHECK int keep_uids(struct index *ix, uint32_t folder,
			 const struct index_folder *was, struct scan *scan,
			 struct harvest *h);

/**
 * keep_renamed - slots that had another name
 *
 * Two sessions of UW that make a keyword each, at the same time, take the same
 * slot; the second one's name is in the place of the first one's then, for all
 * messages (DAMAGE_SLOTS).
 *
 * Return: those slots, as bits; 0 for another mailbox.
 */
uint32_t keep_renamed(const struct index_folder *was, const struct scan *scan);

/** keep_slots - @scan shows the names that slots had; what the messages have of
 * them is for the caller to keep. Return: as keep_renamed() */
uint32_t keep_slots(const struct index_folder *was, struct scan *scan);
