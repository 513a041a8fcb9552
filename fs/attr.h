/*
 * attr.h - attributes as the view shows them.
 */
#pragma once

#include <stdint.h>
#include <sys/stat.h>

#include "compat/base.h"
#include "compat/msg.h"
#include "fs/fs.h"
#include "fs/node.h"

struct user;

/** attr_message - of a message in an MBX: 0600, the user's, mtime = date
 * @ino: its number (index_ino) */
void attr_message(struct stat *st, const struct user *u, uint64_t ino,
		  const struct msg *m);
/** attr_users - the root of a multi-user mount. Return: 0; -errno */
MUST_CHECK int attr_users(struct stat *st, const struct fs *fs);
/** attr_fd_path - "/proc/self/fd/N", to open an O_PATH descriptor again;
 * @out: at least 64 octets */
void attr_fd_path(int fd, char *out);
