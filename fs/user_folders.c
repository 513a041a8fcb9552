#include "fs/user.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int by_key(const void *key, const void *element)
{
	const struct folder *const *f = element;

	return strcmp(key, (*f)->dir);
}

/* A folder that is gone, too. */
static struct folder *find_folder(struct user *u, const char *dir)
{
	struct folder **found = NULL, *f;

	(void)pthread_mutex_lock(&u->lock);
	if (u->count > 0)
		found = bsearch(dir, u->folders, u->count,
				sizeof(struct folder *), by_key);
	f = found ? *found : NULL;
	(void)pthread_mutex_unlock(&u->lock);
	return f;
}

struct folder *user_folder(struct user *u, const char *dir)
{
	struct folder *f = find_folder(u, dir);

	return f && !atomic_load(&f->gone) ? f : NULL;
}

struct folder *user_gone_folder(struct user *u, const char *dir)
{
	struct folder *f = find_folder(u, dir);

	return f && atomic_load(&f->gone) ? f : NULL;
}

/* The ledger has its line, but nobody finds the folder yet. The line comes
 * first, then the directory. */
static bool is_coming(struct user *u, const char *dir)
{
	bool found = false;

	(void)pthread_mutex_lock(&u->lock);
	for (size_t i = 0; !found && i < u->ledger.count; i++)
		found = u->ledger.folders[i].phase == PHASE_LEGACY &&
			strcmp(u->ledger.folders[i].dir, dir) == 0;
	(void)pthread_mutex_unlock(&u->lock);
	return found && !find_folder(u, dir);
}

bool user_hides(struct user *u, const char *dir)
{
	const struct folder *f = find_folder(u, dir);

	if (!f)
		return is_coming(u, dir);
	return atomic_load(&f->gone) && !atomic_load(&f->plain);
}

void user_drop(struct user *u, struct folder *f)
{
	size_t i = 0;

	atomic_store(&f->deleted, true);
	atomic_store(&f->gone, true);
	(void)pthread_mutex_lock(&u->lock);
	while (i < u->count && u->folders[i] != f)
		i++;
	if (i < u->count) {
		u->count--;
		memmove(u->folders + i, u->folders + i + 1,
			(u->count - i) * sizeof(struct folder *));
	}
	(void)pthread_mutex_unlock(&u->lock);
}

int user_save_folder(struct user *u, const struct folder *f, uint32_t number,
		     uint32_t uidvalidity)
{
	struct ledger_folder *l;
	int ret;

	(void)pthread_mutex_lock(&u->lock);
	l = &u->ledger.folders[f->line];
	l->number = number;
	l->uidvalidity = uidvalidity;
	memcpy(l->guid, f->guid, sizeof(l->guid));
	l->dirty = true;
	ret = user_commit(u);
	(void)pthread_mutex_unlock(&u->lock);
	return ret;
}
