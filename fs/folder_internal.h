/*
 * folder_internal.h - what folder.c and folder_sync.c share.
 */
#pragma once

#include "fs/folder.h"

/** folder_sync - with the sync_lock: make index and control files show the
 * MBX. Return: 0; -EIO when nothing can be served; -EAGAIN; -errno */
MUST_CHECK int folder_sync(struct folder *f);
/** folder_bump - move the mtime of "cur" or "new" on */
MUST_CHECK int folder_bump(const struct folder *f, const char *sub);
/** folder_number_change - the folder is known by another number from now on */
void folder_number_change(struct folder *f, uint32_t number,
			  uint32_t uidvalidity);
/** folder_hold - the open MBX, to be given back with folder_let_go(); NULL */
struct folder_box *folder_hold(struct folder *f);
void folder_let_go(struct folder_box *b);
/** folder_now_ms - a clock for waits and idle times */
int64_t folder_now_ms(void);
