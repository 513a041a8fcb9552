/*
 * wake.h - waking programs that watch new/ through the mount.
 *
 * inotify tells of what is done through the mount only, and a server in IDLE
 * waits for that. So a name is made in new/ and removed again, through the
 * mount, by threads that do nothing else and hold no lock. The daemon does
 * nothing for it: there never is such a file, and no time moves (wake_is_ours()
 * in ops*.c). Dovecot takes no notice of the name, which begins with a dot.
 *
 * The mountpoint is opened each time: held open it could not be unmounted.
 *
 * These threads have a table of descriptors of their own. A thread that waits
 * for an answer from its own daemon cannot be killed; if it shared the daemon's
 * descriptors a killed daemon would keep its end of the mount, so that nobody
 * ever answered.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "compat/base.h"

#define WAKE_NAME ".janusmail-wake"

struct folder;

/* Of a folder. With the lock of wake.c. */
struct wake_job {
	struct folder *folder;
	bool queued, busy;
	TAILQ_ENTRY(wake_job) link;
};

/** wake_start - it is mounted; remembers as what, and begins the threads.
 * Without that nobody is woken. Return: 0; -errno */
MUST_CHECK int wake_start(const char *mountpoint);
/**
 * wake_stop - end; nothing happens if it was not begun
 * @answer: called with @arg until all threads have ended; answers a request, or
 * waits for one for some milliseconds: our threads use the mount
 */
void wake_stop(void (*answer)(void *arg), void *arg);

/** wake_folder - soon; without waiting. Nothing happens when the kernel does
 * not know new/, so that nobody can watch it. */
void wake_folder(struct folder *f);
/** wake_count - how often somebody was woken, perhaps */
unsigned long wake_count(void);

/** wake_is_known - whether somebody may watch the folder */
bool wake_is_known(struct folder *f);

/** wake_is_ours - whether a request comes from one of our own threads, @pid
 * being its number as FUSE has it: nothing may be waited for then */
bool wake_is_ours(pid_t pid);

/** wake_ino - an inode number for a file that is not there */
uint64_t wake_ino(void);
