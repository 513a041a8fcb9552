/*
 * convert_run.h - all folders of a site, by several threads, with a pace that
 * they share, progress and a report.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/base.h"
#include "tools/convert_site.h"

/* Exit statuses of janusmail convert. */
enum {
	CONVERT_ALL = 0,	 /* everything is there */
	CONVERT_QUARANTINED = 1, /* the report names messages to look at */
	CONVERT_TROUBLE = 2,	 /* something is not finished */
};

struct convert_how {
	unsigned jobs;
	uint64_t rate;	   /* octets a second; 0: any */
	unsigned max_load; /* hundredths; 0: any */
	bool json;
	struct names users, folders; /* sorted; empty: all */
};

/** convert_run - Return: exit status */
MUST_CHECK int convert_run(struct convert_site *s,
			   const struct convert_how *how);
