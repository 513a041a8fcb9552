#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "compat/log.h"
#include "compat/text.h"
#include "tools/cmd.h"

enum { EXIT_SYSTEM = 2 };

/* The daemon beside this very file, so that a build tree uses its own. */
static int beside(char *out, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n < 0)
		return -errno;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (!slash)
		return -ENOENT;
	*slash = '\0';
	return text_path(out, size, "%s/janusmaild", self);
}

/* All options are the daemon's, its --help too. */
static int run(int argc, char **argv)
{
	char path[PATH_MAX];

	(void)argc;
	if (beside(path, sizeof(path)) < 0 || access(path, X_OK) != 0)
		(void)memcpy(path, SBINDIR "/janusmaild",
			     sizeof(SBINDIR "/janusmaild"));
	argv[0] = path;
	(void)execv(path, argv);
	log_err("mount: %s: %s; is janusmail installed as a whole?", path,
		strerrordesc_np(errno));
	return EXIT_SYSTEM;
}

const struct cmd cmd_mount = {
	.name = "mount",
	.run = run,
	.summary = "show unconverted mailboxes as one Maildir++ tree",
	.usage = "[-f] [-o OPTIONS] [SOURCE] MOUNTPOINT\n",
};
