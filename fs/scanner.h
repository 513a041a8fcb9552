/*
 * scanner.h - the worker that goes through all folders after mounting.
 *
 * So that damage is known before a user meets it, and first visits are quick.
 * At idle I/O priority, one folder at a time; users do not wait for it. When
 * all folders are done it only closes MBX files that nobody uses any more.
 */
#pragma once

#include "compat/base.h"
#include "fs/fs.h"

struct scanner;

/** scanner_start - make the worker thread */
MUST_CHECK int scanner_start(struct fs *fs, struct scanner **out);
/** scanner_stop - end it, after the folder it is at; NULL is fine */
void scanner_stop(struct scanner *s);
