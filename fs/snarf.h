/*
 * snarf.h - mail that the old MTA still puts into a unix mbox, the spool.
 *
 * UW takes it from there into INBOX when a session opens it. With spool= we do
 * the same, as an independent delivery agent would: every two seconds a thread
 * looks at the spools of all users that were looked up, takes what is in one
 * under all locks there are for it (spoollock.h), appends it to the MBX, makes
 * that durable, and then cuts the spool. Without spool= nothing is touched.
 *
 * A crash between the two leaves a message in both places. Before the first one
 * is appended a note is made in the new store; while there is one, what lies in
 * the MBX already, octet for octet and with the same date, is not appended
 * again.
 *
 * Only a user whose INBOX is an MBX gets his mail that way; for others, as UW
 * does, it stays where it is.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "fs/fs.h"
#include "fs/user.h"

/** snarf_start - nothing without spool=. Return: 0; -errno (logged) */
MUST_CHECK int snarf_start(struct fs *fs);
void snarf_stop(void);
/** snarf_kick - somebody was looked up who was not before: look at once */
void snarf_kick(void);

struct snarf_waiting {
	char path[400]; /* for people */
	uint64_t octets;
	const char *why; /* it stays there; static; NULL: it will be taken */
	char who[64];	 /* "" or who keeps it locked */
};
/** snarf_waiting - what waits in the user's spool, which without spool= is
 * /var/mail/USER. Nothing is locked for it.
 * Return: whether anything does. */
bool snarf_waiting(struct user *u, struct snarf_waiting *out);
