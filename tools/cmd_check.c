#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "compat/log.h"
#include "index/check.h"
#include "tools/cmd.h"

static void show(unsigned invariant, const char *text, void *arg)
{
	(void)arg;
	(void)printf("invariant %u: %s\n", invariant, text);
}

static int run(int argc, char **argv)
{
	struct index *ix;
	int64_t n;
	int ret;

	if (argc != 2 || argv[1][0] == '-')
		return cmd_usage(&cmd_check, "one INDEX directory is needed");
	ret = index_open(argv[1], true, &ix);
	if (ret < 0) {
		log_err("check: %s: cannot be opened: %s", argv[1],
			strerrordesc_np(-ret));
		return cmd_exit_status(ret);
	}
	n = check_index(ix, show, NULL);
	index_close(ix);
	if (n < 0) {
		log_err("check: %s: %s", argv[1], strerrordesc_np((int)-n));
		return cmd_exit_status((int)n);
	}
	if (n == 0)
		(void)printf("%s: all invariants hold\n", argv[1]);
	return n == 0 ? 0 : EX_DATAERR;
}

const struct cmd cmd_check = {
	.name = "check",
	.run = run,
	.summary = "check every invariant of an index, without changing it",
	.usage = "INDEX\n\n"
		 "INDEX is the index= directory; its daemon may be running.\n"
		 "Deleting an index (daemon stopped) loses nothing.\n\n"
		 "example:\n"
		 "  janusmail check /var/lib/janusmail/srv-mail\n",
};
