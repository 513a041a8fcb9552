/*
 * verify.h - two stores compared: every user, every folder, every message.
 */
#pragma once

#include <stdbool.h>

#include "compat/base.h"
#include "tools/names.h"
#include "tools/report.h"
#include "tools/source.h"

struct verify {
	struct source *side[2];
	const struct names *users, *folders; /* NULL, or only these */
	unsigned jobs;
	bool crlf; /* bare LF instead of CR LF is no difference */
	struct report *report;
};

/** verify_run - Return: 0, @result says how it ended; -ENOENT: no such user;
 * -errno */
MUST_CHECK int verify_run(const struct verify *v, enum report_result *result);
