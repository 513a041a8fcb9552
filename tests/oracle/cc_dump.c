/*
 * cc_dump - the canonical dump (janusmail-dump(5)) of MBX mailboxes as UW's own
 * c-client reads them: the independent witness of the tests.
 *
 *	cc_dump PATH...
 *
 * A PATH is a mailbox or a directory of mailboxes. A mailbox called INBOX is
 * shown as INBOX, others by the path below the directory, '/' as '.' and '.' as
 * '_'. Nothing of janusmail's code is used.
 *
 * c-client moves times even when it only reads, so it gets a private copy of
 * each mailbox, and the original is read without a trace.
 */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <inttypes.h>
#include <sys/wait.h>

#include "cc.h"

struct sha {
	uint32_t h[8];
	uint64_t len;
	unsigned char block[64];
};

static uint32_t sha_k[64];

/* The constants of FIPS 180-4 are the fractions of roots of primes; here they
 * are computed with integers: floor(2^32 * frac(cuberoot(p))). */
static uint32_t root_fraction(unsigned p, int cubic)
{
	unsigned __int128 lo = 0, hi = (unsigned __int128)1 << 36;

	while (hi - lo > 1) {
		unsigned __int128 mid = (lo + hi) / 2;
		unsigned __int128 v = mid * mid;
		unsigned __int128 want = (unsigned __int128)p << 64;
		int over = v > want;

		if (cubic) {
			/* mid^3 > p * 2^96, without overflow of 128 bits */
			unsigned __int128 high = (v >> 32) * mid;
			unsigned __int128 low = ((v & 0xffffffff) * mid) >> 32;

			over = high + low >= want;
		}
		if (over)
			hi = mid;
		else
			lo = mid;
	}
	return (uint32_t)lo;
}

static void sha_start(struct sha *s)
{
	unsigned n = 0;

	for (unsigned p = 2; n < 64; p++) {
		unsigned d = 2;

		while (p % d)
			d++;
		if (d != p)
			continue;
		if (n < 8)
			s->h[n] = root_fraction(p, 0);
		sha_k[n++] = root_fraction(p, 1);
	}
	s->len = 0;
}

static uint32_t rotr(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void sha_block(struct sha *s)
{
	uint32_t w[64], v[8];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)s->block[4 * i] << 24 |
			(uint32_t)s->block[4 * i + 1] << 16 |
			(uint32_t)s->block[4 * i + 2] << 8 |
			s->block[4 * i + 3];
	for (int i = 16; i < 64; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + w[i - 7] +
			(rotr(a, 7) ^ rotr(a, 18) ^ a >> 3) +
			(rotr(b, 17) ^ rotr(b, 19) ^ b >> 10);
	}
	memcpy(v, s->h, sizeof(v));
	for (int i = 0; i < 64; i++) {
		uint32_t e = v[4], a = v[0];
		uint32_t t1 = v[7] + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) +
			((e & v[5]) ^ (~e & v[6])) + sha_k[i] + w[i];
		uint32_t t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) +
			((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));

		memmove(v + 1, v, 7 * sizeof(*v));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		s->h[i] += v[i];
}

static void sha_octet(struct sha *s, unsigned char c)
{
	s->block[s->len++ % 64] = c;
	if (s->len % 64 == 0)
		sha_block(s);
}

static void sha_print(struct sha *s)
{
	uint64_t bits = s->len * 8;

	sha_octet(s, 0x80);
	while (s->len % 64 != 56)
		sha_octet(s, 0);
	for (int i = 56; i >= 0; i -= 8)
		sha_octet(s, (unsigned char)(bits >> i));
	for (int i = 0; i < 8; i++)
		printf("%08" PRIx32, s->h[i]);
}

/* Header and body as the driver gives them: the octets of the file. The front
 * end (mail_fetch_*) would turn line ends into CR LF. */
static uint64_t print_digest(MAILSTREAM *stream, unsigned long n)
{
	struct sha s;
	unsigned long hlen;
	STRING bs;
	char *h;

	sha_start(&s);
	h = stream->dtb->header(stream, n, &hlen, FT_PEEK | FT_INTERNAL);
	for (unsigned long i = 0; i < hlen; i++)
		sha_octet(&s, (unsigned char)h[i]);
	if (!stream->dtb->text(stream, n, &bs, FT_PEEK | FT_INTERNAL))
		cc_die("no text", stream->mailbox);
	for (unsigned long left = SIZE(&bs); left; left--)
		sha_octet(&s, (unsigned char)SNX(&bs));
	hlen = s.len;
	sha_print(&s);
	return hlen;
}

/* One word: what is not printable ASCII or valid UTF-8 becomes \xHH. Names in
 * the test stores are ASCII, so UTF-8 need not be told from other octets. */
static void put_escaped(char *out, const char *in, const char *also)
{
	for (; *in; in++) {
		unsigned char c = (unsigned char)*in;

		if (c < 0x21 || c == 0x7f || strchr("\\\"", c) ||
		    strchr(also, c))
			out += sprintf(out, "\\x%02x", c);
		else
			*out++ = (char)c;
	}
	*out = 0;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_keywords(MAILSTREAM *stream, const MESSAGECACHE *elt)
{
	char text[NUSERFLAGS][256], *list[NUSERFLAGS];
	size_t count = 0;

	for (int i = 0; i < NUSERFLAGS; i++) {
		char lower[MAXUSERFLAG + 1] = "";

		if (!(elt->user_flags >> i & 1) || !stream->user_flags[i])
			continue;
		strncpy(lower, stream->user_flags[i], MAXUSERFLAG);
		for (char *p = lower; *p; p++)
			if (*p >= 'A' && *p <= 'Z')
				*p += 'a' - 'A';
		put_escaped(text[count], lower, ",");
		list[count] = text[count];
		count++;
	}
	qsort(list, count, sizeof(*list), by_text);
	for (size_t i = 0; i < count; i++)
		printf("%s%s", i ? "," : "", list[i]);
	if (!count)
		putchar('-');
}

static void print_message(MAILSTREAM *stream, unsigned long n)
{
	MESSAGECACHE *elt = mail_elt(stream, n);
	char date[64], flags[8] = "", *f = flags;
	time_t t = (time_t)mail_longdate(elt);
	uint64_t size;

	if (elt->draft)
		*f++ = 'D';
	if (elt->flagged)
		*f++ = 'F';
	if (elt->answered)
		*f++ = 'R';
	if (elt->seen)
		*f++ = 'S';
	if (elt->deleted)
		*f++ = 'T';
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime(&t));
	printf("%lu flags=%s keywords=", mail_uid(stream, n),
	       *flags ? flags : "-");
	print_keywords(stream, elt);
	printf(" date=%s size=%lu sha256=", date, elt->rfc822_size);
	size = print_digest(stream, n);
	putchar('\n');
	if (size != elt->rfc822_size)
		cc_die("size and octets differ", stream->mailbox);
}

struct box {
	char *path;   /* of the mailbox */
	char *folder; /* as the dump names it */
};

static struct box *boxes;
static size_t box_count;

/* Runs in a child: c-client knows one home a process. */
static int dump_copy(const struct box *box, char *home)
{
	MAILSTREAM *stream;
	char name[2 * 4096];

	cc_start(home, -1, -1);
	stream = mail_open(NIL, "./copy", OP_READONLY | OP_SILENT);
	if (!stream || strcmp(stream->dtb->name, "mbx")) {
		fprintf(stderr, "cc_dump: %s: c-client cannot open it\n",
			box->path);
		return 1;
	}
	put_escaped(name, box->folder, "");
	printf("folder %s uidvalidity=%lu uidnext=%lu messages=%lu\n", name,
	       stream->uid_validity, stream->uid_last + 1, stream->nmsgs);
	for (unsigned long n = 1; n <= stream->nmsgs; n++)
		print_message(stream, n);
	fflush(stdout);
	/* No mail_close(): there is nothing that it could put right. */
	return 0;
}

static void copy_file(const char *from, const char *to)
{
	static char buf[1 << 16];
	FILE *out = fopen(to, "w");
	int in = open(from, O_RDONLY | O_NOATIME | O_NOFOLLOW);
	ssize_t n;

	if (in < 0 || !out)
		cc_die("copy", from);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		if (fwrite(buf, 1, (size_t)n, out) != (size_t)n)
			cc_die("write", to);
	if (n < 0 || fclose(out))
		cc_die("copy", from);
	close(in);
}

static int dump_box(const struct box *box)
{
	char home[] = "/tmp/cc_dump.XXXXXX", copy[64];
	int status = 1;
	pid_t pid;

	if (!mkdtemp(home))
		cc_die("mkdtemp", home);
	snprintf(copy, sizeof(copy), "%s/copy", home);
	copy_file(box->path, copy);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(dump_copy(box, home));
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		cc_die("fork", box->path);
	unlink(copy);
	rmdir(home);
	return status != 0;
}

static void box_add(const char *path, const char *folder)
{
	struct box *b;

	boxes = realloc(boxes, (box_count + 1) * sizeof(*boxes));
	b = &boxes[box_count++];
	b->path = strdup(path);
	b->folder = strdup(folder);
	for (char *p = b->folder; *p; p++)
		*p = *p == '/' ? '.' : *p == '.' ? '_' : *p;
}

static size_t walk_root_len;

static int walk(const char *path, const struct stat *st, int type,
		struct FTW *ftw)
{
	char magic[7] = "";
	int fd;

	if (type != FTW_F || !S_ISREG(st->st_mode))
		return 0;
	fd = open(path, O_RDONLY | O_NOATIME);
	if (fd < 0 || pread(fd, magic, sizeof(magic), 0) < 0)
		cc_die("read", path);
	close(fd);
	if (!memcmp(magic, "*mbx*\r\n", sizeof(magic)))
		box_add(path, path + walk_root_len);
	return 0;
}

static int by_folder(const void *a, const void *b)
{
	const struct box *x = a, *y = b;
	int inbox = !strcmp(y->folder, "INBOX") - !strcmp(x->folder, "INBOX");

	return inbox ? inbox : strcmp(x->folder, y->folder);
}

int main(int argc, char **argv)
{
	int failed = argc < 2;

	if (failed)
		fprintf(stderr, "usage: cc_dump PATH...\n");
	for (int i = 1; i < argc; i++) {
		struct stat st;
		char *base = strrchr(argv[i], '/');

		if (lstat(argv[i], &st))
			cc_die("stat", argv[i]);
		walk_root_len = strlen(argv[i]) + 1;
		if (!S_ISDIR(st.st_mode))
			box_add(argv[i], base ? base + 1 : argv[i]);
		else if (nftw(argv[i], walk, 20, FTW_PHYS))
			cc_die("walk", argv[i]);
	}
	qsort(boxes, box_count, sizeof(*boxes), by_folder);
	if (!failed)
		printf("janusmail-dump 1\n");
	for (size_t i = 0; i < box_count; i++)
		failed |= dump_box(&boxes[i]);
	return failed;
}
