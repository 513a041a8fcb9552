#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "compat/dump.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/maildir.h"
#include "compat/mbx.h"
#include "compat/pattern.h"
#include "compat/subscriptions.h"
#include "compat/text.h"
#include "tools/cmd.h"
#include "tools/dumper.h"
#include "tools/mounted.h"

enum { LOCK_MS = 10000, CONTROL_MAX = 16 << 20 };

/* ---- subscriptions ------------------------------------------------------- */

struct names {
	char **list;
	size_t count;
};

static int add_name(const char *dir, void *arg)
{
	struct names *n = arg;
	char **more = reallocarray(n->list, n->count + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	n->list = more;
	more[n->count] = strdup(dir);
	if (!more[n->count])
		return -ENOMEM;
	n->count++;
	return 0;
}

static int by_text(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static void print_names(struct names *n)
{
	if (n->count > 0)
		qsort(n->list, n->count, sizeof(*n->list), by_text);
	for (size_t i = 0; i < n->count; i++) {
		if (i == 0 || strcmp(n->list[i - 1], n->list[i]) != 0)
			dump_subscribed(stdout, n->list[i]);
	}
	for (size_t i = 0; i < n->count; i++)
		free(n->list[i]);
	free(n->list);
}

static int maildir_subscriptions(const char *path)
{
	struct names n = { .count = 0 };
	AUTO_FREE char *text = NULL;
	AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t len = 0;
	int ret = fd < 0
		? -errno
		: io_read_file(fd, "subscriptions", CONTROL_MAX, &text, &len);

	if (ret == 0)
		ret = subscription_parse(text, len, add_name, &n);
	print_names(&n);
	return ret == -ENOENT ? 0 : ret;
}

static int add_line(struct names *n, const char *line, size_t len,
		    const char *prefix)
{
	char legacy[PATH_MAX], dir[FOLDERNAME_MAX + 1];
	const char *name;
	size_t name_len;
	bool changed;

	switch (subscription_classify(line, len, prefix, &name, &name_len)) {
	case SUBSCRIPTION_INBOX:
		return add_name("", n);
	case SUBSCRIPTION_FOLDER:
		if (name_len == 0 ||
		    text_path(legacy, sizeof(legacy), "%.*s", (int)name_len,
			      name) < 0)
			return 0;
		foldername_map(legacy, DOTS_UNDERSCORE, dir, &changed);
		return add_name(dir, n);
	default:
		return 0;
	}
}

/* UW keeps .mailboxlist in the home: the mail directory or the one above. */
static int mbx_subscriptions(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *prefix = "";
	struct names n = { .count = 0 };
	AUTO_FREE char *text = NULL;
	AUTO_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO_FD int up = fd < 0 ? -1 : openat(fd, "..", O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	int ret = fd < 0
		? -errno
		: io_read_file(fd, ".mailboxlist", CONTROL_MAX, &text, &len);

	if (ret == -ENOENT && up >= 0 && slash) {
		prefix = slash + 1;
		ret = io_read_file(up, ".mailboxlist", CONTROL_MAX, &text,
				   &len);
	}
	for (const char *p = text; ret == 0 && p && *p;) {
		size_t line = strcspn(p, "\n");

		ret = add_line(&n, p, line, prefix);
		p += line + (p[line] == '\n');
	}
	print_names(&n);
	return ret == -ENOENT ? 0 : ret;
}

/* ---- the three kinds ----------------------------------------------------- */

static int dump_mbx(const char *path)
{
	struct mbx_options opt = { .lock_dir = "/tmp",
				   .lock_ms = LOCK_MS,
				   .owner = (uid_t)-1,
				   .group = (gid_t)-1 };
	struct pattern root = { .base_fd = -1 };
	struct store *s = NULL;
	const char *slash = strrchr(path, '/');
	struct stat st;
	int ret = pattern_literal(path, &root);

	if (ret == 0)
		ret = stat(path, &st) < 0 ? -errno : 0;
	if (ret == 0)
		ret = mbx_store_new(&root, "", &opt, &s);
	if (ret == 0)
		ret = dumper_store(stdout, s, DUMPER_LEGACY,
				   S_ISDIR(st.st_mode) ? NULL
					   : slash     ? slash + 1
						       : path);
	if (s && S_ISDIR(st.st_mode) && (ret == 0 || ret == -EBADMSG)) {
		int sub = mbx_subscriptions(root.text);

		ret = ret < 0 ? ret : sub;
	}
	if (s)
		s->ops->free(s);
	pattern_fini(&root);
	return ret;
}

static int dump_maildir(const char *path)
{
	struct store *s;
	int ret = maildir_store_new(AT_FDCWD, path, &s);

	if (ret == -EBADMSG)
		log_err("dump: %s: has no cur/, so it is no Maildir++ root",
			path);
	if (ret < 0)
		return ret;
	ret = dumper_store(stdout, s, DUMPER_MAILDIR, NULL);
	s->ops->free(s);
	return ret < 0 ? ret : maildir_subscriptions(path);
}

static int dump_view(const char *path)
{
	struct mounted m;
	int ret = mounted_find(path, &m);

	if (ret < 0) {
		log_err("dump: %s: is not in a janusmail mount", path);
		return ret == -ENOENT ? -ENOTCONN : ret;
	}
	mounted_fini(&m);
	return dump_maildir(path);
}

static const struct {
	const char *prefix;
	int (*run)(const char *path);
} specs[] = {
	{ "mbx:", dump_mbx },
	{ "maildir:", dump_maildir },
	{ "view:", dump_view },
};

static int run(int argc, char **argv)
{
	if (argc != 2 || argv[1][0] == '-')
		return cmd_usage(&cmd_dump, "one SPEC is needed");
	for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
		size_t len = strlen(specs[i].prefix);
		int ret;

		if (strncmp(argv[1], specs[i].prefix, len) != 0)
			continue;
		ret = specs[i].run(argv[1] + len);
		if (ret < 0 && ret != -EBADMSG)
			log_err("dump: %s: %s", argv[1], strerrordesc_np(-ret));
		if (fflush(stdout) != 0 || ferror(stdout))
			return EX_IOERR;
		return cmd_exit_status(ret);
	}
	return cmd_usage(&cmd_dump, "SPEC starts with mbx:, maildir: or view:");
}

const struct cmd cmd_dump = {
	.name = "dump",
	.run = run,
	.summary = "print a store as canonical text: equal text, equal mail",
	.usage = "SPEC\n\n"
		 "SPEC is one of\n"
		 "  mbx:PATH       an MBX mailbox, or a directory of them\n"
		 "  maildir:PATH   a Maildir++ root\n"
		 "  view:PATH      one user's root in a mounted view\n\n"
		 "examples:\n"
		 "  janusmail dump mbx:/home/anna/mail\n"
		 "  diff <(janusmail dump mbx:/home/anna/INBOX) \\\n"
		 "       <(janusmail dump view:/srv/mail/anna)\n",
};
