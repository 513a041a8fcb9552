#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "compat/log.h"
#include "compat/mbx.h"
#include "compat/mbxcompact.h"
#include "compat/mbxlock.h"
#include "compat/pattern.h"
#include "compat/text.h"
#include "tools/cmd.h"

enum { LOCK_MS = 10000, WORD = 4 * 4096 };

struct how {
	enum mbxcompact_mode mode;
	bool json;
	const char *lock_dir;
};

static int compact_file(const char *path, const struct how *how,
			struct mbxcompact *out)
{
	struct mbx_options opt = { .lock_dir = how->lock_dir,
				   .lock_ms = LOCK_MS,
				   .owner = (uid_t)-1,
				   .group = (gid_t)-1 };
	struct pattern root = { .base_fd = -1 };
	struct store *s = NULL;
	struct box *b = NULL;
	int rc = pattern_literal(path, &root);

	*out = (struct mbxcompact){ .want = "" };
	if (rc == 0)
		rc = mbx_store_new(&root, "", &opt, &s);
	if (rc == 0)
		rc = s->ops->open(s, "", &b);
	if (rc == 0)
		rc = mbxcompact_run(b, how->mode, out);
	if (b)
		b->ops->close(b);
	if (s)
		s->ops->free(s);
	pattern_fini(&root);
	return rc;
}

/* @out: of @size octets. Return: it */
static const char *reason(int rc, const struct mbxcompact *c, char *out,
			  size_t size)
{
	struct mbxlock_past past = mbxlock_past();
	char who[64];
	const char *text;
	int n;

	switch (rc) {
	case -EBUSY:
		n = snprintf(out, size,
			     "in use by %s; try again when nobody has it open "
			     "in UW",
			     c->holder);
		break;
	case -EBADMSG:
		n = snprintf(out, size,
			     "damaged, nothing was changed: expected %s at "
			     "%" PRIu64,
			     c->want, c->fault);
		break;
	case -EAGAIN:
		(void)mbxlock_keeper(&past, who, sizeof(who));
		n = snprintf(out, size, "%s keeps it locked; try again", who);
		break;
	case -ENOSPC:
	case -EDQUOT:
		n = snprintf(out, size,
			     "no room, nothing was changed: %" PRIu64
			     " octets are needed for the time of it",
			     c->room);
		break;
	case -EISDIR:
	case -ENOTSUP:
		n = snprintf(out, size, "not a regular file");
		break;
	case -EMLINK:
		n = snprintf(out, size, "has hard links");
		break;
	case -EREMOTE:
		n = snprintf(out, size,
			     "on a network filesystem, where UW does not lock");
		break;
	default:
		text = strerrordesc_np(-rc);
		n = snprintf(out, size, "%s", text ? text : "unknown error");
	}
	return n < 0 ? "" : out;
}

static void show_text(const char *word, const struct how *how,
		      const struct mbxcompact *c)
{
	if (c->unfinished && how->mode == MBXCOMPACT_LOOK) {
		(void)printf("%s: was interrupted in mid-write; run without "
			     "--dry-run\n",
			     word);
		return;
	}
	(void)printf("%s: %" PRIu64 " messages; %" PRIu64 " expunged, %" PRIu64
		     " octets, %s\n",
		     word, c->messages, c->expunged, c->before - c->after,
		     how->mode == MBXCOMPACT_LOOK ? "can go" : "reclaimed");
	if (how->mode == MBXCOMPACT_LOOK && c->room)
		(void)printf("%s: %" PRIu64 " octets are needed meanwhile\n",
			     word, c->room);
}

static json_t *as_json(const char *word, int rc, const struct mbxcompact *c,
		       const char *why)
{
	if (rc < 0)
		return json_pack("{s:s, s:s}", "file", word, "error", why);
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:b}", "file", word,
			 "messages", (json_int_t)c->messages, "expunged",
			 (json_int_t)c->expunged, "size", (json_int_t)c->before,
			 "size_after", (json_int_t)c->after, "room",
			 (json_int_t)c->room, "interrupted", c->unfinished);
}

/* Return: exit status */
static int one(const char *path, const struct how *how, json_t *list)
{
	struct mbxcompact c;
	char word[WORD], why[256];
	int rc = compact_file(path, how, &c);

	(void)text_escape(path, strlen(path), word, sizeof(word));
	(void)reason(rc, &c, why, sizeof(why));
	if (rc < 0)
		log_err("compact: %s: %s", word, why);
	else if (!how->json)
		show_text(word, how, &c);
	if (list && json_array_append_new(list, as_json(word, rc, &c, why)) < 0)
		return EX_OSERR;
	return cmd_exit_status(rc);
}

static int all(char **paths, const struct how *how)
{
	json_t *list = how->json ? json_array() : NULL;
	json_t *doc;
	int status = 0, last;

	if (how->json && !list)
		return EX_OSERR;
	for (; *paths; paths++) {
		last = one(*paths, how, list);
		status = status ? status : last;
	}
	if (!list)
		return fflush(stdout) == 0 ? status : EX_IOERR;
	doc = json_pack("{s:i, s:b, s:o}", "schema", 1, "dry_run",
			how->mode == MBXCOMPACT_LOOK, "files", list);
	if (!doc || json_dumpf(doc, stdout, JSON_INDENT(2)) < 0 ||
	    puts("") < 0 || fflush(stdout) != 0)
		status = EX_IOERR;
	json_decref(doc);
	return status;
}

static int run(int argc, char **argv)
{
	static const struct option options[] = {
		{ "dry-run", no_argument, NULL, 'n' },
		{ "json", no_argument, NULL, 'j' },
		{ "lockdir", required_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	struct how how = { .mode = MBXCOMPACT_DO, .lock_dir = "/tmp" };
	int c;

	opterr = 0;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread */
	while ((c = getopt_long(argc, argv, "n", options, NULL)) != -1) {
		if (c == 'n')
			how.mode = MBXCOMPACT_LOOK;
		else if (c == 'j')
			how.json = true;
		else if (c == 'l')
			how.lock_dir = optarg;
		else
			return cmd_usage(&cmd_compact, "unknown option");
	}
	if (optind == argc)
		return cmd_usage(&cmd_compact, "a FILE is needed");
	return all(argv + optind, &how);
}

const struct cmd cmd_compact = {
	.name = "compact",
	.run = run,
	.summary = "reclaim the space of expunged messages of an MBX mailbox",
	.usage =
		"[--dry-run] [--json] [--lockdir DIR] FILE...\n\n"
		"Nobody may have the mailbox open in UW; a janusmaild may "
		"serve it. May be\n"
		"interrupted at any moment: the mailbox is whole, and the "
		"next run goes on.\n\n"
		"  -n, --dry-run   only say what could go\n"
		"  --json          one JSON document\n"
		"  --lockdir DIR   where UW has its lock files, if not /tmp\n\n"
		"examples:\n"
		"  janusmail compact --dry-run /home/anna/mail/*\n"
		"  janusmail compact /home/anna/INBOX\n",
};
