/*
 * convert_site.h - where janusmail convert finds mail, and the tree that it
 * makes: users, their folders, and what the ledger in the tree says of them.
 *
 * The ledger, the names and the owners are those that the daemon would have
 * come to on the same store.
 *
 * Threads: a site and its functions are for one thread at a time; a user may
 * be used by several, see convert_folder.h.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"
#include "compat/layout.h"
#include "compat/ledger.h"
#include "compat/place.h"
#include "compat/store.h"
#include "tools/names.h"

struct convert_site {
	struct layout at;
	char *single; /* the name of the one mailbox, unless that is INBOX */
	bool plain;   /* a path: its file INBOX is the INBOX */
	bool dry;     /* nothing is made */
	char *dir;    /* of the tree */
	struct places places;
	int store_fd, state_fd, ledgers_fd, lock_fd; /* -1: not there (dry) */
	struct names users; /* sorted; "" if just one */
};

/* A mailbox that is to be converted. */
struct convert_box {
	size_t line; /* of the ledger */
	struct store *store;
	uint64_t octets; /* of its file, when it was found */
};

/* Something that is no mailbox. */
struct convert_note {
	char *what; /* text_escape()d */
	const char *why;
};

struct convert_user {
	struct convert_site *site;
	char *name;
	uid_t uid;
	gid_t gid;
	int fd; /* his Maildir++ root; -1 (dry) */
	struct store *inbox, *mail;
	char inbox_path[4096];
	struct convert_box *boxes; /* INBOX first, then by legacy name */
	size_t count;
	struct convert_note *notes;
	size_t note_count;
	pthread_mutex_t lock; /* guards the ledger once several use it */
	struct ledger ledger;
};

/**
 * convert_site_open - @spec: what follows "mbx:"; @dir: the tree, made if need
 * be. Its lock is taken, so that no daemon serves it meanwhile.
 * Return: 0; -EINVAL; -EBUSY; -errno. All are logged; convert_site_close() is
 * due anyway.
 */
MUST_CHECK int convert_site_open(struct convert_site *s, const char *spec,
				 const char *dir, bool dry);
void convert_site_close(struct convert_site *s);

/**
 * convert_user_open - find the user's mailboxes and give the new ones a number,
 * a name and a directory, durably
 * @why: for people, set on failure; @size octets
 * Return: 0; -EACCES: it is in doubt whose mail it is; -errno
 */
MUST_CHECK int convert_user_open(struct convert_site *s, const char *name,
				 struct convert_user **out, char *why,
				 size_t size);
/** convert_user_subscribe - Dovecot's list from UW's, unless there is one.
 * Return: 0; -errno */
MUST_CHECK int convert_user_subscribe(struct convert_user *u);
/** convert_user_commit - make durable what changed in the ledger; with the lock
 */
MUST_CHECK int convert_user_commit(struct convert_user *u);
/** convert_user_close - NULL is fine */
void convert_user_close(struct convert_user *u);
