#include "tools/pile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { IN_MEMORY = 256 << 10 };

static int to_memory(struct pile *p, const void *data, size_t len)
{
	if (p->room - p->len < len) {
		size_t room = 2 * p->room + len;
		char *more = realloc(p->mem, room);

		if (!more)
			return -ENOMEM;
		p->mem = more;
		p->room = room;
	}
	memcpy(p->mem + p->len, data, len);
	p->len += len;
	return 0;
}

/* Without a temporary file it all stays in memory. */
static void turn_to_file(struct pile *p)
{
	FILE *f = tmpfile();

	if (!f)
		return;
	if (fwrite(p->mem, 1, p->len, f) != p->len || fflush(f) != 0) {
		(void)fclose(f);
		return;
	}
	p->file = f;
	free(p->mem);
	p->mem = NULL;
	p->len = p->room = 0;
}

int pile_add(struct pile *p, const void *data, size_t len)
{
	if (!p->file && p->len + len > IN_MEMORY && p->len > 0)
		turn_to_file(p);
	if (!p->file)
		return len ? to_memory(p, data, len) : 0;
	return fwrite(data, 1, len, p->file) == len ? 0 : -EIO;
}

int pile_rewind(struct pile *p)
{
	p->at = 0;
	return p->file && (fflush(p->file) != 0 || fseek(p->file, 0, SEEK_SET))
		? -EIO
		: 0;
}

ssize_t pile_get(struct pile *p, void *data, size_t len)
{
	if (p->file) {
		len = fread(data, 1, len, p->file);
		return ferror(p->file) ? -EIO : (ssize_t)len;
	}
	if (len > p->len - p->at)
		len = p->len - p->at;
	if (len > 0)
		memcpy(data, p->mem + p->at, len);
	p->at += len;
	return (ssize_t)len;
}

void pile_fini(struct pile *p)
{
	if (p->file)
		(void)fclose(p->file);
	free(p->mem);
	*p = (struct pile){ .len = 0 };
}
