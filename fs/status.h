/*
 * status.h - the state of everything, for `janusmail status`.
 */
#pragma once

#include <jansson.h>

#include "fs/fs.h"

/**
 * status_json - users, folders, phases, counts, damage, what is not served
 *
 * Users nobody has asked for yet are attached first; folders are shown as the
 * index has them ("waiting" if they were not looked at yet). Keys are stable;
 * "schema" is raised when one changes its meaning. Names that are not UTF-8
 * appear as text_escape() writes them.
 *
 * Return: a new reference; NULL when out of memory.
 */
json_t *status_json(struct fs *fs);
