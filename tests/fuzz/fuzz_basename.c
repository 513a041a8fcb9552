/*
 * The input is a file name. One of ours must be written again octet by octet;
 * the letters of any other must survive being written in our order.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "compat/basename.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_name(const char *name, size_t len)
{
	char again[BASENAME_MAX + 1];
	struct basename b;
	int err = basename_parse(name, len, &b);

	assert(err == 0 || err == -ENOENT);
	if (err < 0)
		return;
	basename_format(&b, again);
	assert(strlen(again) == len && memcmp(again, name, len) == 0);
}

static void check_info(const char *name, size_t len)
{
	char info[INFO_MAX + 1];
	uint32_t flags, keywords, flags2, keywords2;
	size_t base = info_split(name, len);

	assert(base <= len);
	assert(base == len || (len - base >= 3 && name[base] == ':'));
	info_parse(name, len, &flags, &keywords);
	assert(!(flags & ~(uint32_t)MSG_SYSTEM));
	assert(!(keywords >> MAILDIR_LETTERS));
	info_format(flags, keywords, info);
	assert(strlen(info) <= INFO_MAX && info_split(info, 3) == 0);
	info_parse(info, strlen(info), &flags2, &keywords2);
	assert(flags == flags2 && keywords == keywords2);
	if (base == len)
		assert(!flags && !keywords);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *name = (const char *)data;

	check_name(name, len);
	check_name(name, info_split(name, len));
	check_info(name, len);
	return 0;
}
