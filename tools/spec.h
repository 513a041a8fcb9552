/*
 * spec.h - stores on the command line: "mbx:/home/anna/mail".
 */
#pragma once

#include "compat/base.h"

struct source;

/** spec_open - Return: 0; -EINVAL: the reason was logged; -errno, logged, too
 */
MUST_CHECK int spec_open(const char *spec, struct source **out);

/** spec_help - for --help: what a SPEC can be, ending with a newline */
extern const char spec_help[];
