/*
 * convert_internal.h - what the files of a conversion share: convert.c walks,
 * convertfiles.c knows what lies in the folder, convertbatch.c writes.
 */
#pragma once

#include <stddef.h>

#include "compat/basename.h"
#include "compat/convert.h"

enum { CONVERT_NAME = BASENAME_MAX + INFO_MAX };

/* ---- convertfiles.c ------------------------------------------------------ */

/* A copy of a message that lies in cur/ or new/. */
struct convert_file {
	uint32_t uid;
	uint32_t flags, letters;
	bool in_new, seen;
	uint64_t hash; /* of its base name */
	uint64_t size;
	int64_t date;
	char *odd; /* its name, if it is not as we would write it */
};

struct convert_files {
	struct convert_file *list; /* ascending by UID */
	size_t count, room, next;
	uint64_t foreign;
};

/* The open directories of a folder. */
struct convert_dirs {
	int cur, new, tmp;
};

/** convertfiles_load - Return: 0; -errno. convertfiles_fini() is due anyway. */
MUST_CHECK int convertfiles_load(struct convert_files *f,
				 const struct convert_dirs *d,
				 const struct convert_target *t);
void convertfiles_fini(struct convert_files *f);
/** convertfiles_find - by ascending UID; NULL */
struct convert_file *convertfiles_find(struct convert_files *f, uint32_t uid,
				       const char *base);
/** convertfiles_name - @base: of one whose name is not odd; @out: CONVERT_NAME
 * + 1 octets. Return: the name */
const char *convertfiles_name(const struct convert_file *f, const char *base,
			      char *out);
/** convertfiles_remove - as its owner */
MUST_CHECK int convertfiles_remove(const struct convert_file *f,
				   const struct convert_dirs *d,
				   const struct convert_target *t);

/* ---- convertbatch.c ------------------------------------------------------ */

/* A file in tmp/ that is to have a name. */
struct convert_staged {
	uint32_t uid;
	bool in_new;
	char name[CONVERT_NAME + 1];
};

struct convert_batch {
	const struct convert_dirs *dirs;
	const struct convert_target *target;
	struct convert_staged *list;
	size_t count, room;
	uint64_t octets;
};

/* One message that is to be written. */
struct convert_piece {
	const struct msg *m;
	const char *name; /* with its letters */
	bool in_new;
	const uint8_t *data; /* m->size octets */
};

void convertbatch_init(struct convert_batch *b, const struct convert_dirs *d,
		       const struct convert_target *t);
/** convertbatch_clean - remove what an earlier run has left in tmp/ */
MUST_CHECK int convertbatch_clean(const struct convert_batch *b);
/** convertbatch_add - write files into tmp/, whole ones */
MUST_CHECK int convertbatch_add(struct convert_batch *b,
				const struct convert_piece *list, size_t count);
/** convertbatch_add_large - the same with one, read piece by piece */
typedef ssize_t convertbatch_read(void *buf, size_t len, uint64_t off,
				  void *arg);
MUST_CHECK int convertbatch_add_large(struct convert_batch *b,
				      const struct convert_piece *p,
				      convertbatch_read *fn, void *arg);
bool convertbatch_is_full(const struct convert_batch *b);
/** convertbatch_flush - make them durable, then give them their names */
MUST_CHECK int convertbatch_flush(struct convert_batch *b);
/** convertbatch_fini - what has no name is removed */
void convertbatch_fini(struct convert_batch *b);
