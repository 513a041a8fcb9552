/*
 * mail_internal.h - what mail.c and mail_file.c share.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "compat/base.h"
#include "compat/identity.h"
#include "fs/folder.h"
#include "fs/node.h"

enum { MAIL_TRIES = 4 }; /* when the MBX is not as the rows say */

/* A name in a directory. */
struct place {
	struct node *dir;
	struct folder *f; /* whose message it is or would be; NULL: nobody's */
	bool in_new;
	const char *name;
	char base[NAME_MAX + 1];
};

/** mail_act_as_user - be the user whose tree it is; identity_leave() is due if
 * that worked */
MUST_CHECK int mail_act_as_user(const struct node *dir, struct identity *was);
/** mail_admit - with the files' lock: may it come in? Return: 0; -EEXIST when a
 * message has its base name; -errno */
MUST_CHECK int mail_admit(const struct place *p);

/*
 * A message that is a real file, mirrored or not. -ESTALE: the mailbox changes
 * again and again.
 */
MUST_CHECK int mail_file_unlink(const struct place *p);
/** mail_file_reflag - @to: in the same folder, with the same base name */
MUST_CHECK int mail_file_reflag(const struct place *p, const struct place *to);
/** mail_file_move - it gets another base name, or goes elsewhere */
MUST_CHECK int mail_file_move(const struct place *p, const struct place *to);
