/*
 * snarf_take.h - what is in one user's spool gets into his INBOX.
 */
#pragma once

#include <sys/stat.h>

#include "compat/base.h"
#include "compat/store.h"
#include "fs/folder.h"
#include "fs/user.h"

struct snarf_taken {
	unsigned count; /* messages that were appended */
	bool rest;	/* something came meanwhile, and is still there */
	struct stat st; /* of the spool, when all that was in it was taken and
			   nobody could add to it */
};

/** snarf_noted - whether a try has not come to its end */
bool snarf_noted(const struct user *u, int notes);

/**
 * snarf_take - see snarf.h
 * @f, @box: the INBOX, opened for this alone
 * @notes: directory for the note
 * @stop: to be given up; soon, once a message was appended
 *
 * Return: 0; -ENOSPC, -EFBIG, before anything is taken if that can be foreseen;
 * -EBADMSG when the spool is no unix mbox; as spoollock_take() and
 * append(). What was appended stays, and will not be appended again.
 */
MUST_CHECK int snarf_take(const struct folder *f, struct box *box, int notes,
			  const atomic_bool *stop, struct snarf_taken *out);
