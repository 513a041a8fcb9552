#include "compat/mbxwalk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/mbxrec.h"
#include "compat/text.h"

enum { WALK_DEPTH = 20 }; /* as deep as c-client's LIST goes */

struct walk {
	const struct mbx_options *opt;
	store_list_fn *fn;
	void *arg;
};

const char *mbxwalk_refusal(const struct mbx_options *opt,
			    const struct stat *st)
{
	if (S_ISDIR(st->st_mode))
		return "a directory";
	if (!S_ISREG(st->st_mode))
		return "not a regular file";
	if (st->st_nlink > 1)
		return "it has hard links, so its owner is in doubt";
	if (opt->owner != (uid_t)-1 && st->st_uid != opt->owner)
		return "it belongs to another user";
	return NULL;
}

static enum mbx_kind sniff_fd(int fd)
{
	uint8_t head[MBX_HEADER_SIZE];
	ssize_t n = io_read_at(fd, head, sizeof(head), 0);

	return n < 0 ? MBX_IS_OTHER : mbx_sniff(head, (size_t)n);
}

static int report(struct walk *w, const char *path, const char *why)
{
	struct store_entry e = { .name = path,
				 .is_folder = why == NULL,
				 .why = why };

	return w->fn(&e, w->arg);
}

static int walk_file(struct walk *w, int dirfd, const char *name,
		     const char *path)
{
	AUTO_FD int fd = io_open_beneath(dirfd, name, O_RDONLY);
	bool hidden = name[0] == '.' && name[1];
	enum mbx_kind kind;
	struct stat st;
	const char *why;

	if (fd == -ENOENT)
		return 0; /* removed since it was listed */
	if (fd < 0)
		return report(w, path, "it cannot be opened for reading");
	if (fstat(fd, &st) < 0)
		return -errno;
	why = mbxwalk_refusal(w->opt, &st);
	kind = why ? MBX_IS_OTHER : sniff_fd(fd);
	if (kind == MBX_IS_MBX || kind == MBX_IS_DAMAGED)
		return report(w, path, NULL);
	if (hidden)
		return 0; /* shell start-up files and the like */
	if (kind == MBX_IS_EMPTY)
		return report(w, path, NULL);
	if (why)
		return report(w, path, why);
	return report(w, path, mbx_kind_name(kind));
}

static int walk_dir(struct walk *w, int dirfd, const char *path,
		    unsigned depth);

static int walk_sub(struct walk *w, int dirfd, const char *name,
		    const char *path, unsigned depth)
{
	AUTO_FD int fd = -1;

	if (depth >= WALK_DEPTH)
		return report(w, path, "more than 20 levels deep");
	fd = io_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return report(w, path, "it cannot be opened");
	return walk_dir(w, fd, path, depth + 1);
}

static int walk_entry(struct walk *w, int dirfd, const char *name,
		      unsigned char type, const char *path, unsigned depth)
{
	struct stat st;

	if (type == DT_UNKNOWN) {
		if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return 0;
		type = (unsigned char)IFTODT(st.st_mode);
	}
	switch (type) {
	case DT_REG:
		return walk_file(w, dirfd, name, path);
	case DT_DIR:
		if (name[0] == '.')
			return 0; /* .ssh, .cache: never mail */
		return walk_sub(w, dirfd, name, path, depth);
	case DT_LNK:
		return report(w, path,
			      "a symbolic link; these are not "
			      "followed below a user's directory");
	default:
		return report(w, path, "not a regular file");
	}
}

static int walk_dir(struct walk *w, int dirfd, const char *path, unsigned depth)
{
	char sub[PATH_MAX];
	const struct dirent *de;
	int ret = 0;
	/* A stream of its own, so that closedir() leaves the caller's fd. */
	int own = io_open_beneath(dirfd, ".", O_RDONLY | O_DIRECTORY);
	DIR *d;

	if (own < 0)
		return own;
	d = fdopendir(own);
	if (!d) {
		ret = -errno;
		(void)close(own);
		return ret;
	}
	while (ret == 0) {
		ret = io_readdir(d, &de);
		if (ret < 0 || !de)
			break;
		if (text_path(sub, sizeof(sub), "%s%s%s", path,
			      *path ? "/" : "", de->d_name) < 0)
			ret = report(w, path, "a path below it is too long");
		else
			ret = walk_entry(w, dirfd, de->d_name, de->d_type, sub,
					 depth);
	}
	(void)closedir(d);
	return ret;
}

static const char *refusal_of_kind(enum mbx_kind kind)
{
	if (kind == MBX_IS_MBX || kind == MBX_IS_DAMAGED ||
	    kind == MBX_IS_EMPTY)
		return NULL;
	return mbx_kind_name(kind);
}

int mbxwalk_list(int fd, const struct mbx_options *opt, store_list_fn *fn,
		 void *arg)
{
	struct walk w = { .opt = opt, .fn = fn, .arg = arg };
	struct stat st;
	const char *why;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return walk_dir(&w, fd, "", 1);
	why = mbxwalk_refusal(opt, &st);
	return report(&w, "", why ? why : refusal_of_kind(sniff_fd(fd)));
}
