/*
 * owner.h - who has the index open, and whether its file can be trusted.
 *
 * The file "owner" in the index's directory is flock()ed by the process that
 * has the index open. Its first line is a mark and a boot id:
 *
 *	open  01234567-89ab-cdef-0123-456789abcdef
 *	clean 01234567-89ab-cdef-0123-456789abcdef
 *
 * While it is open a second line says, for people, who has it:
 *
 *	process 4711, mounted on /srv/mail
 *
 * What was committed lies in the kernel first and on the disk some time later
 * (db.h). So the file can be trusted when it was closed cleanly, or when the
 * kernel that had its pages is the one that runs now; else the machine went
 * down over it, and it must be made anew.
 *
 *	owner_take(dirfd, &fd)
 *	owner_sound(fd, boot)			no: remove the files
 *	owner_mark(fd, OWNER_OPEN, boot)	before LMDB writes anything
 *	owner_sign(fd, "/srv/mail")
 *	...
 *	owner_mark(fd, OWNER_CLEAN, boot)	after all lies on the disk
 *	close(fd)
 *
 * Not seen: a disk that went away and came back beneath a kernel that ran on,
 * and copies of the directory that were made while it was open.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"

enum { OWNER_BOOT_MAX = 40 };
enum owner_mark { OWNER_OPEN, OWNER_CLEAN };

/** owner_boot - this kernel's boot id; "", which no index was ever opened
 * under, when there is none. @out: OWNER_BOOT_MAX + 1 octets */
void owner_boot(char *out);

/** owner_take - open, make and lock the file
 * Return: 0; -EBUSY when another process holds it; -errno. Not logged. */
MUST_CHECK int owner_take(int dirfd, int *fd_out);

/** owner_sound - whether what lies beside it can be trusted; false for a file
 * without a mark. @fd: needs no lock; @boot: the id of the kernel that runs */
bool owner_sound(int fd, const char *boot);

/** owner_mark - write the mark, and nothing behind it; it is on the disk at
 * return */
MUST_CHECK int owner_mark(int fd, enum owner_mark mark, const char *boot);

/** owner_sign - write the second line: this process, and @mountpoint unless
 * that is NULL. It is for people: one that cannot be written is no failure */
void owner_sign(int fd, const char *mountpoint);

/** owner_signed - the second line as one printable line
 * Return: @out; "another process" when nobody has signed. */
const char *owner_signed(int dirfd, char *out, size_t size);
