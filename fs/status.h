/*
 * status.h - the state of everything, for `janusmail status`.
 */
#pragma once

#include <jansson.h>
#include <stdatomic.h>

#include "fs/fs.h"

/**
 * status_json - users, folders, phases, counts, damage, what is not served
 * @stop: looked at before each user and each folder; true ends the report
 *
 * A report: it changes nothing. Users nobody has asked for yet appear by name
 * only, with "attached" false; folders are shown as the index has them
 * ("waiting" if they were not looked at yet). Keys are stable; "schema" is
 * raised when one changes its meaning. Names that are not UTF-8 appear as
 * text_escape() writes them.
 *
 * Return: a new reference; NULL when stopped or out of memory.
 */
json_t *status_json(struct fs *fs, const atomic_bool *stop);
