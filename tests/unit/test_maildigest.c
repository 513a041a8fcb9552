#include "compat/maildigest.h"

#include <string.h>

#include "compat/digest.h"
#include "fixture.h"

/* The slow way: the CRLF form in memory. */
static void plain_hash(const char *text, size_t len, char *hex)
{
	struct digest *d = digest_new();

	cr_assert_eq(digest_add(d, text, len), 0);
	cr_assert_eq(digest_hex(d, hex), 0);
	digest_free(d);
}

static size_t crlf_form(const char *text, size_t len, char *out)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r'))
			out[n++] = '\r';
		out[n++] = text[i];
	}
	return n;
}

static void check(struct maildigest *d, const char *text, size_t len,
		  size_t piece)
{
	char octets[DIGEST_HEX + 1], crlf[DIGEST_HEX + 1];
	char want[DIGEST_HEX + 1], form[256];

	for (size_t at = 0; at < len; at += piece)
		cr_assert_eq(maildigest_add(d, text + at,
					    at + piece < len ? piece
							     : len - at),
			     0);
	cr_assert_eq(maildigest_hex(d, octets, crlf), 0);
	plain_hash(text, len, want);
	cr_assert_str_eq(octets, want);
	plain_hash(form, crlf_form(text, len, form), want);
	cr_assert_str_eq(crlf, want, "%zu octets in pieces of %zu", len, piece);
}

TEST(maildigest, is_both_hashes_however_the_octets_come)
{
	static const char *const texts[] = {
		"",	      "\n",	   "\r\n",	  "\r\r\n\n",
		"a\r\nb\r\n", "a\nb\nc\n", "a\r\nb\nc\r", "\n\n\r\n\n\r\n\n",
		"a\rb\nc",    "a\r",	   "\na",	  "no line end",
	};
	struct maildigest *d = maildigest_new();

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		for (size_t piece = 1; piece < 8; piece++)
			check(d, texts[i], strlen(texts[i]), piece);
	check(d, "a\0\nb\0\r\n", 7, 3);
	maildigest_free(d);
}

TEST(maildigest, starts_anew_after_a_reset)
{
	struct maildigest *d = maildigest_new();

	cr_assert_eq(maildigest_add(d, "x\ny\r", 4), 0);
	cr_assert_eq(maildigest_reset(d), 0);
	check(d, "\nnew", 4, 4);
	maildigest_free(d);
	maildigest_free(NULL);
}
