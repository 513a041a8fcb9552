/*
 * journal.h - what neither store can say about a folder: which files of the new
 * store also lie in its MBX, and letters that the MBX has no room for.
 *
 * A text file in the new store, one a folder, lines are appended:
 *
 *	janusmail-journal 1
 *	try <uid> <base>	about to be appended to the MBX as <uid>
 *	in <uid> <base>		it was: the message is in the MBX as <uid>
 *	out <base>		not, or not any more
 *	letters <uid> <letters>	of message <uid> of the MBX ("-": none left)
 *
 * uid: decimal, the one in the MBX (Dovecot's is in dovecot-uidlist and mostly
 * the same); base: text_escape()d. A last line without LF is not looked at, and
 * cut off before the next one is written. When most lines say nothing any more
 * the file is replaced, atomically.
 *
 * A base that is in the MBX and has no record there was expunged by UW; one
 * that is only to be tried may have got there or not: its octets tell.
 *
 * No descriptor of the file is kept open after journal_sync().
 *
 * Threads: all functions are safe.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"

struct journal;

struct journal_entry {
	const char *base;
	uint32_t uid;
	bool sure; /* false: only tried */
};

/** journal_open - read file @name in @dirfd, which the journal keeps a
 * duplicate of; a missing file is an empty journal, made with the first line
 * @uid, @gid: its owner; (uid_t)-1 leaves it
 * Return: 0; -EBADMSG; -errno */
MUST_CHECK int journal_open(int dirfd, const char *name, uid_t uid, gid_t gid,
			    struct journal **out);
/** journal_close - NULL is fine */
void journal_close(struct journal *j);

/** journal_try - @uid: not 0; @base: a file's name. A base has one UID, and a
 * UID one base: the last one said. Return: 0; -EINVAL; -EEXIST: another file is
 * in the MBX under that UID; -errno */
MUST_CHECK int journal_try(struct journal *j, uint32_t uid, const char *base);
MUST_CHECK int journal_in(struct journal *j, uint32_t uid, const char *base);
MUST_CHECK int journal_out(struct journal *j, const char *base);
/** journal_clear - nothing is known of @base any more, and that is durable,
 * also if it was said before. Costs nothing where it was not known lately.
 * Return: 0; -errno */
MUST_CHECK int journal_clear(struct journal *j, const char *base);
/** journal_set_letters - bits 0..25; 0: none left */
MUST_CHECK int journal_set_letters(struct journal *j, uint32_t uid,
				   uint32_t letters);
/** journal_sync - make durable what was written; nothing else does */
MUST_CHECK int journal_sync(struct journal *j);

/** journal_by_base - Return: false if it is not there */
bool journal_by_base(struct journal *j, const char *base, uint32_t *uid_out,
		     bool *sure_out);
/** journal_by_uid - @base_out: NAME_MAX + 1 octets */
bool journal_by_uid(struct journal *j, uint32_t uid, char *base_out,
		    bool *sure_out);
uint32_t journal_letters(struct journal *j, uint32_t uid);
/** journal_all_letters - of all messages; @count_out: how many have some */
uint32_t journal_all_letters(struct journal *j, uint64_t *count_out);

/** journal_each - a copy is walked, so @fn may change the journal; non-zero
 * ends it and is returned. Return: also -ENOMEM */
typedef int journal_fn(const struct journal_entry *e, void *arg);
MUST_CHECK int journal_each(struct journal *j, journal_fn *fn, void *arg);
typedef int journal_letters_fn(uint32_t uid, uint32_t letters, void *arg);
MUST_CHECK int journal_each_letters(struct journal *j, journal_letters_fn *fn,
				    void *arg);
