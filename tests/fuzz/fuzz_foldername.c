/*
 * Whatever the legacy name: a valid Maildir++ directory name, and so are its
 * variants.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "compat/foldername.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *dir)
{
	size_t len = strlen(dir), i;

	assert(len >= 2 && len <= FOLDERNAME_MAX);
	assert(dir[0] == '.' && dir[1] != '~');
	assert(dir[len - 1] != '.');
	assert(foldername_mutf7_valid(dir, len));
	assert(strcasecmp(dir, ".INBOX") != 0);
	assert(strncasecmp(dir, ".INBOX.", 7) != 0);
	for (i = 0; i < len; i++) {
		assert(dir[i] != '/');
		assert(dir[i] != '.' || dir[i + 1] != '.');
	}
}

static void check_name(const char *legacy, enum foldername_dots dots)
{
	char dir[FOLDERNAME_MAX + 1], again[FOLDERNAME_MAX + 1];
	bool changed, changed_again;

	foldername_map(legacy, dots, dir, &changed);
	check(dir);
	foldername_map(legacy, dots, again, &changed_again);
	assert(strcmp(dir, again) == 0 && changed == changed_again);
	if (!changed && dots == DOTS_UNDERSCORE) {
		/* Only the separator differs. */
		assert(strlen(legacy) == strlen(dir) - 1);
		for (size_t i = 0; legacy[i]; i++)
			assert(legacy[i] == dir[i + 1] ||
			       (legacy[i] == '/' && dir[i + 1] == '.'));
	}
	foldername_variant(dir, 2, again);
	check(again);
	assert(strcmp(dir, again) != 0);
	foldername_variant(dir, UINT32_MAX, again);
	check(again);
}

/* The input as a directory: what has a legacy name is shown as it. */
static void check_dir(const char *dir, enum foldername_dots dots)
{
	char legacy[FOLDERNAME_MAX + 1], again[FOLDERNAME_MAX + 1];
	bool changed;

	if (foldername_legacy(dir, dots, legacy) != 0)
		return;
	foldername_map(legacy, dots, again, &changed);
	assert(!changed && strcmp(again, dir) == 0);
	assert(legacy[0] != '/' && legacy[0] != '.' && !strstr(legacy, "/."));
	assert(!strstr(legacy, "//") && legacy[strlen(legacy) - 1] != '/');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *legacy = malloc(size + 1);

	assert(legacy);
	memcpy(legacy, data, size);
	legacy[size] = '\0';
	check_name(legacy, DOTS_UNDERSCORE);
	check_name(legacy, DOTS_ESCAPE);
	check_dir(legacy, DOTS_UNDERSCORE);
	check_dir(legacy, DOTS_ESCAPE);
	free(legacy);
	return 0;
}
