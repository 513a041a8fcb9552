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
#include "compat/layout.h"
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
static const char *prefix_of(const struct places *all)
{
	return layout_prefix(all->folders, all->subscriptions);
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

/* Lines that name something else. */
struct outside {
	size_t count;
	const char *first;
	size_t len;
};

/* With the user's lock. @out: FOLDERNAME_MAX + 1 octets. Return: whether it is
 * a folder of this store. */
static bool dir_of_line(const struct user *u, const char *line, size_t len,
			struct outside *o, char *out)
{
	int ret = subscription_dir(line, len, prefix_of(&u->fs->places),
				   &u->ledger, u->fs->opt->dots, out);

	if (ret == -EXDEV && o->count++ == 0) {
		o->first = line;
		o->len = len;
	}
	return ret == 0;
}

/* One line for all of them: the list is the user's, and may be long. */
static void say_outside(const struct user *u, const struct outside *o)
{
	char word[400];

	if (o->count == 0)
		return;
	(void)text_escape(o->first, o->len, word, sizeof(word));
	if (o->count == 1)
		log_warn("%s: .mailboxlist: %s names a mailbox outside this "
			 "store; not subscribed",
			 u->name, word);
	else
		log_warn("%s: .mailboxlist: %s and %zu more lines name "
			 "mailboxes outside this store; not subscribed",
			 u->name, word, o->count - 1);
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
	struct outside outside = { .count = 0 };
	char dir[FOLDERNAME_MAX + 1];

	if (!f)
		return -ENOMEM;
	subscription_write_header(f);
	for (const char *p = uw->text; p < end; p = next) {
		size_t len = line_len(p, end, &next);

		if (len > 0 && dir_of_line(u, p, len, &outside, dir))
			subscription_write(f, dir);
	}
	say_outside(u, &outside);
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

/* ---- what changed -------------------------------------------------------- */

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

/* Directories, NUL-terminated, one after another. */
static bool has_dir(const struct list *dirs, const char *dir)
{
	size_t at = 0;

	while (at < dirs->len && strcmp(dirs->text + at, dir) != 0)
		at += strlen(dirs->text + at) + 1;
	return at < dirs->len;
}

/* What changed in UW's list. */
struct change {
	struct list more, gone;
};

static void change_free(struct change *c)
{
	list_free(&c->more);
	list_free(&c->gone);
}

#define AUTO_CHANGE __attribute__((cleanup(change_free)))

/* With the user's lock. The directories of lines of @of that @but has not.
 * @o: filled in with those that have none */
static int dirs_of(const struct user *u, const struct words *of,
		   const struct words *but, struct outside *o, struct list *out)
{
	FILE *f = open_memstream(&out->text, &out->len);
	char dir[FOLDERNAME_MAX + 1];

	if (!f)
		return -ENOMEM;
	for (size_t i = 0; i < of->count; i++)
		if (!has_word(but, &of->list[i]) &&
		    dir_of_line(u, of->list[i].text, of->list[i].len, o, dir))
			(void)fwrite(dir, 1, strlen(dir) + 1, f);
	return finish(f);
}

static int split_sorted(const struct list *l, struct words *sorted)
{
	int ret = split(l, sorted);

	if (sorted->count > 0)
		qsort(sorted->list, sorted->count, sizeof(*sorted->list),
		      by_word);
	return ret;
}

/* A folder may have several lines: "x" and "mail/x". It is gone with the last
 * of them. */
static int drop_kept(const struct user *u, const struct words *now,
		     struct list *gone)
{
	static const struct words none;
	struct outside known = { .count = 0 };
	AUTO_LIST struct list kept = { .text = NULL };
	size_t to = 0;
	int ret = gone->len > 0 ? dirs_of(u, now, &none, &known, &kept) : 0;

	for (size_t at = 0, len; ret == 0 && at < gone->len; at += len) {
		len = strlen(gone->text + at) + 1;
		if (has_dir(&kept, gone->text + at))
			continue;
		memmove(gone->text + to, gone->text + at, len);
		to += len;
	}
	gone->len = to;
	return ret;
}

static int compare(struct user *u, const struct list *uw,
		   const struct list *last, struct change *out)
{
	AUTO_WORDS struct words in_order = { .count = 0 };
	AUTO_WORDS struct words now = { .count = 0 };
	AUTO_WORDS struct words was = { .count = 0 };
	struct outside outside = { .count = 0 }, known = { .count = 0 };
	int ret = split(uw, &in_order);

	if (ret == 0)
		ret = split_sorted(uw, &now);
	if (ret == 0)
		ret = split_sorted(last, &was);
	(void)pthread_mutex_lock(&u->lock);
	if (ret == 0)
		ret = dirs_of(u, &in_order, &was, &outside, &out->more);
	if (ret == 0)
		ret = dirs_of(u, &was, &now, &known, &out->gone);
	if (ret == 0)
		ret = drop_kept(u, &now, &out->gone);
	(void)pthread_mutex_unlock(&u->lock);
	say_outside(u, &outside);
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

static int is_gone(const char *dir, void *arg)
{
	return has_dir(arg, dir);
}

/* As Dovecot writes it: in the version that the file has. */
static int write_changed(const struct list *was, struct change *c,
			 struct list *out)
{
	FILE *f = open_memstream(&out->text, &out->len);
	bool plain = was->len > 0 && was->text[0] != 'V';
	int ret;

	if (!f)
		return -ENOMEM;
	if (was->len == 0)
		subscription_write_header(f);
	ret = subscription_filter(was->text, was->len, is_gone, &c->gone, f);
	for (size_t at = 0; ret == 0 && at < c->more.len;
	     at += strlen(c->more.text + at) + 1) {
		struct search s = { .dir = c->more.text + at };
		const struct list before = { .text = c->more.text, .len = at };

		if (has_dir(&before, s.dir))
			continue;
		ret = subscription_parse(was->text, was->len, compare_dir, &s);
		if (ret < 0 || s.found) {
			ret = ret < 0 ? ret : 0;
			continue;
		}
		if (plain)
			(void)fprintf(f, "%s\n", *s.dir ? s.dir + 1 : "INBOX");
		else
			subscription_write(f, s.dir);
	}
	return finish(f) < 0 ? -ENOMEM : ret;
}

static bool is_same(const struct list *a, const struct list *b)
{
	return a->len == b->len &&
		(a->len == 0 || memcmp(a->text, b->text, a->len) == 0);
}

static int merge(const struct user *u, int dirfd, struct change *c)
{
	AUTO_LIST struct list was = { .text = NULL };
	AUTO_LIST struct list now = { .text = NULL };
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
		ret = write_changed(&was, c, &now);
	if (ret == 0 && !is_same(&was, &now))
		ret = put(u, dirfd, &now);
	dotlock_drop(dirfd, lock);
	return ret;
}

static int merge_both(const struct user *u, struct change *c)
{
	AUTO_FD int control = -1;
	int ret = 0;

	if (c->more.len == 0 && c->gone.len == 0)
		return 0;
	if (u->fs->opt->has_control) {
		control = seed_open_control(u, NULL);
		ret = merge(u, control, c);
	}
	return ret == 0 ? merge(u, u->fd, c) : ret;
}

static int follow(struct user *u)
{
	AUTO_LIST struct list uw = { .text = NULL };
	AUTO_LIST struct list last = { .text = NULL };
	AUTO_CHANGE struct change c = { .more = { .text = NULL } };
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
	ret = compare(u, &uw, &last, &c);
	if (ret == 0)
		ret = merge_both(u, &c);
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
