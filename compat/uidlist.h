/*
 * uidlist.h - Dovecot's dovecot-uidlist, version 3, and dovecot-keywords.
 *
 * Formats as Dovecot 2.3.19 src/lib-storage/index/maildir/maildir-uidlist.c
 * and maildir-keywords.c read and write them; docs/DESIGN.md has the tables.
 * Parsing is pure; writing goes through a stdio stream that the caller made
 * (and syncs and renames).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "compat/base.h"
#include "compat/msg.h"

struct uidlist_header {
	unsigned version;     /* 1 or 3 */
	uint32_t uidvalidity; /* V; never 0 */
	uint32_t uidnext;     /* N as written: may be lower than last UID + 1 */
	char guid[33];	      /* G, 32 hex digits; "" if there is none */
};

struct uidlist_record {
	uint32_t uid;
	uint64_t psize;		      /* S; UINT64_MAX: not given */
	uint64_t vsize;		      /* W; UINT64_MAX: not given */
	const char *guid, *pop3_uidl; /* G, P: point into the text, not */
	size_t guid_len, pop3_len;    /* terminated; NULL if not given */
	const char *name; /* base name; points into the text, not terminated */
	size_t name_len;
};

/* A non-zero return of the callback ends the walk and is returned. */
typedef int uidlist_fn(const struct uidlist_record *rec, void *arg);

/**
 * uidlist_parse - walk a whole file held in memory
 * @fn: called for each record, in order of the file; may be NULL
 *
 * A last line without its LF is being written just now and is left out.
 *
 * Return: 0; -EBADMSG for a header or record that Dovecot would refuse (UIDs
 * not ascending, no name, V or N missing); what @fn returned.
 */
MUST_CHECK int uidlist_parse(const char *text, size_t len,
			     struct uidlist_header *out, uidlist_fn *fn,
			     void *arg);

/** uidlist_write_header - the first line; check ferror() at the end */
void uidlist_write_header(FILE *f, const struct uidlist_header *h);
/**
 * uidlist_write_raised - a whole list as it is, but for a higher N
 * Return: false, nothing written, when its header has no N.
 */
bool uidlist_write_raised(FILE *f, const char *text, size_t len,
			  uint32_t uidnext);
/**
 * uidlist_write_record - one record; sizes and the rest only where given
 * Fields that a line cannot hold (a space or LF in a value) are left out.
 * Return: false, nothing written, when Dovecot would refuse the record: no
 * name, a '/', CR, LF or NUL in it, UID 0 or 2^32 - 1.
 */
bool uidlist_write_record(FILE *f, const struct uidlist_record *r);

/**
 * dkeywords_parse - read a dovecot-keywords file ("<index> <name>" lines)
 * Slots 0..25 only; gaps are kept; lines that are no keyword are ignored, as
 * Dovecot does.
 *
 * Return: 0; -EBADMSG for octets that are no text.
 */
MUST_CHECK int dkeywords_parse(const char *text, size_t len,
			       struct keywords *out);
/** dkeywords_can_show - whether a keyword of that name can be had by IMAP */
bool dkeywords_can_show(const char *name);
/** dkeywords_letters - the slots that dkeywords_write() writes, as bits: only
 * these may show as letters, for Dovecot makes up names for others */
uint32_t dkeywords_letters(const struct keywords *k);
/** dkeywords_write - slots 0..25 that have a name IMAP can show (no space,
 * control, 8-bit or one of ( ) { % * " \ ]) */
void dkeywords_write(FILE *f, const struct keywords *k);
