#include "tools/dumper.h"

#include <errno.h>

#include "compat/dump.h"
#include "compat/log.h"
#include "tools/source.h"

static int print_messages(FILE *f, struct source_box *b, const char *name)
{
	struct fact m;
	int ret, worst = 0;

	while ((ret = b->ops->next(b, &m)) == 0) {
		if (m.err < 0) {
			log_err("%s: UID %u cannot be read: %s", name, m.uid,
				source_why(m.err));
			worst = worst < 0 ? worst : m.err;
			continue;
		}
		dump_message(f, &m);
	}
	return ret == -ENOENT ? worst : ret;
}

static int print_folder(FILE *f, struct source_user *u, size_t i)
{
	struct dump_folder head = { .dir = u->folders[i].dir };
	char name[FACT_NAME_MAX + 1];
	struct source_box *b = NULL;
	int ret = u->ops->open(u, i, &b);

	if (ret < 0)
		return ret;
	fact_name(head.dir, name);
	head.uidvalidity = b->uidvalidity;
	head.uidnext = b->uidnext;
	head.messages = b->messages;
	ret = b->err;
	if (ret == 0) {
		dump_folder(f, &head);
		ret = print_messages(f, b, name);
	}
	if (*b->damage) {
		log_err("%s: %s", name, b->damage);
		ret = ret == 0 ? -EBADMSG : ret;
	}
	b->ops->close(b);
	return ret;
}

static int print_user(FILE *f, struct source_user *u)
{
	int ret, worst = 0;

	for (size_t i = 0; i < u->note_count; i++) {
		if (u->notes[i].trouble)
			worst = -EBADMSG;
		log_warn("%s: %s: %s", u->notes[i].what,
			 u->notes[i].trouble ? "cannot be read"
					     : "not a mailbox",
			 u->notes[i].why);
	}
	dump_header(f);
	for (size_t i = 0; i < u->count; i++) {
		ret = print_folder(f, u, i);
		if (ret == -ENOMEM)
			return ret;
		worst = worst < 0 ? worst : ret;
	}
	/* One mailbox, and it is none. */
	if (u->count == 0 && u->note_count > 0 && *u->notes[0].what == '\0')
		worst = -EBADMSG;
	for (size_t i = 0; i < u->subscribed.count; i++)
		dump_subscribed(f, u->subscribed.list[i]);
	return worst;
}

int dumper_source(FILE *f, struct source *s)
{
	struct source_user *u;
	int ret = s->ops->user(s, "", &u);

	if (ret < 0)
		return ret;
	ret = print_user(f, u);
	u->ops->leave(u);
	return ret;
}
