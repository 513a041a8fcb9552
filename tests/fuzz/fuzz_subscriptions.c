/*
 * The input as a subscriptions file, which is written again and read to the
 * same, and as a line of .mailboxlist.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/foldername.h"
#include "compat/subscriptions.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int write_dir(const char *dir, void *arg)
{
	size_t len = strlen(dir);

	assert(!len ||
	       (len >= 2 && len <= FOLDERNAME_MAX && dir[0] == '.' &&
		dir[len - 1] != '.'));
	assert(!strchr(dir, '/') && !strstr(dir, ".."));
	subscription_write(arg, dir);
	return 0;
}

static int rewrite(const char *text, size_t len, char **out, size_t *out_len)
{
	FILE *f = open_memstream(out, out_len);
	int rc;

	assert(f);
	subscription_write_header(f);
	rc = subscription_parse(text, len, write_dir, f);
	assert(fclose(f) == 0);
	return rc;
}

static void check_file(const char *text, size_t len)
{
	char *one, *two;
	size_t one_len, two_len;

	if (rewrite(text, len, &one, &one_len) == 0) {
		assert(rewrite(one, one_len, &two, &two_len) == 0);
		assert(one_len == two_len && memcmp(one, two, one_len) == 0);
		free(two);
	}
	free(one);
}

static void check_line(const char *line, size_t len, const char *prefix)
{
	const char *name, *again;
	size_t name_len, again_len;
	enum subscription_kind kind =
		subscription_classify(line, len, prefix, &name, &name_len);

	assert(name >= line && name + name_len <= line + len);
	if (kind != SUBSCRIPTION_FOLDER) {
		assert(name == line && name_len == len);
		return;
	}
	assert(!name_len || name[name_len - 1] != '/');
	if (!*prefix && name_len && *name != '~' && *name != '#' &&
	    *name != '{' && *name != '/') {
		kind = subscription_classify(name, name_len, prefix, &again,
					     &again_len);
		assert(kind == SUBSCRIPTION_INBOX ||
		       (again == name && again_len == name_len));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Of exactly this size, so that a sanitizer sees a read beyond it. */
	char *text = malloc(size ? size : 1);

	assert(text);
	memcpy(text, data, size);
	check_file(text, size);
	check_line(text, size, "");
	check_line(text, size, "mail");
	free(text);
	return 0;
}
