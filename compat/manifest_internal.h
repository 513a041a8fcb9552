/*
 * manifest_internal.h - lines of a manifest, for manifest.c and
 * manifest_read.c.
 */
#pragma once

#include "compat/manifest.h"

#define MANIFEST_MAGIC "janusmail-manifest 1"

/** manifest_root_line - with the LF. Return: octets */
size_t manifest_root_line(const struct manifest *m, char *out);

/** manifest_parse_message - @line: NUL-terminated, without the LF, is taken
 * apart; ->keywords points into it. Return: 0; -EBADMSG */
MUST_CHECK int manifest_parse_message(char *line, struct fact *out);
MUST_CHECK int manifest_parse_folder(char *line, struct manifest_folder *out);
/** manifest_parse_root - counts and hash of @out */
MUST_CHECK int manifest_parse_root(char *line, struct manifest *out);
