#include "tools/convert_report.h"

#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "compat/clock.h"
#include "compat/log.h"
#include "compat/text.h"
#include "tools/human.h"

enum { WORD = 4 * 256 + 1, SECOND_US = 1000000 };

void convert_report_init(struct convert_report *r, bool json, bool dry)
{
	*r = (struct convert_report){ .json = json,
				      .dry = dry,
				      .tty = isatty(STDERR_FILENO),
				      .began_us = clock_us() };
	(void)pthread_mutex_init(&r->lock, NULL);
}

void convert_report_fini(struct convert_report *r)
{
	(void)pthread_mutex_destroy(&r->lock);
}

/* ---- one line ------------------------------------------------------------ */

/* With the lock. Takes @o, which may be NULL for want of memory. */
static void print_json(json_t *o)
{
	if (o && json_dumpf(o, stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
		(void)putchar('\n');
	(void)fflush(stdout);
	json_decref(o);
}

static void clear_line(struct convert_report *r)
{
	if (r->line)
		(void)fputs("\r\033[K", stderr);
	r->line = false;
}

/* The user, if there are several, and the folder; text_escape()d. */
static const char *where(const char *user, const char *dir, char *out,
			 size_t size)
{
	char u[WORD], d[WORD];

	(void)text_escape(user, strlen(user), u, sizeof(u));
	(void)text_escape(*dir == '.' ? dir + 1 : dir,
			  strlen(*dir == '.' ? dir + 1 : dir), d, sizeof(d));
	(void)snprintf(out, size, "%s%s%s", u, *u ? ": " : "",
		       *d ? d : "INBOX");
	return out;
}

static const char *folder_name(const char *dir)
{
	return *dir == '.' ? dir + 1 : "INBOX";
}

/* Names of folders and users can be any octets, JSON is UTF-8. */
static json_t *json_word(const char *text)
{
	char word[WORD];

	return json_string(text_escape(text, strlen(text), word, sizeof(word)));
}

/* ---- findings ------------------------------------------------------------ */

void convert_report_user(struct convert_report *r, const char *user,
			 const char *why)
{
	char word[WORD];

	(void)text_escape(user, strlen(user), word, sizeof(word));
	(void)pthread_mutex_lock(&r->lock);
	r->users++;
	if (why) {
		r->trouble++;
		clear_line(r);
		log_err("convert: user %s: %s", word, why);
		if (r->json)
			print_json(json_pack("{s:s, s:o, s:s}", "type",
					     "trouble", "user", json_word(user),
					     "reason", why));
	}
	(void)pthread_mutex_unlock(&r->lock);
}

void convert_report_note(struct convert_report *r, const char *user,
			 const struct convert_note *n)
{
	char word[WORD];

	(void)text_escape(user, strlen(user), word, sizeof(word));
	(void)pthread_mutex_lock(&r->lock);
	clear_line(r);
	if (r->json)
		print_json(json_pack("{s:s, s:o, s:s, s:s}", "type", "note",
				     "user", json_word(user), "file", n->what,
				     "reason", n->why));
	else
		(void)printf("note: %s%s%s: not a mailbox: %s\n", word,
			     *word ? ": " : "", n->what, n->why);
	(void)pthread_mutex_unlock(&r->lock);
}

static void print_fault(struct convert_report *r, const char *user,
			const char *dir, const struct convert_fault *f)
{
	char name[2 * WORD + 8], uid[32] = "";

	if (r->json) {
		print_json(json_pack("{s:s, s:o, s:o, s:I, s:I, s:s, s:b}",
				     "type", f->kept ? "finding" : "quarantine",
				     "user", json_word(user), "folder",
				     json_word(folder_name(dir)), "uid",
				     (json_int_t)f->uid, "offset",
				     (json_int_t)f->off, "reason", f->reason,
				     "converted", f->kept));
		return;
	}
	if (f->uid)
		(void)snprintf(uid, sizeof(uid), "UID %" PRIu32 " ", f->uid);
	(void)printf("%s: %s: %sat offset %" PRIu64 ": %s\n",
		     f->kept ? "finding" : "quarantine",
		     where(user, dir, name, sizeof(name)), uid, f->off,
		     f->reason);
}

static void print_remark(struct convert_report *r, const char *user,
			 const char *dir, const char *text)
{
	char name[2 * WORD + 8];

	if (r->json)
		print_json(json_pack("{s:s, s:o, s:o, s:s}", "type", "remark",
				     "user", json_word(user), "folder",
				     json_word(folder_name(dir)), "text",
				     text));
	else
		(void)printf("remark: %s: %s\n",
			     where(user, dir, name, sizeof(name)), text);
}

static void print_trouble(struct convert_report *r, const char *user,
			  const char *dir, const struct convert_outcome *o)
{
	char name[2 * WORD + 8];

	log_err("convert: %s: %s", where(user, dir, name, sizeof(name)),
		o->why);
	if (r->json)
		print_json(json_pack("{s:s, s:o, s:o, s:s}", "type", "trouble",
				     "user", json_word(user), "folder",
				     json_word(folder_name(dir)), "reason",
				     o->why));
}

static void add_up(struct convert_report *r, const struct convert_outcome *o)
{
	const struct convert_result *c = &o->result;

	r->folders++;
	r->unchanged += o->unchanged;
	r->native += o->native;
	r->trouble += o->err < 0;
	r->messages += c->messages;
	r->octets += c->octets;
	r->copied += c->copied;
	r->copied_octets += c->copied_octets;
	r->renamed += c->renamed;
	r->removed += c->removed;
	for (size_t i = 0; i < o->fault_count; i++) {
		r->quarantined += !o->faults[i].kept;
		r->findings += o->faults[i].kept;
	}
}

void convert_report_folder(struct convert_report *r, const char *user,
			   const char *dir, const struct convert_outcome *o)
{
	const struct damage *d = &o->result.damage;
	char lost[120];

	(void)pthread_mutex_lock(&r->lock);
	clear_line(r);
	add_up(r, o);
	for (size_t i = 0; i < o->fault_count; i++)
		print_fault(r, user, dir, &o->faults[i]);
	if (d->kind == DAMAGE_UID || d->kind == DAMAGE_UIDLAST ||
	    d->kind == DAMAGE_KEYWORDS)
		print_remark(r, user, dir, d->text);
	if (o->unlettered > 0) {
		(void)snprintf(lost, sizeof(lost),
			       "%u of its keywords have no letter, a Maildir "
			       "has 26; messages lose them",
			       o->unlettered);
		print_remark(r, user, dir, lost);
	}
	if (o->native)
		print_remark(r, user, dir,
			     "is native already: the tree counts, not the "
			     "mailbox; left alone");
	if (o->add_only && !o->unchanged)
		print_remark(r, user, dir,
			     "was changed in the tree since: messages were "
			     "added only, no flag was changed, nothing "
			     "removed");
	if (o->in_use)
		print_remark(r, user, dir,
			     "the mailbox was changed all the while: run this "
			     "again when nobody uses it");
	if (o->err < 0)
		print_trouble(r, user, dir, o);
	(void)pthread_mutex_unlock(&r->lock);
}

/* ---- how far it is ------------------------------------------------------- */

static void print_bar(struct convert_report *r, uint64_t done, uint64_t rate,
		      uint64_t left_s)
{
	char did[HUMAN_MAX], all[HUMAN_MAX], per[HUMAN_MAX];
	char left[HUMAN_MAX], eta[HUMAN_MAX + 8] = "";

	if (rate > 0)
		(void)snprintf(eta, sizeof(eta), ", %s left",
			       human_seconds(left_s, left));
	(void)fprintf(stderr, "\r\033[K%u %%  %s of %s, %s/s%s",
		      r->total ? (unsigned)(done * 100 / r->total) : 100,
		      human_octets(done, did), human_octets(r->total, all),
		      human_octets(rate, per), eta);
	(void)fflush(stderr);
	r->line = true;
}

void convert_report_progress(struct convert_report *r, uint64_t done)
{
	int64_t took = clock_us() - r->began_us;
	uint64_t rate, left;

	if (!r->json && !r->tty)
		return;
	(void)pthread_mutex_lock(&r->lock);
	if (done > r->total)
		done = r->total;
	rate = took > 0 ? (uint64_t)((double)done * SECOND_US / (double)took)
			: 0;
	left = rate > 0 ? (r->total - done) / rate : 0;
	if (r->json)
		print_json(json_pack(
			"{s:s, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I}", "type",
			"progress", "octets", (json_int_t)done, "octets_total",
			(json_int_t)r->total, "percent",
			r->total ? 100.0 * (double)done / (double)r->total
				 : 100.0,
			"rate", (json_int_t)rate, "seconds_left",
			(json_int_t)left, "folders", (json_int_t)r->folders,
			"copied", (json_int_t)r->copied, "quarantined",
			(json_int_t)r->quarantined));
	else
		print_bar(r, done, rate, left);
	(void)pthread_mutex_unlock(&r->lock);
}

/* ---- the end ------------------------------------------------------------- */

static void print_sum(const struct convert_report *r, bool cancelled)
{
	char a[HUMAN_MAX], b[HUMAN_MAX], c[HUMAN_MAX], d[HUMAN_MAX];

	(void)printf("%s, %s, %s, %s", human_things(r->users, "user", a),
		     human_things(r->folders, "folder", b),
		     human_things(r->messages, "message", c),
		     human_octets(r->octets, d));
	if (r->dry)
		(void)printf(": would be in the tree\n");
	else
		(void)printf(": %s copied (%s), %s with new flags, %s "
			     "expunged\n",
			     human_count(r->copied, a),
			     human_octets(r->copied_octets, b),
			     human_count(r->renamed, c),
			     human_count(r->removed, d));
	if (r->quarantined + r->findings + r->trouble > 0)
		(void)printf("%s in quarantine, %s, %s not finished\n",
			     human_count(r->quarantined, a),
			     human_things(r->findings, "finding", b),
			     human_count(r->trouble, c));
	if (cancelled)
		(void)printf("interrupted: run it again to go on\n");
}

void convert_report_end(struct convert_report *r, bool cancelled)
{
	(void)pthread_mutex_lock(&r->lock);
	clear_line(r);
	if (r->json)
		print_json(json_pack(
			"{s:s, s:i, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, "
			"s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			"type", "summary", "schema", 1, "dry_run", r->dry,
			"interrupted", cancelled, "users", (json_int_t)r->users,
			"folders", (json_int_t)r->folders, "unchanged",
			(json_int_t)r->unchanged, "native",
			(json_int_t)r->native, "messages",
			(json_int_t)r->messages, "octets",
			(json_int_t)r->octets, "copied", (json_int_t)r->copied,
			"copied_octets", (json_int_t)r->copied_octets,
			"renamed", (json_int_t)r->renamed, "expunged",
			(json_int_t)r->removed, "quarantined",
			(json_int_t)r->quarantined, "findings",
			(json_int_t)r->findings, "trouble",
			(json_int_t)r->trouble));
	else
		print_sum(r, cancelled);
	(void)fflush(stdout);
	(void)pthread_mutex_unlock(&r->lock);
}
