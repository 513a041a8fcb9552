/*
 * Looking again and again, where nothing tells of changes.
 *
 * Only folders that the kernel knows: nobody can watch the others through the
 * mount. And the longer nobody has looked at one, the less often. A server
 * whose client is in IDLE looks now and then all the same (Dovecot every 30
 * seconds), so its folder is polled as often as poll= says, while folders that
 * somebody opened in the morning cost next to nothing.
 */
#include "fs/watch_internal.h"

#include "compat/clock.h"
#include "fs/folder.h"
#include "fs/fs.h"
#include "fs/user.h"
#include "fs/wake.h"

enum {
	UNUSED_SHARE = 32, /* of the time since somebody looked */
	RARE_MS = 300000,  /* at least */
	WALK_MS = 10000,   /* at most: new folders, UW's subscriptions */
};

static int64_t pause_of(struct folder *f, int64_t now)
{
	int64_t ms = (now - atomic_load(&f->used_ms)) / UNUSED_SHARE;
	int64_t least = f->fs->opt->poll_ms;

	if (ms > RARE_MS)
		ms = RARE_MS;
	return ms < least ? least : ms;
}

/* Walks are for people who have some folder in view. */
static void walk_if_due(struct user *u, int64_t pause, int64_t now)
{
	struct watch_user *wu = &u->watch;

	if (now < wu->walked_ms + (pause > WALK_MS ? pause : WALK_MS))
		return;
	wu->walked_ms = now;
	watch_ask_folders(u, 1, 0);
	if (atomic_load(&wu->how) == WATCHED_POLL)
		watch_ask(u, WATCH_LIST, 0);
}

/* A little early is on time: rounds are not exactly poll= apart. */
static void poll_folder(struct folder *f)
{
	int64_t now = clock_ms(), pause = pause_of(f, now);

	if (now < f->watch.polled_ms + pause - f->fs->opt->poll_ms / 2 ||
	    !wake_is_known(f))
		return;
	f->watch.polled_ms = now;
	if (atomic_load(&f->user->watch.how) == WATCHED_POLL)
		watch_ask_folder(f);
	walk_if_due(f->user, pause, now);
}

int watch_poll_user(struct user *u, void *arg)
{
	struct watch_user *wu = &u->watch;
	int64_t now = clock_ms(), retry = atomic_load(&wu->retry_ms);
	enum watch_how how = atomic_load(&wu->how);

	(void)arg;
	if (retry != 0 && now >= retry)
		watch_ask(u, WATCH_DIRS, 0);
	if (how == WATCHED_POLL || how == WATCHED_PARTLY)
		watch_each_folder(u, poll_folder);
	return 0;
}
