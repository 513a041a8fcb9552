#include "compat/maildigest.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "compat/digest.h"

struct maildigest {
	struct digest *octets, *crlf;
	bool apart;  /* the two are not the same any more */
	char before; /* the last octet that was added */
};

struct maildigest *maildigest_new(void)
{
	struct maildigest *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->octets = digest_new();
	d->crlf = digest_new();
	if (d->octets && d->crlf)
		return d;
	maildigest_free(d);
	return NULL;
}

/* Return: the next LF at or after @p that has no CR before it; NULL. */
static const char *bare_lf(const struct maildigest *d, const char *start,
			   const char *p, const char *end)
{
	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));

		if (!lf)
			return NULL;
		if ((lf > start ? lf[-1] : d->before) != '\r')
			return lf;
		p = lf + 1;
	}
	return NULL;
}

static int add_crlf(struct maildigest *d, const char *start, const char *p,
		    const char *end)
{
	const char *lf = bare_lf(d, start, p, end);
	int ret = 0;

	for (; ret == 0 && lf; lf = bare_lf(d, start, lf + 1, end)) {
		ret = digest_add(d->crlf, p, (size_t)(lf - p));
		if (ret == 0)
			ret = digest_add(d->crlf, "\r", 1);
		p = lf;
	}
	return ret < 0 ? ret : digest_add(d->crlf, p, (size_t)(end - p));
}

int maildigest_add(struct maildigest *d, const void *data, size_t len)
{
	const char *start = data, *p = start, *end = start + len;
	const char *lf = d->apart ? NULL : bare_lf(d, start, p, end);
	int ret = 0;

	if (len == 0)
		return 0;
	if (lf) {
		ret = digest_add(d->octets, p, (size_t)(lf - p));
		if (ret == 0)
			ret = digest_copy(d->crlf, d->octets);
		d->apart = true;
		p = lf;
	}
	if (ret == 0)
		ret = digest_add(d->octets, p, (size_t)(end - p));
	if (ret == 0 && d->apart)
		ret = add_crlf(d, start, p, end);
	d->before = end[-1];
	return ret;
}

int maildigest_hex(struct maildigest *d, char *octets, char *crlf)
{
	int ret = digest_hex(d->octets, octets);

	if (ret == 0 && d->apart)
		ret = digest_hex(d->crlf, crlf);
	else if (ret == 0)
		memcpy(crlf, octets, DIGEST_HEX + 1);
	d->apart = false;
	d->before = '\0';
	return ret;
}

int maildigest_reset(struct maildigest *d)
{
	char octets[DIGEST_HEX + 1], crlf[DIGEST_HEX + 1];

	return maildigest_hex(d, octets, crlf);
}

void maildigest_free(struct maildigest *d)
{
	if (!d)
		return;
	digest_free(d->octets);
	digest_free(d->crlf);
	free(d);
}
