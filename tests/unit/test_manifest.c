#include "compat/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"

static const char hash_a[] =
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static const char hash_b[] =
	"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

static char root[DIGEST_HEX + 1];

static struct fact message(uint32_t uid)
{
	struct fact m = { .uid = uid,
			  .flags = MSG_SEEN,
			  .keywords = "$label1,work",
			  .date = 1349614831,
			  .size = 10 };

	memcpy(m.sha256, hash_a, sizeof(hash_a));
	memcpy(m.crlf, uid % 2 ? hash_a : hash_b, sizeof(hash_a));
	return m;
}

static void put_folder(struct manifest_writer *w, const char *dir,
		       uint32_t messages, const char *damage)
{
	struct manifest_folder f = { .uidvalidity = 7,
				     .uidnext = messages + 1,
				     .messages = messages,
				     .octets = (uint64_t)messages * 10 };
	char line[MANIFEST_LINE_MAX + 1];

	(void)stpcpy(f.dir, dir);
	(void)stpcpy(f.damage, damage);
	cr_assert_eq(manifest_folder_text(w, line,
					  manifest_folder_line(&f, line)),
		     0);
	for (uint32_t uid = 1; uid <= messages; uid++) {
		struct fact m = message(uid);

		cr_assert_eq(manifest_folder_text(w, line,
						  manifest_message_line(&m,
									line)),
			     0);
	}
	cr_assert_eq(manifest_end_folder(w, f.messages, f.octets), 0);
}

/* Two users with two folders. Return: the text, to be freed */
static char *sample(size_t *len)
{
	static const char *const users[] = { "anna", "bob x" };
	char *text = NULL;
	FILE *f = open_memstream(&text, len);
	struct manifest_writer *w = manifest_writer_new(f);

	for (size_t i = 0; i < ARRAY_LEN(users); i++) {
		cr_assert_eq(manifest_begin_user(w, users[i]), 0);
		put_folder(w, "", 3, "");
		put_folder(w, ".lists.a", 0, i ? "record at 2048: torn" : "");
		cr_assert_eq(manifest_subscribed(w, ""), 0);
		cr_assert_eq(manifest_subscribed(w, ".lists.a"), 0);
		cr_assert_eq(manifest_end_user(w), 0);
	}
	cr_assert_eq(manifest_end(w, root), 0);
	manifest_writer_free(w);
	cr_assert_eq(fclose(f), 0);
	return text;
}

static int load(const char *text, size_t len, struct manifest *out, int *fd,
		struct manifest_fault *fault)
{
	fixture_write(fixture_path("manifest"), text, len);
	*fd = open(fixture_path("manifest"), O_RDONLY | O_CLOEXEC);
	cr_assert_geq(*fd, 0);
	return manifest_load(*fd, out, fault);
}

TEST(manifest, reads_as_it_was_written)
{
	struct manifest_fault fault;
	struct manifest m;
	size_t len;
	char *text = sample(&len);
	int fd;

	cr_assert_eq(load(text, len, &m, &fd, &fault), 0, "%s", fault.text);
	cr_assert_eq(m.count, 2);
	cr_assert_str_eq(m.root, root);
	cr_assert_eq(m.folders, 4);
	cr_assert_eq(m.messages, 6);
	cr_assert_eq(m.octets, 60);
	cr_assert_str_eq(m.users[0].name, "anna");
	cr_assert_str_eq(m.users[1].name, "bob x");
	cr_assert_eq(m.users[1].count, 2);
	cr_assert_str_eq(m.users[1].folders[1].dir, ".lists.a");
	cr_assert_str_eq(m.users[1].folders[1].damage, "record at 2048: torn");
	cr_assert_eq(m.users[0].folders[0].uidvalidity, 7);
	cr_assert_eq(m.users[0].subscribed_count, 2);
	cr_assert_str_eq(m.users[0].subscribed[1], ".lists.a");
	/* The same mail has the same hash, whosever it is. */
	cr_assert_str_eq(m.users[0].folders[0].hash,
			 m.users[1].folders[0].hash);
	cr_assert_str_neq(m.users[0].hash, m.users[1].hash);
	manifest_fini(&m);
	(void)close(fd);
	free(text);
}

TEST(manifest, gives_the_messages_of_a_folder)
{
	struct manifest_cursor *c;
	struct manifest_fault fault;
	struct manifest m;
	struct fact got;
	size_t len;
	char *text = sample(&len);
	int fd;

	cr_assert_eq(load(text, len, &m, &fd, &fault), 0);
	cr_assert_eq(manifest_open(fd, &m.users[1].folders[0], &c), 0);
	for (uint32_t uid = 1; uid <= 3; uid++) {
		struct fact want = message(uid);

		cr_assert_eq(manifest_next(c, &got), 0);
		cr_assert_eq(got.uid, uid);
		cr_assert_eq(got.flags, want.flags);
		cr_assert_eq(got.date, want.date);
		cr_assert_eq(got.size, want.size);
		cr_assert_str_eq(got.keywords, want.keywords);
		cr_assert_str_eq(got.sha256, want.sha256);
		cr_assert_str_eq(got.crlf, want.crlf);
		cr_assert_eq(got.err, 0);
	}
	cr_assert_eq(manifest_next(c, &got), -ENOENT);
	manifest_close(c);
	manifest_close(NULL);
	manifest_fini(&m);
	(void)close(fd);
	free(text);
}

TEST(manifest, of_one_user_has_no_name_in_it)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	struct manifest_writer *w = manifest_writer_new(f);
	struct manifest_fault fault;
	struct manifest m;
	int fd;

	cr_assert_eq(manifest_begin_user(w, ""), 0);
	put_folder(w, "", 1, "");
	cr_assert_eq(manifest_end_user(w), 0);
	cr_assert_eq(manifest_end(w, root), 0);
	manifest_writer_free(w);
	cr_assert_eq(fclose(f), 0);
	cr_assert_null(strstr(text, "user "));
	cr_assert_eq(load(text, len, &m, &fd, &fault), 0, "%s", fault.text);
	cr_assert_eq(m.count, 1);
	cr_assert_str_eq(m.users[0].name, "");
	manifest_fini(&m);
	(void)close(fd);
	free(text);
}

TEST(manifest, with_any_octet_changed_is_refused)
{
	struct manifest_fault fault;
	struct manifest m;
	size_t len;
	char *text = sample(&len);
	int fd;

	for (size_t i = 0; i < len; i++) {
		char was = text[i];

		text[i] = (char)(was ^ 1);
		cr_assert_eq(load(text, len, &m, &fd, &fault), -EBADMSG,
			     "octet %zu", i);
		cr_assert_gt(fault.line, 0);
		cr_assert_null(m.users);
		text[i] = was;
		(void)close(fd);
	}
	free(text);
}

TEST(manifest, that_is_cut_anywhere_is_refused)
{
	struct manifest_fault fault;
	struct manifest m;
	size_t len;
	char *text = sample(&len);
	int fd;

	for (size_t i = 0; i < len; i++) {
		cr_assert_eq(load(text, i, &m, &fd, &fault), -EBADMSG,
			     "%zu octets", i);
		(void)close(fd);
	}
	free(text);
}

/* @old is replaced by @new, of the same length, and every hash would have to
 * follow: what is refused is refused before. */
static void refused(const char *old, const char *new, const char *why)
{
	struct manifest_fault fault;
	struct manifest m;
	size_t len;
	char *text = sample(&len), *at = strstr(text, old);
	int fd;

	cr_assert_not_null(at, "%s", old);
	for (size_t i = 0; new[i]; i++)
		at[i] = new[i];
	cr_assert_eq(load(text, len, &m, &fd, &fault), -EBADMSG, "%s", new);
	cr_assert_str_eq(fault.text, why, "%s: %s", new, fault.text);
	(void)close(fd);
	free(text);
}

TEST(manifest, says_what_is_wrong_with_a_line)
{
	refused("\n2 flags", "\n1 flags", "UIDs do not ascend");
	refused("\n1 flags", "\n0 flags", "a UID after messages without one");
	refused("flags=S", "flags=X", "the line of a message cannot be read");
	refused("date=2012", "date=2 12",
		"the line of a message cannot be read");
	refused("size=10", "size=1x", "the line of a message cannot be read");
	refused("size=10", "size=01", "the line of a message cannot be read");
	refused("user bob\\x20x", "user aaa\\x20x", "users do not ascend");
	refused("user anna", "user .nna", "no user has such a name");
	refused("folder lists", "folder .ists",
		"the line of a folder cannot be read");
	refused("user-hash", "user-hasx", "a line that has no place here");
	refused("messages=3", "messages=4", "the hash is that of other lines");
}

TEST(manifest, keeps_what_could_not_be_read)
{
	struct fact m = message(1), got;
	struct manifest_folder f = { .lost = true, .damage = "gone: for ever" };
	struct manifest_fault fault;
	char line[MANIFEST_LINE_MAX + 1], *text = NULL;
	struct manifest_cursor *c;
	struct manifest out;
	size_t len;
	FILE *file = open_memstream(&text, &len);
	struct manifest_writer *w = manifest_writer_new(file);
	int fd;

	m.err = -EIO;
	*m.sha256 = *m.crlf = '\0';
	f.messages = 1;
	f.octets = 10;
	cr_assert_eq(manifest_begin_user(w, "u"), 0);
	cr_assert_eq(manifest_folder_text(w, line,
					  manifest_folder_line(&f, line)),
		     0);
	cr_assert_eq(manifest_folder_text(w, line,
					  manifest_message_line(&m, line)),
		     0);
	cr_assert_eq(manifest_end_folder(w, 1, 10), 0);
	cr_assert_eq(manifest_end_user(w), 0);
	cr_assert_eq(manifest_end(w, root), 0);
	manifest_writer_free(w);
	cr_assert_eq(fclose(file), 0);
	cr_assert_eq(load(text, len, &out, &fd, &fault), 0, "%s", fault.text);
	cr_assert(out.users[0].folders[0].lost);
	cr_assert_str_eq(out.users[0].folders[0].damage, "gone: for ever");
	cr_assert_eq(manifest_open(fd, &out.users[0].folders[0], &c), 0);
	cr_assert_eq(manifest_next(c, &got), 0);
	cr_assert_eq(got.err, -EIO);
	manifest_close(c);
	manifest_fini(&out);
	(void)close(fd);
	free(text);
}
