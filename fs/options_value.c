/*
 * Options with a value, and what is said of values that are no good.
 */
#include "fs/options_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/io.h"
#include "compat/layout.h"
#include "compat/text.h"

enum { SECONDS_MAX = 3600 };

int options_fail(struct options_parser *p, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(p->err, p->err_size, fmt, ap);
	va_end(ap);
	return code;
}

int options_set_path(struct options_parser *p, const char *name,
		     const char *value, char **out)
{
	char path[PATH_MAX];
	int ret;

	if (*value == '\0')
		return options_fail(p, -EINVAL, "%s= needs a directory", name);
	/* The daemon changes its directory, so paths are made absolute. */
	ret = io_absolute(value, path, sizeof(path));
	if (ret == -ENAMETOOLONG)
		return options_fail(p, -EINVAL, "%s=%s: path too long", name,
				    value);
	if (ret < 0)
		return options_fail(p, ret, "%s=%s: no current directory", name,
				    value);
	free(*out);
	*out = strdup(path);
	return *out ? 0 : options_fail(p, -ENOMEM, "out of memory");
}

static int number(const char *s, const char **end, uint64_t max, uint64_t *out)
{
	const uint8_t *q = (const uint8_t *)s;
	int ret = text_number(&q, q + strlen(s), max, out);

	*end = (const char *)q;
	return ret;
}

static int set_seconds(struct options_parser *p, const char *name,
		       const char *value, uint64_t least, unsigned *ms_out)
{
	const char *end;
	uint64_t s;

	if (number(value, &end, SECONDS_MAX, &s) < 0 || *end || s < least)
		return options_fail(p, -EINVAL,
				    "%s=%s: write whole seconds, %ju to %d",
				    name, value, (uintmax_t)least, SECONDS_MAX);
	*ms_out = (unsigned)s * 1000;
	return 0;
}

static int set_poll(struct options_parser *p, const char *value)
{
	return set_seconds(p, "poll", value, 1, &p->out->poll_ms);
}

/* Return: which of the two words it is; -EINVAL. */
static int choose(struct options_parser *p, const char *name, const char *value,
		  const char *first, const char *second)
{
	if (strcmp(value, first) == 0)
		return 0;
	if (strcmp(value, second) == 0)
		return 1;
	return options_fail(p, -EINVAL, "%s=%s: write %s or %s", name, value,
			    first, second);
}

static int set_scan(struct options_parser *p, const char *value)
{
	int n = choose(p, "scan", value, "background", "touch");

	p->out->scan = n == 1 ? SCAN_TOUCH : SCAN_BACKGROUND;
	return n < 0 ? n : 0;
}

static int set_mirror(struct options_parser *p, const char *value)
{
	int n = choose(p, "mirror", value, "on", "off");

	p->out->mirror_off = n == 1;
	return n < 0 ? n : 0;
}

static int set_watch(struct options_parser *p, const char *value)
{
	static const char *const words[] = { "inotify", "poll", "off" };

	for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(value, words[i]) == 0) {
			p->out->watch = (enum options_watch)i;
			return 0;
		}
	}
	return options_fail(p, -EINVAL, "watch=%s: write inotify, poll or off",
			    value);
}

static int set_watches(struct options_parser *p, const char *value)
{
	const char *end;
	uint64_t n;

	if (number(value, &end, UINT32_MAX, &n) < 0 || *end || n == 0)
		return options_fail(
			p, -EINVAL,
			"watches=%s: write a number, 1 or more; for none "
			"at all there is watch=poll",
			value);
	p->out->watches_max = (uint32_t)n;
	return 0;
}

/* Octets, or with a letter kibi-, mebi- or gibioctets. */
static int set_mbxmax(struct options_parser *p, const char *value)
{
	static const char letters[] = "kmg";
	const char *end, *letter;
	unsigned shift = 0;
	uint64_t n;
	int ret = number(value, &end, INT64_MAX, &n);

	if (ret == 0 && *end) {
		letter = strchr(letters, *end++ | 0x20);
		if (letter)
			shift = 10 * (unsigned)(letter - letters + 1);
		ret = letter && !*end && n <= (uint64_t)INT64_MAX >> shift
			? 0
			: -EINVAL;
	}
	if (ret < 0)
		return options_fail(
			p, -EINVAL,
			"mbxmax=%s: write octets, or a number and k, m or "
			"g, e.g. mbxmax=2147483647",
			value);
	p->out->mbx_max = n << shift;
	return 0;
}

static int set_control(struct options_parser *p, const char *value)
{
	if (p->out->has_control)
		return options_fail(p, -EINVAL, "control= may be given once");
	p->out->has_control = true;
	return layout_pattern(p->legacy, "control", value, &p->out->control,
			      p->err, p->err_size);
}

static int set_spool(struct options_parser *p, const char *value)
{
	if (p->out->has_spool)
		return options_fail(p, -EINVAL, "spool= may be given once");
	p->out->has_spool = true;
	return layout_pattern(p->legacy, "spool", value, &p->out->spool, p->err,
			      p->err_size);
}

static int set_store(struct options_parser *p, const char *value)
{
	return options_set_path(p, "store", value, &p->out->store);
}

static int set_index(struct options_parser *p, const char *value)
{
	return options_set_path(p, "index", value, &p->out->index);
}

static const struct setter {
	const char *name;
	int (*set)(struct options_parser *p, const char *value);
} table[] = {
	{ "control", set_control }, { "spool", set_spool },
	{ "store", set_store },	    { "index", set_index },
	{ "scan", set_scan },	    { "mirror", set_mirror },
	{ "mbxmax", set_mbxmax },   { "watch", set_watch },
	{ "watches", set_watches }, { "poll", set_poll },
};

static const struct setter *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (strcmp(table[i].name, name) == 0)
			return &table[i];
	return NULL;
}

bool options_takes(const char *name)
{
	return find(name) || layout_takes(name);
}

int options_set(struct options_parser *p, const char *name, const char *value)
{
	const struct setter *s = find(name);

	return s ? s->set(p, value)
		 : layout_word(p->legacy, name, value, p->err, p->err_size);
}
