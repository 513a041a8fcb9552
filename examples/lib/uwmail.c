/*
 * uwmail - what the demo needs of UW's c-client and mailutil does not offer.
 *
 *	uwmail append MAILBOX FLAGS DATE FILE...	FLAGS: "(\Seen Work)"
 *	uwmail flag MAILBOX SEQUENCE FLAGS
 *	uwmail expunge MAILBOX SEQUENCE
 *	uwmail hide MAILBOX SEQUENCE
 *	uwmail subscribe MAILBOX...
 *	uwmail show MAILBOX...
 *
 * hide is expunge while a second session has the mailbox open: c-client then
 * marks the message and leaves its octets where they are.
 *
 * show opens read-only and prints, for examples/lib/show.py, "mailbox", then
 * "message" lines with TAB between fields; each message line is followed by
 * the octets of the message and a line feed.
 *
 * Must run as a user with an entry in passwd(5); names are relative to his
 * home directory. Debian's c-client refuses everything else.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <c-client/c-client.h>

static int failed;

void mm_log(char *string, long errflg)
{
	if (errflg == NIL)
		return;
	(void)fprintf(stderr, "uwmail: %s\n", string);
	if (errflg == ERROR)
		failed = EX_DATAERR;
}

void mm_fatal(char *string)
{
	(void)fprintf(stderr, "uwmail: c-client gave up: %s\n", string);
}

long mm_diskerror(MAILSTREAM *stream, long errcode, long serious)
{
	(void)stream;
	(void)serious;
	errno = (int)errcode;
	perror("uwmail: disk error");
	_exit(EX_IOERR);
}

/* The rest of what c-client calls back is of no interest here. */
void mm_searched(MAILSTREAM *stream, unsigned long number)
{
	(void)stream;
	(void)number;
}

void mm_exists(MAILSTREAM *stream, unsigned long number)
{
	(void)stream;
	(void)number;
}

void mm_expunged(MAILSTREAM *stream, unsigned long number)
{
	(void)stream;
	(void)number;
}

void mm_flags(MAILSTREAM *stream, unsigned long number)
{
	(void)stream;
	(void)number;
}

void mm_notify(MAILSTREAM *stream, char *string, long errflg)
{
	(void)stream;
	mm_log(string, errflg);
}

void mm_list(MAILSTREAM *stream, int delimiter, char *name, long attributes)
{
	(void)stream;
	(void)delimiter;
	(void)name;
	(void)attributes;
}

void mm_lsub(MAILSTREAM *stream, int delimiter, char *name, long attributes)
{
	mm_list(stream, delimiter, name, attributes);
}

void mm_status(MAILSTREAM *stream, char *mailbox, MAILSTATUS *status)
{
	(void)stream;
	(void)mailbox;
	(void)status;
}

void mm_dlog(char *string)
{
	(void)string;
}

void mm_login(NETMBX *mb, char *user, char *pwd, long trial)
{
	(void)mb;
	(void)trial;
	*user = *pwd = '\0';
}

void mm_critical(MAILSTREAM *stream)
{
	(void)stream;
}

void mm_nocritical(MAILSTREAM *stream)
{
	(void)stream;
}

static MAILSTREAM *open_mailbox(char *name, long options)
{
	MAILSTREAM *stream = mail_open(NIL, name, options);

	if (!stream) {
		(void)fprintf(stderr, "uwmail: %s: cannot open\n", name);
		_exit(EX_NOINPUT);
	}
	return stream;
}

/* A file as mail: line feeds become CR LF, as on the wire. */
static char *read_as_mail(const char *path, unsigned long *len_out)
{
	FILE *f = fopen(path, "rb");
	size_t len = 0, room = 0;
	char *text = NULL;
	int c, last = 0;

	if (!f) {
		perror(path);
		_exit(EX_NOINPUT);
	}
	while ((c = getc(f)) != EOF) {
		if (room < len + 3) {
			room = 2 * room + 4096;
			text = realloc(text, room);
			if (!text)
				_exit(EX_OSERR);
		}
		if (c == '\n' && last != '\r')
			text[len++] = '\r';
		text[len++] = (char)c;
		last = c;
	}
	(void)fclose(f);
	*len_out = len;
	return text;
}

static void cmd_append(char **arg)
{
	char *mailbox = arg[0], *flags = arg[1], *date = arg[2];

	for (char **file = arg + 3; *file; file++) {
		unsigned long len;
		char *text = read_as_mail(*file, &len);
		STRING message;

		INIT(&message, mail_string, text, len);
		if (!mail_append_full(NIL, mailbox, flags, *date ? date : NIL,
				      &message))
			failed = EX_DATAERR;
		free(text);
	}
}

static void cmd_flag(char **arg)
{
	MAILSTREAM *stream = open_mailbox(arg[0], NIL);

	mail_setflag(stream, arg[1], arg[2]);
	mail_close(stream);
}

static void expunge(char **arg, bool watched)
{
	static char deleted[] = "\\Deleted";
	MAILSTREAM *stream = open_mailbox(arg[0], NIL);
	MAILSTREAM *watcher = watched ? open_mailbox(arg[0], OP_READONLY) : NIL;

	mail_setflag(stream, arg[1], deleted);
	mail_expunge(stream);
	/* The last to close would tidy up, unless it only reads. */
	mail_close(stream);
	if (watcher)
		mail_close(watcher);
}

static void cmd_expunge(char **arg)
{
	expunge(arg, false);
}

static void cmd_hide(char **arg)
{
	expunge(arg, true);
}

static void cmd_subscribe(char **arg)
{
	for (; *arg; arg++)
		if (!mail_subscribe(NIL, *arg))
			failed = EX_DATAERR;
}

static void print_flags(const MAILSTREAM *stream, const MESSAGECACHE *elt)
{
	if (elt->seen)
		printf("\\Seen ");
	if (elt->flagged)
		printf("\\Flagged ");
	if (elt->answered)
		printf("\\Answered ");
	if (elt->deleted)
		printf("\\Deleted ");
	if (elt->draft)
		printf("\\Draft ");
	for (unsigned i = 0; i < NUSERFLAGS; i++)
		if (elt->user_flags & (1UL << i) && stream->user_flags[i])
			printf("%s ", stream->user_flags[i]);
}

static void show_message(MAILSTREAM *stream, unsigned long number)
{
	const MESSAGECACHE *elt = mail_elt(stream, number);
	unsigned long len;
	char date[64];
	const char *text = mail_fetch_message(stream, number, &len, FT_PEEK);

	mail_date(date, mail_elt(stream, number));
	printf("message\t%lu\t%s\t%lu\t", mail_uid(stream, number), date, len);
	print_flags(stream, elt);
	printf("\n");
	(void)fwrite(text, 1, len, stdout);
	printf("\n");
}

static void cmd_show(char **arg)
{
	static char all[] = "1:*";

	for (; *arg; arg++) {
		MAILSTREAM *stream = open_mailbox(*arg, OP_READONLY);

		printf("mailbox\t%s\t%s\t%lu\t%lu\t%lu\n", *arg,
		       stream->dtb->name, stream->uid_validity,
		       stream->uid_last + 1, stream->nmsgs);
		if (stream->nmsgs)
			mail_fetch_fast(stream, all, NIL);
		for (unsigned long i = 1; i <= stream->nmsgs; i++)
			show_message(stream, i);
		mail_close(stream);
	}
}

static const struct command {
	const char *name;
	int least, most; /* arguments */
	void (*run)(char **arg);
} commands[] = {
	{ "append", 4, 1000, cmd_append },
	{ "flag", 3, 3, cmd_flag },
	{ "expunge", 2, 2, cmd_expunge },
	{ "hide", 2, 2, cmd_hide },
	{ "subscribe", 1, 1000, cmd_subscribe },
	{ "show", 1, 100000, cmd_show },
};

int main(int argc, char **argv)
{
	const struct command *c = commands;
	const struct command *end = c + sizeof(commands) / sizeof(*c);

#include <c-client/linkage.c> // NOLINT(bugprone-suspicious-include)

	while (c < end && (argc < 2 || strcmp(c->name, argv[1]) != 0))
		c++;
	if (c == end || argc - 2 < c->least || argc - 2 > c->most) {
		(void)fprintf(stderr,
			      "usage: uwmail append|flag|expunge|hide|"
			      "subscribe|show MAILBOX...\n");
		return EX_USAGE;
	}
	c->run(argv + 2);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		perror("uwmail: standard output");
		return EX_IOERR;
	}
	return failed;
}
