#include "tools/convert_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "compat/io.h"
#include "compat/journal.h"
#include "compat/letters.h"
#include "compat/maildir.h"
#include "compat/uidlist.h"
#include "tools/convert_list.h"
#include "tools/convert_note.h"

enum { KEYWORDS_MAX = 1 << 20, FAULTS_MAX = 10000 };

static const char keywords_file[] = "dovecot-keywords";

/* A folder under way. */
struct job {
	struct convert_user *user;
	const struct convert_box *at;
	struct pace *pace;
	_Atomic uint64_t *done;
	struct convert_outcome *out;
	struct box *box;
	/* Of its line of the ledger, which may move when others are added. */
	char dir[FOLDERNAME_MAX + 1];
	char guid[33];
	uint32_t number, uidvalidity, on_disk;
	enum ledger_phase phase;
	int fd;			  /* the folder */
	struct convert_left left; /* by an earlier run */
	struct journal *journal;
	struct convert_list *list;
	struct convert *convert;
};

static int say(struct job *j, int err, const char *why)
{
	if (!j->out->why[0])
		(void)snprintf(j->out->why, sizeof(j->out->why), "%s", why);
	return err;
}

static void add_fault(const struct convert_fault *f, void *arg)
{
	struct job *j = arg;
	struct convert_outcome *o = j->out;
	struct convert_fault *more;

	if (o->fault_count == FAULTS_MAX)
		return;
	more = reallocarray(o->faults, o->fault_count + 1, sizeof(*more));
	if (!more)
		return;
	o->faults = more;
	more[o->fault_count++] = *f;
}

void convert_outcome_fini(struct convert_outcome *o)
{
	free(o->faults);
	*o = (struct convert_outcome){ .err = 0 };
}

/* ---- the mailbox --------------------------------------------------------- */

static const char *open_text(int err)
{
	switch (err) {
	case -ELOOP:
		return "a symbolic link lies where the mailbox should be";
	case -ENOTSUP:
		return "not a regular file";
	case -EMLINK:
		return "the file has hard links";
	case -EPERM:
		return "the file belongs to another user";
	case -EREMOTE:
		return "it lies on a network filesystem, where UW's locks do "
		       "not work; run janusmail on the file server";
	case -EAGAIN:
		return "another process keeps it locked; run this again";
	default:
		return strerrordesc_np(-err);
	}
}

static int stop_at_once(const struct msg *m, const char *name, void *arg)
{
	(void)m;
	(void)name;
	(void)arg;
	return -ECANCELED;
}

static int fault_of_all(struct job *j, uint64_t off, const char *reason)
{
	struct convert_fault f = { .off = off };

	(void)snprintf(f.reason, sizeof(f.reason), "%s", reason);
	add_fault(&f, j);
	return -EBADMSG;
}

/* The header, and whether it is a mailbox at all. */
static int open_box(struct job *j, const char *legacy)
{
	AUTO_FREE struct scan *s = calloc(1, sizeof(*s));
	int ret = s ? j->at->store->ops->open(j->at->store, legacy, &j->box)
		    : -ENOMEM;

	if (ret == -ELOOP || ret == -ENOTSUP || ret == -EMLINK || ret == -EPERM)
		return fault_of_all(j, 0, open_text(ret));
	if (ret == 0)
		ret = j->box->ops->scan(j->box, s, stop_at_once, NULL);
	if (ret == -EBADMSG)
		return fault_of_all(j, s->damage.off, s->damage.text);
	if (ret < 0 && ret != -ECANCELED)
		return say(j, ret, open_text(ret));
	j->on_disk = s->uidvalidity;
	return 0;
}

/* ---- the ledger ---------------------------------------------------------- */

static void copy_line(struct job *j, char *legacy, size_t size)
{
	const struct ledger_folder *l;

	(void)pthread_mutex_lock(&j->user->lock);
	l = &j->user->ledger.folders[j->at->line];
	(void)snprintf(j->dir, sizeof(j->dir), "%s", l->dir);
	(void)snprintf(legacy, size, "%s", l->legacy);
	memcpy(j->guid, l->guid, sizeof(j->guid));
	j->number = l->number;
	j->uidvalidity = l->uidvalidity;
	j->phase = l->phase;
	(void)pthread_mutex_unlock(&j->user->lock);
}

static int save_line(struct job *j)
{
	struct ledger_folder *l;
	int ret;

	(void)pthread_mutex_lock(&j->user->lock);
	l = &j->user->ledger.folders[j->at->line];
	l->uidvalidity = j->uidvalidity;
	l->phase = j->phase;
	l->dirty = true;
	ret = convert_user_commit(j->user);
	(void)pthread_mutex_unlock(&j->user->lock);
	return ret;
}

/* Names are made with it from now on. IMAP forbids 0, and a mailbox about to be
 * born has none yet. */
static int settle_uidvalidity(struct job *j)
{
	char why[200];

	if (j->uidvalidity == 0) {
		j->uidvalidity = j->on_disk ? j->on_disk : (uint32_t)time(NULL);
		return j->user->site->dry ? 0 : save_line(j);
	}
	if (j->on_disk == 0 || j->on_disk == j->uidvalidity)
		return 0;
	(void)snprintf(
		why, sizeof(why),
		"its UIDVALIDITY was %u and is %u now: all UIDs are new; "
		"move the folder out of the tree, or begin with an empty "
		"one",
		j->uidvalidity, j->on_disk);
	return say(j, -ESTALE, why);
}

/* ---- what an earlier run, or a daemon, left ------------------------------ */

static int64_t dir_time(int fd, const char *sub)
{
	struct stat st;

	return fstatat(fd, sub, &st, AT_SYMLINK_NOFOLLOW) < 0
		? 0
		: io_ns(&st.st_mtim);
}

static int open_folder(struct job *j)
{
	struct convert_user *u = j->user;
	int ret = maildir_make_folder(u->fd, j->dir, u->uid, u->gid);

	if (ret < 0)
		return ret;
	j->fd = io_open_beneath(u->fd, *j->dir ? j->dir : ".",
				O_RDONLY | O_DIRECTORY);
	return j->fd < 0 ? j->fd : 0;
}

static bool others_were_here(const struct job *j)
{
	if (j->left.cur_ns == CONVERT_RUNNING)
		return false;
	return j->left.cur_ns != dir_time(j->fd, "cur") ||
		j->left.new_ns != dir_time(j->fd, "new");
}

/* From now on the tree is what counts, also for a daemon that serves it. */
static int make_native(struct job *j)
{
	if (j->phase == PHASE_NATIVE)
		return 0;
	j->phase = PHASE_NATIVE;
	return save_line(j);
}

static int take_as_it_is(struct job *j)
{
	j->out->unchanged = true;
	j->out->result.messages = j->left.messages;
	j->out->result.octets = j->left.octets;
	return make_native(j);
}

/* Return: 1: there is nothing to do; 0; -errno */
static int look_at_note(struct job *j)
{
	int state = j->user->site->state_fd;
	struct stamp now;
	int ret = convert_note_read(state, j->number, &j->left);

	/* Somebody has cut it over: the MBX is old. */
	j->out->native = ret == -ENOENT && j->phase == PHASE_NATIVE;
	if (ret < 0)
		return j->out->native ? 1 : ret == -ENOENT ? 0 : ret;
	j->out->add_only = others_were_here(j);
	ret = j->box->ops->stamp(j->box, &now);
	if (ret == 0 && stamp_equal(&now, &j->left.stamp)) {
		ret = take_as_it_is(j);
		return ret < 0 ? ret : 1;
	}
	/* Times of directories are about to move: that is us. */
	j->left.cur_ns = j->left.new_ns =
		j->out->add_only ? CONVERT_OTHERS : CONVERT_RUNNING;
	j->left.stamp.ino = 0;
	return ret < 0 ? ret : convert_note_write(state, j->number, &j->left);
}

static int count_unsure(const struct journal_entry *e, void *arg)
{
	size_t *count = arg;

	*count += !e->sure;
	return 0;
}

/* Mail that was delivered through a view, and lies in the MBX as well. */
static int open_journal(struct job *j)
{
	char name[16];
	size_t unsure = 0;
	AUTO_FD int dir = io_open_within(j->user->site->state_fd, "journals",
					 O_RDONLY | O_DIRECTORY);
	int ret;

	if (dir < 0)
		return dir == -ENOENT ? 0 : dir;
	(void)snprintf(name, sizeof(name), "%08x", j->number);
	ret = journal_open(dir, name, (uid_t)-1, (gid_t)-1, &j->journal);
	if (ret == 0)
		ret = journal_each(j->journal, count_unsure, &unsure);
	if (ret == 0 && unsure > 0)
		return say(j, -EAGAIN,
			   "mail was on its way into the mailbox when the "
			   "daemon ended; mount it once and umount it again");
	return ret;
}

/* ---- what the engine asks ------------------------------------------------ */

static int hook_pass(void *arg)
{
	struct job *j = arg;

	j->out->fault_count = 0;
	return convert_list_restart(j->list);
}

static int write_keywords(struct job *j, const struct keywords *k)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return -ENOMEM;
	dkeywords_write(f, k);
	if (fclose(f) != 0)
		return -ENOMEM;
	return io_replace_file(j->fd, keywords_file, text, len, j->user->uid,
			       j->user->gid);
}

/* A folder is made so that letters and slots have the same numbers. */
static void seed_keywords(struct keywords *out, const struct keywords *box)
{
	uint32_t shown = dkeywords_letters(box);

	*out = (struct keywords){ 0 };
	for (unsigned i = 0; i < MAILDIR_LETTERS; i++)
		if (shown & (UINT32_C(1) << i))
			memcpy(out->name[i], box->name[i],
			       sizeof(out->name[i]));
}

static int hook_letters(const struct keywords *box, struct letters *out,
			void *arg)
{
	struct job *j = arg;
	AUTO_FREE struct keywords *names = calloc(1, sizeof(*names));
	AUTO_FREE char *text = NULL;
	uint64_t count;
	uint32_t taken =
		j->journal ? journal_all_letters(j->journal, &count) : 0;
	size_t len = 0;
	bool missing;
	int ret = names
		? io_read_file(j->fd, keywords_file, KEYWORDS_MAX, &text, &len)
		: -ENOMEM;

	missing = ret == -ENOENT;
	if (missing) {
		seed_keywords(names, box);
		ret = 0;
	} else if (ret == 0) {
		ret = dkeywords_parse(text, len, names);
	}
	if (ret == 0 && (letters_add(names, box, taken) || missing))
		ret = write_keywords(j, names);
	if (ret < 0)
		return ret;
	letters_map(out, names, box);
	j->out->unlettered = 0;
	for (unsigned i = 0; i < KEYWORD_SLOTS; i++)
		j->out->unlettered += *box->name[i] && out->letter[i] < 0;
	return 0;
}

static uint32_t hook_more(uint32_t uid, void *arg)
{
	const struct job *j = arg;

	return j->journal ? journal_letters(j->journal, uid) : 0;
}

static bool hook_elsewhere(uint32_t uid, void *arg)
{
	const struct job *j = arg;
	char base[256];
	bool sure;

	/* It was there once, and somebody has removed it from the tree. */
	if (j->out->add_only && uid < j->left.uidnext)
		return true;
	return j->journal && journal_by_uid(j->journal, uid, base, &sure);
}

static int hook_shown(const struct msg *m, const char *base, void *arg)
{
	struct job *j = arg;
	struct convert_fault f = { .uid = m->uid,
				   .off = m->off - m->line,
				   .kept = true };
	int ret = convert_list_add(j->list, m, base);

	if (ret != -EEXIST)
		return ret;
	(void)snprintf(f.reason, sizeof(f.reason),
		       "dovecot-uidlist has given its UID to another message");
	add_fault(&f, j);
	return 0;
}

static int hook_pace(uint64_t octets, void *arg)
{
	const struct job *j = arg;

	return pace_take(j->pace, octets);
}

/* ---- all of it ----------------------------------------------------------- */

static void show_progress(struct job *j)
{
	const struct convert_result *r = convert_result(j->convert);
	uint64_t at = r->at < j->at->octets ? r->at : j->at->octets;

	/* A later pass begins at the start again, and copies little. */
	if (at > atomic_load(j->done))
		atomic_store(j->done, at);
}

static int run_engine(struct job *j)
{
	const struct convert_user *u = j->user;
	struct convert_target t = { .dirfd = j->fd,
				    .uid = u->uid,
				    .gid = u->gid,
				    .number = j->number,
				    .uidvalidity = j->uidvalidity,
				    .on_disk = j->on_disk,
				    .add_only = j->out->add_only };
	struct convert_hooks h = { .arg = j,
				   .pass = hook_pass,
				   .letters = hook_letters,
				   .more_letters = hook_more,
				   .elsewhere = hook_elsewhere,
				   .shown = hook_shown,
				   .pace = hook_pace,
				   .fault = add_fault };
	int ret = convert_new(j->box, &t, &h, &j->convert);

	while (ret >= 0) {
		ret = convert_step(j->convert);
		show_progress(j);
		if (ret <= 0)
			break;
		ret = pace_take(j->pace, 0);
	}
	if (j->convert)
		j->out->result = *convert_result(j->convert);
	j->out->in_use = ret == 0 && !j->out->result.settled;
	if (ret == -EBADMSG)
		return fault_of_all(j, j->out->result.damage.off,
				    j->out->result.damage.text);
	return ret < 0 ? say(j, ret, open_text(ret)) : 0;
}

static int sync_names(struct job *j)
{
	static const char *const subs[] = { "cur", "new" };
	int ret = 0;

	for (size_t i = 0; ret == 0 && i < ARRAY_LEN(subs); i++) {
		AUTO_FD int fd =
			io_open_beneath(j->fd, subs[i], O_RDONLY | O_DIRECTORY);

		ret = fd < 0 ? fd : io_fsync_dir(fd);
	}
	return ret;
}

/* Behind damage there may be messages below UIDLAST: they are to get their own
 * UIDs when they turn up. */
static int write_list(struct job *j)
{
	const struct convert_result *r = &j->out->result;
	int ret = sync_names(j);

	if (ret == 0)
		ret = convert_list_finish(j->list,
					  r->damage.kind == DAMAGE_RECORD
						  ? 0
						  : r->uidnext);
	return ret == -EBUSY ? say(j, ret,
				   "dovecot-uidlist.lock is held: "
				   "does Dovecot use this tree?")
			     : ret;
}

static bool is_whole(const struct convert_outcome *o)
{
	for (size_t i = 0; i < o->fault_count; i++)
		if (!o->faults[i].kept)
			return false;
	return true;
}

static int finish(struct job *j)
{
	const struct convert_outcome *o = j->out;
	struct convert_left left = { .stamp = o->result.stamp,
				     .cur_ns = CONVERT_OTHERS,
				     .new_ns = CONVERT_OTHERS,
				     .messages = o->result.messages,
				     .octets = o->result.octets,
				     .uidnext = o->result.uidnext };
	int ret;

	if (!o->add_only) {
		left.cur_ns = dir_time(j->fd, "cur");
		left.new_ns = dir_time(j->fd, "new");
	}
	if (o->fault_count > 0 || o->in_use)
		left.stamp.ino = 0;
	ret = convert_note_write(j->user->site->state_fd, j->number, &left);
	return ret == 0 && is_whole(o) ? make_native(j) : ret;
}

static int open_list(struct job *j)
{
	const struct convert_user *u = j->user;
	struct convert_list_of of = { .dirfd = j->fd,
				      .number = j->number,
				      .uidvalidity = j->uidvalidity,
				      .guid = j->guid,
				      .uid = u->uid,
				      .gid = u->gid };
	int ret = convert_list_open(&of, u->site->dir, &j->list);

	return ret == -EBADMSG ? say(j, -EIO, "its dovecot-uidlist is damaged")
			       : ret;
}

static int convert(struct job *j)
{
	int ret = open_folder(j);

	if (ret == 0)
		ret = look_at_note(j);
	if (ret != 0)
		return ret < 0 ? ret : 0;
	ret = open_journal(j);
	if (ret == 0)
		ret = open_list(j);
	if (ret == 0)
		ret = run_engine(j);
	if (ret == 0)
		ret = write_list(j);
	return ret == 0 ? finish(j) : ret;
}

static int count_one(const struct msg *m, const char *name, void *arg)
{
	struct job *j = arg;

	(void)name;
	j->out->result.messages++;
	j->out->result.octets += m->size;
	return atomic_load(&j->pace->cancelled) ? -ECANCELED : 0;
}

/* What would be done. */
static int look_only(struct job *j)
{
	AUTO_FREE struct scan *s = calloc(1, sizeof(*s));
	int ret = s ? j->box->ops->scan(j->box, s, count_one, j) : -ENOMEM;

	if (ret == 0 && s->damage.kind == DAMAGE_RECORD)
		(void)fault_of_all(j, s->damage.off, s->damage.text);
	return ret;
}

void convert_folder_run(struct convert_user *u, const struct convert_box *box,
			struct pace *pace, _Atomic uint64_t *done,
			struct convert_outcome *out)
{
	struct job j = { .user = u,
			 .at = box,
			 .pace = pace,
			 .done = done,
			 .out = out,
			 .fd = -1 };
	char legacy[4096];
	int ret;

	*out = (struct convert_outcome){ .err = 0 };
	copy_line(&j, legacy, sizeof(legacy));
	ret = open_box(&j, legacy);
	if (ret == 0)
		ret = settle_uidvalidity(&j);
	if (ret == 0)
		ret = u->site->dry ? look_only(&j) : convert(&j);
	/* Quarantine, and nothing that can be tried again. */
	if (ret == -EBADMSG && out->fault_count > 0)
		ret = 0;
	out->err = ret < 0 ? say(&j, ret, strerrordesc_np(-ret)) : 0;
	convert_free(j.convert);
	convert_list_close(j.list);
	journal_close(j.journal);
	base_auto_close(&j.fd);
	if (j.box)
		j.box->ops->close(j.box);
	atomic_store(done, box->octets);
}
