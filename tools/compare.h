/*
 * compare.h - two folders, message by message.
 *
 * Both are read by UID, side by side. What does not fit at its UID is kept, and
 * at the end looked for under other UIDs by its hash: so a message that has
 * another UID is named as that, and two that are swapped are named as such.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "compat/base.h"
#include "tools/finding.h"
#include "tools/source.h"

struct compare {
	struct source_box *box[2];
	bool crlf;     /* bare LF instead of CR LF is no difference */
	bool last_try; /* what changed meanwhile cannot be read */
	struct pile *out;
	struct tally *tally;
	_Atomic(uint64_t) *progress; /* messages that were read */
};

/** compare_put - a finding, counted. Return: 0; -errno */
MUST_CHECK int compare_put(const struct compare *c, enum finding_kind kind,
			   uint32_t uid, const char *a, const char *b);

/** compare_folder - Return: 0; -ESTALE: a folder changed meanwhile, it is to be
 * done again; -ENOMEM; -EIO */
MUST_CHECK int compare_folder(const struct compare *c);
