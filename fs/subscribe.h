/*
 * subscribe.h - what UW's clients subscribe to, they are subscribed to at
 * Dovecot's, too.
 *
 * UW's list (.mailboxlist) becomes Dovecot's "subscriptions" file when a user
 * is first shown. From then on that is Dovecot's; but what is new in UW's list
 * since the last look is added to it, and what went from it is taken away,
 * under Dovecot's lock. Only that: a folder that somebody unsubscribed at
 * Dovecot's stays so when UW's list changes for another one.
 *
 * The last look is a copy of the list in our directory in the new store.
 *
 * Threads: for the one that attaches the user, or has the job to look at him
 * (watch.h).
 */
#pragma once

#include "compat/base.h"
#include "fs/user.h"

/** subscribe_seed - from UW's list, unless there is a "subscriptions" file. The
 * caller holds the user's lock. Return: 0; -errno */
MUST_CHECK int subscribe_seed(struct user *u);

/** subscribe_follow - do what was done to UW's list. Return: 0; -EBUSY when
 * Dovecot is at it; -errno (logged) */
MUST_CHECK int subscribe_follow(struct user *u);
