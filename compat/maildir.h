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

/**
 * maildir_make_folder - @dir (".a.b"; "" for INBOX) below the root @rootfd,
 * with cur, new, tmp, and Maildir++'s mark of a subfolder, where they are
 * missing
 * @uid, @gid: whose they are to be. Return: 0; -errno.
 */
MUST_CHECK int maildir_make_folder(int rootfd, const char *dir, uid_t uid,
				   gid_t gid);
