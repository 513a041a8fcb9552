/*
 * dumper.h - a whole store as canonical text (compat/dump.h).
 */
#pragma once

#include <stdio.h>

#include "compat/base.h"
#include "compat/foldername.h"
#include "compat/store.h"

enum dumper_names {
	DUMPER_LEGACY,	/* list() gives legacy names: map them */
	DUMPER_MAILDIR, /* list() gives Maildir++ directories */
};

/**
 * dumper_store - print every folder of @s, sorted, with its messages
 * @single: for a store that is one mailbox file: its name; else NULL
 *
 * What is damaged is said on stderr, what is good is printed.
 *
 * Return: 0; -EBADMSG when something was damaged; -errno.
 */
MUST_CHECK int dumper_store(FILE *f, struct store *s, enum dumper_names names,
			    const char *single);
