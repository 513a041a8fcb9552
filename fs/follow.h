/*
 * follow.h - dovecot-uidlist follows what UW appends.
 *
 * While the MBX is the truth, its UIDs are: a message that turns up in it gets
 * its line in dovecot-uidlist, with the UID it has (or will get) there, before
 * its name shows in a listing. Otherwise Dovecot would count on from the last
 * UID it knows, and be wrong as soon as UW has used one that never showed.
 *
 * Lines are appended under dovecot-uidlist.lock, as Dovecot does it. Dovecot
 * may hold that lock while it lists the very directory we are asked for, so it
 * is only tried: if it is taken the new messages show later.
 */
#pragma once

#include "compat/base.h"
#include "fs/folder.h"

/**
 * follow_uidlist - list the messages that dovecot-uidlist does not name
 * The caller holds the folder's sync_lock. Sets id.shown; counts names whose
 * UID in the list is another one than theirs (disagreements).
 *
 * Return: 0; -EBUSY: some messages do not show yet, try again; -errno.
 */
MUST_CHECK int follow_uidlist(struct folder *f, const struct index_folder *row);
