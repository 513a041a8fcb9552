#include "tools/convert_list.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "compat/basename.h"
#include "compat/dotlock.h"
#include "compat/io.h"
#include "compat/uidlist.h"

enum {
	LIST_MAX = 1 << 30,
	GAP = 128, /* the first line is known last; it ends where this ends */
	LOCK_MS = 2000,
};

static const char file[] = "dovecot-uidlist";
static const char lock[] = "dovecot-uidlist.lock";

/* A record of the list that is there. */
struct was {
	struct uidlist_record r;
	/* Of a message of the MBX: the UID in its name, else 0. */
	uint32_t ours;
};

struct convert_list {
	struct convert_list_of of;
	char *text;
	struct uidlist_header head; /* version 0: there was no list */
	struct was *was;
	size_t count, room, next;
	bool others; /* it has messages of the MBX under other UIDs */
	FILE *f;
	uint32_t last;
};

/* ---- what is there ------------------------------------------------------- */

static int take_record(const struct uidlist_record *r, void *arg)
{
	struct convert_list *l = arg;
	struct was w = { .r = *r };
	struct basename b;

	if (basename_parse(r->name, r->name_len, &b) == 0 &&
	    b.folder == l->of.number && b.uidvalidity == l->of.uidvalidity)
		w.ours = b.uid;
	l->others = l->others || (w.ours != 0 && w.ours != r->uid);
	if (l->count == l->room) {
		size_t room = l->room ? 2 * l->room : 256;
		struct was *more = reallocarray(l->was, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->was = more;
		l->room = room;
	}
	l->was[l->count++] = w;
	return 0;
}

static int load(struct convert_list *l)
{
	size_t len;
	int ret = io_read_file(l->of.dirfd, file, LIST_MAX, &l->text, &len);

	if (ret == 0)
		ret = uidlist_parse(l->text, len, &l->head, take_record, l);
	if (ret == -ENOENT)
		return 0;
	/* That of an earlier UIDVALIDITY says nothing. */
	if (ret == 0 && l->head.uidvalidity != l->of.uidvalidity) {
		l->count = 0;
		l->others = false;
		l->head.uidnext = 0;
	}
	return ret;
}

int convert_list_open(const struct convert_list_of *of, const char *scratch,
		      struct convert_list **out)
{
	struct convert_list *l = calloc(1, sizeof(*l));
	AUTO_FD int fd = l ? io_scratch(scratch, GAP) : -ENOMEM;
	int ret = fd < 0 ? fd : 0;

	if (!l)
		return ret;
	l->of = *of;
	if (ret == 0) {
		l->f = fdopen(fd, "w+");
		ret = l->f ? 0 : -errno;
	}
	if (l->f)
		(void)base_steal_fd(&fd);
	if (ret == 0)
		ret = load(l);
	if (ret == 0)
		ret = convert_list_restart(l);
	if (ret < 0) {
		convert_list_close(l);
		return ret;
	}
	*out = l;
	return 0;
}

void convert_list_close(struct convert_list *l)
{
	if (!l)
		return;
	if (l->f)
		(void)fclose(l->f);
	free(l->was);
	free(l->text);
	free(l);
}

/* ---- what is to be there ------------------------------------------------- */

int convert_list_restart(struct convert_list *l)
{
	l->next = 0;
	l->last = 0;
	return fseek(l->f, GAP, SEEK_SET) != 0 ? -errno : 0;
}

static void write_record(struct convert_list *l, const struct uidlist_record *r)
{
	if (uidlist_write_record(l->f, r))
		l->last = r->uid;
}

/* Records below @uid that are not of the MBX, or not under its UID. */
static void write_others(struct convert_list *l, uint64_t uid)
{
	for (; l->next < l->count && l->was[l->next].r.uid < uid; l->next++)
		if (l->was[l->next].ours != l->was[l->next].r.uid)
			write_record(l, &l->was[l->next].r);
}

static bool has_other_uid(const struct convert_list *l, uint32_t uid)
{
	for (size_t i = 0; l->others && i < l->count; i++)
		if (l->was[i].ours == uid && l->was[i].r.uid != uid)
			return true;
	return false;
}

int convert_list_add(struct convert_list *l, const struct msg *m,
		     const char *base)
{
	struct uidlist_record r = { .uid = m->uid,
				    .psize = UINT64_MAX,
				    .vsize = UINT64_MAX,
				    .name = base,
				    .name_len = strlen(base) };
	const struct was *w;

	write_others(l, m->uid);
	w = l->next < l->count ? &l->was[l->next] : NULL;
	if (has_other_uid(l, m->uid))
		return 0;
	if (w && w->r.uid == m->uid) {
		if (w->ours != m->uid)
			return -EEXIST;
		/* What Dovecot has noted of it is true still. */
		if (w->r.name_len == r.name_len &&
		    memcmp(w->r.name, base, r.name_len) == 0)
			r = w->r;
		l->next++;
	}
	write_record(l, &r);
	return ferror(l->f) ? -EIO : 0;
}

/* The header ends where the records begin. */
static int put(struct convert_list *l, const struct uidlist_header *h,
	       size_t size)
{
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
			 fileno(l->f), 0);
	AUTO_FREE char *line = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&line, &len);
	int ret = map == MAP_FAILED ? -errno : f ? 0 : -ENOMEM;

	if (f) {
		uidlist_write_header(f, h);
		if (fclose(f) != 0 && ret == 0)
			ret = -ENOMEM;
	}
	if (ret == 0 && len > GAP)
		ret = -EOVERFLOW;
	if (ret == 0) {
		memcpy(map + GAP - len, line, len);
		ret = io_replace_file(l->of.dirfd, file, map + GAP - len,
				      size - GAP + len, l->of.uid, l->of.gid);
	}
	if (map != MAP_FAILED)
		(void)munmap(map, size);
	return ret;
}

int convert_list_finish(struct convert_list *l, uint32_t uidnext)
{
	struct uidlist_header h = { .version = 3,
				    .uidvalidity = l->of.uidvalidity,
				    .uidnext = uidnext };
	long size;
	int ret;

	write_others(l, UINT64_MAX);
	if (h.uidnext <= l->last)
		h.uidnext = l->last + 1;
	if (h.uidnext < l->head.uidnext)
		h.uidnext = l->head.uidnext;
	(void)snprintf(h.guid, sizeof(h.guid), "%s",
		       l->head.guid[0] ? l->head.guid : l->of.guid);
	size = ftell(l->f);
	if (size < 0 || fflush(l->f) != 0 || ferror(l->f))
		return -EIO;
	if (ftruncate(fileno(l->f), size) < 0)
		return -errno;
	ret = dotlock_take(l->of.uid, l->of.gid, l->of.dirfd, lock, LOCK_MS);
	if (ret < 0)
		return ret;
	ret = put(l, &h, (size_t)size);
	dotlock_drop(l->of.dirfd, lock);
	return ret;
}
