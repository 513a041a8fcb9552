#include "compat/subscriptions.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "compat/foldername.h"
#include "compat/io.h"
#include "compat/text.h"

enum { LIST_MAX = 16 << 20 }; /* octets of a .mailboxlist */

static const char header[] = "V\t2\n\n";
static const char inbox[] = "INBOX";

static bool is_inbox(const char *p, size_t len)
{
	return len == sizeof(inbox) - 1 && strncasecmp(p, inbox, len) == 0;
}

static bool starts_with(const char *p, size_t len, const char *word)
{
	size_t n = strlen(word);

	return len >= n && memcmp(p, word, n) == 0;
}

static bool has_dotdot(const char *p, const char *end)
{
	const char *slash;

	for (; p < end; p = slash + 1) {
		slash = memchr(p, '/', (size_t)(end - p));
		if (!slash)
			slash = end;
		if (slash - p == 2 && p[0] == '.' && p[1] == '.')
			return true;
	}
	return false;
}

/* "#mh/x", "/abs/x", "~user/x": c-client does not look below the mail
 * directory for these. */
static bool is_elsewhere(const char *line, size_t len)
{
	return len &&
		(*line == '#' || *line == '/' ||
		 (*line == '~' && !starts_with(line, len, "~/")));
}

/* Past @word, if it stands there, and any slashes after it. */
static const char *skip_word(const char *p, const char *end, const char *word)
{
	size_t n = strlen(word);

	if (!starts_with(p, (size_t)(end - p), word) || p + n == end ||
	    p[n] != '/')
		return p;
	for (p += n; p < end && *p == '/'; p++)
		;
	return p;
}

enum subscription_kind subscription_classify(const char *line, size_t len,
					     const char *prefix,
					     const char **name_out,
					     size_t *name_len_out)
{
	const char *p = line, *end = line + len;

	*name_out = line;
	*name_len_out = len;
	if (is_inbox(line, len))
		return SUBSCRIPTION_INBOX;
	if (starts_with(line, len, "{"))
		return SUBSCRIPTION_REMOTE;
	if (is_elsewhere(line, len) || has_dotdot(line, end))
		return SUBSCRIPTION_NAMESPACE;
	p = skip_word(p, end, "~");
	if (*prefix)
		p = skip_word(p, end, prefix);
	while (end > p && end[-1] == '/')
		end--;
	*name_out = p;
	*name_len_out = (size_t)(end - p);
	return SUBSCRIPTION_FOLDER;
}

int subscription_read_list(const struct pattern *list, const char *user,
			   char **out, size_t *len_out)
{
	AUTO_FD int fd = pattern_open(list, user, "", O_RDONLY);
	AUTO_FREE char *text = NULL;
	struct stat st;
	ssize_t n;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -ENOTSUP;
	if (st.st_size > LIST_MAX)
		return -EFBIG;
	text = calloc(1, (size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	n = io_read_at(fd, text, (size_t)st.st_size, 0);
	if (n < 0)
		return (int)n;
	*out = base_steal_ptr(&text);
	*len_out = (size_t)n;
	return 0;
}

void subscription_write_header(FILE *f)
{
	(void)fputs(header, f);
}

/* Dovecot's tab escaping: \001 and a letter for each octet that has a meaning
 * of its own. */
static const char escaped[] = "\1\t\r\n";
static const char letters[] = "1trn";

static void write_octet(FILE *f, char c)
{
	const char *at = strchr(escaped, c);

	if (c == '.') {
		(void)fputc('\t', f);
	} else if (at) {
		(void)fputc('\1', f);
		(void)fputc(letters[at - escaped], f);
	} else {
		(void)fputc(c, f);
	}
}

void subscription_write(FILE *f, const char *dir)
{
	if (!*dir)
		(void)fputs(inbox, f);
	else if (*dir == '.')
		dir++;
	for (; *dir; dir++)
		write_octet(f, *dir);
	(void)fputc('\n', f);
}

/* Return: the octet that stands at @p, which moves on; an escape that is none
 * stands for its letter, as in Dovecot. */
static char read_octet(const char **p, const char *end)
{
	const char *at;
	char c = *(*p)++;

	if (c == '\t')
		return '.';
	if (c != '\1' || *p == end)
		return c;
	c = *(*p)++;
	if (c == '0')
		return '\0';
	at = c ? strchr(letters, c) : NULL;
	return (char)(at ? escaped[at - letters] : c);
}

/* Return: false for a line that can name no Maildir++ directory. */
static bool read_dir(const char *p, const char *end, bool plain, char *dir)
{
	size_t len = 0;
	char c;

	dir[len++] = '.';
	while (p < end) {
		if (plain)
			c = *p++;
		else
			c = read_octet(&p, end);
		if (!c || c == '/' || len == FOLDERNAME_MAX ||
		    (c == '.' && dir[len - 1] == '.'))
			return false;
		dir[len++] = c;
	}
	dir[len] = '\0';
	if (is_inbox(dir + 1, len - 1))
		dir[0] = '\0';
	return dir[len - 1] != '.';
}

/* Return: where the lines begin; NULL for another version. */
static const char *first_line(const char *text, size_t len, bool *plain)
{
	*plain = !starts_with(text, len, header);
	if (*plain && starts_with(text, len, "V\t"))
		return NULL;
	return *plain ? text : text + strlen(header);
}

int subscription_parse(const char *text, size_t len, subscription_fn *fn,
		       void *arg)
{
	const char *end = text + len, *lf, *p;
	char dir[FOLDERNAME_MAX + 1];
	bool plain;
	int rc = 0;

	p = first_line(text, len, &plain);
	if (!p)
		return -EBADMSG;
	for (; rc == 0 && p < end; p = lf < end ? lf + 1 : end) {
		lf = memchr(p, '\n', (size_t)(end - p));
		if (!lf)
			lf = end;
		if (read_dir(p, lf, plain, dir))
			rc = fn(dir, arg);
	}
	return rc;
}

static const char *dir_of(const char *legacy, const struct ledger *l,
			  enum foldername_dots dots, char *out)
{
	bool changed;

	for (size_t i = 0; i < l->count; i++)
		if (l->folders[i].place == LEDGER_PLACE_FOLDERS &&
		    strcmp(l->folders[i].legacy, legacy) == 0)
			return l->folders[i].dir;
	foldername_map(legacy, dots, out, &changed);
	return out;
}

int subscription_dir(const char *line, size_t len, const char *prefix,
		     const struct ledger *l, enum foldername_dots dots,
		     char *out)
{
	char legacy[PATH_MAX], dir[FOLDERNAME_MAX + 1];
	const char *name;
	size_t name_len;

	*out = '\0';
	switch (subscription_classify(line, len, prefix, &name, &name_len)) {
	case SUBSCRIPTION_INBOX:
		return 0;
	case SUBSCRIPTION_FOLDER:
		if (name_len == 0 ||
		    text_path(legacy, sizeof(legacy), "%.*s", (int)name_len,
			      name) < 0 ||
		    text_path(out, FOLDERNAME_MAX + 1, "%s",
			      dir_of(legacy, l, dots, dir)) < 0)
			return -ENOENT;
		return 0;
	default:
		return -EXDEV;
	}
}

int subscription_filter(const char *text, size_t len, subscription_fn *drop,
			void *arg, FILE *f)
{
	const char *end = text + len, *lf, *p;
	char dir[FOLDERNAME_MAX + 1];
	bool plain;

	p = first_line(text, len, &plain);
	if (!p)
		return -EBADMSG;
	(void)fwrite(text, 1, (size_t)(p - text), f);
	for (; p < end; p = lf < end ? lf + 1 : end) {
		lf = memchr(p, '\n', (size_t)(end - p));
		if (!lf)
			lf = end;
		if (read_dir(p, lf, plain, dir) && drop(dir, arg) != 0)
			continue;
		(void)fwrite(p, 1, (size_t)(lf - p), f);
		(void)fputc('\n', f);
	}
	return 0;
}
