#include "fs/shed.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "compat/log.h"

enum { SETTLE_MS = 20 };

struct shed {
	struct nodes *nodes;
	shed_forget_fn *forget;
	void *arg;
	pthread_t thread;
	atomic_bool ended;
};

static void *run(void *arg)
{
	struct shed *s = arg;
	struct node_place at;
	bool said = false;

	while (nodes_await_crowd(s->nodes)) {
		if (!said)
			log_info("open files: the limit is near: the kernel is "
				 "asked to forget directories");
		said = true;
		while (nodes_victim(s->nodes, &at)) {
			s->forget(s->arg, at.parent, at.name);
			/* It tells us in its own time. */
			nodes_settle(s->nodes, SETTLE_MS);
		}
	}
	atomic_store(&s->ended, true);
	return NULL;
}

int shed_start(struct nodes *nodes, uint64_t files, shed_forget_fn *forget,
	       void *arg, struct shed **out)
{
	struct shed *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	*s = (struct shed){ .nodes = nodes, .forget = forget, .arg = arg };
	nodes_limit(nodes, files);
	ret = -pthread_create(&s->thread, NULL, run, s);
	if (ret < 0) {
		free(s);
		return ret;
	}
	*out = s;
	return 0;
}

void shed_stop(struct shed *s, void (*answer)(void *arg))
{
	if (!s)
		return;
	nodes_end(s->nodes);
	while (!atomic_load(&s->ended))
		answer(s->arg);
	(void)pthread_join(s->thread, NULL);
	free(s);
}
