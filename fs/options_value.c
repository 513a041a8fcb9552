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
#include <unistd.h>

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

static int set_pattern(struct options_parser *p, const char *name,
		       const char *value, struct pattern *out)
{
	int ret = pattern_init(out, value);

	if (ret == -EINVAL)
		return options_fail(
			p, ret,
			"%s=%s: needs an absolute path with at most one "
			"%%u (write %%%% for a per cent sign)",
			name, value);
	if (ret < 0)
		return options_fail(p, ret,
				    "%s=%s: the directory before %%u cannot "
				    "be opened (%s)",
				    name, value, strerrordesc_np(-ret));
	if (pattern_has_user(out))
		p->out->multi = true;
	return 0;
}

static int set_inbox(struct options_parser *p, const char *value)
{
	struct options *o = p->out;
	int ret;

	if (o->inbox_count == OPTIONS_INBOX_MAX)
		return options_fail(p, -EINVAL,
				    "inbox= may be given %d times at most",
				    OPTIONS_INBOX_MAX);
	ret = set_pattern(p, "inbox", value, &o->inbox[o->inbox_count]);
	if (ret == 0)
		o->inbox_count++;
	return ret;
}

int options_set_path(struct options_parser *p, const char *name,
		     const char *value, char **out)
{
	char cwd[PATH_MAX];
	char path[PATH_MAX];
	size_t len;

	if (*value == '\0')
		return options_fail(p, -EINVAL, "%s= needs a directory", name);
	/* The daemon changes its directory, so paths are made absolute. */
	if (*value == '/')
		cwd[0] = '\0';
	else if (!getcwd(cwd, sizeof(cwd)))
		return options_fail(p, -errno, "%s=%s: no current directory",
				    name, value);
	if (text_path(path, sizeof(path), "%s%s%s", cwd,
		      *value == '/' ? "" : "/", value) < 0)
		return options_fail(p, -EINVAL, "%s=%s: path too long", name,
				    value);
	len = strlen(path);
	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
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

static int set_owner(struct options_parser *p, const char *value)
{
	const char *end;
	uint64_t uid, gid;

	if (number(value, &end, UINT32_MAX - 1, &uid) < 0 || *end != ':' ||
	    number(end + 1, &end, UINT32_MAX - 1, &gid) < 0 || *end)
		return options_fail(p, -EINVAL,
				    "owner=%s: write it as numbers, e.g. "
				    "owner=5000:5000",
				    value);
	p->out->has_owner = true;
	p->out->owner_uid = (uid_t)uid;
	p->out->owner_gid = (gid_t)gid;
	return 0;
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

static int set_lockwait(struct options_parser *p, const char *value)
{
	return set_seconds(p, "lockwait", value, 0, &p->out->lock_ms);
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

static int set_dots(struct options_parser *p, const char *value)
{
	int n = choose(p, "dots", value, "underscore", "escape");

	p->out->dots = n == 1 ? DOTS_ESCAPE : DOTS_UNDERSCORE;
	return n < 0 ? n : 0;
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

static int set_folders(struct options_parser *p, const char *value)
{
	if (p->out->has_folders)
		return options_fail(p, -EINVAL, "folders= may be given once");
	p->out->has_folders = true;
	return set_pattern(p, "folders", value, &p->out->folders);
}

static int set_subscriptions(struct options_parser *p, const char *value)
{
	if (p->out->has_subscriptions)
		return options_fail(p, -EINVAL,
				    "subscriptions= may be given once");
	p->out->has_subscriptions = true;
	return set_pattern(p, "subscriptions", value, &p->out->subscriptions);
}

static int set_control(struct options_parser *p, const char *value)
{
	if (p->out->has_control)
		return options_fail(p, -EINVAL, "control= may be given once");
	p->out->has_control = true;
	return set_pattern(p, "control", value, &p->out->control);
}

static int set_spool(struct options_parser *p, const char *value)
{
	if (p->out->has_spool)
		return options_fail(p, -EINVAL, "spool= may be given once");
	p->out->has_spool = true;
	return set_pattern(p, "spool", value, &p->out->spool);
}

static int set_store(struct options_parser *p, const char *value)
{
	return options_set_path(p, "store", value, &p->out->store);
}

static int set_index(struct options_parser *p, const char *value)
{
	return options_set_path(p, "index", value, &p->out->index);
}

static int set_lockdir(struct options_parser *p, const char *value)
{
	p->out->has_lockdir = true;
	return options_set_path(p, "lockdir", value, &p->out->lockdir);
}

static const struct setter {
	const char *name;
	int (*set)(struct options_parser *p, const char *value);
} table[] = {
	{ "inbox", set_inbox },
	{ "folders", set_folders },
	{ "subscriptions", set_subscriptions },
	{ "control", set_control },
	{ "spool", set_spool },
	{ "store", set_store },
	{ "index", set_index },
	{ "dots", set_dots },
	{ "owner", set_owner },
	{ "lockdir", set_lockdir },
	{ "lockwait", set_lockwait },
	{ "scan", set_scan },
	{ "mirror", set_mirror },
	{ "mbxmax", set_mbxmax },
	{ "watch", set_watch },
	{ "watches", set_watches },
	{ "poll", set_poll },
};

static const struct setter *find(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (strlen(table[i].name) == len &&
		    memcmp(table[i].name, name, len) == 0)
			return &table[i];
	return NULL;
}

bool options_takes(const char *name, size_t len)
{
	return find(name, len) != NULL;
}

int options_set(struct options_parser *p, const char *name, const char *value)
{
	const struct setter *s = find(name, strlen(name));

	return s ? s->set(p, value)
		 : options_fail(p, -EINVAL, "unknown option %s=", name);
}
