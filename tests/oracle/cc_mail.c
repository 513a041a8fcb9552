/*
 * cc_mail - UW's c-client at work, told what to do line by line.
 *
 *	cc_mail [-o UID:GID] HOME <COMMANDS
 *
 * NAME is a mailbox below HOME. Each line is answered with "ok" or "no" (and
 * what c-client complained of goes to standard error):
 *
 *	make NAME		an empty MBX
 *	put NAME PATH DATE [FLAGS]	the octets of PATH, as dmail appends;
 *				DATE has '_' for spaces, "-" is none
 *	open NAME		a session, kept until "close NAME"
 *	flag NAME +|- UIDS FLAGS	in the open session, or in one for this
 *	expunge NAME		the same; all that are \Deleted
 *	ping NAME		the same
 *	close NAME
 */
#include <limits.h>

#include "cc.h"

#define MAX_OPEN 16

static struct open_box {
	char name[256];
	MAILSTREAM *stream;
} boxes[MAX_OPEN];

static struct open_box *find(const char *name)
{
	for (int i = 0; i < MAX_OPEN; i++)
		if (boxes[i].stream && !strcmp(boxes[i].name, name))
			return &boxes[i];
	return NULL;
}

/* "./" in front keeps '#', '{' and '~' from meaning anything; the bare word
 * INBOX is the way to that one. */
static char *box_name(const char *name)
{
	static char buf[600];

	snprintf(buf, sizeof(buf), "%s%s", strcmp(name, "INBOX") ? "./" : "",
		 name);
	return buf;
}

static MAILSTREAM *session(const char *name)
{
	MAILSTREAM *s = mail_open(NIL, box_name(name), OP_SILENT);

	if (s && strcmp(s->dtb->name, "mbx")) {
		fprintf(stderr, "cc_mail: %s is not an MBX\n", name);
		cc_errors++;
	}
	return s;
}

static int do_make(const char *name)
{
	char buf[700];

	snprintf(buf, sizeof(buf), "#driver.mbx/%s", box_name(name));
	return mail_create(NIL, buf) != 0;
}

static int do_put(const char *name, const char *path, char *date, char *flags)
{
	FILE *f = fopen(path, "r");
	static char text[8 << 20];
	size_t len;
	STRING s;

	if (!f)
		cc_die("open", path);
	len = fread(text, 1, sizeof(text), f);
	fclose(f);
	for (char *p = date; *p; p++)
		*p = *p == '_' ? ' ' : *p;
	INIT(&s, mail_string, text, len);
	return mail_append_full(NIL, box_name(name), flags,
				strcmp(date, "-") ? date : NIL, &s) != 0;
}

static int do_open(const char *name)
{
	for (int i = 0; i < MAX_OPEN; i++) {
		if (boxes[i].stream)
			continue;
		snprintf(boxes[i].name, sizeof(boxes[i].name), "%s", name);
		boxes[i].stream = session(name);
		return boxes[i].stream != NIL;
	}
	return 0;
}

static int do_close(const char *name)
{
	struct open_box *b = find(name);

	if (!b)
		return 0;
	mail_close(b->stream);
	b->stream = NIL;
	return 1;
}

static int do_work(const char *verb, const char *name)
{
	struct open_box *b = find(name);
	MAILSTREAM *s = b ? b->stream : session(name);
	char *how = strtok(NULL, " \n"), *uids = strtok(NULL, " \n");
	char *flags = strtok(NULL, "\n");
	int ok = s && mail_ping(s);

	if (ok && !strcmp(verb, "flag"))
		mail_flag(s, uids, flags, ST_UID | (*how == '+' ? ST_SET : 0));
	if (ok && !strcmp(verb, "expunge"))
		mail_expunge(s);
	if (s && !b)
		mail_close(s);
	return ok;
}

static int command(char *line)
{
	char *verb = strtok(line, " \n"), *name = strtok(NULL, " \n");

	if (!verb || !name)
		return 0;
	if (!strcmp(verb, "make"))
		return do_make(name);
	if (!strcmp(verb, "open"))
		return do_open(name);
	if (!strcmp(verb, "close"))
		return do_close(name);
	if (!strcmp(verb, "put")) {
		char *path = strtok(NULL, " \n"), *date = strtok(NULL, " \n");

		return do_put(name, path, date, strtok(NULL, "\n"));
	}
	return do_work(verb, name);
}

int main(int argc, char **argv)
{
	long uid = -1, gid = -1;
	char home[PATH_MAX], line[65536];

	if (argc > 2 && !strcmp(argv[1], "-o") &&
	    !cc_owner(argv[2], &uid, &gid)) {
		argv += 2;
		argc -= 2;
	}
	if (argc != 2 || !realpath(argv[1], home) || chdir(home)) {
		fprintf(stderr, "usage: cc_mail [-o UID:GID] HOME\n");
		return 1;
	}
	cc_start(home, uid, gid);
	while (fgets(line, sizeof(line), stdin)) {
		unsigned long before = cc_errors;
		int ok = command(line);

		puts(ok && cc_errors == before ? "ok" : "no");
		fflush(stdout);
	}
	return 0;
}
