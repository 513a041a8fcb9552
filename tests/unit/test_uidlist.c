#include "compat/uidlist.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define HEAD "3 V987654321 N500 G0123456789abcdef0123456789ABCDEF\n"

struct seen {
	struct uidlist_record rec[8];
	size_t count;
	int stop_at;
};

static int keep(const struct uidlist_record *rec, void *arg)
{
	struct seen *s = arg;

	s->rec[s->count++] = *rec;
	return (int)s->count == s->stop_at ? 7 : 0;
}

static int parse(const char *text, struct uidlist_header *h, struct seen *s)
{
	*s = (struct seen){ .count = 0 };
	return uidlist_parse(text, strlen(text), h, keep, s);
}

static void expect_name(const struct uidlist_record *r, uint32_t uid,
			const char *name)
{
	cr_expect_eq(r->uid, uid);
	cr_expect_eq(r->name_len, strlen(name));
	cr_expect_arr_eq(r->name, name, strlen(name));
}

TEST(uidlist, a_file_of_version_3_is_read)
{
	struct uidlist_header h;
	struct seen s;

	cr_assert_eq(parse(HEAD "10 :a,S=5\n"
				"17  S12 W13 Puidl Gguid O3 Xnew W99 :b c:d\n"
				"4294967294 P Wx :c\r\n",
			   &h, &s),
		     0);
	cr_expect_eq(h.version, 3);
	cr_expect_eq(h.uidvalidity, 987654321);
	cr_expect_eq(h.uidnext, 500);
	cr_expect_str_eq(h.guid, "0123456789abcdef0123456789ABCDEF");
	cr_assert_eq(s.count, 3);

	expect_name(&s.rec[0], 10, "a,S=5");
	cr_expect_eq(s.rec[0].psize, UINT64_MAX);
	cr_expect_eq(s.rec[0].vsize, UINT64_MAX);
	cr_expect_null(s.rec[0].guid);
	cr_expect_null(s.rec[0].pop3_uidl);

	expect_name(&s.rec[1], 17, "b c:d");
	cr_expect_eq(s.rec[1].psize, 12);
	cr_expect_eq(s.rec[1].vsize, 13);
	cr_assert_eq(s.rec[1].pop3_len, 4);
	cr_expect_arr_eq(s.rec[1].pop3_uidl, "uidl", 4);
	cr_assert_eq(s.rec[1].guid_len, 4);
	cr_expect_arr_eq(s.rec[1].guid, "guid", 4);

	expect_name(&s.rec[2], 4294967294, "c");
	cr_expect_eq(s.rec[2].vsize, UINT64_MAX);
	cr_expect_not_null(s.rec[2].pop3_uidl);
	cr_expect_eq(s.rec[2].pop3_len, 0);
}

TEST(uidlist, a_file_of_version_1_is_read)
{
	struct uidlist_header h;
	struct seen s;

	cr_assert_eq(parse("1 77 20\n3 a b\n19 S5 :c\n", &h, &s), 0);
	cr_expect_eq(h.version, 1);
	cr_expect_eq(h.uidvalidity, 77);
	cr_expect_eq(h.uidnext, 20);
	cr_expect_str_eq(h.guid, "");
	cr_assert_eq(s.count, 2);
	expect_name(&s.rec[0], 3, "a b");
	expect_name(&s.rec[1], 19, "S5 :c");
	cr_expect_eq(parse("1 77 20\n20 a\n", &h, &s), -EBADMSG);
}

TEST(uidlist, a_line_that_is_being_written_is_left_out)
{
	struct uidlist_header h;
	struct seen s;

	cr_assert_eq(parse(HEAD "10 :a\n11 :b", &h, &s), 0);
	cr_expect_eq(s.count, 1);
	cr_assert_eq(parse(HEAD "10 :a\n1", &h, &s), 0);
	cr_expect_eq(s.count, 1);
	cr_assert_eq(parse(HEAD, &h, &s), 0);
	cr_expect_eq(s.count, 0);
}

TEST(uidlist, what_dovecot_refuses_is_refused)
{
	static const char *const rows[] = {
		"",
		"\n",
		"3 V1 N1",
		"2 V1 N1\n",
		"3\n",
		"3 \n",
		"33 V1 N1\n",
		"3 V0 N1\n",
		"3 V1 N0\n",
		"3 N1\n",
		"3 V1\n",
		"3 V1x N1\n",
		"3 V4294967296 N1\n",
		"3 V-1 N1\n",
		"3 V1 N1 G0123\n",
		"3 V1 N1 G0123456789abcdef0123456789abcdeg\n",
		"1 5\n",
		"1 0 5\n",
		HEAD "0 :a\n",
		HEAD "4294967295 :a\n",
		HEAD "4294967296 :a\n",
		HEAD "x :a\n",
		HEAD "\n",
		HEAD "10\n",
		HEAD "10 :\n",
		HEAD "10 S5\n",
		HEAD "10 :a/b\n",
		HEAD "10 :a\n10 :b\n",
		HEAD "10 :a\n9 :b\n",
	};
	struct uidlist_header h;
	struct seen s;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++)
		cr_expect_eq(parse(rows[i], &h, &s), -EBADMSG, "row %zu", i);
	cr_expect_eq(uidlist_parse(HEAD "1 :a\0b\n", sizeof(HEAD) + 7, &h, keep,
				   &s),
		     -EBADMSG);
}

TEST(uidlist, the_callback_ends_the_walk)
{
	struct uidlist_header h;
	struct seen s = { .stop_at = 2 };
	static const char text[] = HEAD "1 :a\n2 :b\n3 :c\n";

	cr_expect_eq(uidlist_parse(text, strlen(text), &h, keep, &s), 7);
	cr_expect_eq(s.count, 2);
	cr_expect_eq(uidlist_parse(text, strlen(text), &h, NULL, NULL), 0);
}

static struct uidlist_record record(uint32_t uid, const char *name)
{
	return (struct uidlist_record){ .uid = uid,
					.psize = UINT64_MAX,
					.vsize = UINT64_MAX,
					.name = name,
					.name_len = strlen(name) };
}

TEST(uidlist, what_is_written_is_what_dovecot_writes)
{
	struct uidlist_header h = { 3, 987654321, 500,
				    "0123456789abcdef0123456789abcdef" };
	struct uidlist_record r = record(10, "a,S=5");
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	uidlist_write_header(f, &h);
	cr_expect(uidlist_write_record(f, &r));
	r = record(4294967294, "b");
	r.psize = 12;
	r.vsize = 13;
	r.pop3_uidl = "uidl";
	r.pop3_len = 2;
	r.guid = "guid";
	r.guid_len = 4;
	cr_expect(uidlist_write_record(f, &r));
	r = record(4294967294, "c");
	r.pop3_uidl = "";
	r.guid = "no good";
	r.guid_len = 7;
	cr_expect(uidlist_write_record(f, &r));
	*h.guid = '\0';
	uidlist_write_header(f, &h);
	cr_assert_eq(fclose(f), 0);
	cr_expect_str_eq(text,
			 "3 V987654321 N500 G0123456789abcdef0123456789abcdef\n"
			 "10 :a,S=5\n"
			 "4294967294 S12 W13 Pui Gguid :b\n"
			 "4294967294 P :c\n"
			 "3 V987654321 N500\n");
	free(text);
}

static void expect_raised(const char *text, const char *want)
{
	char *out;
	size_t len;
	FILE *f = open_memstream(&out, &len);
	bool ok = uidlist_write_raised(f, text, strlen(text), 4294967295);

	cr_assert_eq(fclose(f), 0);
	cr_expect_eq(ok, want != NULL, "%s", text);
	cr_expect_str_eq(out, want ? want : "");
	free(out);
}

TEST(uidlist, only_the_next_uid_is_raised)
{
	expect_raised("3 V9 N5 G0123 Xn N6 Z\n1 :a\n7 Wx :b\n8 :half",
		      "3 V9 N5 G0123 Xn N4294967295 Z\n1 :a\n7 Wx :b\n8 :half");
	expect_raised("3 N5\r\n", "3 N4294967295\r\n");
	expect_raised("1 9 5\n1 a\n", "1 9 4294967295\n1 a\n");
	expect_raised("3 V9 G0123\n1 :N5\n", NULL);
	expect_raised("1 9\n", NULL);
	expect_raised("3 V9 N5", NULL);
	expect_raised("", NULL);
}

TEST(uidlist, what_dovecot_would_refuse_is_not_written)
{
	static const char *const names[] = { "", "a/b", "a\nb", "a\r" };
	struct uidlist_record r;
	char *text;
	size_t len, i;
	FILE *f = open_memstream(&text, &len);

	for (i = 0; i < ARRAY_LEN(names); i++) {
		r = record(1, names[i]);
		cr_expect_not(uidlist_write_record(f, &r), "row %zu", i);
	}
	r = record(0, "a");
	cr_expect_not(uidlist_write_record(f, &r));
	r = record(UINT32_MAX, "a");
	cr_expect_not(uidlist_write_record(f, &r));
	r = record(1, "a");
	r.name_len = 2;
	cr_expect_not(uidlist_write_record(f, &r));
	cr_assert_eq(fclose(f), 0);
	cr_expect_eq(len, 0);
	free(text);
}

static void expect_keywords(const char *text, const char *want)
{
	struct keywords k;
	char *out;
	size_t len;
	FILE *f;

	cr_assert_eq(dkeywords_parse(text, strlen(text), &k), 0);
	f = open_memstream(&out, &len);
	dkeywords_write(f, &k);
	cr_assert_eq(fclose(f), 0);
	cr_expect_str_eq(out, want);
	free(out);
}

TEST(uidlist, keywords_keep_their_slots)
{
	expect_keywords("", "");
	expect_keywords("0 Foo\n25 Last\n3 $Label[1}\n",
			"0 Foo\n3 $Label[1}\n25 Last\n");
	expect_keywords("0 old\n0 new\n", "0 new\n");
	expect_keywords("1 a\r\n2 b", "1 a\n");
}

TEST(uidlist, lines_that_are_no_keyword_are_ignored)
{
	char text[300];

	expect_keywords("5 a\n5\n5 \n", "5 a\n");
	expect_keywords("26 out\n-1 x\nFoo\n\n4294967296 y\n1x z\n5\n6 \n7 g\n",
			"7 g\n");
	(void)snprintf(text, sizeof(text), "1 %0128d\n2 %0127d\n", 1, 2);
	expect_keywords(text, text + 131);
}

TEST(uidlist, only_keywords_that_imap_can_show_are_written)
{
	static const char *const bad[] = { "a b", "a(b",      "a)b",  "a{b",
					   "a%b", "a*b",      "a\"b", "a\\b",
					   "a]b", "\xc3\xa4", "a\tb", "a\x7f" };
	char line[20];
	size_t i;

	for (i = 0; i < ARRAY_LEN(bad); i++) {
		(void)snprintf(line, sizeof(line), "4 %s\n", bad[i]);
		expect_keywords(line, "");
	}
}

TEST(uidlist, keywords_with_nul_are_no_text)
{
	struct keywords k;

	cr_expect_eq(dkeywords_parse("0 a\n\0\0\0", 7, &k), -EBADMSG);
	cr_expect_str_eq(k.name[0], "");
}
