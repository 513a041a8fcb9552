/*
 * progress.h - one line on a terminal that says how far it is; nothing where
 * standard error is not a terminal.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "tools/crew.h"

struct progress {
	bool on;
	bool shown; /* the line stands there */
	int64_t start_ms, last_ms;
};

void progress_start(struct progress *p);
/** progress_show - may be called more often than anybody reads */
void progress_show(struct progress *p, const struct crew_progress *now);
/** progress_clear - before anything else is written to the terminal */
void progress_clear(struct progress *p);
/** progress_line - the text of it, @ms after the start. Return: @out */
const char *progress_line(const struct crew_progress *now, int64_t ms,
			  char *out, size_t size);
