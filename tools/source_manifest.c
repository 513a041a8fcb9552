/* A manifest: verified as a whole when it is opened. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/log.h"
#include "tools/source.h"

struct manifest_source {
	struct source base;
	int fd;
	struct manifest manifest;
};

struct manifest_reader {
	struct source_box base;
	struct manifest_cursor *cursor;
};

/* Of a user: which one he is. */
struct manifest_user_view {
	struct source_user base;
	const struct manifest_source *source;
	const struct manifest_user *user;
};

static const struct source_ops manifest_ops;

static void leave(struct source_user *base)
{
	source_user_fini(base);
	free(base);
}

static int copy_user(struct manifest_user_view *v)
{
	const struct manifest_user *m = v->user;
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < m->count; i++)
		ret = source_add_folder(&v->base, m->folders[i].dir,
					m->folders[i].octets);
	for (size_t i = 0; ret == 0 && i < m->subscribed_count; i++)
		ret = names_add(&v->base.subscribed, m->subscribed[i]);
	v->base.has_subscribed = true;
	return ret;
}

static int by_name(const void *key, const void *element)
{
	const struct manifest_user *u = element;

	return strcmp(key, u->name);
}

static int user(struct source *base, const char *name, struct source_user **out)
{
	struct manifest_source *s = (struct manifest_source *)base;
	struct manifest_user_view *v = calloc(1, sizeof(*v));
	int ret;

	if (!v)
		return -ENOMEM;
	v->base.ops = &manifest_ops;
	v->source = s;
	v->user = bsearch(name, s->manifest.users, s->manifest.count,
			  sizeof(*s->manifest.users), by_name);
	ret = v->user ? copy_user(v) : -ENOENT;
	if (ret < 0) {
		leave(&v->base);
		return ret;
	}
	*out = &v->base;
	return 0;
}

static int open_folder(struct source_user *base, size_t folder,
		       struct source_box **out)
{
	const struct manifest_user_view *v = (struct manifest_user_view *)base;
	const struct manifest_folder *f = &v->user->folders[folder];
	struct manifest_reader *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return -ENOMEM;
	r->base = (struct source_box){ .ops = &manifest_ops,
				       .uidvalidity = f->uidvalidity,
				       .uidnext = f->uidnext,
				       .messages = f->messages,
				       .octets = f->octets,
				       .err = f->lost ? -EIO : 0 };
	memcpy(r->base.damage, f->damage, sizeof(r->base.damage));
	ret = manifest_open(v->source->fd, f, &r->cursor);
	if (ret < 0) {
		free(r);
		return ret;
	}
	*out = &r->base;
	return 0;
}

static int next(struct source_box *b, struct fact *out)
{
	return manifest_next(((struct manifest_reader *)b)->cursor, out);
}

static bool changed(struct source_box *b)
{
	(void)b;
	return false;
}

static void close_folder(struct source_box *b)
{
	manifest_close(((struct manifest_reader *)b)->cursor);
	free(b);
}

static void manifest_free(struct source *base)
{
	struct manifest_source *s = (struct manifest_source *)base;

	manifest_fini(&s->manifest);
	base_auto_close(&s->fd);
	source_fini(base);
	free(s);
}

static const struct source_ops manifest_ops = {
	.user = user,
	.leave = leave,
	.open = open_folder,
	.next = next,
	.changed = changed,
	.close = close_folder,
	.free = manifest_free,
};

/* Read by place, so it must be a file. */
static int from_stdin(void)
{
	FILE *f = tmpfile();
	char buf[BUFSIZ];
	ssize_t n = 0;
	int fd;

	if (!f)
		return -errno;
	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0 &&
	       fwrite(buf, 1, (size_t)n, f) == (size_t)n)
		;
	fd = n != 0 || fflush(f) != 0 ? -EIO
				      : fcntl(fileno(f), F_DUPFD_CLOEXEC, 0);
	(void)fclose(f);
	return fd;
}

static int load(struct manifest_source *s, const char *arg)
{
	struct manifest_fault fault;
	int ret;

	s->fd = strcmp(arg, "-") == 0 ? from_stdin()
				      : open(arg, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0)
		return s->fd < -1 ? s->fd : -errno;
	ret = manifest_load(s->fd, &s->manifest, &fault);
	if (ret == -EBADMSG)
		log_err("%s: line %ju: %s", s->base.spec, (uintmax_t)fault.line,
			fault.text);
	return ret;
}

int source_manifest_new(const char *spec, const char *arg, struct source **out)
{
	struct manifest_source *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	s->fd = -1;
	ret = source_init(&s->base, &manifest_ops, "manifest", spec);
	if (ret == 0)
		ret = load(s, arg);
	if (ret < 0 && ret != -EBADMSG)
		log_err("%s: %s", spec, source_why(ret));
	for (size_t i = 0; ret == 0 && i < s->manifest.count; i++)
		ret = names_add(&s->base.users, s->manifest.users[i].name);
	if (ret < 0) {
		manifest_free(&s->base);
		return ret;
	}
	s->base.many = s->manifest.count != 1 || *s->manifest.users[0].name;
	*out = &s->base;
	return 0;
}
