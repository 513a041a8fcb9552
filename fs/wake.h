/*
 * wake.h - waking programs that watch new/ through the mount.
 *
 * inotify tells of what is done through the mount only, and a server in IDLE
 * waits for that. So a name is made in new/ and removed again, through the
 * mount, by threads that serve no request and hold no lock. The daemon does
 * nothing for it: there never is such a file, and no time moves (wake_is_ours()
 * in ops*.c). Dovecot takes no notice of the name, which begins with a dot.
 *
 * The mountpoint is opened each time: held open it could not be unmounted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"

#define WAKE_NAME ".janusmail-wake"

struct folder;

/** wake_start - it is mounted; remembers as what. Without that nobody is
 * woken. Return: 0; -errno */
MUST_CHECK int wake_start(const char *mountpoint);

/** wake_begin_thread - the calling thread is going to use the mount
 * Return: 0; -ENFILE when too many do */
MUST_CHECK int wake_begin_thread(void);
void wake_end_thread(void);

/** wake_folder - with no lock held. Nothing happens when the kernel does not
 * know new/, so that nobody can watch it. Return: whether there was somebody
 * to be woken, perhaps */
bool wake_folder(struct folder *f);

/** wake_is_known - whether somebody may watch the folder */
bool wake_is_known(struct folder *f);

/** wake_is_ours - whether a request comes from one of our own threads, @pid
 * being its number as FUSE has it: nothing may be waited for then */
bool wake_is_ours(pid_t pid);

/** wake_ino - an inode number for a file that is not there */
uint64_t wake_ino(void);
