/*
 * What UW did to the copies is done to the files.
 *
 * A file whose copy UW has expunged is removed; but never on the word of a
 * mailbox that is damaged, that is another file than before, or that knows
 * fewer UIDs than it did (an older one was put back): then the file is a
 * message that is not in the MBX.
 *
 * The file goes before the journal forgets it: the other way round a crash
 * would bring back what was expunged.
 */
#include "fs/mirror_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compat/basename.h"
#include "compat/io.h"
#include "compat/log.h"
#include "fs/files.h"
#include "fs/folder_internal.h"
#include "index/sync.h"

enum { TURN = 128 }; /* files that others wait for */

struct settling {
	struct mirror *m;
	struct folder *f;
	struct journal *j;
	struct index_folder row;
	bool first, locked, misnamed;
	unsigned done;
	char **gone; /* bases whose files were removed */
	size_t gone_count, gone_room;
	int undone;    /* an error that kept some from following; 0 */
	uint64_t back; /* they are not in the MBX any more, and stay */
};

/* ---- names --------------------------------------------------------------- */

static bool is_letter_we_set(char c)
{
	return (c >= 'a' && c <= 'z') || strchr("DFRST", c) != NULL;
}

/*
 * The name with other flags. What else stands in the flags part stays: other
 * capitals, which Dovecot keeps too, and what follows a comma.
 */
static int rename_flags(const char *name, uint32_t flags, uint32_t letters,
			char *out)
{
	size_t base = info_split(name, strlen(name));
	const char *p = name + base;
	char info[INFO_MAX + 1], other[NAME_MAX + 1];
	size_t n = 0;
	int len;

	if (*p)
		p += 3; /* ":2," */
	for (; *p && *p != ','; p++)
		if (!is_letter_we_set(*p) && n < NAME_MAX)
			other[n++] = *p;
	other[n] = '\0';
	info_format(flags, letters, info);
	len = snprintf(out, NAME_MAX + 1, "%.*s%s%s%s", (int)base, name, info,
		       other, p);
	return len > NAME_MAX ? -ENAMETOOLONG : 0;
}

/* ---- one file ------------------------------------------------------------ */

static int follow_flags(struct settling *s, const struct file *file,
			const struct msg *row)
{
	const struct letters *map = &s->f->id.letters;
	bool to_new = file->in_new && info_in_new(row);
	char from[NAME_MAX + 1], to[NAME_MAX + 1];
	bool from_new = file->in_new;
	uint32_t flags, have, rest, want;
	int ret;

	info_parse(file->name, strlen(file->name), &flags, &have);
	(void)letters_slots(map, have, &rest);
	want = letters_of(map, row->keywords) | rest |
		folder_letters(s->f, row->uid);
	if (from_new == to_new && want == have &&
	    (flags & MSG_SYSTEM) == (row->flags & MSG_SYSTEM))
		return 0;
	(void)snprintf(from, sizeof(from), "%s", file->name);
	ret = rename_flags(from, row->flags, want, to);
	if (ret == 0)
		ret = files_rename(s->f, from_new, from, to_new, to);
	return ret;
}

static bool may_delete(const struct settling *s)
{
	switch (s->row.damage.kind) {
	case DAMAGE_NONE:
	case DAMAGE_DATE:
	case DAMAGE_UIDLAST:
	case DAMAGE_KEYWORDS:
	case DAMAGE_SLOTS:
		return true;
	default:
		return false;
	}
}

static int remember_gone(struct settling *s, const char *base)
{
	char *copy;

	if (s->gone_count == s->gone_room) {
		size_t room = s->gone_room ? 2 * s->gone_room : 64;
		char **more = reallocarray(s->gone, room, sizeof(*more));

		if (!more)
			return -ENOMEM;
		s->gone = more;
		s->gone_room = room;
	}
	copy = strdup(base);
	if (!copy)
		return -ENOMEM;
	s->gone[s->gone_count++] = copy;
	return 0;
}

static int remove_file(struct settling *s, const char *base)
{
	const struct file *file = files_find(s->f, base);
	char name[NAME_MAX + 1];
	bool in_new;
	int ret;

	if (!file)
		return journal_out(s->j, base);
	if (file->held)
		return 0;
	ret = remember_gone(s, base);
	if (ret < 0)
		return ret;
	in_new = file->in_new;
	(void)snprintf(name, sizeof(name), "%s", file->name);
	return files_unlink(s->f, in_new, name);
}

static int settle_gone(struct settling *s, const struct journal_entry *e)
{
	if (!may_delete(s))
		return 0;
	if (s->row.next.uid_last >= e->uid && !s->f->other_file)
		return remove_file(s, e->base);
	s->back++;
	atomic_store(&s->m->whole, true);
	return journal_out(s->j, e->base);
}

static int settle_sure(struct settling *s, const struct journal_entry *e)
{
	const struct file *file;
	char name[INDEX_NAME_MAX + 1];
	struct index *ix = s->f->fs->index;
	struct msg row;
	int ret = index_by_uid(ix, s->f->id.number, e->uid, &row);

	if (ret == -ENOENT)
		return settle_gone(s, e);
	if (ret == 0 && s->first) {
		ret = index_name_of(ix, s->f->id.number, e->uid, name);
		s->misnamed |= ret == 0 && strcmp(name, e->base) != 0;
	}
	if (ret < 0)
		return ret;
	file = files_find(s->f, e->base);
	/* Without its file it shows from the MBX, under its own name. */
	return file && !file->held ? follow_flags(s, file, &row) : 0;
}

/* Left over from an earlier life; what is there was found by the sync. */
static int settle_tried(struct settling *s, const struct journal_entry *e)
{
	struct msg row;
	int ret = index_by_uid(s->f->fs->index, s->f->id.number, e->uid, &row);

	if (ret == 0) {
		files_unlock(s->f);
		s->locked = false;
		ret = mirror_same(s->f, &row, e->base);
		if (ret == 0) {
			s->misnamed = true;
			return journal_in(s->j, e->uid, e->base);
		}
	}
	/* Behind the damage it may be. */
	if (ret == -ENOENT)
		return may_delete(s) ? journal_out(s->j, e->base) : 0;
	return ret;
}

/*
 * What keeps one file from following must not keep the others, nor the folder
 * from being shown. Return: 0; -errno for what has to be done again.
 */
static int soften(struct settling *s, int ret)
{
	switch (ret) {
	case -ENAMETOOLONG:
	case -EEXIST:
	case -ENOENT:
		return 0; /* its name stays as it is */
	case -ENOSPC:
	case -EDQUOT:
	case -EROFS:
	case -EACCES:
	case -EPERM:
		s->undone = ret;
		return 0;
	default:
		return ret;
	}
}

static int settle_one(const struct journal_entry *e, void *arg)
{
	struct settling *s = arg;
	int ret = 0;

	if (s->locked && ++s->done % TURN == 0) {
		files_unlock(s->f);
		s->locked = false;
	}
	if (!s->locked)
		ret = files_lock(s->f);
	if (ret < 0)
		return ret;
	s->locked = true;
	if (e->sure)
		ret = settle_sure(s, e);
	else if (s->first)
		ret = settle_tried(s, e);
	return soften(s, ret);
}

/* ---- all of them --------------------------------------------------------- */

static int sync_directories(struct folder *f)
{
	static const char *const subs[] = { "cur", "new" };
	int ret = 0;

	for (unsigned i = 0; ret == 0 && i < ARRAY_LEN(subs); i++) {
		AUTO_FD int fd = folder_open_dir(f, subs[i]);

		ret = fd < 0 ? fd : io_fsync_dir(fd);
	}
	return ret;
}

static int forget_gone(struct settling *s)
{
	int ret = s->gone_count > 0 ? sync_directories(s->f) : 0;

	for (size_t i = 0; i < s->gone_count; i++) {
		if (ret == 0)
			ret = journal_out(s->j, s->gone[i]);
		free(s->gone[i]);
	}
	free(s->gone);
	return ret;
}

/* Those that came back must be known before UIDLAST is raised again, which
 * would make them look expunged. For the rest it is only that the journal does
 * not stay open: the next change of the folder may be long in coming. */
static int sync_journal(struct settling *s)
{
	int ret = journal_sync(s->j);

	if (s->back > 0 || ret == 0)
		return ret;
	s->undone = ret;
	return 0;
}

static void say(const struct settling *s)
{
	char name[400];

	folder_log_name(s->f, name, sizeof(name));
	if (s->gone_count > 0)
		log_trace(LOG_SYNC,
			  "%s: UW has expunged %zu delivered "
			  "messages",
			  name, s->gone_count);
	if (s->back > 0)
		log_warn("%s: another mailbox was put in place of the one "
			 "that had %ju of the messages delivered here; they "
			 "stay and are appended again",
			 name, (uintmax_t)s->back);
}

/* The rows are made anew, with the names that the journal knows now. */
static int make_rows_anew(struct folder *f)
{
	int ret;

	/* Nobody may take what is there meanwhile for all there is. */
	atomic_store(&f->known, false);
	(void)atomic_fetch_add(&f->anew, 1);
	ret = index_folder_drop(f->fs->index, f->id.number);
	f->synced = false;
	return ret < 0 ? ret : -ESTALE;
}

static int settle_all(struct settling *s)
{
	int ret, ret2;

	ret = index_folder_get(s->f->fs->index, s->f->id.number, &s->row);
	if (ret == 0)
		ret = journal_each(s->j, settle_one, s);
	if (s->locked)
		files_unlock(s->f);
	say(s);
	ret2 = forget_gone(s);
	if (ret2 == 0)
		ret2 = sync_journal(s);
	if (ret == 0)
		ret = ret2;
	if (ret == 0 && s->misnamed)
		ret = make_rows_anew(s->f);
	return ret;
}

static int count_files(struct folder *f, uint64_t *out)
{
	int ret = files_lock(f);

	if (ret < 0)
		return ret;
	*out = files_count(f);
	files_unlock(f);
	return 0;
}

int mirror_settle(struct folder *f)
{
	struct settling s = { .m = mirror_of(f),
			      .f = f,
			      .j = folder_journal(f) };
	uint64_t files = 0;
	int ret;

	if (!s.m || !s.j)
		return s.m ? -EIO : -ENOMEM;
	s.first = !atomic_load(&f->settled);
	ret = s.first ? count_files(f, &files) : 0;
	if (ret == 0 && files > 0)
		ret = mirror_claim(f, s.j);
	if (ret == 0)
		ret = settle_all(&s);
	if (ret < 0)
		return ret;
	atomic_store(&f->settled, true);
	if (s.undone == 0)
		f->other_file = false;
	if (files > 0 || s.back > 0)
		mirror_note(f);
	return s.undone;
}
