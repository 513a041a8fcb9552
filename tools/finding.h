/*
 * finding.h - one thing that verify has found, and the counts of a comparison.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "tools/pile.h"

enum finding_kind {
	/* On one side only: the other one's text is NULL. */
	FINDING_USER,
	FINDING_FOLDER,
	FINDING_SUBSCRIBED,
	FINDING_MESSAGE,
	/* Of a folder. */
	FINDING_UIDVALIDITY,
	FINDING_UIDNEXT,
	/* Of a message. */
	FINDING_UID,
	FINDING_SWAPPED,
	FINDING_FLAGS,
	FINDING_KEYWORDS,
	FINDING_DATE,
	FINDING_SIZE,
	FINDING_BYTES,
	FINDING_LINE_ENDS,
	/* What keeps the comparison from being one. */
	FINDING_DAMAGED,
	FINDING_UNREADABLE,
	/* For people to know; no difference. */
	FINDING_NOT_A_MAILBOX,
	FINDING_CHANGING,
};

enum finding_class { FINDING_DIFFERENCE, FINDING_TROUBLE, FINDING_NOTE };

struct finding {
	enum finding_kind kind;
	uint32_t uid; /* of side A where there is one; 0: none, or no message */
	const char *side[2]; /* what A, what B has; NULL: nothing, or not said
			      */
};

/** finding_name - a stable word: "flags", "line-ends" */
const char *finding_name(enum finding_kind kind);
enum finding_class finding_class(enum finding_kind kind);

/** finding_put - append to a pile. Return: 0; -ENOMEM; -EIO */
MUST_CHECK int finding_put(struct pile *p, const struct finding *f);
/** finding_get - the next one; its texts are in @buf, to be freed at the end
 * Return: 0; -ENOENT at the end; -ENOMEM; -EIO */
MUST_CHECK int finding_get(struct pile *p, struct finding *out, char **buf);

/* Messages of a folder, a user, or all. */
struct tally {
	uint64_t messages[2], octets[2];
	uint64_t same;	    /* in everything */
	uint64_t changed;   /* on both sides, and something differs */
	uint64_t unread;    /* on both sides, and one cannot be read */
	uint64_t only[2];   /* on one side */
	uint64_t ours[2];   /* by their names: out of an MBX... */
	uint64_t came[2];   /* ...and delivered through the view */
	uint64_t only_came; /* of only[1], those delivered */
	uint64_t folders[2], users[2];
	uint64_t bare_lf; /* same but for bare LF, which was not to count */
	uint64_t differences, troubles;
};

void tally_add(struct tally *to, const struct tally *from);
