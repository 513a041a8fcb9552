/*
 * maildigest.h - two SHA-256 of a message in one pass: of its octets, and of
 * its CRLF form, in which each LF without a CR before it has one.
 *
 * Mail that is CR LF throughout, which is nearly all of it, is hashed once.
 */
#pragma once

#include <stddef.h>

#include "compat/base.h"

struct maildigest;

/** maildigest_new - NULL when out of memory */
struct maildigest *maildigest_new(void);
/** maildigest_add - more octets of the message */
MUST_CHECK int maildigest_add(struct maildigest *d, const void *p, size_t len);
/** maildigest_hex - finish and start anew; both have DIGEST_HEX + 1 octets */
MUST_CHECK int maildigest_hex(struct maildigest *d, char *octets, char *crlf);
/** maildigest_reset - start anew without a result */
MUST_CHECK int maildigest_reset(struct maildigest *d);
/** maildigest_free - NULL is fine */
void maildigest_free(struct maildigest *d);
