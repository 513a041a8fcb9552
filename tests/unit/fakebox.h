/*
 * fakebox.h - a box whose messages lie in memory, for the tests of the index.
 *
 *	struct fake f;
 *	fake_init(&f);
 *	fake_add(&f, 7, MSG_SEEN, 1200);	like a delivery: the file grows
 *	fake_flag(&f, 7, MSG_SEEN | MSG_OLD);	mtime moves
 *	sync_box(ix, 1, &f.box, ...);
 *	fake_fini(&f);
 *
 * Places are those of an MBX; a message with a fake_name() lies in a Maildir
 *and is delivered without a place. Times lie years back, so that stamps are
 *never too fresh to be trusted.
 */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/store.h"
#include "fixture.h"
#include "index/check.h"
#include "index/index.h"
#include "index/sync.h"

enum { FAKE_LINE = 55, FAKE_HEADER = 2048 };

struct fake_msg {
	struct msg m;
	char *name;
	bool gone; /* expunged: not delivered, its octets stay */
};

struct fake {
	struct box box;
	struct fake_msg *msgs;
	size_t count, room;
	struct stamp stamp;
	uint32_t uidvalidity, uid_last;
	struct keywords keywords;
	struct damage damage;
	uint32_t broken; /* UID of a record that cannot be read; 0: none */
	bool empty;	 /* cut off: not even a header */
	int scan_err, stamp_err; /* given instead of a result */
	int tail_err;		 /* the same, for tail scans only */
	unsigned scans;
	uint64_t delivered; /* by the last scan */
	/* Called once, at the start of a scan and after its first message. */
	void (*before)(struct fake *f);
	void (*during)(struct fake *f);
};

static int fake_stamp(struct box *b, struct stamp *out)
{
	struct fake *f = (struct fake *)b;

	*out = f->stamp;
	return f->stamp_err;
}

static uint64_t fake_end(const struct fake *f)
{
	const struct msg *last;

	if (f->count == 0)
		return FAKE_HEADER;
	last = &f->msgs[f->count - 1].m;
	return last->off + last->size;
}

static void fake_happen(struct fake *f, void (**what)(struct fake *f))
{
	void (*once)(struct fake * f) = *what;

	*what = NULL;
	if (once)
		once(f);
}

static int fake_scan(struct box *b, struct scan *s, store_msg_fn *fn, void *arg)
{
	struct fake *f = (struct fake *)b;

	f->scans++;
	f->delivered = 0;
	fake_happen(f, &f->before);
	s->stamp = f->stamp;
	s->damage = f->damage;
	if (f->scan_err)
		return f->scan_err;
	if (s->from.off != 0 && f->tail_err)
		return f->tail_err;
	if (f->empty) {
		s->uidnext = 1;
		return 0;
	}
	s->uidvalidity = f->uidvalidity;
	s->uidnext = f->uid_last + 1;
	s->keywords = f->keywords;
	s->next = (struct scan_point){ .off = FAKE_HEADER,
				       .uid_last = f->uid_last };
	for (size_t i = 0; i < f->count; i++) {
		const struct fake_msg *m = &f->msgs[i];
		struct msg shown = m->m;
		int err;

		if (f->broken && m->m.uid == f->broken) {
			damage_add(&s->damage, DAMAGE_RECORD, s->next.off, 0,
				   "record at %ju: expected better",
				   (uintmax_t)s->next.off);
			return 0;
		}
		s->next.off = m->m.off + m->m.size;
		s->next.uid_prev = m->m.uid;
		if (m->gone || m->m.off - m->m.line < s->from.off)
			continue;
		f->delivered++;
		if (m->name)
			shown.off = shown.line = 0;
		err = fn(&shown, m->name, arg);
		if (err)
			return err;
		fake_happen(f, &f->during);
	}
	return 0;
}

static const struct store_ops fake_ops = {
	.name = "fake",
	.stamp = fake_stamp,
	.scan = fake_scan,
};

__attribute__((unused)) static void fake_init(struct fake *f)
{
	*f = (struct fake){
		.box = { .ops = &fake_ops },
		.stamp = { .dev = 1,
			   .ino = 2,
			   .size = FAKE_HEADER,
			   .mtime_ns = 1500000000LL * 1000000000,
			   .ctime_ns = 1500000000LL * 1000000000 + 1 },
		.uidvalidity = 0x4b000001,
	};
}

__attribute__((unused)) static void fake_fini(struct fake *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->msgs[i].name);
	free(f->msgs);
}

/* The file was written; as UW does it: mtime moves for changes, not for
 * deliveries. */
static void fake_written(struct fake *f, bool change)
{
	f->stamp.ctime_ns += 1000003;
	if (change)
		f->stamp.mtime_ns += 1000000000;
	f->stamp.size = f->empty ? 0 : fake_end(f);
}

/* The address is good until the next fake_add(). */
__attribute__((unused)) static struct fake_msg *
fake_add(struct fake *f, uint32_t uid, uint32_t flags, uint64_t size)
{
	struct fake_msg *m;

	if (f->count == f->room) {
		f->room = f->room ? 2 * f->room : 64;
		f->msgs = realloc(f->msgs, f->room * sizeof(*f->msgs));
		cr_assert_not_null(f->msgs);
	}
	m = &f->msgs[f->count];
	*m = (struct fake_msg){
		.m = { .uid = uid,
		       .uid_disk = uid,
		       .flags = flags,
		       .date = 1400000000 + (int64_t)uid,
		       .size = size,
		       .off = fake_end(f) + FAKE_LINE,
		       .line = FAKE_LINE },
	};
	f->count++;
	if (uid > f->uid_last)
		f->uid_last = uid;
	fake_written(f, false);
	return m;
}

__attribute__((unused)) static struct fake_msg *fake_find(struct fake *f,
							  uint32_t uid)
{
	for (size_t i = 0; i < f->count; i++)
		if (f->msgs[i].m.uid == uid)
			return &f->msgs[i];
	cr_assert(false, "no UID %u", uid);
	return NULL;
}

__attribute__((unused)) static void fake_flag(struct fake *f, uint32_t uid,
					      uint32_t flags)
{
	fake_find(f, uid)->m.flags = flags;
	fake_written(f, true);
}

__attribute__((unused)) static void fake_name(struct fake *f, uint32_t uid,
					      const char *name)
{
	struct fake_msg *m = fake_find(f, uid);

	free(m->name);
	m->name = strdup(name);
	cr_assert_not_null(m->name);
	fake_written(f, true);
}

/* Marks it; no octet moves. */
__attribute__((unused)) static void fake_expunge(struct fake *f, uint32_t uid)
{
	fake_find(f, uid)->gone = true;
	fake_written(f, true);
}

/* Takes it out and lays the rest together, as UW's compaction does. */
__attribute__((unused)) static void fake_remove(struct fake *f, uint32_t uid)
{
	size_t i = (size_t)(fake_find(f, uid) - f->msgs);
	uint64_t off = FAKE_HEADER;

	free(f->msgs[i].name);
	memmove(&f->msgs[i], &f->msgs[i + 1],
		(f->count - i - 1) * sizeof(*f->msgs));
	f->count--;
	for (i = 0; i < f->count; i++) {
		f->msgs[i].m.off = off + FAKE_LINE;
		off += FAKE_LINE + f->msgs[i].m.size;
	}
	fake_written(f, true);
}

/* Must succeed. */
__attribute__((unused)) static struct sync_result
fake_sync(struct index *ix, uint32_t folder, struct fake *f)
{
	struct sync_result r;
	int err = sync_box(ix, folder, &f->box, NULL, &r);

	cr_assert_eq(err, 0, "sync: %s", strerrorname_np(-err));
	return r;
}

static void fake_finding(unsigned invariant, const char *text, void *arg)
{
	(void)arg;
	(void)fprintf(stderr, "%u: %s\n", invariant, text);
}

__attribute__((unused)) static void fake_check(struct index *ix)
{
	cr_assert_eq(check_index(ix, fake_finding, NULL), 0);
}

/* A path in the fixture's directory; good until the next call. */
static const char *fake_path(const char *name)
{
	static char path[160];

	(void)snprintf(path, sizeof(path), "%s/%s", fixture_dir(), name);
	return path;
}

/* The index of the test, opened by its owner. */
__attribute__((unused)) static struct index *fake_index(void)
{
	struct index *ix = NULL;

	cr_assert_eq(index_open(fake_path("index"), false, &ix), 0);
	return ix;
}

/* An index with @n messages in folder 1, closed. */
__attribute__((unused)) static void fake_make_index(unsigned n)
{
	struct index *ix = fake_index();
	struct fake f;

	fake_init(&f);
	for (uint32_t uid = 1; uid <= n; uid++)
		fake_add(&f, uid, MSG_OLD, 100);
	(void)fake_sync(ix, 1, &f);
	fake_fini(&f);
	index_close(ix);
}

__attribute__((unused)) static uint64_t fake_messages(struct index *ix,
						      uint32_t folder)
{
	struct index_folder row;
	int err = index_folder_get(ix, folder, &row);

	cr_assert(err == 0 || err == -ENOENT);
	return err ? 0 : row.messages;
}

/* @changed: letters of what changed: c(ur) n(ew) v(alidity) k(eywords) */
__attribute__((unused)) static void fake_expect(const struct sync_result *r,
						enum sync_how how,
						const uint64_t counts[4],
						const char *changed)
{
	cr_expect_eq(r->how, how);
	cr_expect_eq(r->added, counts[0], "added %lu", r->added);
	cr_expect_eq(r->removed, counts[1], "removed %lu", r->removed);
	cr_expect_eq(r->changed, counts[2], "changed %lu", r->changed);
	cr_expect_eq(r->moved, counts[3], "moved %lu", r->moved);
	cr_expect_eq(r->cur_changed, strchr(changed, 'c') != NULL);
	cr_expect_eq(r->new_changed, strchr(changed, 'n') != NULL);
	cr_expect_eq(r->uidvalidity_changed, strchr(changed, 'v') != NULL);
	cr_expect_eq(r->keywords_changed, strchr(changed, 'k') != NULL);
}
#define FAKE_EXPECT(r, how, changed, ...)                                      \
	fake_expect(r, how, (const uint64_t[4]){ __VA_ARGS__ }, changed)
