/*
 * convert_list.h - the dovecot-uidlist of a converted folder.
 *
 * Written anew from the messages of the MBX, in order; what Dovecot has listed
 * beside them (mail that was delivered through a view) stays, and so does what
 * it has noted of a message. Kept in a file without a name until it is whole.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"
#include "compat/msg.h"

struct convert_list;

struct convert_list_of {
	int dirfd; /* the folder */
	uint32_t number, uidvalidity;
	const char *guid; /* of a list that is new */
	uid_t uid;
	gid_t gid;
};

/** convert_list_open - @scratch: a directory to work in; @of is copied
 * Return: 0; -EBADMSG: there is a list that cannot be read; -errno */
MUST_CHECK int convert_list_open(const struct convert_list_of *of,
				 const char *scratch,
				 struct convert_list **out);
/** convert_list_restart - as if nothing had been added */
MUST_CHECK int convert_list_restart(struct convert_list *l);
/** convert_list_add - by ascending UID. Return: 0; -EEXIST: the list has given
 * that UID to another message; -errno */
MUST_CHECK int convert_list_add(struct convert_list *l, const struct msg *m,
				const char *base);
/** convert_list_finish - write dovecot-uidlist, durably. @uidnext: 0: one above
 * the last record */
MUST_CHECK int convert_list_finish(struct convert_list *l, uint32_t uidnext);
/** convert_list_close - NULL is fine */
void convert_list_close(struct convert_list *l);
