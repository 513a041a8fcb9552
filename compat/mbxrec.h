/*
 * mbxrec.h - codec for the MBX mailbox format of UW IMAP (c-client).
 *
 * Pure: no I/O, no allocation, no locale, no time zone of the process. The
 * format and every quirk are written down in docs/MBX.md; the source of truth
 * is UW IMAP 2007f, src/osdep/unix/mbx.c (mbx_parse, mbx_isvalid, mbx_elt) and
 * src/c-client/mail.c (mail_parse_date).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/msg.h"

enum {
	MBX_HEADER_SIZE = 2048,
	MBX_KEYWORDS = 30,    /* keyword lines in the header */
	MBX_KEYWORD_MAX = 50, /* octets of a keyword name */
	MBX_LINE_WINDOW = 64, /* c-client reads this much to find a line */
	MBX_FIELD_BACK = 23,  /* keyword field starts this far before text */
	MBX_FIELD_LEN = 21,   /* kkkkkkkkffff-uuuuuuuu */
	MBX_DATE_LEN = 26,    /* of a date that we (and UW) write */
	MBX_LINE_MAX = MBX_LINE_WINDOW,
};

/* What sniffing the first octets of a file says. */
enum mbx_kind {
	MBX_IS_MBX,
	MBX_IS_EMPTY,	/* 0 octets: a mailbox about to be born */
	MBX_IS_DAMAGED, /* starts with "*mbx*" but is not a valid header */
	MBX_IS_MBOX,	/* unix mbox */
	MBX_IS_MTX,
	MBX_IS_TENEX,
	MBX_IS_MMDF,
	MBX_IS_OTHER, /* not a mail file we know */
};

struct mbx_header {
	uint32_t uidvalidity;
	uint32_t uidlast;
	struct keywords keywords; /* slots 0..29 */
	unsigned keyword_lines;	  /* slots before the end of the table */
	unsigned keyword_hidden;  /* names after an empty line: out of use */
	bool has_pid;		  /* the last-writer field is present */
	uint32_t pid;		  /* its 8 digits */
};

/* Where and why decoding stopped; for messages to people. */
struct mbx_fault {
	uint64_t off;	  /* offset in the file (or record) of the fault */
	const char *want; /* what was expected there; static text */
};

struct mbx_record {
	uint32_t line;	   /* octets of the record line, CR LF included */
	uint32_t date_len; /* octets of the date text */
	bool date_ok;	   /* false: c-client refuses it; date is then 0 */
	int64_t date;	   /* seconds since the epoch, UTC */
	uint64_t size;	   /* octets of the message that follows, never 0 */
	uint32_t keywords; /* all 32 bits, named or not */
	uint32_t flags;	   /* the 16 bits as they stand */
	uint32_t uid;	   /* 0: not yet assigned */
};

/** mbx_sniff - what kind of file starts with the @len octets at @p (give
 * up to MBX_HEADER_SIZE octets; @len == 0 means the file is empty) */
enum mbx_kind mbx_sniff(const uint8_t *p, size_t len);

/** mbx_kind_name - a word for people: "MBX", "unix mbox", ... */
const char *mbx_kind_name(enum mbx_kind kind);

/**
 * mbx_header_parse - decode the first MBX_HEADER_SIZE octets of a file
 * @fault: filled on -EBADMSG; may be NULL
 *
 * Quirks kept: either case of hex; the keyword table ends at the first empty
 * line or missing CR or after 30 lines; a line of more than 50 octets leaves
 * its slot unnamed (name ""), the table goes on after it.
 *
 * Return: 0; -EBADMSG.
 */
MUST_CHECK int mbx_header_parse(const uint8_t *p, size_t len,
				struct mbx_header *out,
				struct mbx_fault *fault);

/**
 * mbx_header_format - encode all MBX_HEADER_SIZE octets
 * Keyword lines as c-client writes them (30 lines, NUL padding; keyword_lines
 * is not looked at); the pid field only if has_pid.
 *
 * Return: 0; -EINVAL when a keyword name would not be read back: longer than
 * 50 octets, with a CR, in slot 30 or 31, or after an unnamed slot.
 */
MUST_CHECK int mbx_header_format(const struct mbx_header *h, uint8_t *out);

/** mbx_keyword_valid - whether c-client accepts @name as a new keyword:
 * 1..50 octets of 0x21..0x7e except * % " \ ( ) { ] */
bool mbx_keyword_valid(const char *name);

/**
 * mbx_record_parse - decode the line that precedes a message
 * @p, @len: octets from the start of the record; at most MBX_LINE_WINDOW are
 *	looked at; not NUL-terminated
 * @out: filled on success only
 * @fault: filled on -EBADMSG, off relative to @p; may be NULL
 *
 * A date that c-client would refuse is not an error here (date_ok is false):
 * the message can still be served. A size of 0, or not a number, is.
 *
 * Return: 0; -EAGAIN if @len < MBX_LINE_WINDOW octets hold no complete line
 * (more octets are needed, or the file ends inside a line); -EBADMSG, also for
 * few octets if no more can help: a NUL, or a CR without LF.
 */
MUST_CHECK int mbx_record_parse(const uint8_t *p, size_t len,
				struct mbx_record *out,
				struct mbx_fault *fault);

/**
 * mbx_record_format - encode a record line; the date in UTC as UW writes it
 * @out: at least MBX_LINE_MAX octets; not NUL-terminated
 *
 * Return: octets written; -EINVAL for a size of 0 or one of more than 13
 * digits. The year is clamped to 1970..2097.
 */
MUST_CHECK ptrdiff_t mbx_record_format(const struct mbx_record *r,
				       uint8_t *out);

/**
 * mbx_field_parse - decode the fixed-width field of a record again
 * @p: the 24 octets that end where the message text starts (";kkkkkkkkffff-
 *	uuuuuuuu" CR LF)
 * @out: keywords, flags and uid are set, the rest is left alone
 *
 * Return: 0; -EBADMSG.
 */
MUST_CHECK int mbx_field_parse(const uint8_t *p, struct mbx_record *out);

/**
 * mbx_date_parse - c-client's wide reading of an internal date
 * Every form of docs/MBX.md "Dates": 1- or 2-digit day, 2- or 4-digit year,
 * optional time, seconds up to 60, +hhmm or symbolic zone or none, 31-Feb
 * (which is 3 March, or 2 March in a leap year); also mm/dd/yyyy, yyyy-mm-dd
 * and yyyymmdd, which take no time.
 *
 * Where c-client falls back to the zone of its process (no zone, or one it
 * does not know) UTC is taken. An instant before the epoch is the epoch. @p
 * ends at the first NUL, if there is one.
 *
 * Return: 0; -EBADMSG when c-client would refuse it.
 */
MUST_CHECK int mbx_date_parse(const uint8_t *p, size_t len, int64_t *out);

/**
 * mbx_date_format - MBX_DATE_LEN octets and a NUL, as UW writes a given date:
 * "%2d-Mon-yyyy hh:mm:ss +0000". The year is clamped to 1970..2097.
 */
void mbx_date_format(int64_t date, char *out);
/** mbx_date_clamp - the date that a record can have */
int64_t mbx_date_clamp(int64_t date);
