#include "fs/fuseopts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool fuseopts_is_noise(const char *word)
{
	static const char *const noise[] = { "defaults", "_netdev", "nofail",
					     "auto",	 "noauto",  "rw",
					     "user",	 "nouser",  "users" };

	for (size_t i = 0; i < ARRAY_LEN(noise); i++)
		if (strcmp(word, noise[i]) == 0)
			return true;
	return strncmp(word, "x-", 2) == 0;
}

bool fuseopts_is_known(const char *word)
{
	static const char *const known[] = {
		"ro",	      "suid",	     "nosuid",
		"dev",	      "nodev",	     "exec",
		"noexec",     "async",	     "sync",
		"dirsync",    "atime",	     "noatime",
		"nodiratime", "relatime",    "allow_root",
		"debug",      "allow_other", "default_permissions",
	};
	static const char *const valued[] = { "fsname=", "subtype=",
					      "max_read=", "context=" };

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(word, known[i]) == 0)
			return true;
	for (size_t i = 0; i < ARRAY_LEN(valued); i++)
		if (strncmp(word, valued[i], strlen(valued[i])) == 0)
			return true;
	return false;
}

int fuseopts_append(char **all, const char *word)
{
	size_t used = *all ? strlen(*all) : 0;
	char *to = realloc(*all, used + 2 * strlen(word) + 2);

	if (!to)
		return -ENOMEM;
	*all = to;
	to += used;
	if (used > 0)
		*to++ = ',';
	for (; *word; word++) {
		if (*word == ',' || *word == '\\')
			*to++ = '\\';
		*to++ = *word;
	}
	*to = '\0';
	return 0;
}
