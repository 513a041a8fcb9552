/*
 * basename.h - Maildir file names: ours for MBX messages, and the ":2," info.
 *
 * The base name of a message that lies in an MBX is a pure function of the
 * folder's number (given out once, kept in the ledger), UIDVALIDITY, UID, date
 * and size, so it is the same after a restart, without any index:
 *
 *	<uid>.V<uidvalidity>F<folder>D<date>.janusmail,S=<size>
 *	 dec    hex, 8         hex, 8  hex, 8 or more         dec
 *
 * The leading number makes Dovecot give UIDs to unlisted files in MBX order
 * (it sorts by that number first). ",S=" is exact: Dovecot trusts it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/msg.h"

enum { BASENAME_MAX = 120, MAILDIR_LETTERS = 26 };

struct basename {
	uint32_t folder;
	uint32_t uidvalidity;
	uint32_t uid;
	int64_t date; /* negative dates are stored as two's complement, 16
			 digits */
	uint64_t size;
};

/** basename_format - write the name; @out has BASENAME_MAX + 1 octets */
void basename_format(const struct basename *b, char *out);

/**
 * basename_parse - read a name of ours; exact: formatting the result gives
 * the same octets back
 *
 * Return: 0; -ENOENT when the name is not one of ours.
 */
MUST_CHECK int basename_parse(const char *name, size_t len,
			      struct basename *out);

/**
 * info_format - the flags part of a file in cur/: ":2," and sorted letters
 * @flags: MSG_*; only system flags give letters (D F R S T)
 * @keywords: bits 0..25 give letters a..z
 * @out: at least INFO_MAX + 1 octets
 */
enum { INFO_MAX = 3 + 5 + MAILDIR_LETTERS };
void info_format(uint32_t flags, uint32_t keywords, char *out);

/**
 * info_split - where the base of a Maildir file name ends
 * Return: octets before ":2,", or all of them.
 */
size_t info_split(const char *name, size_t len);

/**
 * info_parse - flags and keywords from the letters after ":2,"
 * Any order is accepted; letters that mean nothing here are ignored. A ','
 * after the letters ends them, as in Dovecot.
 * @name: a whole file name; without ":2," both results are 0
 */
void info_parse(const char *name, size_t len, uint32_t *flags_out,
		uint32_t *keywords_out);

/**
 * info_in_new - whether a message of an MBX shows in new/ rather than cur/
 * \Recent and without any flag or keyword; a file in new/ can carry none.
 * (A Maildir message lies in new/ when it has not MSG_OLD.)
 */
bool info_in_new(const struct msg *m);
