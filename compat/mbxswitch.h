/*
 * mbxswitch.h - one record line of an MBX changed at once, also over a crash.
 *
 * What mbxcompact.c does becomes visible with single writes of at most 64
 * octets: a hole grows, or gives way to what was made ready behind its line.
 * Where these octets lie on two pages, a crash can leave half of them. So they
 * are first noted, old and new, in the padding of the file's header: 430 octets
 * that no keyword table reaches, on one sector. UW makes zeros of them when it
 * writes the header, which it does only if the mailbox is whole.
 *
 * Threads: the caller has the parse lock and the exclusive lock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat/base.h"

enum { MBXSWITCH_MAX = 64, MBXSWITCH_NOTE_AT = 1600 };

/** mbxswitch_write - @len <= MBXSWITCH_MAX octets at @at, at once. All that was
 * written before is durable first; so is this on return.
 * Return: 0; -EBADMSG when the place for the note is taken; -errno */
MUST_CHECK int mbxswitch_write(int fd, uint64_t at, const uint8_t *data,
			       size_t len);

enum mbxswitch_state {
	MBXSWITCH_NONE,
	MBXSWITCH_DONE, /* a note is left, that is all */
	MBXSWITCH_TORN,
};
/** mbxswitch_look - what became of the last mbxswitch_write()
 * Return: 0; -EBADMSG when something else is in the place for the note; -errno
 */
MUST_CHECK int mbxswitch_look(int fd, enum mbxswitch_state *out);

/** mbxswitch_recover - do what is half done, take away a note that is there.
 * Durable. Return: 0; as mbxswitch_look() */
MUST_CHECK int mbxswitch_recover(int fd);

/** mbxswitch_hole - the line of an expunged record
 * @region: octets of line and message; at least 53, or as many as a record had
 *	that is replaced
 * @out: MBXSWITCH_MAX octets. Return: octets of the line */
size_t mbxswitch_hole(uint64_t region, uint32_t uid, uint8_t *out);
