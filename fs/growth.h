/*
 * growth.h - who asks how large a file is must not be told too soon.
 *
 * The kernel answers fstat() with what we say, but reads and maps only as far
 * as it knows itself that the file goes; that it learns from an answered write,
 * when the writer comes to run again. Between our write and that moment another
 * process could be told of octets that it cannot read: Dovecot maps its index
 * logs, and died of SIGBUS, or found that its log shrank.
 *
 * So a size is looked up when no write is under way that makes the file larger,
 * and the last one was a moment ago; the next ones wait for that. How long a
 * writer takes to run again nobody can know: what is done here makes it rare.
 *
 * Threads: all functions are safe. They wait for milliseconds at most.
 */
#pragma once

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

/* Of a file; zero at first. */
struct growth {
	_Atomic unsigned writing, asking;
	_Atomic int64_t grown_us; /* when it last became larger; */
	_Atomic pid_t writer;	  /* by whom */
};

/** growth_write - before a write that makes the file larger */
void growth_write(struct growth *g);
/** growth_written - it was made by @writer, and is about to be answered */
void growth_written(struct growth *g, pid_t writer);

/** growth_ask - before @asker is told the size */
void growth_ask(struct growth *g, pid_t asker);
/** growth_asked - it was looked up */
void growth_asked(struct growth *g);
