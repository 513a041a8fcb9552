/*
 * mbxwalk.h - which files below a mail directory are mailboxes.
 *
 * Symbolic links are not followed, nothing but regular files is opened, and
 * directories whose names start with a dot are left alone. What is no mailbox
 * is reported with the reason, so that people see what is not served.
 *
 * Nothing mounted below the place is entered: it could be our own mount, and a
 * walk that waits for itself waits for ever.
 */
#pragma once

#include <sys/stat.h>

#include "compat/base.h"
#include "compat/mbx.h"
#include "compat/store.h"

/* What files were found to be in the last walk, so that the next one opens only
 * those that changed since. For one walk at a time. */
struct mbxwalk_cache;
/** mbxwalk_cache_new - NULL when out of memory */
struct mbxwalk_cache *mbxwalk_cache_new(void);
/** mbxwalk_cache_free - NULL is fine */
void mbxwalk_cache_free(struct mbxwalk_cache *c);

/** mbxwalk_list - list() of store.h for the place open at @fd: a directory, or
 * a single file, whose name is then "". @cache: may be NULL */
MUST_CHECK int mbxwalk_list(int fd, const struct mbx_options *opt,
			    struct mbxwalk_cache *cache, store_list_fn *fn,
			    void *arg);

/** mbxwalk_refusal - what forbids serving a file as a mailbox, for people
 * Return: static text; NULL if nothing does. */
const char *mbxwalk_refusal(const struct mbx_options *opt,
			    const struct stat *st);
