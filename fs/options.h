/*
 * options.h - the daemon's command line: janusmaild [options] [SOURCE]
 * MOUNTPOINT
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"
#include "compat/foldername.h"
#include "compat/layout.h"
#include "compat/pattern.h"

enum { OPTIONS_INBOX_MAX = LAYOUT_INBOX_MAX };

enum options_scan {
	SCAN_BACKGROUND, /* all folders, one after the other, after mounting */
	SCAN_TOUCH,	 /* a folder when it is first used */
};

enum options_watch { WATCH_INOTIFY, WATCH_POLL, WATCH_OFF };

struct options {
	struct pattern inbox[OPTIONS_INBOX_MAX];
	unsigned inbox_count;
	struct pattern folders, subscriptions, control, spool;
	bool has_folders, has_subscriptions, has_control, has_spool;
	char *store;	  /* absolute */
	char *index;	  /* absolute */
	char *mountpoint; /* absolute */
	char *lockdir;
	bool has_lockdir; /* it was given */
	unsigned lock_ms;
	enum foldername_dots dots;
	enum options_scan scan;
	bool mirror_off;
	uint64_t mbx_max; /* octets of an MBX; 0: any number */
	enum options_watch watch;
	uint32_t watches_max; /* 0: half of what the system allows */
	unsigned poll_ms;
	bool has_owner;
	uid_t owner_uid;
	gid_t owner_gid;
	bool readdirplus;
	bool foreground, debug, show_help, show_version;
	bool multi; /* some pattern has a %u */
	/* What is left for libfuse, as a comma-separated -o list. */
	char *fuse_opts;
};

/**
 * options_parse - read a command line
 * @err: for people, without a final stop; set when the result is not 0
 *
 * Nothing is opened but the patterns' bases.
 *
 * Return: 0; -EINVAL for what the user must correct; -errno.
 */
MUST_CHECK int options_parse(int argc, char **argv, struct options *out,
			     char *err, size_t err_size);
/** options_fini - after a failed parse too */
void options_fini(struct options *opt);
/** options_help - the text of --help */
const char *options_help(void);
