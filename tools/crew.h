/*
 * crew.h - some threads go over users and folders of one store, or of two side
 * by side; what they bring is handed over in order.
 *
 * A user's folders are listed by one thread, and then each folder is a piece of
 * work of its own: one user with many folders keeps all of them busy. Few users
 * are listed ahead of the one whose results are due, so memory does not grow
 * with their number.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "tools/finding.h"
#include "tools/pile.h"
#include "tools/source.h"

struct crew_folder {
	char dir[FOLDERNAME_MAX + 1];
	bool has[2];  /* which side has it */
	size_t at[2]; /* number of the folder there */
	uint64_t weight;
	struct pile out; /* what the work brought */
	struct tally tally;
	_Atomic(uint64_t) read, expected; /* messages */
	bool taken, done;
};

struct crew_user {
	const char *name;
	struct source_user *side[2]; /* NULL: not there, or err */
	int err[2];
	struct crew_folder *folders;
	size_t count;
	size_t taken, done; /* folders; the crew's */
	enum { CREW_WAITING, CREW_LISTING, CREW_LISTED } state;
};

struct crew_progress {
	double part; /* of all work, 0 to 1 */
	size_t users, users_done;
	uint64_t messages;
};

struct crew_work {
	struct source *side[2];	     /* the second may be NULL */
	const struct names *users;   /* shown names, NULL: all of both sides */
	const struct names *folders; /* as people write them; NULL: all */
	unsigned jobs;
	void *arg;
	/* By any thread. Return: 0; -errno ends it all */
	int (*folder)(struct crew_user *u, struct crew_folder *f, void *arg);
	/* By the caller's, in order of users; of folders by name. */
	int (*user_begin)(struct crew_user *u, void *arg);
	int (*folder_done)(struct crew_user *u, struct crew_folder *f,
			   void *arg);
	int (*user_end)(struct crew_user *u, void *arg);
	/* By the caller's, some times a second; may be NULL. */
	void (*tick)(const struct crew_progress *p, void *arg);
};

/** crew_run - Return: 0; -ENOENT: a user who was asked for is not there, which
 * was logged; -errno */
MUST_CHECK int crew_run(const struct crew_work *work);
