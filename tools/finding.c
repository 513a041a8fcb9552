#include "tools/finding.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	enum finding_class class;
} kinds[] = {
	[FINDING_USER] = { "user", FINDING_DIFFERENCE },
	[FINDING_FOLDER] = { "folder", FINDING_DIFFERENCE },
	[FINDING_SUBSCRIBED] = { "subscribed", FINDING_DIFFERENCE },
	[FINDING_MESSAGE] = { "message", FINDING_DIFFERENCE },
	[FINDING_UIDVALIDITY] = { "uidvalidity", FINDING_DIFFERENCE },
	[FINDING_UIDNEXT] = { "uidnext", FINDING_DIFFERENCE },
	[FINDING_UID] = { "uid", FINDING_DIFFERENCE },
	[FINDING_SWAPPED] = { "swapped", FINDING_DIFFERENCE },
	[FINDING_FLAGS] = { "flags", FINDING_DIFFERENCE },
	[FINDING_KEYWORDS] = { "keywords", FINDING_DIFFERENCE },
	[FINDING_DATE] = { "date", FINDING_DIFFERENCE },
	[FINDING_SIZE] = { "size", FINDING_DIFFERENCE },
	[FINDING_BYTES] = { "bytes", FINDING_DIFFERENCE },
	[FINDING_LINE_ENDS] = { "line-ends", FINDING_DIFFERENCE },
	[FINDING_DAMAGED] = { "damaged", FINDING_TROUBLE },
	[FINDING_UNREADABLE] = { "unreadable", FINDING_TROUBLE },
	[FINDING_NOT_A_MAILBOX] = { "not-a-mailbox", FINDING_NOTE },
	[FINDING_CHANGING] = { "changing", FINDING_NOTE },
};

const char *finding_name(enum finding_kind kind)
{
	return kinds[kind].name;
}

enum finding_class finding_class(enum finding_kind kind)
{
	return kinds[kind].class;
}

/* In a pile: this, then the two texts, each with its NUL. */
struct record {
	enum finding_kind kind;
	uint32_t uid;
	size_t len[2]; /* 0: no text */
};

int finding_put(struct pile *p, const struct finding *f)
{
	struct record r;
	int ret;

	memset(&r, 0, sizeof(r));
	r.kind = f->kind;
	r.uid = f->uid;
	for (int i = 0; i < 2; i++)
		r.len[i] = f->side[i] ? strlen(f->side[i]) + 1 : 0;
	ret = pile_add(p, &r, sizeof(r));
	for (int i = 0; ret == 0 && i < 2; i++)
		ret = pile_add(p, f->side[i], r.len[i]);
	return ret;
}

int finding_get(struct pile *p, struct finding *out, char **buf)
{
	struct record r;
	ssize_t n = pile_get(p, &r, sizeof(r));
	size_t len;
	char *more;

	if (n <= 0)
		return n < 0 ? (int)n : -ENOENT;
	if (n != sizeof(r))
		return -EIO;
	len = r.len[0] + r.len[1];
	more = realloc(*buf, len + 1);
	if (!more)
		return -ENOMEM;
	*buf = more;
	n = pile_get(p, more, len);
	if (n < 0 || (size_t)n != len)
		return n < 0 ? (int)n : -EIO;
	*out = (struct finding){ .kind = r.kind,
				 .uid = r.uid,
				 .side = { r.len[0] ? more : NULL,
					   r.len[1] ? more + r.len[0]
						    : NULL } };
	return 0;
}

void tally_add(struct tally *to, const struct tally *from)
{
	for (int i = 0; i < 2; i++) {
		to->messages[i] += from->messages[i];
		to->octets[i] += from->octets[i];
		to->only[i] += from->only[i];
		to->ours[i] += from->ours[i];
		to->came[i] += from->came[i];
		to->folders[i] += from->folders[i];
		to->users[i] += from->users[i];
	}
	to->same += from->same;
	to->changed += from->changed;
	to->unread += from->unread;
	to->only_came += from->only_came;
	to->bare_lf += from->bare_lf;
	to->differences += from->differences;
	to->troubles += from->troubles;
}
