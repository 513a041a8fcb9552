/*
 * as_nfs - what lies below a directory seems to lie on NFS.
 *
 *	LD_PRELOAD=.../libas_nfs.so AS_NFS=DIRECTORY janusmaild ...
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The name of fstatfs() in programs with 64-bit offsets. */
int fstatfs64(int fd, struct statfs64 *out)
{
	int (*real)(int, struct statfs64 *) =
		(int (*)(int, struct statfs64 *))dlsym(RTLD_NEXT, "fstatfs64");
	const char *below = getenv("AS_NFS");
	char link[32], path[4096];
	int ret = real(fd, out);
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (ret == 0 && below && *below &&
	    strncmp(path, below, strlen(below)) == 0)
		out->f_type = 0x6969;
	return ret;
}
