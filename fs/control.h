/*
 * control.h - the socket through which commands talk to the daemon.
 *
 * A Unix stream socket, "control" in the index directory. A request is one
 * JSON object on one line, {"command":"status"}; the answer is one JSON object
 * on one line, {"error":"..."} if it cannot be had. Only root and the user the
 * daemon runs as are answered (SO_PEERCRED). One thread serves one connection
 * at a time; a client that says nothing for some seconds is dropped.
 */
#pragma once

#include "compat/base.h"
#include "fs/fs.h"

struct control;

/** control_start - make the socket and a thread that serves it */
MUST_CHECK int control_start(struct fs *fs, struct control **out);
/** control_stop - end the thread, remove the socket; NULL is fine */
void control_stop(struct control *c);
