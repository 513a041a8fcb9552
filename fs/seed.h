/*
 * seed.h - Dovecot's control files, written before a folder is first shown.
 *
 * dovecot-keywords first, dovecot-uidlist last: the uidlist's presence says
 * that the folder is seeded, so a crash between the two is made good by doing
 * it again. Each is written whole or not at all. Once it is there the uidlist
 * is Dovecot's; it is written again only when UW has reset UIDVALIDITY, and
 * then under dovecot-uidlist.lock, as Dovecot does it.
 */
#pragma once

#include "compat/base.h"
#include "fs/folder.h"
#include "fs/user.h"

/**
 * seed_needed - whether the folder has no uidlist yet, in the store or, when
 * control= is given, there
 */
bool seed_needed(const struct folder *f);

/**
 * seed_folder - write the control files from the index rows
 * The caller holds the folder's write lock; number, UIDVALIDITY and GUID are
 * in the ledger already.
 * @again: replace what is there (UIDVALIDITY is another one now)
 *
 * Return: 0; -EAGAIN when Dovecot holds the uidlist's lock too long; -errno.
 */
MUST_CHECK int seed_folder(struct folder *f, bool again);

enum seed_what { SEED_LOOK, SEED_WRITE };

/**
 * seed_keywords - make dovecot-keywords name what the MBX names
 * Names that are only in the file stay. With SEED_LOOK nothing is written.
 * @letters_out: the slots that the file names as @k does; they may show as
 *	letters. All are that could, when it equals dkeywords_letters(k)
 *
 * Return: 0; -EBUSY when Dovecot holds the file's lock (try again later; the
 * letters are valid); -errno.
 */
MUST_CHECK int seed_keywords(struct folder *f, const struct keywords *k,
			     enum seed_what what, uint32_t *letters_out);

/** seed_open_control - the folder's directory below control=, made if need be;
 * @dir: as in the ledger, NULL for the directory of all folders */
MUST_CHECK int seed_open_control(const struct user *u, const char *dir);

/** seed_subscriptions - from UW's .mailboxlist, unless there is a
 * "subscriptions" file. The caller holds the user's lock. Return: 0; -errno */
MUST_CHECK int seed_subscriptions(struct user *u);
