#include "fs/mail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "compat/basename.h"
#include "compat/io.h"
#include "compat/log.h"
#include "fs/change.h"
#include "fs/copy.h"
#include "fs/files.h"
#include "fs/kept.h"
#include "fs/mail_internal.h"
#include "fs/mirror.h"
#include "fs/user.h"
#include "fs/view.h"

enum what { NOTHING, IN_MBX, A_FILE };

struct folder *mail_dir(const struct node *n)
{
	enum node_kind kind = n->kind;

	return kind == NODE_CUR || kind == NODE_NEW ? view_folder(n) : NULL;
}

static int place_init(struct place *p, struct node *dir, const char *name)
{
	size_t len = info_split(name, strlen(name));

	if (strlen(name) > NAME_MAX)
		return -ENAMETOOLONG;
	*p = (struct place){ .dir = dir,
			     .f = name[0] == '.' ? NULL : mail_dir(dir),
			     .in_new = dir->kind == NODE_NEW,
			     .name = name };
	memcpy(p->base, name, len);
	p->base[len] = '\0';
	return 0;
}

/* As the user whose tree it is; identity_leave() is due if that worked. */
int mail_act_as_user(const struct node *dir, struct identity *was)
{
	const struct user *u = dir->user;

	*was = identity_enter_caller(u->uid, u->gid, NULL, 0);
	return was->err;
}

/* ---- what a name is ------------------------------------------------------ */

int mail_admit(const struct place *p)
{
	struct msg m;
	bool taken = files_find(p->f, p->base) ||
		view_row(p->f, p->base, &m) != VIEW_NO_ROW;

	return taken ? -EEXIST : mirror_admit(p->f, p->base);
}

static int look(const struct place *p, enum what *out)
{
	struct stat st;
	struct msg m;
	int ret;

	*out = IN_MBX;
	if (view_row(p->f, p->base, &m) == VIEW_MADE_UP)
		return 0;
	if (fstatat(p->dir->fd, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		*out = A_FILE;
		return S_ISDIR(st.st_mode) ? -EACCES : 0;
	}
	if (errno != ENOENT)
		return -errno;
	/* A row with a name of its own shows where its file does not. */
	ret = files_lock(p->f);
	if (ret < 0)
		return ret;
	if (files_find(p->f, p->base) ||
	    view_row(p->f, p->base, &m) == VIEW_NO_ROW)
		*out = NOTHING;
	files_unlock(p->f);
	return 0;
}

/* Dot names change the time of their directory, too, and it has to grow. */
static void touch(const struct place *p)
{
	if (!p->f)
		mail_made(p->dir, p->name);
}

/* ---- delivery ------------------------------------------------------------ */

static int deliver_as_user(const struct place *to, int from_dir,
			   const char *name)
{
	struct identity was;
	int ret = mail_act_as_user(to->dir, &was);

	if (ret < 0)
		return ret;
	ret = files_take_in(to->f, from_dir, name, to->in_new, to->name);
	identity_leave(was);
	return ret;
}

static int deliver(const struct place *to, int from_dir, const char *name)
{
	struct stat st;
	int ret;

	if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* Dovecot takes a directory among messages for a message, and what is
	 * no file cannot be in the MBX. */
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	ret = files_lock(to->f);
	if (ret < 0)
		return ret;
	ret = mail_admit(to);
	if (ret == 0)
		ret = deliver_as_user(to, from_dir, name);
	files_unlock(to->f);
	if (ret == 0)
		mirror_note(to->f);
	return ret;
}

/* ---- copies of messages of the MBX --------------------------------------- */

static int put_copy(const struct place *to, const struct copy *c)
{
	struct identity was;
	int ret;

	if (to->f)
		return deliver(to, c->dirfd, c->name);
	ret = mail_act_as_user(to->dir, &was);
	if (ret < 0)
		return ret;
	ret = io_rename_new(c->dirfd, c->name, to->dir->fd, to->name);
	identity_leave(was);
	return ret;
}

static int copy_to(struct fs *fs, uint64_t ino, const struct place *to)
{
	struct copy c;
	int ret = copy_stage(fs, ino, to->dir, &c);

	if (ret < 0)
		return ret;
	ret = put_copy(to, &c);
	if (ret == 0)
		c.name[0] = '\0';
	copy_fini(&c);
	return ret;
}

int mail_copy(struct fs *fs, uint64_t ino, struct node *to, const char *name)
{
	struct place p;
	int ret = place_init(&p, to, name);

	if (ret == 0)
		ret = copy_to(fs, ino, &p);
	if (ret == 0)
		touch(&p);
	return ret;
}

/* The message is where it was, so what was made of it goes again. */
static void undo_copy(const struct place *to)
{
	struct identity was;
	int ret =
		to->f ? mail_file_unlink(to) : mail_act_as_user(to->dir, &was);

	if (!to->f && ret == 0) {
		ret = io_unlink(to->dir->fd, to->name, 0);
		identity_leave(was);
	}
	if (ret < 0)
		log_err("a message could not be moved, nor can its copy be "
			"removed: %s",
			strerrordesc_np(-ret));
}

static int move_message(struct fs *fs, const struct place *p,
			const struct place *to)
{
	struct folder_id id = folder_id(p->f);
	struct msg m;
	int ret = folder_by_name(p->f, p->in_new, p->name, &m);

	if (ret == 0)
		ret = copy_to(fs, index_ino(id.number, m.uid), to);
	if (ret < 0)
		return ret;
	ret = io_fsync_dir(to->dir->fd);
	if (ret == 0)
		ret = change_expunge(p->f, p->in_new, p->name);
	if (ret < 0)
		undo_copy(to);
	return ret;
}

/* ---- requests ------------------------------------------------------------ */

/* Dovecot shows a flag that could not be written, and forgets it. */
static int said(const struct place *p, const char *what, int ret)
{
	char name[400], who[KEPT_BY];

	if (ret == 0)
		atomic_store(&p->f->read_only, false);
	if (ret != -EAGAIN && ret != -ESTALE && ret != -EROFS)
		return ret;
	if (ret == -EROFS && atomic_exchange(&p->f->read_only, true))
		return ret;
	folder_log_name(p->f, name, sizeof(name));
	if (ret == -EROFS) {
		log_err("%s: %s, nor can others of this folder: %s", name, what,
			strerrordesc_np(EROFS));
		return ret;
	}
	if (!kept_first(p->f))
		return -EIO;
	kept_by(p->f, who);
	if (ret == -EAGAIN)
		log_warn("%s: %s: %s keeps the mailbox locked", name, what,
			 who);
	else
		log_warn("%s: %s: the mailbox changes again and again", name,
			 what);
	return -EIO;
}

static int rename_message(struct fs *fs, const struct place *p,
			  const struct place *to)
{
	if (p->f != to->f)
		return move_message(fs, p, to);
	return change_rename(p->f, p->in_new, p->name, to->in_new, to->name);
}

static int rename_mail(struct fs *fs, const struct place *p,
		       const struct place *to)
{
	enum what what;
	int ret = look(p, &what);

	if (ret == 0 && what == NOTHING)
		ret = -ENOENT;
	if (ret < 0)
		return ret;
	if (what == IN_MBX)
		return rename_message(fs, p, to);
	if (p->f == to->f && strcmp(p->base, to->base) == 0)
		return mail_file_reflag(p, to);
	return mail_file_move(p, to);
}

static int rename_plain(const struct place *p, const struct place *to)
{
	struct identity was;
	int ret = mail_act_as_user(to->dir, &was);

	if (ret < 0)
		return ret;
	ret = io_rename_new(p->dir->fd, p->name, to->dir->fd, to->name);
	identity_leave(was);
	return ret;
}

int mail_rename(struct fs *fs, struct node *from, const char *name,
		struct node *to, const char *to_name)
{
	struct place a, b;
	int ret = place_init(&a, from, name);

	if (ret == 0)
		ret = place_init(&b, to, to_name);
	if (ret < 0)
		return ret;
	if (a.f)
		ret = said(&a, "a message cannot be renamed",
			   rename_mail(fs, &a, &b));
	else if (b.f)
		ret = deliver(&b, from->fd, name);
	else
		ret = rename_plain(&a, &b);
	touch(&a);
	touch(&b);
	return ret;
}

static int unlink_plain(const struct place *p)
{
	struct identity was;
	int ret = mail_act_as_user(p->dir, &was);

	if (ret < 0)
		return ret;
	ret = io_unlink(p->dir->fd, p->name, 0);
	identity_leave(was);
	touch(p);
	return ret;
}

int mail_unlink(struct node *dir, const char *name)
{
	enum what what = NOTHING;
	struct place p = { .name = name };
	int ret = place_init(&p, dir, name);

	if (ret == 0 && !p.f)
		ret = unlink_plain(&p);
	else if (ret == 0)
		ret = look(&p, &what);
	if (ret == 0 && what == A_FILE)
		ret = mail_file_unlink(&p);
	else if (ret == 0 && what == IN_MBX)
		ret = change_expunge(p.f, p.in_new, name);
	else if (ret == 0 && p.f)
		ret = -ENOENT;
	/* Dovecot would go on to remove a directory. */
	if (ret == -EPERM || ret == -EISDIR)
		ret = -EACCES;
	return p.f ? said(&p, "a message cannot be expunged", ret) : ret;
}

int mail_link(int fd, struct node *to, const char *name)
{
	struct identity was;
	struct place p;
	struct stat st;
	int ret = place_init(&p, to, name);

	if (ret == 0 && fstat(fd, &st) < 0)
		ret = -errno;
	if (ret == 0 && (!p.f || !S_ISREG(st.st_mode)))
		ret = -EACCES;
	if (ret == 0)
		ret = files_lock(p.f);
	if (ret < 0)
		return ret;
	ret = mail_admit(&p);
	if (ret == 0)
		ret = mail_act_as_user(to, &was);
	if (ret == 0) {
		ret = files_link_in(p.f, fd, p.in_new, name);
		identity_leave(was);
	}
	files_unlock(p.f);
	if (ret == 0)
		mirror_note(p.f);
	return ret;
}

int mail_may_make(struct node *dir, const char *name)
{
	struct place p;
	int ret = place_init(&p, dir, name);

	if (ret < 0 || !p.f)
		return ret;
	ret = files_lock(p.f);
	if (ret < 0)
		return ret;
	ret = mail_admit(&p);
	files_unlock(p.f);
	return ret;
}

void mail_made(struct node *dir, const char *name)
{
	struct folder *f = mail_dir(dir);

	if (!f || files_lock(f) < 0)
		return;
	files_made(f, dir->kind == NODE_NEW, name);
	files_unlock(f);
	if (name[0] != '.')
		mirror_note(f);
}

void mail_control(struct folder *f, const char *name)
{
	if (!f)
		return;
	if (strcmp(name, "dovecot-keywords") == 0)
		change_named(f);
	else if (strcmp(name, "dovecot-uidlist") == 0 ||
		 strcmp(name, "dovecot-uidlist.lock") == 0)
		mirror_note(f);
}
