/*
 * tree.h - a user's directories in the new store.
 *
 * All of them belong to the user. Threads: for the one that holds the user's
 * refresh_lock, or attaches the user.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"
#include "fs/user.h"

/** tree_open - open the user's Maildir++ root, made if need be, as ->fd */
MUST_CHECK int tree_open(struct user *u);

/**
 * tree_check_owners - give the user what we made in his tree as root's
 * Folders are those of the ledger. Only what nobody else can have put there
 * changes hands; what else does not belong to the user is reported in the log.
 * Return: 0; -errno.
 */
MUST_CHECK int tree_check_owners(struct user *u);

/** tree_make_folder - @dir ("" for INBOX) with cur, new, tmp, and Maildir++'s
 * mark of a subfolder, where they are missing */
MUST_CHECK int tree_make_folder(const struct user *u, const char *dir);

/**
 * tree_rename_folder - rename a folder's directory, and its directory below
 * control=; a missing one is fine
 * Return: 0; -EEXIST; -errno, and it has its old name.
 */
MUST_CHECK int tree_rename_folder(const struct user *u, const char *from,
				  const char *to);

/** tree_has_mail - whether a message lies in cur/ or new/ of @dir for which
 * @counts says so; true when that cannot be told */
typedef bool tree_mail_fn(const char *name, void *arg);
bool tree_has_mail(const struct user *u, const char *dir, tree_mail_fn *counts,
		   void *arg);

/** tree_open_control - the user's directory below control=. Return: a
 * descriptor; -ENOENT also when there is no such option; -errno */
MUST_CHECK int tree_open_control(const struct user *u);
