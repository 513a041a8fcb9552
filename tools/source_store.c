/*
 * A folder of a store (compat/store.h) as a box to be read in order.
 *
 * The records of a folder are held in memory, some fifty octets a message, the
 * mail never: one piece of it at a time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/basename.h"
#include "compat/maildigest.h"
#include "compat/mbxlock.h"
#include "tools/source.h"

enum { PIECE = 1 << 18 };

static const char no_name[] = "";

struct reader {
	struct source_box base;
	struct box *box;
	bool is_view, has_ours;
	struct msg *list;
	size_t count, room, at;
	/* Base names one after the other, of a Maildir. */
	char *names;
	size_t names_len, names_room, name_at;
	struct scan scan;
	char keywords[FACT_KEYWORDS_MAX + 1];
	struct maildigest *digest;
	uint8_t piece[PIECE];
};

static bool is_ours(const char *name)
{
	struct basename b;

	return basename_parse(name, strlen(name), &b) == 0;
}

static int add_name(struct reader *r, const char *name)
{
	size_t len = strlen(name) + 1;

	if (r->names_room - r->names_len < len) {
		size_t room = 2 * r->names_room + len + 4096;
		char *more = realloc(r->names, room);

		if (!more)
			return -ENOMEM;
		r->names = more;
		r->names_room = room;
	}
	memcpy(r->names + r->names_len, name, len);
	r->names_len += len;
	r->has_ours = r->has_ours || is_ours(name);
	return 0;
}

static int add_message(const struct msg *m, const char *name, void *arg)
{
	struct reader *r = arg;

	if (r->count == r->room) {
		size_t room = r->room ? r->room + r->room / 2 : 1024;
		struct msg *more = reallocarray(r->list, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		r->list = more;
		r->room = room;
	}
	r->list[r->count++] = *m;
	r->base.octets += m->size;
	return name ? add_name(r, name) : 0;
}

static void note_damage(struct reader *r, int ret)
{
	const struct damage *d = &r->scan.damage;
	struct mbxlock_past past = mbxlock_past();
	char who[64];

	if (d->kind != DAMAGE_NONE)
		(void)snprintf(r->base.damage, sizeof(r->base.damage),
			       "%s at offset %ju: %s", damage_name(d->kind),
			       (uintmax_t)d->off, d->text);
	else if (ret == -EAGAIN && mbxlock_keeper(&past, who, sizeof(who)))
		(void)snprintf(r->base.damage, sizeof(r->base.damage),
			       "it cannot be read: %s keeps it locked", who);
	else if (ret < 0)
		(void)snprintf(r->base.damage, sizeof(r->base.damage),
			       "it cannot be read: %s", source_why(ret));
	/* A process can have any name. */
	for (char *c = r->base.damage; *c; c++)
		if (*c < 0x20 || *c > 0x7e)
			*c = '?';
}

static int scan(struct reader *r, struct store *s, const char *folder)
{
	int ret = s->ops->open(s, folder, &r->box);

	if (ret == 0)
		ret = r->box->ops->scan(r->box, &r->scan, add_message, r);
	if (ret == -ENOMEM)
		return ret;
	note_damage(r, ret);
	if (ret < 0) {
		r->base.err = ret;
		r->count = 0;
		r->base.octets = 0;
		return 0;
	}
	r->base.uidvalidity = r->scan.uidvalidity;
	r->base.uidnext = r->scan.uidnext;
	r->base.messages = r->count;
	return 0;
}

int source_store_open(const struct source_ops *ops, struct store *s,
		      const char *folder, bool is_view, struct source_box **out)
{
	struct reader *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return -ENOMEM;
	r->base.ops = ops;
	r->is_view = is_view;
	r->digest = maildigest_new();
	ret = r->digest ? scan(r, s, folder) : -ENOMEM;
	if (ret < 0) {
		source_store_close(&r->base);
		return ret;
	}
	*out = &r->base;
	return 0;
}

static int hash(struct reader *r, const struct msg *m, const char *name,
		struct fact *out)
{
	uint64_t off = 0;
	int ret = maildigest_reset(r->digest);

	while (ret == 0 && off < m->size) {
		ssize_t n = r->box->ops->read(r->box, m, name, r->piece, PIECE,
					      off);

		if (n <= 0)
			return n < 0 ? (int)n : -ESTALE;
		ret = maildigest_add(r->digest, r->piece, (size_t)n);
		off += (uint64_t)n;
	}
	return ret < 0 ? ret
		       : maildigest_hex(r->digest, out->sha256, out->crlf);
}

static enum fact_origin origin_of(const struct reader *r, const char *name)
{
	if (!name)
		return FACT_ORIGIN_UNKNOWN;
	if (is_ours(name))
		return FACT_ORIGIN_LEGACY;
	return r->is_view || r->has_ours ? FACT_ORIGIN_DELIVERED
					 : FACT_ORIGIN_UNKNOWN;
}

int source_store_next(struct source_box *b, struct fact *out)
{
	struct reader *r = (struct reader *)b;
	const char *name = r->names ? r->names + r->name_at : NULL;
	const struct msg *m;

	if (r->at == r->count)
		return -ENOENT;
	m = &r->list[r->at++];
	if (name)
		r->name_at += strlen(name) + 1;
	*out = (struct fact){ .uid = m->uid,
			      .flags = m->flags & MSG_SYSTEM,
			      .keywords = r->keywords,
			      .date = m->date,
			      .size = m->size,
			      .origin = origin_of(r, name) };
	fact_keywords(m->keywords, &r->scan.keywords, r->keywords);
	out->err = hash(r, m, name ? name : no_name, out);
	return out->err == -ENOMEM ? -ENOMEM : 0;
}

bool source_store_changed(struct source_box *b)
{
	struct reader *r = (struct reader *)b;
	struct stamp now;

	return b->err == 0 &&
		(r->box->ops->stamp(r->box, &now) < 0 ||
		 !stamp_equal(&now, &r->scan.stamp));
}

void source_store_close(struct source_box *b)
{
	struct reader *r = (struct reader *)b;

	if (!r)
		return;
	if (r->box)
		r->box->ops->close(r->box);
	maildigest_free(r->digest);
	free(r->names);
	free(r->list);
	free(r);
}
