/*
 * The input is taken for everything the codec reads: the head of a file, a
 * record line, its last field, a date. What can be read must be the same after
 * it was written and read again.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "compat/mbxrec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_fault(int err, const struct mbx_fault *fault, size_t len)
{
	if (err == -EBADMSG)
		assert(fault->want && fault->off <= len);
	else
		assert(err == 0 || err == -EAGAIN);
}

/* Lines too long for a name cannot be written again: see keyword_lines. */
static unsigned named(const struct mbx_header *h)
{
	unsigned n = 0;

	while (n < MBX_KEYWORDS && h->keywords.name[n][0])
		n++;
	return n;
}

static void check_header(const uint8_t *data, size_t len)
{
	struct mbx_fault fault = { 0 };
	struct mbx_header h, again;
	uint8_t out[MBX_HEADER_SIZE];
	int err = mbx_header_parse(data, len, &h, &fault);

	check_fault(err, &fault, len);
	if (err < 0)
		return;
	assert(mbx_sniff(data, len) == MBX_IS_MBX);
	assert(h.keyword_lines <= MBX_KEYWORDS);
	if (mbx_header_format(&h, out) < 0) {
		assert(named(&h) < h.keyword_lines);
		return;
	}
	assert(mbx_header_parse(out, sizeof(out), &again, NULL) == 0);
	assert(again.keyword_lines == named(&h));
	h.keyword_lines = again.keyword_lines;
	assert(h.uidvalidity == again.uidvalidity &&
	       h.uidlast == again.uidlast);
	assert(h.has_pid == again.has_pid && h.pid == again.pid);
	assert(memcmp(&h.keywords, &again.keywords, sizeof(h.keywords)) == 0);
}

/* Headers start with 25 octets that a fuzzer rarely keeps: add them. */
static void check_keywords(const uint8_t *data, size_t len)
{
	uint8_t head[MBX_HEADER_SIZE] = "*mbx*\r\n4b00000100000002\r\n";
	size_t room = sizeof(head) - 25;

	if (len)
		memcpy(head + 25, data, len < room ? len : room);
	check_header(head, sizeof(head));
}

static void check_date(const uint8_t *data, size_t len)
{
	char text[MBX_DATE_LEN + 1];
	int64_t date, again;
	int err = mbx_date_parse(data, len, &date);

	assert(err == 0 || err == -EBADMSG);
	if (err < 0)
		return;
	mbx_date_format(date, text);
	assert(strlen(text) == MBX_DATE_LEN);
	assert(mbx_date_parse((uint8_t *)text, MBX_DATE_LEN, &again) == 0);
	/* A zone can move the last day of 2097 beyond what can be written. */
	assert(again == date || date >= 4039372800);
}

static void check_record(const uint8_t *data, size_t len)
{
	struct mbx_fault fault = { 0 };
	struct mbx_record r, again;
	uint8_t line[MBX_LINE_MAX];
	ptrdiff_t n;
	int err = mbx_record_parse(data, len, &r, &fault);

	check_fault(err, &fault, len);
	assert(err != -EAGAIN || len < MBX_LINE_WINDOW);
	if (err < 0)
		return;
	assert(r.line <= len && r.line <= MBX_LINE_WINDOW && r.size);
	assert(data[r.date_len] == ',');
	memset(&again, 0, sizeof(again));
	assert(mbx_field_parse(data + r.line - 24, &again) == 0);
	assert(again.keywords == r.keywords && again.flags == r.flags &&
	       again.uid == r.uid);
	n = mbx_record_format(&r, line);
	assert(n > 0 && n <= MBX_LINE_MAX);
	assert(mbx_record_parse(line, (size_t)n, &again, NULL) == 0);
	assert(again.date == r.date || r.date >= 4039372800);
	assert(again.date_ok && again.size == r.size && again.uid == r.uid &&
	       again.keywords == r.keywords && again.flags == r.flags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct mbx_record r = { 0 };

	check_header(data, len);
	check_keywords(data, len);
	check_record(data, len);
	check_date(data, len);
	assert(mbx_kind_name(mbx_sniff(data, len)));
	if (len >= 24 && mbx_field_parse(data, &r) == 0)
		assert(r.flags <= 0xffff && data[0] == ';');
	return 0;
}
