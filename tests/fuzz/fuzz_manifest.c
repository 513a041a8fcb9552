/*
 * The input as a manifest: what is accepted gives its messages, and written
 * again it is the same file. And as a line in a file whose hashes are right, so
 * that what lies behind the hashes is reached.
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "compat/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int file_with(const void *data, size_t size)
{
	int fd = memfd_create("manifest", MFD_CLOEXEC);

	assert(fd >= 0);
	assert(write(fd, data, size) == (ssize_t)size);
	return fd;
}

static void write_folder(struct manifest_writer *w, int fd,
			 const struct manifest_folder *f)
{
	char line[MANIFEST_LINE_MAX + 1];
	struct manifest_cursor *c;
	uint64_t messages = 0, octets = 0;
	struct fact m;
	int ret;

	assert(manifest_folder_text(w, line, manifest_folder_line(f, line)) ==
	       0);
	assert(manifest_open(fd, f, &c) == 0);
	while ((ret = manifest_next(c, &m)) == 0) {
		assert(manifest_folder_text(w, line,
					    manifest_message_line(&m, line)) ==
		       0);
		messages++;
		octets += m.size;
	}
	assert(ret == -ENOENT);
	manifest_close(c);
	assert(messages == f->messages && octets == f->octets);
	assert(manifest_end_folder(w, messages, octets) == 0);
}

static void write_again(struct manifest_writer *w, int fd,
			const struct manifest *m)
{
	char root[DIGEST_HEX + 1];

	for (size_t i = 0; i < m->count; i++) {
		const struct manifest_user *u = &m->users[i];

		assert(manifest_begin_user(w, u->name) == 0);
		for (size_t k = 0; k < u->count; k++)
			write_folder(w, fd, &u->folders[k]);
		for (size_t k = 0; k < u->subscribed_count; k++)
			assert(manifest_subscribed(w, u->subscribed[k]) == 0);
		assert(manifest_end_user(w) == 0);
	}
	assert(manifest_end(w, root) == 0);
	assert(strcmp(root, m->root) == 0);
}

/* Return: whether it is one. */
static int check(const void *data, size_t size)
{
	int fd = file_with(data, size), ret;
	struct manifest_writer *w;
	struct manifest_fault fault;
	struct manifest m;
	char *text = NULL;
	size_t len = 0;
	FILE *f;

	ret = manifest_load(fd, &m, &fault);
	if (ret == 0) {
		f = open_memstream(&text, &len);
		w = manifest_writer_new(f);
		assert(f && w);
		write_again(w, fd, &m);
		manifest_writer_free(w);
		assert(fclose(f) == 0);
		assert(len == size && memcmp(text, data, size) == 0);
		free(text);
		manifest_fini(&m);
	} else {
		assert(ret == -EBADMSG && fault.line && *fault.text);
		assert(!m.users && !m.count);
	}
	(void)close(fd);
	return ret == 0;
}

/* A folder with the input as its lines, and all hashes right. */
static void check_lines(const char *data, size_t size)
{
	char root[DIGEST_HEX + 1], *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	struct manifest_writer *w = manifest_writer_new(f);

	assert(f && w);
	assert(manifest_begin_user(w, "u") == 0);
	assert(manifest_folder_text(w, data, size) == 0);
	assert(manifest_end_folder(w, 1, 5) == 0);
	assert(manifest_end_user(w) == 0);
	assert(manifest_end(w, root) == 0);
	manifest_writer_free(w);
	assert(fclose(f) == 0);
	(void)check(text, len);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	(void)check(data, size);
	check_lines((const char *)data, size);
	return 0;
}
