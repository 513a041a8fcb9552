#include "index/harvest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compat/log.h"
#include "index/row.h"

enum { ROOM_START = 256 };

int harvest_room(void *array, size_t *room, size_t need, size_t size)
{
	size_t n = *room ? *room : ROOM_START;
	void *old, *p;

	if (need <= *room)
		return 0;
	while (n < need)
		n *= 2;
	memcpy(&old, array, sizeof(old));
	p = reallocarray(old, n, size);
	if (!p)
		return -ENOMEM;
	memcpy(array, &p, sizeof(p));
	*room = n;
	return 0;
}

void harvest_clear(struct harvest *h)
{
	free(h->items);
	free(h->names);
	*h = (struct harvest){ 0 };
}

int harvest_keep_name(struct harvest *h, const char *name, uint32_t *out)
{
	size_t len = strlen(name) + 1;
	size_t at = h->names_len ? h->names_len : 1;
	int err;

	if (len == 1 || len > ROW_NAME_MAX + 1)
		return -ENAMETOOLONG;
	if (len > UINT32_MAX - at)
		return -EOVERFLOW;
	err = harvest_room(&h->names, &h->names_room, at + len, 1);
	if (err)
		return err;
	memcpy(h->names + at, name, len);
	h->names_len = at + len;
	*out = (uint32_t)at;
	return 0;
}

int harvest_add(const struct msg *m, const char *name, void *harvest)
{
	struct harvest *h = harvest;
	struct item it = { .m = *m };
	int err;

	if (m->uid == 0) {
		h->last = true;
		h->unlisted++;
		return 0;
	}
	if (h->last || (m->flags & MSG_EXPUNGED) ||
	    (h->count > 0 && m->uid <= h->items[h->count - 1].m.uid)) {
		log_err("sync: UID %u from the store: out of order or expunged",
			m->uid);
		return -EPROTO;
	}
	if (name) {
		err = harvest_keep_name(h, name, &it.name);
		if (err)
			return err;
	}
	err = harvest_room(&h->items, &h->room, h->count + 1, sizeof(it));
	if (!err)
		h->items[h->count++] = it;
	return err;
}

const char *harvest_name(const struct harvest *h, const struct item *it)
{
	return it->name ? h->names + it->name : "";
}
