/*
 * janusmail: one binary, one table of subcommands.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "compat/io.h"
#include "compat/log.h"
#include "tools/cmd.h"

static const struct cmd *const commands[] = {
	&cmd_mount, &cmd_status,   &cmd_convert, &cmd_verify,
	&cmd_dump,  &cmd_manifest, &cmd_check,	 &cmd_compact,
};

int cmd_usage(const struct cmd *c, const char *what)
{
	log_err("%s: %s; see janusmail %s --help", c->name, what, c->name);
	return EX_USAGE;
}

int cmd_help(const struct cmd *c)
{
	return printf("usage: janusmail %s %s", c->name, c->usage) < 0
		? EX_IOERR
		: 0;
}

int cmd_exit_status(int err)
{
	switch (err) {
	case 0:
		return 0;
	case -ENOENT:
	case -ENOTDIR:
		return EX_NOINPUT;
	case -EBADMSG:
	case -EUCLEAN:
		return EX_DATAERR;
	case -EACCES:
	case -EPERM:
		return EX_NOPERM;
	case -EAGAIN:
	case -EBUSY:
		return EX_TEMPFAIL;
	case -EINVAL:
		return EX_USAGE;
	case -ENOMEM:
		return EX_OSERR;
	case -ENOSPC:
	case -EDQUOT:
		return EX_CANTCREAT;
	case -ECONNREFUSED:
	case -ENOTCONN:
		return EX_UNAVAILABLE;
	default:
		return EX_IOERR;
	}
}

static int help(void)
{
	int n = printf("usage: janusmail COMMAND [ARGUMENTS]\n\n");

	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		n |= printf("  %-8s %s\n", commands[i]->name,
			    commands[i]->summary);
	n |= printf("\njanusmail COMMAND --help tells more, with examples.\n"
		    "Exit status: 0, or one of sysexits(3); mount: as "
		    "mount(8).\n");
	return n < 0 ? EX_IOERR : 0;
}

int main(int argc, char **argv)
{
	log_trace_init();
	io_stop_init();
	/* UW's lock files must be 0666 from their first moment. */
	(void)umask(0);
	if (argc < 2) {
		log_err("no command; see janusmail --help");
		return EX_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
	    strcmp(argv[1], "help") == 0)
		return help();
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return puts("janusmail " JANUSMAIL_VERSION) < 0 ? EX_IOERR : 0;
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(argv[1], commands[i]->name) != 0)
			continue;
		if (argc > 2 &&
		    (strcmp(argv[2], "--help") == 0 ||
		     strcmp(argv[2], "-h") == 0) &&
		    commands[i] != &cmd_mount)
			return cmd_help(commands[i]);
		return commands[i]->run(argc - 1, argv + 1);
	}
	log_err("no command '%s'; see janusmail --help", argv[1]);
	return EX_USAGE;
}
