/*
 * cc_make - test mailboxes made by UW's own c-client.
 *
 *	cc_make [-o UID:GID] HOME SCENARIO
 *	cc_make [-o UID:GID] HOME deliver NAME
 *	cc_make [-o UID:GID] HOME session NAME
 *	cc_make [-o UID:GID] HOME snarf SPOOL
 *
 * HOME is a user's home; SCENARIO one of the table at the end or "all". Folders
 * are made below HOME/mail but for the scenario "inbox". As root and with -o
 * the program becomes that user first, as UW's programs do. The same scenario
 * gives the same messages each time; UIDVALIDITY is the time of day.
 *
 * "deliver" appends one message to HOME/NAME as dmail does. A session keeps
 * HOME/NAME open, as imapd does, and answers each line of its input with "ok"
 * or "no" and the number of messages: ping, set SEQUENCE FLAGS, clear SEQUENCE
 * FLAGS, expunge, append, show, die (without a close), quit. "show" adds what
 * the session believes, UID:FLAGS:KEYWORD%KEYWORD for each message; "no" adds
 * what c-client complained of. "snarf" opens HOME/INBOX as a session whose
 *spool is SPOOL.
 */
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>

#include "cc.h"

static const char *mail = "mail";

static const char *in_mail(const char *name)
{
	static char buf[4][512];
	static int turn;

	turn = (turn + 1) % 4;
	snprintf(buf[turn], sizeof(buf[turn]), "./%s/%s", mail, name);
	return buf[turn];
}

static void must(long ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "cc_make: failed: %s\n", what);
	exit(1);
}

static void make(const char *box)
{
	char name[600];

	snprintf(name, sizeof(name), "#driver.mbx/%s", box);
	must(mail_create(NIL, name), name);
}

static void add(const char *box, const char *flags, const char *date,
		const char *text, size_t len)
{
	STRING s;

	INIT(&s, mail_string, (void *)text, len);
	must(mail_append_full(NIL, (char *)box, (char *)flags, (char *)date,
			      &s),
	     box);
}

static void add_text(const char *box, const char *flags, const char *text)
{
	add(box, flags, "02-Feb-2004 06:07:08 +0100", text, strlen(text));
}

/* An ordinary message; @n makes it different from others. */
static size_t sample(char *buf, size_t size, unsigned n)
{
	int len = snprintf(buf, size,
			   "Return-Path: <u%u@example.test>\r\n"
			   "From: Author %u <u%u@example.test>\r\n"
			   "To: reader@example.test\r\nSubject: message %u\r\n"
			   "Message-ID: <%u@example.test>\r\n\r\n"
			   "Line one of message %u.\r\n",
			   n, n, n, n, n, n);

	for (unsigned i = 0; i < n % 7; i++)
		len += snprintf(buf + len, size - (size_t)len,
				"Line %u, and some more of it.\r\n", i);
	return (size_t)len;
}

static void add_samples(const char *box, unsigned from, unsigned to)
{
	char text[2048], date[32];

	for (unsigned n = from; n <= to; n++) {
		snprintf(date, sizeof(date), "%02u-Mar-2009 %02u:00:%02u +0000",
			 1 + n % 28, n % 24, n % 60);
		add(box, NIL, date, text, sample(text, sizeof(text), n));
	}
}

static MAILSTREAM *session(const char *box)
{
	MAILSTREAM *s = mail_open(NIL, (char *)box, OP_SILENT);

	must(s != NIL && !strcmp(s->dtb->name, "mbx"), box);
	return s;
}

/* A read/write session gives out UIDs and takes \Recent away. */
static void settle(const char *box)
{
	mail_close(session(box));
}

static void scenario_flags(void)
{
	const char *names[] = { "\\Seen", "\\Answered", "\\Flagged",
				"\\Deleted", "\\Draft" };
	const char *box = in_mail("flags");
	char text[2048];

	make(box);
	for (unsigned n = 0; n < 32; n++) {
		char flags[128] = "";

		for (unsigned i = 0; i < 5; i++)
			if (n >> i & 1) {
				strcat(flags, *flags ? " " : "");
				strcat(flags, names[i]);
			}
		add(box, *flags ? flags : NIL, "01-Jan-2001 00:00:00 +0000",
		    text, sample(text, sizeof(text), n));
	}
	settle(box);
}

/* Every form of a date that an IMAP client can hand to c-client. */
static void scenario_dates(void)
{
	const char *dates[] = {
		" 1-Jan-1970 00:00:01 +0000", "01-Jan-1999 23:59:59 +1400",
		"29-Feb-2000 12:00:00 -1130", "31-Dec-2037 23:59:60 +0000",
		"19-Jan-2038 03:14:08 +0000", "31-Dec-2096 23:59:59 -1200",
		"28-Mar-2010 02:30:00 +0200", "7-Jul-2007 07:07:07 -0330",
		"30-Jun-2012 23:59:60 +0000", "5-Nov-2001 04:05:06 PST",
	};
	const char *box = in_mail("dates");
	char text[2048];

	make(box);
	for (unsigned n = 0; n < sizeof(dates) / sizeof(*dates); n++)
		add(box, NIL, dates[n], text, sample(text, sizeof(text), n));
	settle(box);
}

static void scenario_keywords(void)
{
	const char *box = in_mail("keywords");
	MAILSTREAM *s;
	char set[16], name[64];

	make(box);
	add_samples(box, 1, 34);
	s = session(box);
	for (unsigned i = 1; i <= 30; i++) {
		snprintf(set, sizeof(set), "%u", i);
		snprintf(name, sizeof(name),
			 i == 1		  ? "$Forwarded"
				 : i == 2 ? "NonJunk"
				 : i == 3 ? "a,b}[c"
					  : "Label%u",
			 i);
		mail_setflag(s, set, name);
		mail_setflag(s, "31", name);
	}
	mail_setflag(s, "32", "$Forwarded Label30");
	mail_setflag(s, "33", "nonjunk \\Seen");
	mail_close(s);
	must(cc_errors == 0, "keywords");
}

/* Expunged while another session holds the file: the records stay, marked. The
 * other session dies without a close, so nobody reclaims them. */
static void scenario_holes(void)
{
	const char *box = in_mail("holes");
	int ready[2], go[2], status;
	MAILSTREAM *s;
	char c = 0;
	pid_t pid;

	make(box);
	add_samples(box, 1, 60);
	settle(box);
	must(!pipe(ready) && !pipe(go), "pipe");
	pid = fork();
	if (pid == 0) {
		session(box);
		must((write)(ready[1], &c, 1) == 1, "pipe");
		must(read(go[0], &c, 1) == 1, "pipe");
		_exit(0);
	}
	must(pid > 0 && read(ready[0], &c, 1) == 1, "fork");
	s = session(box);
	mail_setflag(s, "1,5:9,30,55:60", "\\Deleted");
	mail_expunge(s);
	must(s->nmsgs == 47, "expunge");
	mail_close(s);
	must((write)(go[1], &c, 1) == 1, "pipe");
	must(waitpid(pid, &status, 0) == pid && !status, "holder");
}

static void scenario_gaps(void)
{
	const char *box = in_mail("gaps");
	MAILSTREAM *s;

	make(box);
	add_samples(box, 1, 40);
	s = session(box);
	mail_setflag(s, "1:3,10,20:29,39:40", "\\Deleted");
	mail_expunge(s);
	mail_close(s);
}

/* Delivered and not yet seen by any read/write session: UID 0 on disk. */
static void scenario_tail(void)
{
	const char *box = in_mail("tail");

	make(box);
	add_samples(box, 1, 5);
	settle(box);
	add_samples(box, 6, 12);
	make(in_mail("fresh"));
	add_samples(in_mail("fresh"), 1, 3);
}

static long uid_wanted(char *mailbox, unsigned long validity, SEARCHSET *set)
{
	return 1;
}

/* Appended as imapd does it (UIDPLUS): a UID, but still \Recent. */
static void scenario_recent(void)
{
	const char *box = in_mail("recent");
	char text[2048];

	make(box);
	add_samples(box, 1, 3);
	settle(box);
	mail_parameters(NIL, SET_APPENDUID, (void *)uid_wanted);
	add_samples(box, 4, 6);
	add(box, "\\Seen", "03-Mar-2003 03:03:03 +0000", text,
	    sample(text, sizeof(text), 7));
	mail_parameters(NIL, SET_APPENDUID, NIL);
}

static void scenario_bodies(void)
{
	static const char nul[] = "Subject: nul\r\n\r\na\0b\0\0c\r\n";
	static const char only_nul[] = "\0\0\0";
	static char bin[4096];
	const char *box = in_mail("bodies");

	make(box);
	add(box, NIL, "05-May-2005 05:05:05 -0500", nul, sizeof(nul) - 1);
	add(box, NIL, "05-May-2005 05:05:05 -0500", only_nul, 3);
	add_text(box, NIL, "Subject: lf\n\nbare\nline\nfeeds\n");
	add_text(box, NIL, "Subject: mixed\r\n\r\none\ntwo\r\nthree\n");
	add_text(box, NIL, "Subject: cr\r\n\r\nbare\rcr\r\r\nend\r");
	add_text(box, NIL, "Subject: no end\r\n\r\nno final newline");
	add_text(box, NIL, "Subject: header only\r\n\r\n");
	add_text(box, NIL, "Subject: header without an empty line\r\n");
	add_text(box, NIL, "x");
	add_text(box, NIL, "\r\n");
	add_text(box, NIL, "\n");
	add_text(box, NIL,
		 "Subject: record\r\n\r\n"
		 "02-Feb-2004 06:07:08 +0100,5;000000000011-00000007\r\nabcde"
		 "*mbx*\r\n4000000000000009\r\n");
	add_text(box, NIL,
		 "Subject: from\r\n\r\nFrom me Sat Jan  3 01:05:34 1996\r\n"
		 ">From you\r\n.\r\n..\r\nFrom \r\n");
	add_text(box, NIL, "Subject: gr\xfc\xdf\xe9\r\n\r\n\xff\xfe\x80\r\n");
	for (size_t i = 0; i < sizeof(bin); i++)
		bin[i] = (char)(i * 7 + i / 256);
	add(box, NIL, "05-May-2005 05:05:05 -0500", bin, sizeof(bin));
	memset(bin, 'l', sizeof(bin));
	add(box, NIL, "05-May-2005 05:05:05 -0500", bin, sizeof(bin));
	settle(box);
}

static void scenario_names(void)
{
	const char *names[] = {
		"a/b/c",
		"a/b/d",
		"a/e",
		"dotted.name",
		"lists/2012.q1",
		"with space",
		"per%cent",
		"&ANw-ml&AOQ-ut",
		"Sent",
		"sent",
		"q&-a",
		"&ZeVnLIqe-",
		"very/deep/er/and/deep/er",
	};

	for (unsigned n = 0; n < sizeof(names) / sizeof(*names); n++) {
		make(in_mail(names[n]));
		add_samples(in_mail(names[n]), 100 * n, 100 * n + 2);
		settle(in_mail(names[n]));
	}
	must(sm_subscribe("INBOX"), "subscribe");
	must(sm_subscribe("mail/a/b/c"), "subscribe");
	must(sm_subscribe("mail/dotted.name"), "subscribe");
	must(sm_subscribe("~/mail/Sent"), "subscribe");
	must(sm_subscribe("mail/&ANw-ml&AOQ-ut"), "subscribe");
	must(sm_subscribe("mail/gone"), "subscribe");
}

static void scenario_empty(void)
{
	make(in_mail("empty"));
	make(in_mail("emptied"));
	add_samples(in_mail("emptied"), 1, 4);
	MAILSTREAM *s = session(in_mail("emptied"));
	mail_setflag(s, "1:4", "\\Deleted");
	mail_expunge(s);
	mail_close(s);
}

static void scenario_inbox(void)
{
	MAILSTREAM *s;

	make("INBOX");
	add_samples("INBOX", 1, 8);
	s = session("INBOX");
	mail_setflag(s, "2", "\\Seen");
	mail_setflag(s, "3", "\\Flagged $Label1");
	mail_setflag(s, "4", "\\Deleted");
	mail_expunge(s);
	mail_close(s);
	add_samples("INBOX", 9, 10);
}

struct bulk {
	unsigned n, end;
	char text[2048];
	STRING s;
};

static long bulk_next(MAILSTREAM *stream, void *data, char **flags, char **date,
		      STRING **message)
{
	static char when[32];
	struct bulk *b = data;

	*message = NIL;
	if (b->n >= b->end)
		return 1;
	b->n++;
	snprintf(when, sizeof(when), "%02u-Apr-2011 %02u:%02u:00 +0200",
		 1 + b->n % 30, b->n % 24, b->n % 60);
	*flags = b->n % 3 ? "\\Seen" : NIL;
	*date = when;
	INIT(&b->s, mail_string, b->text,
	     sample(b->text, sizeof(b->text), b->n));
	*message = &b->s;
	return 1;
}

static void scenario_many(void)
{
	static struct bulk b = { .end = 20000 };
	const char *box = in_mail("many");

	make(box);
	must(mail_append_multiple(NIL, (char *)box, bulk_next, &b), box);
	settle(box);
}

static void scenario_big(void)
{
	const size_t size = 50 << 20;
	const char *box = in_mail("big");
	char *text = malloc(size);

	must(text != NULL, "memory");
	strcpy(text, "Subject: big\r\n\r\n");
	for (size_t i = 16; i < size; i++)
		text[i] = i % 78 == 76 ? '\r'
			: i % 78 == 77 ? '\n'
				       : (char)('a' + i * i / 78 % 26);
	make(box);
	add(box, NIL, "05-May-2005 05:05:05 -0500", text, size);
	settle(box);
	free(text);
}

/* One more message, delivered as dmail does, into the mailbox NAME. */
static void deliver(const char *box)
{
	char text[2048];
	struct stat st;
	unsigned n = stat(box, &st) ? 1 : (unsigned)st.st_size;

	add(box, NIL, "04-Apr-2014 04:04:04 +0000", text,
	    sample(text, sizeof(text), n));
}

static void show(MAILSTREAM *s)
{
	for (unsigned long n = 1; n <= s->nmsgs; n++) {
		MESSAGECACHE *elt = mail_elt(s, n);
		const char *between = "";

		printf(" %lu:%s%s%s%s%s:", mail_uid(s, n),
		       elt->draft ? "D" : "", elt->flagged ? "F" : "",
		       elt->answered ? "R" : "", elt->seen ? "S" : "",
		       elt->deleted ? "T" : "");
		for (int i = 0; i < NUSERFLAGS; i++)
			if (elt->user_flags >> i & 1 && s->user_flags[i]) {
				printf("%s%s", between, s->user_flags[i]);
				between = "%";
			}
	}
}

static int command(MAILSTREAM *s, const char *box, char *line)
{
	char *verb = strtok(line, " \n"), *seq = strtok(NULL, " \n");
	char *flags = strtok(NULL, "\n");
	unsigned long before = cc_errors;

	*cc_reason = '\0';
	if (!verb || !strcmp(verb, "quit"))
		return 0;
	if (!strcmp(verb, "die"))
		_exit(0);
	if (!strcmp(verb, "set") && flags)
		mail_setflag(s, seq, flags);
	else if (!strcmp(verb, "clear") && flags)
		mail_clearflag(s, seq, flags);
	else if (!strcmp(verb, "expunge"))
		mail_expunge(s);
	else if (!strcmp(verb, "append"))
		deliver(box);
	else if (strcmp(verb, "ping") && strcmp(verb, "show"))
		cc_errors++;
	if (!mail_ping(s))
		cc_errors++;
	printf("%s %lu", cc_errors == before ? "ok" : "no", s->nmsgs);
	if (cc_errors != before)
		printf(" %s", *cc_reason ? cc_reason : "no more of it");
	else if (!strcmp(verb, "show"))
		show(s);
	putchar('\n');
	fflush(stdout);
	return 1;
}

static void run_session(const char *box)
{
	MAILSTREAM *s = session(box);
	char line[1024];

	printf("ok %lu\n", s->nmsgs);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) && command(s, box, line))
		;
	mail_close(s);
}

static void snarf(const char *spool)
{
	MAILSTREAM *s;

	must(mail_parameters(NIL, SET_SYSINBOX, (void *)spool) != NIL, spool);
	s = session("INBOX");
	must(mail_ping(s), "ping");
	mail_close(s);
}

static const struct scenario {
	const char *name;
	void (*run)(void);
	int in_all;
} scenarios[] = {
	{ "inbox", scenario_inbox, 1 },	  { "flags", scenario_flags, 1 },
	{ "dates", scenario_dates, 1 },	  { "keywords", scenario_keywords, 1 },
	{ "holes", scenario_holes, 1 },	  { "gaps", scenario_gaps, 1 },
	{ "tail", scenario_tail, 1 },	  { "recent", scenario_recent, 1 },
	{ "bodies", scenario_bodies, 1 }, { "names", scenario_names, 1 },
	{ "empty", scenario_empty, 1 },	  { "many", scenario_many, 0 },
	{ "big", scenario_big, 0 },
};

static int run(const char *name, const char *box)
{
	int found = 0;

	if (!strcmp(name, "session") && box) {
		run_session(box);
		return 1;
	}
	if (!strcmp(name, "snarf") && box) {
		snarf(box + 2);
		return 1;
	}
	if (!strcmp(name, "deliver") && box) {
		deliver(box);
		return 1;
	}
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++) {
		const struct scenario *sc = &scenarios[i];

		if (strcmp(name, sc->name) &&
		    !(sc->in_all && !strcmp(name, "all")))
			continue;
		sc->run();
		found = 1;
	}
	return found;
}

int main(int argc, char **argv)
{
	long uid = -1, gid = -1;
	char home[PATH_MAX], box[512];

	if (argc > 2 && !strcmp(argv[1], "-o") &&
	    !cc_owner(argv[2], &uid, &gid)) {
		argv += 2;
		argc -= 2;
	}
	if (argc < 3) {
		fprintf(stderr, "usage: cc_make [-o UID:GID] HOME SCENARIO\n");
		return 1;
	}
	if (!realpath(argv[1], home) || chdir(home))
		cc_die("chdir", argv[1]);
	cc_unix = !strcmp(argv[2], "snarf");
	cc_start(home, uid, gid);
	if (argc > 3)
		snprintf(box, sizeof(box), "./%s", argv[3]);
	if (!run(argv[2], argc > 3 ? box : NULL)) {
		fprintf(stderr, "cc_make: no scenario %s\n", argv[2]);
		return 1;
	}
	return cc_errors != 0;
}
