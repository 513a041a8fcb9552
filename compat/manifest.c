/* Lines of a manifest, and the writer. */
#include "compat/manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "compat/manifest_internal.h"
#include "compat/text.h"

/* ---- lines --------------------------------------------------------------- */

static size_t finish(int n)
{
	/* All fields have a longest text, which fits. */
	return n > 0 ? (size_t)n : 0;
}

size_t manifest_folder_line(const struct manifest_folder *f, char *out)
{
	char name[FACT_NAME_MAX + 1], damage[4 * MANIFEST_DAMAGE_MAX + 1];

	fact_name(f->dir, name);
	(void)text_escape(f->damage, strlen(f->damage), damage, sizeof(damage));
	return finish(snprintf(out, MANIFEST_LINE_MAX + 1,
			       "folder %s uidvalidity=%" PRIu32
			       " uidnext=%" PRIu32 " messages=%" PRIu64
			       " octets=%" PRIu64 "%s%s\n",
			       name, f->uidvalidity, f->uidnext, f->messages,
			       f->octets,
			       !*damage		 ? ""
				       : f->lost ? " lost="
						 : " damage=",
			       damage));
}

size_t manifest_message_line(const struct fact *m, char *out)
{
	char flags[FACT_FLAGS_MAX + 1], date[FACT_DATE_MAX + 1];
	bool same = *m->sha256 && strcmp(m->sha256, m->crlf) == 0;

	fact_flags(m->flags, flags);
	fact_date(m->date, date);
	return finish(snprintf(out, MANIFEST_LINE_MAX + 1,
			       "%" PRIu32 " flags=%s keywords=%s date=%s "
			       "size=%" PRIu64 " sha256=%s crlf=%s\n",
			       m->uid, flags, m->keywords, date, m->size,
			       *m->sha256 ? m->sha256 : "-",
			       same		  ? "same"
				       : *m->crlf ? m->crlf
						  : "-"));
}

size_t manifest_root_line(const struct manifest *m, char *out)
{
	return finish(snprintf(out, MANIFEST_LINE_MAX + 1,
			       "root %s users=%zu folders=%" PRIu64
			       " messages=%" PRIu64 " octets=%" PRIu64 "\n",
			       m->root, m->count, m->folders, m->messages,
			       m->octets));
}

/* The rest of the next word if it begins with @key; NULL. */
static char *take(char **line, const char *key)
{
	size_t len = strlen(key);
	char *word = strsep(line, " ");

	return word && strncmp(word, key, len) == 0 ? word + len : NULL;
}

static int take_number(char **line, const char *key, uint64_t max,
		       uint64_t *out)
{
	const uint8_t *p = (const uint8_t *)take(line, key), *end;

	if (!p)
		return -EBADMSG;
	end = p + strlen((const char *)p);
	return text_number(&p, end, max, out) == 0 && p == end ? 0 : -EBADMSG;
}

static int take_u32(char **line, const char *key, uint32_t *out)
{
	uint64_t n;
	int ret = take_number(line, key, UINT32_MAX, &n);

	if (ret == 0)
		*out = (uint32_t)n;
	return ret;
}

/* "-" gives "". */
static int take_hash(char **line, const char *key, char *out)
{
	const char *word = take(line, key);

	if (!word)
		return -EBADMSG;
	*out = '\0';
	if (strcmp(word, "-") == 0)
		return 0;
	if (strlen(word) != DIGEST_HEX ||
	    strspn(word, "0123456789abcdef") != DIGEST_HEX)
		return -EBADMSG;
	memcpy(out, word, DIGEST_HEX + 1);
	return 0;
}

static int take_hashes(char **line, struct fact *out)
{
	int ret = take_hash(line, "sha256=", out->sha256);

	if (ret < 0)
		return ret;
	out->err = *out->sha256 ? 0 : -EIO;
	if (*line && strcmp(*line, "crlf=same") == 0) {
		memcpy(out->crlf, out->sha256, sizeof(out->crlf));
		*line = NULL;
		return 0;
	}
	ret = take_hash(line, "crlf=", out->crlf);
	return ret < 0 || *line || !*out->crlf != !*out->sha256 ? -EBADMSG : 0;
}

/* Whether what was made of a line makes the same line again: one way only to
 * say a thing. @line is the original, without its LF. */
static int is_canonical(const char *line, const char *again, size_t len)
{
	return len > 0 && strlen(line) == len - 1 &&
			memcmp(line, again, len - 1) == 0
		? 0
		: -EBADMSG;
}

int manifest_parse_message(char *line, struct fact *out)
{
	char was[MANIFEST_LINE_MAX + 1], again[MANIFEST_LINE_MAX + 1];
	const char *flags, *date;
	int ret;

	*out = (struct fact){ .uid = 0 };
	(void)snprintf(was, sizeof(was), "%s", line);
	ret = take_u32(&line, "", &out->uid);
	flags = take(&line, "flags=");
	out->keywords = take(&line, "keywords=");
	date = take(&line, "date=");
	if (ret < 0 || !flags || !out->keywords || !*out->keywords || !date ||
	    strlen(out->keywords) > FACT_KEYWORDS_MAX)
		return -EBADMSG;
	ret = fact_flags_parse(flags, &out->flags);
	if (ret == 0)
		ret = fact_date_parse(date, &out->date);
	if (ret == 0)
		ret = take_number(&line, "size=", INT64_MAX, &out->size);
	if (ret == 0)
		ret = take_hashes(&line, out);
	if (ret < 0)
		return ret;
	return is_canonical(was, again, manifest_message_line(out, again));
}

static int take_damage(char *word, struct manifest_folder *out)
{
	char plain[4 * MANIFEST_DAMAGE_MAX + 1];
	const char *text;
	ptrdiff_t len;

	out->lost = *word == 'l';
	text = take(&word, out->lost ? "lost=" : "damage=");
	if (!text || word || strlen(text) >= sizeof(plain))
		return -EBADMSG;
	len = text_unescape(text, plain);
	if (len < 1 || len > MANIFEST_DAMAGE_MAX)
		return -EBADMSG;
	/* It will be shown to people. */
	for (ptrdiff_t i = 0; i < len; i++)
		if (plain[i] < 0x20 || plain[i] > 0x7e)
			return -EBADMSG;
	memcpy(out->damage, plain, (size_t)len + 1);
	return 0;
}

int manifest_parse_folder(char *line, struct manifest_folder *out)
{
	char was[MANIFEST_LINE_MAX + 1], again[MANIFEST_LINE_MAX + 1];
	const char *name;
	int ret;

	*out = (struct manifest_folder){ .off = 0 };
	(void)snprintf(was, sizeof(was), "%s", line);
	(void)take(&line, "folder");
	name = take(&line, "");
	ret = name ? fact_name_parse(name, out->dir) : -EBADMSG;
	if (ret == 0)
		ret = take_u32(&line, "uidvalidity=", &out->uidvalidity);
	if (ret == 0)
		ret = take_u32(&line, "uidnext=", &out->uidnext);
	if (ret == 0)
		ret = take_number(&line, "messages=", INT64_MAX,
				  &out->messages);
	if (ret == 0)
		ret = take_number(&line, "octets=", INT64_MAX, &out->octets);
	if (ret == 0 && line)
		ret = take_damage(line, out);
	if (ret < 0)
		return ret;
	return is_canonical(was, again, manifest_folder_line(out, again));
}

int manifest_parse_root(char *line, struct manifest *out)
{
	char was[MANIFEST_LINE_MAX + 1], again[MANIFEST_LINE_MAX + 1];
	uint64_t users = 0;
	int ret;

	(void)snprintf(was, sizeof(was), "%s", line);
	(void)take(&line, "root");
	ret = take_hash(&line, "", out->root);
	if (ret == 0)
		ret = take_number(&line, "users=", INT64_MAX, &users);
	if (ret == 0)
		ret = take_number(&line, "folders=", INT64_MAX, &out->folders);
	if (ret == 0)
		ret = take_number(&line, "messages=", INT64_MAX,
				  &out->messages);
	if (ret == 0)
		ret = take_number(&line, "octets=", INT64_MAX, &out->octets);
	out->count = (size_t)users;
	if (ret < 0)
		return ret;
	return is_canonical(was, again, manifest_root_line(out, again));
}

/* ---- the writer ---------------------------------------------------------- */

struct manifest_writer {
	FILE *f;
	struct digest *folder, *user, *root;
	struct manifest sum;
};

struct manifest_writer *manifest_writer_new(FILE *f)
{
	struct manifest_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->f = f;
	w->folder = digest_new();
	w->user = digest_new();
	w->root = digest_new();
	if (!w->folder || !w->user || !w->root) {
		manifest_writer_free(w);
		return NULL;
	}
	(void)fputs(MANIFEST_MAGIC "\n", f);
	return w;
}

static int put(struct manifest_writer *w, struct digest *d, const char *text,
	       size_t len)
{
	(void)fwrite(text, 1, len, w->f);
	return digest_add(d, text, len);
}

int manifest_begin_user(struct manifest_writer *w, const char *name)
{
	char word[4 * MANIFEST_USER_MAX + 1], line[sizeof(word) + 8];

	w->sum.count++;
	if (!*name)
		return 0;
	(void)text_escape(name, strlen(name), word, sizeof(word));
	return put(w, w->user, line,
		   finish(snprintf(line, sizeof(line), "user %s\n", word)));
}

int manifest_folder_text(struct manifest_writer *w, const char *text,
			 size_t len)
{
	return put(w, w->folder, text, len);
}

/* The line that seals what went into @d, as part of @above. */
static int seal(struct manifest_writer *w, struct digest *d,
		struct digest *above, const char *word)
{
	char hex[DIGEST_HEX + 1], line[DIGEST_HEX + 32];
	int ret = digest_hex(d, hex);

	if (ret < 0)
		return ret;
	return put(w, above, line,
		   finish(snprintf(line, sizeof(line), "%s %s\n", word, hex)));
}

int manifest_end_folder(struct manifest_writer *w, uint64_t messages,
			uint64_t octets)
{
	w->sum.folders++;
	w->sum.messages += messages;
	w->sum.octets += octets;
	return seal(w, w->folder, w->user, "folder-hash");
}

int manifest_subscribed(struct manifest_writer *w, const char *dir)
{
	char name[FACT_NAME_MAX + 1], line[FACT_NAME_MAX + 32];

	fact_name(dir, name);
	return put(w, w->user, line,
		   finish(snprintf(line, sizeof(line), "subscribed %s\n",
				   name)));
}

int manifest_end_user(struct manifest_writer *w)
{
	return seal(w, w->user, w->root, "user-hash");
}

int manifest_end(struct manifest_writer *w, char *root_out)
{
	char line[MANIFEST_LINE_MAX + 1];
	int ret = digest_hex(w->root, w->sum.root);

	if (ret < 0)
		return ret;
	(void)fwrite(line, 1, manifest_root_line(&w->sum, line), w->f);
	memcpy(root_out, w->sum.root, sizeof(w->sum.root));
	return 0;
}

void manifest_writer_free(struct manifest_writer *w)
{
	if (!w)
		return;
	digest_free(w->folder);
	digest_free(w->user);
	digest_free(w->root);
	free(w);
}
