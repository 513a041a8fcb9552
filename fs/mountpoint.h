/*
 * mountpoint.h - what must be right before mounting, said in plain words.
 */
#pragma once

#include "compat/base.h"
#include "fs/options.h"

/**
 * mountpoint_check - is the mountpoint an empty directory, free of a dead
 * mount, neither above nor below anything that the daemon reads or writes, and
 * is there a /dev/fuse?
 *
 * Return: 0; -errno, and an error was logged that says what to do.
 */
MUST_CHECK int mountpoint_check(const struct options *opt);
