#include "compat/layout.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "compat/io.h"
#include "compat/text.h"

enum { LOCK_MS_DEFAULT = 10000, LOCK_S_MAX = 3600 };

/* Where people are told what is wrong. */
struct saying {
	char *err;
	size_t size;
};

static int fail(const struct saying *s, int code, const char *fmt, ...)
	PRINTF_LIKE(3, 4);

static int fail(const struct saying *s, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(s->err, s->size, fmt, ap);
	va_end(ap);
	return code;
}

void layout_init(struct layout *l)
{
	*l = (struct layout){ .lock_ms = LOCK_MS_DEFAULT };
	for (size_t i = 0; i < ARRAY_LEN(l->inbox); i++)
		l->inbox[i].base_fd = -1;
	l->folders.base_fd = -1;
	l->subscriptions.base_fd = -1;
}

void layout_fini(struct layout *l)
{
	for (size_t i = 0; i < ARRAY_LEN(l->inbox); i++)
		pattern_fini(&l->inbox[i]);
	pattern_fini(&l->folders);
	pattern_fini(&l->subscriptions);
	free(l->lockdir);
	free(l->store);
	layout_init(l);
}

/* ---- words --------------------------------------------------------------- */

int layout_pattern(struct layout *l, const char *name, const char *value,
		   struct pattern *out, char *err, size_t size)
{
	struct saying s = { err, size };
	int ret = pattern_init(out, value);

	if (ret == -EINVAL)
		return fail(&s, ret,
			    "%s=%s: needs an absolute path with at most one "
			    "%%u (write %%%% for a per cent sign)",
			    name, value);
	if (ret < 0)
		return fail(&s, ret,
			    "%s=%s: the directory before %%u cannot "
			    "be opened (%s)",
			    name, value, strerrordesc_np(-ret));
	if (pattern_has_user(out))
		l->multi = true;
	return 0;
}

static int set_inbox(struct layout *l, const char *value,
		     const struct saying *s)
{
	int ret;

	if (l->inbox_count == LAYOUT_INBOX_MAX)
		return fail(s, -EINVAL, "inbox= may be given %d times at most",
			    LAYOUT_INBOX_MAX);
	ret = layout_pattern(l, "inbox", value, &l->inbox[l->inbox_count],
			     s->err, s->size);
	if (ret == 0)
		l->inbox_count++;
	return ret;
}

static int set_folders(struct layout *l, const char *value,
		       const struct saying *s)
{
	if (l->has_folders)
		return fail(s, -EINVAL, "folders= may be given once");
	l->has_folders = true;
	return layout_pattern(l, "folders", value, &l->folders, s->err,
			      s->size);
}

static int set_subscriptions(struct layout *l, const char *value,
			     const struct saying *s)
{
	if (l->has_subscriptions)
		return fail(s, -EINVAL, "subscriptions= may be given once");
	l->has_subscriptions = true;
	return layout_pattern(l, "subscriptions", value, &l->subscriptions,
			      s->err, s->size);
}

static int number(const char *text, const char **end, uint64_t max,
		  uint64_t *out)
{
	const uint8_t *q = (const uint8_t *)text;
	int ret = text_number(&q, q + strlen(text), max, out);

	*end = (const char *)q;
	return ret;
}

static int set_owner(struct layout *l, const char *value,
		     const struct saying *s)
{
	const char *end;
	uint64_t uid, gid;

	if (number(value, &end, UINT32_MAX - 1, &uid) < 0 || *end != ':' ||
	    number(end + 1, &end, UINT32_MAX - 1, &gid) < 0 || *end)
		return fail(s, -EINVAL,
			    "owner=%s: write it as numbers, e.g. "
			    "owner=5000:5000",
			    value);
	l->has_owner = true;
	l->owner_uid = (uid_t)uid;
	l->owner_gid = (gid_t)gid;
	return 0;
}

static int set_lockwait(struct layout *l, const char *value,
			const struct saying *s)
{
	const char *end;
	uint64_t seconds;

	if (number(value, &end, LOCK_S_MAX, &seconds) < 0 || *end)
		return fail(s, -EINVAL,
			    "lockwait=%s: write whole seconds, "
			    "0 to %d",
			    value, LOCK_S_MAX);
	l->lock_ms = (unsigned)seconds * 1000;
	return 0;
}

static int set_dots(struct layout *l, const char *value, const struct saying *s)
{
	if (strcmp(value, "escape") == 0)
		l->dots = DOTS_ESCAPE;
	else if (strcmp(value, "underscore") == 0)
		l->dots = DOTS_UNDERSCORE;
	else
		return fail(s, -EINVAL, "dots=%s: write underscore or escape",
			    value);
	return 0;
}

static int set_lockdir(struct layout *l, const char *value,
		       const struct saying *s)
{
	char path[PATH_MAX];
	int ret;

	if (*value == '\0')
		return fail(s, -EINVAL, "lockdir= needs a directory");
	ret = io_absolute(value, path, sizeof(path));
	if (ret < 0)
		return fail(s, ret, "lockdir=%s: %s", value,
			    strerrordesc_np(-ret));
	free(l->lockdir);
	l->lockdir = strdup(path);
	return l->lockdir ? 0 : fail(s, -ENOMEM, "out of memory");
}

static const struct {
	const char *name;
	int (*set)(struct layout *l, const char *value, const struct saying *s);
} words[] = {
	{ "inbox", set_inbox },
	{ "folders", set_folders },
	{ "subscriptions", set_subscriptions },
	{ "dots", set_dots },
	{ "owner", set_owner },
	{ "lockdir", set_lockdir },
	{ "lockwait", set_lockwait },
};

static size_t find_word(const char *name)
{
	size_t i = 0;

	while (i < ARRAY_LEN(words) && strcmp(words[i].name, name) != 0)
		i++;
	return i;
}

bool layout_takes(const char *name)
{
	return find_word(name) < ARRAY_LEN(words);
}

int layout_word(struct layout *l, const char *name, const char *value,
		char *err, size_t size)
{
	struct saying s = { err, size };
	size_t i = find_word(name);

	return i < ARRAY_LEN(words)
		? words[i].set(l, value, &s)
		: fail(&s, -EINVAL, "unknown option %s=", name);
}

/* ---- what was not said --------------------------------------------------- */

static int check(const struct layout *l, const struct saying *s)
{
	for (unsigned i = 0; i < l->inbox_count; i++)
		if (l->multi && !pattern_has_user(&l->inbox[i]))
			return fail(s, -EINVAL,
				    "inbox=%s: has no %%u, but "
				    "another pattern has",
				    l->inbox[i].text);
	if (l->multi && l->has_folders && !pattern_has_user(&l->folders))
		return fail(s, -EINVAL,
			    "folders=%s: has no %%u, but another pattern has",
			    l->folders.text);
	if (l->multi && l->inbox_count == 0 && !l->has_folders)
		return fail(s, -EINVAL, "%%u needs inbox= or folders=");
	return 0;
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
static int subscriptions_in_home(struct layout *l, const struct pattern *from,
				 const struct saying *s)
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
		return fail(s, -EINVAL, "a path is too long");
	return set_subscriptions(l, path, s);
}

int layout_finish(struct layout *l, char *err, size_t size)
{
	struct saying s = { err, size };
	int ret = check(l, &s);

	for (unsigned i = 0; ret == 0 && i < l->inbox_count; i++)
		if (!l->has_subscriptions)
			ret = subscriptions_in_home(l, &l->inbox[i], &s);
	if (ret == 0 && !l->has_subscriptions && l->has_folders)
		ret = subscriptions_in_home(l, &l->folders, &s);
	if (ret == 0 && !l->lockdir)
		ret = set_lockdir(l, "/tmp", &s);
	return ret;
}

/* ---- all of it from one text --------------------------------------------- */

struct parsing {
	struct layout *l;
	const struct saying *s;
};

/* Options of janusmaild's that say nothing of where old mail lies. */
static bool is_other(const char *word)
{
	static const char *const others[] = { "index",	"control", "scan",
					      "mirror", "mbxmax",  "watch",
					      "poll",	"watches", "spool" };

	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (strcmp(others[i], word) == 0)
			return true;
	return false;
}

static int note_store(const struct parsing *p, const char *value)
{
	free(p->l->store);
	p->l->store = strdup(value);
	return p->l->store ? 0 : fail(p->s, -ENOMEM, "out of memory");
}

static int take_word(char *word, void *arg)
{
	const struct parsing *p = arg;
	char *eq = strchr(word, '=');

	if (eq)
		*eq = '\0';
	if (eq && strcmp(word, "store") == 0)
		return note_store(p, eq + 1);
	if (eq && layout_takes(word))
		return layout_word(p->l, word, eq + 1, p->s->err, p->s->size);
	if (eq && is_other(word))
		return 0;
	return fail(p->s, -EINVAL,
		    "%s: is none of inbox= folders= subscriptions= dots= "
		    "owner= lockdir= lockwait=",
		    word);
}

static int take_folders(struct layout *l, const char *path,
			const struct saying *s)
{
	char list[PATH_MAX];
	struct stat st;

	l->has_folders = true;
	if (pattern_literal(path, &l->folders) < 0 ||
	    text_path(list, sizeof(list), "%s/.mailboxlist", l->folders.text) <
		    0)
		return fail(s, -EINVAL, "%s: cannot be opened", path);
	/* The mail directory is the home. */
	l->has_subscriptions = stat(list, &st) == 0;
	if (l->has_subscriptions &&
	    pattern_literal(list, &l->subscriptions) < 0)
		return fail(s, -EINVAL, "%s: cannot be opened", list);
	return 0;
}

static int take_path(struct layout *l, const char *path, char **single_out,
		     const struct saying *s)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	struct stat st;
	int ret = stat(path, &st) < 0 ? -errno : 0;

	if (ret == 0 && S_ISDIR(st.st_mode))
		return take_folders(l, path, s);
	if (ret == 0)
		ret = pattern_literal(path, &l->inbox[0]);
	if (ret < 0)
		return fail(s, ret, "%s: %s", path, strerrordesc_np(-ret));
	l->inbox_count = 1;
	if (strcmp(name, "INBOX") == 0)
		return 0;
	*single_out = strdup(name);
	return *single_out ? 0 : fail(s, -ENOMEM, "out of memory");
}

int layout_parse(struct layout *l, const char *text, char **single_out,
		 char *err, size_t size)
{
	struct saying s = { err, size };
	struct parsing p = { l, &s };
	const char *eq = strchr(text, '='), *slash = strchr(text, '/');
	int ret;

	layout_init(l);
	*single_out = NULL;
	if (size > 0)
		err[0] = '\0';
	/* "inbox=/..." and not "/a=b/c". */
	if (eq && (!slash || eq < slash))
		ret = text_list(text, take_word, &p);
	else if (strstr(text, "%u"))
		ret = set_folders(l, text, &s);
	else
		ret = take_path(l, text, single_out, &s);
	if (ret == 0 && l->inbox_count == 0 && !l->has_folders)
		ret = fail(&s, -EINVAL, "inbox= or folders= is needed");
	if (ret == 0)
		ret = layout_finish(l, err, size);
	if (ret < 0) {
		free(*single_out);
		*single_out = NULL;
	}
	return ret;
}

/* ---- looking things up --------------------------------------------------- */

const struct pattern *layout_place(const struct layout *l, unsigned n)
{
	if (n < l->inbox_count)
		return &l->inbox[n];
	return n == l->inbox_count && l->has_folders ? &l->folders : NULL;
}

const char *layout_prefix(const struct pattern *folders,
			  const struct pattern *list)
{
	const char *home_end = list ? strrchr(list->text, '/') : NULL;
	size_t len = home_end ? (size_t)(home_end - list->text) : 0;

	if (home_end && folders &&
	    strncmp(folders->text, list->text, len) == 0 &&
	    folders->text[len] == '/')
		return folders->text + len + 1;
	return "";
}

struct mbx_options layout_mbx(const struct layout *l, uid_t uid, gid_t gid)
{
	return (struct mbx_options){ .lock_dir = l->lockdir,
				     .lock_ms = l->lock_ms,
				     .owner = l->has_owner ? (uid_t)-1 : uid,
				     .group = gid };
}
