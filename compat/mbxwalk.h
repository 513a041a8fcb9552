/*
 * mbxwalk.h - which files below a mail directory are mailboxes.
 *
 * Symbolic links are not followed, nothing but regular files is opened, and
 * directories whose names start with a dot are left alone. What is no mailbox
 * is reported with the reason, so that people see what is not served.
 */
#pragma once

#include <sys/stat.h>

#include "compat/base.h"
#include "compat/mbx.h"
#include "compat/store.h"

/** mbxwalk_list - list() of store.h for the place open at @fd: a directory, or
 * a single file, whose name is then "" */
MUST_CHECK int mbxwalk_list(int fd, const struct mbx_options *opt,
			    store_list_fn *fn, void *arg);

/** mbxwalk_refusal - what forbids serving a file as a mailbox, for people
 * Return: static text; NULL if nothing does. */
const char *mbxwalk_refusal(const struct mbx_options *opt,
			    const struct stat *st);
