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
 *	attach WORD NAME rw|ro	a session that other lines call WORD; a mailbox
 *				may have several
 *	flag NAME +|- UIDS FLAGS	in the open session, or in one for this
 *	store NAME +|- UIDS FLAGS	the same, without looking before what
 *				others did
 *	expunge NAME		the same; all that are \Deleted
 *	ping NAME		the same
 *	show NAME		what the open session believes
 *	get NAME UID PATH	its octets, into a file
 *	close NAME
 *	rename NAME NEW
 *	delete NAME
 *	subscribe NAME		as it is written
 *	unsubscribe NAME
 *
 * "show" is answered with a line before the "ok": "= UIDVALIDITY UIDLAST TABLE
 * UID:FLAGS:KEYWORDS:MARK...", the table of keywords and those of a message
 *with % behind each, the mark being the value of the header line X-Model.
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

static MAILSTREAM *session(const char *name, long how)
{
	MAILSTREAM *s = mail_open(NIL, box_name(name), OP_SILENT | how);

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

static int do_open(const char *word, const char *name, long how)
{
	for (int i = 0; i < MAX_OPEN; i++) {
		if (boxes[i].stream)
			continue;
		snprintf(boxes[i].name, sizeof(boxes[i].name), "%s", word);
		boxes[i].stream = session(name, how);
		return boxes[i].stream != NIL;
	}
	return 0;
}

static int do_attach(const char *word)
{
	char *name = strtok(NULL, " \n"), *how = strtok(NULL, " \n");

	return name && how &&
		do_open(word, name, strcmp(how, "ro") ? 0 : OP_READONLY);
}

static void show_mark(MAILSTREAM *s, unsigned long n)
{
	unsigned long len;
	char *head = s->dtb->header(s, n, &len, FT_PEEK | FT_INTERNAL);
	char *mark = memmem(head, len, "X-Model: ", 9);

	for (mark = mark ? mark + 9 : ""; *mark > ' '; mark++)
		putchar(*mark);
}

static int do_show(const char *name)
{
	struct open_box *b = find(name);
	MAILSTREAM *s = b ? b->stream : NIL;

	if (!s)
		return 0;
	printf("= %lu %lu ", s->uid_validity, s->uid_last);
	for (int i = 0; i < NUSERFLAGS && s->user_flags[i]; i++)
		printf("%s%%", s->user_flags[i]);
	putchar('-');
	for (unsigned long n = 1; n <= s->nmsgs; n++) {
		MESSAGECACHE *elt = mail_elt(s, n);

		printf(" %lu:%s%s%s%s%s:", mail_uid(s, n),
		       elt->draft ? "D" : "", elt->flagged ? "F" : "",
		       elt->answered ? "R" : "", elt->seen ? "S" : "",
		       elt->deleted ? "T" : "");
		for (int i = 0; i < NUSERFLAGS; i++)
			if (elt->user_flags >> i & 1)
				printf("%s%%",
				       s->user_flags[i] ? s->user_flags[i]
							: "?");
		putchar(':');
		show_mark(s, n);
	}
	putchar('\n');
	return 1;
}

/* Header and body as the driver gives them: the octets of the file. */
static int do_get(const char *name)
{
	struct open_box *b = find(name);
	char *uid = strtok(NULL, " \n"), *path = strtok(NULL, " \n");
	unsigned long n, len;
	STRING text;
	char *head;
	FILE *f;

	if (!b || !path || !(n = mail_msgno(b->stream, strtoul(uid, NIL, 10))))
		return 0;
	f = fopen(path, "w");
	if (!f)
		cc_die("open", path);
	head = b->stream->dtb->header(b->stream, n, &len,
				      FT_PEEK | FT_INTERNAL);
	fwrite(head, 1, len, f);
	if (!b->stream->dtb->text(b->stream, n, &text, FT_PEEK | FT_INTERNAL))
		cc_die("no text", name);
	for (unsigned long left = SIZE(&text); left; left--)
		putc(SNX(&text), f);
	fclose(f);
	return 1;
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

static int do_rename(const char *name, const char *new_name)
{
	char old[600];

	snprintf(old, sizeof(old), "%s", box_name(name));
	return mail_rename(NIL, old, box_name(new_name)) != 0;
}

static int do_work(const char *verb, const char *name)
{
	struct open_box *b = find(name);
	MAILSTREAM *s = b ? b->stream : session(name, 0);
	char *how = strtok(NULL, " \n"), *uids = strtok(NULL, " \n");
	char *flags = strtok(NULL, "\n");
	int store = !strcmp(verb, "store");
	int ok = s && (store || mail_ping(s));

	if (ok && (store || !strcmp(verb, "flag")))
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
		return do_open(name, name, 0);
	if (!strcmp(verb, "attach"))
		return do_attach(name);
	if (!strcmp(verb, "show"))
		return do_show(name);
	if (!strcmp(verb, "get"))
		return do_get(name);
	if (!strcmp(verb, "close"))
		return do_close(name);
	if (!strcmp(verb, "rename"))
		return do_rename(name, strtok(NULL, " \n"));
	if (!strcmp(verb, "delete"))
		return mail_delete(NIL, box_name(name)) != 0;
	if (!strcmp(verb, "subscribe"))
		return mail_subscribe(NIL, (char *)name) != 0;
	if (!strcmp(verb, "unsubscribe"))
		return mail_unsubscribe(NIL, (char *)name) != 0;
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
