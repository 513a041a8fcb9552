/*
 * maildir.h - the Maildir++ back end of store.h, read side.
 *
 * Reads what Dovecot reads: names of cur/ and new/, dovecot-uidlist,
 * dovecot-keywords. Works on a plain tree and on a mounted view alike. Takes no
 * lock: a folder that changes while it is scanned gives -ESTALE after some
 * tries.
 */
#pragma once

#include "compat/base.h"
#include "compat/store.h"

/**
 * maildir_store_new - a Maildir++ root (a directory with cur/ in it)
 * @dirfd, @path: as for openat(2)
 * Return: 0; -ENOENT; -ENOTDIR; -EBADMSG when it has no cur/; -errno.
 */
MUST_CHECK int maildir_store_new(int dirfd, const char *path,
				 struct store **out);
