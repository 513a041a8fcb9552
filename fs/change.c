#include "fs/change.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "compat/basename.h"
#include "compat/log.h"
#include "fs/folder_internal.h"
#include "fs/lease.h"
#include "fs/seed.h"
#include "fs/settle.h"
#include "index/sync.h"

enum { TRIES = 3 }; /* when the MBX is not what the rows say, again and again */

/* ---- names that can be --------------------------------------------------- */

/* The letters that an MBX can keep, and nothing but letters: a name that is not
 * listed back as it was given would be another message to Dovecot. */
static int check_names(bool from_new, const char *from, bool to_new,
		       const char *to)
{
	size_t base = info_split(to, strlen(to));
	const char *info = to + base;

	if (info_split(from, strlen(from)) != base ||
	    memcmp(from, to, base) != 0)
		return -EACCES;
	if (to_new)
		return from_new && *info == '\0' ? 0 : -EACCES;
	if (strncmp(info, ":2,", 3) != 0 ||
	    info[3 + strspn(info + 3, "DFRSTabcdefghijklmnopqrstuvwxyz")])
		return -EACCES;
	return 0;
}

/* ---- letters and slots --------------------------------------------------- */

static struct box *box_of(const struct folder *f)
{
	return f->lease.box->box;
}

/* Once for each letter. */
static void note_refused(struct folder *f, unsigned letter, const char *keyword,
			 int err)
{
	char name[400];

	f->refused |= UINT32_C(1) << letter;
	folder_log_name(f, name, sizeof(name));
	log_warn("%s: keyword %s stays with Dovecot, the MBX cannot take it: "
		 "%s",
		 name, keyword,
		 err == -ENOSPC ? "its 30 slots are in use"
				: "UW does not allow that name");
}

/* Return: 0, also when it cannot have a slot. */
static int give_slot(struct folder *f, unsigned letter, const char *name,
		     struct keywords *slots)
{
	unsigned slot;
	int ret = box_of(f)->ops->keyword(box_of(f), name, &slot);

	if (ret == -ENOSPC || ret == -EINVAL) {
		note_refused(f, letter, name, ret);
		return 0;
	}
	/* An earlier one may be there in other case. */
	if (ret == 0 && slots->name[slot][0] == '\0')
		memcpy(slots->name[slot], name, strlen(name) + 1);
	return ret;
}

/* With a lease: @letters get slots where Dovecot has named them. */
static int map_letters(struct folder *f, uint32_t letters)
{
	struct index_folder row;
	struct keywords names, slots;
	struct letters map;
	int ret = index_folder_get(f->fs->index, f->id.number, &row);

	if (ret == 0)
		ret = seed_read_keywords(f, &names);
	if (ret < 0)
		return ret;
	slots = row.keywords;
	letters_map(&map, &names, &slots);
	for (unsigned i = 0; ret == 0 && i < MAILDIR_LETTERS; i++)
		if ((letters & ~f->refused & (UINT32_C(1) << i)) &&
		    map.slot[i] < 0 && names.name[i][0])
			ret = give_slot(f, i, names.name[i], &slots);
	if (ret == 0 && memcmp(&slots, &row.keywords, sizeof(slots)) != 0)
		ret = index_set_keywords(f->fs->index, f->id.number, NULL, 0,
					 &slots);
	if (ret < 0)
		return ret;
	letters_map(&map, &names, &slots);
	return folder_set_letters(f, &map);
}

int change_keep_letters(struct folder *f, uint32_t uid, uint32_t letters)
{
	struct journal *j;
	int ret;

	if (letters == folder_letters(f, uid))
		return 0;
	j = folder_journal(f);
	ret = j ? journal_set_letters(j, uid, letters) : -EIO;
	if (ret < 0 || letters == 0)
		return ret;
	atomic_store(&f->lettered, true);
	if (letters & ~f->refused)
		settle_letters(f);
	return 0;
}

/* ---- flags --------------------------------------------------------------- */

/* What the letters of a new name come to. */
struct wish {
	struct flag_change flags;
	uint32_t letters; /* the journal's */
};

static int make_wish(struct folder *f, uint32_t uid, const char *from,
		     const char *to, struct wish *w)
{
	uint32_t old, new, old_letters, new_letters, set, clear, rest, unset;
	int ret = 0;

	info_parse(from, strlen(from), &old, &old_letters);
	info_parse(to, strlen(to), &new, &new_letters);
	set = new_letters & ~old_letters;
	clear = old_letters & ~new_letters;
	(void)letters_slots(&f->id.letters, set, &rest);
	if (rest & ~f->refused)
		ret = map_letters(f, rest);
	w->flags = (struct flag_change){
		.set = (new & ~old) | MSG_OLD,
		.clear = old & ~new,
		.keywords_set = letters_slots(&f->id.letters, set, &rest),
		.keywords_clear = letters_slots(&f->id.letters, clear, &unset),
	};
	w->letters = (folder_letters(f, uid) | rest) & ~clear;
	return ret;
}

/*
 * The directories' times move before the row changes, so that a crash in
 * between does not hide the change from Dovecot; and after it, for whoever read
 * a directory in between.
 */
static int bump(struct folder *f, bool cur, bool new)
{
	int ret = cur ? folder_bump_soon(f, false) : 0;

	return ret == 0 && new ? folder_bump_soon(f, true) : ret;
}

static int put_row(struct folder *f, const struct msg *was,
		   const struct msg *is, uint32_t letters)
{
	bool new = info_in_new(was);
	int ret = bump(f, true, new);

	if (ret == 0)
		ret = change_keep_letters(f, is->uid, letters);
	if (ret == 0)
		ret = index_update(f->fs->index, f->id.number, NULL, 0, is, 1);
	return ret == 0 ? bump(f, true, new) : ret;
}

/* New letters go before the flags: the journal can be without space, the field
 * in the MBX cannot. */
static int write_flags(struct folder *f, const struct msg *was,
		       const struct wish *w, struct msg *is)
{
	uint32_t letters = folder_letters(f, was->uid);
	bool more = w->letters & ~letters;
	int ret = more ? bump(f, true, info_in_new(was)) : 0;

	if (ret == 0 && more)
		ret = change_keep_letters(f, was->uid, w->letters | letters);
	if (ret < 0)
		return ret;
	ret = box_of(f)->ops->flag(box_of(f), was, NULL, &w->flags, is);
	if (ret < 0 && more && change_keep_letters(f, was->uid, letters) < 0)
		log_warn("folder %u: message %u keeps letters that could not "
			 "be set",
			 f->id.number, was->uid);
	return ret;
}

int change_flags(struct folder *f, uint32_t uid, const char *from,
		 const char *to, bool to_new)
{
	struct msg was, is = { .uid = 0 };
	struct wish w;
	int ret = index_by_uid(f->fs->index, f->id.number, uid, &was);

	if (ret < 0 || to_new)
		return ret;
	ret = make_wish(f, uid, from, to, &w);
	if (ret == 0)
		ret = write_flags(f, &was, &w, &is);
	if (ret < 0)
		return ret;
	if (is.flags & MSG_EXPUNGED)
		return -ESTALE;
	return put_row(f, &was, &is, w.letters);
}

/* Whether the rows may be other than what the MBX shows now. */
static bool is_stale(int ret)
{
	return ret < 0 && ret != -ENOENT;
}

int change_rename(struct folder *f, bool from_new, const char *from,
		  bool to_new, const char *to)
{
	int ret = check_names(from_new, from, to_new, to);
	struct msg m;

	if (ret < 0)
		return ret;
	ret = -ESTALE;
	for (int i = 0; i < TRIES && ret == -ESTALE; i++) {
		ret = lease_begin(f);
		if (ret < 0)
			break;
		ret = folder_by_name(f, from_new, from, &m);
		if (ret == 0 && (from_new != to_new || strcmp(from, to) != 0))
			ret = change_flags(f, m.uid, from, to, to_new);
		lease_end(f, is_stale(ret));
	}
	return ret == -ESTALE ? -EIO : ret;
}

/* ---- expunge ------------------------------------------------------------- */

/* It is expunged in the MBX: there is no way back. */
static int remove_row(struct folder *f, const struct msg *m)
{
	bool new = info_in_new(m);
	int ret = bump(f, !new, new);

	if (ret == 0)
		ret = index_remove(f->fs->index, f->id.number, NULL, 0, &m->uid,
				   1);
	if (ret == 0)
		ret = change_keep_letters(f, m->uid, 0);
	return ret == 0 ? bump(f, !new, new) : ret;
}

int change_remove(struct folder *f, uint32_t uid)
{
	struct msg m;
	int ret = index_by_uid(f->fs->index, f->id.number, uid, &m);

	if (ret == -ENOENT)
		return 0;
	if (ret == 0)
		ret = box_of(f)->ops->expunge(box_of(f), &m, NULL);
	if (ret < 0)
		return ret;
	folder_bury(f, &m);
	ret = remove_row(f, &m);
	if (ret == 0)
		return 0;
	/* Who moves it would take a failure for a message that is there, and
	 * remove its copy. */
	log_warn("folder %u: message %u was expunged, and is shown until the "
		 "next look: %s",
		 f->id.number, uid, strerrordesc_np(-ret));
	f->lease.stale = true;
	return 0;
}

int change_expunge(struct folder *f, bool in_new, const char *name)
{
	int ret = -ESTALE;
	struct msg m;

	for (int i = 0; i < TRIES && ret == -ESTALE; i++) {
		ret = lease_begin(f);
		if (ret < 0)
			break;
		ret = folder_by_name(f, in_new, name, &m);
		if (ret == 0)
			ret = change_remove(f, m.uid);
		lease_end(f, is_stale(ret));
	}
	return ret == -ESTALE ? -EIO : ret;
}

/* ---- letters that get their name later ----------------------------------- */

/* The message gets the keyword; the journal keeps its letter for now. */
static int set_keywords(uint32_t uid, uint32_t letters, void *arg)
{
	struct folder *f = arg;
	struct flag_change c = { .set = 0 };
	uint32_t rest;
	struct msg m;
	int ret;

	c.keywords_set = letters_slots(&f->id.letters, letters, &rest);
	if (c.keywords_set == 0)
		return 0;
	ret = index_by_uid(f->fs->index, f->id.number, uid, &m);
	if (ret < 0)
		return ret == -ENOENT ? 0 : ret;
	ret = box_of(f)->ops->flag(box_of(f), &m, NULL, &c, &m);
	if (ret < 0)
		return ret;
	return m.flags & MSG_EXPUNGED
		? -ESTALE
		: index_update(f->fs->index, f->id.number, NULL, 0, &m, 1);
}

static int drop_letters(uint32_t uid, uint32_t letters, void *arg)
{
	struct folder *f = arg;
	uint32_t rest;

	(void)letters_slots(&f->id.letters, letters, &rest);
	return rest == letters ? 0 : change_keep_letters(f, uid, rest);
}

/* With a lease. The keywords are on the disk before the journal forgets the
 * letters. */
static int name_letters(struct folder *f)
{
	struct journal *j = folder_journal(f);
	uint64_t count = 0;
	uint32_t letters = j ? journal_all_letters(j, &count) : 0;
	int ret = map_letters(f, letters);

	if (ret < 0 || count == 0)
		return ret;
	ret = journal_each_letters(j, set_keywords, f);
	if (ret == 0)
		ret = box_of(f)->ops->sync(box_of(f));
	if (ret == 0)
		ret = journal_each_letters(j, drop_letters, f);
	(void)journal_all_letters(j, &count);
	atomic_store(&f->lettered, count > 0);
	return ret;
}

void change_named(struct folder *f)
{
	int ret = lease_begin(f);

	if (ret == 0) {
		ret = name_letters(f);
		lease_end(f, is_stale(ret));
	}
	if (ret < 0)
		settle_letters(f);
}

int change_look(struct folder *f)
{
	int ret = lease_try(f);

	if (ret < 0)
		return -EAGAIN;
	ret = name_letters(f);
	lease_end(f, is_stale(ret));
	return ret < 0 ? -EAGAIN : 0;
}

uint64_t change_unnamed(struct folder *f, uint32_t *letters)
{
	struct journal *j = folder_journal(f);
	uint64_t count = 0;

	*letters = j ? journal_all_letters(j, &count) : 0;
	return count;
}
