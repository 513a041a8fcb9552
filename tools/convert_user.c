/*
 * A user's mailboxes and what the ledger says of them. What is new gets its
 * number in the order in which the daemon would give it: INBOX, then by name.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"
#include "compat/maildir.h"
#include "compat/mbx.h"
#include "compat/subscriptions.h"
#include "compat/text.h"
#include "tools/convert_site.h"

/* ---- mailboxes that are there -------------------------------------------- */

/* One that the walk has found. */
struct found {
	char *legacy;
	uint64_t dev, ino, octets;
};

struct walk {
	struct convert_user *user;
	struct found *list;
	size_t count;
};

static int add_note(struct convert_user *u, const char *what, const char *why)
{
	struct convert_note *more =
		reallocarray(u->notes, u->note_count + 1, sizeof(*more));
	char word[PATH_MAX];

	if (!more)
		return -ENOMEM;
	u->notes = more;
	more[u->note_count].why = why;
	more[u->note_count].what =
		strdup(text_escape(what, strlen(what), word, sizeof(word)));
	return more[u->note_count].what ? (u->note_count++, 0) : -ENOMEM;
}

static int found_one(const struct store_entry *e, void *arg)
{
	struct walk *w = arg;
	struct convert_user *u = w->user;
	char path[PATH_MAX];
	struct found *more;

	if (!e->is_folder)
		return add_note(u, e->name, e->why);
	if (e->name[0] == '\0')
		return add_note(u, u->site->at.folders.text,
				"folders= should name a directory");
	if (pattern_path(&u->site->at.folders, u->name, e->name, path,
			 sizeof(path)) == 0 &&
	    strcmp(path, u->inbox_path) == 0)
		return 0;
	more = reallocarray(w->list, w->count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	w->list = more;
	more[w->count] = (struct found){ .legacy = strdup(e->name),
					 .dev = e->dev,
					 .ino = e->ino,
					 .octets = e->size };
	return more[w->count].legacy ? (w->count++, 0) : -ENOMEM;
}

static int by_legacy(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return strcmp(x->legacy, y->legacy);
}

static int add_box(struct convert_user *u, size_t line, struct store *s,
		   uint64_t octets)
{
	struct convert_box *more =
		reallocarray(u->boxes, u->count + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	u->boxes = more;
	more[u->count++] = (struct convert_box){ .line = line,
						 .store = s,
						 .octets = octets };
	return 0;
}

/* ---- the ledger ---------------------------------------------------------- */

static int new_number(const struct convert_user *u, uint32_t *out)
{
	*out = 0;
	return u->site->dry ? 0 : ledger_number(u->site->state_fd, 1, out);
}

static int add_line(struct convert_user *u, int place, const char *dir,
		    const struct found *f)
{
	struct ledger_folder *l;
	uint32_t number;
	char guid[33];
	int ret = new_number(u, &number);

	if (ret == 0)
		ret = ledger_guid(guid);
	if (ret < 0)
		return ret;
	l = ledger_add(&u->ledger, dir, f ? f->legacy : "");
	if (!l)
		return -ENOMEM;
	l->place = place;
	l->phase = PHASE_LEGACY;
	l->number = number;
	l->dev = f ? f->dev : 0;
	l->ino = f ? f->ino : 0;
	memcpy(l->guid, guid, sizeof(guid));
	l->dirty = true;
	return 0;
}

static bool dir_is_taken(const char *dir, void *arg)
{
	const struct convert_user *u = arg;
	struct stat st;

	for (size_t i = 0; i < u->ledger.count; i++)
		if (strcmp(u->ledger.folders[i].dir, dir) == 0)
			return true;
	return *dir && u->fd >= 0 &&
		fstatat(u->fd, dir, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The line of a mailbox; the number of lines when there is none. */
static size_t find_line(const struct convert_user *u, int place,
			const char *legacy)
{
	size_t i = 0;

	while (i < u->ledger.count &&
	       (u->ledger.folders[i].phase == PHASE_DELETED ||
		u->ledger.folders[i].place != place ||
		strcmp(u->ledger.folders[i].legacy, legacy) != 0))
		i++;
	return i;
}

static bool has_inbox(const struct convert_user *u)
{
	for (size_t i = 0; i < u->ledger.count; i++)
		if (u->ledger.folders[i].phase != PHASE_DELETED &&
		    u->ledger.folders[i].dir[0] == '\0')
			return true;
	return false;
}

/* The directory of the mailbox that inbox= names. */
static int inbox_dir(struct convert_user *u, char *out)
{
	const struct convert_site *s = u->site;

	*out = '\0';
	return s->single
		? foldername_free(s->single, s->at.dots, dir_is_taken, u, out)
		: 0;
}

/* Which inbox= it is: that of the ledger, else the first that exists. */
static int find_place(const struct convert_user *u, struct stat *st)
{
	const struct layout *l = &u->site->at;

	for (size_t i = 0; i < u->ledger.count; i++) {
		int place = u->ledger.folders[i].place;

		if (u->ledger.folders[i].phase != PHASE_DELETED && place >= 0 &&
		    place < (int)l->inbox_count)
			return place_stat(&l->inbox[place], u->name, st) == 0
				? place
				: -1;
	}
	if (has_inbox(u))
		return -1;
	for (unsigned i = 0; i < l->inbox_count; i++)
		if (place_stat(&l->inbox[i], u->name, st) == 0)
			return (int)i;
	return -1;
}

static int find_inbox(struct convert_user *u)
{
	const struct layout *l = &u->site->at;
	struct mbx_options opt = layout_mbx(l, u->uid, u->gid);
	struct stat st = { .st_size = 0 };
	int place = find_place(u, &st), ret;
	char dir[FOLDERNAME_MAX + 1];
	size_t line;

	if (place < 0)
		return 0;
	ret = pattern_path(&l->inbox[place], u->name, "", u->inbox_path,
			   sizeof(u->inbox_path));
	if (ret == 0)
		ret = mbx_store_new(&l->inbox[place], u->name, &opt, &u->inbox);
	line = find_line(u, place, "");
	if (ret == 0 && line == u->ledger.count) {
		ret = inbox_dir(u, dir);
		if (ret == 0)
			ret = add_line(u, place, dir, NULL);
	}
	return ret < 0 ? ret : add_box(u, line, u->inbox, (uint64_t)st.st_size);
}

static int take_folder(struct convert_user *u, const struct found *f)
{
	size_t line = find_line(u, LEDGER_PLACE_FOLDERS, f->legacy);
	char dir[FOLDERNAME_MAX + 1] = "";
	bool is_inbox = u->site->plain && strcmp(f->legacy, "INBOX") == 0;
	int ret = 0;

	if (line == u->ledger.count) {
		if (!is_inbox || has_inbox(u))
			ret = foldername_free(f->legacy, u->site->at.dots,
					      dir_is_taken, u, dir);
		if (ret == 0)
			ret = add_line(u, LEDGER_PLACE_FOLDERS, dir, f);
	}
	return ret < 0 ? ret : add_box(u, line, u->mail, f->octets);
}

static int find_folders(struct convert_user *u)
{
	const struct layout *l = &u->site->at;
	struct mbx_options opt = layout_mbx(l, u->uid, u->gid);
	struct walk w = { .user = u };
	int ret = l->has_folders
		? mbx_store_new(&l->folders, u->name, &opt, &u->mail)
		: 0;

	if (u->mail)
		ret = u->mail->ops->list(u->mail, found_one, &w);
	ret = ret == -ENOENT ? 0 : ret;
	if (w.count > 0)
		qsort(w.list, w.count, sizeof(*w.list), by_legacy);
	for (size_t i = 0; ret == 0 && i < w.count; i++)
		ret = take_folder(u, &w.list[i]);
	for (size_t i = 0; i < w.count; i++)
		free(w.list[i].legacy);
	free(w.list);
	return ret;
}

/* ---- open and close ------------------------------------------------------ */

static const char *ledger_file(const struct convert_user *u)
{
	return u->site->at.multi ? u->name : "ledger";
}

int convert_user_commit(struct convert_user *u)
{
	return u->site->dry ? 0
			    : ledger_commit(u->site->ledgers_fd, ledger_file(u),
					    &u->ledger);
}

static int open_tree(struct convert_user *u)
{
	const struct convert_site *s = u->site;
	int ret = 0;

	if (s->at.multi && !s->dry)
		ret = io_mkdir(s->store_fd, u->name, 0700, u->uid, u->gid);
	if (ret < 0 && ret != -EEXIST)
		return ret;
	if (s->store_fd < 0)
		return 0;
	u->fd = io_open_within(s->store_fd, s->at.multi ? u->name : ".",
			       O_RDONLY | O_DIRECTORY);
	return u->fd < 0 && !(s->dry && u->fd == -ENOENT) ? u->fd : 0;
}

static int find_all(struct convert_user *u)
{
	int ret = open_tree(u);

	if (ret == 0 && u->site->ledgers_fd >= 0)
		ret = ledger_load(u->site->ledgers_fd, ledger_file(u),
				  &u->ledger);
	if (ret == 0)
		ret = find_inbox(u);
	if (ret == 0)
		ret = find_folders(u);
	if (ret == 0)
		ret = convert_user_commit(u);
	/* Maildir++ has an INBOX in any case. */
	if (ret == 0 && !u->site->dry)
		ret = maildir_make_folder(u->fd, "", u->uid, u->gid);
	return ret;
}

int convert_user_open(struct convert_site *s, const char *name,
		      struct convert_user **out, char *why, size_t size)
{
	struct convert_user *u = calloc(1, sizeof(*u));
	struct place_owner owner;
	int ret = u ? place_owner(&s->places, name, &owner) : -ENOMEM;

	if (u) {
		u->site = s;
		u->fd = -1;
		(void)pthread_mutex_init(&u->lock, NULL);
		u->name = strdup(name);
	}
	if (ret == 0) {
		u->uid = owner.uid;
		u->gid = owner.gid;
		ret = u->name ? find_all(u) : -ENOMEM;
	}
	if (ret == 0) {
		*out = u;
		return 0;
	}
	(void)snprintf(why, size, "%s",
		       ret == -EACCES && owner.why[0] ? owner.why
			       : ret == -EBADMSG
			       ? "the ledger in the tree is damaged; restore "
				 "it from a backup"
			       : strerrordesc_np(-ret));
	convert_user_close(u);
	return ret;
}

void convert_user_close(struct convert_user *u)
{
	if (!u)
		return;
	if (u->inbox)
		u->inbox->ops->free(u->inbox);
	if (u->mail)
		u->mail->ops->free(u->mail);
	for (size_t i = 0; i < u->note_count; i++)
		free(u->notes[i].what);
	free(u->notes);
	free(u->boxes);
	ledger_fini(&u->ledger);
	base_auto_close(&u->fd);
	(void)pthread_mutex_destroy(&u->lock);
	free(u->name);
	free(u);
}

/* ---- subscriptions ------------------------------------------------------- */

static void write_line(struct convert_user *u, FILE *f, const char *line,
		       size_t len)
{
	char dir[FOLDERNAME_MAX + 1], word[PATH_MAX], user[400];
	const struct places *all = &u->site->places;
	int ret = subscription_dir(line, len,
				   layout_prefix(all->folders,
						 all->subscriptions),
				   &u->ledger, u->site->at.dots, dir);

	if (ret == 0)
		subscription_write(f, dir);
	else if (ret == -EXDEV)
		log_warn("%s: .mailboxlist: %s names a mailbox outside this "
			 "store; not subscribed",
			 text_escape(u->name, strlen(u->name), user,
				     sizeof(user)),
			 text_escape(line, len, word, sizeof(word)));
}

int convert_user_subscribe(struct convert_user *u)
{
	static const char file[] = "subscriptions";
	const struct layout *l = &u->site->at;
	AUTO_FREE char *text = NULL;
	AUTO_FREE char *out = NULL;
	size_t len = 0, out_len = 0;
	struct stat st;
	FILE *f;
	int ret;

	if (!l->has_subscriptions || u->site->dry ||
	    fstatat(u->fd, file, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	ret = subscription_read_list(&l->subscriptions, u->name, &text, &len);
	if (ret < 0)
		return ret == -ENOENT ? 0 : ret;
	f = open_memstream(&out, &out_len);
	if (!f)
		return -ENOMEM;
	subscription_write_header(f);
	for (const char *p = text; *p;) {
		size_t n = strcspn(p, "\n");

		if (n > 0)
			write_line(u, f, p, n);
		p += n + (p[n] == '\n');
	}
	if (fclose(f) != 0)
		return -ENOMEM;
	return io_replace_file(u->fd, file, out, out_len, u->uid, u->gid);
}
