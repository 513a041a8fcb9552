/*
 * folders.h - creating, renaming and deleting folders through the view, where
 * a legacy folder is concerned.
 *
 * Its MBX moves along under UW's locks, and the ledger with it, so that names,
 * UIDs and inode numbers of messages stay. A deleted folder's MBX goes into a
 * trash in the new store, which only release empties:
 *
 *	.janusmail/trash/USER/<seconds>.<number>.<escaped legacy name>
 *
 * Who has the mailbox open in UW keeps it from being moved (-EBUSY), as between
 * two UW processes.
 *
 * Threads: all functions are safe; they take the user's refresh_lock, and the
 * folder's sync_lock.
 */
#pragma once

#include "compat/base.h"
#include "fs/fs.h"
#include "fs/node.h"

/** folders_is_legacy - whether @name in @parent is the directory of a legacy
 * folder that is shown */
bool folders_is_legacy(const struct node *parent, const char *name);

/**
 * folders_rename - the directory of a legacy folder is renamed
 * To another name of a folder in the same tree: a rename. To Dovecot's trash
 * ("..DOVECOT-TRASHED", or a name in that directory): the folder is deleted,
 * its directory is a plain one from then on.
 * Return: 0; -EEXIST; -EXDEV for any other name: mv copies then; -EBUSY;
 * -EACCES for INBOX, or another user's tree; -errno, and everything is as it
 * was.
 */
MUST_CHECK int folders_rename(struct node *from, const char *name,
			      struct node *to, const char *to_name);

/** folders_rmdir - the directory of a legacy folder is removed: deleted, if
 * its directory is empty. Return: 0; -ENOTEMPTY; -EBUSY; -errno */
MUST_CHECK int folders_rmdir(struct node *parent, const char *name);

/** folders_make_room - a folder is to be made with a name that one has whose
 * mailbox is gone: what is left of that goes into the trash.
 * Return: 0, also when there is none; -errno */
MUST_CHECK int folders_make_room(struct node *parent, const char *name);
