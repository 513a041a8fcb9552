/*
 * shed.h - asking the kernel to forget directories when descriptors run short.
 *
 * A thread that serves no request waits for a crowd (node.h) and has the names
 * of its biggest directories forgotten, and with them what the kernel keeps of
 * everything in them that is not in use. It comes back with the next lookup.
 *
 * The kernel takes the lock of the directory that holds the name, which a
 * request may hold that waits for us: so requests must go on being answered
 * until the thread has ended, or neither would end, not even when killed.
 */
#pragma once

#include <stdint.h>

#include "compat/base.h"
#include "fs/node.h"

struct shed;

/* Has the kernel forget @name in directory @parent; what it cannot is no
 * failure. */
typedef void shed_forget_fn(void *arg, uint64_t parent, const char *name);

/** shed_start - as nodes_limit() says, from now on */
MUST_CHECK int shed_start(struct nodes *nodes, uint64_t files,
			  shed_forget_fn *forget, void *arg, struct shed **out);

/** shed_stop - end the thread; NULL is fine
 * @answer: called with the @arg of shed_start() until it has ended; answers a
 * request, or waits for one for some milliseconds */
void shed_stop(struct shed *s, void (*answer)(void *arg));
