#include "fs/subscribe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "compat/dotlock.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/subscriptions.h"
#include "compat/text.h"
#include "fs/seed.h"

enum { LIST_MAX = 16 << 20 }; /* octets of either list */

static const char file[] = "subscriptions";
static const char lock[] = "subscriptions.lock";

/* A file in memory, NUL-terminated; no text: there is none. */
struct list {
	char *text;
	size_t len;
};

static void list_free(struct list *l)
{
	free(l->text);
}

#define AUTO_LIST __attribute__((cleanup(list_free)))

/* ---- UW's list ----------------------------------------------------------- */

/* The mail directory as seen from the home: "mail" for /home/%u/mail. */
static const char *prefix_of(const struct options *o)
{
	const char *home_end = strrchr(o->subscriptions.text, '/');
	size_t len = (size_t)(home_end - o->subscriptions.text);

	if (o->has_folders &&
	    strncmp(o->folders.text, o->subscriptions.text, len) == 0 &&
	    o->folders.text[len] == '/')
		return o->folders.text + len + 1;
	return "";
}

static int read_mailboxlist(const struct user *u, struct list *out)
{
	return subscription_read_list(&u->fs->opt->subscriptions, u->name,
				      &out->text, &out->len);
}

/* Return: the length of the line at @p; @next: where another begins */
static size_t line_len(const char *p, const char *end, const char **next)
{
	const char *lf = memchr(p, '\n', (size_t)(end - p));

	*next = lf ? lf + 1 : end;
	return (size_t)((lf ? lf : end) - p);
}

/* ---- Dovecot's ----------------------------------------------------------- */

/* With the user's lock. @out: FOLDERNAME_MAX + 1 octets. Return: whether it is
 * a folder of this store. */
static bool dir_of_line(const struct user *u, const char *line, size_t len,
			char *out)
{
	char word[PATH_MAX];
	int ret = subscription_dir(line, len, prefix_of(u->fs->opt), &u->ledger,
				   u->fs->opt->dots, out);

	if (ret == -EXDEV)
		log_warn("%s: .mailboxlist: %s names a mailbox outside this "
			 "store; not subscribed",
			 u->name, text_escape(line, len, word, sizeof(word)));
	return ret == 0;
}

static int finish(FILE *f)
{
	bool bad = ferror(f) != 0;

	return fclose(f) != 0 || bad ? -ENOMEM : 0;
}

/* With the user's lock. */
static int make_subscriptions(const struct user *u, const struct list *uw,
			      struct list *out)
{
	FILE *f = open_memstream(&out->text, &out->len);
	const char *end = uw->text + uw->len, *next;
	char dir[FOLDERNAME_MAX + 1];

	if (!f)
		return -ENOMEM;
	subscription_write_header(f);
	for (const char *p = uw->text; p < end; p = next) {
		size_t len = line_len(p, end, &next);

		if (len > 0 && dir_of_line(u, p, len, dir))
			subscription_write(f, dir);
	}
	return finish(f);
}

static int put(const struct user *u, int dirfd, const struct list *l)
{
	return io_replace_file(dirfd, file, l->text, l->len, u->uid, u->gid);
}

static bool has_file(int dirfd)
{
	struct stat st;

	return dirfd >= 0 &&
		fstatat(dirfd, file, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- the last look ------------------------------------------------------- */

/* The names are such that what io_replace_file() makes beside one user's copy
 * is never another's. */
static int open_copies(const struct user *u, char *name, size_t size)
{
	static const char sub[] = "mailboxlists";
	int ret = text_path(name, size, "%s%slist", u->name,
			    *u->name ? "." : "mailbox");

	if (ret == 0)
		ret = io_mkdir(u->fs->state_fd, sub, 0700, (uid_t)-1,
			       (gid_t)-1);
	if (ret < 0 && ret != -EEXIST)
		return ret;
	return io_open_within(u->fs->state_fd, sub, O_RDONLY | O_DIRECTORY);
}

static int read_copy(const struct user *u, struct list *out)
{
	char name[NAME_MAX + 1];
	AUTO_FD int dir = open_copies(u, name, sizeof(name));

	return dir < 0
		? dir
		: io_read_file(dir, name, LIST_MAX, &out->text, &out->len);
}

static int save_copy(const struct user *u, const struct list *l)
{
	char name[NAME_MAX + 1];
	AUTO_FD int dir = open_copies(u, name, sizeof(name));

	return dir < 0 ? dir
		       : io_replace_file(dir, name, l->text, l->len, (uid_t)-1,
					 (gid_t)-1);
}

/* ---- seeding ------------------------------------------------------------- */

/* The copy first: without the subscriptions all begins again. */
static int seed(struct user *u, const struct list *uw, int control)
{
	AUTO_LIST struct list l = { .text = NULL };
	int ret = make_subscriptions(u, uw, &l);

	if (ret == 0)
		ret = save_copy(u, uw);
	if (ret == 0 && control >= 0 && !has_file(control))
		ret = put(u, control, &l);
	if (ret == 0 && !has_file(u->fd))
		ret = put(u, u->fd, &l);
	return ret;
}

/* What will be in UW's list one day is new then. */
static int note_none(const struct user *u)
{
	AUTO_LIST struct list last = { .text = NULL };
	struct list none = { .text = (char[]){ "" } };
	int ret = read_copy(u, &last);

	return ret == -ENOENT ? save_copy(u, &none) : ret;
}

int subscribe_seed(struct user *u)
{
	const struct options *o = u->fs->opt;
	AUTO_LIST struct list uw = { .text = NULL };
	AUTO_FD int control = -1;
	int ret;

	if (!o->has_subscriptions)
		return 0;
	if (o->has_control) {
		control = seed_open_control(u, NULL);
		if (control < 0)
			return control;
	}
	if (has_file(u->fd) && (control < 0 || has_file(control)))
		return 0;
	ret = read_mailboxlist(u, &uw);
	if (ret == -ENOENT)
		return note_none(u);
	if (ret < 0) {
		log_warn("%s: .mailboxlist cannot be read: %s; no folder is "
			 "subscribed",
			 u->name, strerrordesc_np(-ret));
		return 0;
	}
	return seed(u, &uw, control);
}

/* ---- what is new --------------------------------------------------------- */

/* Lines, or directories: sorted, so that two long lists are compared quickly.
 */
struct words {
	struct word {
		const char *text;
		size_t len;
	} * list;
	size_t count;
};

static void words_free(struct words *w)
{
	free(w->list);
}

#define AUTO_WORDS __attribute__((cleanup(words_free)))

static int by_word(const void *a, const void *b)
{
	const struct word *x = a, *y = b;
	size_t len = x->len < y->len ? x->len : y->len;
	int ret = memcmp(x->text, y->text, len);

	return ret ? ret : (x->len > y->len) - (x->len < y->len);
}

static int split(const struct list *l, struct words *out)
{
	const char *end = l->text + l->len, *next;
	size_t lines = 1;

	for (size_t i = 0; i < l->len; i++)
		lines += l->text[i] == '\n';
	*out = (struct words){ .list = calloc(lines, sizeof(struct word)) };
	if (!out->list)
		return -ENOMEM;
	for (const char *p = l->text; p < end; p = next) {
		size_t len = line_len(p, end, &next);

		if (len > 0)
			out->list[out->count++] =
				(struct word){ .text = p, .len = len };
	}
	return 0;
}

static bool has_word(const struct words *w, const struct word *word)
{
	return w->count > 0 &&
		bsearch(word, w->list, w->count, sizeof(*word), by_word);
}

/* Directories that are to be subscribed: NUL-terminated, one after another. */
static int new_dirs(struct user *u, const struct list *uw,
		    const struct list *last, struct list *out)
{
	AUTO_WORDS struct words now = { .count = 0 };
	AUTO_WORDS struct words was = { .count = 0 };
	FILE *f = open_memstream(&out->text, &out->len);
	char dir[FOLDERNAME_MAX + 1];
	int ret = f ? split(uw, &now) : -ENOMEM;

	if (ret == 0)
		ret = split(last, &was);
	if (was.count > 0)
		qsort(was.list, was.count, sizeof(*was.list), by_word);
	(void)pthread_mutex_lock(&u->lock);
	for (size_t i = 0; ret == 0 && i < now.count; i++)
		if (!has_word(&was, &now.list[i]) &&
		    dir_of_line(u, now.list[i].text, now.list[i].len, dir))
			(void)fwrite(dir, 1, strlen(dir) + 1, f);
	(void)pthread_mutex_unlock(&u->lock);
	if (f && finish(f) < 0)
		ret = -ENOMEM;
	return ret;
}

struct search {
	const char *dir;
	bool found;
};

static int compare_dir(const char *dir, void *arg)
{
	struct search *s = arg;

	s->found = strcmp(dir, s->dir) == 0;
	return s->found;
}

/* As Dovecot writes it: in the version that the file has. */
static int write_more(const struct list *was, const struct list *dirs,
		      struct list *out, bool *more_out)
{
	FILE *f = open_memstream(&out->text, &out->len);
	bool plain = was->len > 0 && was->text[0] != 'V';
	int ret = 0;

	*more_out = false;
	if (!f)
		return -ENOMEM;
	if (was->len == 0)
		subscription_write_header(f);
	(void)fwrite(was->text, 1, was->len, f);
	if (was->len > 0 && was->text[was->len - 1] != '\n')
		(void)fputc('\n', f);
	for (size_t at = 0; ret == 0 && at < dirs->len;
	     at += strlen(dirs->text + at) + 1) {
		struct search s = { .dir = dirs->text + at };

		ret = subscription_parse(was->text, was->len, compare_dir, &s);
		if (ret < 0 || s.found) {
			ret = ret < 0 ? ret : 0;
			continue;
		}
		*more_out = true;
		if (plain)
			(void)fprintf(f, "%s\n", *s.dir ? s.dir + 1 : "INBOX");
		else
			subscription_write(f, s.dir);
	}
	return finish(f) < 0 ? -ENOMEM : ret;
}

static int merge(const struct user *u, int dirfd, const struct list *dirs)
{
	AUTO_LIST struct list was = { .text = NULL };
	AUTO_LIST struct list now = { .text = NULL };
	bool more = false;
	int ret = dirfd < 0 ? dirfd
			    : dotlock_take(u->uid, u->gid, dirfd, lock, 0);

	if (ret < 0)
		return ret;
	ret = io_read_file(dirfd, file, LIST_MAX, &was.text, &was.len);
	if (ret == -ENOENT) {
		was.text = strdup("");
		ret = was.text ? 0 : -ENOMEM;
	}
	if (ret == 0)
		ret = write_more(&was, dirs, &now, &more);
	if (ret == 0 && more)
		ret = put(u, dirfd, &now);
	dotlock_drop(dirfd, lock);
	return ret;
}

static int merge_both(const struct user *u, const struct list *dirs)
{
	AUTO_FD int control = -1;
	int ret = 0;

	if (dirs->len == 0)
		return 0;
	if (u->fs->opt->has_control) {
		control = seed_open_control(u, NULL);
		ret = merge(u, control, dirs);
	}
	return ret == 0 ? merge(u, u->fd, dirs) : ret;
}

static bool is_same(const struct list *a, const struct list *b)
{
	return a->len == b->len &&
		(a->len == 0 || memcmp(a->text, b->text, a->len) == 0);
}

static int follow(struct user *u)
{
	AUTO_LIST struct list uw = { .text = NULL };
	AUTO_LIST struct list last = { .text = NULL };
	AUTO_LIST struct list dirs = { .text = NULL };
	int ret = read_mailboxlist(u, &uw);

	/* UW replaces it: it is not there for a moment. What else is wrong
	 * with it was said when the user was first shown. */
	if (ret < 0)
		return 0;
	ret = read_copy(u, &last);
	/* Shown before there were copies: what is new nobody knows. */
	if (ret == -ENOENT)
		return save_copy(u, &uw);
	if (ret < 0 || is_same(&last, &uw))
		return ret;
	ret = new_dirs(u, &uw, &last, &dirs);
	if (ret == 0)
		ret = merge_both(u, &dirs);
	return ret == 0 ? save_copy(u, &uw) : ret;
}

int subscribe_follow(struct user *u)
{
	int ret = u->fs->opt->has_subscriptions ? follow(u) : 0;

	if (ret < 0 && ret != -EBUSY)
		log_warn("%s: what UW has subscribed cannot be seen: %s",
			 u->name, strerrordesc_np(-ret));
	return ret;
}
