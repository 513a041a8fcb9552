/*
 * node.h - the files and directories the kernel knows, by inode number.
 *
 * A node is a real file or directory of the new store, held open with O_PATH
 * from the lookup that found it until the kernel forgets it, so its inode
 * number cannot be given to another file meanwhile. Its number is the real
 * inode number (the root's is 1). Messages of an MBX are not nodes: their
 * numbers are made from folder number and UID (index_ino) and need no memory.
 *
 * Threads: all functions are safe; a node that a request names stays valid
 * while that request is served, because the kernel does not forget it before.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "compat/base.h"

struct folder;
struct user;

enum node_kind {
	NODE_USERS,  /* the root of a multi-user mount: lists users */
	NODE_MAIL,   /* a Maildir++ root: INBOX, and the folders in it */
	NODE_FOLDER, /* ".a.b" in a Maildir++ root */
	NODE_CUR,    /* cur/, new/, tmp/ of a folder */
	NODE_NEW,
	NODE_TMP,
	NODE_PLAIN, /* everything else */
};

/*
 * What a node is can change while requests look at it: a folder is found, a
 * directory gets another name. So each of the three is read once where two
 * answers must agree.
 */
struct node {
	uint64_t ino;
	int fd; /* O_PATH; -1 for NODE_USERS */
	_Atomic enum node_kind kind;
	struct user *_Atomic user; /* whose tree; NULL for NODE_USERS */
	/* the legacy folder this is part of, or NULL */
	struct folder *_Atomic folder;
	/* What follows is the table's own. */
	uint64_t lookups;
	uint64_t parent; /* where it was last found */
	char *name;	 /* under which name, if it is a directory */
	uint64_t children;
	unsigned round; /* in which it was a victim last */
	struct node *next;
};

struct nodes;

/* What a node is. */
struct node_role {
	enum node_kind kind;
	struct user *user;
	struct folder *folder;
	uint64_t parent;  /* inode number of the directory it was found in */
	const char *name; /* under which name, if it is a directory; or NULL */
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

/** node_forget - the kernel drops @count lookups; numbers of messages and
 * unknown ones are fine */
void node_forget(struct nodes *t, uint64_t ino, uint64_t count);

/** node_count - how many nodes there are */
uint64_t node_count(struct nodes *t);

/*
 * A crowd. The kernel keeps every file it ever looked up until it needs the
 * memory, and each costs us a descriptor, of which there may be fewer. Beyond
 * half of what there are it is asked to forget, directory by directory, until
 * half of that is left (shed.h); requests for more wait a little meanwhile.
 */

/** nodes_limit - more than @many nodes are a crowd from now on */
void nodes_limit(struct nodes *t, uint64_t many);

/** nodes_await_crowd - wait until there is a crowd, then begin a round
 * Return: false after nodes_end(). */
bool nodes_await_crowd(struct nodes *t);

struct node_place {
	uint64_t parent;
	char name[NAME_MAX + 1];
};

/** nodes_victim - the directory with the most nodes in it that was none in this
 * round yet
 * Return: false when there is none, or no need any more: the round is over. */
bool nodes_victim(struct nodes *t, struct node_place *out);

/** nodes_settle - wait until there is no need for another victim, @ms at most
 */
void nodes_settle(struct nodes *t, unsigned ms);

/** nodes_end - nodes_await_crowd() and all who wait return */
void nodes_end(struct nodes *t);

/** nodes_wait_for_room - to be called before a request that may need a new
 * node; waits while there are far too many, but not for long */
void nodes_wait_for_room(struct nodes *t);

/** nodes_relieve - there was no descriptor to be had: begin a round, and wait
 * for its end
 * Return: whether some node was dropped, so that it can be tried again. */
bool nodes_relieve(struct nodes *t);
