#include "compat/store.h"

#include <stdarg.h>
#include <stdio.h>

enum { SECOND_NS = 1000000000 };

bool stamp_equal(const struct stamp *a, const struct stamp *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
		a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
		a->ctl_ns == b->ctl_ns;
}

bool stamp_is_own(const struct stamp *s)
{
	return s->mtime_ns % SECOND_NS == STAMP_OWN_NS;
}

static int64_t max_ns(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/*
 * Whether a change after the moment @at must have led to another stamp. The
 * kernel stamps files with a clock that ticks every 1 to 10 ms; ext3 and small
 * ext4 inodes keep whole seconds. A time in the future was set by somebody. The
 * fraction that only we set says it at once.
 */
bool stamp_settled(const struct stamp *s, int64_t at)
{
	int64_t tick = s->ctime_ns % SECOND_NS ? SECOND_NS / 50
					       : 2 * (int64_t)SECOND_NS;
	int64_t newest = max_ns(max_ns(s->mtime_ns, s->ctime_ns), s->ctl_ns);
	int64_t age;

	if (stamp_is_own(s))
		return true;
	if (__builtin_sub_overflow(at, newest, &age))
		return true;
	return age >= tick || age <= -tick;
}

/* By gravity, worst first; DAMAGE_NONE is last so that anything beats it. */
static const struct {
	enum damage_kind kind;
	const char *name;
} kinds[] = {
	{ DAMAGE_ACCESS, "access" },	 { DAMAGE_HEADER, "header" },
	{ DAMAGE_RECORD, "record" },	 { DAMAGE_REGIME, "regime" },
	{ DAMAGE_DATE, "date" },	 { DAMAGE_UID, "uid" },
	{ DAMAGE_UIDLAST, "uidlast" },	 { DAMAGE_SLOTS, "slots" },
	{ DAMAGE_KEYWORDS, "keywords" }, { DAMAGE_NONE, "none" },
};

static size_t rank(enum damage_kind kind)
{
	size_t i;

	for (i = 0; i < ARRAY_LEN(kinds) - 1; i++)
		if (kinds[i].kind == kind)
			break;
	return i;
}

const char *damage_name(enum damage_kind kind)
{
	return kinds[rank(kind)].name;
}

void damage_add(struct damage *d, enum damage_kind kind, uint64_t off,
		uint32_t uid, const char *fmt, ...)
{
	va_list ap;

	d->count++;
	if (rank(kind) >= rank(d->kind))
		return;
	d->kind = kind;
	d->off = off;
	d->uid = uid;
	va_start(ap, fmt);
	(void)vsnprintf(d->text, sizeof(d->text), fmt, ap);
	va_end(ap);
}
