/*
 * fs.h - what the parts of the daemon share.
 *
 * Lock order, never the other way: folder -> legacy file -> index, and
 * folder -> user. The tables of users, nodes and folder numbers are leaves. No
 * lock is held while a FUSE request is answered.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "compat/place.h"
#include "fs/options.h"
#include "index/index.h"

struct nodes;
struct users;

struct fs {
	const struct options *opt;
	struct places places; /* where mail lies, and whose it is */
	int store_fd;	      /* the new store's root */
	int state_fd;	 /* our directory in it (ledgers, folder numbers) */
	int ledgers_fd;	 /* multi-user: "users" in it; else state_fd */
	int lock_fd;	 /* storelock.h */
	bool multi;	 /* there is a %u: one tree a user */
	dev_t store_dev; /* files on other devices are not shown */
	struct index *index;
	struct nodes *nodes;
	struct users *users;
};
