/*
 * subscriptions.h - UW's ~/.mailboxlist to Dovecot's "subscriptions" file.
 *
 * .mailboxlist: one name a line, as the client typed it: with or without the
 * prefix of the mail directory ("mail/", "~/mail/"), also "{host}name" and
 * "#namespace" names, which name mailboxes that are not in this store.
 * subscriptions, version 2 (Dovecot 2.3 and later): "V" TAB "2", an empty
 * line, then one mailbox a line with TAB between levels, octets 0, 1, TAB, CR,
 * LF escaped with \001.
 */
#pragma once

#include <stddef.h>
#include <stdio.h>

#include "compat/base.h"
#include "compat/foldername.h"
#include "compat/ledger.h"
#include "compat/pattern.h"

enum subscription_kind {
	SUBSCRIPTION_INBOX,
	SUBSCRIPTION_FOLDER, /* a legacy name below the mail directory */
	SUBSCRIPTION_REMOTE, /* {host}name */
	/* "#mh/...", "#news. ...", "/abs/path", "~user/...", "../...": a place
	 * that is not below the mail directory */
	SUBSCRIPTION_NAMESPACE,
};

/**
 * subscription_classify - what one line of .mailboxlist means
 * @line, @len: without its LF
 * @prefix: path of the mail directory below the home without slashes at the
 *	ends ("mail"), or "" when it is the home
 * @name_out: for SUBSCRIPTION_FOLDER points into @line past "~/" and
 *	"<prefix>/"; its length in @name_len_out, without trailing slashes; it
 *	may be empty. For the others: the whole line.
 */
enum subscription_kind subscription_classify(const char *line, size_t len,
					     const char *prefix,
					     const char **name_out,
					     size_t *name_len_out);

/** subscription_read_list - UW's list of a user, NUL-terminated, to be freed
 * Return: 0; -ENOENT; -ENOTSUP (not a regular file); -EFBIG; -errno */
MUST_CHECK int subscription_read_list(const struct pattern *list,
				      const char *user, char **out,
				      size_t *len_out);

/**
 * subscription_dir - the directory of the folder that one line of .mailboxlist
 * names, which need not exist
 * @l: folders that have names already, also others than foldername_map() gives
 * @out: FOLDERNAME_MAX + 1 octets
 * Return: 0; -ENOENT when it names none; -EXDEV for one outside this store.
 */
MUST_CHECK int subscription_dir(const char *line, size_t len,
				const char *prefix, const struct ledger *l,
				enum foldername_dots dots, char *out);

/** subscription_write_header - the two lines of version 2 */
void subscription_write_header(FILE *f);
/**
 * subscription_write - one subscribed folder
 * @dir: its Maildir++ directory name (".a.b"), or "" for INBOX; each "."
 *	becomes a TAB
 */
void subscription_write(FILE *f, const char *dir);

/* One mailbox of a "subscriptions" file, as its Maildir++ directory name
 * (".a.b"; "" for INBOX); a non-zero return ends the walk. */
typedef int subscription_fn(const char *dir, void *arg);

/**
 * subscription_parse - walk a "subscriptions" file, version 1 or 2
 * Lines that can name no Maildir++ directory (an empty level, a '/', too long)
 * are left out. A last line without its LF counts, as it does for Dovecot.
 *
 * Return: 0; -EBADMSG for another version; what @fn returned.
 */
MUST_CHECK int subscription_parse(const char *text, size_t len,
				  subscription_fn *fn, void *arg);

/**
 * subscription_filter - write a "subscriptions" file again, without some of it
 * @drop: non-zero for directories to leave out. Lines that can name none are
 *	kept. Every line written has its LF.
 *
 * Return: 0; -EBADMSG for another version than 1 or 2.
 */
MUST_CHECK int subscription_filter(const char *text, size_t len,
				   subscription_fn *drop, void *arg, FILE *f);
