#include "tools/convert_note.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/io.h"
#include "compat/text.h"

static const char dir_name[] = "converted";
static const char magic[] = "janusmail-converted 1 ";

enum { NOTE_MAX = 4096, NUMBERS = 10 };

static int open_dir(int state_fd, bool make)
{
	int ret = make
		? io_mkdir(state_fd, dir_name, 0700, (uid_t)-1, (gid_t)-1)
		: 0;

	if (ret < 0 && ret != -EEXIST)
		return ret;
	return io_open_within(state_fd, dir_name, O_RDONLY | O_DIRECTORY);
}

static int parse(const char *text, size_t len, uint64_t *numbers)
{
	const uint8_t *p = (const uint8_t *)text + sizeof(magic) - 1;
	const uint8_t *end = (const uint8_t *)text + len;

	if (len < sizeof(magic) || memcmp(text, magic, sizeof(magic) - 1) != 0)
		return -EBADMSG;
	for (size_t i = 0; i < NUMBERS; i++) {
		if (text_number(&p, end, UINT64_MAX, &numbers[i]) < 0 ||
		    p == end || *p++ != (i + 1 < NUMBERS ? ' ' : '\n'))
			return -EBADMSG;
	}
	return p == end ? 0 : -EBADMSG;
}

int convert_note_read(int state_fd, uint32_t number, struct convert_left *out)
{
	AUTO_FD int dir = open_dir(state_fd, false);
	AUTO_FREE char *text = NULL;
	uint64_t n[NUMBERS] = { 0 };
	char name[16];
	size_t len;
	int ret;

	if (dir < 0)
		return dir;
	(void)snprintf(name, sizeof(name), "%08x", number);
	ret = io_read_file(dir, name, NOTE_MAX, &text, &len);
	if (ret == 0)
		ret = parse(text, len, n);
	if (ret < 0)
		return ret == -EBADMSG ? -ENOENT : ret;
	*out = (struct convert_left){
		.stamp = { .dev = n[0],
			   .ino = n[1],
			   .size = n[2],
			   .mtime_ns = (int64_t)n[3],
			   .ctime_ns = (int64_t)n[4] },
		.cur_ns = (int64_t)n[5],
		.new_ns = (int64_t)n[6],
		.messages = n[7],
		.octets = n[8],
		.uidnext = n[9] < UINT32_MAX ? (uint32_t)n[9] : UINT32_MAX,
	};
	return 0;
}

int convert_note_write(int state_fd, uint32_t number,
		       const struct convert_left *l)
{
	const uint64_t n[NUMBERS] = {
		l->stamp.dev,
		l->stamp.ino,
		l->stamp.size,
		(uint64_t)l->stamp.mtime_ns,
		(uint64_t)l->stamp.ctime_ns,
		(uint64_t)l->cur_ns,
		(uint64_t)l->new_ns,
		l->messages,
		l->octets,
		l->uidnext,
	};
	AUTO_FD int dir = open_dir(state_fd, true);
	char name[16], text[NOTE_MAX];
	size_t len = sizeof(magic) - 1;

	if (dir < 0)
		return dir;
	(void)snprintf(name, sizeof(name), "%08x", number);
	memcpy(text, magic, len);
	for (size_t i = 0; i < NUMBERS; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len,
					"%" PRIu64 "%c", n[i],
					i + 1 < NUMBERS ? ' ' : '\n');
	return io_replace_file(dir, name, text, len, (uid_t)-1, (gid_t)-1);
}
