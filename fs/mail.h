/*
 * mail.h - changing messages through the view: what a rename, a link or an
 * unlink in cur/ and new/ of a legacy folder comes to.
 *
 * A message there is one of three things:
 *	in the MBX only		its name is made up (change.h)
 *	a real file		delivered, not mirrored yet (files.h)
 *	a real file, mirrored	the file is what shows; the MBX has its flags,
 *				and they change together (mirror.h)
 * Nothing is ever renamed over another message. Names with a leading dot are
 * no messages, and files as anywhere.
 *
 * The kernel has checked that the caller may do it (default_permissions: the
 * directories are the user's alone); it is done as the user, so that his quota
 * counts.
 *
 * Threads: all functions are safe.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"
#include "fs/fs.h"
#include "fs/node.h"

/** mail_dir - the folder whose messages lie in directory @n, if it is cur/ or
 * new/ of one that is still legacy; NULL */
struct folder *mail_dir(const struct node *n);

/**
 * mail_rename - at least one of the two is a mail_dir()
 * Never over another file. To another folder a message of the MBX is copied,
 * durably, and then expunged: a crash can leave both, never none.
 * Return: 0; -ENOENT; -EEXIST; -EACCES; -errno.
 */
MUST_CHECK int mail_rename(struct fs *fs, struct node *from, const char *name,
			   struct node *to, const char *to_name);

/** mail_unlink - @dir is a mail_dir(). Return: 0; -ENOENT; -EIO; -EACCES;
 * never -EPERM or -EISDIR */
MUST_CHECK int mail_unlink(struct node *dir, const char *name);

/**
 * mail_copy - link() of message @ino of an MBX: a file of its own, as @name in
 * @to, with its octets and its date, which are on the disk when this returns
 * Return: 0; -EEXIST; -ENOENT when it was expunged; -ENOSPC; -EDQUOT; -errno.
 */
MUST_CHECK int mail_copy(struct fs *fs, uint64_t ino, struct node *to,
			 const char *name);

/** mail_link - @fd, a real file, as @name in @to, a mail_dir(). Return: as
 * mail_copy() */
MUST_CHECK int mail_link(int fd, struct node *to, const char *name);

/** mail_may_make - whether a file may be made in a mail_dir(). Return: 0;
 * -EEXIST when a message has its base name; -errno */
MUST_CHECK int mail_may_make(struct node *dir, const char *name);
/** mail_made - a file was made in a mail_dir() as it is made anywhere */
void mail_made(struct node *dir, const char *name);

/**
 * mail_control - Dovecot has written, or renamed to @name, a file in folder
 * directory @dir, or removed its lock: where that is one of those that we read,
 * whoever needs it is told
 * It may wait for UW: call it when the request is answered.
 * @f: view_folder() of @dir, before it was answered; NULL is fine
 */
void mail_control(struct folder *f, const char *name);
