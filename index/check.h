/*
 * check.h - every invariant of the index, as code.
 *
 * Looks at one state of the index, in one read transaction; a daemon may go on
 * writing meanwhile.
 *
 *  1. every key and row has the length of its version; versions are known
 *  2. every message belongs to a folder that has a row
 *  3. UIDs are not 0 and ascend; none is expunged; sizes of an MBX are not 0
 *     (MBX rows are those with a record line, and those without a name of
 *     their own)
 *  4. MBX rows: line is 26 (no date, one digit) to 64; off >= 2048 + line; rows
 *     by ascending UID ascend in off and do not overlap; the last ends at or
 *     before next.off. While the damage is of a record or of the header, this
 *     is not said of rows behind the scan point, which no scan has seen again
 *  5. messages, unseen and octets of the folder row are the sums of its rows
 *  6. uidnext is above every UID (but for 2^32 - 1); an MBX's next.uid_last is
 *     not below one
 *  7. every name row points at a message that has that name, and every message
 *     with a name of its own has exactly one name row
 *  8. a folder with a damage has a finding counted, one without has none
 */
#pragma once

#include <stdint.h>

#include "compat/base.h"
#include "index/index.h"

/* One broken invariant: its number above, and a line for people. */
typedef void check_fn(unsigned invariant, const char *text, void *arg);

/**
 * check_index - walk everything
 * @fn: runs inside the transaction: must not call the index
 * Return: the number of findings (0: all hold); -errno.
 */
MUST_CHECK int64_t check_index(struct index *ix, check_fn *fn, void *arg);
