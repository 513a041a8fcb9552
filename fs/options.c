/*
 * Our own options are taken out of -o lists by hand, the rest goes to libfuse
 * as it came: a small table instead of fuse_opt, because inbox= may come
 * several times and every error has to say what to write instead.
 */
#include "fs/options.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/text.h"
#include "fs/fuseopts.h"

enum { LOCK_MS_DEFAULT = 10000, POLL_MS_DEFAULT = 1000, SECONDS_MAX = 3600 };

struct parser {
	struct options *out;
	char *err;
	size_t err_size;
};

static int fail(struct parser *p, int code, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

static int fail(struct parser *p, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(p->err, p->err_size, fmt, ap);
	va_end(ap);
	return code;
}

/* ---- values -------------------------------------------------------------- */

static int set_pattern(struct parser *p, const char *name, const char *value,
		       struct pattern *out)
{
	int ret = pattern_init(out, value);

	if (ret == -EINVAL)
		return fail(p, ret,
			    "%s=%s: needs an absolute path with at most one "
			    "%%u (write %%%% for a per cent sign)",
			    name, value);
	if (ret < 0)
		return fail(p, ret,
			    "%s=%s: the directory before %%u cannot "
			    "be opened (%s)",
			    name, value, strerrordesc_np(-ret));
	if (pattern_has_user(out))
		p->out->multi = true;
	return 0;
}

static int set_inbox(struct parser *p, const char *value)
{
	struct options *o = p->out;
	int ret;

	if (o->inbox_count == OPTIONS_INBOX_MAX)
		return fail(p, -EINVAL, "inbox= may be given %d times at most",
			    OPTIONS_INBOX_MAX);
	ret = set_pattern(p, "inbox", value, &o->inbox[o->inbox_count]);
	if (ret == 0)
		o->inbox_count++;
	return ret;
}

static int set_path(struct parser *p, const char *name, const char *value,
		    char **out)
{
	char cwd[PATH_MAX];
	char path[PATH_MAX];
	size_t len;

	if (*value == '\0')
		return fail(p, -EINVAL, "%s= needs a directory", name);
	/* The daemon changes its directory, so paths are made absolute. */
	if (*value == '/')
		cwd[0] = '\0';
	else if (!getcwd(cwd, sizeof(cwd)))
		return fail(p, -errno, "%s=%s: no current directory", name,
			    value);
	if (text_path(path, sizeof(path), "%s%s%s", cwd,
		      *value == '/' ? "" : "/", value) < 0)
		return fail(p, -EINVAL, "%s=%s: path too long", name, value);
	len = strlen(path);
	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	free(*out);
	*out = strdup(path);
	return *out ? 0 : fail(p, -ENOMEM, "out of memory");
}

static int number(const char *s, const char **end, uint64_t max, uint64_t *out)
{
	const uint8_t *q = (const uint8_t *)s;
	int ret = text_number(&q, q + strlen(s), max, out);

	*end = (const char *)q;
	return ret;
}

static int set_owner(struct parser *p, const char *value)
{
	const char *end;
	uint64_t uid, gid;

	if (number(value, &end, UINT32_MAX - 1, &uid) < 0 || *end != ':' ||
	    number(end + 1, &end, UINT32_MAX - 1, &gid) < 0 || *end)
		return fail(p, -EINVAL,
			    "owner=%s: write it as numbers, e.g. "
			    "owner=5000:5000",
			    value);
	p->out->has_owner = true;
	p->out->owner_uid = (uid_t)uid;
	p->out->owner_gid = (gid_t)gid;
	return 0;
}

static int set_seconds(struct parser *p, const char *name, const char *value,
		       uint64_t least, unsigned *ms_out)
{
	const char *end;
	uint64_t s;

	if (number(value, &end, SECONDS_MAX, &s) < 0 || *end || s < least)
		return fail(p, -EINVAL, "%s=%s: write whole seconds, %ju to %d",
			    name, value, (uintmax_t)least, SECONDS_MAX);
	*ms_out = (unsigned)s * 1000;
	return 0;
}

static int set_lockwait(struct parser *p, const char *value)
{
	return set_seconds(p, "lockwait", value, 0, &p->out->lock_ms);
}

static int set_poll(struct parser *p, const char *value)
{
	return set_seconds(p, "poll", value, 1, &p->out->poll_ms);
}

/* Return: which of the two words it is; -EINVAL. */
static int choose(struct parser *p, const char *name, const char *value,
		  const char *first, const char *second)
{
	if (strcmp(value, first) == 0)
		return 0;
	if (strcmp(value, second) == 0)
		return 1;
	return fail(p, -EINVAL, "%s=%s: write %s or %s", name, value, first,
		    second);
}

static int set_dots(struct parser *p, const char *value)
{
	int n = choose(p, "dots", value, "underscore", "escape");

	p->out->dots = n == 1 ? DOTS_ESCAPE : DOTS_UNDERSCORE;
	return n < 0 ? n : 0;
}

static int set_scan(struct parser *p, const char *value)
{
	int n = choose(p, "scan", value, "background", "touch");

	p->out->scan = n == 1 ? SCAN_TOUCH : SCAN_BACKGROUND;
	return n < 0 ? n : 0;
}

static int set_mirror(struct parser *p, const char *value)
{
	int n = choose(p, "mirror", value, "on", "off");

	p->out->mirror_off = n == 1;
	return n < 0 ? n : 0;
}

static int set_watch(struct parser *p, const char *value)
{
	static const char *const words[] = { "inotify", "poll", "off" };

	for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(value, words[i]) == 0) {
			p->out->watch = (enum options_watch)i;
			return 0;
		}
	}
	return fail(p, -EINVAL, "watch=%s: write inotify, poll or off", value);
}

static int set_watches(struct parser *p, const char *value)
{
	const char *end;
	uint64_t n;

	if (number(value, &end, UINT32_MAX, &n) < 0 || *end || n == 0)
		return fail(p, -EINVAL,
			    "watches=%s: write a number, 1 or more; for none "
			    "at all there is watch=poll",
			    value);
	p->out->watches_max = (uint32_t)n;
	return 0;
}

/* Octets, or with a letter kibi-, mebi- or gibioctets. */
static int set_mbxmax(struct parser *p, const char *value)
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
		return fail(p, -EINVAL,
			    "mbxmax=%s: write octets, or a number and k, m or "
			    "g, e.g. mbxmax=2147483647",
			    value);
	p->out->mbx_max = n << shift;
	return 0;
}

static int set_folders(struct parser *p, const char *value)
{
	if (p->out->has_folders)
		return fail(p, -EINVAL, "folders= may be given once");
	p->out->has_folders = true;
	return set_pattern(p, "folders", value, &p->out->folders);
}

static int set_subscriptions(struct parser *p, const char *value)
{
	if (p->out->has_subscriptions)
		return fail(p, -EINVAL, "subscriptions= may be given once");
	p->out->has_subscriptions = true;
	return set_pattern(p, "subscriptions", value, &p->out->subscriptions);
}

static int set_control(struct parser *p, const char *value)
{
	if (p->out->has_control)
		return fail(p, -EINVAL, "control= may be given once");
	p->out->has_control = true;
	return set_pattern(p, "control", value, &p->out->control);
}

static int set_spool(struct parser *p, const char *value)
{
	if (p->out->has_spool)
		return fail(p, -EINVAL, "spool= may be given once");
	p->out->has_spool = true;
	return set_pattern(p, "spool", value, &p->out->spool);
}

static int set_store(struct parser *p, const char *value)
{
	return set_path(p, "store", value, &p->out->store);
}

static int set_index(struct parser *p, const char *value)
{
	return set_path(p, "index", value, &p->out->index);
}

static int set_lockdir(struct parser *p, const char *value)
{
	p->out->has_lockdir = true;
	return set_path(p, "lockdir", value, &p->out->lockdir);
}

static const struct {
	const char *name;
	int (*set)(struct parser *p, const char *value);
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

/* ---- -o lists ------------------------------------------------------------ */

static int fuse_option(struct parser *p, const char *word)
{
	/* They are always set as they must be; see docs/DESIGN.md. */
	if (strcmp(word, "allow_other") == 0 ||
	    strcmp(word, "default_permissions") == 0)
		return 0;
	/* libfuse refuses it beside allow_other, which root's mounts need. */
	if (strcmp(word, "allow_root") == 0 && geteuid() == 0)
		return fail(p, -EINVAL,
			    "-o allow_root: what root mounts is for all "
			    "users, each with his own rights; leave it out");
	return fuseopts_append(&p->out->fuse_opts, word) < 0
		? fail(p, -ENOMEM, "out of memory")
		: 0;
}

static int one_option(struct parser *p, char *word)
{
	char *eq = strchr(word, '=');
	size_t len = eq ? (size_t)(eq - word) : strlen(word);

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (strlen(table[i].name) != len ||
		    memcmp(table[i].name, word, len) != 0)
			continue;
		if (!eq)
			return fail(p, -EINVAL, "-o %s needs a value: %s=...",
				    word, word);
		return table[i].set(p, eq + 1);
	}
	if (strcmp(word, "readdirplus") == 0) {
		p->out->readdirplus = true;
		return 0;
	}
	if (fuseopts_is_noise(word) || *word == '\0')
		return 0;
	if (strcmp(word, "auto_unmount") == 0)
		return fail(p, -EINVAL,
			    "-o auto_unmount is refused: after a crash the "
			    "mountpoint would look like an empty mail store");
	if (fuseopts_is_known(word))
		return fuse_option(p, word);
	return fail(p, -EINVAL, "unknown option -o %s; see janusmaild --help",
		    word);
}

/* Splits at commas; "\," is a comma in a value. */
static int option_list(struct parser *p, const char *list)
{
	AUTO_FREE char *copy = strdup(list);
	char *in = copy, *out = copy, *word = copy;
	int ret = 0;

	if (!copy)
		return fail(p, -ENOMEM, "out of memory");
	for (; ret == 0; in++) {
		if (in[0] == '\\' && (in[1] == ',' || in[1] == '\\')) {
			*out++ = *++in;
		} else if (*in == ',' || *in == '\0') {
			bool last = *in == '\0';

			*out++ = '\0';
			ret = one_option(p, word);
			word = out;
			if (last)
				break;
		} else {
			*out++ = *in;
		}
	}
	return ret;
}

/* ---- the command line ---------------------------------------------------- */

static int check(struct parser *p)
{
	struct options *o = p->out;

	if (!o->mountpoint)
		return fail(p, -EINVAL, "no MOUNTPOINT; see janusmaild --help");
	if (!o->store)
		return fail(p, -EINVAL,
			    "no store: add -o store=DIR, an empty "
			    "directory or a Maildir++ tree");
	for (unsigned i = 0; i < o->inbox_count; i++)
		if (o->multi && !pattern_has_user(&o->inbox[i]))
			return fail(p, -EINVAL,
				    "inbox=%s: has no %%u, but "
				    "another pattern has",
				    o->inbox[i].text);
	if (o->multi && o->has_folders && !pattern_has_user(&o->folders))
		return fail(p, -EINVAL,
			    "folders=%s: has no %%u, but another pattern has",
			    o->folders.text);
	if (o->multi && o->has_control && !pattern_has_user(&o->control))
		return fail(p, -EINVAL, "control=%s: needs a %%u",
			    o->control.text);
	if (o->multi && o->has_spool && !pattern_has_user(&o->spool))
		return fail(p, -EINVAL, "spool=%s: needs a %%u", o->spool.text);
	if (o->has_spool && o->inbox_count == 0)
		return fail(p, -EINVAL,
			    "spool= needs inbox=, where its mail is to go");
	if (o->multi && o->inbox_count == 0 && !o->has_folders)
		return fail(p, -EINVAL, "%%u needs inbox= or folders=");
	return 0;
}

/* /var/lib/janusmail/srv-mail for /srv/mail; somebody's own mounts have no
 * place there, so index= is needed. */
static int default_index(struct parser *p)
{
	struct options *o = p->out;
	char name[PATH_MAX];
	char path[PATH_MAX];

	if (o->index)
		return 0;
	if (geteuid() != 0)
		return fail(p, -EINVAL,
			    "add -o index=DIR, a directory of "
			    "your own on a local disk");
	(void)snprintf(name, sizeof(name), "%s", o->mountpoint + 1);
	for (char *c = name; *c; c++)
		if (*c == '/')
			*c = '-';
	if (text_path(path, sizeof(path), "/var/lib/janusmail/%s", name) < 0)
		return fail(p, -EINVAL, "add -o index=DIR");
	return set_index(p, path);
}

/* Octets of the text that name the home: the directory that %u names, or,
 * without %u, the one that the mailbox or the mail directory lies in. 0: there
 * is no home to look in (/var/mail/%u). */
static size_t home_len(const struct pattern *from)
{
	const char *text = from->text;
	size_t i = 0;

	if (!pattern_has_user(from))
		return (size_t)(strrchr(text, '/') - text) + 1;
	if (*from->rest == '\0')
		return 0;
	while (text[i] != '%' || text[i + 1] != 'u')
		i += text[i] == '%' ? 2 : 1; /* "%%" */
	return i + strcspn(text + i, "/") + 1;
}

/* With %u the text is a pattern already; without, it is a plain path. */
static int subscriptions_in_home(struct parser *p, const struct pattern *from)
{
	const char *text = from->text;
	size_t len = home_len(from), used = 0;
	char home[PATH_MAX], path[PATH_MAX];

	if (len == 0)
		return 0;
	for (size_t i = 0; i < len && used < sizeof(home) - 2; i++) {
		home[used++] = text[i];
		if (text[i] == '%' && !pattern_has_user(from))
			home[used++] = '%';
	}
	home[used] = '\0';
	if (text_path(path, sizeof(path), "%s.mailboxlist", home) < 0)
		return fail(p, -EINVAL, "a path is too long");
	return set_subscriptions(p, path);
}

static int default_subscriptions(struct parser *p)
{
	struct options *o = p->out;
	int ret = 0;

	for (unsigned i = 0; i < o->inbox_count; i++)
		if (ret == 0 && !o->has_subscriptions)
			ret = subscriptions_in_home(p, &o->inbox[i]);
	if (ret == 0 && !o->has_subscriptions && o->has_folders)
		ret = subscriptions_in_home(p, &o->folders);
	return ret;
}

static int default_lockdir(struct parser *p)
{
	return p->out->lockdir
		? 0
		: set_path(p, "lockdir", "/tmp", &p->out->lockdir);
}

static int flag_letters(struct parser *p, const char *arg)
{
	for (const char *c = arg + 1; *c; c++) {
		switch (*c) {
		case 'f':
			p->out->foreground = true;
			break;
		case 'd':
			p->out->foreground = p->out->debug = true;
			break;
		case 'h':
			p->out->show_help = true;
			break;
		case 'V':
			p->out->show_version = true;
			break;
		case 's': /* mount(8) passes these on */
		case 'n':
		case 'v':
			break;
		default:
			return fail(p, -EINVAL,
				    "unknown option %s; see "
				    "janusmaild --help",
				    arg);
		}
	}
	return 0;
}

static int one_word(struct parser *p, const char *arg, const char **words,
		    unsigned *count)
{
	if (strcmp(arg, "--help") == 0)
		p->out->show_help = true;
	else if (strcmp(arg, "--version") == 0)
		p->out->show_version = true;
	else if (arg[0] == '-' && arg[1] != '\0')
		return flag_letters(p, arg);
	else if (*count == 2)
		return fail(p, -EINVAL, "too many words: %s", arg);
	else
		words[(*count)++] = arg;
	return 0;
}

/* mount(8) gives "SOURCE MOUNTPOINT"; people give "MOUNTPOINT". */
static int positional(struct parser *p, const char **words, unsigned count)
{
	int ret = 0;

	if (count == 2 && !p->out->store && strcmp(words[0], "none") != 0)
		ret = set_store(p, words[0]);
	if (ret == 0 && count > 0)
		ret = set_path(p, "MOUNTPOINT", words[count - 1],
			       &p->out->mountpoint);
	return ret;
}

static void clear(struct options *opt)
{
	*opt = (struct options){ .multi = false };
	for (unsigned i = 0; i < ARRAY_LEN(opt->inbox); i++)
		opt->inbox[i].base_fd = -1;
	opt->folders.base_fd = -1;
	opt->subscriptions.base_fd = -1;
	opt->control.base_fd = -1;
	opt->spool.base_fd = -1;
}

int options_parse(int argc, char **argv, struct options *out, char *err,
		  size_t err_size)
{
	struct parser p = { .out = out, .err = err, .err_size = err_size };
	const char *words[2];
	unsigned count = 0;
	int ret = 0;

	clear(out);
	out->lock_ms = LOCK_MS_DEFAULT;
	out->poll_ms = POLL_MS_DEFAULT;
	for (int i = 1; ret == 0 && i < argc; i++) {
		if (strcmp(argv[i], "-o") != 0)
			ret = strncmp(argv[i], "-o", 2) == 0
				? option_list(&p, argv[i] + 2)
				: one_word(&p, argv[i], words, &count);
		else if (i + 1 == argc)
			ret = fail(&p, -EINVAL, "-o needs OPTIONS after it");
		else
			ret = option_list(&p, argv[++i]);
	}
	if (ret < 0 || out->show_help || out->show_version)
		return ret;
	ret = positional(&p, words, count);
	if (ret == 0)
		ret = check(&p);
	if (ret == 0)
		ret = default_index(&p);
	if (ret == 0)
		ret = default_subscriptions(&p);
	return ret == 0 ? default_lockdir(&p) : ret;
}

void options_fini(struct options *opt)
{
	for (unsigned i = 0; i < ARRAY_LEN(opt->inbox); i++)
		pattern_fini(&opt->inbox[i]);
	pattern_fini(&opt->folders);
	pattern_fini(&opt->subscriptions);
	pattern_fini(&opt->control);
	pattern_fini(&opt->spool);
	free(opt->store);
	free(opt->index);
	free(opt->mountpoint);
	free(opt->lockdir);
	free(opt->fuse_opts);
	clear(opt);
}
