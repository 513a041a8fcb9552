/*
 * source.h - mail to be looked at, whatever it lies in: users, their folders,
 * and what can be said of each message.
 *
 * One small table of operations over mailboxes, Maildirs, mounted views and
 * manifests; dump, verify and manifest know nothing else. What is read is the
 * stores themselves, never an index. Calling sequence:
 *
 *	spec_open("mbx:/home/anna/mail", &source)
 *	source->ops->user(source, source->users.list[i], &user)
 *	user->ops->open(user, k, &box)
 *	while (box->ops->next(box, &fact) == 0) ...
 *	box->ops->close(box)
 *	user->ops->leave(user)
 *	source->ops->free(source)
 *
 * Threads: user() and open() by any thread; a box is one thread's.
 *
 * Reading changes nothing. The locks of a format are held by the operation that
 * needs them, with a deadline.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/fact.h"
#include "compat/foldername.h"
#include "compat/manifest.h"
#include "compat/store.h"
#include "tools/names.h"

struct source;
struct source_user;
struct source_box;

struct source_ops {
	/** user - @name: of source.users. What cannot be read is noted in the
	 * user. Return: 0; -ENOENT; -errno */
	int (*user)(struct source *s, const char *name,
		    struct source_user **out);
	/** leave - NULL is not fine */
	void (*leave)(struct source_user *u);
	/** open - the @folder-th folder of a user. What is wrong with it is in
	 * the box: this fails for want of memory only. */
	int (*open)(struct source_user *u, size_t folder,
		    struct source_box **out);
	/** next - messages by UID, those without one last
	 * A message that cannot be read has ->err; -ESTALE: the folder changed,
	 * and it is to be read from the start.
	 * Return: 0, @out good until the next call; -ENOENT at the end; -errno
	 */
	int (*next)(struct source_box *b, struct fact *out);
	/** changed - whether somebody changed the folder since open() */
	bool (*changed)(struct source_box *b);
	void (*close)(struct source_box *b);
	void (*free)(struct source *s);
};

struct source {
	const struct source_ops *ops;
	const char *kind;   /* "MBX", "Maildir"..., static */
	char *spec;	    /* as given */
	bool many;	    /* users have names; else there is one, "" */
	struct names users; /* sorted */
};

struct source_folder {
	char dir[FOLDERNAME_MAX + 1]; /* ".a.b"; "" for INBOX */
	uint64_t octets;	      /* about; 0: not known */
};

/* Something in a user's place that is not what it should be. */
struct source_note {
	char *what; /* escaped */
	char *why;
	bool trouble; /* it could not be read; else it is no mailbox */
};

struct source_user {
	const struct source_ops *ops;
	struct source_folder *folders; /* sorted by dir */
	size_t count;
	struct names subscribed; /* dirs, sorted */
	bool has_subscribed;	 /* whether that is known */
	bool partial;		 /* it is about these folders only */
	struct source_note *notes;
	size_t note_count;
};

struct source_box {
	const struct source_ops *ops;
	uint32_t uidvalidity, uidnext; /* 0: the format has none yet */
	uint64_t messages, octets;
	int err; /* not 0: -errno, nothing can be read; damage says why */
	char damage[MANIFEST_DAMAGE_MAX + 1]; /* "" if there is none */
};

/** source_init - Return: 0; -ENOMEM */
MUST_CHECK int source_init(struct source *s, const struct source_ops *ops,
			   const char *kind, const char *spec);
/** source_fini - what source_init() and others put into it */
void source_fini(struct source *s);

/** source_why - -errno for people. Return: static text */
const char *source_why(int err);

/* ---- for those who make them --------------------------------------------- */

/** source_add_folder - Return: 0; -ENOMEM */
MUST_CHECK int source_add_folder(struct source_user *u, const char *dir,
				 uint64_t octets);
/** source_add_note - @what is escaped here. Return: 0; -ENOMEM */
MUST_CHECK int source_add_note(struct source_user *u, const char *what,
			       const char *why, bool trouble);
void source_user_fini(struct source_user *u);

/** source_store_open - open() over a folder of a store
 * @ops: have the other three of these
 * @is_view: a name that is not of our making is one of something delivered */
MUST_CHECK int source_store_open(const struct source_ops *ops, struct store *s,
				 const char *folder, bool is_view,
				 struct source_box **out);
int source_store_next(struct source_box *b, struct fact *out);
bool source_store_changed(struct source_box *b);
void source_store_close(struct source_box *b);

/** source_mbx_new, ... - @arg: the spec behind its "mbx:" or the like; reasons
 * are logged. Return: 0; -EINVAL (usage); -errno */
MUST_CHECK int source_mbx_new(const char *spec, const char *arg,
			      struct source **out);
MUST_CHECK int source_maildir_new(const char *spec, const char *arg,
				  struct source **out);
MUST_CHECK int source_view_new(const char *spec, const char *arg,
			       struct source **out);
MUST_CHECK int source_manifest_new(const char *spec, const char *arg,
				   struct source **out);
