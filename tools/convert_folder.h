/*
 * convert_folder.h - one mailbox into its folder of the tree, with the files
 * that Dovecot wants: dovecot-keywords before there is a letter, the messages,
 * dovecot-uidlist, and then our own note of how it was left.
 *
 * That note (STATE/converted/NUMBER) tells a later run whether the mailbox is
 * still the one that was converted, so that there is nothing to do, and whether
 * somebody else has been at the folder since: then nothing of it is renamed or
 * removed, messages are only added.
 *
 * Threads: several folders of one user may be converted at the same time.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/convert.h"
#include "compat/pace.h"
#include "tools/convert_site.h"

/* What became of a folder. */
struct convert_outcome {
	int err; /* 0; -errno: it is not finished, ->why says why */
	char why[300];
	bool unchanged;	     /* as an earlier run left it */
	bool add_only;	     /* somebody else has been at it */
	bool in_use;	     /* the MBX was changed all the while */
	bool native;	     /* it is the truth by now: left alone */
	unsigned unlettered; /* keywords of the MBX that a Maildir has no
				letter for */
	struct convert_result result;
	struct convert_fault *faults; /* to be freed */
	size_t fault_count;
};

/**
 * convert_folder_run - convert @box of @u
 * @done: grows to @box->octets while it goes on, for who shows it
 */
void convert_folder_run(struct convert_user *u, const struct convert_box *box,
			struct pace *pace, _Atomic uint64_t *done,
			struct convert_outcome *out);
void convert_outcome_fini(struct convert_outcome *o);
