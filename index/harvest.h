/*
 * harvest.h - what a scan delivered, in memory: 56 octets a message, and names.
 *
 *	struct harvest h = { 0 };
 *	box->ops->scan(box, &scan, harvest_add, &h);
 *	... h.items[0 .. h.count - 1], by ascending UID ...
 *	harvest_clear(&h);
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "compat/base.h"
#include "compat/msg.h"

/* What becomes of a scanned message's row. */
enum item_op { ITEM_SAME, ITEM_ADDED, ITEM_CHANGED, ITEM_RENAMED };

struct item {
	struct msg m;
	uint32_t name; /* where its name starts in the arena; 0: none */
	uint16_t op;
	bool plain; /* known to have no name of its own */
};

/* The arena's first octet is not used. */
struct harvest {
	struct item *items;
	size_t count, room;
	char *names;
	size_t names_len, names_room;
	uint64_t unlisted; /* messages without a UID: no items */
	bool last;	   /* they have begun */
};

/**
 * harvest_add - a store_msg_fn
 * @harvest: a struct harvest
 * Return: 0; -EPROTO (logged) when the UIDs do not ascend; -errno.
 */
MUST_CHECK int harvest_add(const struct msg *m, const char *name,
			   void *harvest);
/** harvest_keep_name - @name into the arena; @out: for item.name
 * Return: 0; -ENAMETOOLONG, also for ""; -errno. */
MUST_CHECK int harvest_keep_name(struct harvest *h, const char *name,
				 uint32_t *out);
/** harvest_name - the item's name, "" if it has none of its own; good until
 * the next name is kept */
const char *harvest_name(const struct harvest *h, const struct item *it);
/** harvest_clear - give back the memory; empty again */
void harvest_clear(struct harvest *h);

/** harvest_room - make room for @need elements of @size octets
 * @array: address of a pointer to them; @room: how many there is room for */
MUST_CHECK int harvest_room(void *array, size_t *room, size_t need,
			    size_t size);
