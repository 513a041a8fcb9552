#include "tools/mounted.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/text.h"

#define SOURCE_PREFIX "janusmail:"

void mounted_fini(struct mounted *m)
{
	free(m->mountpoint);
	free(m->index);
	*m = (struct mounted){ 0 };
}

/* The kernel writes blanks and backslashes as three octal digits. */
static void unescape(char *s)
{
	char *out = s;

	for (; *s; s++, out++) {
		*out = *s;
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] &&
		    s[3]) {
			*out = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 +
				      (s[3] - '0'));
			s += 3;
		}
	}
	*out = '\0';
}

/* "36 35 0:42 / /srv/mail rw,... - fuse.janusmail janusmail:/index rw" */
static int parse_line(char *line, struct mounted *out)
{
	char *fields[5], *rest = line, *tail = strstr(line, " - ");
	char *type, *source;

	if (!tail)
		return -ENOENT;
	*tail = '\0';
	tail += 3;
	type = strsep(&tail, " ");
	source = strsep(&tail, " ");
	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		fields[i] = strsep(&rest, " ");
	if (!fields[4] || !source || strcmp(type, "fuse.janusmail") != 0 ||
	    strncmp(source, SOURCE_PREFIX, strlen(SOURCE_PREFIX)) != 0)
		return -ENOENT;
	unescape(fields[4]);
	unescape(source);
	out->mountpoint = strdup(fields[4]);
	out->index = strdup(source + strlen(SOURCE_PREFIX));
	if (out->mountpoint && out->index)
		return 0;
	mounted_fini(out);
	return -ENOMEM;
}

static bool is_in(const char *path, const char *mountpoint)
{
	size_t len = strlen(mountpoint);

	return strncmp(path, mountpoint, len) == 0 &&
		(path[len] == '\0' || path[len] == '/');
}

int mounted_find(const char *path, struct mounted *out)
{
	AUTO_FREE char *real = realpath(path, NULL);
	AUTO_FREE char *line = NULL;
	size_t size = 0;
	int ret = -ENOENT;
	FILE *f;

	if (!real)
		return -errno;
	f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return -errno;
	*out = (struct mounted){ 0 };
	/* The last line that fits is the mount on top. */
	while (getline(&line, &size, f) >= 0) {
		struct mounted m = { 0 };

		if (parse_line(line, &m) < 0)
			continue;
		if (is_in(real, m.mountpoint)) {
			mounted_fini(out);
			*out = m;
			ret = 0;
		} else {
			mounted_fini(&m);
		}
	}
	(void)fclose(f);
	return ret;
}
