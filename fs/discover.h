/*
 * discover.h - which mailboxes lie in a user's legacy places.
 *
 * Every function is called with the user's lock held.
 */
#pragma once

#include <sys/stat.h>

#include "compat/base.h"
#include "compat/pattern.h"
#include "fs/user.h"

/** discover_stat - stat the place of user @name without opening it.
 * Return: 0; -ENOENT; -errno */
MUST_CHECK int discover_stat(const struct pattern *p, const char *name,
			     struct stat *st);

/**
 * discover_folders - append a line to the user's ledger for each folder that
 * has none yet, without a number; note what is not served and why
 *
 * A name that is taken, by another folder or by a directory in the new store,
 * gets a variant; mailboxes are taken in the order of their names, so that who
 * gets the plain one does not depend on the order of a directory.
 *
 * Return: 0; -errno.
 */
MUST_CHECK int discover_folders(struct user *u);

/** discover_clear - forget what is not served */
void discover_clear(struct user *u);
