#include "compat/convert_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/digest.h"
#include "compat/io.h"

enum { FIRST_ROOM = 256 };

static int add(struct convert_files *f, const struct convert_file *one)
{
	if (f->count == f->room) {
		size_t room = f->room ? 2 * f->room : FIRST_ROOM;
		struct convert_file *more =
			reallocarray(f->list, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		f->list = more;
		f->room = room;
	}
	f->list[f->count++] = *one;
	return 0;
}

const char *convertfiles_name(const struct convert_file *f, const char *base,
			      char *out)
{
	if (f->odd)
		return f->odd;
	memcpy(out, base, strlen(base) + 1);
	if (!f->in_new)
		info_format(f->flags, f->letters, out + strlen(out));
	return out;
}

int convertfiles_remove(const struct convert_file *f,
			const struct convert_dirs *d,
			const struct convert_target *t)
{
	struct basename b = { .folder = t->number,
			      .uidvalidity = t->uidvalidity,
			      .uid = f->uid,
			      .date = f->date,
			      .size = f->size };
	char base[BASENAME_MAX + 1], name[CONVERT_NAME + 1];

	basename_format(&b, base);
	return io_unlink(f->in_new ? d->new : d->cur,
			 convertfiles_name(f, base, name), 0);
}

static int take(struct convert_files *f, const struct convert_target *t,
		const char *name, bool in_new)
{
	struct convert_file one = { .in_new = in_new };
	char base[BASENAME_MAX + 1], as_ours[CONVERT_NAME + 1];
	size_t len = strlen(name), base_len = info_split(name, len);
	struct basename b;

	if (name[0] == '.')
		return 0;
	if (basename_parse(name, base_len, &b) < 0 || b.folder != t->number ||
	    b.uidvalidity != t->uidvalidity) {
		f->foreign++;
		return 0;
	}
	memcpy(base, name, base_len);
	base[base_len] = '\0';
	one.uid = b.uid;
	one.size = b.size;
	one.date = b.date;
	one.hash = digest_quick(base, base_len);
	info_parse(name, len, &one.flags, &one.letters);
	if (strcmp(convertfiles_name(&one, base, as_ours), name) != 0)
		one.odd = strdup(name);
	if (strcmp(as_ours, name) != 0 && !one.odd)
		return -ENOMEM;
	return add(f, &one);
}

static int load_dir(struct convert_files *f, const struct convert_target *t,
		    int dirfd, bool in_new)
{
	int fd = io_open_beneath(dirfd, ".", O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *de;
	int ret = d ? 0 : fd < 0 ? fd : -errno;

	if (!d) {
		base_auto_close(&fd);
		return ret;
	}
	while (ret == 0) {
		ret = io_readdir(d, &de);
		if (ret < 0 || !de)
			break;
		ret = take(f, t, de->d_name, in_new);
	}
	(void)closedir(d);
	return ret;
}

static int by_uid(const void *a, const void *b)
{
	const struct convert_file *x = a, *y = b;

	return (x->uid > y->uid) - (x->uid < y->uid);
}

int convertfiles_load(struct convert_files *f, const struct convert_dirs *d,
		      const struct convert_target *t)
{
	int ret;

	convertfiles_fini(f);
	ret = load_dir(f, t, d->new, true);
	if (ret == 0)
		ret = load_dir(f, t, d->cur, false);
	if (f->count > 0)
		qsort(f->list, f->count, sizeof(*f->list), by_uid);
	return ret;
}

void convertfiles_fini(struct convert_files *f)
{
	for (size_t i = 0; i < f->count; i++)
		free(f->list[i].odd);
	free(f->list);
	*f = (struct convert_files){ .count = 0 };
}

/* A file of the same UID may be of another message: then it has another date
 * or size, and the MBX was exchanged for another one. */
struct convert_file *convertfiles_find(struct convert_files *f, uint32_t uid,
				       const char *base)
{
	uint64_t hash = digest_quick(base, strlen(base));

	while (f->next < f->count && f->list[f->next].uid < uid)
		f->next++;
	for (size_t i = f->next; i < f->count && f->list[i].uid == uid; i++)
		if (f->list[i].hash == hash)
			return &f->list[i];
	return NULL;
}
