/*
 * spoollock.h - the locks on a unix mbox that the old MTA delivers to.
 *
 * UW's unix driver and the MTAs have four between them, and all are taken:
 *
 * - the session lock, flock on /tmp/.DEV.INO of the spool: who has it may
 * change the spool; other sessions of UW only read, and do not take mail out of
 * it. Quirk: UW writes its pid there, and who wants the lock sends that process
 *   SIGUSR2; ours is empty
 * - SPOOL.lock, made with O_EXCL; left out where we may not make it, as UW does
 * - flock on the spool, exclusive
 * - fcntl on the whole spool, for MTAs that use nothing else
 *
 * Nobody is waited for longer than a second: a delivery agent that finds the
 * spool locked tries again, and so do we.
 *
 * Source: UW IMAP 2007f, src/osdep/unix/unix.c, unix_open() and unix_lock();
 * env_unix.c, dotlock_lock().
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "compat/base.h"
#include "compat/mbxlock.h"
#include "compat/pattern.h"

struct spoollock {
	int fd;		/* the spool, to read and to write */
	struct stat st; /* as it is with the locks held */
	const struct pattern *pattern;
	const char *user;
	struct mbxlock_options opt;
	struct mbxparse session;
	bool in_session;
	int dot_fd; /* of SPOOL.lock if we made it */
	int dir;    /* where it lies */
	char dot[NAME_MAX + 1];
};

/**
 * spoollock_take - open and lock the spool of @user
 * @opt: ->uid is whose it must be; ->ms is not looked at
 *
 * Return: 0; -ENOENT; -EAGAIN, see mbxlock_past(); -EPERM (another owner),
 * -ENOTSUP (not a regular file), -EMLINK, -EREMOTE; -errno. Nothing is locked
 * then.
 */
MUST_CHECK int spoollock_take(const struct pattern *p, const char *user,
			      const struct mbxlock_options *opt,
			      struct spoollock *out);
/** spoollock_pause - let MTAs and readers to it; UW still takes nothing out */
void spoollock_pause(struct spoollock *l);
/** spoollock_resume - Return: as spoollock_take(); -ESTALE when the spool is
 * another file now. Paused still, if not 0. */
MUST_CHECK int spoollock_resume(struct spoollock *l);
/** spoollock_refresh - call it now and then: nobody is to take SPOOL.lock for
 * left over because it is old */
void spoollock_refresh(const struct spoollock *l);
void spoollock_drop(struct spoollock *l);
