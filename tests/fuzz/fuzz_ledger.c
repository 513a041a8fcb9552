/*
 * The input as a ledger: what is accepted is written to a text that reads the
 * same. And as a legacy name in one: it survives.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "compat/ledger.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct ledger *l)
{
	struct ledger again;
	char *one, *two;
	size_t one_len, two_len, i;

	assert(ledger_format(l, &one, &one_len) == 0);
	assert(ledger_parse(one, one_len, &again) == 0);
	assert(again.count == l->count);
	for (i = 0; i < l->count; i++) {
		assert(strcmp(again.folders[i].dir, l->folders[i].dir) == 0);
		assert(strcmp(again.folders[i].legacy, l->folders[i].legacy) ==
		       0);
		assert(again.folders[i].number == l->folders[i].number);
		assert(again.folders[i].place == l->folders[i].place);
		assert(again.folders[i].phase == l->folders[i].phase);
		assert(again.folders[i].ino == l->folders[i].ino);
		assert(!again.folders[i].moved_from ==
		       !l->folders[i].moved_from);
		assert(!again.folders[i].was_legacy ==
		       !l->folders[i].was_legacy);
		assert(!again.folders[i].trash == !l->folders[i].trash);
	}
	assert(ledger_format(&again, &two, &two_len) == 0);
	assert(one_len == two_len && memcmp(one, two, one_len) == 0);
	/* Without its last octet it is torn. */
	ledger_fini(&again);
	assert(ledger_parse(one, one_len - 1, &again) != 0);
	free(one);
	free(two);
}

static void check_text(const char *text, size_t len)
{
	struct ledger l;
	size_t i;

	if (ledger_parse(text, len, &l) != 0) {
		assert(l.count == 0 && !l.folders);
		return;
	}
	for (i = 0; i < l.count; i++) {
		assert(l.folders[i].number);
		assert(!*l.folders[i].dir || *l.folders[i].dir == '.');
		assert(!strchr(l.folders[i].dir, '/'));
		assert((l.folders[i].phase == PHASE_DELETING) ==
		       (l.folders[i].trash != NULL));
		assert(!l.folders[i].trash ||
		       (l.folders[i].trash[0] != '.' &&
			!strchr(l.folders[i].trash, '/')));
	}
	check_same(&l);
	ledger_fini(&l);
}

static void check_legacy(const char *text, size_t len)
{
	struct ledger l = { .count = 0 };
	struct ledger_folder *f;
	char *legacy = strndup(text, len);

	assert(legacy);
	f = ledger_add(&l, ".d", legacy);
	assert(f);
	f->number = 1;
	f->uidvalidity = 1;
	memset(f->guid, 'a', sizeof(f->guid) - 1);
	check_same(&l);
	ledger_fini(&l);
	free(legacy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Of exactly this size, so that a sanitizer sees a read beyond it. */
	char *text = malloc(size ? size : 1);

	assert(text);
	memcpy(text, data, size);
	check_text(text, size);
	check_legacy(text, size);
	free(text);
	return 0;
}
