/*
 * A keyword that has lost its slot to another one gets a new slot.
 *
 * Two sessions of UW that make a keyword each take the same free slot; whoever
 * writes the header last has given all messages his (src/osdep/unix/mbx.c,
 * mbx_update_header()). Bits are moved only while nobody else has the mailbox
 * open: sessions remember which slot is whose.
 *
 * The name comes first, then the messages; each gets the new bit and loses the
 * old one in one write. Who is stopped in between does it again.
 */
#include "compat/mbx_internal.h"

#include <strings.h>

#include "compat/io.h"

struct slots {
	const struct keywords *shown;
	const struct msg *list;
	size_t count;
	int to[KEYWORD_SLOTS]; /* where the keyword shown in a slot goes; -1 */
};

static int find_slots(struct mbx_box *b, struct slots *s)
{
	const struct keywords *disk = &b->session->header.keywords;
	unsigned slot = 0;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < KEYWORD_SLOTS; i++) {
		const char *name = s->shown->name[i];

		s->to[i] = -1;
		if (!name[0] || !disk->name[i][0] ||
		    strcasecmp(name, disk->name[i]) == 0)
			continue;
		ret = mbx_keyword(&b->base, name, &slot);
		s->to[i] = (int)slot;
	}
	return ret;
}

static uint32_t moved(const struct slots *s, uint32_t shown, uint32_t disk)
{
	for (unsigned i = 0; i < KEYWORD_SLOTS; i++) {
		uint32_t bit = UINT32_C(1) << i;

		if (s->to[i] < 0 || !(shown & bit))
			continue;
		disk &= ~bit;
		disk |= UINT32_C(1) << s->to[i];
	}
	return disk;
}

static int move_one(struct mbx_box *b, const struct slots *s,
		    const struct msg *m)
{
	struct mbx_record r;
	int ret = mbx_line_of(b, m, &r);
	uint32_t now;

	if (ret < 0)
		return ret;
	now = moved(s, m->keywords, r.keywords);
	if (now == r.keywords)
		return 0;
	r.keywords = now;
	return mbx_write_flags(b, m->off, &r);
}

static int reslot(struct mbx_box *b, void *arg)
{
	struct slots *s = arg;
	int ret = find_slots(b, s);

	if (ret == 0)
		ret = io_fsync(b->write_fd);
	for (size_t i = 0; ret == 0 && i < s->count; i++)
		ret = move_one(b, s, &s->list[i]);
	return ret == 0 ? io_fsync(b->write_fd) : ret;
}

int mbx_reslot(struct box *box, const struct keywords *shown,
	       const struct msg *list, size_t count)
{
	struct slots s = { .shown = shown, .list = list, .count = count };

	return mbx_alone(box, reslot, &s);
}
