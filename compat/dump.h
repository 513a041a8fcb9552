/*
 * dump.h - the canonical text of a store; janusmail-dump(5) describes it.
 *
 * Equal dumps mean equal stores, whatever the format behind them:
 *
 *	janusmail-dump 1
 *	folder <name> uidvalidity=<dec> uidnext=<dec> messages=<dec>
 *	<uid> flags=<letters> keywords=<a,b> date=<rfc3339> size=<dec>
 *sha256=<hex>
 *	...
 *	subscribed <name>
 *
 * Folders ascend by name, octet by octet, "INBOX" first; messages ascend by
 * UID; what stands in their lines is compat/fact.h's. Folder names are
 *Maildir++ names without the leading '.' (levels joined by '.').
 *
 * Write errors are left in @f: the caller looks at ferror() at the end.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "compat/base.h"

struct fact;

struct dump_folder {
	const char *dir; /* ".a.b"; "" for INBOX */
	uint32_t uidvalidity;
	uint32_t uidnext;
	uint64_t messages;
};

void dump_header(FILE *f);
void dump_folder(FILE *f, const struct dump_folder *d);
/** dump_message - one line; a message that cannot be read has "sha256=-" */
void dump_message(FILE *f, const struct fact *m);
/** dump_subscribed - one line; @dir as in struct dump_folder */
void dump_subscribed(FILE *f, const char *dir);
