/*
 * manifest.h - a store as one line a message, with hashes over all of it;
 * janusmail-manifest(5) describes it.
 *
 *	janusmail-manifest 1
 *	user <name>
 *	folder <name> uidvalidity=<dec> uidnext=<dec> messages=<dec>
 *	       octets=<dec> [damage=<text> | lost=<text>]
 *	<uid> flags=<letters> keywords=<a,b> date=<rfc3339> size=<dec>
 *	       sha256=<hex> crlf=<hex>|same
 *	...
 *	folder-hash <hex>
 *	...
 *	subscribed <name>
 *	...
 *	user-hash <hex>
 *	...
 *	root <hex> users=<dec> folders=<dec> messages=<dec> octets=<dec>
 *
 * (each on one line.) What the lines hold is compat/fact.h's. folder-hash is
 *the SHA-256 of the folder's line and those of its messages; user-hash that of
 *the lines user, folder-hash and subscribed; root's that of the lines
 *user-hash. So every octet of the file is under the root, and what differs is
 *found going down from it. The mail of one user has no line "user". A message
 *that could not be read has "-" for both hashes.
 *
 * Users ascend octet by octet, folders as in dumps, messages by UID, those
 * without one last.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include "compat/base.h"
#include "compat/digest.h"
#include "compat/fact.h"

enum {
	MANIFEST_DAMAGE_MAX = 240,
	MANIFEST_USER_MAX = 200,
	MANIFEST_LINE_MAX = FACT_KEYWORDS_MAX + 1024,
};

struct manifest_folder {
	char dir[FOLDERNAME_MAX + 1];
	char damage[MANIFEST_DAMAGE_MAX + 1]; /* printable ASCII; "" if it was
						 read well */
	bool lost; /* nothing could be read; damage says why */
	uint32_t uidvalidity, uidnext;
	uint64_t messages, octets;
	uint64_t off;		   /* of its first message's line */
	char hash[DIGEST_HEX + 1]; /* off, hash: of one that was read */
};

struct manifest_user {
	char *name; /* "": there is but one */
	struct manifest_folder *folders;
	size_t count;
	char **subscribed; /* directories, as ".a.b" */
	size_t subscribed_count;
	char hash[DIGEST_HEX + 1];
};

struct manifest {
	struct manifest_user *users;
	size_t count;
	uint64_t folders, messages, octets;
	char root[DIGEST_HEX + 1];
};

/* ---- writing: lines are made by anybody, and given to one writer --------- */

/** manifest_folder_line, manifest_message_line - with the LF; @out has
 * MANIFEST_LINE_MAX + 1 octets. Return: octets */
size_t manifest_folder_line(const struct manifest_folder *f, char *out);
size_t manifest_message_line(const struct fact *m, char *out);

struct manifest_writer;

/** manifest_writer_new - to @f, whose errors the caller looks for at the end;
 * NULL when out of memory */
struct manifest_writer *manifest_writer_new(FILE *f);
MUST_CHECK int manifest_begin_user(struct manifest_writer *w, const char *name);
/** manifest_folder_text - lines of a folder, in pieces of any size */
MUST_CHECK int manifest_folder_text(struct manifest_writer *w, const char *text,
				    size_t len);
MUST_CHECK int manifest_end_folder(struct manifest_writer *w, uint64_t messages,
				   uint64_t octets);
MUST_CHECK int manifest_subscribed(struct manifest_writer *w, const char *dir);
MUST_CHECK int manifest_end_user(struct manifest_writer *w);
/** manifest_end - @root_out: DIGEST_HEX + 1 octets */
MUST_CHECK int manifest_end(struct manifest_writer *w, char *root_out);
/** manifest_writer_free - NULL is fine */
void manifest_writer_free(struct manifest_writer *w);

/* ---- reading ------------------------------------------------------------- */

struct manifest_fault {
	uint64_t line;	  /* from 1 */
	const char *text; /* what is wrong there; static */
};

/**
 * manifest_load - read and verify a whole manifest, hash by hash; messages are
 * not kept
 * Return: 0; -EBADMSG: it is damaged, @fault says where; -errno. @out is empty
 * after a failure.
 */
MUST_CHECK int manifest_load(int fd, struct manifest *out,
			     struct manifest_fault *fault);
void manifest_fini(struct manifest *m);

struct manifest_cursor;

/** manifest_open - the messages of a folder of the file that was loaded from
 * @fd, which is only read with pread() */
MUST_CHECK int manifest_open(int fd, const struct manifest_folder *f,
			     struct manifest_cursor **out);
/** manifest_next - Return: 0, @out good until the next call; -ENOENT at the
 * end; -EBADMSG when the file is another than it was; -errno */
MUST_CHECK int manifest_next(struct manifest_cursor *c, struct fact *out);
/** manifest_close - NULL is fine */
void manifest_close(struct manifest_cursor *c);
