#include "fs/seed.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "compat/basename.h"
#include "compat/dotlock.h"
#include "compat/identity.h"
#include "compat/io.h"
#include "compat/letters.h"
#include "compat/log.h"
#include "compat/text.h"
#include "compat/uidlist.h"
#include "fs/folder_internal.h"

enum {
	LIST_MAX = 16 << 20, /* octets of a .mailboxlist */
	LOCK_MS = 2000,	     /* nobody knows the folder yet */
};

/* A text being written into memory. */
struct buffer {
	char *text;
	size_t len;
	FILE *f;
};

static int buffer_open(struct buffer *b)
{
	*b = (struct buffer){ .text = NULL };
	b->f = open_memstream(&b->text, &b->len);
	return b->f ? 0 : -ENOMEM;
}

static int buffer_close(struct buffer *b)
{
	bool bad = ferror(b->f) != 0;

	return fclose(b->f) != 0 || bad ? -ENOMEM : 0;
}

/* ---- where --------------------------------------------------------------- */

/* Opens @path beneath @base, making what is missing as the user's own. */
static int open_making(const struct user *u, int base, const char *path)
{
	char part[NAME_MAX + 1];
	AUTO_FD int fd = io_open_beneath(base, ".", O_RDONLY | O_DIRECTORY);

	while (fd >= 0 && *path) {
		size_t len = strcspn(path, "/");
		int sub, ret;

		if (len > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(part, path, len);
		part[len] = '\0';
		path += len + (path[len] == '/');
		if (len == 0)
			continue;
		ret = io_mkdir(fd, part, 0700, u->uid, u->gid);
		if (ret < 0 && ret != -EEXIST)
			return ret;
		sub = io_open_beneath(fd, part, O_RDONLY | O_DIRECTORY);
		(void)close(fd);
		fd = sub;
	}
	return base_steal_fd(&fd);
}

/* Dovecot's CONTROL= directory for a folder: INBOX is ".INBOX" there; the
 * files that belong to all folders lie in the directory itself (@dir NULL). */
static int open_control(const struct user *u, const char *dir, bool make)
{
	const struct pattern *p = &u->fs->opt->control;
	const char *sub = dir ? (*dir ? dir : ".INBOX") : "";
	char path[PATH_MAX];
	int ret;

	if (!make)
		return pattern_open(p, u->name, sub, O_RDONLY | O_DIRECTORY);
	if (!pattern_has_user(p))
		return open_making(u, p->base_fd, sub);
	ret = text_path(path, sizeof(path), "%s%s%s/%s/%s", p->before, u->name,
			p->after, p->rest, sub);
	return ret < 0 ? ret : open_making(u, p->base_fd, path);
}

static bool has_file(int dirfd, const char *name)
{
	struct stat st;

	return dirfd >= 0 &&
		fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

int seed_open_control(const struct user *u, const char *dir)
{
	return open_control(u, dir, true);
}

bool seed_needed(const struct folder *f)
{
	AUTO_FD int dir = folder_open_dir(f, "");
	AUTO_FD int control = -1;

	if (!has_file(dir, "dovecot-uidlist"))
		return true;
	if (!f->fs->opt->has_control)
		return false;
	control = open_control(f->user, f->dir, false);
	return !has_file(control, "dovecot-uidlist");
}

/* ---- what ---------------------------------------------------------------- */

struct writer {
	const struct folder *folder;
	FILE *f;
};

static int write_record(const struct msg *m, const char *name, void *arg)
{
	const struct writer *w = arg;
	struct basename b = { .folder = w->folder->id.number,
			      .uidvalidity = w->folder->id.uidvalidity,
			      .uid = m->uid,
			      .date = m->date,
			      .size = m->size };
	char base[BASENAME_MAX + 1];
	struct uidlist_record r = { .uid = m->uid,
				    .psize = UINT64_MAX,
				    .vsize = UINT64_MAX };

	basename_format(&b, base);
	r.name = name ? name : base;
	r.name_len = strlen(r.name);
	uidlist_write_record(w->f, &r);
	return 0;
}

static int make_uidlist(const struct folder *f, const struct index_folder *row,
			struct buffer *b)
{
	struct uidlist_header h = { .version = 3,
				    .uidvalidity = f->id.uidvalidity,
				    .uidnext =
					    row->uidnext ? row->uidnext : 1 };
	struct writer w = { .folder = f };
	uint32_t last;
	int ret = folder_highest(f, &last);

	/* Behind damage there may be messages below UIDLAST: they are to get
	 * their own UIDs when they turn up. */
	if (row->damage.kind == DAMAGE_RECORD)
		h.uidnext = last + 1;
	if (ret == 0)
		ret = buffer_open(b);
	if (ret < 0)
		return ret;
	w.f = b->f;
	memcpy(h.guid, f->guid, sizeof(h.guid));
	uidlist_write_header(b->f, &h);
	ret = index_each(f->fs->index, f->id.number, write_record, &w);
	return buffer_close(b) < 0 ? -ENOMEM : ret;
}

static int make_keywords(const struct index_folder *row, struct buffer *b)
{
	int ret = buffer_open(b);

	if (ret < 0)
		return ret;
	dkeywords_write(b->f, &row->keywords);
	return buffer_close(b);
}

static int put(const struct user *u, int dirfd, const char *name,
	       const struct buffer *b)
{
	return io_replace_file(dirfd, name, b->text, b->len, u->uid, u->gid);
}

static int put_both(struct folder *f, int dirfd, const struct buffer *kw,
		    const struct buffer *list, bool again)
{
	bool lost = !again && atomic_load(&f->seeded), locked;
	int ret;

	if (dirfd < 0)
		return dirfd;
	if (!again && has_file(dirfd, "dovecot-uidlist"))
		return 0;
	ret = dotlock_take(f->user->uid, f->user->gid, dirfd,
			   "dovecot-uidlist.lock", lost ? 0 : LOCK_MS);
	locked = ret == 0;
	/* Somebody has removed the list. Dovecot may have the lock while it
	 * waits for this very list; there is nothing that could be lost. */
	if (ret == -EBUSY && lost)
		ret = 0;
	if (ret < 0)
		return ret;
	/* Letters of delivered files mean what it says, whatever becomes of the
	 * MBX; folder_show_letters() adds what is missing. */
	if (!has_file(dirfd, "dovecot-keywords"))
		ret = put(f->user, dirfd, "dovecot-keywords", kw);
	else
		ret = 0;
	/* As in follow.c: what has a line shows before the lock is let go. */
	folder_show_up_to(f, UINT32_MAX);
	if (ret == 0)
		ret = put(f->user, dirfd, "dovecot-uidlist", list);
	if (locked)
		dotlock_drop(dirfd, "dovecot-uidlist.lock");
	return ret;
}

int seed_folder(struct folder *f, bool again)
{
	AUTO_FD int dir = folder_open_dir(f, "");
	AUTO_FD int control = -1;
	struct buffer kw = { .text = NULL }, list = { .text = NULL };
	struct index_folder row;
	int ret = index_folder_get(f->fs->index, f->id.number, &row);

	if (ret == 0)
		ret = make_keywords(&row, &kw);
	if (ret == 0)
		ret = make_uidlist(f, &row, &list);
	if (ret == 0)
		ret = put_both(f, dir, &kw, &list, again);
	if (ret == 0 && f->fs->opt->has_control) {
		control = open_control(f->user, f->dir, true);
		ret = put_both(f, control, &kw, &list, again);
	}
	free(kw.text);
	free(list.text);
	if (ret < 0) {
		char name[400];

		folder_log_name(f, name, sizeof(name));
		log_err("%s: Dovecot's control files cannot be written: %s",
			name,
			ret == -EBUSY ? "dovecot-uidlist.lock is held"
				      : strerrordesc_np(-ret));
	}
	return ret;
}

/* ---- keywords that came later -------------------------------------------- */

/* Where Dovecot keeps the folder's control files. Return: a descriptor */
static int open_dovecots(const struct folder *f)
{
	return f->fs->opt->has_control ? open_control(f->user, f->dir, false)
				       : folder_open_dir(f, "");
}

static int load_keywords(int dirfd, struct keywords *out)
{
	AUTO_FREE char *text = NULL;
	size_t len;
	int ret =
		io_read_file(dirfd, "dovecot-keywords", LIST_MAX, &text, &len);

	*out = (struct keywords){ 0 };
	if (ret == 0)
		ret = dkeywords_parse(text, len, out);
	return ret == -ENOENT || ret == -EBADMSG ? 0 : ret;
}

int seed_read_keywords(const struct folder *f, struct keywords *out)
{
	AUTO_FD int dir = open_dovecots(f);

	*out = (struct keywords){ 0 };
	if (dir < 0)
		return dir == -ENOENT ? 0 : dir;
	return load_keywords(dir, out);
}

int64_t seed_keywords_time(const struct folder *f)
{
	AUTO_FD int dir = open_dovecots(f);
	struct stat st;

	if (dir < 0 ||
	    fstatat(dir, "dovecot-keywords", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return io_ns(&st.st_mtim);
}

/* Dovecot compares whole seconds of mtime, so each version needs a later one
 * than the last. */
static int put_keywords(const struct user *u, int dirfd, const struct buffer *b)
{
	struct stat st = { .st_mtim = { .tv_sec = 0 } };
	AUTO_FD int fd = -1;
	time_t now = time(NULL);
	int ret;

	(void)fstatat(dirfd, "dovecot-keywords", &st, AT_SYMLINK_NOFOLLOW);
	ret = put(u, dirfd, "dovecot-keywords", b);
	if (ret < 0 || st.st_mtim.tv_sec < now)
		return ret;
	fd = io_open_beneath(dirfd, "dovecot-keywords", O_RDONLY);
	return fd < 0
		? fd
		: io_set_mtime(fd,
			       ((int64_t)st.st_mtim.tv_sec + 1) * 1000000000);
}

static int write_keywords(const struct user *u, int dirfd,
			  const struct keywords *k)
{
	struct buffer b = { .text = NULL };
	int ret = buffer_open(&b);

	if (ret < 0)
		return ret;
	dkeywords_write(b.f, k);
	ret = buffer_close(&b);
	if (ret == 0)
		ret = put_keywords(u, dirfd, &b);
	free(b.text);
	return ret;
}

/* Dovecot has no lock of its own for these: it chooses a letter, renames with
 * it and writes its name down under the list's lock, all in one. */
static int merge_keywords(const struct user *u, int dirfd,
			  const struct keywords *k, uint32_t taken,
			  struct keywords *out)
{
	int ret = load_keywords(dirfd, out);

	if (ret < 0 || !letters_add(out, k, taken))
		return ret;
	ret = dotlock_take(u->uid, u->gid, dirfd, "dovecot-uidlist.lock", 0);
	if (ret < 0)
		return ret;
	ret = load_keywords(dirfd, out);
	if (ret == 0 && letters_add(out, k, taken))
		ret = write_keywords(u, dirfd, out);
	dotlock_drop(dirfd, "dovecot-uidlist.lock");
	return ret;
}

int seed_keywords(struct folder *f, const struct keywords *k, uint32_t taken,
		  struct keywords *out)
{
	AUTO_FD int dir = folder_open_dir(f, "");
	AUTO_FD int control = -1;
	struct keywords ours;
	int ret;

	*out = (struct keywords){ 0 };
	if (dir < 0)
		return dir;
	if (!f->fs->opt->has_control)
		return merge_keywords(f->user, dir, k, taken, out);
	control = seed_open_control(f->user, f->dir);
	if (control < 0)
		return control;
	ret = merge_keywords(f->user, control, k, taken, out);
	/* Ours is for the day when control= is given up. */
	if (ret == 0)
		ret = load_keywords(dir, &ours);
	if (ret == 0 && memcmp(&ours, out, sizeof(ours)) != 0)
		ret = write_keywords(f->user, dir, out);
	return ret;
}
