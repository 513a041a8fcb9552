/*
 * What inotify tells, in terms of folders.
 *
 * A mailbox that changed is looked at. One that comes or goes, also by getting
 * another name, is looked for; twice, because one look may miss a mailbox that
 * is being renamed. A file that is no folder may become one: it is looked at
 * again, but not as often as it changes.
 */
#include "fs/watch_internal.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "compat/text.h"
#include "fs/folder.h"
#include "fs/folder_internal.h"
#include "fs/fs.h"
#include "fs/user.h"

enum {
	BUFFER = 64 * 1024,
	SOON_MS = 5,
	MAYBE_MS = 50,	       /* after a change to a file that is no folder; */
	MAYBE_MAX_MS = 5000,   /* about, when that goes on; */
	MAYBE_CALM_MS = 10000, /* after this it is the first again */
	COME = IN_CREATE | IN_MOVED_TO,
	GO = IN_DELETE | IN_MOVED_FROM,
	SELF = IN_DELETE_SELF | IN_MOVE_SELF,
};

struct event {
	uint32_t mask;
	const char *name;
};

static struct folder *find_folder(struct user *u, const char *legacy)
{
	struct folder *found = NULL;

	(void)pthread_mutex_lock(&u->lock);
	for (size_t i = 0; !found && i < u->count; i++)
		if (u->folders[i]->place == LEDGER_PLACE_FOLDERS &&
		    strcmp(u->folders[i]->legacy, legacy) == 0)
			found = u->folders[i];
	(void)pthread_mutex_unlock(&u->lock);
	return found;
}

static void inbox_event(struct user *u, const struct event *e)
{
	struct folder *f = user_folder(u, "");

	if (f && f->place != LEDGER_PLACE_FOLDERS)
		watch_ask_folder(f);
	else if (!(e->mask & GO))
		watch_ask_folders(u, 1, SOON_MS);
}

/* It may become one. Soon at first; less and less often when it goes on
 * changing and does not. Only the thread that reads events comes here. */
static void maybe_a_folder(struct user *u)
{
	struct watch_user *wu = &u->watch;
	int64_t now = clock_ms(), pause;

	if (now >= wu->maybe_ms) {
		if (now - wu->maybe_ms > MAYBE_CALM_MS)
			wu->maybes = 0;
		pause = (int64_t)MAYBE_MS << wu->maybes;
		if (pause < MAYBE_MAX_MS)
			wu->maybes++;
		wu->maybe_ms = now + pause;
	}
	/* A look that began before now does not count. */
	watch_ask_folders(u, 1, wu->maybe_ms - now);
}

static void unknown_event(struct user *u, const struct event *e)
{
	if (e->mask & COME)
		watch_ask_folders(u, 1, SOON_MS);
	else if (!(e->mask & GO))
		maybe_a_folder(u);
}

static void dir_event(struct user *u, const struct event *e)
{
	if (e->name[0] == '.' || !(e->mask & (COME | GO)))
		return; /* no mail lies in .ssh or .cache */
	watch_ask_folders(u, 2, SOON_MS);
	watch_ask(u, WATCH_DIRS, SOON_MS);
}

static void file_event(struct user *u, const struct event *e, const char *path)
{
	struct folder *f = find_folder(u, path);

	if (!f) {
		unknown_event(u, e);
		return;
	}
	if (e->mask & (COME | GO) || atomic_load(&f->gone))
		watch_ask_folders(u, 2, SOON_MS);
	if (!(e->mask & GO))
		watch_ask_folder(f);
}

static void mail_event(const struct watch_target *t, const struct event *e)
{
	char path[PATH_MAX];

	if (text_path(path, sizeof(path), "%s%s%s", t->name,
		      *t->name ? "/" : "", e->name) < 0)
		return;
	if (e->mask & IN_ISDIR)
		dir_event(t->user, e);
	else
		file_event(t->user, e, path);
}

/* With the lock of watch_dirs.c. */
static void tell(const struct watch_target *t, void *arg)
{
	const struct event *e = arg;
	struct user *u = t->user;

	(void)atomic_fetch_add(&u->watch.events, 1);
	atomic_store(&u->watch.last_event, (int64_t)time(NULL));
	switch (t->kind) {
	case WATCH_AN_INBOX:
		inbox_event(u, e);
		return;
	case WATCH_A_LIST:
		if (!(e->mask & GO))
			watch_ask(u, WATCH_LIST, SOON_MS);
		return;
	case WATCH_A_PLACE:
		if (!(e->mask & (COME | GO)))
			return;
		watch_ask_folders(u, 2, SOON_MS);
		watch_ask(u, WATCH_DIRS, SOON_MS);
		return;
	case WATCH_MAIL:
		mail_event(t, e);
	}
}

/* The directory itself is gone, or has another name. */
static void tell_self(const struct watch_target *t, void *arg)
{
	(void)arg;
	watch_ask_folders(t->user, 2, SOON_MS);
	watch_ask(t->user, WATCH_DIRS, SOON_MS);
}

static void take(struct fs *fs, const struct inotify_event *ev)
{
	struct event e = { .mask = ev->mask, .name = ev->name };

	if (ev->mask & IN_Q_OVERFLOW) {
		log_info("watch: too many changes at once: everything is "
			 "looked at");
		watch_ask_all(fs);
	} else if (ev->mask & IN_IGNORED) {
		watch_dirs_each(ev->wd, NULL, tell_self, NULL);
		watch_dirs_gone(ev->wd);
	} else if (ev->mask & SELF) {
		watch_dirs_each(ev->wd, NULL, tell_self, NULL);
	} else if (ev->len > 0) {
		watch_dirs_each(ev->wd, ev->name, tell, &e);
	}
}

void watch_events_read(struct fs *fs)
{
	static _Alignas(struct inotify_event) char buf[BUFFER];
	ssize_t len;

	while ((len = read(watch_dirs_fd(), buf, sizeof(buf))) > 0) {
		for (const char *p = buf; p < buf + len;) {
			/* The kernel pads names so that the next is aligned. */
			const struct inotify_event *ev = (const void *)p;

			take(fs, ev);
			p += sizeof(*ev) + ev->len;
		}
	}
	if (len < 0 && errno != EAGAIN && errno != EINTR)
		log_warn("watch: inotify: %s", strerrordesc_np(errno));
}
