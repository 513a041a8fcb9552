/*
 * seed.h - Dovecot's control files, written before a folder is first shown.
 *
 * dovecot-keywords first, dovecot-uidlist last: the uidlist's presence says
 * that the folder is seeded, so a crash between the two is made good by doing
 * it again. Each is written whole or not at all; a dovecot-keywords that is
 * there stays. Once it is there the uidlist is Dovecot's; it is written again
 * only when UW has reset UIDVALIDITY, under dovecot-uidlist.lock as Dovecot
 * does it, and when somebody has removed it.
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
 * Return: 0; -EBUSY when Dovecot holds the uidlist's lock too long, unless the
 * list was removed since the folder was seeded; -errno.
 */
MUST_CHECK int seed_folder(struct folder *f, bool again);

/**
 * seed_read_keywords - dovecot-keywords as Dovecot has it
 * Return: 0, also when it is not there or damaged (no names); -errno.
 */
MUST_CHECK int seed_read_keywords(const struct folder *f, struct keywords *out);

/**
 * seed_keywords - make dovecot-keywords name what the MBX names, too
 * Names that are there stay where they are: letters_add().
 * @taken: letters without a name that messages have
 * @out: what is in the file then
 *
 * Return: 0; -EBUSY when Dovecot holds the uidlist's lock; -errno.
 */
MUST_CHECK int seed_keywords(struct folder *f, const struct keywords *k,
			     uint32_t taken, struct keywords *out);

/** seed_keywords_time - the time of dovecot-keywords where Dovecot has it,
 * nanoseconds; 0 if there is none */
int64_t seed_keywords_time(const struct folder *f);

/** seed_open_control - the folder's directory below control=, made if need be;
 * @dir: as in the ledger, NULL for the directory of all folders */
MUST_CHECK int seed_open_control(const struct user *u, const char *dir);
