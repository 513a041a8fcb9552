/* What the ledger says, in memory and as text. */
#include "compat/ledger.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat/foldername.h"
#include "compat/text.h"

enum {
	INBOX_MAX = 999,
	GUID_DIGITS = 32,
	NUMBER_DIGITS = 8,
	FILE_DIGITS = 16,
};

static const char magic[] = "janusmail-ledger 3";
static const char magic_start[] = "janusmail-ledger ";

struct ledger_folder *ledger_add(struct ledger *l, const char *dir,
				 const char *legacy)
{
	struct ledger_folder *more, *f;

	more = reallocarray(l->folders, l->count + 1, sizeof(*more));
	if (!more)
		return NULL;
	l->folders = more;
	f = &more[l->count];
	*f = (struct ledger_folder){ .dir = strdup(dir),
				     .legacy = strdup(legacy) };
	if (!f->dir || !f->legacy) {
		free(f->dir);
		free(f->legacy);
		return NULL;
	}
	l->count++;
	return f;
}

static void fini_folder(struct ledger_folder *f)
{
	free(f->dir);
	free(f->legacy);
	free(f->moved_from);
	free(f->was_legacy);
	free(f->trash);
}

int ledger_delete(struct ledger_folder *f)
{
	char *dir = strdup(""), *legacy = strdup("");

	if (!dir || !legacy) {
		free(dir);
		free(legacy);
		return -ENOMEM;
	}
	free(f->dir);
	free(f->legacy);
	free(f->trash);
	f->dir = dir;
	f->legacy = legacy;
	f->trash = NULL;
	f->phase = PHASE_DELETED;
	f->dirty = true;
	return 0;
}

void ledger_fini(struct ledger *l)
{
	size_t i;

	for (i = 0; i < l->count; i++)
		fini_folder(&l->folders[i]);
	free(l->folders);
	*l = (struct ledger){ .count = 0 };
}

/* Cuts the text at the next @sep. Return: what was before it; NULL at the end
 * or when there is none. */
static char *cut(char **p, char sep)
{
	char *start = *p, *at = strchr(start, sep);

	if (!at)
		return NULL;
	*at = '\0';
	*p = at + 1;
	return start;
}

/* The next word of a line. Return: NULL when there is none left. */
static char *take_word(char **p)
{
	char *word = *p ? cut(p, ' ') : NULL;

	if (word)
		return word;
	word = *p;
	*p = NULL;
	return word;
}

static int get_digits(const char *word, unsigned digits, uint64_t *out)
{
	if (!word || strlen(word) != digits)
		return -EBADMSG;
	return text_hex((const uint8_t *)word, digits, out);
}

static int get_hex(const char *word, uint64_t min, uint64_t max, uint32_t *out)
{
	uint64_t n;

	if (get_digits(word, NUMBER_DIGITS, &n) != 0 || n < min || n > max)
		return -EBADMSG;
	*out = (uint32_t)n;
	return 0;
}

static int get_guid(const char *word, char *out)
{
	if (!word || strlen(word) != GUID_DIGITS ||
	    strspn(word, "0123456789abcdef") != GUID_DIGITS)
		return -EBADMSG;
	memcpy(out, word, GUID_DIGITS + 1);
	return 0;
}

static const char *const phases[] = {
	[PHASE_LEGACY] = "legacy",
	[PHASE_NATIVE] = "native",
	[PHASE_DELETING] = "deleting",
	[PHASE_DELETED] = "deleted",
};

static int get_phase(const char *word, unsigned version, enum ledger_phase *out)
{
	size_t known = version < 3 ? PHASE_DELETING : ARRAY_LEN(phases);

	for (size_t i = 0; word && i < known; i++) {
		if (strcmp(word, phases[i]) == 0) {
			*out = (enum ledger_phase)i;
			return 0;
		}
	}
	return -EBADMSG;
}

static int get_count(const char *word, uint64_t max, uint64_t *out)
{
	const uint8_t *p = (const uint8_t *)word;
	int rc = text_number(&p, p + strlen(word), max, out);

	return rc == 0 && *p ? -EBADMSG : rc;
}

static int get_place(const char *word, int *out)
{
	static const char inbox[] = "inbox";
	uint64_t n;
	int rc;

	if (!word)
		return -EBADMSG;
	if (strcmp(word, "folders") == 0) {
		*out = LEDGER_PLACE_FOLDERS;
		return 0;
	}
	if (strncmp(word, inbox, strlen(inbox)) != 0)
		return -EBADMSG;
	rc = get_count(word + strlen(inbox), INBOX_MAX, &n);
	if (rc == 0)
		*out = (int)n;
	return rc;
}

/* @name becomes shorter in its place. */
static int get_name(char *name, const char *empty)
{
	if (!name || !*name)
		return -EBADMSG;
	if (strcmp(name, empty) == 0) {
		*name = '\0';
		return 0;
	}
	ptrdiff_t n = text_unescape(name, name);

	return n < 0 || strlen(name) != (size_t)n ? -EBADMSG : 0;
}

static bool is_file_name(const char *name)
{
	return *name && *name != '.' && !strchr(name, '/') &&
		strlen(name) <= NAME_MAX;
}

static bool is_dir_name(const char *dir)
{
	return !*dir ||
		(*dir == '.' && dir[1] && !strchr(dir, '/') &&
		 strlen(dir) <= FOLDERNAME_MAX);
}

/* The words behind ino. */
static int parse_plans(char **line, unsigned version, struct ledger_folder *f)
{
	if (f->phase == PHASE_DELETED)
		return !*f->dir && !*f->legacy ? 0 : -EBADMSG;
	if (f->phase == PHASE_DELETING) {
		f->trash = take_word(line);
		return *f->dir && get_name(f->trash, "-") == 0 &&
				is_file_name(f->trash)
			? 0
			: -EBADMSG;
	}
	if (!*line)
		return 0;
	f->moved_from = take_word(line);
	if (get_name(f->moved_from, ".") != 0 || !*f->moved_from ||
	    !is_dir_name(f->moved_from))
		return -EBADMSG;
	if (!*line || version < 3)
		return 0;
	f->was_legacy = take_word(line);
	return get_name(f->was_legacy, "-") == 0 && *f->was_legacy ? 0
								   : -EBADMSG;
}

static int parse_file(char **line, unsigned version, struct ledger_folder *f)
{
	int rc = get_digits(take_word(line), FILE_DIGITS, &f->dev);

	if (rc == 0)
		rc = get_digits(take_word(line), FILE_DIGITS, &f->ino);
	return rc == 0 ? parse_plans(line, version, f) : rc;
}

/* What follows the first word of a line; strings point into it. */
static int parse_fields(char *line, unsigned version, struct ledger_folder *f)
{
	int rc = get_hex(take_word(&line), 1, INT32_MAX, &f->number);

	f->dir = rc ? NULL : take_word(&line);
	rc = get_name(f->dir, ".");
	if (rc || !is_dir_name(f->dir))
		return -EBADMSG;
	rc = get_guid(take_word(&line), f->guid);
	if (rc == 0)
		rc = get_hex(take_word(&line), 0, UINT32_MAX, &f->uidvalidity);
	if (rc == 0)
		rc = get_phase(take_word(&line), version, &f->phase);
	if (rc == 0)
		rc = get_place(take_word(&line), &f->place);
	if (rc)
		return rc;
	f->legacy = take_word(&line);
	rc = get_name(f->legacy, "-");
	if (rc == 0 && version > 1)
		rc = parse_file(&line, version, f);
	return rc == 0 && line ? -EBADMSG : rc;
}

/* Return: false when out of memory. */
static bool copy_text(const char *text, char **out)
{
	*out = text ? strdup(text) : NULL;
	return !text || *out;
}

/* With strings of its own. */
static int copy_folder(const struct ledger_folder *f, struct ledger_folder *out)
{
	bool good;

	*out = *f;
	good = copy_text(f->dir, &out->dir);
	good = copy_text(f->legacy, &out->legacy) && good;
	good = copy_text(f->moved_from, &out->moved_from) && good;
	good = copy_text(f->was_legacy, &out->was_legacy) && good;
	good = copy_text(f->trash, &out->trash) && good;
	if (good)
		return 0;
	fini_folder(out);
	return -ENOMEM;
}

static int parse_folder(char *line, unsigned version, struct ledger *out)
{
	struct ledger_folder f = { .number = 0 }, own, *added;
	int rc = parse_fields(line, version, &f);

	if (rc == 0)
		rc = copy_folder(&f, &own);
	if (rc)
		return rc;
	added = ledger_add(out, "", "");
	if (!added) {
		fini_folder(&own);
		return -ENOMEM;
	}
	fini_folder(added);
	*added = own;
	return 0;
}

static int parse_appended(char *line, unsigned version, struct ledger *out)
{
	static const char start[] = "line ";
	struct ledger_folder f = { .number = 0 }, own;
	uint64_t n;
	char *word;
	int rc;

	if (strncmp(line, start, strlen(start)) != 0)
		return -EBADMSG;
	line += strlen(start);
	word = take_word(&line);
	rc = get_count(word, out->count, &n);
	if (rc || !line)
		return -EBADMSG;
	if (n == out->count)
		return parse_folder(line, version, out);
	rc = parse_fields(line, version, &f);
	if (rc == 0)
		rc = copy_folder(&f, &own);
	if (rc)
		return rc;
	fini_folder(&out->folders[n]);
	out->folders[n] = own;
	return 0;
}

/* Return: 1..3; 0 for a text that is none of them. */
static unsigned get_version(const char *line)
{
	size_t len = strlen(magic_start);

	if (strncmp(line, magic_start, len) != 0 || line[len] < '1' ||
	    line[len] > '3' || line[len + 1])
		return 0;
	return (unsigned)(line[len] - '0');
}

static int parse_lines(char *p, struct ledger *out)
{
	static const char folder[] = "folder ", end[] = "end ";
	char *line = cut(&p, '\n');
	unsigned version = line ? get_version(line) : 0;
	uint64_t count;
	int rc;

	if (version == 0)
		return -EBADMSG;
	while ((line = cut(&p, '\n')) &&
	       strncmp(line, folder, strlen(folder)) == 0) {
		rc = parse_folder(line + strlen(folder), version, out);
		if (rc)
			return rc;
	}
	if (!line || strncmp(line, end, strlen(end)) != 0 ||
	    (version == 1 && *p))
		return -EBADMSG;
	rc = get_count(line + strlen(end), SIZE_MAX, &count);
	if (rc == 0 && count != out->count)
		rc = -EBADMSG;
	while (rc == 0 && (line = cut(&p, '\n'))) {
		rc = parse_appended(line, version, out);
		out->appended++;
	}
	/* Nothing is appended to a file that says it is older. */
	out->whole = version == 3 && !*p;
	return rc;
}

/* After a crash the file may end in zeros, where an append was never
 * finished. */
static int drop_zeros(const char *text, size_t *len)
{
	const char *zero = memchr(text, '\0', *len);
	size_t n = *len;

	if (!zero)
		return 0;
	while (n > 0 && text[n - 1] == '\0')
		n--;
	if (zero != text + n)
		return -EBADMSG;
	*len = n;
	return 1;
}

int ledger_parse(const char *text, size_t len, struct ledger *out)
{
	char *copy;
	int rc, zeros = drop_zeros(text, &len);

	*out = (struct ledger){ .count = 0 };
	if (zeros < 0)
		return zeros;
	copy = strndup(text, len);
	if (!copy)
		return -ENOMEM;
	rc = parse_lines(copy, out);
	/* Only what can be appended to ends so. */
	if (rc == 0 && zeros && text[strlen(magic_start)] == '1')
		rc = -EBADMSG;
	free(copy);
	if (zeros)
		out->whole = false;
	if (rc)
		ledger_fini(out);
	return rc;
}

/* "-" alone means empty, so a name that is one is written in another way. */
static int write_name(FILE *f, const char *name, const char *empty)
{
	size_t len = strlen(name), size = 4 * len + 1;
	char *word;

	if (!len || strcmp(name, "-") == 0) {
		(void)fputs(len ? "\\x2d" : empty, f);
		return 0;
	}
	word = malloc(size);
	if (!word)
		return -ENOMEM;
	(void)fputs(text_escape(name, len, word, size), f);
	free(word);
	return 0;
}

/* All but the first word of its line. */
static int write_folder(FILE *f, const struct ledger_folder *folder)
{
	int rc;

	(void)fprintf(f, "%08" PRIx32 " ", folder->number);
	rc = write_name(f, folder->dir, ".");
	(void)fprintf(f, " %s %08" PRIx32 " %s ", folder->guid,
		      folder->uidvalidity, phases[folder->phase]);
	if (folder->place == LEDGER_PLACE_FOLDERS)
		(void)fputs("folders ", f);
	else
		(void)fprintf(f, "inbox%d ", folder->place);
	if (rc == 0)
		rc = write_name(f, folder->legacy, "-");
	(void)fprintf(f, " %016" PRIx64 " %016" PRIx64, folder->dev,
		      folder->ino);
	if (rc == 0 && folder->moved_from) {
		(void)fputc(' ', f);
		rc = write_name(f, folder->moved_from, ".");
	}
	if (rc == 0 && folder->moved_from && folder->was_legacy) {
		(void)fputc(' ', f);
		rc = write_name(f, folder->was_legacy, "-");
	}
	if (rc == 0 && folder->trash) {
		(void)fputc(' ', f);
		rc = write_name(f, folder->trash, "-");
	}
	(void)fputc('\n', f);
	return rc;
}

/* Closes @f, an open_memstream() on @out. */
static int finish(FILE *f, int rc, char **out)
{
	if (ferror(f))
		rc = -ENOMEM;
	if (fclose(f) != 0)
		rc = -ENOMEM;
	if (rc) {
		free(*out);
		*out = NULL;
	}
	return rc;
}

int ledger_format(const struct ledger *l, char **out, size_t *len_out)
{
	FILE *f = open_memstream(out, len_out);
	int rc = 0;
	size_t i;

	if (!f)
		return -ENOMEM;
	(void)fprintf(f, "%s\n", magic);
	for (i = 0; rc == 0 && i < l->count; i++) {
		(void)fputs("folder ", f);
		rc = write_folder(f, &l->folders[i]);
	}
	(void)fprintf(f, "end %zu\n", l->count);
	return finish(f, rc, out);
}

int ledger_format_dirty(const struct ledger *l, char **out, size_t *len_out)
{
	FILE *f = open_memstream(out, len_out);
	int rc = 0;
	size_t i;

	if (!f)
		return -ENOMEM;
	for (i = 0; rc == 0 && i < l->count; i++) {
		if (!l->folders[i].dirty)
			continue;
		(void)fprintf(f, "line %zu ", i);
		rc = write_folder(f, &l->folders[i]);
	}
	return finish(f, rc, out);
}
