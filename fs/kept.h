/*
 * kept.h - a mailbox that another process keeps locked.
 *
 * Who it is is told once, in the log, and for as long as it lasts in status.
 * One that keeps the lock makes every change fail; a client that sets a flag on
 * ten thousand messages would fill the log with it.
 *
 * Threads: any, without the folder's lock, which is taken for moments.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "fs/folder.h"

/** kept_look - the calling thread has just tried to lock the mailbox, see
 * mbxlock_past(): somebody keeps it, or does so no more (logged) */
void kept_look(struct folder *f);

/** kept_first - a change could not be made for such a reason
 * Return: whether it is to be said; of those that follow, kept_look() says how
 * many they were. */
bool kept_first(struct folder *f);

/** kept_by - "pid 123 (dmail)", or "another process"; @out: KEPT_BY octets */
enum { KEPT_BY = 64 };
void kept_by(struct folder *f, char *out);

/** kept_now - the same, if somebody keeps it at this moment
 * @ms: for how long */
bool kept_now(struct folder *f, char *out, int64_t *ms);

/** kept_for - whether it has been kept for @ms, as far as that was seen */
bool kept_for(struct folder *f, int64_t ms);

/** kept_refused - a folder cannot be renamed or deleted now: say who has its
 * mailbox open, the calling thread having tried
 * @what: "cannot be renamed" */
void kept_refused(const struct folder *f, const char *what, int err);
