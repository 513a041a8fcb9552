/*
 * The input as a dovecot-uidlist and as a dovecot-keywords file. What was read
 * is written, and reading that gives the same again; so does a list whose next
 * UID was raised, but for that.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/uidlist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct copy {
	FILE *f;
	const char *text;
	size_t len;
	uint32_t last;
};

static int write_record(const struct uidlist_record *r, void *arg)
{
	struct copy *c = arg;

	assert(r->uid > c->last && r->uid < UINT32_MAX);
	c->last = r->uid;
	assert(r->name >= c->text && r->name_len);
	assert(r->name + r->name_len <= c->text + c->len);
	assert(!memchr(r->name, '/', r->name_len));
	/* A name that ends in CR is read, as Dovecot does; the CR goes when
	 * it is written. */
	if (!memchr(r->name, '\r', r->name_len))
		assert(uidlist_write_record(c->f, r));
	return 0;
}

static int rewrite(const char *text, size_t len, char **out, size_t *out_len)
{
	struct copy c = { .text = text, .len = len };
	struct uidlist_header h;
	int rc = uidlist_parse(text, len, &h, NULL, NULL);

	c.f = open_memstream(out, out_len);
	assert(c.f);
	if (rc == 0) {
		assert(h.uidvalidity && h.uidnext);
		uidlist_write_header(c.f, &h);
		rc = uidlist_parse(text, len, &h, write_record, &c);
		assert(rc == 0);
	}
	assert(fclose(c.f) == 0);
	return rc;
}

/* Of a list that was read: only N is another. */
static void check_raised(const char *text, size_t len)
{
	struct uidlist_header was, is;
	char *out;
	size_t out_len;
	FILE *f = open_memstream(&out, &out_len);

	assert(f);
	assert(uidlist_write_raised(f, text, len, UINT32_MAX));
	assert(fclose(f) == 0);
	assert(uidlist_parse(text, len, &was, NULL, NULL) == 0);
	assert(uidlist_parse(out, out_len, &is, NULL, NULL) == 0);
	assert(is.uidnext == UINT32_MAX);
	assert(is.version == was.version);
	assert(is.uidvalidity == was.uidvalidity);
	assert(strcmp(is.guid, was.guid) == 0);
	free(out);
}

static void check_uidlist(const char *text, size_t len)
{
	char *one, *two;
	size_t one_len, two_len;
	int rc = rewrite(text, len, &one, &one_len);

	if (rc == 0) {
		check_raised(text, len);
		rc = rewrite(one, one_len, &two, &two_len);
		assert(rc == 0);
		assert(one_len == two_len && memcmp(one, two, one_len) == 0);
		free(two);
	}
	free(one);
}

static void check_keywords(const char *text, size_t len)
{
	struct keywords k, again;
	char *out;
	size_t out_len;
	FILE *f;

	if (dkeywords_parse(text, len, &k) != 0)
		return;
	f = open_memstream(&out, &out_len);
	assert(f);
	dkeywords_write(f, &k);
	assert(fclose(f) == 0);
	assert(dkeywords_parse(out, out_len, &again) == 0);
	for (size_t i = 0; i < KEYWORD_SLOTS; i++) {
		assert(i < 26 || !*k.name[i]);
		assert(!*again.name[i] ||
		       strcmp(k.name[i], again.name[i]) == 0);
	}
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Of exactly this size, so that a sanitizer sees a read beyond it. */
	char *text = malloc(size ? size : 1);

	assert(text);
	memcpy(text, data, size);
	check_uidlist(text, size);
	check_keywords(text, size);
	free(text);
	return 0;
}
