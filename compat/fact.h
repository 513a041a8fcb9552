/*
 * fact.h - what can be said of a message whatever store it lies in, and each
 * part of it as text, as dumps and manifests have it.
 *
 * One value has one text: equal texts mean equal facts, and a text that is not
 * the one its value would have is refused.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/digest.h"
#include "compat/foldername.h"
#include "compat/msg.h"

enum {
	FACT_FLAGS_MAX = 5,
	FACT_DATE_MAX = 40,
	FACT_NAME_MAX = 4 * FOLDERNAME_MAX,
	/* Each octet of a name as "\xhh", a ',' or the end after each name. */
	FACT_KEYWORDS_MAX = KEYWORD_SLOTS * (4 * KEYWORD_NAME_MAX + 1),
};

/* Where a message of a Maildir came from, as far as its name tells. */
enum fact_origin {
	FACT_ORIGIN_UNKNOWN,
	FACT_ORIGIN_LEGACY,    /* out of an MBX: the name is of our making */
	FACT_ORIGIN_DELIVERED, /* through the view */
};

struct fact {
	uint32_t uid;	      /* 0: none yet */
	uint32_t flags;	      /* of MSG_SYSTEM */
	const char *keywords; /* as fact_keywords() writes them */
	int64_t date;
	uint64_t size;
	char sha256[DIGEST_HEX + 1]; /* of its octets; "" if ->err */
	char crlf[DIGEST_HEX + 1];   /* of these with CR LF for bare LF */
	enum fact_origin origin;
	int err; /* -errno: it cannot be read */
};

/** fact_flags - letters D F R S T, sorted; "-" for none */
void fact_flags(uint32_t flags, char out[FACT_FLAGS_MAX + 1]);
MUST_CHECK int fact_flags_parse(const char *word, uint32_t *out);

/** fact_keywords - names in lower-case ASCII (case means nothing in IMAP),
 * sorted, each once, escaped, with ',' between; "-" for none; bits of unnamed
 * slots do not show */
void fact_keywords(uint32_t bits, const struct keywords *k,
		   char out[FACT_KEYWORDS_MAX + 1]);

/** fact_date - RFC 3339, in UTC */
void fact_date(int64_t date, char out[FACT_DATE_MAX + 1]);
/** fact_date_parse - Return: 0; -EBADMSG */
MUST_CHECK int fact_date_parse(const char *word, int64_t *out);

/** fact_name - a folder, levels joined by '.', escaped; @dir: ".a.b", or ""
 * for INBOX */
void fact_name(const char *dir, char out[FACT_NAME_MAX + 1]);
/** fact_name_parse - the directory again. Return: 0; -EBADMSG */
MUST_CHECK int fact_name_parse(const char *word, char out[FOLDERNAME_MAX + 1]);
