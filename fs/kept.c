#include "fs/kept.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "fs/folder_internal.h"

enum { SHORT_MS = 10000 };

/* Return: changes that failed and were not said. */
static uint64_t end_spell(struct folder *f)
{
	struct folder_kept *k = &f->kept;
	uint64_t more = 0;

	(void)pthread_rwlock_wrlock(&f->lock);
	/* Where nobody had the lock, getting it now means nothing. */
	if (k->since_ms &&
	    (k->file.ino || clock_ms() - k->since_ms > SHORT_MS)) {
		more = k->failed > 1 ? k->failed - 1 : 0;
		*k = (struct folder_kept){ .since_ms = 0 };
		atomic_store(&f->is_kept, false);
	}
	(void)pthread_rwlock_unlock(&f->lock);
	return more;
}

_Static_assert(sizeof(((struct folder_kept *)NULL)->who) == KEPT_BY, "");

static void begin_spell(struct folder *f, const struct mbxlock_past *past)
{
	char who[KEPT_BY];
	bool known = mbxlock_keeper(past, who, sizeof(who));

	(void)pthread_rwlock_wrlock(&f->lock);
	if (!f->kept.since_ms)
		f->kept.since_ms = clock_ms();
	f->kept.file = *past;
	f->kept.known = known;
	memcpy(f->kept.who, who, sizeof(who));
	atomic_store(&f->is_kept, true);
	(void)pthread_rwlock_unlock(&f->lock);
}

void kept_look(struct folder *f)
{
	struct mbxlock_past past = mbxlock_past();
	char name[400];
	uint64_t more;

	if (past.ino)
		begin_spell(f, &past);
	if (past.ino || !past.taken || !atomic_load(&f->is_kept))
		return;
	more = end_spell(f);
	if (more == 0)
		return;
	folder_log_name(f, name, sizeof(name));
	log_warn("%s: the mailbox can be changed again; %ju more changes had "
		 "failed",
		 name, (uintmax_t)more);
}

bool kept_first(struct folder *f)
{
	uint64_t n;

	(void)pthread_rwlock_wrlock(&f->lock);
	if (!f->kept.since_ms)
		f->kept.since_ms = clock_ms();
	n = ++f->kept.failed;
	atomic_store(&f->is_kept, true);
	(void)pthread_rwlock_unlock(&f->lock);
	return n == 1;
}

static struct folder_kept copy(struct folder *f)
{
	struct folder_kept k;

	(void)pthread_rwlock_rdlock(&f->lock);
	k = f->kept;
	(void)pthread_rwlock_unlock(&f->lock);
	return k;
}

void kept_by(struct folder *f, char *out)
{
	struct folder_kept k = copy(f);

	if (k.file.ino)
		memcpy(out, k.who, KEPT_BY);
	else
		(void)mbxlock_keeper(&k.file, out, KEPT_BY);
}

bool kept_now(struct folder *f, char *out, int64_t *ms)
{
	struct folder_kept k = copy(f);

	if (!k.since_ms || !k.file.ino)
		return false;
	*ms = clock_ms() - k.since_ms;
	/* Who could be seen then and cannot now has let go. Lock files come and
	 * go, and another one may have got the inode number. */
	return mbxlock_keeper(&k.file, out, KEPT_BY) ? strcmp(out, k.who) == 0
						     : !k.known;
}

bool kept_for(struct folder *f, int64_t ms)
{
	struct folder_kept k = copy(f);

	return k.file.ino && k.since_ms && clock_ms() - k.since_ms >= ms;
}

void kept_refused(const struct folder *f, const char *what, int err)
{
	struct mbxlock_past past = mbxlock_past();
	char name[400], who[KEPT_BY];

	if ((err != -EBUSY && err != -EAGAIN) || !past.ino)
		return;
	(void)mbxlock_keeper(&past, who, sizeof(who));
	folder_log_name(f, name, sizeof(name));
	log_warn("%s: %s: %s %s", name, what, who,
		 err == -EBUSY ? "has the mailbox open"
			       : "keeps the mailbox locked");
}
