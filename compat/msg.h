/*
 * msg.h - a message as a value, and the keyword table of its folder.
 *
 * The bits of msg.flags are those of an MBX record (docs/MBX.md), so the MBX
 * codec copies them and the Maildir codec maps letters to them.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum msg_flag {
	MSG_SEEN = 0x0001,
	MSG_DELETED = 0x0002,
	MSG_FLAGGED = 0x0004,
	MSG_ANSWERED = 0x0008,
	MSG_OLD = 0x0010, /* not \Recent; Maildir: the file is in cur/ */
	MSG_DRAFT = 0x0020,
	MSG_EXPUNGED = 0x8000,
};

/* The five flags IMAP clients set. */
#define MSG_SYSTEM                                                             \
	(MSG_SEEN | MSG_DELETED | MSG_FLAGGED | MSG_ANSWERED | MSG_DRAFT)

struct msg {
	uint32_t uid;	   /* what IMAP clients see; 0: none assigned yet */
	uint32_t uid_disk; /* MBX: the UID in the record, 0 if not assigned */
	uint32_t flags;	   /* MSG_* */
	uint32_t keywords; /* bit n: slot n of the folder's keyword table */
	int64_t date;	   /* INTERNALDATE, seconds since the epoch, UTC */
	uint64_t size;	   /* octets of the message as they lie on disk */
	uint64_t off;	   /* MBX: file offset of the message text */
	uint32_t line;	   /* MBX: octets of the record line before the text */
	bool no_date;	   /* MBX: the record has none that can be read; scan
			      says so, nobody keeps it */
};

enum {
	/* MBX has 30 slots, Dovecot's Maildir 26 letters; 32 bits a message. */
	KEYWORD_SLOTS = 32,
	KEYWORD_NAME_MAX = 127,
};

/* Keyword names by slot; "" is an unnamed slot. */
struct keywords {
	char name[KEYWORD_SLOTS][KEYWORD_NAME_MAX + 1];
};
