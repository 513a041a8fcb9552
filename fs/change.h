/*
 * change.h - what renaming and removing a file means for a message of an MBX.
 *
 * A rename in cur/, or from new/ to cur/, is a change of flags; an unlink is an
 * expunge. Each is in the MBX, where other processes see it, when the call
 * returns; the directories' times have moved on by then, too.
 *
 * Letters. A keyword's letter is the one that dovecot-keywords gives its name;
 * its slot is where the MBX has that name. Dovecot renames first and writes the
 * name of a new letter afterwards, so a letter without a slot is kept in the
 * folder's journal and shows in the name as if it had one; when its name is
 * known it gets a slot. What an MBX cannot hold stays in the journal for good,
 * and status says so.
 *
 * Threads: all functions are safe. Those that say "with a lease" are called
 * between lease_begin() and lease_end().
 */
#pragma once

#include <stdint.h>

#include "compat/base.h"
#include "fs/folder.h"

/**
 * change_rename - give a message that is shown from the MBX another name
 * @from, @to: file names; only the flags part may differ
 * Return: 0; -ENOENT; -EACCES for what cannot be (another base name, from cur/
 * to new/, capitals that no MBX can hold); -EIO; -EAGAIN; -errno.
 */
MUST_CHECK int change_rename(struct folder *f, bool from_new, const char *from,
			     bool to_new, const char *to);

/** change_expunge - remove a message that is shown from the MBX. Who has it
 * open reads on until UW compacts the mailbox.
 * Return: 0; -ENOENT; -EIO; -EAGAIN; -errno */
MUST_CHECK int change_expunge(struct folder *f, bool in_new, const char *name);

/**
 * change_flags - with a lease: what renaming @from to @to asks for, written to
 * message @uid of the MBX and its row
 * @from, @to: file names, of which only the flags part is looked at
 * @to_new: @to is in new/: nothing changes; else MSG_OLD is set
 * Return: 0; -ESTALE: lease_end() with that, and try again; -ENOENT; -errno.
 */
MUST_CHECK int change_flags(struct folder *f, uint32_t uid, const char *from,
			    const char *to, bool to_new);

/** change_remove - with a lease: message @uid is expunged in the MBX, and its
 * row goes. Return: 0, also when there is none; -ESTALE; -errno */
MUST_CHECK int change_remove(struct folder *f, uint32_t uid);

/** change_keep_letters - with the sync_lock: these letters of message @uid have
 * no slot; the journal has them until their names are known. Return: 0; -errno
 */
MUST_CHECK int change_keep_letters(struct folder *f, uint32_t uid,
				   uint32_t letters);

/** change_named - Dovecot has written dovecot-keywords: letters that had no
 * name may have one now */
void change_named(struct folder *f);

/** change_look - the same, without waiting. Return: 0; -EAGAIN */
MUST_CHECK int change_look(struct folder *f);

/** change_unnamed - letters of messages that the MBX cannot hold: their number
 * of messages, and in @letters which letters */
uint64_t change_unnamed(struct folder *f, uint32_t *letters);
