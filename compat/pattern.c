#include "compat/pattern.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/text.h"

enum { USER_MAX = 200 };

/* One component, "%%" made '%'; @user_out: where in @out the %u was. */
static int decode(const char *p, const char *end, char *out, char **user_out)
{
	*user_out = NULL;
	while (p < end) {
		if (*p != '%') {
			*out++ = *p++;
			continue;
		}
		p++;
		if (p < end && *p == 'u' && !*user_out)
			*user_out = out;
		else if (p < end && *p == '%')
			*out++ = '%';
		else
			return -EINVAL;
		p++;
	}
	*out = '\0';
	return 0;
}

static void join(char *path, const char *component)
{
	size_t len = strlen(path);

	if (len && path[len - 1] != '/')
		path[len++] = '/';
	memcpy(path + len, component, strlen(component) + 1);
}

static int take_component(struct pattern *p, const char *one, char *user)
{
	if (user) {
		if (p->before)
			return -EINVAL;
		p->after = strdup(user);
		*user = '\0';
		p->before = strdup(one);
		return p->before && p->after ? 0 : -ENOMEM;
	}
	if (!*one || strcmp(one, ".") == 0)
		return 0;
	if (p->before && strcmp(one, "..") == 0)
		return -EINVAL;
	join(p->before ? p->rest : p->base, one);
	return 0;
}

static int parse(struct pattern *p)
{
	char one[PATH_MAX], *user;
	const char *start = p->text, *end;
	int rc = 0;

	if (strlen(start) >= sizeof(one))
		return -ENAMETOOLONG;
	for (; rc == 0 && *start; start = *end ? end + 1 : end) {
		end = strchrnul(start, '/');
		rc = decode(start, end, one, &user);
		if (rc == 0)
			rc = take_component(p, one, user);
	}
	return rc;
}

/* Without %u: the admin may have put a symlink in place of the file too. */
static int resolve_place(struct pattern *p)
{
	char *real = realpath(p->base, NULL);
	struct stat st;
	char *slash;

	if (real) {
		free(p->text);
		p->text = p->base;
		p->base = real;
		if (stat(p->base, &st) == 0 && S_ISDIR(st.st_mode))
			return 0;
	} else if (errno == ENOENT) {
		memcpy(p->text, p->base, strlen(p->base) + 1);
	} else {
		return -errno;
	}
	slash = strrchr(p->base, '/');
	free(p->rest);
	p->rest = strdup(slash + 1);
	if (!p->rest)
		return -ENOMEM;
	slash[slash == p->base] = '\0';
	return 0;
}

int pattern_init(struct pattern *p, const char *text)
{
	int rc;

	*p = (struct pattern){ .base_fd = -1 };
	if (*text != '/')
		return -EINVAL;
	p->text = strdup(text);
	p->base = calloc(strlen(text) + 1, 1);
	p->rest = calloc(strlen(text) + 1, 1);
	if (!p->text || !p->base || !p->rest)
		return -ENOMEM;
	p->base[0] = '/';
	rc = parse(p);
	if (rc == 0 && !p->before)
		rc = resolve_place(p);
	if (rc)
		return rc;
	p->base_fd = open(p->base, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return p->base_fd < 0 ? -errno : 0;
}

int pattern_literal(const char *path, struct pattern *out)
{
	AUTO_FREE char *real = realpath(path, NULL);
	AUTO_FREE char *text = NULL;
	char *p;

	if (!real)
		return -errno;
	text = malloc(2 * strlen(real) + 1);
	if (!text)
		return -ENOMEM;
	p = text;
	for (const char *c = real; *c; c++) {
		if (*c == '%')
			*p++ = '%';
		*p++ = *c;
	}
	*p = '\0';
	return pattern_init(out, text);
}

void pattern_fini(struct pattern *p)
{
	free(p->text);
	free(p->base);
	free(p->before);
	free(p->after);
	free(p->rest);
	if (p->base_fd >= 0)
		(void)close(p->base_fd);
	*p = (struct pattern){ .base_fd = -1 };
}

bool pattern_has_user(const struct pattern *p)
{
	return p->before != NULL;
}

bool pattern_user_valid(const char *user)
{
	size_t i;

	if (!*user || *user == '.')
		return false;
	for (i = 0; user[i]; i++) {
		unsigned char c = (unsigned char)user[i];

		if (i == USER_MAX || c < 0x20 || c == 0x7f || c == '/')
			return false;
	}
	return true;
}

/* The path below base. */
static int below(const struct pattern *p, const char *user, const char *sub,
		 char *buf, size_t size)
{
	const char *dash = *p->rest && *sub ? "/" : "";

	if (!p->before)
		return text_path(buf, size, "%s%s%s", p->rest, dash, sub);
	if (!pattern_user_valid(user))
		return -EINVAL;
	return text_path(buf, size, "%s%s%s%s%s%s%s", p->before, user, p->after,
			 *p->rest ? "/" : "", p->rest, *sub ? "/" : "", sub);
}

/* Can nobody but the admin have put a symlink into the base directory? */
static bool is_admins(const struct pattern *p)
{
	struct stat st;

	return p->before && *p->rest && fstat(p->base_fd, &st) == 0 &&
		(st.st_uid == 0 || st.st_uid == geteuid()) &&
		!(st.st_mode & (S_IWGRP | S_IWOTH));
}

/* A home that the admin has moved: /home/anna -> /data/anna. */
static int open_moved(const struct pattern *p, const char *path, int flags)
{
	size_t len = strcspn(path, "/");
	char component[PATH_MAX];
	AUTO_FD int home = -1;

	memcpy(component, path, len);
	component[len] = '\0';
	home = openat(p->base_fd, component, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (home < 0)
		return -errno;
	path += len;
	return io_open_beneath(home, *path ? path + 1 : ".", flags);
}

int pattern_open(const struct pattern *p, const char *user, const char *sub,
		 int flags)
{
	char path[PATH_MAX];
	int rc = below(p, user, sub, path, sizeof(path));

	if (rc == 0)
		rc = io_open_beneath(p->base_fd, path, flags);
	if (rc == -ELOOP && is_admins(p))
		rc = open_moved(p, path, flags);
	return rc;
}

int pattern_open_home(const struct pattern *p, const char *user)
{
	char name[PATH_MAX];
	int fd, rc;

	if (!p->before || !*p->rest)
		return -ENOENT;
	if (!pattern_user_valid(user))
		return -EINVAL;
	rc = text_path(name, sizeof(name), "%s%s%s", p->before, user, p->after);
	if (rc)
		return rc;
	fd = io_open_beneath(p->base_fd, name, O_PATH);
	if (fd != -ELOOP || !is_admins(p))
		return fd;
	fd = openat(p->base_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int pattern_open_parent(const struct pattern *p, const char *user, char *name)
{
	char path[PATH_MAX];
	char *slash;
	int rc = below(p, user, "", path, sizeof(path));

	if (rc)
		return rc;
	slash = strrchr(path, '/');
	rc = text_path(name, NAME_MAX + 1, "%s", slash ? slash + 1 : path);
	if (rc || !*name)
		return rc ? rc : -ENOENT;
	*(slash ? slash : path) = '\0';
	rc = io_open_beneath(p->base_fd, path, O_PATH);
	if (rc == -ELOOP && is_admins(p))
		rc = open_moved(p, path, O_PATH);
	return rc;
}

bool pattern_is_public(const struct pattern *p)
{
	struct stat st;

	return p->before &&
		(fstat(p->base_fd, &st) < 0 || st.st_mode & S_IWOTH);
}

int pattern_path(const struct pattern *p, const char *user, const char *sub,
		 char *buf, size_t size)
{
	char path[PATH_MAX];
	int rc;

	if (!p->before)
		return text_path(buf, size, "%s%s%s", p->text,
				 *sub && p->text[1] ? "/" : "", sub);
	rc = below(p, user, sub, path, sizeof(path));
	if (rc)
		return rc;
	return text_path(buf, size, "%s%s%s", p->base, p->base[1] ? "/" : "",
			 path);
}

/* The user whose %u component this would be; "" if none. */
static void user_of(const struct pattern *p, const char *entry, char *user)
{
	size_t len = strlen(entry), before = strlen(p->before);
	size_t after = strlen(p->after);

	*user = '\0';
	if (len <= before + after || len - before - after > USER_MAX ||
	    strncmp(entry, p->before, before) != 0 ||
	    strcmp(entry + len - after, p->after) != 0)
		return;
	memcpy(user, entry + before, len - before - after);
	user[len - before - after] = '\0';
}

int pattern_users(const struct pattern *p, pattern_user_fn *fn, void *arg)
{
	char user[USER_MAX + 1];
	struct dirent *de;
	int fd, rc = 0;
	DIR *dir;

	if (!p->before)
		return 0;
	fd = io_open_beneath(p->base_fd, ".", O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		rc = -errno;
		(void)close(fd);
		return rc;
	}
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone */
	for (errno = 0; rc == 0 && (de = readdir(dir)); errno = 0) {
		user_of(p, de->d_name, user);
		if (pattern_user_valid(user))
			rc = fn(user, arg);
	}
	if (rc == 0 && errno)
		rc = -errno;
	(void)closedir(dir);
	return rc;
}
