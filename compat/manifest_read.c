/* Reading a manifest: once as a whole, hash by hash, then folder by folder. */
#include "compat/manifest_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compat/io.h"
#include "compat/pattern.h"
#include "compat/text.h"

/* ---- lines --------------------------------------------------------------- */

struct lines {
	int fd;
	uint64_t off; /* of what comes after the buffer */
	size_t at, len;
	char buf[2 * MANIFEST_LINE_MAX];
};

static int fill(struct lines *l)
{
	ssize_t n;

	memmove(l->buf, l->buf + l->at, l->len - l->at);
	l->len -= l->at;
	l->at = 0;
	n = io_read_at(l->fd, l->buf + l->len, sizeof(l->buf) - l->len, l->off);
	if (n < 0)
		return (int)n;
	l->len += (size_t)n;
	l->off += (uint64_t)n;
	return 0;
}

/* Return: 0, @out without its LF, good until the next call; -ENOENT at the
 * end; -EBADMSG for a line that is torn, too long or has a NUL. */
static int next_line(struct lines *l, char **out, size_t *len_out)
{
	char *start = l->buf + l->at;
	char *lf = memchr(start, '\n', l->len - l->at);

	if (!lf) {
		int ret = fill(l);

		if (ret < 0)
			return ret;
		if (l->len == 0)
			return -ENOENT;
		start = l->buf;
		lf = memchr(start, '\n', l->len);
	}
	if (!lf || lf - start > MANIFEST_LINE_MAX ||
	    memchr(start, '\0', (size_t)(lf - start)))
		return -EBADMSG;
	*lf = '\0';
	l->at = (size_t)(lf + 1 - l->buf);
	*out = start;
	*len_out = (size_t)(lf - start);
	return 0;
}

static uint64_t place(const struct lines *l)
{
	return l->off - (l->len - l->at);
}

/* ---- the whole ----------------------------------------------------------- */

enum state {
	AT_MAGIC,
	BETWEEN_USERS,
	IN_USER,   /* behind the line "user", or a folder-hash */
	IN_FOLDER, /* messages, folder-hash */
	AT_SUBSCRIPTIONS,
	AT_END,
};

struct loader {
	struct lines lines;
	struct manifest *out;
	struct digest *folder, *user, *root;
	enum state state;
	uint32_t uid; /* of the message before; 0 after one without */
	bool any;     /* the folder has had a message */
	uint64_t messages, octets;
	const char *why;
};

static int refuse(struct loader *l, const char *why)
{
	l->why = why;
	return -EBADMSG;
}

static bool is(const char *line, const char *word)
{
	size_t len = strlen(word);

	return strncmp(line, word, len) == 0 && line[len] == ' ';
}

static int add(struct digest *d, const char *line, size_t len)
{
	int ret = digest_add(d, line, len);

	return ret < 0 ? ret : digest_add(d, "\n", 1);
}

static struct manifest_user *last_user(struct loader *l)
{
	return &l->out->users[l->out->count - 1];
}

static struct manifest_folder *last_folder(struct loader *l)
{
	struct manifest_user *u = last_user(l);

	return &u->folders[u->count - 1];
}

static int add_user(struct loader *l, const char *name)
{
	struct manifest *m = l->out;
	struct manifest_user *more;

	if (m->count > 0 &&
	    (!*m->users[0].name || !*name ||
	     strcmp(m->users[m->count - 1].name, name) >= 0))
		return refuse(l, "users do not ascend");
	more = reallocarray(m->users, m->count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	m->users = more;
	more[m->count] = (struct manifest_user){ .name = strdup(name) };
	if (!more[m->count].name)
		return -ENOMEM;
	m->count++;
	l->state = IN_USER;
	return 0;
}

static int user_line(struct loader *l, const char *line, size_t len)
{
	char plain[4 * MANIFEST_USER_MAX + 1], word[4 * sizeof(plain)];
	const char *name = line + strlen("user ");
	ptrdiff_t n;
	int ret;

	if (strlen(name) >= sizeof(plain))
		return refuse(l, "no user has such a name");
	n = text_unescape(name, plain);
	if (n < 1 || strlen(plain) != (size_t)n || !pattern_user_valid(plain) ||
	    strcmp(text_escape(plain, (size_t)n, word, sizeof(word)), name) !=
		    0)
		return refuse(l, "no user has such a name");
	ret = add(l->user, line, len);
	return ret < 0 ? ret : add_user(l, plain);
}

static int folder_line(struct loader *l, char *line, size_t len)
{
	struct manifest_folder f, *more;
	struct manifest_user *u;
	int ret = add(l->folder, line, len);

	if (ret == 0 && l->state == BETWEEN_USERS)
		ret = add_user(l, "");
	if (ret < 0)
		return ret;
	if (manifest_parse_folder(line, &f) < 0)
		return refuse(l, "the line of a folder cannot be read");
	u = last_user(l);
	if (u->count > 0 && strcmp(u->folders[u->count - 1].dir, f.dir) >= 0)
		return refuse(l, "folders do not ascend");
	more = reallocarray(u->folders, u->count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	u->folders = more;
	f.off = place(&l->lines);
	more[u->count++] = f;
	l->state = IN_FOLDER;
	l->messages = l->octets = 0;
	l->any = false;
	return 0;
}

static int message_line(struct loader *l, char *line, size_t len)
{
	struct fact m;
	int ret = add(l->folder, line, len);

	if (ret < 0)
		return ret;
	if (manifest_parse_message(line, &m) < 0)
		return refuse(l, "the line of a message cannot be read");
	if (l->any && m.uid != 0 && m.uid <= l->uid)
		return refuse(l, "UIDs do not ascend");
	if (l->any && m.uid != 0 && l->uid == 0)
		return refuse(l, "a UID after messages without one");
	if (__builtin_add_overflow(l->octets, m.size, &l->octets))
		return refuse(l, "sizes that cannot be");
	l->uid = m.uid;
	l->any = true;
	l->messages++;
	return 0;
}

/* Whether the rest of the line is the hash of what went into @d. */
static int check_hash(struct loader *l, struct digest *d, const char *line,
		      char *out)
{
	int ret = digest_hex(d, out);

	if (ret < 0)
		return ret;
	return strcmp(strchr(line, ' ') + 1, out) == 0
		? 0
		: refuse(l, "the hash is that of other lines");
}

static int folder_end(struct loader *l, const char *line, size_t len)
{
	struct manifest_folder *f = last_folder(l);
	int ret = check_hash(l, l->folder, line, f->hash);

	if (ret < 0)
		return ret;
	if (f->messages != l->messages || f->octets != l->octets)
		return refuse(l, "messages or octets are not those counted");
	l->out->folders++;
	l->out->messages += l->messages;
	l->out->octets += l->octets;
	l->state = IN_USER;
	return add(l->user, line, len);
}

static int subscribed_line(struct loader *l, const char *line, size_t len)
{
	char dir[FOLDERNAME_MAX + 1], **more;
	struct manifest_user *u;
	int ret = 0;

	if (l->state == BETWEEN_USERS)
		ret = add_user(l, "");
	if (ret == 0)
		ret = add(l->user, line, len);
	if (ret < 0)
		return ret;
	u = last_user(l);
	if (fact_name_parse(line + strlen("subscribed "), dir) < 0)
		return refuse(l, "the name of a folder cannot be read");
	if (u->subscribed_count > 0 &&
	    strcmp(u->subscribed[u->subscribed_count - 1], dir) >= 0)
		return refuse(l, "subscriptions do not ascend");
	more = reallocarray(u->subscribed, u->subscribed_count + 1,
			    sizeof(*more));
	if (!more)
		return -ENOMEM;
	u->subscribed = more;
	more[u->subscribed_count] = strdup(dir);
	if (!more[u->subscribed_count])
		return -ENOMEM;
	u->subscribed_count++;
	l->state = AT_SUBSCRIPTIONS;
	return 0;
}

static int user_end(struct loader *l, const char *line, size_t len)
{
	int ret = l->state == BETWEEN_USERS ? add_user(l, "") : 0;

	if (ret == 0)
		ret = check_hash(l, l->user, line, last_user(l)->hash);
	l->state = BETWEEN_USERS;
	return ret < 0 ? ret : add(l->root, line, len);
}

static int root_line(struct loader *l, char *line)
{
	struct manifest said = { .count = 0 }, *m = l->out;
	int ret = digest_hex(l->root, m->root);

	if (ret < 0)
		return ret;
	if (manifest_parse_root(line, &said) < 0)
		return refuse(l, "the line of the root cannot be read");
	if (strcmp(said.root, m->root) != 0)
		return refuse(l, "the hash is that of other lines");
	if (said.count != m->count || said.folders != m->folders ||
	    said.messages != m->messages || said.octets != m->octets)
		return refuse(l, "the totals are not those counted");
	l->state = AT_END;
	return 0;
}

static int in_user(struct loader *l, char *line, size_t len)
{
	if (is(line, "folder") && l->state != AT_SUBSCRIPTIONS)
		return folder_line(l, line, len);
	if (is(line, "subscribed"))
		return subscribed_line(l, line, len);
	if (is(line, "user-hash"))
		return user_end(l, line, len);
	if (l->state == BETWEEN_USERS && is(line, "user"))
		return user_line(l, line, len);
	if (l->state == BETWEEN_USERS && is(line, "root"))
		return root_line(l, line);
	return refuse(l, "a line that has no place here");
}

static int one_line(struct loader *l, char *line, size_t len)
{
	switch (l->state) {
	case AT_MAGIC:
		l->state = BETWEEN_USERS;
		return strcmp(line, MANIFEST_MAGIC) == 0
			? 0
			: refuse(l, "not a manifest of version 1");
	case IN_FOLDER:
		return is(line, "folder-hash") ? folder_end(l, line, len)
					       : message_line(l, line, len);
	case AT_END:
		return refuse(l, "something follows the root");
	default:
		return in_user(l, line, len);
	}
}

static int load(struct loader *l, uint64_t *line_out)
{
	char *line;
	size_t len;
	int ret;

	for (*line_out = 1;; (*line_out)++) {
		l->why = "a line that is torn, too long or has a NUL";
		ret = next_line(&l->lines, &line, &len);
		if (ret < 0)
			break;
		ret = one_line(l, line, len);
		if (ret < 0)
			return ret;
	}
	if (ret != -ENOENT || l->state == AT_END)
		return ret == -ENOENT ? 0 : ret;
	return refuse(l, "it ends before its root");
}

int manifest_load(int fd, struct manifest *out, struct manifest_fault *fault)
{
	struct loader *l = calloc(1, sizeof(*l));
	int ret = -ENOMEM;

	*out = (struct manifest){ .count = 0 };
	*fault = (struct manifest_fault){ .text = "" };
	if (!l)
		return ret;
	l->lines.fd = fd;
	l->out = out;
	l->folder = digest_new();
	l->user = digest_new();
	l->root = digest_new();
	if (l->folder && l->user && l->root)
		ret = load(l, &fault->line);
	if (ret == -EBADMSG)
		fault->text = l->why;
	if (ret < 0)
		manifest_fini(out);
	digest_free(l->folder);
	digest_free(l->user);
	digest_free(l->root);
	free(l);
	return ret;
}

void manifest_fini(struct manifest *m)
{
	for (size_t i = 0; i < m->count; i++) {
		struct manifest_user *u = &m->users[i];

		for (size_t k = 0; k < u->subscribed_count; k++)
			free(u->subscribed[k]);
		free(u->subscribed);
		free(u->folders);
		free(u->name);
	}
	free(m->users);
	*m = (struct manifest){ .count = 0 };
}

/* ---- one folder ---------------------------------------------------------- */

struct manifest_cursor {
	struct lines lines;
	uint64_t left;
};

int manifest_open(int fd, const struct manifest_folder *f,
		  struct manifest_cursor **out)
{
	struct manifest_cursor *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->lines.fd = fd;
	c->lines.off = f->off;
	c->left = f->messages;
	*out = c;
	return 0;
}

int manifest_next(struct manifest_cursor *c, struct fact *out)
{
	char *line;
	size_t len;
	int ret;

	if (c->left == 0)
		return -ENOENT;
	c->left--;
	ret = next_line(&c->lines, &line, &len);
	if (ret < 0)
		return ret == -ENOENT ? -EBADMSG : ret;
	return manifest_parse_message(line, out);
}

void manifest_close(struct manifest_cursor *c)
{
	free(c);
}
