#include "fs/scanner.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "compat/log.h"
#include "fs/folder.h"
#include "fs/user.h"

enum {
	IDLE_CLOSE_MS = 10000,
	TICK_S = 5,
	/* ioprio_set(2) has no header in Debian 12's libc. */
	IOPRIO_WHO_PROCESS = 1,
	IOPRIO_CLASS_IDLE = 3 << 13,
};

struct scanner {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	atomic_bool stop;
	time_t closed_at; /* folder_close_idle() was called */
};

static void scan_folders(struct scanner *s, struct user *u)
{
	for (size_t i = 0; !atomic_load(&s->stop); i++) {
		struct folder *f = NULL;

		/* The list may grow meanwhile. */
		(void)pthread_mutex_lock(&u->lock);
		if (i < u->count)
			f = u->folders[i];
		(void)pthread_mutex_unlock(&u->lock);
		if (!f)
			return;
		if (!atomic_load(&f->gone) && folder_ready(f) < 0)
			continue; /* logged */
	}
}

/* It looks at every folder there is: not after each user. */
static void close_idle(struct scanner *s)
{
	time_t now = time(NULL);

	if (now < s->closed_at + TICK_S)
		return;
	s->closed_at = now;
	folder_close_idle(IDLE_CLOSE_MS);
}

static int scan_user(const char *name, void *arg)
{
	struct scanner *s = arg;
	struct user *u;

	if (atomic_load(&s->stop))
		return -ECANCELED;
	if (user_find(s->fs, name, &u) == 0)
		scan_folders(s, u);
	close_idle(s);
	return 0;
}

static void pause_for(struct scanner *s, time_t seconds)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	(void)pthread_mutex_lock(&s->lock);
	if (!atomic_load(&s->stop))
		(void)pthread_cond_timedwait(&s->wake, &s->lock, &until);
	(void)pthread_mutex_unlock(&s->lock);
}

static void *run(void *arg)
{
	struct scanner *s = arg;
	int ret = 0;

	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_CLASS_IDLE);
	if (s->fs->opt->scan == SCAN_BACKGROUND)
		ret = user_each_name(s->fs, scan_user, s);
	if (ret < 0 && ret != -ECANCELED)
		log_err("scan: the list of users cannot be read: %s",
			strerrordesc_np(-ret));
	while (!atomic_load(&s->stop)) {
		pause_for(s, TICK_S);
		close_idle(s);
	}
	return NULL;
}

int scanner_start(struct fs *fs, struct scanner **out)
{
	struct scanner *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	s->fs = fs;
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_cond_init(&s->wake, NULL);
	ret = -pthread_create(&s->thread, NULL, run, s);
	if (ret < 0) {
		free(s);
		return ret;
	}
	*out = s;
	return 0;
}

void scanner_stop(struct scanner *s)
{
	if (!s)
		return;
	(void)pthread_mutex_lock(&s->lock);
	atomic_store(&s->stop, true);
	(void)pthread_cond_signal(&s->wake);
	(void)pthread_mutex_unlock(&s->lock);
	(void)pthread_join(s->thread, NULL);
	(void)pthread_cond_destroy(&s->wake);
	(void)pthread_mutex_destroy(&s->lock);
	free(s);
}
