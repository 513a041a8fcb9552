#include "fs/lockdir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/io.h"
#include "compat/log.h"
#include "compat/text.h"

#define TMP "/tmp"

static int check_place(const struct options *opt)
{
	AUTO_FD int fd = open(opt->lockdir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *name;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		int err = errno;

		log_err("lockdir=%s: %s; it must be the directory in which UW "
			"makes its lock files",
			opt->lockdir, strerrordesc_np(err));
		return -err;
	}
	if (io_is_network_fs(fd, &name)) {
		log_err("lockdir=%s: lies on %s, where UW's locks do nothing",
			opt->lockdir, name);
		return -EREMOTE;
	}
	/* Its owner may be the only one who has mail. */
	if ((st.st_mode & (S_IWOTH | S_ISVTX)) != (S_IWOTH | S_ISVTX))
		log_warn("lockdir=%s: should be mode 1777: every UW process "
			 "must be able to make its lock files there",
			 opt->lockdir);
	return 0;
}

/* ---- everybody's /tmp ---------------------------------------------------- */

/* A directory, as the filesystem and the one on it. */
struct place {
	char dev[32];
	char root[PATH_MAX];
};

/* What some process sees. */
struct sight {
	struct place root, tmp; /* dev "": cannot be told */
};

/* "36 35 98:0 /root /mountpoint ...", proc(5). The last line for a mountpoint
 * is the one on top. */
static void look_at_mount(char *line, struct sight *out)
{
	char *save = NULL;
	const char *field[5] = { NULL };
	struct place *p;

	for (unsigned i = 0; i < ARRAY_LEN(field); i++, line = NULL) {
		field[i] = strtok_r(line, " ", &save);
		if (!field[i])
			return;
	}
	if (strcmp(field[4], "/") == 0)
		p = &out->root;
	else if (strcmp(field[4], TMP) == 0)
		p = &out->tmp;
	else
		return;
	(void)snprintf(p->dev, sizeof(p->dev), "%s", field[2]);
	(void)snprintf(p->root, sizeof(p->root), "%s", field[3]);
}

static void add_tmp(struct sight *s)
{
	const char *root = strcmp(s->root.root, "/") == 0 ? "" : s->root.root;

	if (s->tmp.dev[0] || !s->root.dev[0])
		return;
	memcpy(s->tmp.dev, s->root.dev, sizeof(s->tmp.dev));
	(void)!text_path(s->tmp.root, sizeof(s->tmp.root), "%s%s", root, TMP);
}

static bool see(const char *mountinfo, struct sight *out)
{
	AUTO_FREE char *line = NULL;
	FILE *f = fopen(mountinfo, "re");
	size_t size = 0;

	*out = (struct sight){ .root = { .dev = "" } };
	if (!f)
		return false;
	while (getline(&line, &size, f) > 0)
		look_at_mount(line, out);
	(void)fclose(f);
	add_tmp(out);
	return out->root.dev[0] != '\0';
}

static bool same_place(const struct place *a, const struct place *b)
{
	return strcmp(a->dev, b->dev) == 0 && strcmp(a->root, b->root) == 0;
}

/*
 * Where it cannot be told it is taken to be: nobody may be kept from mounting
 * by a /proc that shows less. In a chroot or a container with a root of its own
 * process 1, if it is outside, says nothing about the UW in there.
 */
static bool is_everybodys(void)
{
	struct sight ours, all;
	struct stat st;

	if (lstat(TMP, &st) < 0 || !S_ISDIR(st.st_mode) ||
	    !see("/proc/self/mountinfo", &ours) ||
	    !see("/proc/1/mountinfo", &all) ||
	    !same_place(&ours.root, &all.root))
		return true;
	return same_place(&ours.tmp, &all.tmp);
}

int lockdir_check(const struct options *opt)
{
	int ret = check_place(opt);

	if (ret < 0 || opt->has_lockdir || is_everybodys())
		return ret;
	log_err("/tmp is not the /tmp of the rest of the system, so UW would "
		"not see our locks, nor we UW's: set PrivateTmp=no in the unit "
		"that starts janusmaild; if all that use UW's mailboxes have "
		"this /tmp, too, say so with -o lockdir=/tmp");
	return -EXDEV;
}
