/*
 * trash.h - where deleted mailboxes go: nothing but release empties it.
 *
 *	.janusmail/trash/USER/<seconds>.<number>.<escaped legacy name>
 *	.janusmail/trash/USER/<the same>.dir
 *	.janusmail/trash/USER/<the same>.control
 *
 * (in single-user mode janusmail/trash/...) The first is the mailbox as it was;
 * the second, what was left in its directory, if anything was; the third, in
 * its directory below control=.
 *
 * For the thread that holds the user's refresh_lock, or attaches the user.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"
#include "fs/user.h"

/** trash_open - the user's trash, made if need be. Return: a descriptor; -errno
 */
MUST_CHECK int trash_open(const struct user *u);

/** trash_name - what mailbox @legacy of folder @number is called there
 * @out: NAME_MAX + 1 octets; there is room for an ending of 8 */
void trash_name(uint32_t number, const char *legacy, char *out);

/** trash_put_dir - move what is left of directory @dir there
 * A missing one is fine. Return: 0; -errno */
MUST_CHECK int trash_put_dir(const struct user *u, const char *dir,
			     const char *name);

/** trash_has - whether something of that name lies there */
bool trash_has(const struct user *u, const char *name);

/** trash_forget - a copy of a mailbox that was not deleted after all
 * Return: 0; -errno */
MUST_CHECK int trash_forget(const struct user *u, const char *name);
