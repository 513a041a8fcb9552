/*
 * The input is a mailbox file, read through the back end. What it delivers must
 * lie inside the file, in order, one after the other; reading must give just
 * those octets; and going on where the scan ended must show nothing new.
 */
#include "compat/mbx.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compat/mbxrec.h"
#include "compat/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static char dir[] = "/tmp/janusmail-fuzz-XXXXXX";
static struct pattern root;
static struct store *store;

/* What a scan gave so far. */
struct seen {
	struct box *box;
	const uint8_t *data;
	size_t len;
	uint64_t end; /* of the last message */
	uint32_t uid; /* its UID */
	uint64_t count;
};

static void file_path(char *out, size_t size)
{
	int err = text_path(out, size, "%s/box", dir);

	assert(err == 0);
}

static void tidy_up(void)
{
	char path[64];

	store->ops->free(store);
	pattern_fini(&root);
	file_path(path, sizeof(path));
	(void)unlink(path);
	(void)rmdir(dir);
}

static void set_up(void)
{
	struct mbx_options opt = { .lock_dir = dir,
				   .lock_ms = 1000,
				   .owner = (uid_t)-1,
				   .group = (gid_t)-1 };
	int err;

	if (store)
		return;
	if (!mkdtemp(dir))
		abort();
	err = pattern_init(&root, dir);
	assert(err == 0);
	err = mbx_store_new(&root, "", &opt, &store);
	assert(err == 0);
	(void)atexit(tidy_up);
}

static void write_file(const uint8_t *data, size_t len)
{
	char path[64];
	int fd;

	file_path(path, sizeof(path));
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, data, len) != (ssize_t)len)
		abort();
	(void)close(fd);
}

/* The whole message, and a piece from its middle. */
static void check_read(const struct seen *s, const struct msg *m)
{
	AUTO_FREE uint8_t *buf = malloc(m->size + 1);
	const uint8_t *text = s->data + m->off;
	uint64_t mid = m->size / 2;
	ssize_t n;

	assert(buf);
	n = s->box->ops->read(s->box, m, NULL, buf, m->size + 1, 0);
	assert(n == (ssize_t)m->size);
	assert(memcmp(buf, text, m->size) == 0);
	n = s->box->ops->read(s->box, m, NULL, buf, 7, mid);
	assert(n == (ssize_t)(m->size - mid < 7 ? m->size - mid : 7));
	assert(memcmp(buf, text + mid, (size_t)n) == 0);
	n = s->box->ops->read(s->box, m, NULL, buf, 7, m->size);
	assert(n == 0);
}

static int take(const struct msg *m, const char *name, void *arg)
{
	struct seen *s = arg;

	assert(!name);
	assert(m->uid > s->uid && m->uid < UINT32_MAX);
	assert(!(m->flags & MSG_EXPUNGED));
	assert(m->size > 0 && m->line <= MBX_LINE_MAX);
	assert(m->off >= s->end + m->line);
	assert(m->off <= s->len && m->size <= s->len - m->off);
	s->uid = m->uid;
	s->end = m->off + m->size;
	s->count++;
	check_read(s, m);
	return 0;
}

static void check_tail(struct seen *s, struct scan *scan)
{
	uint64_t count = s->count;
	uint32_t uidnext = scan->uidnext;
	int err;

	scan->from = scan->next;
	err = s->box->ops->scan(s->box, scan, take, s);
	assert(err == 0 && s->count == count && scan->uidnext == uidnext);
	assert(scan->from.off == scan->next.off);
}

static void check_scan(struct seen *s)
{
	struct scan scan = { .from = { .off = 0 } };
	struct mbx_header h;
	bool good =
		s->len == 0 || mbx_header_parse(s->data, s->len, &h, NULL) == 0;
	int err = s->box->ops->scan(s->box, &scan, take, s);

	assert(err == (good ? 0 : -EBADMSG));
	assert((err == 0) || scan.damage.kind == DAMAGE_HEADER);
	assert((scan.damage.kind == DAMAGE_NONE) == (scan.damage.count == 0));
	assert((scan.damage.kind == DAMAGE_NONE) == !scan.damage.text[0]);
	if (err < 0) {
		assert(s->count == 0);
		return;
	}
	assert(scan.next.off >= s->end && scan.next.off <= s->len);
	assert(scan.uidnext > s->uid);
	/* Whatever was not read through to the end is damage. */
	assert(scan.next.off == s->len || scan.damage.kind == DAMAGE_RECORD);
	check_tail(s, &scan);
}

static void check_file(const uint8_t *data, size_t len)
{
	struct seen s = { .data = data, .len = len };
	int err;

	write_file(data, len);
	err = store->ops->open(store, "box", &s.box);
	assert(err == 0);
	check_scan(&s);
	s.box->ops->close(s.box);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char head[] = "*mbx*\r\n4b00000100000009\r\n";
	uint8_t *with = calloc(1, MBX_HEADER_SIZE + len);

	set_up();
	check_file(data, len);
	/* Again as what follows a good header: a fuzzer rarely keeps one. */
	assert(with);
	memcpy(with, head, sizeof(head) - 1);
	if (len)
		memcpy(with + MBX_HEADER_SIZE, data, len);
	check_file(with, MBX_HEADER_SIZE + len);
	free(with);
	return 0;
}
