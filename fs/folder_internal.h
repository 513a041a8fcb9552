/*
 * folder_internal.h - what the files share that follow an MBX or change it.
 */
#pragma once

#include "fs/folder.h"

/** folder_sync - with the sync_lock: make index and control files show the
 * MBX. Return: 0; -EIO when nothing can be served; -EAGAIN; -errno */
MUST_CHECK int folder_sync(struct folder *f);
/** folder_bump - move the mtime of "cur" or "new" on, for what others did */
MUST_CHECK int folder_bump(struct folder *f, const char *sub);
/** folder_number_change - the folder is known by another number from now on */
void folder_number_change(struct folder *f, uint32_t number,
			  uint32_t uidvalidity);
/** folder_show_up_to - messages above @uid do not show (those that are files,
 * or copies of files, do) */
void folder_show_up_to(struct folder *f, uint32_t uid);
/** folder_hold - the open MBX, to be given back with folder_let_go(); NULL */
struct folder_box *folder_hold(struct folder *f);
void folder_let_go(struct folder_box *b);
/** folder_trust - with the sync_lock: the rows show the MBX as it was at @s,
 * taken just now */
void folder_trust(struct folder *f, const struct stamp *s);
/** folder_distrust - with the sync_lock: the next folder_sync() has to look at
 * every message */
void folder_distrust(struct folder *f);
/** folder_bump_open - folder_bump() of the directory open at @fd */
MUST_CHECK int folder_bump_open(const struct folder *f, bool in_new, int fd);
/** folder_bump_soon - folder_bump() with a lease, which keeps the directories
 * open for the next one; folder_bump_done() closes them */
MUST_CHECK int folder_bump_soon(struct folder *f, bool in_new);
void folder_bump_done(struct folder *f);
/* More threads than this do not wait for one user. */
enum { FOLDER_CROWD = 8 };
/** folder_lock_in_crowd - the sync_lock behind many others: as long as they get
 * on, in turns; not behind one who waits for UW himself for more than @stuck ms
 * (f->sync_since). Return: 0; -EAGAIN */
MUST_CHECK int folder_lock_in_crowd(struct folder *f, unsigned patience,
				    int64_t stuck);
/** folder_patience_begin - how long this thread may wait for a lock of UW; to
 * be given back. One that has just been waited for in vain is only tried for a
 * while. */
void folder_patience_begin(struct folder *f);
void folder_patience_end(struct folder *f, ssize_t result);
/** folder_show_letters - with the sync_lock: dovecot-keywords names what the
 * MBX names (@k), and names of files follow. Return: 0; -errno */
MUST_CHECK int folder_show_letters(struct folder *f, const struct keywords *k);
/** folder_set_letters - names of files are made with these from now on; the
 * time of cur/ moves if that changes some. Return: 0; -errno */
MUST_CHECK int folder_set_letters(struct folder *f, const struct letters *l);

/* folder_mail.c */

/** folder_journal_open - the one that belongs to a number. Return: 0; -errno */
MUST_CHECK int folder_journal_open(struct folder *f, uint32_t number,
				   struct journal **out);
/** folder_journal_renew - with the sync_lock: the folder gets another number,
 * with a journal of its own */
void folder_journal_renew(struct folder *f, uint32_t number);
/** folder_letters - with or without any lock: the letters that the journal has
 * for a message, as bits */
uint32_t folder_letters(struct folder *f, uint32_t uid);
/** folder_bury - remember a message that is expunged, see folder_buried() */
void folder_bury(struct folder *f, const struct msg *m);
void folder_mail_free(struct folder *f);
