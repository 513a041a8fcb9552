/*
 * foldername.h - legacy mailbox names to Maildir++ directory names.
 *
 * A legacy name is a path below the mail directory, '/' between levels, in
 * modified UTF-7 when an IMAP client made it, in any octets otherwise. The
 * Maildir++ directory is "." + levels joined by ".".
 *
 * Pure. What cannot be represented is changed in a way that stays readable,
 * and foldername_map() says that it was, so that the report can name it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "compat/base.h"

enum foldername_dots {
	DOTS_UNDERSCORE, /* '.' in a legacy name becomes '_' */
	DOTS_ESCAPE,	 /* "\2e", as Dovecot's listescape plugin writes it */
};

enum { FOLDERNAME_MAX = 255 };

/**
 * foldername_map - the Maildir++ directory name for a legacy name
 * @legacy: e.g. "lists/2012.q1"; not empty, no leading or trailing '/'
 * @out: FOLDERNAME_MAX + 1 octets, e.g. ".lists.2012_q1"
 * @changed_out: true when an IMAP client sees another name than the legacy
 *	server showed it (an escape alone does not count)
 *
 * Rules: '.' as @dots says; a level that is not valid modified UTF-7 text is
 * converted to it (from UTF-8 if it is that, else from ISO 8859-1); control
 * characters (newline included, encoded ones too) become '_'; a leading '~'
 * becomes '_' or "\7e"; '\\' becomes "\5c" with DOTS_ESCAPE; a first level that
 * is INBOX in any case gets "_2" appended; an empty level becomes '_'; a name
 * that would be longer than 255 octets is cut and ends in "_" and 16 hex digits
 * of a hash of the legacy name.
 */
void foldername_map(const char *legacy, enum foldername_dots dots, char *out,
		    bool *changed_out);

/**
 * foldername_legacy - the legacy name that is shown as @dir, if UW can use it
 * @dir: not ""
 * @out: FOLDERNAME_MAX + 1 octets
 *
 * Refused is what foldername_map() would not turn into @dir again; names that
 * mean something else to UW (first level with a leading '~', '#' or '{') or
 * that its clients could not list (with '*' or '%'); levels with a leading '.'
 * and names of more than 20 levels, which are not looked for.
 *
 * Return: 0; -EINVAL when there is no such name.
 */
MUST_CHECK int foldername_legacy(const char *dir, enum foldername_dots dots,
				 char *out);

/**
 * foldername_variant - the n-th way out when two names collide (n >= 2):
 * @dir with "_n" appended, cut to fit 255 octets (never within a character)
 * @out: FOLDERNAME_MAX + 1 octets; may not overlap @dir
 */
void foldername_variant(const char *dir, unsigned n, char *out);

/**
 * foldername_free - the directory of a mailbox that is new: its name, or the
 * first variant that nobody has
 * Return: 0; -EEXIST when too many have one.
 */
typedef bool foldername_taken_fn(const char *dir, void *arg);
MUST_CHECK int foldername_free(const char *legacy, enum foldername_dots dots,
			       foldername_taken_fn *taken, void *arg,
			       char *out);

/** foldername_mutf7_valid - whether a name is well-formed modified UTF-7
 * (RFC 3501 5.1.3): printable ASCII, every '&' shift closed by '-', base64
 * part valid UTF-16, nothing encoded that could stand for itself */
bool foldername_mutf7_valid(const char *name, size_t len);
