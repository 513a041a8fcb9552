/*
 * mbxmove.h - a mailbox file gets another name, or goes away, under UW's locks.
 *
 *	ret = mbxmove_begin(store, "a/b", &m);
 *	if (ret < 0)
 *		return ret;
 *	... write down what is to happen ...
 *	ret = mbxmove_rename(&m, "c/d");
 *	mbxmove_end(&m);
 *
 * As UW itself deletes and renames: the parse lock, then the mailbox lock
 * exclusively, so that nobody who has the mailbox open loses it. Everything is
 * done as the mailbox's owner but for what he has no access to, the directory
 * that mbxmove_take() moves it to.
 *
 * Source of the protocol: UW-IMAP imap-2007f src/osdep/unix/mbx.c,
 *mbx_rename(); docs/MBX.md, "Locks".
 *
 * Threads: one at a time per struct.
 */
#pragma once

#include <limits.h>

#include "compat/base.h"
#include "compat/mbxlock.h"
#include "compat/store.h"

struct mbx_store;

struct mbxmove {
	const struct mbx_store *store;
	int fd;			 /* the mailbox */
	int place;		 /* the directory of all mailboxes */
	int dir;		 /* where it lies */
	char name[NAME_MAX + 1]; /* in there */
	char path[PATH_MAX];	 /* below the place */
	struct mbxparse lock;
	uid_t uid; /* owner of the mailbox */
	gid_t gid;
};

/**
 * mbxmove_begin - lock mailbox @path of an MBX store
 * What has it open for a moment only is waited for, a second at most.
 *
 * Return: 0, and mbxmove_end() is due; -ENOENT; -EBUSY when somebody has it
 * open; -EAGAIN when the parse lock is not to be had; -EPERM for a file that
 * must not be touched, or a mailbox that is a place itself; -ESTALE when it was
 * replaced meanwhile; -errno.
 */
MUST_CHECK int mbxmove_begin(struct store *s, const char *path,
			     struct mbxmove *out);

/** mbxmove_end - lets go of the locks */
void mbxmove_end(struct mbxmove *m);

/** mbxmove_check - whether it could be renamed to @path, as far as a look can
 * tell. Return: as mbxmove_rename() */
MUST_CHECK int mbxmove_check(const struct mbxmove *m, const char *path);

/**
 * mbxmove_rename - rename it to @path of the same store, durably
 * Directories are made as needed, and those left empty are removed.
 *
 * Return: 0, also when the file has this name; -EINVAL; -EEXIST; -ENOTDIR when
 * a mailbox, or something else, lies where a directory must be; -ENAMETOOLONG;
 * -EACCES; -errno, and it has its old name.
 */
MUST_CHECK int mbxmove_rename(struct mbxmove *m, const char *path);

/**
 * mbxmove_take - move it into @dirfd as @name, durably
 * On another filesystem it is copied, with owner and times: then, and
 * only then, the original is removed. @name with ".tmp" behind it is used
 * meanwhile.
 *
 * Return: 0; -EEXIST; -EACCES; -ENOSPC; -errno, and it is where it was.
 */
MUST_CHECK int mbxmove_take(struct mbxmove *m, int dirfd, const char *name);
