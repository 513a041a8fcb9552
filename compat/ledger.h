/*
 * ledger.h - what must be remembered about a user's folders for ever.
 *
 * A small text file in the new store, one a user. It is part of the store, not
 * of the index: names and inode numbers hang on it.
 *
 *	janusmail-ledger 3
 *	folder <number> <dir> <guid> <uidvalidity> <phase> <place>
 *	       <legacy name> <dev> <ino> [<moved from> [<was legacy name>]]
 *	...
 *	folder <number> <dir> ... deleting ... <ino> <trash name>
 *	folder <number> . <guid> <uidvalidity> deleted <place> - <dev> <ino>
 *	...
 *	end <number of folder lines>
 *	line <n> <number> <dir> ...
 *	...
 *
 * (each on one line.) number, uidvalidity: 8 hex digits, uidvalidity 0 until
 * the folder is seeded; dir: Maildir++ name, "." for INBOX; guid: 32 hex
 * digits; phase: legacy, native, deleting or deleted; place: "inbox<n>" (the
 * n-th inbox= pattern) or "folders"; names are text_escape()d, an empty legacy
 * name is "-"; dev, ino: 16 hex digits, which file it was when last seen, 0
 *when unknown.
 *
 * What is about to happen is said first. moved from: a dir that is yet to be
 * renamed to dir. was legacy name: a file that may not be renamed to its legacy
 * name yet; if it is not, nothing was. deleting: the file is about to go into
 * the trash under that name; if it still lies where it was, it was not deleted.
 * A folder that was deleted has its number for ever, and no name.
 *
 * Versions 1 and 2 are read, too. Neither knows deleted folders and was legacy
 * names; version 1 has neither dev nor ino nor moved from, and nothing after
 * the end line.
 *
 * The part up to the end line is replaced atomically; the end line tells a
 * whole file from a torn one. Lines after it were appended since: the n-th
 * folder (from 0) is this now, or is new. One that is torn was never relied on.
 *
 * Folder numbers are given out by ledger_number() from one counter file for
 * the whole new store, under flock, and are never given out twice.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"

enum ledger_phase {
	PHASE_LEGACY,
	PHASE_NATIVE,
	PHASE_DELETING,
	PHASE_DELETED,
};
enum { LEDGER_PLACE_FOLDERS = -1 }; /* else: number of the inbox= pattern */

struct ledger_folder {
	uint32_t number;
	char *dir;	      /* ".a.b"; "" for INBOX */
	char guid[33];	      /* Dovecot's mailbox GUID */
	uint32_t uidvalidity; /* the one that names carry and clients see */
	enum ledger_phase phase;
	int place;
	char *legacy;	   /* path below the place; "" for an inbox= file */
	uint64_t dev, ino; /* of the legacy file; 0: not known */
	char *moved_from;  /* NULL, or a dir that may not be renamed yet */
	char *was_legacy;  /* NULL, or a file that may not be renamed yet */
	char *trash;	   /* deleting: the file's name there; else NULL */
	bool dirty;	   /* for ledger_commit(): differs from the file */
};

struct ledger {
	struct ledger_folder *folders;
	size_t count;
	/* What ledger_commit() knows about the file. */
	bool whole;	 /* lines may be appended to it */
	size_t appended; /* since it was last replaced */
};

/** ledger_parse - Return: 0; -EBADMSG (torn or foreign); -ENOMEM. @out is
 * empty after a failure. */
MUST_CHECK int ledger_parse(const char *text, size_t len, struct ledger *out);
/** ledger_format - the text, NUL-terminated, to be freed. Return: 0; -ENOMEM */
MUST_CHECK int ledger_format(const struct ledger *l, char **out,
			     size_t *len_out);
/** ledger_format_dirty - the lines that differ from the file, to be appended */
MUST_CHECK int ledger_format_dirty(const struct ledger *l, char **out,
				   size_t *len_out);
/** ledger_load - read file @name in @dirfd; a missing file gives an empty
 * ledger. Return: 0; -EBADMSG; -errno */
MUST_CHECK int ledger_load(int dirfd, const char *name, struct ledger *out);
/** ledger_save - replace file @name in @dirfd, durably */
MUST_CHECK int ledger_save(int dirfd, const char *name, const struct ledger *l);
/**
 * ledger_commit - make the dirty lines durable
 * Few are appended; for many, or when much was appended before, the file is
 * replaced. Return: 0; -errno, and they are dirty still.
 */
MUST_CHECK int ledger_commit(int dirfd, const char *name, struct ledger *l);
/** ledger_add - append a folder; strings are copied, all else is zero. The
 * pointer is valid until the next ledger_add. NULL when out of memory. */
struct ledger_folder *ledger_add(struct ledger *l, const char *dir,
				 const char *legacy);
/** ledger_delete - the folder is deleted: it loses its names. The line is
 * dirty. Return: 0; -ENOMEM, and nothing is changed */
MUST_CHECK int ledger_delete(struct ledger_folder *f);
/** ledger_guid - one that nobody has yet; @out: 33 octets */
MUST_CHECK int ledger_guid(char *out);
/** ledger_fini - frees what the ledger holds; it is empty afterwards */
void ledger_fini(struct ledger *l);

/**
 * ledger_number - take @count numbers that nobody else has or will have
 * @dirfd: the state directory; the counter is file "next-folder" in it
 * Numbers are below 2^31 (they go into inode numbers).
 * Return: 0; -EOVERFLOW; -EBADMSG for a counter file that is not one; -errno.
 */
MUST_CHECK int ledger_number(int dirfd, uint32_t count, uint32_t *first_out);
