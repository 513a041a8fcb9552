/*
 * report.h - what becomes of what verify finds: text, JSON or a page.
 *
 *	begin
 *	    user_begin  finding...  (folder_begin  finding...  folder_end)...
 *	    user_end
 *	    ...
 *	end
 *
 * Errors of writing are left in the stream, others in ->err: the caller looks
 * at both at the end.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "compat/base.h"
#include "tools/finding.h"
#include "tools/source.h"

enum report_result { REPORT_SAME, REPORT_DIFFERENT, REPORT_TROUBLE };

struct report;

struct report_ops {
	void (*begin)(struct report *r);
	void (*user_begin)(struct report *r, const char *user);
	void (*folder_begin)(struct report *r, const char *dir,
			     const struct tally *t);
	/* @dir: NULL for one about the user himself */
	void (*finding)(struct report *r, const char *user, const char *dir,
			const struct finding *f);
	void (*folder_end)(struct report *r);
	void (*user_end)(struct report *r, const char *user,
			 const struct tally *t);
	void (*end)(struct report *r, const struct tally *all,
		    enum report_result result);
	void (*free)(struct report *r);
};

struct report {
	const struct report_ops *ops;
	FILE *f;
	const struct source *side[2];
	bool err; /* something could not be kept */
};

/** report_text, ... - NULL when out of memory; @f is the caller's */
struct report *report_text(FILE *f, const struct source *const side[2]);
struct report *report_json(FILE *f, const struct source *const side[2]);
struct report *report_html(FILE *f, const struct source *const side[2]);

/** report_tee - both get everything; the result owns them. NULL when out of
 * memory, and they are freed */
struct report *report_tee(struct report *one, struct report *two);

const char *report_result_name(enum report_result result);

/** report_user - a name as it can be shown: escaped; "" when there is but one.
 * @out: REPORT_USER + 1 octets. Return: @out */
enum { REPORT_USER = 4 * MANIFEST_USER_MAX };
const char *report_user(const char *user, char *out);

/** report_spec - where side @i is; escaped if it is not UTF-8. Return: text,
 * perhaps @out, of REPORT_SPEC octets */
enum { REPORT_SPEC = 4 * 4096 };
const char *report_spec(const struct report *r, int i, char *out);

/**
 * report_sum - how the messages of side @i come about: "1,204 = 1,180 the same
 * + 24 delivered since"
 * @out: REPORT_SUM octets. Return: @out
 */
enum { REPORT_SUM = 400 };
const char *report_sum(const struct tally *t, int i, char *out);

/** report_origin - where side B's messages are from, as far as their names tell
 * Return: @out, REPORT_SUM octets; "" when nothing is known. */
const char *report_origin(const struct tally *t, char *out);
/** report_what - a finding without its place: "flags: S in A, FS in B" */
void report_what(FILE *f, const struct finding *found);
