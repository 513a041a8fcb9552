/*
 * pattern.h - where users' legacy mail lies: "/home/%u/mail".
 *
 * A path with at most one component that contains %u. What comes before that
 * component belongs to the admin and is opened as it stands, symlinks
 * included. What comes after it belongs to the user and is only ever opened
 * beneath it, without following any symlink. The component itself is followed
 * (a home that was moved: /home/anna -> /data/anna) when something comes after
 * it and nobody but root, or we, may write to the directory that holds it. A
 * path without %u names one place; all of it is the admin's. "%%" is a '%'.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"

struct pattern {
	char *text;	      /* as given; without %u: the plain path */
	char *base;	      /* the directory before the %u component */
	char *before, *after; /* the %u component around %u; NULL without %u */
	char *rest;	      /* what follows it; "" if nothing */
	int base_fd;	      /* O_PATH on base (without %u: on the path itself
				 if it is a directory, else on its directory,
				 and rest is the last component) */
};

/**
 * pattern_init - parse @text and open its base
 * Return: 0; -EINVAL for a relative path, two %u, % followed by anything but
 * u or %, or ".." after the %u; -ENOENT and others from opening the base.
 */
MUST_CHECK int pattern_init(struct pattern *p, const char *text);
/** pattern_literal - a pattern that names just @path, whatever is in it;
 * symbolic links in it are followed. Return: 0; -errno */
MUST_CHECK int pattern_literal(const char *path, struct pattern *out);
/** pattern_fini - after a failed init too */
void pattern_fini(struct pattern *p);
/** pattern_has_user - whether there is a %u in it */
bool pattern_has_user(const struct pattern *p);

/**
 * pattern_open - open the place of @user, or something below it
 * @user: ignored without %u; must be pattern_user_valid() otherwise
 * @sub: path below the place; "" for the place itself
 * @flags: for io_open_beneath()
 *
 * Return: a descriptor; -ENOENT; -EINVAL for a user who is not valid;
 * -ELOOP...: see io_open_beneath().
 */
MUST_CHECK int pattern_open(const struct pattern *p, const char *user,
			    const char *sub, int flags);

/**
 * pattern_open_home - the directory that %u names, opened with O_PATH
 * Return: a descriptor; -ENOENT also when there is no such directory in the
 * pattern (no %u, or %u names the mailbox itself); as pattern_open().
 */
MUST_CHECK int pattern_open_home(const struct pattern *p, const char *user);

/**
 * pattern_open_parent - the directory that the place of @user lies in, opened
 * with O_PATH
 * @name: NAME_MAX + 1 octets: the place in it
 * Return: a descriptor; -ENOENT also when there is no such directory in the
 * pattern (no %u, and the place is a directory); as pattern_open().
 */
MUST_CHECK int pattern_open_parent(const struct pattern *p, const char *user,
				   char *name);

/** pattern_is_public - whether everybody may make what %u names, so that its
 * owner proves nothing (a spool of mode 1777) */
bool pattern_is_public(const struct pattern *p);

/** pattern_path - the path as people know it, for messages */
MUST_CHECK int pattern_path(const struct pattern *p, const char *user,
			    const char *sub, char *buf, size_t size);

/** pattern_user_valid - 1..200 octets, no '/', no leading '.', no control
 * characters */
bool pattern_user_valid(const char *user);

/* A non-zero return ends the walk and is returned. */
typedef int pattern_user_fn(const char *user, void *arg);
/** pattern_users - every name that could stand for %u, in no order; whether
 * that user has mail is for pattern_open() to say */
MUST_CHECK int pattern_users(const struct pattern *p, pattern_user_fn *fn,
			     void *arg);
