#include "fs/process.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "compat/log.h"

enum {
	FILES_WANTED = 1 << 20,
	FILES_FEW = 4096, /* what an ordinary user may have by old custom */
};

uint64_t process_files(void)
{
	struct rlimit files;

	return getrlimit(RLIMIT_NOFILE, &files) < 0 ? 0 : files.rlim_cur;
}

/* A descriptor for every file the kernel knows, and for each that is open. */
static void raise_file_limit(void)
{
	struct rlimit files,
		more = { .rlim_cur = FILES_WANTED, .rlim_max = FILES_WANTED };

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return;
	if (files.rlim_max >= FILES_WANTED || geteuid() != 0 ||
	    setrlimit(RLIMIT_NOFILE, &more) < 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	if (process_files() < FILES_FEW)
		log_warn("open files: no more than the usual limit of %ju: "
			 "big folders will be slow; raise it (LimitNOFILE= of "
			 "the unit, or ulimit -Hn)",
			 (uintmax_t)process_files());
}

static void *wait_for_the_end(void *arg)
{
	for (;;)
		(void)pause();
	return arg;
}

/*
 * libfuse ends its threads with pthread_cancel(), for which glibc loads
 * libgcc_s. When that is tried with no descriptor left the process is aborted;
 * so a first thread is cancelled now.
 */
static void load_unwinder(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, wait_for_the_end, NULL) != 0)
		return;
	(void)pthread_cancel(t);
	(void)pthread_join(t, NULL);
}

void process_prepare(void)
{
	raise_file_limit();
	load_unwinder();
	if (geteuid() == 0 && setgroups(0, NULL) < 0)
		log_warn("supplementary groups stay: %s",
			 strerrordesc_np(errno));
}
