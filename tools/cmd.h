/*
 * cmd.h - the subcommands of janusmail(8).
 */
#pragma once

#include "compat/base.h"

/* One subcommand; help is printed from the table of these. */
struct cmd {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0]: its name */
	const char *summary;		   /* one line */
	const char *usage;		   /* arguments, then examples */
};

extern const struct cmd cmd_verify, cmd_manifest, cmd_mount, cmd_dump,
	cmd_status, cmd_check, cmd_compact, cmd_convert;

/** cmd_usage - complain about the arguments of @c, as errors go: one line that
 * says what to do. Return: EX_USAGE */
int cmd_usage(const struct cmd *c, const char *what);
/** cmd_help - print the help of @c. Return: exit status */
int cmd_help(const struct cmd *c);
/** cmd_exit_status - the exit status (sysexits) that stands for -errno */
int cmd_exit_status(int err);
