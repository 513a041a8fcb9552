/*
 * lease.h - UW's locks on an MBX, kept for a few milliseconds of changes.
 *
 * Changes come in bursts: STORE 1:10000 is ten thousand renames. So the locks
 * that the first one takes are kept a little longer than it needs them, and a
 * thread of its own lets go of them when nothing more comes or a few
 * milliseconds are over. The file's times, and the folder's stamp, are set once
 * then; what was changed is made durable a little later, without the locks.
 *
 * While a folder is leased nobody else can change its MBX, so the rows are
 * true and nobody needs to look (folder_ready()).
 *
 * Threads: all functions are safe. Lock order: sync_lock -> UW's locks.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"
#include "fs/folder.h"

/**
 * lease_begin - get a folder ready for changes to its MBX
 * On success the caller has the folder's sync_lock, UW's locks are held,
 * f->box is open and the rows show what is in it. A lock that is busy is waited
 * for, lockwait= at most: Dovecot loses a flag that it could not write.
 *
 * Return: 0; -EAGAIN; -EIO when nothing of the folder can be served; -errno.
 * Nothing is held after a failure.
 */
MUST_CHECK int lease_begin(struct folder *f);

/** lease_try - the same without waiting */
MUST_CHECK int lease_try(struct folder *f);

/**
 * lease_end - the change is made; lets go of the sync_lock
 * @stale: something was not as the rows said. UW's locks are let go of now, and
 * the next lease_begin() brings the rows up to date first.
 */
void lease_end(struct folder *f, bool stale);

/** lease_finish - with the sync_lock: let go of UW's locks now, if they are
 * held */
void lease_finish(struct folder *f);

/** lease_touch - the second touch of box @b (store.h), without waiting
 * Return: 0; -EAGAIN; -ESTALE; -errno */
MUST_CHECK int lease_touch(struct folder *f, struct folder_box *b);
/** lease_confirm - if the MBX is as we left it, note that it is now
 * Return: 0; -EAGAIN */
MUST_CHECK int lease_confirm(struct folder *f);

/** lease_start - the thread that lets go. Return: 0; -errno */
MUST_CHECK int lease_start(void);
/** lease_stop - every lease is ended, everything is durable */
void lease_stop(void);
