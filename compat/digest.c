#include "compat/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <xxhash.h>

struct digest {
	EVP_MD_CTX *ctx;
};

struct digest *digest_new(void)
{
	struct digest *d = malloc(sizeof(*d));

	if (!d)
		return NULL;
	d->ctx = EVP_MD_CTX_new();
	if (d->ctx && EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) == 1)
		return d;
	digest_free(d);
	return NULL;
}

int digest_add(struct digest *d, const void *p, size_t len)
{
	return EVP_DigestUpdate(d->ctx, p, len) == 1 ? 0 : -EIO;
}

int digest_copy(struct digest *to, const struct digest *from)
{
	return EVP_MD_CTX_copy_ex(to->ctx, from->ctx) == 1 ? 0 : -EIO;
}

int digest_hex(struct digest *d, char *out)
{
	static const char digits[] = "0123456789abcdef";
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	unsigned i;

	if (EVP_DigestFinal_ex(d->ctx, sum, &len) != 1 ||
	    len * 2 != DIGEST_HEX ||
	    EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1)
		return -EIO;
	for (i = 0; i < len; i++) {
		*out++ = digits[sum[i] >> 4];
		*out++ = digits[sum[i] & 0xf];
	}
	*out = '\0';
	return 0;
}

void digest_free(struct digest *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	free(d);
}

uint64_t digest_quick(const void *p, size_t len)
{
	return XXH3_64bits(p, len);
}
