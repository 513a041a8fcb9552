#include "compat/letters.h"

#include <string.h>
#include <strings.h>

#include "compat/uidlist.h"

void letters_clear(struct letters *l)
{
	memset(l->slot, -1, sizeof(l->slot));
	memset(l->letter, -1, sizeof(l->letter));
}

static int find(const struct keywords *k, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (k->name[i][0] && strcasecmp(k->name[i], name) == 0)
			return (int)i;
	return -1;
}

void letters_map(struct letters *out, const struct keywords *dovecot,
		 const struct keywords *box)
{
	letters_clear(out);
	for (unsigned i = 0; i < MAILDIR_LETTERS; i++) {
		int slot = dovecot->name[i][0]
			? find(box, KEYWORD_SLOTS, dovecot->name[i])
			: -1;

		out->slot[i] = (int8_t)slot;
		/* Of two letters with one name the first one shows. */
		if (slot >= 0 && out->letter[slot] < 0)
			out->letter[slot] = (int8_t)i;
	}
}

bool letters_equal(const struct letters *a, const struct letters *b)
{
	return memcmp(a->slot, b->slot, sizeof(a->slot)) == 0 &&
		memcmp(a->letter, b->letter, sizeof(a->letter)) == 0;
}

static bool is_free(const struct keywords *dovecot, unsigned letter,
		    uint32_t taken)
{
	return letter < MAILDIR_LETTERS && dovecot->name[letter][0] == '\0' &&
		!(taken & (UINT32_C(1) << letter));
}

static bool add_name(struct keywords *dovecot, unsigned slot, const char *name,
		     uint32_t taken)
{
	unsigned letter = 0;

	if (is_free(dovecot, slot, taken))
		letter = slot;
	while (letter < MAILDIR_LETTERS && !is_free(dovecot, letter, taken))
		letter++;
	if (letter == MAILDIR_LETTERS)
		return false;
	memcpy(dovecot->name[letter], name, strlen(name) + 1);
	return true;
}

bool letters_add(struct keywords *dovecot, const struct keywords *box,
		 uint32_t taken)
{
	bool added = false;

	for (unsigned i = 0; i < KEYWORD_SLOTS; i++) {
		const char *name = box->name[i];

		if (*name && dkeywords_can_show(name) &&
		    find(dovecot, MAILDIR_LETTERS, name) < 0)
			added |= add_name(dovecot, i, name, taken);
	}
	return added;
}

uint32_t letters_of(const struct letters *l, uint32_t slots)
{
	uint32_t out = 0;

	for (unsigned i = 0; i < KEYWORD_SLOTS && slots; i++, slots >>= 1)
		if ((slots & 1) && l->letter[i] >= 0)
			out |= UINT32_C(1) << l->letter[i];
	return out;
}

uint32_t letters_slots(const struct letters *l, uint32_t letters,
		       uint32_t *rest_out)
{
	uint32_t out = 0;

	*rest_out = 0;
	for (unsigned i = 0; i < MAILDIR_LETTERS; i++) {
		if (!(letters & (UINT32_C(1) << i)))
			continue;
		if (l->slot[i] >= 0)
			out |= UINT32_C(1) << l->slot[i];
		else
			*rest_out |= UINT32_C(1) << i;
	}
	return out;
}
