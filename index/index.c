#include "index/index.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compat/basename.h"
#include "compat/io.h"
#include "compat/log.h"
#include "index/db.h"
#include "index/owner.h"
#include "index/row.h"
#include "index/table.h"

static_assert((int)DB_KEY_MAX >= (int)ROW_KEY_NAME_MAX, "keys fit");
static_assert((int)DB_ROW_MAX >= (int)ROW_FOLDER_MAX, "rows fit");

struct index {
	struct db *db;
	int owner; /* descriptor that holds the owner lock, or -1 */
	char boot[OWNER_BOOT_MAX + 1];
};

static const struct db_slice format_key = { "format", 6 };

/* The directory. */

static int refuse(const char *dir, const char *why, int err)
{
	log_err("index: %s: %s", dir, why);
	return err;
}

static int open_dir(const char *dir, bool make, int *fd_out)
{
	AUTO_FD int fd =
		open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const char *fs = "";
	struct stat st;
	int err;

	if (fd < 0 && errno == ENOENT && make) {
		err = io_mkdir(AT_FDCWD, dir, 0700, (uid_t)-1, (gid_t)-1);
		if (err && err != -EEXIST)
			return refuse(dir, strerrordesc_np(-err), err);
		fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (fd < 0 || fstat(fd, &st) < 0) {
		err = -errno;
		return refuse(dir, strerrordesc_np(-err), err);
	}
	if (st.st_uid != geteuid() || (st.st_mode & 077) != 0)
		return refuse(dir, "must be ours alone: owner, mode 0700",
			      -EACCES);
	if (io_is_network_fs(fd, &fs)) {
		log_err("index: %s: lies on %s: needs a local disk", dir, fs);
		return -ENOTSUP;
	}
	*fd_out = base_steal_fd(&fd);
	return 0;
}

/* The format number. */

struct format {
	bool known; /* there is a number */
	bool empty; /* there is nothing at all */
	uint32_t number;
};

static void read_format(struct db_txn *t, void *arg)
{
	struct format *f = arg;
	struct db_row row;

	*f = (struct format){ .empty = true };
	for (unsigned i = 0; i < DB_TABLES; i++)
		if (db_last(t, i, &row))
			f->empty = false;
	if (!db_get(t, DB_META, format_key, &row) || row.len != 4)
		return;
	f->known = true;
	for (unsigned i = 4; i-- > 0;)
		f->number = f->number << 8 | row.data[i];
}

static void write_format(struct db_txn *t, void *arg)
{
	uint8_t n[4];

	(void)arg;
	for (unsigned i = 0; i < 4; i++)
		n[i] = (uint8_t)((uint32_t)INDEX_FORMAT >> 8 * i);
	db_put(t, DB_META, format_key, (struct db_slice){ n, 4 }, DB_PUT);
}

static int open_db(struct index *ix, const char *dir, bool readonly)
{
	struct format f;
	int err = db_open(dir, readonly ? DB_READ : DB_WRITE, DB_MAP_START,
			  &ix->db);

	if (!err)
		err = db_read(ix->db, read_format, &f);
	if (err)
		return err;
	if (f.known)
		return f.number == INDEX_FORMAT ? 0 : -EUCLEAN;
	if (!f.empty || readonly)
		return -EUCLEAN;
	return db_write(ix->db, write_format, NULL);
}

static int remove_db(int dirfd)
{
	static const char *const names[] = { "data.mdb", "lock.mdb" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		int err = io_unlink(dirfd, names[i], 0);

		if (err && err != -ENOENT)
			return err;
	}
	return 0;
}

static int open_or_remake(struct index *ix, int dirfd, const char *dir,
			  bool readonly)
{
	static const char text[] = "damaged, or of another format";
	int err = open_db(ix, dir, readonly);

	if (err == -ENOENT)
		return refuse(dir, "no index there", err);
	if (err == -EUCLEAN && readonly)
		return refuse(dir, text, err);
	if (err != -EUCLEAN)
		return err;
	log_warn("index: %s: %s: made anew", dir, text);
	db_close(ix->db);
	ix->db = NULL;
	err = remove_db(dirfd);
	return err ? refuse(dir, "cannot remove the old index", err)
		   : open_db(ix, dir, readonly);
}

/* Trust in what lies there. */

static bool has_db(int dirfd)
{
	struct stat st;

	return fstatat(dirfd, "data.mdb", &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static const char down[] = "the machine may have gone down over it";

static int distrust(int dirfd, const char *dir)
{
	if (!has_db(dirfd))
		return 0;
	log_warn("index: %s: %s: made anew", dir, down);
	return remove_db(dirfd);
}

static int refuse_shared(int dirfd, const char *dir)
{
	char who[PATH_MAX];

	log_err("index: %s: in use by %s: umount it, or choose another index=",
		dir, owner_signed(dirfd, who, sizeof(who)));
	return -EBUSY;
}

static int own(struct index *ix, int dirfd, const char *dir)
{
	int err = owner_take(dirfd, &ix->owner);

	if (err == -EBUSY)
		return refuse_shared(dirfd, dir);
	/* The mark comes after: it would vouch for a file that stayed. */
	if (!err && !owner_sound(ix->owner, ix->boot))
		err = distrust(dirfd, dir);
	if (!err)
		err = owner_mark(ix->owner, OWNER_OPEN, ix->boot);
	if (!err)
		owner_sign(ix->owner, NULL);
	return err ? refuse(dir, strerrordesc_np(-err), err) : 0;
}

static int trust(const struct index *ix, int dirfd, const char *dir)
{
	AUTO_FD int fd = io_open_beneath(dirfd, "owner", O_RDONLY);

	if (!has_db(dirfd) || (fd >= 0 && owner_sound(fd, ix->boot)))
		return 0;
	return refuse(dir, down, -EUCLEAN);
}

int index_open_boot(const char *dir, bool readonly, const char *boot,
		    struct index **out)
{
	AUTO_FD int dirfd = -1;
	struct index *ix;
	int err = open_dir(dir, !readonly, &dirfd);

	if (err)
		return err;
	ix = calloc(1, sizeof(*ix));
	if (!ix)
		return -ENOMEM;
	ix->owner = -1;
	(void)snprintf(ix->boot, sizeof(ix->boot), "%s", boot);
	err = readonly ? trust(ix, dirfd, dir) : own(ix, dirfd, dir);
	if (!err)
		err = open_or_remake(ix, dirfd, dir, readonly);
	if (err)
		index_close(ix);
	else
		*out = ix;
	return err;
}

int index_open(const char *dir, bool readonly, struct index **out)
{
	char boot[OWNER_BOOT_MAX + 1];

	owner_boot(boot);
	return index_open_boot(dir, readonly, boot, out);
}

/* A mark that is missing costs a rebuild, if the machine goes down. */
void index_close(struct index *ix)
{
	bool clean;

	if (!ix)
		return;
	clean = ix->db && ix->owner >= 0 && db_sync(ix->db) == 0;
	db_close(ix->db);
	if (clean && owner_mark(ix->owner, OWNER_CLEAN, ix->boot))
		log_warn("index: cannot be marked as closed");
	base_auto_close(&ix->owner);
	free(ix);
}

void index_sign(struct index *ix, const char *mountpoint)
{
	if (ix->owner >= 0)
		owner_sign(ix->owner, mountpoint);
}

int index_flush(struct index *ix)
{
	return db_sync(ix->db);
}

struct db *index_db(struct index *ix)
{
	return ix->db;
}

/* Folders and messages. */

/* The arguments of any query. */
struct query {
	uint32_t folder, uid, uidvalidity;
	const char *base;
	struct index_folder *row_out;
	struct msg *msg_out;
	char *name_out;
	index_msg_fn *msg_fn;
	index_folder_fn *folder_fn;
	void *arg;
	int result; /* of the callback */
};

static void folder_get(struct db_txn *t, void *arg)
{
	struct query *q = arg;

	if (!table_folder(t, q->folder, q->row_out))
		db_fail(t, -ENOENT);
}

int index_folder_get(struct index *ix, uint32_t folder,
		     struct index_folder *out)
{
	struct query q = { .folder = folder, .row_out = out };

	return db_read(ix->db, folder_get, &q);
}

static void folder_drop(struct db_txn *t, void *arg)
{
	const struct query *q = arg;
	uint8_t key[ROW_KEY_FOLDER];
	struct db_slice prefix = { key, sizeof(key) };

	row_key_folder(q->folder, key);
	db_del_prefix(t, DB_NAME, prefix);
	db_del_prefix(t, DB_MSG, prefix);
	db_del(t, DB_FOLDER, prefix);
}

int index_folder_drop(struct index *ix, uint32_t folder)
{
	struct query q = { .folder = folder };

	return db_write(ix->db, folder_drop, &q);
}

static void by_uid(struct db_txn *t, void *arg)
{
	struct query *q = arg;
	char name[ROW_NAME_MAX + 1];

	if (!table_msg(t, q->folder, q->uid, q->msg_out, name))
		db_fail(t, -ENOENT);
}

int index_by_uid(struct index *ix, uint32_t folder, uint32_t uid,
		 struct msg *out)
{
	struct query q = { .folder = folder, .uid = uid, .msg_out = out };

	return db_read(ix->db, by_uid, &q);
}

static void name_of(struct db_txn *t, void *arg)
{
	struct query *q = arg;
	struct msg m;

	if (!table_msg(t, q->folder, q->uid, &m, q->name_out))
		db_fail(t, -ENOENT);
}

int index_name_of(struct index *ix, uint32_t folder, uint32_t uid, char *out)
{
	struct query q = { .folder = folder, .uid = uid, .name_out = out };

	return db_read(ix->db, name_of, &q);
}

/* A name of basename.h's form that belongs to a message without its own. */
static bool by_parts(struct db_txn *t, struct query *q)
{
	char name[ROW_NAME_MAX + 1];
	struct basename b;

	if (basename_parse(q->base, strlen(q->base), &b) ||
	    b.folder != q->folder || b.uidvalidity != q->uidvalidity)
		return false;
	return table_msg(t, q->folder, b.uid, q->msg_out, name) &&
		name[0] == '\0' && q->msg_out->date == b.date &&
		q->msg_out->size == b.size;
}

static bool by_table(struct db_txn *t, struct query *q)
{
	uint8_t key[ROW_KEY_NAME_MAX];
	ssize_t len = row_key_name(q->folder, q->base, key);
	char name[ROW_NAME_MAX + 1];
	struct db_row row;
	uint32_t uid;

	if (len < 0 ||
	    !db_get(t, DB_NAME, (struct db_slice){ key, (size_t)len }, &row))
		return false;
	db_fail(t, row_name_parse(row.data, row.len, &uid));
	if (t->err)
		return false;
	if (!table_msg(t, q->folder, uid, q->msg_out, name) ||
	    strcmp(name, q->base) != 0)
		db_fail(t, -EUCLEAN);
	return t->err == 0;
}

static void by_name(struct db_txn *t, void *arg)
{
	struct query *q = arg;

	if (!by_parts(t, q) && !by_table(t, q))
		db_fail(t, -ENOENT);
}

int index_by_name(struct index *ix, uint32_t folder, uint32_t uidvalidity,
		  const char *base, struct msg *out)
{
	struct query q = { .folder = folder,
			   .uidvalidity = uidvalidity,
			   .base = base,
			   .msg_out = out };

	return db_read(ix->db, by_name, &q);
}

uint64_t index_ino(uint32_t folder, uint32_t uid)
{
	return 1ULL << 63 | (uint64_t)(folder & 0x7fffffff) << 32 | uid;
}

int index_ino_split(uint64_t ino, uint32_t *folder_out, uint32_t *uid_out)
{
	if (!(ino >> 63))
		return -ENOENT;
	*folder_out = (uint32_t)(ino >> 32) & 0x7fffffff;
	*uid_out = (uint32_t)ino;
	return 0;
}

int index_by_ino(struct index *ix, uint64_t ino, uint32_t *folder_out,
		 struct msg *out)
{
	uint32_t uid;
	int err = index_ino_split(ino, folder_out, &uid);

	return err ? err : index_by_uid(ix, *folder_out, uid, out);
}

static void each_msg(struct db_txn *t, void *arg)
{
	struct query *q = arg;
	char name[ROW_NAME_MAX + 1];
	uint8_t key[ROW_KEY_FOLDER];
	struct db_cursor c;
	uint32_t folder, uid;
	struct msg m;

	row_key_folder(q->folder, key);
	db_cursor_open(&c, t, DB_MSG, (struct db_slice){ key, sizeof(key) },
		       sizeof(key));
	while (!q->result && db_cursor_next(&c)) {
		int err = row_key_msg_parse(c.row.key, c.row.key_len, &folder,
					    &uid);

		if (!err)
			err = row_msg_parse(c.row.data, c.row.len, uid, &m,
					    name);
		db_fail(t, err);
		if (!err)
			q->result =
				q->msg_fn(&m, name[0] ? name : NULL, q->arg);
	}
	db_cursor_close(&c);
}

int index_each(struct index *ix, uint32_t folder, index_msg_fn *fn, void *arg)
{
	struct query q = { .folder = folder, .msg_fn = fn, .arg = arg };
	int err = db_read(ix->db, each_msg, &q);

	return err ? err : q.result;
}

static void each_folder(struct db_txn *t, void *arg)
{
	struct query *q = arg;
	struct index_folder f;
	struct db_cursor c;
	uint32_t folder;

	db_cursor_open(&c, t, DB_FOLDER, (struct db_slice){ NULL, 0 }, 0);
	while (!q->result && db_cursor_next(&c)) {
		int err =
			row_key_folder_parse(c.row.key, c.row.key_len, &folder);

		if (!err)
			err = row_folder_parse(c.row.data, c.row.len, &f);
		db_fail(t, err);
		if (!err)
			q->result = q->folder_fn(folder, &f, q->arg);
	}
	db_cursor_close(&c);
}

int index_each_folder(struct index *ix, index_folder_fn *fn, void *arg)
{
	struct query q = { .folder_fn = fn, .arg = arg };
	int err = db_read(ix->db, each_folder, &q);

	return err ? err : q.result;
}
