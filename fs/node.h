/*
 * node.h - the files and directories the kernel knows, by inode number.
 *
 * A node is a real file or directory of the new store. A directory is held
 * open with O_PATH from the lookup that found it until the kernel forgets it,
 * so its inode number cannot be given to another file meanwhile; so is a file
 * as long as descriptors last. When they run short, files that are not in use
 * are closed, those first that were not used for the longest time, and opened
 * again by name when they are needed.
 *
 * Its number is the real inode number (the root's is 1). Messages of an MBX are
 * not nodes: their numbers are made from folder number and UID (index_ino) and
 * need no memory.
 *
 * Threads: all functions are safe; a node that a request names stays valid
 * while that request is served, because the kernel does not forget it before.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "compat/base.h"
#include "fs/growth.h"

struct folder;
struct user;

enum node_kind {
	NODE_USERS,  /* the root of a multi-user mount: lists users */
	NODE_MAIL,   /* a Maildir++ root: INBOX, and the folders in it */
	NODE_FOLDER, /* ".a.b" in a Maildir++ root */
	NODE_CUR,    /* cur/, new/, tmp/ of a folder */
	NODE_NEW,
	NODE_TMP,
	NODE_UIDLIST, /* control files of Dovecot that we write, too */
	NODE_KEYWORDS,
	NODE_SUBSCRIPTIONS,
	NODE_PLAIN, /* everything else */
};

/* What tells a file from a later one with its number. */
struct node_birth {
	mode_t type;
	int64_t s;
	uint32_t ns;
};

/*
 * What a node is can change while requests look at it: a folder is found, a
 * directory gets another name. So each of the three is read once where two
 * answers must agree.
 */
struct node {
	uint64_t ino;
	int fd; /* O_PATH of a directory; -1 for NODE_USERS. For what may be a
		   file: node_pin() */
	_Atomic enum node_kind kind;
	struct user *_Atomic user; /* whose tree; NULL for NODE_USERS */
	/* the legacy folder this is part of, or NULL */
	struct folder *_Atomic folder;
	struct growth growth;
	/* What follows is the table's own. */
	uint64_t lookups;
	bool is_dir;
	uint64_t parent; /* where it was last found */
	char *name;	 /* under which name */
	uint64_t subdirs;
	unsigned round; /* in which it was a victim last */
	unsigned pins;
	struct node_birth birth; /* of a file that was closed */
	TAILQ_ENTRY(node) idle;	 /* files that are open and have no pin */
	struct node *next;
};

struct nodes;

/* What a node is. */
struct node_role {
	enum node_kind kind;
	struct user *user;
	struct folder *folder;
	uint64_t parent;  /* inode number of the directory it was found in */
	const char *name; /* under which name; or NULL */
};

/** nodes_new - an empty table but for the root node: inode 1, @root_fd (which
 * the table then owns), @role. NULL when out of memory */
struct nodes *nodes_new(int root_fd, const struct node_role *role);
/** nodes_free - closes everything; NULL is fine */
void nodes_free(struct nodes *t);

/** node_get - the node of a number that the kernel gave; NULL if it is none */
struct node *node_get(struct nodes *t, uint64_t ino);

/**
 * node_take - the node for a file just looked up, with one lookup more
 * @fd: O_PATH; becomes the node's or is closed, also on failure
 * @st: of @fd
 *
 * Return: 0; -ENOMEM.
 */
MUST_CHECK int node_take(struct nodes *t, int fd, const struct stat *st,
			 const struct node_role *role, struct node **out);

/**
 * node_pin - an O_PATH descriptor of it, until node_unpin()
 * Return: a descriptor, which stays the node's; -ESTALE when there is another
 * file or none under its name; -errno.
 */
MUST_CHECK int node_pin(struct nodes *t, struct node *n);
void node_unpin(struct nodes *t, struct node *n);

/** node_hold - a file is opened: its descriptor is needed even when it has no
 * name any more, until node_release(). Unknown numbers are fine. */
void node_hold(struct nodes *t, uint64_t ino);
void node_release(struct nodes *t, uint64_t ino);

/** node_forget - the kernel drops @count lookups; numbers of messages and
 * unknown ones are fine */
void node_forget(struct nodes *t, uint64_t ino, uint64_t count);

/** node_count - how many nodes there are */
uint64_t node_count(struct nodes *t);

/*
 * A crowd. The kernel keeps every directory it ever looked up until it needs
 * the memory, and each costs us a descriptor. Beyond half of what there are it
 * is asked to forget, one directory with all that is in it after the other,
 * until half of that is left (shed.h).
 */

/** nodes_limit - from now on use half of @files descriptors, for files that are
 * not in use a quarter */
void nodes_limit(struct nodes *t, uint64_t files);

/** nodes_await_crowd - wait until there is a crowd, then begin a round
 * Return: false after nodes_end(). */
bool nodes_await_crowd(struct nodes *t);

struct node_place {
	uint64_t parent;
	char name[NAME_MAX + 1];
};

/** nodes_victim - the directory with the most directories in it that was none
 * in this round yet
 * Return: false when there is none, or no need any more: the round is over. */
bool nodes_victim(struct nodes *t, struct node_place *out);

/** nodes_settle - wait until there is no need for another victim, @ms at most
 */
void nodes_settle(struct nodes *t, unsigned ms);

/** nodes_end - nodes_await_crowd() and all who wait return */
void nodes_end(struct nodes *t);

/** nodes_relieve - there was no descriptor to be had: close all files that are
 * not in use; without any, begin a round and wait for its end, but not long
 * Return: whether something was closed, so that it can be tried again. */
bool nodes_relieve(struct nodes *t);
