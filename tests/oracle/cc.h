/*
 * cc.h - what cc_make and cc_dump share: call-backs and entry into c-client.
 *
 * Debian's library refuses absolute names ("restricted box"), so the process
 * says where its home is and names mailboxes below it; "./" in front keeps
 * '#', '{' and '~' from meaning anything. env_init() works once a process and
 * needs no passwd entry.
 *
 * c-client.h redefines write(2), min and max: include it last.
 */
#pragma once

#include <dlfcn.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <c-client/c-client.h>

static int cc_unix;		/* spools are looked at, too */
static unsigned long cc_errors; /* messages of c-client at level ERROR */
static char cc_reason[256];	/* the last of them */

void mm_searched(MAILSTREAM *s, unsigned long n)
{
}
void mm_exists(MAILSTREAM *s, unsigned long n)
{
}
void mm_expunged(MAILSTREAM *s, unsigned long n)
{
}
void mm_flags(MAILSTREAM *s, unsigned long n)
{
}
void mm_notify(MAILSTREAM *s, char *text, long level)
{
}
void mm_list(MAILSTREAM *s, int delim, char *name, long attr)
{
}
void mm_lsub(MAILSTREAM *s, int delim, char *name, long attr)
{
}
void mm_status(MAILSTREAM *s, char *mailbox, MAILSTATUS *st)
{
}
void mm_log(char *text, long level)
{
	if (level != WARN && level != ERROR)
		return;
	if (level == ERROR) {
		cc_errors++;
		snprintf(cc_reason, sizeof(cc_reason), "%s", text);
	}
	fprintf(stderr, "c-client: %s\n", text);
}
void mm_dlog(char *text)
{
}
void mm_login(NETMBX *mb, char *user, char *pw, long trial)
{
}
void mm_critical(MAILSTREAM *s)
{
}
void mm_nocritical(MAILSTREAM *s)
{
}
long mm_diskerror(MAILSTREAM *s, long errcode, long serious)
{
	fprintf(stderr, "c-client: disk error %ld\n", errcode);
	return 1;
}
void mm_fatal(char *text)
{
	fprintf(stderr, "c-client: fatal: %s\n", text);
}

/*
 * The library's own calls come here, too. UW gives up at once when somebody
 * removes the lock file while it looks at it: lstat() then says 0 links, which
 * is "a symbolic link" to it, or open() says ENOENT. A flag is then lost
 * without a word, a ping fails. Four of UW's own processes alone meet that once
 * in some 1300 lockings (docs/MBX.md), and tests are not about it: ask again.
 */
int lock_work(char *lock, void *sb, int op, long *pid)
{
	int (*real)(char *, void *, int, long *) =
		(int (*)(char *, void *, int, long *))dlsym(RTLD_NEXT,
							    "lock_work");
	int fd = real(lock, sb, op, pid);

	for (int i = 0; i < 5 && fd < 0; i++) {
		usleep(1000);
		fd = real(lock, sb, op, pid);
	}
	return fd;
}

/* Leaves the program; what goes wrong here has no remedy. */
static void cc_die(const char *what, const char *name)
{
	fprintf(stderr, "%s: ", name);
	perror(what);
	exit(1);
}

/* Become @uid:@gid (if we are root and they are given) and start c-client. */
static void cc_start(char *home, long uid, long gid)
{
	if (geteuid() == 0 && uid >= 0) {
		if (setgroups(0, NULL) || setgid((gid_t)gid) ||
		    setuid((uid_t)uid))
			cc_die("setuid", home);
	}
	umask(077);
	mail_link(&mbxdriver);
	if (cc_unix)
		mail_link(&unixdriver);
	mail_link(&dummydriver);
	env_init("oracle", home);
}

/* "UID:GID" as two numbers; -1 when it is not that. */
static int cc_owner(const char *text, long *uid, long *gid)
{
	return sscanf(text, "%ld:%ld", uid, gid) == 2 ? 0 : -1;
}
