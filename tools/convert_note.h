/*
 * convert_note.h - how a conversion left a folder: one line in our directory in
 * the tree, "converted/NUMBER".
 *
 *	janusmail-converted 1 <dev> <ino> <size> <mtime> <ctime> <cur> <new>
 *	<messages> <octets> <uidnext>
 *
 * (on one line): the MBX then, inode 0 when it is to be looked at again in any
 * case; times of cur/ and new/, which move with every change there. Times are
 * nanoseconds.
 */
#pragma once

#include <stdint.h>

#include "compat/base.h"
#include "compat/store.h"

/* In place of both times of directories. */
enum {
	CONVERT_OTHERS,	 /* somebody else has been at the folder, once */
	CONVERT_RUNNING, /* a run is under way, or was killed */
};

struct convert_left {
	struct stamp stamp; /* of the MBX */
	int64_t cur_ns, new_ns;
	uint64_t messages, octets;
	uint32_t uidnext; /* of the MBX: what was looked at has lower UIDs */
};

/** convert_note_read - Return: 0; -ENOENT, also for one that says nothing;
 * -errno */
MUST_CHECK int convert_note_read(int state_fd, uint32_t number,
				 struct convert_left *out);
/** convert_note_write - durable */
MUST_CHECK int convert_note_write(int state_fd, uint32_t number,
				  const struct convert_left *left);
