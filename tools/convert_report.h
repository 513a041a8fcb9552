/*
 * convert_report.h - what janusmail convert says: findings as they come, how
 * far it is, and what it came to.
 *
 * Text: findings and the sum on standard output, progress on standard error if
 * that is a terminal, trouble as all errors. JSON: one object a line on
 * standard output, all of it.
 *
 * Threads: all functions are safe.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "tools/convert_folder.h"

struct convert_report {
	pthread_mutex_t lock;
	bool json, dry, tty;
	int64_t began_us;
	uint64_t total; /* octets of all mailboxes; 0: not known */
	uint64_t users, folders, unchanged, native, messages, octets;
	uint64_t copied, copied_octets, renamed, removed;
	uint64_t quarantined, findings, trouble;
	bool line; /* there is a line of progress on the terminal */
};

void convert_report_init(struct convert_report *r, bool json, bool dry);
void convert_report_fini(struct convert_report *r);
/** convert_report_user - @why: why nothing can be done for him; NULL */
void convert_report_user(struct convert_report *r, const char *user,
			 const char *why);
/** convert_report_note - a file that is no mailbox */
void convert_report_note(struct convert_report *r, const char *user,
			 const struct convert_note *n);
/** convert_report_folder - @dir: ".a.b"; "" for INBOX */
void convert_report_folder(struct convert_report *r, const char *user,
			   const char *dir, const struct convert_outcome *o);
/** convert_report_progress - @done: octets, of r->total */
void convert_report_progress(struct convert_report *r, uint64_t done);
/** convert_report_end - the sum. @cancelled: it was interrupted */
void convert_report_end(struct convert_report *r, bool cancelled);
