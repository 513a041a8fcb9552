/*
 * letters.h - which letter of a Maildir name stands for which keyword slot.
 *
 * Letter i is the keyword that dovecot-keywords gives the number i; slot n is
 * the one that the mailbox's own table names there. The two belong together by
 * name, in which case of ASCII letters does not matter. A folder is seeded so
 * that both numbers are the same, but each side gives out new ones by itself.
 *
 * Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "compat/basename.h"
#include "compat/msg.h"

struct letters {
	int8_t slot[MAILDIR_LETTERS]; /* of a letter; -1: none */
	int8_t letter[KEYWORD_SLOTS]; /* of a slot; -1: none */
};

/** letters_clear - no letter has a slot */
void letters_clear(struct letters *l);
/** letters_map - by the names in dovecot-keywords, and in the mailbox */
void letters_map(struct letters *out, const struct keywords *dovecot,
		 const struct keywords *box);
bool letters_equal(const struct letters *a, const struct letters *b);

/**
 * letters_add - give the mailbox's keywords letters that they have not yet: the
 * one with their slot's number, or else the first one without a name
 * @taken: letters that are in use although @dovecot has no name for them
 * Names that IMAP cannot show, and those for which no letter is left, get none.
 * Return: whether @dovecot was changed.
 */
bool letters_add(struct keywords *dovecot, const struct keywords *box,
		 uint32_t taken);

/** letters_of - the letters that show for the keywords @slots, as bits */
uint32_t letters_of(const struct letters *l, uint32_t slots);
/** letters_slots - the slots that @letters stand for
 * @rest_out: the letters that have none */
uint32_t letters_slots(const struct letters *l, uint32_t letters,
		       uint32_t *rest_out);
