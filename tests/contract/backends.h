/*
 * backends.h - one mailbox, built in each format.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "compat/store.h"

struct mail {
	uint32_t uid, flags, keywords; /* keywords: bits of backend_words[] */
	int64_t date;
	const char *text;
	size_t len;
};

struct backend {
	const char *name;
	const char *folder; /* for open() */
	int slots[2];	    /* of backend_words[] */
	void (*build)(const struct mail *mails, size_t count);
	void (*append)(const struct mail *m);
	void (*set_flags)(const struct mail *old, uint32_t flags);
	void (*move_away)(void);
	int (*open_store)(struct store **out);
	void (*free_store)(struct store *s);
};

enum { BACKEND_FIVE = 5, BACKEND_UIDVALIDITY = 0x4b000001 };

extern const char *const backend_words[2];
/* What a mailbox is built with, and one more. */
extern const struct mail backend_five[BACKEND_FIVE];
extern const struct mail backend_sixth;

extern const struct backend backend_mbx, backend_maildir;
