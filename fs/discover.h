/*
 * discover.h - which mailboxes lie in a user's legacy places.
 *
 * For the thread that holds the user's refresh_lock, or attaches the user; the
 * user's lock is taken for moments only, never while directories are walked.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"
#include "fs/user.h"

/**
 * discover_folders - make the user's ledger say what lies there
 *
 * New mailboxes get a line, durable at return. A name that is taken, by another
 * folder or by a directory in the new store, gets a variant; mailboxes are
 * taken in the order of their names, so that who gets the plain one does not
 * depend on the order of a directory.
 *
 * A mailbox that was renamed takes its folder along (move.h): it is the same
 * file, with the same UIDVALIDITY, and the old name is gone. A folder whose
 * file is missing twice, while the directory could be read, is gone: it is
 * hidden, keeps its line and its directory, and comes back with its file; but
 * when mail lies in its directory that the mailbox does not have (journal.h),
 * that shows, as in a native folder. INBOX is
 * never gone.
 *
 * What is not served, and why, is noted in the user.
 *
 * @missing_out: whether a file is missing that was not so the last time
 * Return: 0; -errno.
 */
MUST_CHECK int discover_folders(struct user *u, bool *missing_out);

/** discover_clear - forget what is not served */
void discover_clear(struct user *u);
