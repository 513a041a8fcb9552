/*
 * digest.h - the only user of OpenSSL (SHA-256, evidence) and xxHash (XXH3,
 * quick comparison; not proof against a hostile sender).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "compat/base.h"

enum { DIGEST_HEX = 64 };

struct digest;

/** digest_new - start a SHA-256; NULL when out of memory */
struct digest *digest_new(void);
/** digest_add - more octets */
MUST_CHECK int digest_add(struct digest *d, const void *p, size_t len);
/** digest_copy - @to goes on as if it had been given what @from was */
MUST_CHECK int digest_copy(struct digest *to, const struct digest *from);
/** digest_hex - finish and start anew; @out has DIGEST_HEX + 1 octets */
MUST_CHECK int digest_hex(struct digest *d, char *out);
/** digest_free - NULL is fine */
void digest_free(struct digest *d);

/** digest_quick - XXH3-64 of @len octets */
uint64_t digest_quick(const void *p, size_t len);
