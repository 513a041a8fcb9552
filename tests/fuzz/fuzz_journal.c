/*
 * The input as a journal's text: what is accepted is written to a text that
 * reads the same. And as a base name in one: it survives.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "compat/journaltab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_has_all(const struct journaltab *t,
			  const struct journaltab *of)
{
	const struct journaltab_node *n = NULL, *m;

	while ((n = journaltab_next(&of->by_uid, n))) {
		m = journaltab_by_base(t, n->base);
		assert(m && m == journaltab_by_uid(t, n->uid));
		assert(m->uid == n->uid && m->sure == n->sure);
	}
	while ((n = journaltab_next(&of->letters, n))) {
		m = journaltab_letters(t, n->uid);
		assert(m && m->letters == n->letters && n->letters);
	}
}

static void check_same(const struct journaltab *t)
{
	struct journaltab again;
	char *text;
	size_t len, used;

	assert(journaltab_format(t, &text, &len) == 0);
	assert(journaltab_init(&again) == 0);
	assert(journaltab_parse(&again, text, len, &used) == 0);
	assert(used == len);
	assert(again.lines == journaltab_live(t));
	assert(journaltab_live(&again) == journaltab_live(t));
	check_has_all(&again, t);
	check_has_all(t, &again);
	journaltab_fini(&again);
	free(text);
}

static void check_text(const char *text, size_t len)
{
	struct journaltab t;
	size_t used;

	assert(journaltab_init(&t) == 0);
	if (journaltab_parse(&t, text, len, &used) == 0) {
		assert(used > 0 && used <= len);
		assert(text[used - 1] == '\n');
		assert(t.by_base.count == t.by_uid.count);
		assert(journaltab_live(&t) <= t.lines);
		check_same(&t);
	}
	journaltab_fini(&t);
}

static void check_base(const char *text, size_t len)
{
	struct journaltab t;
	struct journaltab_node *n;
	char *base = strndup(text, len);

	assert(base && journaltab_init(&t) == 0);
	if (journaltab_is_base(base)) {
		n = journaltab_new(base, 7);
		assert(n);
		journaltab_put(&t, n);
		check_same(&t);
		assert(journaltab_drop(&t, base));
		assert(journaltab_live(&t) == 0);
	}
	journaltab_fini(&t);
	free(base);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Of exactly this size, so that a sanitizer sees a read beyond it. */
	char *text = malloc(size ? size : 1);

	assert(text);
	memcpy(text, data, size);
	check_text(text, size);
	check_base(text, size);
	free(text);
	return 0;
}
