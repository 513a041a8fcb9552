/*
 * layout.h - where the mail of the old server lies, in the words of
 * janusmaild's options: inbox= folders= subscriptions= dots= owner= lockdir=
 * lockwait=.
 *
 *	layout_init(&l);
 *	layout_word(&l, "inbox", "/home/%u/INBOX", err, sizeof(err));
 *	...
 *	layout_finish(&l, err, sizeof(err));
 *	...
 *	layout_fini(&l);
 *
 * or layout_parse(), which is all of that for a text.
 *
 * @err, wherever it is asked for: for people, without a final stop; set when
 * the result is not 0.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "compat/base.h"
#include "compat/foldername.h"
#include "compat/mbx.h"
#include "compat/pattern.h"
#include "compat/store.h"

enum { LAYOUT_INBOX_MAX = 8 };

struct layout {
	struct pattern inbox[LAYOUT_INBOX_MAX]; /* the first that exists wins */
	unsigned inbox_count;
	struct pattern folders, subscriptions;
	bool has_folders, has_subscriptions;
	char *lockdir;
	unsigned lock_ms;
	enum foldername_dots dots;
	bool has_owner; /* else told from whose the places are: place.h */
	uid_t owner_uid;
	gid_t owner_gid;
	bool multi;  /* some pattern has a %u */
	char *store; /* layout_parse() only: what store= says; NULL */
};

/** layout_init - nothing is known yet; layout_fini() is due from now on */
void layout_init(struct layout *l);
void layout_fini(struct layout *l);

/** layout_takes - whether @name is one of the words above */
bool layout_takes(const char *name);
/** layout_word - @name: one of them. Return: 0; -EINVAL for what people must
 * correct; -errno */
MUST_CHECK int layout_word(struct layout *l, const char *name,
			   const char *value, char *err, size_t size);

/** layout_pattern - a pattern of some other option that goes with these.
 * Return: 0; -EINVAL; -errno */
MUST_CHECK int layout_pattern(struct layout *l, const char *name,
			      const char *value, struct pattern *out, char *err,
			      size_t size);

/** layout_finish - checks what the words say together, and fills in what was
 * not said. Return: 0; -EINVAL; -errno */
MUST_CHECK int layout_finish(struct layout *l, char *err, size_t size);

/**
 * layout_parse - a layout from a text: words with their values, separated by
 * commas ("inbox=/home/%u/INBOX,folders=/home/%u/mail"; "\," is a comma in a
 * value), or one path: a mailbox, or a directory of them, or a pattern of such
 * directories. Other words of janusmaild's are passed over, so that all of them
 * can be given; but for store=, which is noted.
 * @single_out: the name of that one mailbox, which goes with inbox[0], to be
 *	freed; NULL when it is INBOX, and for all else
 * Return: 0; -EINVAL; -ENOENT; -errno. @err says why, and layout_fini() is due,
 * in any case.
 */
MUST_CHECK int layout_parse(struct layout *l, const char *text,
			    char **single_out, char *err, size_t size);

/** layout_place - the n-th pattern that names a user's mail; NULL at the end */
const struct pattern *layout_place(const struct layout *l, unsigned n);

/** layout_prefix - how UW names what lies in folders=, seen from the home that
 * @list lies in: "mail" for /home/%u/mail; "" when it is the home
 * @folders, @list: folders= and subscriptions=; NULL: none */
const char *layout_prefix(const struct pattern *folders,
			  const struct pattern *list);

/** layout_mbx - how the mailboxes of a user are to be opened; the layout must
 * outlive what is opened so */
struct mbx_options layout_mbx(const struct layout *l, uid_t uid, gid_t gid);
