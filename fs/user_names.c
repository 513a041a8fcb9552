#include "fs/user.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "compat/io.h"
#include "compat/log.h"
#include "compat/pattern.h"
#include "compat/place.h"
#include "compat/text.h"

struct names {
	struct fs *fs;
	char **names;
	size_t count;
};

static int add_name(const char *name, void *arg)
{
	struct names *n = arg;
	char **more;
	char word[400];
	int ret = pattern_user_valid(name) ? place_exists(&n->fs->places, name)
					   : -ENOENT;

	if (ret == -ELOOP)
		log_warn("user %s: not shown: a symbolic link lies where the "
			 "mail should be",
			 text_escape(name, strlen(name), word, sizeof(word)));
	if (ret < 0)
		return 0;
	more = reallocarray(n->names, n->count + 1, sizeof(*more));
	if (!more)
		return -ENOMEM;
	n->names = more;
	more[n->count] = strdup(name);
	if (!more[n->count])
		return -ENOMEM;
	n->count++;
	return 0;
}

static int add_native(struct names *n)
{
	const struct dirent *de;
	int ret = 0;
	int fd = io_open_beneath(n->fs->store_fd, ".", O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		base_auto_close(&fd);
		return fd < 0 ? fd : -EIO;
	}
	while (ret == 0) {
		ret = io_readdir(d, &de);
		if (ret < 0 || !de)
			break;
		if (de->d_type == DT_DIR || de->d_type == DT_UNKNOWN)
			ret = add_name(de->d_name, n);
	}
	(void)closedir(d);
	return ret;
}

static int gather_names(struct names *n)
{
	const struct options *o = n->fs->opt;
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < o->inbox_count; i++)
		ret = pattern_users(&o->inbox[i], add_name, n);
	if (ret == 0 && o->has_folders)
		ret = pattern_users(&o->folders, add_name, n);
	return ret == 0 ? add_native(n) : ret;
}

static int by_text(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

int user_each_name(struct fs *fs, user_name_fn *fn, void *arg)
{
	struct names n = { .fs = fs };
	int ret;

	if (!fs->multi)
		return fn("", arg);
	ret = gather_names(&n);
	if (n.count > 0)
		qsort(n.names, n.count, sizeof(*n.names), by_text);
	for (size_t i = 0; ret == 0 && i < n.count; i++)
		if (i == 0 || strcmp(n.names[i - 1], n.names[i]) != 0)
			ret = fn(n.names[i], arg);
	for (size_t i = 0; i < n.count; i++)
		free(n.names[i]);
	free(n.names);
	return ret;
}
