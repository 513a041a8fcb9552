#include "tools/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "compat/clock.h"
#include "tools/human.h"

enum { EVERY_MS = 250 };

/* What was done in less than this says little about the rest. */
static const double enough = 0.001;

void progress_start(struct progress *p)
{
	*p = (struct progress){ .on = isatty(STDERR_FILENO) == 1,
				.start_ms = clock_ms() };
}

const char *progress_line(const struct crew_progress *now, int64_t ms,
			  char *out, size_t size)
{
	double part = now->part < 0 ? 0 : now->part > 1 ? 1 : now->part;
	double seconds = (double)(ms > 0 ? ms : 1) / 1000;
	char done[HUMAN_MAX], users[HUMAN_MAX], messages[HUMAN_MAX];
	char rate[HUMAN_MAX], left[HUMAN_MAX];
	bool known = part > enough;

	(void)human_seconds(known ? (uint64_t)(seconds / part * (1 - part) +
					       0.5)
				  : 0,
			    left);
	(void)snprintf(out, size,
		       "%d %%, %s of %s users, %s messages, %s/s, %s left",
		       (int)(part * 100), human_count(now->users_done, done),
		       human_count(now->users, users),
		       human_count(now->messages, messages),
		       human_count((uint64_t)((double)now->messages / seconds),
				   rate),
		       known ? left : "?");
	return out;
}

void progress_show(struct progress *p, const struct crew_progress *now)
{
	int64_t ms = clock_ms();
	char line[200];

	if (!p->on || ms - p->last_ms < EVERY_MS)
		return;
	(void)fprintf(stderr, "\r%s\033[K",
		      progress_line(now, ms - p->start_ms, line, sizeof(line)));
	p->shown = true;
	p->last_ms = ms;
}

void progress_clear(struct progress *p)
{
	if (p->shown)
		(void)fputs("\r\033[K", stderr);
	p->shown = false;
}
