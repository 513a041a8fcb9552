#include "tools/source.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "compat/text.h"

int source_init(struct source *s, const struct source_ops *ops,
		const char *kind, const char *spec)
{
	*s = (struct source){ .ops = ops, .kind = kind, .spec = strdup(spec) };
	return s->spec ? 0 : -ENOMEM;
}

void source_fini(struct source *s)
{
	names_fini(&s->users);
	free(s->spec);
}

const char *source_why(int err)
{
	const char *text;

	switch (err) {
	case -EAGAIN:
		return "it stays locked";
	case -ESTALE:
		return "it keeps changing";
	case -EMLINK:
		return "it has hard links, so its owner is in doubt";
	case -ENOTSUP:
		return "it is not a regular file";
	case -ELOOP:
		return "a symbolic link; these are not followed";
	case -EREMOTE:
		return "it is on a network filesystem, where UW does not lock";
	case -EBADMSG:
		return "it is damaged";
	default:
		text = strerrordesc_np(-err);
		return text ? text : "unknown error";
	}
}

int source_add_folder(struct source_user *u, const char *dir, uint64_t octets)
{
	struct source_folder *more =
		reallocarray(u->folders, u->count + 1, sizeof(*more));

	if (!more)
		return -ENOMEM;
	u->folders = more;
	more[u->count].octets = octets;
	(void)snprintf(more[u->count].dir, sizeof(more->dir), "%s", dir);
	u->count++;
	return 0;
}

int source_add_note(struct source_user *u, const char *what, const char *why,
		    bool trouble)
{
	struct source_note *more =
		reallocarray(u->notes, u->note_count + 1, sizeof(*more));
	char word[PATH_MAX];

	if (!more)
		return -ENOMEM;
	u->notes = more;
	more += u->note_count;
	(void)text_escape(what, strlen(what), word, sizeof(word));
	*more = (struct source_note){ .what = strdup(word),
				      .why = strdup(why),
				      .trouble = trouble };
	u->note_count++;
	return more->what && more->why ? 0 : -ENOMEM;
}

void source_user_fini(struct source_user *u)
{
	for (size_t i = 0; i < u->note_count; i++) {
		free(u->notes[i].what);
		free(u->notes[i].why);
	}
	free(u->notes);
	free(u->folders);
	names_fini(&u->subscribed);
}
