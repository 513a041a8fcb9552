/*
 * files.h - the real message files of a folder that is still legacy.
 *
 * Messages delivered through the view are files in cur/ and new/ of the new
 * store from the first minute, with the names that their agents chose. This is
 * the table of them by base name, read from the directories when first needed
 * and kept in step with what the view does. When a directory has another time
 * than the one we gave it, somebody else was there, and it is read again. Names
 * with a leading dot are no messages, nor are directories.
 *
 * Where several files have one base name, the table has one of them. That is
 * somebody else's doing; it is logged, and all of them show.
 *
 * Threads: files_lock() to files_unlock(); held for moments only, and over
 * reading the directories. Two folders: the one with the lower address first.
 * Lock order: sync_lock -> files -> index.
 *
 * What changes a file acts as whom the thread is (identity.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "fs/folder.h"

struct file {
	const char *base; /* without flags part */
	const char *name; /* whole */
	bool in_new;
	bool held; /* files_hold() */
};

/** files_lock - Return: 0, and files_unlock() is due; -EIO when one of the
 * directories is not there; -errno */
MUST_CHECK int files_lock(struct folder *f);
void files_unlock(struct folder *f);
/** files_free - the folder's table; nobody uses it any more */
void files_free(struct folder *f);

/** files_find - with the lock: by base name, or by any name with that base;
 * NULL. Valid until the next change or files_unlock(). */
const struct file *files_find(struct folder *f, const char *name);
/** files_count - with the lock */
uint64_t files_count(const struct folder *f);
/** files_each - with the lock, in no order; non-zero ends it and is returned */
typedef int files_fn(const struct file *file, void *arg);
MUST_CHECK int files_each(struct folder *f, files_fn *fn, void *arg);

/** files_rename - with the lock: rename within cur/ and new/ of the folder and
 * move their times on
 * Return: 0; -ENOENT; -EEXIST; -errno */
MUST_CHECK int files_rename(struct folder *f, bool from_new, const char *from,
			    bool to_new, const char *to);
/** files_unlink - with the lock: remove, and move the directory's time on.
 * Return: 0; -ENOENT; -errno */
MUST_CHECK int files_unlink(struct folder *f, bool in_new, const char *name);
/** files_take_in - with the lock: rename a file from elsewhere into cur/ or
 * new/, never over another, and move the directory's time on
 * Return: 0; -EEXIST when a file has that base name; -errno */
MUST_CHECK int files_take_in(struct folder *f, int from_dir, const char *from,
			     bool to_new, const char *to);
/** files_take_out - with the lock: the other way, never over another file */
MUST_CHECK int files_take_out(struct folder *f, bool in_new, const char *name,
			      int to_dir, const char *to);
/** files_hand_over - with both folders' locks: rename a file of one into the
 * other; as files_take_in() */
MUST_CHECK int files_hand_over(struct folder *f, bool from_new,
			       const char *from, struct folder *g, bool to_new,
			       const char *to);
/** files_link_in - with the lock: one more name, in cur/ or new/, for the file
 * @fd; as files_take_in() */
MUST_CHECK int files_link_in(struct folder *f, int fd, bool to_new,
			     const char *to);
/** files_made - with the lock: a file was made in cur/ or new/, or another
 * name there changed; moves the directory's time on */
void files_made(struct folder *f, bool in_new, const char *name);

/**
 * files_bumped - the time of cur/ or new/ was moved from @was to @is, in ns,
 * and nothing else was done: what the table has stays good. Takes no lock.
 */
void files_bumped(const struct folder *f, bool in_new, int64_t was, int64_t is);

/**
 * files_hold - with the lock: nobody may rename or remove this one
 * For the mirror, while it puts it into the MBX: files_wait() waits for
 * files_let_go(), without the lock, which it drops meanwhile.
 */
void files_hold(struct folder *f, const char *base);
/** files_let_go - without the lock; cannot fail, whatever became of the
 * directories: who holds a file has UW's locks, too */
void files_let_go(struct folder *f, const char *base);
/** files_wait - with the lock: until nobody holds @base; it has to be looked up
 * again afterwards. Return: as files_lock(), and the lock is held all the same
 */
MUST_CHECK int files_wait(struct folder *f, const char *base);
