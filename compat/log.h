/*
 * log.h - one line per event, "module: object: what: why", no final stop.
 *
 * Goes to stderr until log_to_syslog() is called (the daemon, once it is in
 * the background). Thread-safe; a line is written with one write(2).
 * Octets outside printable ASCII and UTF-8 are the caller's to escape (text
 * that comes from disk goes through text_escape() first).
 */
#pragma once

#include "compat/base.h"

enum log_level { LOG_LEVEL_ERR, LOG_LEVEL_WARN, LOG_LEVEL_INFO };

/** log_to_syslog - from now on use syslog(3), facility mail, as @ident */
void log_to_syslog(const char *ident);
/** log_line - write one line at @level; use the macros below */
void log_line(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_err(...) log_line(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warn(...) log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)

/*
 * Tracing: JANUSMAIL_TRACE=store,sync,lock,fuse,view turns channels on. The
 * macro costs one load and a branch when its channel is off.
 */
enum log_channel {
	LOG_STORE = 1U << 0,
	LOG_SYNC = 1U << 1,
	LOG_LOCK = 1U << 2,
	LOG_FUSE = 1U << 3,
	LOG_VIEW = 1U << 4,
};
extern unsigned log_channels;

/** log_trace_init - read JANUSMAIL_TRACE; unknown names are reported */
void log_trace_init(void);
/** log_trace_line - write one trace line; use log_trace() */
void log_trace_line(enum log_channel ch, const char *fmt, ...)
	PRINTF_LIKE(2, 3);

#define log_trace(ch, ...)                                                     \
	do {                                                                   \
		if (log_channels & (unsigned)(ch))                             \
			log_trace_line((ch), __VA_ARGS__);                     \
	} while (0)
