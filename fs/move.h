/*
 * move.h - a folder follows its mailbox that UW has renamed.
 *
 * Number, GUID, UIDVALIDITY and Dovecot's control files move along, so that
 * clients fetch nothing again. The ledger says first what is to be renamed to
 * what; the directory is renamed after that, and a crash between is made good
 * when the user is attached again.
 *
 * For the thread that holds the user's refresh_lock, or attaches the user.
 */
#pragma once

#include "compat/base.h"
#include "fs/user.h"

/**
 * move_folder - @f is the mailbox @legacy now; show it as directory @dir
 * When the directory cannot be renamed, it keeps its name.
 * Return: 0; -EAGAIN when the folder is busy; -errno.
 */
MUST_CHECK int move_folder(struct user *u, struct folder *f, const char *legacy,
			   const char *dir);

/** move_finish - rename what the ledger says was to be renamed */
MUST_CHECK int move_finish(struct user *u);

/** move_note_name - find out whether a folder's mailbox has another name in
 * UW's eyes than clients see, and log it */
void move_note_name(struct folder *f);
