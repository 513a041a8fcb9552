/*
 * row.h - codec for the keys and rows of the index's tables.
 *
 * Pure: no I/O, no allocation. A row starts with the version of its layout;
 * numbers in rows are little-endian, numbers in keys big-endian, so that LMDB
 * (which compares octets) keeps a folder together and its UIDs in order.
 *
 *	table	key			row
 *	folder	folder			struct index_folder
 *	msg	folder, UID		struct msg, name if it has one of its
 *own name	folder, base name	UID
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"
#include "compat/msg.h"
#include "index/index.h"

enum {
	ROW_VERSION = 1,
	ROW_NAME_MAX = INDEX_NAME_MAX, /* octets of a base name */

	/* Octets of the line before a message of an MBX: no date and one digit,
	 * to what c-client looks at. */
	ROW_LINE_MIN = 26,
	ROW_LINE_MAX = 64,

	ROW_KEY_FOLDER = 4,
	ROW_KEY_MSG = 8,
	ROW_KEY_NAME_MAX = ROW_KEY_FOLDER + ROW_NAME_MAX,

	ROW_MSG = 42, /* without a name */
	ROW_MSG_MAX = ROW_MSG + ROW_NAME_MAX,
	ROW_NAME = 5,
	ROW_FOLDER = 144, /* without texts */
	ROW_FOLDER_MAX =
		ROW_FOLDER + 159 + KEYWORD_SLOTS * (1 + KEYWORD_NAME_MAX),
};

void row_key_folder(uint32_t folder, uint8_t *out);
void row_key_msg(uint32_t folder, uint32_t uid, uint8_t *out);
/** row_key_name - Return: octets; -ENAMETOOLONG; -EINVAL for "" */
MUST_CHECK ssize_t row_key_name(uint32_t folder, const char *name,
				uint8_t *out);

/** row_key_folder_parse - the folder number that any key starts with; exact
 * length for keys of the folder table. Return: 0; -EUCLEAN. */
MUST_CHECK int row_key_folder_parse(const uint8_t *key, size_t len,
				    uint32_t *folder_out);
MUST_CHECK int row_key_msg_parse(const uint8_t *key, size_t len,
				 uint32_t *folder_out, uint32_t *uid_out);
/** row_key_name_parse - @name_out: ROW_NAME_MAX + 1 octets */
MUST_CHECK int row_key_name_parse(const uint8_t *key, size_t len,
				  uint32_t *folder_out, char *name_out);

/**
 * row_msg_format - encode a message
 * @name: NULL, or 1..ROW_NAME_MAX octets
 * @out: ROW_MSG_MAX octets
 * Return: octets; -ENAMETOOLONG; -EINVAL.
 */
MUST_CHECK ssize_t row_msg_format(const struct msg *m, const char *name,
				  uint8_t *out);
/**
 * row_msg_parse - decode a message row
 * @uid: from its key
 * @name_out: ROW_NAME_MAX + 1 octets; "" when it has no name of its own
 * Return: 0; -EUCLEAN.
 */
MUST_CHECK int row_msg_parse(const uint8_t *p, size_t len, uint32_t uid,
			     struct msg *out, char *name_out);

/** row_name_format - @out: ROW_NAME octets */
void row_name_format(uint32_t uid, uint8_t *out);
MUST_CHECK int row_name_parse(const uint8_t *p, size_t len, uint32_t *uid_out);

/** row_folder_format - @out: ROW_FOLDER_MAX octets. Return: octets. Texts that
 * are not terminated are cut. */
size_t row_folder_format(const struct index_folder *f, uint8_t *out);
MUST_CHECK int row_folder_parse(const uint8_t *p, size_t len,
				struct index_folder *out);
