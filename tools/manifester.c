#include "tools/manifester.h"

#include <errno.h>
#include <string.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "tools/crew.h"
#include "tools/progress.h"
#include "tools/report.h"

enum { TRIES = 3 };

static const int64_t nap_us = 200000;

struct run {
	struct manifest_writer *writer;
	struct progress progress;
	bool bad;
};

/* ---- a folder, in one of the threads ------------------------------------- */

static int put_head(struct crew_folder *f, const struct source_box *b)
{
	struct manifest_folder head = { .uidvalidity = b->uidvalidity,
					.uidnext = b->uidnext,
					.messages = b->messages,
					.octets = b->octets,
					.lost = b->err < 0 };
	char line[MANIFEST_LINE_MAX + 1];

	(void)stpcpy(head.dir, f->dir);
	(void)stpcpy(head.damage, b->damage);
	f->tally.messages[0] = b->messages;
	f->tally.octets[0] = b->octets;
	f->tally.troubles += *b->damage != '\0';
	return pile_add(&f->out, line, manifest_folder_line(&head, line));
}

static int put_messages(struct crew_folder *f, struct source_box *b,
			bool last_try)
{
	char line[MANIFEST_LINE_MAX + 1];
	struct fact m;
	int ret;

	while ((ret = b->ops->next(b, &m)) == 0) {
		if (m.err == -ESTALE && !last_try)
			return -ESTALE;
		f->tally.unread += m.err < 0;
		atomic_fetch_add(&f->read, 1);
		ret = pile_add(&f->out, line, manifest_message_line(&m, line));
		if (ret < 0)
			return ret;
	}
	return ret == -ENOENT ? 0 : ret;
}

static int try_once(struct crew_user *u, struct crew_folder *f, bool last_try)
{
	struct source_box *b;
	int ret = u->side[0]->ops->open(u->side[0], f->at[0], &b);

	if (ret < 0)
		return ret;
	pile_fini(&f->out);
	f->tally = (struct tally){ .same = 0 };
	atomic_store(&f->read, 0);
	atomic_store(&f->expected, b->messages);
	ret = put_head(f, b);
	if (ret == 0)
		ret = put_messages(f, b, last_try);
	/* Half before a change and half after it is no state at all. */
	if (ret == 0 && !last_try && b->ops->changed(b))
		ret = -ESTALE;
	b->ops->close(b);
	return ret;
}

static int write_folder(struct crew_user *u, struct crew_folder *f, void *arg)
{
	int ret = -ESTALE;

	(void)arg;
	for (int i = 1; ret == -ESTALE && i <= TRIES; i++) {
		ret = try_once(u, f, i == TRIES);
		if (ret == -ESTALE)
			clock_nap_us(i * nap_us);
	}
	return ret;
}

/* ---- in order ------------------------------------------------------------ */

static void complain(struct run *r, const char *user, const char *what,
		     const char *why)
{
	char word[REPORT_USER + 1];

	progress_clear(&r->progress);
	r->bad = true;
	log_err("%s%s%s: %s", report_user(user, word), *user ? " " : "", what,
		why);
}

static int user_begin(struct crew_user *u, void *arg)
{
	struct run *r = arg;
	const struct source_user *s = u->side[0];

	if (!s)
		complain(r, u->name, "", source_why(u->err[0]));
	for (size_t i = 0; s && i < s->note_count; i++)
		if (s->notes[i].trouble)
			complain(r, u->name, s->notes[i].what, s->notes[i].why);
	return manifest_begin_user(r->writer, u->name);
}

static int folder_done(struct crew_user *u, struct crew_folder *f, void *arg)
{
	struct run *r = arg;
	char buf[BUFSIZ], name[FACT_NAME_MAX + 1];
	ssize_t n = pile_rewind(&f->out);

	fact_name(f->dir, name);
	if (f->tally.troubles)
		complain(r, u->name, name,
			 "it is damaged; the manifest says "
			 "how");
	if (f->tally.unread)
		complain(r, u->name, name, "some messages cannot be read");
	while (n >= 0 && (n = pile_get(&f->out, buf, sizeof(buf))) > 0) {
		int ret = manifest_folder_text(r->writer, buf, (size_t)n);

		if (ret < 0)
			return ret;
	}
	return n < 0 ? (int)n
		     : manifest_end_folder(r->writer, f->tally.messages[0],
					   f->tally.octets[0]);
}

static int user_end(struct crew_user *u, void *arg)
{
	struct run *r = arg;
	const struct source_user *s = u->side[0];
	int ret = 0;

	for (size_t i = 0; s && ret == 0 && i < s->subscribed.count; i++)
		ret = manifest_subscribed(r->writer, s->subscribed.list[i]);
	return ret < 0 ? ret : manifest_end_user(r->writer);
}

static void tick(const struct crew_progress *p, void *arg)
{
	struct run *r = arg;

	progress_show(&r->progress, p);
}

int manifester_run(FILE *f, struct source *s, const struct names *users,
		   unsigned jobs, char root[DIGEST_HEX + 1])
{
	struct run r = { .writer = manifest_writer_new(f) };
	struct crew_work work = { .side = { s, NULL },
				  .users = users,
				  .jobs = jobs,
				  .arg = &r,
				  .folder = write_folder,
				  .user_begin = user_begin,
				  .folder_done = folder_done,
				  .user_end = user_end,
				  .tick = tick };
	int ret = -ENOMEM;

	if (!r.writer)
		return ret;
	progress_start(&r.progress);
	ret = crew_run(&work);
	progress_clear(&r.progress);
	if (ret == 0)
		ret = manifest_end(r.writer, root);
	manifest_writer_free(r.writer);
	return ret == 0 && r.bad ? -EBADMSG : ret;
}
