/*
 * lockdir.h - where UW's parse locks are: before mounting.
 *
 * A parse lock is a file in the /tmp that UW's processes see. A daemon with
 * another one (PrivateTmp= in its unit, say) would lock nothing that they look
 * at, and nobody would notice until mail is lost. So without lockdir= our /tmp
 * has to be that of process 1, unless even the root directory is another one;
 * lockdir= is the admin's word that it is the right one, be it /tmp itself.
 */
#pragma once

#include "compat/base.h"
#include "fs/options.h"

/** lockdir_check - Return: 0; -errno, and what to do was logged */
MUST_CHECK int lockdir_check(const struct options *opt);
