/*
 * spool.h - the old MTA's mailbox, unix mbox, as c-client reads it.
 *
 * Pure: no I/O, no allocation. A spool is a row of messages, each beginning
 * with a line "From SENDER DATE". Which lines count as one is told by their
 * date alone, as c-client does it: neither an empty line before it nor a ">"
 * before others is asked for.
 *
 * Source: UW IMAP 2007f, src/osdep/unix/unix.c, unix_parse() and unix_header(),
 * unix.h, VALID; src/c-client/mail.c, mail_filter().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat/base.h"

struct spool_mail {
	size_t start; /* of its "From " line */
	size_t head;  /* of the header; it ends with the empty line */
	size_t body;
	size_t body_len; /* without the empty line before the next message */
	size_t end;	 /* where the next one starts */
	/* What the "From " line says; as if it were UTC if it names no zone,
	 * which means the zone of the machine; 0 (UTC) if it is none. */
	int64_t date;
	bool has_zone;
	uint32_t flags; /* MSG_SYSTEM; of Status: and X-Status: */
	/* c-client's own first message, with what it remembers of the spool
	 * ("DON'T DELETE THIS MESSAGE"): no mail. */
	bool is_pseudo;
};

/**
 * spool_next - the message at @at
 * @data, @len: the whole spool
 * @at: 0 first, then ->end of the one before
 *
 * Return: 0; -ENOENT at the end; -EBADMSG when what is there is no message.
 */
MUST_CHECK int spool_next(const uint8_t *data, size_t len, size_t at,
			  struct spool_mail *out);

/**
 * spool_header - the header without the lines that c-client keeps its own
 * notes in (Status, X-Status, X-Keywords, X-UID, X-IMAP, X-IMAPbase)
 * @out: room for @m->body - @m->head octets. Return: octets used.
 */
size_t spool_header(const uint8_t *data, const struct spool_mail *m,
		    uint8_t *out);
