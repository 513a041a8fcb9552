#include "compat/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "compat/clock.h"
#include "compat/convert_internal.h"
#include "compat/identity.h"
#include "compat/io.h"
#include "compat/log.h"

enum {
	CHUNK = 1024,		 /* messages of a step */
	CHUNK_OCTETS = 16 << 20, /* or so many octets of them */
	GROUP_OCTETS = 4 << 20,	 /* read before anything is written */
	PASSES = 8,		 /* while others write */
	TRIES = 5,		 /* when UW compacts meanwhile */
	SETTLE_US = 25000,	 /* a tick of the clock of files, and more */
};

enum fate { FATE_DONE, FATE_COPY, FATE_OTHER, FATE_LOST };

struct item {
	struct msg m;
	char base[BASENAME_MAX + 1];
	char name[CONVERT_NAME + 1];
	bool in_new;
	enum fate fate;
};

struct convert {
	struct box *box;
	struct convert_target target;
	struct convert_hooks hooks;
	struct convert_result result;
	struct convert_dirs dirs;
	struct convert_files files;
	struct convert_batch batch;
	struct letters letters;
	bool letters_known;
	bool in_pass, done;
	unsigned passes, tries;
	int64_t stamp_ns;	/* when result.stamp was taken */
	struct scan_point next; /* of the chunk to come */
	struct msg anchor;	/* the last message of the one before; size 0 */
	uint64_t chunk_octets;
	size_t count;
	struct item items[CHUNK];
	uint8_t group[GROUP_OCTETS];
};

/* ---- begin and end ------------------------------------------------------- */

static int open_dirs(struct convert *c)
{
	static const char *const names[] = { "cur", "new", "tmp" };
	int *const fds[] = { &c->dirs.cur, &c->dirs.new, &c->dirs.tmp };

	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		*fds[i] = io_open_beneath(c->target.dirfd, names[i],
					  O_RDONLY | O_DIRECTORY);
		if (*fds[i] < 0)
			return *fds[i];
	}
	return 0;
}

int convert_new(struct box *box, const struct convert_target *t,
		const struct convert_hooks *h, struct convert **out)
{
	struct convert *c = calloc(1, sizeof(*c));
	int ret;

	if (!c)
		return -ENOMEM;
	c->box = box;
	c->target = *t;
	c->hooks = *h;
	c->dirs = (struct convert_dirs){ -1, -1, -1 };
	convertbatch_init(&c->batch, &c->dirs, &c->target);
	ret = open_dirs(c);
	if (ret == 0)
		ret = convertbatch_clean(&c->batch);
	if (ret < 0) {
		convert_free(c);
		return ret;
	}
	*out = c;
	return 0;
}

void convert_free(struct convert *c)
{
	if (!c)
		return;
	convertbatch_fini(&c->batch);
	convertfiles_fini(&c->files);
	base_auto_close(&c->dirs.cur);
	base_auto_close(&c->dirs.new);
	base_auto_close(&c->dirs.tmp);
	free(c);
}

const struct convert_result *convert_result(const struct convert *c)
{
	return &c->result;
}

static void fault(struct convert *c, const struct convert_fault *f)
{
	if (c->hooks.fault)
		c->hooks.fault(f, c->hooks.arg);
}

static void fault_of(struct convert *c, const struct msg *m, bool kept,
		     const char *reason)
{
	struct convert_fault f = { .uid = m->uid,
				   .off = m->off - m->line,
				   .kept = kept };

	(void)snprintf(f.reason, sizeof(f.reason), "%s", reason);
	fault(c, &f);
}

/* ---- a chunk of record lines --------------------------------------------- */

static int take_message(const struct msg *m, const char *name, void *arg)
{
	struct convert *c = arg;

	(void)name;
	c->items[c->count++] = (struct item){ .m = *m };
	c->chunk_octets += m->size;
	/* Ends the scan behind this message. */
	return c->count == CHUNK || c->chunk_octets >= CHUNK_OCTETS ? -ECANCELED
								    : 0;
}

/*
 * A scan that goes on in the middle finds records only if nothing was moved
 * since. UW moves them down, never up: as long as the last one of the chunk
 * before lies where it was, so does all before it, and it was there all the
 * time.
 */
static int check_anchor(struct convert *c)
{
	uint8_t octet;
	ssize_t n;

	if (c->anchor.size == 0)
		return 0;
	n = c->box->ops->read(c->box, &c->anchor, NULL, &octet, 1, 0);
	return n < 0 ? (int)n : 0;
}

/* Return: 1: there is more; 0: that was the last one; -errno. */
static int scan_chunk(struct convert *c, struct scan *s)
{
	int ret, check;

	c->count = 0;
	c->chunk_octets = 0;
	s->from = c->next;
	ret = c->box->ops->scan(c->box, s, take_message, c);
	check = check_anchor(c);
	if (check < 0)
		return check;
	if (ret == -EBADMSG)
		c->result.damage = s->damage;
	if (ret < 0 && ret != -ECANCELED)
		return ret;
	/* A mailbox about to be born has none yet. */
	if (s->uidvalidity != c->target.on_disk || s->stamp.ino == 0 ||
	    s->stamp.ino != c->result.stamp.ino)
		return -ESTALE;
	c->next = s->next;
	c->result.uidnext = s->uidnext;
	if (c->count > 0)
		c->anchor = c->items[c->count - 1].m;
	return ret == -ECANCELED;
}

/* What scans find is counted again in each chunk; the gravest is what counts.
 */
static void note_damage(struct convert *c, const struct damage *d)
{
	struct convert_fault f = { .off = d->off };

	if (d->kind == DAMAGE_NONE)
		return;
	damage_add(&c->result.damage, d->kind, d->off, d->uid, "%s", d->text);
	if (d->kind != DAMAGE_RECORD)
		return;
	(void)snprintf(f.reason, sizeof(f.reason), "%s", d->text);
	fault(c, &f);
}

static int follow_letters(struct convert *c, const struct keywords *k)
{
	if (c->letters_known && memcmp(k, &c->result.keywords, sizeof(*k)) == 0)
		return 0;
	c->result.keywords = *k;
	c->letters_known = true;
	return c->hooks.letters(k, &c->letters, c->hooks.arg);
}

/* ---- what becomes of a message ------------------------------------------- */

static uint32_t letters_for(const struct convert *c, const struct msg *m)
{
	uint32_t more = c->hooks.more_letters
		? c->hooks.more_letters(m->uid, c->hooks.arg)
		: 0;

	return letters_of(&c->letters, m->keywords) | more;
}

static int rename_file(struct convert *c, const struct convert_file *f,
		       const struct item *it)
{
	struct identity was =
		identity_enter_caller(c->target.uid, c->target.gid, NULL, 0);
	char from[CONVERT_NAME + 1];
	int ret = was.err;

	if (ret < 0)
		return ret;
	ret = io_rename_new(f->in_new ? c->dirs.new : c->dirs.cur,
			    convertfiles_name(f, it->base, from),
			    it->in_new ? c->dirs.new : c->dirs.cur, it->name);
	identity_leave(was);
	c->result.renamed += ret == 0;
	return ret;
}

/* The file of a message is there: its flags follow. */
static int follow_flags(struct convert *c, struct convert_file *f,
			const struct item *it, uint32_t letters)
{
	bool same = f->in_new == it->in_new &&
		(it->in_new ||
		 (f->flags == (it->m.flags & MSG_SYSTEM) &&
		  f->letters == letters));

	f->seen = true;
	return same || c->target.add_only ? 0 : rename_file(c, f, it);
}

static int judge(struct convert *c, struct item *it)
{
	struct basename b = { .folder = c->target.number,
			      .uidvalidity = c->target.uidvalidity,
			      .uid = it->m.uid,
			      .date = it->m.date,
			      .size = it->m.size };
	uint32_t letters = letters_for(c, &it->m);
	struct convert_file *f;

	basename_format(&b, it->base);
	memcpy(it->name, it->base, sizeof(it->base));
	it->in_new = info_in_new(&it->m);
	if (!it->in_new)
		info_format(it->m.flags, letters, it->name + strlen(it->name));
	f = convertfiles_find(&c->files, it->m.uid, it->base);
	if (f) {
		it->fate = FATE_DONE;
		return follow_flags(c, f, it, letters);
	}
	it->fate = c->hooks.elsewhere &&
			c->hooks.elsewhere(it->m.uid, c->hooks.arg)
		? FATE_OTHER
		: FATE_COPY;
	return 0;
}

/* ---- copying ------------------------------------------------------------- */

struct source {
	struct convert *c;
	const struct msg *m;
};

/*
 * What lies where the scan found a message need not be it any more, however
 * like it it looks (mbxread.c). But UW moves messages down only: if one that
 * was read is still in its place, it was there all the time, and so was
 * everything before it.
 */
static int check_read(const struct convert *c, const struct msg *last)
{
	struct stamp since = { .ino = 0 };
	int ret;

	if (stamp_settled(&c->result.stamp, c->stamp_ns))
		since = c->result.stamp;
	ret = c->box->ops->holds(c->box, last, c->target.on_disk, &since);
	return ret == -EBADMSG ? -ESTALE : ret;
}

static ssize_t read_some(void *buf, size_t len, uint64_t off, void *arg)
{
	const struct source *s = arg;

	return s->c->box->ops->read(s->c->box, s->m, NULL, buf, len, off);
}

/* In pieces: the last one says whether all of them were right. */
static ssize_t read_piece(void *buf, size_t len, uint64_t off, void *arg)
{
	const struct source *s = arg;
	ssize_t n = read_some(buf, len, off, arg);
	bool last = n > 0 && off + (uint64_t)n >= s->m->size;
	int ret = last ? check_read(s->c, s->m) : 0;

	return ret < 0 ? ret : n;
}

/* A bad place on the disk is that of one message; all else is for the caller.
 */
static int lost(struct convert *c, struct item *it, int err)
{
	if (err != -EIO)
		return err;
	it->fate = FATE_LOST;
	fault_of(c, &it->m, false, "it cannot be read: input/output error");
	return 0;
}

static int copied(struct convert *c, uint64_t messages, uint64_t octets)
{
	c->result.copied += messages;
	c->result.copied_octets += octets;
	return c->hooks.pace && octets > 0 ? c->hooks.pace(octets, c->hooks.arg)
					   : 0;
}

static struct convert_piece piece_of(const struct item *it, const void *data)
{
	return (struct convert_piece){ .m = &it->m,
				       .name = it->name,
				       .in_new = it->in_new,
				       .data = data };
}

static int copy_large(struct convert *c, struct item *it)
{
	struct convert_piece p = piece_of(it, NULL);
	struct source from = { c, &it->m };
	uint8_t octet;
	ssize_t n = read_some(&octet, 1, it->m.size - 1, &from);
	int ret;

	if (n < 0)
		return lost(c, it, (int)n);
	ret = convertbatch_add_large(&c->batch, &p, read_piece, &from);
	return ret < 0 ? ret : copied(c, 1, it->m.size);
}

/* Reads messages from items[*i] on until the buffer is full. Return: 0 */
static int load_group(struct convert *c, size_t *i, struct convert_piece *list,
		      size_t *count)
{
	size_t used = 0;

	*count = 0;
	for (; *i < c->count; ++*i) {
		struct item *it = &c->items[*i];
		struct source from = { c, &it->m };
		ssize_t n;

		if (it->fate != FATE_COPY)
			continue;
		if (it->m.size > GROUP_OCTETS - used)
			break;
		n = read_some(c->group + used, it->m.size, 0, &from);
		if (n < 0 || (uint64_t)n < it->m.size) {
			int ret = lost(c, it, n < 0 ? (int)n : -ESTALE);

			if (ret < 0)
				return ret;
			continue;
		}
		list[(*count)++] = piece_of(it, c->group + used);
		used += it->m.size;
	}
	return *count > 0 ? check_read(c, list[*count - 1].m) : 0;
}

static int copy_group(struct convert *c, size_t *i)
{
	struct convert_piece list[CHUNK];
	uint64_t octets = 0;
	size_t count;
	int ret = load_group(c, i, list, &count);

	if (ret == 0 && count == 0 && *i < c->count)
		return copy_large(c, &c->items[(*i)++]);
	for (size_t k = 0; k < count; k++)
		octets += list[k].m->size;
	if (ret == 0)
		ret = convertbatch_add(&c->batch, list, count);
	return ret < 0 ? ret : copied(c, count, octets);
}

static int copy_all(struct convert *c)
{
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < c->count;) {
		ret = copy_group(c, &i);
		if (ret == 0 && convertbatch_is_full(&c->batch))
			ret = convertbatch_flush(&c->batch);
	}
	return ret;
}

static int tell(struct convert *c, const struct item *it)
{
	if (it->fate == FATE_LOST)
		return 0;
	c->result.messages++;
	c->result.octets += it->m.size;
	if (it->m.no_date)
		fault_of(c, &it->m, true,
			 "its date cannot be read; it is shown as 1970");
	return it->fate != FATE_OTHER && c->hooks.shown
		? c->hooks.shown(&it->m, it->base, c->hooks.arg)
		: 0;
}

/* Return: as scan_chunk(). */
static int do_chunk(struct convert *c)
{
	AUTO_FREE struct scan *s = calloc(1, sizeof(*s));
	int more = s ? scan_chunk(c, s) : -ENOMEM, ret;

	if (more < 0)
		return more;
	note_damage(c, &s->damage);
	ret = follow_letters(c, &s->keywords);
	for (size_t i = 0; ret == 0 && i < c->count; i++)
		ret = judge(c, &c->items[i]);
	if (ret == 0)
		ret = copy_all(c);
	for (size_t i = 0; ret == 0 && i < c->count; i++)
		ret = tell(c, &c->items[i]);
	c->result.at = c->next.off;
	if (c->result.end < c->result.at)
		c->result.end = c->result.at;
	return ret < 0 ? ret : more;
}

/* ---- passes -------------------------------------------------------------- */

static int pass_begin(struct convert *c)
{
	struct convert_result *r = &c->result;
	struct timespec now;
	int ret = c->box->ops->stamp(c->box, &r->stamp);

	(void)clock_gettime(CLOCK_REALTIME, &now);
	c->stamp_ns = io_ns(&now);
	if (ret == 0 && c->hooks.pass)
		ret = c->hooks.pass(c->hooks.arg);
	if (ret == 0)
		ret = convertfiles_load(&c->files, &c->dirs, &c->target);
	c->next = (struct scan_point){ .off = 0 };
	c->anchor = (struct msg){ .size = 0 };
	c->in_pass = true;
	r->damage = (struct damage){ .kind = DAMAGE_NONE };
	r->messages = r->octets = r->at = 0;
	r->foreign = c->files.foreign;
	r->end = r->stamp.size;
	return ret;
}

/* Behind a damaged record there may be messages that are not lost. */
static bool may_remove(const struct convert *c)
{
	return !c->target.add_only && c->result.damage.kind != DAMAGE_RECORD;
}

static int remove_gone(struct convert *c)
{
	struct identity was;
	int ret = 0;

	if (!may_remove(c))
		return 0;
	was = identity_enter_caller(c->target.uid, c->target.gid, NULL, 0);
	if (was.err < 0)
		return was.err;
	for (size_t i = 0; ret == 0 && i < c->files.count; i++) {
		const struct convert_file *f = &c->files.list[i];

		if (f->seen)
			continue;
		ret = convertfiles_remove(f, &c->dirs, &c->target);
		c->result.removed += ret == 0;
	}
	identity_leave(was);
	return ret;
}

/* Whether the pass showed one state of the MBX. */
static int is_settled(struct convert *c, bool *out)
{
	struct stamp now;
	int ret = c->box->ops->stamp(c->box, &now);

	if (ret < 0)
		return ret;
	*out = stamp_equal(&now, &c->result.stamp) &&
		stamp_settled(&now, c->stamp_ns);
	/* Only the clock is not on yet. */
	if (!*out && stamp_equal(&now, &c->result.stamp))
		clock_nap_us((int64_t)SETTLE_US << c->passes);
	return 0;
}

/* Return: 1: another pass is due; 0; -errno. */
static int pass_end(struct convert *c)
{
	int ret = convertbatch_flush(&c->batch);

	if (ret == 0)
		ret = remove_gone(c);
	if (ret == 0)
		ret = is_settled(c, &c->result.settled);
	if (ret < 0)
		return ret;
	c->in_pass = false;
	c->done = c->result.settled || ++c->passes == PASSES;
	return !c->done;
}

int convert_step(struct convert *c)
{
	int ret = c->in_pass || c->done ? 0 : pass_begin(c);

	if (c->done)
		return 0;
	if (ret == 0)
		ret = do_chunk(c);
	if (ret == 0)
		ret = pass_end(c);
	if (ret >= 0)
		return ret;
	/* What is written but in part must not get a name. */
	convertbatch_fini(&c->batch);
	c->in_pass = false;
	return ret == -ESTALE && ++c->tries < TRIES ? 1 : ret;
}
