/*
 * journaltab.h - what the text of a journal (journal.h) comes to: tables in
 * memory, and text to tables and back. No file is touched here.
 *
 * A base has one UID and a UID one base; what is put last holds, and an older
 * entry with the same base or UID goes.
 *
 * Threads: none of its own; journal.c has the lock.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat/base.h"

/* An entry, or letters: those have letters and an empty base. */
struct journaltab_node {
	struct journaltab_node *next_base; /* in its chains */
	struct journaltab_node *next_uid;
	uint32_t uid;
	uint32_t letters;
	bool sure;
	char base[];
};

struct journaltab_heads {
	struct journaltab_node **heads;
	size_t size; /* a power of two */
	size_t count;
};

struct journaltab {
	struct journaltab_heads by_base, by_uid, letters;
	size_t lines; /* that the text has, without the first */
};

/** journaltab_init - an empty one. Return: 0; -ENOMEM, nothing to free */
MUST_CHECK int journaltab_init(struct journaltab *t);
void journaltab_fini(struct journaltab *t);

/** journaltab_new - a node to be put; free() if it is not. @base: "" for
 * letters. NULL when out of memory */
struct journaltab_node *journaltab_new(const char *base, uint32_t uid);
/** journaltab_put - @n belongs to the table; cannot fail */
void journaltab_put(struct journaltab *t, struct journaltab_node *n);
/** journaltab_put_letters - the same with a node of letters; 0: they go */
void journaltab_put_letters(struct journaltab *t, struct journaltab_node *n);
/** journaltab_drop - Return: false if it was not there */
bool journaltab_drop(struct journaltab *t, const char *base);

/* Return: NULL if it is not there; valid until the next change. */
const struct journaltab_node *journaltab_by_base(const struct journaltab *t,
						 const char *base);
const struct journaltab_node *journaltab_by_uid(const struct journaltab *t,
						uint32_t uid);
const struct journaltab_node *journaltab_letters(const struct journaltab *t,
						 uint32_t uid);
/** journaltab_live - lines that still say something */
size_t journaltab_live(const struct journaltab *t);

/** journaltab_next - the node after @n in @h's order, the first after NULL; of
 * t->by_uid all entries, of t->letters all letters */
const struct journaltab_node *journaltab_next(const struct journaltab_heads *h,
					      const struct journaltab_node *n);

/**
 * journaltab_parse - @text into an empty table
 * @used_out: octets that count; behind them is at most a torn line
 * Return: 0; -EBADMSG; -ENOMEM. journaltab_fini() is due in any case.
 */
MUST_CHECK int journaltab_parse(struct journaltab *t, const char *text,
				size_t len, size_t *used_out);
/** journaltab_format - the shortest text, NUL-terminated, to be freed.
 * Return: 0; -ENOMEM */
MUST_CHECK int journaltab_format(const struct journaltab *t, char **out,
				 size_t *len_out);

/* Longest line: "letters " or "try ", 10 digits, ' ', an escaped name, LF. */
enum { JOURNALTAB_LINE = 32 + 4 * 255 };

/** journaltab_line - the line that puts @n; @out: JOURNALTAB_LINE octets.
 * Return: its length */
size_t journaltab_line(const struct journaltab_node *n, char *out);
/** journaltab_out_line - the line that drops @base */
size_t journaltab_out_line(const char *base, char *out);
/** journaltab_is_base - whether it can be a file's name */
bool journaltab_is_base(const char *base);
