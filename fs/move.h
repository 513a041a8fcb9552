/*
 * move.h - a folder gets another name: it follows its mailbox that UW has
 * renamed, or the mailbox follows the folder that a client has renamed.
 *
 * Number, GUID, UIDVALIDITY and Dovecot's control files move along, so that
 * clients fetch nothing again. The ledger says first what is to be renamed to
 * what; the mailbox is renamed after that, then the directory. After a crash
 * between, what was begun is finished when the user is attached again; but when
 * the mailbox has its old name still, nothing was begun.
 *
 * For the thread that holds the user's refresh_lock, or attaches the user.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"
#include "fs/user.h"

/**
 * move_folder - @f is the mailbox @legacy now; show it as directory @dir
 * When the directory cannot be renamed, it keeps its name.
 * Return: 0; -EAGAIN when the folder is busy; -errno.
 */
MUST_CHECK int move_folder(struct user *u, struct folder *f, const char *legacy,
			   const char *dir);

struct mbxmove;
/** move_begin - lock the folder's mailbox, as mbxmove_begin()
 * Return: as that, but -EACCES for what is not to be touched, INBOX too */
MUST_CHECK int move_begin(struct user *u, const struct folder *f,
			  struct mbxmove *out);

/**
 * move_both - with the folder's sync_lock: it is to be shown as directory @dir,
 * and its mailbox to be called @legacy
 * @box: locks the mailbox; NULL when it keeps its name, @legacy, too
 * Return: 0; -EEXIST; -errno, and everything is as it was.
 */
MUST_CHECK int move_both(struct user *u, struct folder *f, struct mbxmove *box,
			 const char *legacy, const char *dir);

/** move_is_file - whether mailbox @legacy of the user is the file that the
 * ledger knows */
bool move_is_file(const struct user *u, const char *legacy,
		  const struct ledger_folder *l);

/** move_finish - rename what the ledger says was to be renamed, or take it back
 */
MUST_CHECK int move_finish(struct user *u);

/** move_note_name - find out whether a folder's mailbox has another name in
 * UW's eyes than clients see, and log it */
void move_note_name(struct folder *f);
