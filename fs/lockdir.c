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

/* The filesystem and the directory on it that some process sees as /tmp. */
struct tmp_place {
	char dev[32];
	char root[PATH_MAX];
};

/* "36 35 98:0 /root /mountpoint ...", proc(5). The last line for a mountpoint
 * is the one on top. */
static void look_at_mount(char *line, struct tmp_place *out, bool *on_top)
{
	char *save = NULL;
	const char *field[5] = { NULL };
	bool is_tmp;

	for (unsigned i = 0; i < ARRAY_LEN(field); i++, line = NULL) {
		field[i] = strtok_r(line, " ", &save);
		if (!field[i])
			return;
	}
	is_tmp = strcmp(field[4], TMP) == 0;
	if (!is_tmp && (*on_top || strcmp(field[4], "/") != 0))
		return;
	*on_top |= is_tmp;
	(void)snprintf(out->dev, sizeof(out->dev), "%s", field[2]);
	(void)snprintf(out->root, sizeof(out->root), "%s%s",
		       strcmp(field[3], "/") == 0 ? "" : field[3],
		       is_tmp ? "" : TMP);
}

static int read_place(const char *mountinfo, struct tmp_place *out)
{
	AUTO_FREE char *line = NULL;
	FILE *f = fopen(mountinfo, "re");
	bool on_top = false;
	size_t size = 0;

	*out = (struct tmp_place){ .dev = "" };
	if (!f)
		return -errno;
	while (getline(&line, &size, f) > 0)
		look_at_mount(line, out, &on_top);
	(void)fclose(f);
	return out->dev[0] ? 0 : -ENOENT;
}

/* Where it cannot be told it is taken to be: nobody may be kept from mounting
 * by a /proc that shows less. */
static bool is_everybodys(void)
{
	struct tmp_place ours, all;
	struct stat st;

	if (lstat(TMP, &st) < 0 || !S_ISDIR(st.st_mode) ||
	    read_place("/proc/self/mountinfo", &ours) < 0 ||
	    read_place("/proc/1/mountinfo", &all) < 0)
		return true;
	return strcmp(ours.dev, all.dev) == 0 &&
		strcmp(ours.root, all.root) == 0;
}

int lockdir_check(const struct options *opt)
{
	int ret = check_place(opt);

	if (ret < 0 || opt->has_lockdir || is_everybodys())
		return ret;
	log_err("/tmp is not the /tmp of the rest of the system, so UW would "
		"not see our locks, nor we UW's: set PrivateTmp=no in the unit "
		"that starts janusmaild, or hand /tmp into the container; if "
		"UW, too, has only this one, say so with lockdir=/tmp");
	return -EXDEV;
}
