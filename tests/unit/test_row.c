#include "index/row.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

static const struct msg sample = {
	.uid = 0x01020304,
	.uid_disk = 0xfffffffe,
	.flags = MSG_SEEN | MSG_OLD | 0x7f00,
	.keywords = 0x80000001,
	.date = -2,
	.size = 0x0102030405060708,
	.off = 0xfffffffffffffff0,
	.line = 55,
};

static bool msg_equal(const struct msg *a, const struct msg *b)
{
	return a->uid == b->uid && a->uid_disk == b->uid_disk &&
		a->flags == b->flags && a->keywords == b->keywords &&
		a->date == b->date && a->size == b->size && a->off == b->off &&
		a->line == b->line;
}

TEST(row, a_message_comes_back_as_it_was)
{
	uint8_t row[ROW_MSG_MAX];
	char name[ROW_NAME_MAX + 1];
	struct msg m;

	cr_assert_eq(row_msg_format(&sample, NULL, row), ROW_MSG);
	cr_assert_eq(row_msg_parse(row, ROW_MSG, sample.uid, &m, name), 0);
	cr_assert(msg_equal(&m, &sample));
	cr_assert_str_eq(name, "");
}

TEST(row, a_message_keeps_a_name_of_any_length_up_to_255)
{
	uint8_t row[ROW_MSG_MAX];
	char name[ROW_NAME_MAX + 2], back[ROW_NAME_MAX + 1];
	struct msg m;

	for (size_t len = 1; len <= ROW_NAME_MAX; len++) {
		memset(name, 'x', len);
		name[len] = '\0';
		cr_assert_eq(row_msg_format(&sample, name, row),
			     (ssize_t)(ROW_MSG + len));
		cr_assert_eq(row_msg_parse(row, ROW_MSG + len, 1, &m, back), 0);
		cr_assert_str_eq(back, name);
	}
	memset(name, 'x', ROW_NAME_MAX + 1);
	name[ROW_NAME_MAX + 1] = '\0';
	cr_assert_eq(row_msg_format(&sample, name, row), -ENAMETOOLONG);
	cr_assert_eq(row_msg_format(&sample, "", row), -EINVAL);
}

TEST(row, the_octets_of_a_message_are_these)
{
	static const uint8_t want[] = {
		1,    2,    0x11, 0x7f, 0,    0,    1,	  0,	0,
		0x80, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		8,    7,    6,	  5,	4,    3,    2,	  1,	0xf0,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 55,	0,
		0,    0,    0xfe, 0xff, 0xff, 0xff, 'a',  'b',
	};
	uint8_t row[ROW_MSG_MAX];

	cr_assert_eq(row_msg_format(&sample, "ab", row), (ssize_t)sizeof(want));
	cr_assert_arr_eq(row, want, sizeof(want));
}

/* Each in a block of its own length, so that ASan sees a read beyond it. */
static int parse_msg_copy(const uint8_t *row, size_t len)
{
	uint8_t *copy = malloc(len + (len == 0));
	char name[ROW_NAME_MAX + 1];
	struct msg m;
	int err;

	cr_assert_not_null(copy);
	memcpy(copy, row, len);
	err = row_msg_parse(copy, len, 1, &m, name);
	free(copy);
	return err;
}

TEST(row, a_message_row_of_another_length_or_version_is_refused)
{
	uint8_t row[ROW_MSG_MAX + 1] = { 0 };
	size_t len = (size_t)row_msg_format(&sample, "name", row);

	for (size_t i = 0; i <= len + 1; i++)
		cr_assert_eq(parse_msg_copy(row, i), i == len ? 0 : -EUCLEAN,
			     "%zu", i);
	row[0] = ROW_VERSION + 1;
	cr_assert_eq(parse_msg_copy(row, len), -EUCLEAN);
	row[0] = ROW_VERSION;
	row[ROW_MSG + 1] = '\0';
	cr_assert_eq(parse_msg_copy(row, len), -EUCLEAN);
}

TEST(row, keys_sort_by_folder_then_uid)
{
	static const uint32_t order[][2] = {
		{ 0, 1 },   { 1, 0 },	       { 1, 1 },	  { 1, 255 },
		{ 1, 256 }, { 1, 0x80000000 }, { 1, 0xffffffff }, { 2, 0 },
		{ 256, 0 }, { 65536, 0 },      { 0x7fffffff, 0 },
	};
	uint8_t a[ROW_KEY_MSG], b[ROW_KEY_MSG];
	uint32_t folder, uid;

	for (size_t i = 1; i < ARRAY_LEN(order); i++) {
		row_key_msg(order[i - 1][0], order[i - 1][1], a);
		row_key_msg(order[i][0], order[i][1], b);
		cr_assert_lt(memcmp(a, b, sizeof(a)), 0, "%zu", i);
		cr_assert_eq(row_key_msg_parse(b, sizeof(b), &folder, &uid), 0);
		cr_assert_eq(folder, order[i][0]);
		cr_assert_eq(uid, order[i][1]);
	}
}

TEST(row, keys_of_another_length_are_refused)
{
	uint8_t key[ROW_KEY_NAME_MAX + 1];
	char name[ROW_NAME_MAX + 1];
	uint32_t folder, uid;

	memset(key, 'k', sizeof(key));
	for (size_t len = 0; len <= sizeof(key); len++) {
		cr_assert_eq(row_key_folder_parse(key, len, &folder),
			     len == 4 ? 0 : -EUCLEAN);
		cr_assert_eq(row_key_msg_parse(key, len, &folder, &uid),
			     len == 8 ? 0 : -EUCLEAN);
		cr_assert_eq(row_key_name_parse(key, len, &folder, name),
			     len > 4 && len < sizeof(key) ? 0 : -EUCLEAN);
	}
	key[7] = '\0';
	cr_assert_eq(row_key_name_parse(key, 10, &folder, name), -EUCLEAN);
}

TEST(row, a_name_is_a_key_and_its_row_a_uid)
{
	char name[ROW_NAME_MAX + 2], back[ROW_NAME_MAX + 1];
	uint8_t key[ROW_KEY_NAME_MAX], row[ROW_NAME + 1] = { 0 };
	uint32_t folder, uid;

	cr_assert_eq(row_key_name(7, "abc", key), 7);
	cr_assert_arr_eq(key, "\0\0\0\7abc", 7);
	cr_assert_eq(row_key_name_parse(key, 7, &folder, back), 0);
	cr_assert_eq(folder, 7);
	cr_assert_str_eq(back, "abc");
	cr_assert_eq(row_key_name(7, "", key), -EINVAL);
	memset(name, 'x', sizeof(name));
	name[ROW_NAME_MAX + 1] = '\0';
	cr_assert_eq(row_key_name(7, name, key), -ENAMETOOLONG);

	row_name_format(0x01020304, row);
	cr_assert_eq(row_name_parse(row, ROW_NAME, &uid), 0);
	cr_assert_eq(uid, 0x01020304);
	cr_assert_eq(row_name_parse(row, ROW_NAME + 1, &uid), -EUCLEAN);
	cr_assert_eq(row_name_parse(row, ROW_NAME - 1, &uid), -EUCLEAN);
	row[0]++;
	cr_assert_eq(row_name_parse(row, ROW_NAME, &uid), -EUCLEAN);
}

/* Every field another value, every text as long as it may be. */
static void full_folder(struct index_folder *f)
{
	*f = (struct index_folder){
		.stamp = { 1, 2, 3, -4, 5, 6 },
		.stamp_ns = 7,
		.next = { 8, 9, 10, 1 },
		.uidvalidity = 11,
		.on_disk = 20,
		.uidnext = 12,
		.messages = 13,
		.unseen = 14,
		.octets = 15,
		.unlisted = 16,
		.damage = { DAMAGE_ACCESS, 17, 18, 19, "" },
	};
	memset(f->damage.text, 't', sizeof(f->damage.text) - 1);
	for (unsigned i = 0; i < KEYWORD_SLOTS; i++)
		memset(f->keywords.name[i], 'a' + (char)i % 26,
		       KEYWORD_NAME_MAX);
}

TEST(row, a_folder_comes_back_as_it_was)
{
	uint8_t row[ROW_FOLDER_MAX];
	struct index_folder f, g;
	size_t len;

	full_folder(&f);
	len = row_folder_format(&f, row);
	cr_assert_eq(len, ROW_FOLDER_MAX);
	cr_assert_eq(row_folder_parse(row, len, &g), 0);
	cr_assert_arr_eq(&g.stamp, &f.stamp, sizeof(f.stamp));
	cr_assert_eq(g.stamp_ns, 7);
	cr_assert_arr_eq(&g.next, &f.next, sizeof(f.next));
	cr_assert_eq(g.uidvalidity, 11);
	cr_assert_eq(g.on_disk, 20);
	cr_assert_eq(g.uidnext, 12);
	cr_assert_eq(g.messages, 13);
	cr_assert_eq(g.unseen, 14);
	cr_assert_eq(g.octets, 15);
	cr_assert_eq(g.unlisted, 16);
	cr_assert_eq(g.damage.kind, DAMAGE_ACCESS);
	cr_assert_eq(g.damage.off, 17);
	cr_assert_eq(g.damage.uid, 18);
	cr_assert_eq(g.damage.count, 19);
	cr_assert_str_eq(g.damage.text, f.damage.text);
	cr_assert_arr_eq(&g.keywords, &f.keywords, sizeof(f.keywords));
}

TEST(row, a_folder_without_texts_is_short_and_keeps_holes)
{
	uint8_t row[ROW_FOLDER_MAX];
	struct index_folder f = { 0 }, g;

	cr_assert_eq(row_folder_format(&f, row), ROW_FOLDER);
	(void)strcpy(f.keywords.name[2], "third");
	cr_assert_eq(row_folder_format(&f, row), ROW_FOLDER + 3 + 5);
	cr_assert_eq(row_folder_parse(row, ROW_FOLDER + 8, &g), 0);
	cr_assert_str_eq(g.keywords.name[0], "");
	cr_assert_str_eq(g.keywords.name[2], "third");
}

static int parse_folder_copy(const uint8_t *row, size_t len)
{
	uint8_t *copy = malloc(len + (len == 0));
	struct index_folder g;
	int err;

	cr_assert_not_null(copy);
	memcpy(copy, row, len);
	err = row_folder_parse(copy, len, &g);
	free(copy);
	return err;
}

TEST(row, a_folder_row_that_is_cut_anywhere_is_refused)
{
	uint8_t row[ROW_FOLDER_MAX];
	struct index_folder f;
	size_t len;

	full_folder(&f);
	len = row_folder_format(&f, row);
	for (size_t i = 0; i < len; i++)
		cr_assert_eq(parse_folder_copy(row, i), -EUCLEAN, "%zu", i);
	cr_assert_eq(parse_folder_copy(row, len), 0);
}

TEST(row, a_folder_row_with_a_bad_octet_is_refused)
{
	static const struct {
		size_t at;
		uint8_t value;
	} bad[] = {
		{ 0, 0 },
		{ 0, ROW_VERSION + 1 },
		{ 1, DAMAGE_KINDS },
		{ 2, 160 },
		{ 3, KEYWORD_SLOTS + 1 },
		{ 3, KEYWORD_SLOTS - 1 },
		{ ROW_FOLDER, 0 },
		{ ROW_FOLDER + 159, 128 },
		{ ROW_FOLDER + 159, 126 },
	};
	uint8_t row[ROW_FOLDER_MAX];
	struct index_folder f;

	full_folder(&f);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		size_t len = row_folder_format(&f, row);

		row[bad[i].at] = bad[i].value;
		cr_assert_eq(parse_folder_copy(row, len), -EUCLEAN, "%zu", i);
	}
}

TEST(row, no_octets_crash_the_decoder)
{
	uint8_t row[512];
	uint64_t seed = 88172645463325252ULL;

	for (unsigned round = 0; round < 20000; round++) {
		size_t len;
		int err;

		for (size_t i = 0; i < sizeof(row); i++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			row[i] = (uint8_t)seed;
		}
		row[0] = ROW_VERSION;
		row[1] &= 7;
		row[2] &= 31;
		row[3] &= 31;
		len = ROW_FOLDER + seed % (sizeof(row) - ROW_FOLDER);
		err = parse_folder_copy(row, len);
		cr_assert(err == 0 || err == -EUCLEAN);
		err = parse_msg_copy(row, (size_t)ROW_MSG + row[1]);
		cr_assert(err == 0 || err == -EUCLEAN);
	}
}
