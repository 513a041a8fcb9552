/*
 * spec.h - stores on the command line: "mbx:/home/anna/mail".
 */
#pragma once

#include "compat/base.h"

struct source;

/** spec_open - Return: 0; -EINVAL: the reason was logged; -errno, logged, too
 */
MUST_CHECK int spec_open(const char *spec, struct source **out);

/* For --help: what a SPEC can be. */
#define SPEC_HELP                                                                \
	"  mbx:PATH       an MBX mailbox, or a directory of them\n"              \
	"  mbx:WORDS      words of janusmaild's -o, for many users:\n"           \
	"                 mbx:inbox=/home/%u/INBOX,folders=/home/%u/mail\n"      \
	"  maildir:PATH   a Maildir++ root, a directory of users' roots, or a\n" \
	"                 path with %u\n"                                        \
	"  view:PATH      the same in a mount of janusmaild\n"                   \
	"  manifest:FILE  what janusmail manifest wrote; - is standard input\n"
