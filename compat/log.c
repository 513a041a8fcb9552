#include "compat/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

enum { LINE_MAX_LEN = 2048 };

unsigned log_channels;
static bool use_syslog;

static const struct {
	const char *name;
	enum log_channel ch;
} channels[] = {
	{ "store", LOG_STORE }, { "sync", LOG_SYNC }, { "lock", LOG_LOCK },
	{ "fuse", LOG_FUSE },	{ "view", LOG_VIEW },
};

void log_to_syslog(const char *ident)
{
	openlog(ident, LOG_PID, LOG_MAIL);
	use_syslog = true;
}

static void put_line(const char *prefix, const char *fmt, va_list ap)
	PRINTF_LIKE(2, 0);

static void put_line(const char *prefix, const char *fmt, va_list ap)
{
	char line[LINE_MAX_LEN];
	size_t len;
	int n;

	n = snprintf(line, sizeof(line), "%s", prefix);
	len = n > 0 ? (size_t)n : 0;
	n = vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	if (n > 0)
		len += (size_t)n;
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	line[len++] = '\n';
	/* Nothing can be done about a log that cannot be written. */
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}

void log_line(enum log_level level, const char *fmt, ...)
{
	static const int priority[] = { LOG_ERR, LOG_WARNING, LOG_INFO };
	static const char *const prefix[] = {
		"janusmail: error: ", "janusmail: warning: ", "janusmail: "
	};
	va_list ap;

	va_start(ap, fmt);
	if (use_syslog)
		vsyslog(priority[level], fmt, ap);
	else
		put_line(prefix[level], fmt, ap);
	va_end(ap);
}

void log_trace_line(enum log_channel ch, const char *fmt, ...)
{
	char prefix[32];
	va_list ap;
	size_t i;

	for (i = 0; i < ARRAY_LEN(channels) - 1; i++)
		if (channels[i].ch == ch)
			break;
	if (snprintf(prefix, sizeof(prefix), "trace %s: ", channels[i].name) <
	    0)
		return;
	va_start(ap, fmt);
	if (use_syslog)
		vsyslog(LOG_DEBUG, fmt, ap);
	else
		put_line(prefix, fmt, ap);
	va_end(ap);
}

static void channel_on(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(channels); i++) {
		if (strlen(channels[i].name) == len &&
		    memcmp(channels[i].name, name, len) == 0) {
			log_channels |= channels[i].ch;
			return;
		}
	}
	if (len > 0)
		log_warn("JANUSMAIL_TRACE: no channel '%.*s' (store, sync, "
			 "lock, fuse, view)",
			 (int)len, name);
}

void log_trace_init(void)
{
	/* Called once, before any thread exists. */
	const char *s =
		getenv("JANUSMAIL_TRACE"); /* NOLINT(concurrency-mt-unsafe) */

	while (s && *s) {
		size_t len = strcspn(s, ",");

		channel_on(s, len);
		s += len;
		if (*s == ',')
			s++;
	}
}
