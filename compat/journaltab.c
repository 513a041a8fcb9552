#include "compat/journaltab.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/digest.h"
#include "compat/text.h"

enum { HEADS_FIRST = 16, LETTERS = 26 };

static const char magic[] = "janusmail-journal 1";

static uint64_t hash_uid(uint32_t uid)
{
	return uid * UINT64_C(0x9e3779b97f4a7c15) >> 32;
}

static int init_heads(struct journaltab_heads *h)
{
	struct journaltab_node **heads =
		calloc(HEADS_FIRST, sizeof(struct journaltab_node *));

	*h = (struct journaltab_heads){ .heads = heads, .size = HEADS_FIRST };
	return heads ? 0 : -ENOMEM;
}

int journaltab_init(struct journaltab *t)
{
	int rc;

	*t = (struct journaltab){ .lines = 0 };
	rc = init_heads(&t->by_base);
	if (rc == 0)
		rc = init_heads(&t->by_uid);
	if (rc == 0)
		rc = init_heads(&t->letters);
	if (rc)
		journaltab_fini(t);
	return rc;
}

static void free_nodes(struct journaltab_heads *h)
{
	struct journaltab_node *n, *next;
	size_t i;

	for (i = 0; h->heads && i < h->size; i++) {
		for (n = h->heads[i]; n; n = next) {
			next = n->next_uid;
			free(n);
		}
	}
	free(h->heads);
}

void journaltab_fini(struct journaltab *t)
{
	free(t->by_base.heads);
	free_nodes(&t->by_uid);
	free_nodes(&t->letters);
	*t = (struct journaltab){ .lines = 0 };
}

struct journaltab_node *journaltab_new(const char *base, uint32_t uid)
{
	size_t len = strlen(base);
	struct journaltab_node *n = calloc(1, sizeof(*n) + len + 1);

	if (!n)
		return NULL;
	memcpy(n->base, base, len + 1);
	n->uid = uid;
	return n;
}

static struct journaltab_node **head_of_uid(const struct journaltab_heads *h,
					    uint32_t uid)
{
	return &h->heads[hash_uid(uid) & (h->size - 1)];
}

static struct journaltab_node **head_of_base(const struct journaltab_heads *h,
					     const char *base)
{
	return &h->heads[digest_quick(base, strlen(base)) & (h->size - 1)];
}

/* Without memory chains become longer, no more. */
static void grow_by_uid(struct journaltab_heads *h)
{
	struct journaltab_heads more = { .size = h->size * 2,
					 .count = h->count };
	struct journaltab_node *n, *next, **head;
	size_t i;

	if (h->count < h->size)
		return;
	more.heads = calloc(more.size, sizeof(struct journaltab_node *));
	if (!more.heads)
		return;
	for (i = 0; i < h->size; i++) {
		for (n = h->heads[i]; n; n = next) {
			next = n->next_uid;
			head = head_of_uid(&more, n->uid);
			n->next_uid = *head;
			*head = n;
		}
	}
	free(h->heads);
	*h = more;
}

static void grow_by_base(struct journaltab_heads *h)
{
	struct journaltab_heads more = { .size = h->size * 2,
					 .count = h->count };
	struct journaltab_node *n, *next, **head;
	size_t i;

	if (h->count < h->size)
		return;
	more.heads = calloc(more.size, sizeof(struct journaltab_node *));
	if (!more.heads)
		return;
	for (i = 0; i < h->size; i++) {
		for (n = h->heads[i]; n; n = next) {
			next = n->next_base;
			head = head_of_base(&more, n->base);
			n->next_base = *head;
			*head = n;
		}
	}
	free(h->heads);
	*h = more;
}

static void link_uid(struct journaltab_heads *h, struct journaltab_node *n)
{
	struct journaltab_node **head;

	grow_by_uid(h);
	head = head_of_uid(h, n->uid);
	n->next_uid = *head;
	*head = n;
	h->count++;
}

/* Takes the node with that UID out of its chain; NULL if there is none. */
static struct journaltab_node *unlink_uid(struct journaltab_heads *h,
					  uint32_t uid)
{
	struct journaltab_node *n, **at = head_of_uid(h, uid);

	while (*at && (*at)->uid != uid)
		at = &(*at)->next_uid;
	n = *at;
	if (n) {
		*at = n->next_uid;
		h->count--;
	}
	return n;
}

static struct journaltab_node *unlink_base(struct journaltab_heads *h,
					   const char *base)
{
	struct journaltab_node *n, **at = head_of_base(h, base);

	while (*at && strcmp((*at)->base, base) != 0)
		at = &(*at)->next_base;
	n = *at;
	if (n) {
		*at = n->next_base;
		h->count--;
	}
	return n;
}

bool journaltab_drop(struct journaltab *t, const char *base)
{
	struct journaltab_node *n = unlink_base(&t->by_base, base);

	if (!n)
		return false;
	(void)unlink_uid(&t->by_uid, n->uid);
	free(n);
	return true;
}

void journaltab_put(struct journaltab *t, struct journaltab_node *n)
{
	struct journaltab_node *old, **head;

	(void)journaltab_drop(t, n->base);
	old = unlink_uid(&t->by_uid, n->uid);
	if (old) {
		(void)unlink_base(&t->by_base, old->base);
		free(old);
	}
	link_uid(&t->by_uid, n);
	grow_by_base(&t->by_base);
	head = head_of_base(&t->by_base, n->base);
	n->next_base = *head;
	*head = n;
	t->by_base.count++;
}

void journaltab_put_letters(struct journaltab *t, struct journaltab_node *n)
{
	free(unlink_uid(&t->letters, n->uid));
	if (n->letters)
		link_uid(&t->letters, n);
	else
		free(n);
}

const struct journaltab_node *journaltab_by_base(const struct journaltab *t,
						 const char *base)
{
	const struct journaltab_node *n = *head_of_base(&t->by_base, base);

	while (n && strcmp(n->base, base) != 0)
		n = n->next_base;
	return n;
}

static const struct journaltab_node *find_uid(const struct journaltab_heads *h,
					      uint32_t uid)
{
	const struct journaltab_node *n = *head_of_uid(h, uid);

	while (n && n->uid != uid)
		n = n->next_uid;
	return n;
}

const struct journaltab_node *journaltab_by_uid(const struct journaltab *t,
						uint32_t uid)
{
	return find_uid(&t->by_uid, uid);
}

const struct journaltab_node *journaltab_letters(const struct journaltab *t,
						 uint32_t uid)
{
	return find_uid(&t->letters, uid);
}

size_t journaltab_live(const struct journaltab *t)
{
	return t->by_uid.count + t->letters.count;
}

const struct journaltab_node *journaltab_next(const struct journaltab_heads *h,
					      const struct journaltab_node *n)
{
	size_t i = 0;

	if (n && n->next_uid)
		return n->next_uid;
	if (n)
		i = (hash_uid(n->uid) & (h->size - 1)) + 1;
	for (; i < h->size; i++) {
		if (h->heads[i])
			return h->heads[i];
	}
	return NULL;
}

/* --- Text --- */

bool journaltab_is_base(const char *base)
{
	return *base && strlen(base) <= NAME_MAX && !strchr(base, '/');
}

static size_t add_base(char *out, size_t used, const char *base)
{
	(void)text_escape(base, strlen(base), out + used,
			  JOURNALTAB_LINE - 1 - used);
	used += strlen(out + used);
	out[used] = '\n';
	return used + 1;
}

static size_t letters_line(const struct journaltab_node *n, char *out)
{
	int len =
		snprintf(out, JOURNALTAB_LINE, "letters %" PRIu32 " ", n->uid);
	size_t used = len > 0 ? (size_t)len : 0;
	unsigned i;

	for (i = 0; i < LETTERS; i++) {
		if (n->letters & UINT32_C(1) << i)
			out[used++] = (char)('a' + i);
	}
	if (!n->letters)
		out[used++] = '-';
	out[used] = '\n';
	return used + 1;
}

size_t journaltab_line(const struct journaltab_node *n, char *out)
{
	int len;

	if (!*n->base)
		return letters_line(n, out);
	len = snprintf(out, JOURNALTAB_LINE, "%s %" PRIu32 " ",
		       n->sure ? "in" : "try", n->uid);
	return add_base(out, len > 0 ? (size_t)len : 0, n->base);
}

size_t journaltab_out_line(const char *base, char *out)
{
	static const char word[] = "out ";

	memcpy(out, word, sizeof(word) - 1);
	return add_base(out, sizeof(word) - 1, base);
}

static int write_all(const struct journaltab_heads *h, FILE *f)
{
	const struct journaltab_node *n = NULL;
	char line[JOURNALTAB_LINE];

	while ((n = journaltab_next(h, n))) {
		size_t len = journaltab_line(n, line);

		if (fwrite(line, 1, len, f) != len)
			return -ENOMEM;
	}
	return 0;
}

int journaltab_format(const struct journaltab *t, char **out, size_t *len_out)
{
	FILE *f = open_memstream(out, len_out);
	int rc;

	if (!f)
		return -ENOMEM;
	rc = fprintf(f, "%s\n", magic) < 0 ? -ENOMEM : 0;
	if (rc == 0)
		rc = write_all(&t->by_uid, f);
	if (rc == 0)
		rc = write_all(&t->letters, f);
	if (fclose(f) != 0)
		rc = -ENOMEM;
	if (rc) {
		free(*out);
		*out = NULL;
	}
	return rc;
}

/* What follows the first word: the number, and where the rest is. */
static int get_uid(char **p, uint32_t *out)
{
	const uint8_t *at = (const uint8_t *)*p;
	uint64_t n;
	int rc = text_number(&at, at + strlen(*p), UINT32_MAX, &n);

	if (rc || !n || *at != ' ')
		return -EBADMSG;
	*p += (const char *)at - *p + 1;
	*out = (uint32_t)n;
	return 0;
}

/* @base becomes shorter in its place. */
static int get_base(char *base)
{
	ptrdiff_t n = text_unescape(base, base);

	if (n < 0 || strlen(base) != (size_t)n || !journaltab_is_base(base))
		return -EBADMSG;
	return 0;
}

static int get_letters(const char *p, uint32_t *out)
{
	*out = 0;
	if (strcmp(p, "-") == 0)
		return 0;
	if (!*p)
		return -EBADMSG;
	for (; *p; p++) {
		if (*p < 'a' || *p >= 'a' + LETTERS)
			return -EBADMSG;
		*out |= UINT32_C(1) << (unsigned)(*p - 'a');
	}
	return 0;
}

static int parse_letters(struct journaltab *t, char *p)
{
	struct journaltab_node *n;
	uint32_t uid, letters;
	int rc = get_uid(&p, &uid);

	if (rc == 0)
		rc = get_letters(p, &letters);
	if (rc)
		return rc;
	n = journaltab_new("", uid);
	if (!n)
		return -ENOMEM;
	n->letters = letters;
	journaltab_put_letters(t, n);
	return 0;
}

static int parse_entry(struct journaltab *t, char *p, bool sure)
{
	struct journaltab_node *n;
	uint32_t uid;
	int rc = get_uid(&p, &uid);

	if (rc == 0)
		rc = get_base(p);
	if (rc)
		return rc;
	n = journaltab_new(p, uid);
	if (!n)
		return -ENOMEM;
	n->sure = sure;
	journaltab_put(t, n);
	return 0;
}

static int parse_line(struct journaltab *t, char *line)
{
	char *rest = strchr(line, ' ');
	int rc;

	if (!rest)
		return -EBADMSG;
	*rest++ = '\0';
	if (strcmp(line, "try") == 0)
		return parse_entry(t, rest, false);
	if (strcmp(line, "in") == 0)
		return parse_entry(t, rest, true);
	if (strcmp(line, "letters") == 0)
		return parse_letters(t, rest);
	if (strcmp(line, "out") != 0)
		return -EBADMSG;
	rc = get_base(rest);
	if (rc == 0)
		(void)journaltab_drop(t, rest);
	return rc;
}

/* @p: what is left of the text; lines are cut in their places. */
static int parse_lines(struct journaltab *t, char *p)
{
	char *end = strchr(p, '\n');
	int rc = 0;

	if (!end)
		return -EBADMSG;
	*end = '\0';
	if (strcmp(p, magic) != 0)
		return -EBADMSG;
	while (rc == 0) {
		p = end + 1;
		end = strchr(p, '\n');
		if (!end)
			break;
		*end = '\0';
		rc = parse_line(t, p);
		t->lines++;
	}
	return rc;
}

int journaltab_parse(struct journaltab *t, const char *text, size_t len,
		     size_t *used_out)
{
	const char *last;
	char *copy;
	int rc;

	/* After a crash a file may end in zeros, or in half a line. */
	while (len && text[len - 1] == '\0')
		len--;
	last = len ? memrchr(text, '\n', len) : NULL;
	len = last ? (size_t)(last - text) + 1 : 0;
	*used_out = len;
	if (memchr(text, '\0', len))
		return -EBADMSG;
	copy = strndup(text, len);
	if (!copy)
		return -ENOMEM;
	rc = parse_lines(t, copy);
	free(copy);
	return rc;
}
