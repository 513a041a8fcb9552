/*
 * Our own options are taken out of -o lists by hand, the rest goes to libfuse
 * as it came: a small table instead of fuse_opt, because inbox= may come
 * several times and every error has to say what to write instead.
 */
#include "fs/options.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/layout.h"
#include "compat/text.h"
#include "fs/fuseopts.h"
#include "fs/options_internal.h"

enum { POLL_MS_DEFAULT = 1000 };

/* ---- -o lists ------------------------------------------------------------ */

static int fuse_option(struct options_parser *p, const char *word)
{
	/* They are always set as they must be; see docs/DESIGN.md. */
	if (strcmp(word, "allow_other") == 0 ||
	    strcmp(word, "default_permissions") == 0)
		return 0;
	/* libfuse refuses it beside allow_other, which root's mounts need. */
	if (strcmp(word, "allow_root") == 0 && geteuid() == 0)
		return options_fail(
			p, -EINVAL,
			"-o allow_root: what root mounts is for all "
			"users, each with his own rights; leave it out");
	return fuseopts_append(&p->out->fuse_opts, word) < 0
		? options_fail(p, -ENOMEM, "out of memory")
		: 0;
}

static int one_option(char *word, void *arg)
{
	struct options_parser *p = arg;
	char *eq = strchr(word, '=');

	if (eq)
		*eq = '\0';
	if (options_takes(word))
		return eq ? options_set(p, word, eq + 1)
			  : options_fail(p, -EINVAL,
					 "-o %s needs a value: %s=...", word,
					 word);
	if (eq)
		*eq = '=';
	if (strcmp(word, "readdirplus") == 0) {
		p->out->readdirplus = true;
		return 0;
	}
	if (fuseopts_is_noise(word) || *word == '\0')
		return 0;
	if (strcmp(word, "auto_unmount") == 0)
		return options_fail(
			p, -EINVAL,
			"-o auto_unmount is refused: after a crash the "
			"mountpoint would look like an empty mail store");
	if (fuseopts_is_known(word))
		return fuse_option(p, word);
	return options_fail(p, -EINVAL,
			    "unknown option -o %s; see janusmaild --help",
			    word);
}

static int option_list(struct options_parser *p, const char *list)
{
	int ret = text_list(list, one_option, p);

	return ret == -ENOMEM ? options_fail(p, ret, "out of memory") : ret;
}

/* ---- the command line ---------------------------------------------------- */

static int check(struct options_parser *p)
{
	struct options *o = p->out;

	if (!o->mountpoint)
		return options_fail(p, -EINVAL,
				    "no MOUNTPOINT; see janusmaild --help");
	if (!o->store)
		return options_fail(p, -EINVAL,
				    "no store: add -o store=DIR, an empty "
				    "directory or a Maildir++ tree");
	if (p->legacy->multi && o->has_control &&
	    !pattern_has_user(&o->control))
		return options_fail(p, -EINVAL, "control=%s: needs a %%u",
				    o->control.text);
	if (p->legacy->multi && o->has_spool && !pattern_has_user(&o->spool))
		return options_fail(p, -EINVAL, "spool=%s: needs a %%u",
				    o->spool.text);
	if (o->has_spool && p->legacy->inbox_count == 0)
		return options_fail(
			p, -EINVAL,
			"spool= needs inbox=, where its mail is to go");
	return 0;
}

/* /var/lib/janusmail/srv-mail for /srv/mail; somebody's own mounts have no
 * place there, so index= is needed. */
static int default_index(struct options_parser *p)
{
	struct options *o = p->out;
	char name[PATH_MAX];
	char path[PATH_MAX];

	if (o->index)
		return 0;
	if (geteuid() != 0)
		return options_fail(p, -EINVAL,
				    "add -o index=DIR, a directory of "
				    "your own on a local disk");
	(void)snprintf(name, sizeof(name), "%s", o->mountpoint + 1);
	for (char *c = name; *c; c++)
		if (*c == '/')
			*c = '-';
	if (text_path(path, sizeof(path), "/var/lib/janusmail/%s", name) < 0)
		return options_fail(p, -EINVAL, "add -o index=DIR");
	return options_set(p, "index", path);
}

static int flag_letters(struct options_parser *p, const char *arg)
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
			return options_fail(p, -EINVAL,
					    "unknown option %s; see "
					    "janusmaild --help",
					    arg);
		}
	}
	return 0;
}

static int one_word(struct options_parser *p, const char *arg,
		    const char **words, unsigned *count)
{
	if (strcmp(arg, "--help") == 0)
		p->out->show_help = true;
	else if (strcmp(arg, "--version") == 0)
		p->out->show_version = true;
	else if (arg[0] == '-' && arg[1] != '\0')
		return flag_letters(p, arg);
	else if (*count == 2)
		return options_fail(p, -EINVAL, "too many words: %s", arg);
	else
		words[(*count)++] = arg;
	return 0;
}

/* mount(8) gives "SOURCE MOUNTPOINT"; people give "MOUNTPOINT". */
static int positional(struct options_parser *p, const char **words,
		      unsigned count)
{
	int ret = 0;

	if (count == 2 && !p->out->store && strcmp(words[0], "none") != 0)
		ret = options_set(p, "store", words[0]);
	if (ret == 0 && count > 0)
		ret = options_set_path(p, "MOUNTPOINT", words[count - 1],
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

/* What it holds is the options' from now on. */
static void take_layout(struct options *o, struct layout *l)
{
	memcpy(o->inbox, l->inbox, sizeof(o->inbox));
	o->inbox_count = l->inbox_count;
	o->folders = l->folders;
	o->subscriptions = l->subscriptions;
	o->has_folders = l->has_folders;
	o->has_subscriptions = l->has_subscriptions;
	o->lockdir = l->lockdir;
	o->lock_ms = l->lock_ms;
	o->dots = l->dots;
	o->has_owner = l->has_owner;
	o->owner_uid = l->owner_uid;
	o->owner_gid = l->owner_gid;
	o->multi = l->multi;
	layout_init(l);
}

static int finish(struct options_parser *p)
{
	int ret = check(p);

	p->out->has_lockdir = p->legacy->lockdir != NULL;
	if (ret == 0)
		ret = layout_finish(p->legacy, p->err, p->err_size);
	return ret == 0 ? default_index(p) : ret;
}

int options_parse(int argc, char **argv, struct options *out, char *err,
		  size_t err_size)
{
	struct layout legacy;
	struct options_parser p = {
		.out = out, .legacy = &legacy, .err = err, .err_size = err_size
	};
	const char *words[2];
	unsigned count = 0;
	int ret = 0;

	clear(out);
	layout_init(&legacy);
	out->poll_ms = POLL_MS_DEFAULT;
	for (int i = 1; ret == 0 && i < argc; i++) {
		if (strcmp(argv[i], "-o") != 0)
			ret = strncmp(argv[i], "-o", 2) == 0
				? option_list(&p, argv[i] + 2)
				: one_word(&p, argv[i], words, &count);
		else if (i + 1 == argc)
			ret = options_fail(&p, -EINVAL,
					   "-o needs OPTIONS after it");
		else
			ret = option_list(&p, argv[++i]);
	}
	if (ret == 0 && !out->show_help && !out->show_version) {
		ret = positional(&p, words, count);
		if (ret == 0)
			ret = finish(&p);
	}
	take_layout(out, &legacy);
	return ret;
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
