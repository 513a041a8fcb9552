/*
 * place.h - the legacy places of a user, and whose they are.
 *
 * Whom a tree is to belong to decides whose mail its owner can read, so it is
 * told from what users cannot make for each other: from the directory that %u
 * names (a home), else from the mailbox itself, else from the tree in the new
 * store. What lies in a directory that everybody may write to proves nothing.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "compat/base.h"
#include "compat/pattern.h"

/* What is known of all users; nothing of it is owned. */
struct places {
	const struct pattern *inbox; /* the first that exists wins */
	unsigned inbox_count;
	const struct pattern *folders, *subscriptions; /* NULL: none */
	bool has_owner;				       /* of all trees */
	uid_t owner_uid;
	gid_t owner_gid;
	bool multi;	   /* some pattern has a %u */
	int store_fd;	   /* the new store; -1 if there is none */
	const char *store; /* its path, for messages */
};

/** place_stat - stat the place of user @name without opening it.
 * Return: 0; -ENOENT; -errno */
MUST_CHECK int place_stat(const struct pattern *p, const char *name,
			  struct stat *st);

/** place_exists - whether some place, or the new store, names user @name
 * Return: 0; -ENOENT; -ELOOP for a symbolic link where a place should be;
 * -errno */
MUST_CHECK int place_exists(const struct places *all, const char *name);

struct place_owner {
	uid_t uid;
	gid_t gid;
	char why[1024]; /* for people, without a final stop: why he is refused
			 */
};

/**
 * place_owner - whom the tree of user @name, who exists, belongs to
 * Return: 0; -EACCES when that is in doubt: ->why says what to do.
 */
MUST_CHECK int place_owner(const struct places *all, const char *name,
			   struct place_owner *out);
