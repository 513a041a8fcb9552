/*
 * remove.h - a legacy folder is deleted.
 *
 * Its mailbox moves into the trash (trash.h), its directory to where it is
 * wanted or into the trash too. The ledger says first that it is being deleted.
 * After a crash it is deleted if the mailbox had gone, else it is not.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"
#include "fs/user.h"

/* Takes the folder's directory away; the mailbox has gone already. */
typedef int remove_dir_fn(void *arg);

/**
 * remove_folder - with the user's refresh_lock and the folder's sync_lock
 * @away: NULL: the directory goes into the trash, as it does when @away fails
 * Return: 0; -EBUSY when UW has the mailbox open; -EACCES; -EAGAIN; -errno, and
 * everything is as it was.
 */
MUST_CHECK int remove_folder(struct user *u, struct folder *f,
			     remove_dir_fn *away, void *arg);

/**
 * remove_gone - the same for a folder whose mailbox is gone
 * Return: 0; -EEXIST when the mailbox is back; -errno
 */
MUST_CHECK int remove_gone(struct user *u, struct folder *f);

/** remove_note - the folder's mailbox is gone, or is back: says whether what
 * lies in its directory shows */
void remove_note(struct folder *f, bool gone);

/** remove_finish - for the thread that attaches the user: delete what the
 * ledger says was being deleted, or take it back */
MUST_CHECK int remove_finish(struct user *u);
