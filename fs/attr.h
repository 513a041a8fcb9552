/*
 * attr.h - attributes as the view shows them.
 */
#pragma once

#include <sys/stat.h>

#include "compat/base.h"
#include "compat/msg.h"
#include "fs/folder.h"
#include "fs/fs.h"
#include "fs/node.h"

/** attr_message - of a message in an MBX: 0600, the user's, mtime = date */
void attr_message(struct stat *st, struct folder *f, const struct msg *m);
/** attr_adjust - what differs from the real directory: cur/, new/ and tmp/ of
 * a legacy folder are 0500, so that Dovecot opens the folder read-only */
void attr_adjust(struct stat *st, const struct node *n);
/** attr_users - the root of a multi-user mount. Return: 0; -errno */
MUST_CHECK int attr_users(struct stat *st, const struct fs *fs);
/** attr_fd_path - "/proc/self/fd/N", to open an O_PATH descriptor again;
 * @out: at least 64 octets */
void attr_fd_path(int fd, char *out);
