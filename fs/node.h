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
	uint64_t lookups;
	struct node *next;
};

struct nodes;

/* What a node is. */
struct node_role {
	enum node_kind kind;
	struct user *user;
	struct folder *folder;
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
