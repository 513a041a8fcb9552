/*
 * replay.c - run a fuzz target over the files of its corpus, without libFuzzer
 *
 * Arguments are files, or directories whose files are taken (not deeper). A
 * run without any file fails: a corpus that moved must not pass in silence.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "compat/base.h"
#include "compat/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static unsigned files;

/* A buffer of the exact size, so that ASan sees the first octet beyond it. */
static int run_file(const char *path)
{
	AUTO_FREE uint8_t *data = NULL;
	FILE *f = fopen(path, "rbe");
	struct stat st;
	size_t len = 0;
	int err = -1;

	if (f && fstat(fileno(f), &st) == 0)
		data = malloc((size_t)st.st_size + !st.st_size);
	if (data) {
		len = fread(data, 1, (size_t)st.st_size, f);
		err = len == (size_t)st.st_size ? 0 : -1;
	}
	if (f)
		(void)fclose(f);
	if (err < 0) {
		(void)fprintf(stderr, "%s: cannot read it\n", path);
		return err;
	}
	files++;
	return LLVMFuzzerTestOneInput(data, len);
}

static int run_dir(const char *path)
{
	struct dirent **list;
	char name[4096];
	int n = scandir(path, &list, NULL, alphasort);
	int failed = n < 0;
	int i;

	for (i = 0; i < n; i++) {
		struct stat st;

		if (text_path(name, sizeof(name), "%s/%s", path,
			      list[i]->d_name) < 0 ||
		    stat(name, &st) < 0)
			failed = 1;
		else if (S_ISREG(st.st_mode))
			failed |= run_file(name) != 0;
		free(list[i]);
	}
	if (n >= 0)
		free(list);
	return failed;
}

int main(int argc, char **argv)
{
	int failed = 0;
	int i;

	for (i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			failed |= run_dir(argv[i]);
		else
			failed |= run_file(argv[i]) != 0;
	}
	if (!files)
		(void)fprintf(stderr, "no file to replay\n");
	else
		(void)printf("%u files replayed\n", files);
	return failed || !files;
}
