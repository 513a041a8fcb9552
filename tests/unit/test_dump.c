#include "compat/dump.h"

#include <stdlib.h>
#include <string.h>

#include "compat/digest.h"
#include "compat/fact.h"
#include "fixture.h"

/* What was written since open_dump(). */
static char *text;
static size_t text_len;

static FILE *open_dump(void)
{
	FILE *f = open_memstream(&text, &text_len);

	cr_assert_not_null(f);
	return f;
}

static void close_dump(FILE *f, const char *want)
{
	cr_assert_eq(fclose(f), 0);
	cr_assert_str_eq(text, want);
	free(text);
	text = NULL;
}

/* As a store tells it. */
static void put_message(FILE *f, const struct msg *m, const struct keywords *k,
			const char *sha256)
{
	char keywords[FACT_KEYWORDS_MAX + 1];
	struct fact fact = { .uid = m->uid,
			     .flags = m->flags,
			     .keywords = keywords,
			     .date = m->date,
			     .size = m->size };

	fact_keywords(m->keywords, k, keywords);
	(void)stpcpy(fact.sha256, sha256);
	dump_message(f, &fact);
}

static void expect_message(const struct msg *m, const struct keywords *k,
			   const char *want)
{
	FILE *f = open_dump();

	put_message(f, m, k, "");
	close_dump(f, want);
}

TEST(dump, of_a_store_is_the_documented_text)
{
	static const struct keywords k = { .name = { "$Junk", "", "a,b" } };
	static const struct msg m = { .uid = 7,
				      .flags = MSG_SEEN | MSG_DRAFT | MSG_OLD,
				      .keywords = 5,
				      .date = 1325408400,
				      .size = 1234 };
	static const struct dump_folder inbox = { "", 0x4b000001, 8, 1 };
	static const struct dump_folder sub = { ".lists.2012", UINT32_MAX, 1,
						0 };
	FILE *f = open_dump();

	dump_header(f);
	dump_folder(f, &inbox);
	put_message(f, &m, &k, "0123abcd");
	dump_folder(f, &sub);
	dump_subscribed(f, "");
	dump_subscribed(f, ".lists.2012");
	close_dump(f,
		   "janusmail-dump 1\n"
		   "folder INBOX uidvalidity=1258291201 uidnext=8 "
		   "messages=1\n"
		   "7 flags=DS keywords=$junk,a\\x2cb "
		   "date=2012-01-01T09:00:00Z size=1234 sha256=0123abcd\n"
		   "folder lists.2012 uidvalidity=4294967295 uidnext=1 "
		   "messages=0\n"
		   "subscribed INBOX\n"
		   "subscribed lists.2012\n");
}

TEST(dump, of_folder_names_stays_one_word_on_one_line)
{
	char longest[256 + 1];
	char want[16 + 4 * 256];
	char *at = stpcpy(want, "subscribed ");
	FILE *f = open_dump();
	int i;

	dump_subscribed(f, ".Entw\xc3\xbcrfe und\nso");
	close_dump(f, "subscribed Entw\xc3\xbcrfe\\x20und\\x0aso\n");

	longest[0] = '.';
	memset(longest + 1, '\xff', 254);
	longest[255] = '\0';
	for (i = 0; i < 254; i++)
		at = stpcpy(at, "\\xff");
	(void)stpcpy(at, "\n");
	f = open_dump();
	dump_subscribed(f, longest);
	close_dump(f, want);
}

TEST(dump, of_flags_shows_the_five_of_imap_sorted)
{
	static const struct keywords none;
	struct msg m = { .flags = UINT32_MAX };

	expect_message(&m, &none,
		       "0 flags=DFRST keywords=- date=1970-01-01T00:00:00Z "
		       "size=0 sha256=-\n");
	m.flags = MSG_OLD | MSG_EXPUNGED;
	expect_message(&m, &none,
		       "0 flags=- keywords=- date=1970-01-01T00:00:00Z "
		       "size=0 sha256=-\n");
}

TEST(dump, of_keywords_does_not_depend_on_slots_or_case)
{
	static const struct keywords a = { .name = { "Zed", "alpha", "ALPHA",
						     "unused" } };
	static const struct keywords b = { .name = { "alpha", "", "zED" } };
	static const char want[] =
		"1 flags=- keywords=alpha,zed date=1970-01-01T00:00:00Z "
		"size=0 sha256=-\n";
	struct msg m = { .uid = 1, .keywords = 7 };

	expect_message(&m, &a, want);
	expect_message(&m, &b, want);
	m.keywords = 2;
	expect_message(&m, &b,
		       "1 flags=- keywords=- date=1970-01-01T00:00:00Z "
		       "size=0 sha256=-\n");
}

TEST(dump, of_keywords_keeps_separators_out_of_their_names)
{
	static const struct keywords k = { .name = { ",", "a,,B c",
						     "\xe4=", "\\x2c" } };
	struct msg m = { .uid = 1, .keywords = 15 };

	expect_message(&m, &k,
		       "1 flags=- keywords=\\x2c,\\x5cx2c,\\xe4=,"
		       "a\\x2c\\x2cb\\x20c date=1970-01-01T00:00:00Z size=0 "
		       "sha256=-\n");
}

TEST(dump, of_the_worst_keywords_is_complete)
{
	struct keywords k;
	struct msg m = { .uid = 1, .keywords = UINT32_MAX };
	FILE *f = open_dump();
	size_t i;

	memset(&k, '\xff', sizeof(k));
	for (i = 0; i < KEYWORD_SLOTS; i++) {
		k.name[i][0] = (char)('!' + i);
		k.name[i][KEYWORD_NAME_MAX] = '\0';
	}
	put_message(f, &m, &k, "");
	cr_assert_eq(fclose(f), 0);
	/* Each name goes on with 126 octets of 4;
	 * '"' and ',' are escaped, the other 30 first octets are not. */
	cr_assert_eq(text_len,
		     strlen("1 flags=- keywords= date="
			    "1970-01-01T00:00:00Z size=0 sha256=-\n") +
			     31 + 30 + 8 + 16128);
	free(text);
}

TEST(dump, of_dates_is_utc_at_any_time)
{
	static const struct keywords none;
	struct msg m = { .date = -1 };

	expect_message(&m, &none,
		       "0 flags=- keywords=- date=1969-12-31T23:59:59Z "
		       "size=0 sha256=-\n");
	m.date = 253402300800;
	expect_message(&m, &none,
		       "0 flags=- keywords=- date=10000-01-01T00:00:00Z "
		       "size=0 sha256=-\n");
}

TEST(digest, is_sha256)
{
	struct digest *d = digest_new();
	char hex[DIGEST_HEX + 1];

	cr_assert_not_null(d);
	cr_assert_eq(digest_add(d, "a", 1), 0);
	cr_assert_eq(digest_add(d, "", 0), 0);
	cr_assert_eq(digest_add(d, "bc", 2), 0);
	cr_assert_eq(digest_hex(d, hex), 0);
	cr_assert_str_eq(hex,
			 "ba7816bf8f01cfea414140de5dae2223"
			 "b00361a396177a9cb410ff61f20015ad");
	cr_assert_eq(digest_hex(d, hex), 0);
	cr_assert_str_eq(hex,
			 "e3b0c44298fc1c149afbf4c8996fb924"
			 "27ae41e4649b934ca495991b7852b855");
	digest_free(d);
	digest_free(NULL);
}

TEST(digest, quick_is_xxh3)
{
	cr_assert_eq(digest_quick("", 0), 0x2d06800538d394c2);
	cr_assert_neq(digest_quick("a", 1), digest_quick("b", 1));
}
