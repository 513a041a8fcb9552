/*
 * view.h - what the mounted tree shows. No FUSE types.
 *
 * Everything is a real file of the new store but two things: messages that lie
 * in an MBX, and the list of users at the top of a multi-user mount.
 *
 * Threads: all functions are safe.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "compat/base.h"
#include "compat/msg.h"
#include "fs/fs.h"
#include "fs/node.h"

struct folder;

/* One thing found in the tree. */
struct view_entry {
	struct stat st; /* st_ino is the number shown */
	bool message;	/* of an MBX: no node stands for it */
	bool watched;	/* cur/, new/ of a legacy folder: ask again each time */
	bool fleeting;	/* a file that we replace behind the kernel's back */
};

/**
 * view_lookup - find @name in directory @parent
 * A node that is found gets one lookup more (node_forget() takes it back).
 * Return: 0; -ENOENT; -ENOTDIR; -EIO; -errno.
 */
MUST_CHECK int view_lookup(struct fs *fs, struct node *parent, const char *name,
			   struct view_entry *out);

/** view_enter - @fd, just made as @name in @parent, as an entry with a node
 * @fd: any descriptor of it; stays the caller's */
MUST_CHECK int view_enter(struct fs *fs, struct node *parent, const char *name,
			  int fd, struct view_entry *out);

/**
 * view_stat - attributes by number, as the kernel knows it
 * Brings cur/ and new/ of a legacy folder up to date first.
 * Return: 0; -ESTALE when there is no such message any more; -errno.
 */
MUST_CHECK int view_stat(struct fs *fs, uint64_t ino, struct view_entry *out);

/** view_stat_now - the same, with directories as they are */
MUST_CHECK int view_stat_now(struct fs *fs, uint64_t ino,
			     struct view_entry *out);

/** view_message - the message of an MBX with that number, for a while also
 * one that was expunged: somebody may have it open
 * Return: 0; -ESTALE when there is none any more; -errno */
MUST_CHECK int view_message(struct fs *fs, uint64_t ino, struct folder **f_out,
			    struct msg *out);

enum view_row {
	VIEW_NO_ROW,
	VIEW_MADE_UP,  /* shows under a name that we made up */
	VIEW_OWN_NAME, /* is the copy of a file: shows where that is gone */
};
/** view_row - the message of an MBX with the base name that @name has */
enum view_row view_row(struct folder *f, const char *name, struct msg *out);

/** view_is_message - whether a number is that of an MBX message */
bool view_is_message(uint64_t ino);

/**
 * view_may_change - whether names in directory @parent may be made, removed or
 * renamed, as far as the view decides it
 * @name: NULL for any name. Return: 0; -EACCES; -EPERM.
 */
MUST_CHECK int view_may_change(const struct node *parent, const char *name);

/** view_folder - the legacy folder that a node belongs to; NULL */
struct folder *view_folder(const struct node *n);

/** view_is_hidden - whether @name in @parent is not shown: our own directory,
 * or a folder whose legacy file is gone */
bool view_is_hidden(const struct fs *fs, const struct node *parent,
		    const char *name);
