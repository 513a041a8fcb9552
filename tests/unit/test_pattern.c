#include "compat/pattern.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fixture.h"

/* base/alice/mail/{x,link}, base/bob, base/.hidden, base/file; adm -> base */
static const char *make_tree(void)
{
	static char root[256];
	static const char *const dirs[] = { "base", "base/alice",
					    "base/alice/mail", "base/bob",
					    "base/.hidden" };
	char path[PATH_MAX];
	size_t i;

	(void)snprintf(root, sizeof(root), "%s", fixture_dir());
	cr_assert_eq(chdir(root), 0);
	for (i = 0; i < ARRAY_LEN(dirs); i++)
		cr_assert_eq(mkdir(dirs[i], 0700), 0);
	cr_assert_eq(symlink("base", "adm"), 0);
	(void)snprintf(path, sizeof(path), "%s/base/alice/mail/x", root);
	fixture_write(path, "x", 1);
	(void)snprintf(path, sizeof(path), "%s/base/file", root);
	fixture_write(path, "file", 4);
	cr_assert_eq(symlink("x", "base/alice/mail/link"), 0);
	cr_assert_eq(symlink("alice", "base/carol"), 0);
	return root;
}

static void init(struct pattern *p, const char *below)
{
	char text[PATH_MAX];
	int rc;

	(void)snprintf(text, sizeof(text), "%s%s", make_tree(), below);
	rc = pattern_init(p, text);
	cr_assert_eq(rc, 0, "%s: %d", text, rc);
}

TEST(pattern, what_is_no_pattern_is_refused)
{
	static const struct {
		const char *text;
		int want;
	} rows[] = {
		{ "", -EINVAL },
		{ "home/%u", -EINVAL },
		{ "/%u/%u", -EINVAL },
		{ "/%u-%u", -EINVAL },
		{ "/a%b", -EINVAL },
		{ "/a%", -EINVAL },
		{ "/%", -EINVAL },
		{ "/%u%", -EINVAL },
		{ "/%u/../x", -EINVAL },
		{ "/%u/x/..", -EINVAL },
		{ "/no/such/directory/%u", -ENOENT },
		{ "/etc/passwd/%u", -ENOTDIR },
		{ "/no/such/directory/file", -ENOENT },
		{ "/%u", 0 },
		{ "/etc/../tmp/%u", 0 },
		{ "/", 0 },
		{ "/no-such-file", 0 },
	};
	struct pattern p;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		cr_expect_eq(pattern_init(&p, rows[i].text), rows[i].want,
			     "row %zu", i);
		pattern_fini(&p);
	}
}

TEST(pattern, paths_are_told_as_the_admin_wrote_them)
{
	static const struct {
		const char *text, *user, *sub, *want;
	} rows[] = {
		{ "/%u", "al", "", "/al" },
		{ "/tmp/%u/mail", "al", "", "/tmp/al/mail" },
		{ "//tmp//./x%u.d//mail/./", "al", "a/b",
		  "/tmp/xal.d/mail/a/b" },
		{ "/tmp/100%%%u", "al", "f", "/tmp/100%al/f" },
		{ "/tmp/%%u", "al", "f", "/tmp/%u/f" },
		{ "/", "al", "f", "/f" },
		{ "/no-such-file", "", "", "/no-such-file" },
	};
	char path[PATH_MAX];
	struct pattern p;
	size_t i;

	for (i = 0; i < ARRAY_LEN(rows); i++) {
		cr_assert_eq(pattern_init(&p, rows[i].text), 0, "row %zu", i);
		cr_expect_eq(pattern_path(&p, rows[i].user, rows[i].sub, path,
					  sizeof(path)),
			     0);
		cr_expect_str_eq(path, rows[i].want);
		pattern_fini(&p);
	}
}

TEST(pattern, a_path_that_does_not_fit_is_an_error)
{
	struct pattern p;
	char path[8];

	cr_assert_eq(pattern_init(&p, "/tmp/%u/mail"), 0);
	cr_expect_eq(pattern_path(&p, "al", "", path, sizeof(path)),
		     -ENAMETOOLONG);
	pattern_fini(&p);
}

TEST(pattern, a_home_is_no_symlink_where_others_may_make_one)
{
	struct pattern p;

	init(&p, "/adm/%u/mail");
	cr_assert_eq(chmod("base", 0775), 0);
	cr_expect_eq(pattern_open(&p, "carol", "x", O_RDONLY), -ELOOP);
	cr_assert_eq(chmod("base", 01777), 0);
	cr_expect_eq(pattern_open(&p, "carol", "x", O_RDONLY), -ELOOP);
	pattern_fini(&p);
}

TEST(pattern, the_admins_part_may_be_a_symlink_and_the_users_may_not)
{
	static const struct {
		const char *user, *sub;
		int want;
	} rows[] = {
		{ "alice", "", 0 },
		{ "alice", "x", 0 },
		{ "alice", "link", -ELOOP },
		{ "alice", "none", -ENOENT },
		{ "alice", "../../bob", -EXDEV },
		{ "carol", "x", 0 }, /* a home that the admin moved */
		{ "carol", "link", -ELOOP },
		{ "bob", "", -ENOENT },
		{ "nobody", "", -ENOENT },
		{ "..", "", -EINVAL },
		{ "alice/mail", "", -EINVAL },
		{ "", "", -EINVAL },
	};
	struct pattern p;
	size_t i;

	init(&p, "/adm/%u/mail");
	cr_expect(pattern_has_user(&p));
	for (i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO_FD int fd =
			pattern_open(&p, rows[i].user, rows[i].sub, O_RDONLY);

		if (rows[i].want)
			cr_expect_eq(fd, rows[i].want, "row %zu: %d", i, fd);
		else
			cr_expect_geq(fd, 0, "row %zu: %d", i, fd);
	}
	pattern_fini(&p);
}

TEST(pattern, without_a_user_all_of_the_path_is_the_admins)
{
	struct pattern p;
	AUTO_FD int dir = -1, sub = -1, file = -1;

	init(&p, "/base/carol/mail");
	cr_expect_not(pattern_has_user(&p));
	dir = pattern_open(&p, NULL, "", O_RDONLY | O_DIRECTORY);
	cr_expect_geq(dir, 0, "%d", dir);
	sub = pattern_open(&p, NULL, "x", O_RDONLY);
	cr_expect_geq(sub, 0, "%d", sub);
	cr_expect_eq(pattern_open(&p, NULL, "link", O_RDONLY), -ELOOP);
	pattern_fini(&p);

	cr_assert_eq(chdir("base/alice/mail"), 0);
	cr_assert_eq(pattern_init(&p, "/proc/self/cwd/link"), 0);
	file = pattern_open(&p, NULL, "", O_RDONLY);
	cr_expect_geq(file, 0, "%d", file);
	pattern_fini(&p);
}

TEST(pattern, a_place_that_comes_later_is_found)
{
	struct pattern p;
	AUTO_FD int fd = -1;

	init(&p, "/base/later");
	cr_expect_eq(pattern_open(&p, NULL, "", O_RDONLY), -ENOENT);
	cr_assert_eq(mkdir("base/later", 0700), 0);
	fd = pattern_open(&p, NULL, "", O_RDONLY);
	cr_expect_geq(fd, 0, "%d", fd);
	pattern_fini(&p);
}

TEST(pattern, user_names_are_one_plain_component)
{
	char name[202];

	cr_expect(pattern_user_valid("a"));
	cr_expect(pattern_user_valid("a.b@example.org"));
	cr_expect(pattern_user_valid("j\xc3\xb6rg x"));
	cr_expect_not(pattern_user_valid(""));
	cr_expect_not(pattern_user_valid("."));
	cr_expect_not(pattern_user_valid(".a"));
	cr_expect_not(pattern_user_valid("a/b"));
	cr_expect_not(pattern_user_valid("a\nb"));
	cr_expect_not(pattern_user_valid("a\x7f"));
	memset(name, 'x', 201);
	name[201] = '\0';
	cr_expect_not(pattern_user_valid(name));
	name[200] = '\0';
	cr_expect(pattern_user_valid(name));
}

enum { ALL = 200 };

static int collect(const char *user, void *arg)
{
	char *all = arg;
	size_t len = strlen(all);

	if (strcmp(user, "stop") == 0)
		return 7;
	(void)snprintf(all + len, ALL - len, "%s ", user);
	return 0;
}

TEST(pattern, users_are_what_could_stand_for_u)
{
	char all[ALL] = "";
	struct pattern p;

	init(&p, "/base/%u/mail");
	cr_expect_eq(pattern_users(&p, collect, all), 0);
	cr_expect_eq(strlen(all), strlen("alice bob carol file "));
	cr_expect(strstr(all, "alice ") && strstr(all, "bob "));
	cr_expect(strstr(all, "carol ") && strstr(all, "file "));
	cr_assert_eq(mkdir("base/stop", 0700), 0);
	cr_expect_eq(pattern_users(&p, collect, all), 7);
	pattern_fini(&p);
}

TEST(pattern, users_of_a_decorated_component_lose_the_decoration)
{
	char all[ALL] = "";
	struct pattern p;

	init(&p, "/base/%u.mbx");
	cr_assert_eq(mkdir("base/.mbx", 0700), 0);
	cr_assert_eq(mkdir("base/dan.mbx", 0700), 0);
	cr_assert_eq(mkdir("base/dan.mbx.old", 0700), 0);
	cr_expect_eq(pattern_users(&p, collect, all), 0);
	cr_expect_str_eq(all, "dan ");
	pattern_fini(&p);

	all[0] = '\0';
	cr_assert_eq(pattern_init(&p, fixture_dir()), 0);
	cr_expect_eq(pattern_users(&p, collect, all), 0);
	cr_expect_str_eq(all, "");
	pattern_fini(&p);
}

static ino_t home_of(const struct pattern *p, const char *user)
{
	AUTO_FD int fd = pattern_open_home(p, user);
	struct stat st;

	if (fd < 0)
		return 0;
	cr_assert_eq(fstat(fd, &st), 0);
	return st.st_ino;
}

TEST(pattern, the_home_is_the_directory_that_u_names)
{
	struct pattern p;
	struct stat st;

	init(&p, "/base/%u/mail/x");
	cr_assert_eq(stat("base/alice", &st), 0);
	cr_expect_eq(home_of(&p, "alice"), st.st_ino);
	/* A home that the admin has moved. */
	cr_expect_eq(home_of(&p, "carol"), st.st_ino);
	cr_expect_eq(pattern_open_home(&p, "nobody"), -ENOENT);
	cr_expect_eq(pattern_open_home(&p, "../base"), -EINVAL);
	/* Or that anybody has. */
	cr_assert_eq(chmod("base", 0777), 0);
	cr_expect_eq(pattern_open_home(&p, "carol"), -ELOOP);
	cr_expect_eq(home_of(&p, "alice"), st.st_ino);
	pattern_fini(&p);
}

TEST(pattern, a_mailbox_named_by_u_has_no_home)
{
	struct pattern p;

	init(&p, "/base/%u");
	cr_expect_eq(pattern_open_home(&p, "alice"), -ENOENT);
	pattern_fini(&p);
	cr_assert_eq(pattern_init(&p, fixture_dir()), 0);
	cr_expect_eq(pattern_open_home(&p, ""), -ENOENT);
	cr_expect_not(pattern_is_public(&p));
	pattern_fini(&p);
}

static ino_t parent_of(const struct pattern *p, const char *user, char *name)
{
	AUTO_FD int fd = pattern_open_parent(p, user, name);
	struct stat st;

	if (fd < 0)
		return 0;
	cr_assert_eq(fstat(fd, &st), 0);
	return st.st_ino;
}

TEST(pattern, the_parent_is_where_the_place_lies)
{
	char name[NAME_MAX + 1];
	struct pattern p;
	struct stat st;

	init(&p, "/base/%u/mail/x");
	cr_assert_eq(stat("base/alice/mail", &st), 0);
	cr_expect_eq(parent_of(&p, "alice", name), st.st_ino);
	cr_expect_str_eq(name, "x");
	cr_expect_eq(parent_of(&p, "carol", name), st.st_ino);
	cr_expect_eq(pattern_open_parent(&p, "bob", name), -ENOENT);
	cr_expect_eq(pattern_open_parent(&p, "../base", name), -EINVAL);
	pattern_fini(&p);
}

TEST(pattern, the_parent_may_be_the_home_or_the_base)
{
	char name[NAME_MAX + 1];
	char cwd[PATH_MAX / 2], text[PATH_MAX];
	struct pattern p;
	struct stat st;

	init(&p, "/base/%u/new");
	cr_assert_not_null(getcwd(cwd, sizeof(cwd)));
	cr_assert_eq(stat("base/alice", &st), 0);
	cr_expect_eq(parent_of(&p, "alice", name), st.st_ino);
	cr_expect_str_eq(name, "new");
	/* A home that the admin has moved. */
	cr_expect_eq(parent_of(&p, "carol", name), st.st_ino);
	pattern_fini(&p);
	(void)snprintf(text, sizeof(text), "%s/base/%%u", cwd);
	cr_assert_eq(pattern_init(&p, text), 0);
	cr_assert_eq(stat("base", &st), 0);
	cr_expect_eq(parent_of(&p, "alice", name), st.st_ino);
	cr_expect_str_eq(name, "alice");
	pattern_fini(&p);
	(void)snprintf(text, sizeof(text), "%s/base/file", cwd);
	cr_assert_eq(pattern_init(&p, text), 0);
	cr_expect_eq(parent_of(&p, "", name), st.st_ino);
	cr_expect_str_eq(name, "file");
	pattern_fini(&p);
	/* A directory is watched itself. */
	cr_assert_eq(pattern_init(&p, fixture_dir()), 0);
	cr_expect_eq(pattern_open_parent(&p, "", name), -ENOENT);
	pattern_fini(&p);
}

TEST(pattern, public_is_where_everybody_may_make_a_file)
{
	static const struct {
		mode_t mode;
		bool is_public;
	} rows[] = { { 0755, false },
		     { 02775, false },
		     { 01777, true },
		     { 0702, true } };
	struct pattern p;

	init(&p, "/base/%u");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		cr_assert_eq(chmod("base", rows[i].mode), 0);
		cr_expect_eq(pattern_is_public(&p), rows[i].is_public,
			     "row %zu", i);
	}
	pattern_fini(&p);
}
