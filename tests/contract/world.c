#include "world.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

const struct backend *be;
struct store *store;
struct box *box;
struct fixture_scan got;

void world_begin(const struct backend *backend, const struct mail *mails,
		 size_t count)
{
	be = backend;
	be->build(mails, count);
	cr_assert_eq(be->open_store(&store), 0);
	cr_assert_str_eq(store->ops->name, be->name);
	cr_assert_eq(store->ops->open(store, be->folder, &box), 0);
}

void world_end(void)
{
	if (box)
		box->ops->close(box);
	be->free_store(store);
}

void world_run(const struct backend *backend, void (*body)(void))
{
	world_begin(backend, backend_five, (size_t)BACKEND_FIVE);
	body();
	world_end();
}

void world_scan(void)
{
	cr_assert_eq(fixture_scan(box, &got), 0);
}

void world_expect_five(void)
{
	cr_assert_eq(got.count, (size_t)BACKEND_FIVE, "%zu messages",
		     got.count);
	for (size_t i = 0; i < got.count; i++) {
		const struct mail *m = &backend_five[i];

		cr_expect_eq(got.msgs[i].uid, m->uid, "%u", got.msgs[i].uid);
		cr_expect(fixture_is(box, &got, i, m->text, m->len), "UID %u",
			  m->uid);
	}
}

struct stamp world_stamp(void)
{
	struct stamp s;

	memset(&s, 0xee, sizeof(s));
	cr_assert_eq(box->ops->stamp(box, &s), 0);
	return s;
}

void world_tick(void)
{
	(void)usleep(20000);
}

int world_see(const struct store_entry *e, void *arg)
{
	struct world_seen *s = arg;

	s->calls++;
	if (!e->is_folder)
		s->others++;
	else if (strcmp(e->name, be->folder) == 0)
		s->wanted++;
	else
		s->folders += e->name[0] != '\0'; /* a Maildir has its INBOX */
	cr_expect_eq(e->is_folder, e->why == NULL);
	return s->give;
}

int world_refuse(const struct msg *m, const char *name, void *arg)
{
	unsigned *calls = arg;

	(void)m;
	(void)name;
	return ++*calls == 2 ? -ECANCELED : 0;
}
