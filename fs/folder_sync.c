/*
 * The slow path of a folder: index and control files are made to show the MBX.
 *
 * One thread at a time is in here, with the sync_lock; it may wait for UW's
 * locks. Readers go on meanwhile with what is known. What they must not see
 * half done is ordered so that they do not:
 *  - rows of a new UIDVALIDITY are made under a new folder number, and the
 *    number changes last;
 *  - messages that dovecot-uidlist does not name yet are above id.shown;
 *  - a keyword letter shows when dovecot-keywords has its name.
 */
#include "fs/folder_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "compat/clock.h"
#include "compat/io.h"
#include "compat/log.h"
#include "compat/mbxlock.h"
#include "compat/text.h"
#include "compat/uidlist.h"
#include "fs/follow.h"
#include "fs/kept.h"
#include "fs/lease.h"
#include "fs/mirror.h"
#include "fs/regime.h"
#include "fs/seed.h"
#include "fs/settle.h"
#include "fs/user.h"
#include "index/sync.h"

enum {
	TRIES = 3, /* when the MBX is replaced again and again */
};

/* ---- damage -------------------------------------------------------------- */

/* Says it once: again only when it is another finding. */
static void note_damage(struct folder *f, const struct damage *d,
			enum folder_state state)
{
	bool same = f->damage.kind == d->kind && f->damage.off == d->off &&
		strcmp(f->damage.text, d->text) == 0;
	enum folder_state was = f->state;
	char name[400];
	char path[PATH_MAX];

	(void)pthread_rwlock_wrlock(&f->lock);
	f->damage = *d;
	f->state = state;
	(void)pthread_rwlock_unlock(&f->lock);
	if (same && was == state)
		return;
	folder_log_name(f, name, sizeof(name));
	if (d->kind == DAMAGE_NONE) {
		if (was == FOLDER_DAMAGED || was == FOLDER_UNREADABLE)
			log_info("%s: the damage is gone", name);
		return;
	}
	(void)text_escape(f->legacy, strlen(f->legacy), path, sizeof(path));
	log_err("%s (%s): %s at offset %ju: %s; %s", name,
		*path ? path : "inbox", damage_name(d->kind), (uintmax_t)d->off,
		d->text,
		state == FOLDER_UNREADABLE
			? "nothing of it can be served"
			: "what can be read is served, the file is left as it is");
}

static const char *access_text(int err)
{
	switch (err) {
	case -ENOENT:
		return "the mailbox file is gone";
	case -ELOOP:
		return "a symbolic link lies where the mailbox file should be";
	case -ENOTSUP:
		return "not a regular file (a directory, FIFO or device)";
	case -EMLINK:
		return "the file has hard links";
	case -EREMOTE:
		return "it lies on a network filesystem, where UW's locks do "
		       "not work; run janusmail on the file server";
	case -EPERM:
		return "the file belongs to another user";
	default:
		return strerrordesc_np(-err);
	}
}

static void note_access(struct folder *f, int err)
{
	struct damage d = { .kind = DAMAGE_NONE };

	damage_add(&d, DAMAGE_ACCESS, 0, 0,
		   "%s: expected a mailbox file of the user's own",
		   access_text(err));
	note_damage(f, &d, FOLDER_UNREADABLE);
}

/* ---- the file ------------------------------------------------------------ */

static void set_box(struct folder *f, struct folder_box *b)
{
	struct folder_box *was;

	(void)pthread_rwlock_wrlock(&f->lock);
	was = f->box;
	f->box = b;
	f->fresh_enough = f->fresh_settled = false;
	(void)pthread_rwlock_unlock(&f->lock);
	folder_let_go(was);
}

static void close_box(struct folder *f)
{
	set_box(f, NULL);
	f->synced = false;
}

static int open_box(struct folder *f)
{
	struct store *s = user_store(f->user, f->place);
	struct folder_box *b;
	int ret;

	if (f->box)
		return 0;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	atomic_init(&b->users, 1);
	ret = s ? s->ops->open(s, f->legacy, &b->box) : -ENOENT;
	if (ret < 0) {
		free(b);
		f->synced = false; /* all may be well again when it opens */
		/* About to be known as gone; INBOX never is. */
		if (ret == -ENOENT && f->glance && *f->dir)
			return ret;
		/* Of one that is gone all was said; the kernel knows it yet. */
		if (ret != -ENOENT || !atomic_load(&f->gone))
			note_access(f, ret);
		return -EIO;
	}
	set_box(f, b);
	return 0;
}

/* ---- rows ---------------------------------------------------------------- */

static int names_changed(const struct sync_result *r, void *arg)
{
	struct folder *f = arg;
	int ret = 0;

	/* Rows of another UIDVALIDITY are not for this folder number. */
	if (r->uidvalidity_changed && f->id.uidvalidity != 0 &&
	    r->uidvalidity != f->id.uidvalidity)
		return -ECANCELED;
	if (r->new_changed)
		ret = folder_bump(f, "new");
	if (ret == 0 && r->cur_changed)
		ret = folder_bump(f, "cur");
	return ret;
}

/* UW has expunged it. Its octets may be there for a while. */
static void note_gone(const struct msg *m, void *arg)
{
	struct folder *f = arg;
	struct journal *j = atomic_load(&f->journal);

	if (m->line != 0)
		folder_bury(f, m);
	if (folder_letters(f, m->uid) && j &&
	    journal_set_letters(j, m->uid, 0) < 0)
		log_warn("folder %u: its journal cannot be written",
			 f->id.number);
}

/* Return: 0; -EBADMSG for a damaged header, @row filled too; -errno. */
static int sync_rows(struct folder *f, uint32_t number,
		     struct index_folder *row)
{
	bool reset = number != f->id.number;
	struct sync_hooks hooks = { .keep = !reset,
				    .slots = f->slots_true,
				    .names = names_changed,
				    .name_of = reset ? mirror_match
						     : mirror_name_of,
				    .gone = note_gone,
				    .arg = f };
	struct sync_result r = { .how = SYNC_NOTHING };
	int ret = sync_box(f->fs->index, number, f->box->box, &hooks, &r);

	if (ret == 0)
		f->slots_true = false;
	f->named_changed |= r.named_changed;

	log_trace(LOG_SYNC, "folder %u: %d how %d +%ju -%ju ~%ju", number, ret,
		  (int)r.how, (uintmax_t)r.added, (uintmax_t)r.removed,
		  (uintmax_t)r.changed);
	if (ret < 0 && ret != -EBADMSG)
		return ret;
	return index_folder_get(f->fs->index, number, row) == 0 ? ret : -EIO;
}

static bool regime_differs(const struct folder *f,
			   const struct index_folder *row)
{
	if (f->id.uidvalidity == 0)
		return true;
	return row->uidvalidity != 0 && row->uidvalidity != f->id.uidvalidity;
}

/*
 * The UIDVALIDITY on disk is not the one that names carry: the folder is shown
 * for the first time, or UW has numbered it anew. Either way names start
 * afresh; after a reset under a new folder number, so that no inode number is
 * used for two messages. The ledger comes before what can be seen.
 */
static int first_regime(struct folder *f, uint32_t on_disk)
{
	/* IMAP forbids 0, and a mailbox about to be born has none yet. */
	uint32_t v = on_disk ? on_disk : (uint32_t)time(NULL);
	int ret = user_save_folder(f->user, f, f->id.number, v);

	if (ret == 0)
		folder_number_change(f, f->id.number, v);
	return ret;
}

static int reset_regime(struct folder *f, struct index_folder *row)
{
	uint32_t old = f->id.number, number;
	char name[400];
	int ret = ledger_number(f->fs->state_fd, 1, &number);

	mirror_match_start(f);
	if (ret == 0)
		ret = sync_rows(f, number, row);
	if (ret == 0)
		ret = mirror_renumber(f, number);
	if (ret == 0)
		ret = user_save_folder(f->user, f, number, row->uidvalidity);
	if (ret < 0)
		return ret;
	folder_log_name(f, name, sizeof(name));
	log_warn("%s: UW has reset UIDVALIDITY from %u to %u; clients will "
		 "fetch this folder again",
		 name, f->id.uidvalidity, row->uidvalidity);
	/* Nothing shows before Dovecot's list is the new one, too. */
	atomic_store(&f->known, false);
	folder_number_change(f, number, row->uidvalidity);
	f->uidlist_read = false; /* it is the old one: follow_uidlist() */
	ret = folder_bump(f, "new");
	if (ret == 0)
		ret = folder_bump(f, "cur");
	return ret == 0 ? index_folder_drop(f->fs->index, old) : ret;
}

/* Return: as sync_rows(). */
static int sync_regime(struct folder *f, struct index_folder *row)
{
	int ret;

	/* A ledger that knows UIDVALIDITY and an index that does not: look
	 * before rows are made. */
	ret = sync_rows(f, f->id.number, row);
	if (ret == -ECANCELED)
		return reset_regime(f, row);
	if (ret < 0 || !regime_differs(f, row))
		return ret;
	return f->id.uidvalidity == 0 ? first_regime(f, row->uidvalidity)
				      : reset_regime(f, row);
}

/* In the same box: a lease that is about to begin may have its locks. Who looks
 * a second time and finds something still has it tried later. */
static int sync_mended(struct folder *f, struct index_folder *row)
{
	int ret = sync_regime(f, row);

	if (ret < 0 || !regime_mend(f, row))
		return ret;
	ret = sync_regime(f, row);
	if (ret == 0)
		(void)regime_mend(f, row);
	return ret;
}

/* ---- Dovecot's files ----------------------------------------------------- */

int folder_set_letters(struct folder *f, const struct letters *l)
{
	bool changed = f->letters_known && !letters_equal(l, &f->id.letters);
	int ret = changed ? folder_bump(f, "cur") : 0;

	if (ret < 0)
		return ret;
	/* Names of files are yet to follow. */
	f->named_changed |= changed;
	(void)pthread_rwlock_wrlock(&f->lock);
	f->id.letters = *l;
	f->letters_known = true;
	(void)pthread_rwlock_unlock(&f->lock);
	return 0;
}

static bool has_named(const struct keywords *names, uint32_t letters)
{
	for (unsigned i = 0; i < MAILDIR_LETTERS; i++)
		if ((letters & (UINT32_C(1) << i)) && names->name[i][0])
			return true;
	return false;
}

/*
 * A slot shows as a letter once dovecot-keywords has its name: Dovecot makes a
 * name up for a letter it does not know, and keeps it. UW may have named slots
 * since the folder was seeded. The time of cur/ moves first: names change with
 * this, and a crash must not hide that.
 */
int folder_show_letters(struct folder *f, const struct keywords *k)
{
	struct journal *j = folder_journal(f);
	uint64_t count;
	uint32_t taken = j ? journal_all_letters(j, &count) : 0;
	struct keywords names, more;
	struct letters map;
	int ret = seed_read_keywords(f, &names);

	if (ret < 0)
		return ret;
	more = names;
	if (letters_add(&more, k, taken)) {
		ret = folder_bump(f, "cur");
		if (ret == 0)
			ret = seed_keywords(f, k, taken, &more);
	}
	if (ret == -EBUSY)
		f->late = true;
	else if (ret < 0)
		return ret;
	letters_map(&map, ret == 0 ? &more : &names, k);
	if (has_named(&names, taken & ~f->refused))
		settle_letters(f);
	return folder_set_letters(f, &map);
}

/* As they were in an earlier life, for as long as the MBX is locked. */
static void recall_letters(struct folder *f)
{
	struct index_folder row;
	struct keywords names;
	struct letters map;

	(void)!folder_journal(f);
	if (index_folder_get(f->fs->index, f->id.number, &row) < 0 ||
	    seed_read_keywords(f, &names) < 0)
		return;
	letters_map(&map, &names, &row.keywords);
	(void)!folder_set_letters(f, &map);
}

static int show_control(struct folder *f, const struct index_folder *row)
{
	int ret = seed_needed(f) ? seed_folder(f, false) : 0;

	/* Not even a lock that is held excuses a folder without its files. */
	if (ret < 0)
		return ret;
	f->late = false;
	ret = folder_show_letters(f, &row->keywords);
	if (ret == 0)
		ret = follow_uidlist(f, row);
	if (ret == -EBUSY) {
		f->late = true;
		ret = 0;
	}
	return ret;
}

/* ---- all of it ----------------------------------------------------------- */

static void note_fresh(struct folder *f)
{
	(void)pthread_rwlock_wrlock(&f->lock);
	f->fresh = f->stamp;
	f->fresh_settled = stamp_settled(&f->stamp, f->stamp_ns);
	f->fresh_enough = f->fresh_settled && !f->late;
	(void)pthread_rwlock_unlock(&f->lock);
}

static void remember(struct folder *f, const struct stamp *s, int64_t ns)
{
	if (f->stamp.ino != 0 &&
	    (f->stamp.ino != s->ino || f->stamp.dev != s->dev))
		atomic_store(&f->replaced, true);
	f->stamp = *s;
	f->stamp_ns = ns;
	f->synced = true;
	note_fresh(f);
}

void folder_trust(struct folder *f, const struct stamp *s)
{
	struct timespec now;
	int ret;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	remember(f, s, io_ns(&now));
	ret = index_update(f->fs->index, f->id.number, s, io_ns(&now), NULL, 0);
	/* At worst there will be one scan more than needed. */
	if (ret < 0)
		log_trace(LOG_SYNC, "folder %u: stamp: %d", f->id.number, ret);
}

void folder_distrust(struct folder *f)
{
	static const struct stamp none;
	int ret;

	f->synced = false;
	(void)pthread_rwlock_wrlock(&f->lock);
	f->fresh_enough = f->fresh_settled = false;
	(void)pthread_rwlock_unlock(&f->lock);
	ret = index_update(f->fs->index, f->id.number, &none, 0, NULL, 0);
	if (ret < 0 && ret != -ENOENT)
		log_err("folder %u: the index cannot be written: %s",
			f->id.number, strerrordesc_np(-ret));
}

/*
 * The index was lost and the MBX is damaged: the rows that a scan can make now
 * are not all that Dovecot has been shown. A short listing would be an EXPUNGE
 * to every client, so there is none until the damage is mended; nor are there
 * rows that somebody could take for all.
 */
static int hide_short(struct folder *f, struct index_folder *row,
		      bool *hidden_out)
{
	uint32_t last = 0;
	int ret = folder_highest(f, &last);

	if (ret < 0 || f->last_record <= last)
		return ret;
	row->messages = 0;
	*hidden_out = true;
	return index_folder_drop(f->fs->index, f->id.number);
}

/* Once, until something else happens. */
static void note_failure(struct folder *f, int err)
{
	struct mbxlock_past past = mbxlock_past();
	char name[400], who[KEPT_BY];

	if (f->last_error == err ||
	    (err == -EAGAIN && (f->glance || mbxlock_is_cancelled())) ||
	    (err == -EBUSY && f->glance) ||
	    (err == -ESTALE && f->lease.starting))
		return;
	f->last_error = err;
	if (err == -EBUSY)
		return; /* seed_folder() has said which file is held */
	folder_log_name(f, name, sizeof(name));
	(void)mbxlock_keeper(&past, who, sizeof(who));
	if (err == -EAGAIN && past.ino)
		log_err("%s: cannot be brought up to date: %s keeps the "
			"mailbox locked",
			name, who);
	else
		log_err("%s: cannot be brought up to date: %s", name,
			err == -EAGAIN
				? "another process keeps the mailbox, or "
				  "Dovecot's control files, locked"
				: strerrordesc_np(-err));
}

/*
 * Files follow their copies. What an earlier life left undone must be known
 * before anything shows, or a message could show twice; later on it can wait.
 */
static int settle_files(struct folder *f)
{
	int ret;

	if (f->settled && !f->named_changed && !f->other_file)
		return 0;
	ret = mirror_settle(f);
	if (f->settled)
		watch_moved(f);
	f->named_changed = ret != 0;
	if (ret == 0 || ret == -ESTALE || !f->settled)
		return ret;
	f->late = true;
	note_failure(f, ret);
	return 0;
}

/* Nobody has seen it before. */
static void note_seeded(struct folder *f)
{
	if (!atomic_load(&f->seeded))
		f->watch.told = atomic_load(&f->watch.moved);
	atomic_store(&f->seeded, true);
}

/* With a damaged header the earlier rows stand, if there are any. */
static enum folder_state state_of(const struct index_folder *row, bool header)
{
	if (row->messages == 0 && (header || row->damage.kind == DAMAGE_RECORD))
		return FOLDER_UNREADABLE;
	return row->damage.kind == DAMAGE_NONE ? FOLDER_OK : FOLDER_DAMAGED;
}

static int sync_once(struct folder *f)
{
	struct index_folder row = { .messages = 0 };
	bool lost = f->id.uidvalidity != 0 &&
		index_folder_get(f->fs->index, f->id.number, &row) == -ENOENT;
	struct stamp was = row.stamp.ino ? row.stamp : f->stamp;
	int ret = sync_mended(f, &row);
	bool header = ret == -EBADMSG, hidden = false;

	f->other_file |= ret == 0 && was.ino != 0 &&
		(was.ino != row.stamp.ino || was.dev != row.stamp.dev);
	if (ret == 0) {
		ret = show_control(f, &row);
		if (ret == 0 && lost && row.damage.kind == DAMAGE_RECORD)
			ret = hide_short(f, &row, &hidden);
		if (ret == 0 && !hidden)
			ret = settle_files(f);
		if (ret == 0 && !hidden && !f->named_changed)
			mirror_hold_uids(f, &row);
		if (ret == 0)
			note_seeded(f);
	}
	if (header && row.messages > 0)
		ret = folder_show_letters(f, &row.keywords);
	if (ret < 0 && !(header && ret == -EBADMSG))
		return ret;
	note_damage(f, &row.damage, state_of(&row, header));
	/* Last: from here on nobody asks before he shows what there is. */
	remember(f, &row.stamp, row.stamp_ns);
	atomic_store(&f->known, true);
	return 0;
}

static bool is_done(const struct folder *f, const struct stamp *now)
{
	return f->synced && !f->late && stamp_equal(now, &f->stamp) &&
		stamp_settled(&f->stamp, f->stamp_ns);
}

int folder_sync(struct folder *f)
{
	/* Another box would wait for the locks of the one before. */
	int tries = f->lease.starting ? 1 : TRIES;
	struct stamp now;
	int ret = -ESTALE;

	if (f->lease.box && atomic_load(&f->relist))
		lease_finish(f);
	if (f->lease.box)
		return f->state == FOLDER_UNREADABLE ? -EIO : 0;
	if (!f->letters_known)
		recall_letters(f);
	if (atomic_exchange(&f->relist, false)) {
		f->uidlist_read = false;
		f->late = true;
	}
	/* Its mailbox is in the trash, its name may be another's. */
	if (atomic_load(&f->deleted))
		return ret;
	for (int i = 0; i < tries && ret == -ESTALE; i++) {
		ret = open_box(f);
		if (ret < 0)
			return ret;
		ret = f->box->box->ops->stamp(f->box->box, &now);
		if (ret == 0 && is_done(f, &now)) {
			note_fresh(f);
			return f->state == FOLDER_UNREADABLE ? -EIO : 0;
		}
		if (ret == 0)
			ret = sync_once(f);
		if (ret == -ESTALE)
			close_box(f);
	}
	if (ret < 0) {
		note_failure(f, ret);
		return ret;
	}
	f->last_error = 0;
	return f->state == FOLDER_UNREADABLE ? -EIO : 0;
}
