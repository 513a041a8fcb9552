#include "tools/dumper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compat/digest.h"
#include "compat/dump.h"
#include "compat/log.h"
#include "compat/mbxlock.h"
#include "compat/text.h"

enum { PIECE = 1 << 20 };

struct entry {
	char *name; /* for open() */
	char dir[FOLDERNAME_MAX + 1];
};

struct entries {
	struct entry *list;
	size_t count;
	enum dumper_names names;
	const char *single;
};

/* Messages of one folder; names only for Maildir. */
struct messages {
	struct msg *list;
	char **names;
	size_t count, room;
};

/* ---- folders ------------------------------------------------------------- */

static void map_name(const struct entries *e, const char *name, char *out)
{
	bool changed;

	if (e->names == DUMPER_MAILDIR)
		(void)snprintf(out, FOLDERNAME_MAX + 1, "%s", name);
	else if (strcmp(e->single ? e->single : name, "INBOX") == 0)
		*out = '\0';
	else
		foldername_map(e->single ? e->single : name, DOTS_UNDERSCORE,
			       out, &changed);
}

static int add_entry(const struct store_entry *se, void *arg)
{
	struct entries *e = arg;
	struct entry *more;
	char word[400];

	if (!se->is_folder) {
		log_warn("%s: not a mailbox: %s",
			 text_escape(se->name, strlen(se->name), word,
				     sizeof(word)),
			 se->why);
		return 0;
	}
	more = reallocarray(e->list, e->count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	e->list = more;
	more[e->count].name = strdup(se->name);
	if (!more[e->count].name)
		return -ENOMEM;
	map_name(e, se->name, more[e->count].dir);
	e->count++;
	return 0;
}

static int by_legacy(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int by_dir(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return strcmp(x->dir, y->dir);
}

static bool is_taken(const struct entries *e, size_t upto, const char *dir)
{
	for (size_t i = 0; i < upto; i++)
		if (strcmp(e->list[i].dir, dir) == 0)
			return true;
	return false;
}

/* The same names that a first mount gives. */
static void resolve_clashes(struct entries *e)
{
	char first[FOLDERNAME_MAX + 1];

	if (e->count == 0)
		return;
	qsort(e->list, e->count, sizeof(*e->list), by_legacy);
	for (size_t i = 1; i < e->count; i++) {
		memcpy(first, e->list[i].dir, sizeof(first));
		for (unsigned n = 2; is_taken(e, i, e->list[i].dir); n++)
			foldername_variant(first, n, e->list[i].dir);
	}
	qsort(e->list, e->count, sizeof(*e->list), by_dir);
}

/* ---- messages ------------------------------------------------------------ */

static int add_message(const struct msg *m, const char *name, void *arg)
{
	struct messages *a = arg;

	if (a->count == a->room) {
		size_t room = a->room ? a->room * 2 : 1024;
		struct msg *list =
			reallocarray(a->list, room, sizeof(*a->list));
		char **names;

		if (!list)
			return -ENOMEM;
		a->list = list;
		names = reallocarray(a->names, room, sizeof(*a->names));
		if (!names)
			return -ENOMEM;
		a->names = names;
		a->room = room;
	}
	a->list[a->count] = *m;
	a->names[a->count] = name ? strdup(name) : NULL;
	if (name && !a->names[a->count])
		return -ENOMEM;
	a->count++;
	return 0;
}

static void messages_fini(struct messages *a)
{
	for (size_t i = 0; i < a->count; i++)
		free(a->names[i]);
	free(a->names);
	free(a->list);
}

static int hash_message(struct box *b, const struct msg *m, const char *name,
			struct digest *d, char *hex)
{
	AUTO_FREE uint8_t *buf = malloc(PIECE);
	uint64_t off = 0;

	if (!buf)
		return -ENOMEM;
	while (off < m->size) {
		ssize_t n = b->ops->read(b, m, name, buf, PIECE, off);
		int ret = n > 0 ? digest_add(d, buf, (size_t)n) : 0;

		if (n <= 0)
			return n < 0 ? (int)n : -ESTALE;
		if (ret < 0)
			return ret;
		off += (uint64_t)n;
	}
	return digest_hex(d, hex);
}

static int print_messages(FILE *f, struct box *b, const struct messages *a,
			  const struct keywords *k)
{
	char hex[DIGEST_HEX + 1];
	struct digest *d = digest_new();
	int ret = d ? 0 : -ENOMEM;

	for (size_t i = 0; ret == 0 && i < a->count; i++) {
		ret = hash_message(b, &a->list[i], a->names[i], d, hex);
		if (ret == 0)
			dump_message(f, &a->list[i], k, hex);
	}
	digest_free(d);
	return ret;
}

static int print_folder(FILE *f, struct box *b, const struct entry *e)
{
	struct messages a = { .count = 0 };
	struct scan scan = { .uidvalidity = 0 };
	struct dump_folder head = { .dir = e->dir };
	struct mbxlock_past past;
	char who[64];
	int ret = b->ops->scan(b, &scan, add_message, &a);

	head.uidvalidity = scan.uidvalidity;
	head.uidnext = scan.uidnext;
	head.messages = a.count;
	if (ret == 0) {
		dump_folder(f, &head);
		ret = print_messages(f, b, &a, &scan.keywords);
	}
	messages_fini(&a);
	if (scan.damage.kind != DAMAGE_NONE) {
		log_err("%s: %s at offset %ju: %s", e->name,
			damage_name(scan.damage.kind),
			(uintmax_t)scan.damage.off, scan.damage.text);
		return ret == 0 ? -EBADMSG : ret;
	}
	if (ret < 0 && ret != -EAGAIN)
		log_err("%s: cannot be read: %s", e->name,
			strerrordesc_np(-ret));
	past = mbxlock_past();
	(void)mbxlock_keeper(&past, who, sizeof(who));
	if (ret == -EAGAIN)
		log_err("%s: cannot be read: %s keeps it locked", e->name, who);
	return ret;
}

int dumper_store(FILE *f, struct store *s, enum dumper_names names,
		 const char *single)
{
	struct entries e = { .names = names, .single = single };
	int ret = s->ops->list(s, add_entry, &e), worst = ret;

	if (ret == 0) {
		dump_header(f);
		resolve_clashes(&e);
	}
	if (ret == 0 && single && e.count == 0)
		worst = -EBADMSG;
	for (size_t i = 0; ret != -ENOMEM && i < e.count; i++) {
		struct box *b = NULL;

		ret = s->ops->open(s, e.list[i].name, &b);
		if (ret < 0)
			log_err("%s: cannot be opened: %s", e.list[i].name,
				strerrordesc_np(-ret));
		else
			ret = print_folder(f, b, &e.list[i]);
		s->ops->close(b);
		worst = worst < 0 ? worst : ret;
	}
	for (size_t i = 0; i < e.count; i++)
		free(e.list[i].name);
	free(e.list);
	return worst;
}
