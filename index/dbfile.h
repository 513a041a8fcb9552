/*
 * dbfile.h - a look at LMDB's file before LMDB maps it.
 */
#pragma once

#include "compat/base.h"
#include "index/db.h"

#define DBFILE_MAP_MAX (1ULL << 42)

/**
 * dbfile_check - whether LMDB can open data.mdb in directory @dir
 * It would crash on some files that are not its own or have lost their end.
 * Return: 0; -ENOENT: none, or empty; -EUCLEAN; -errno.
 */
MUST_CHECK int dbfile_check(const char *dir, enum db_mode mode);
