/*
 * mbx_internal.h - what the files of the MBX back end share.
 *
 * mbx.c scans, mbxread.c reads messages, mbxsession.c holds the locks and knows
 * the UIDs, mbxwrite.c changes fields in place, mbxappend.c appends. Nobody
 * else includes this.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#include "compat/mbx.h"
#include "compat/mbxlock.h"
#include "compat/mbxrec.h"

enum {
	MBX_UIDLAST_AT = 15,  /* tables of offsets: mbxrec.c */
	MBX_KEYWORDS_AT = 25, /* first keyword line */
	MBX_PID_AT = MBX_HEADER_SIZE - 10,
	MBX_UID_BACK = 10,  /* digits of the UID, from the text */
	MBX_WINDOW = 16384, /* octets of a window */
};

struct mbx_store {
	struct store base;
	const struct pattern *root;
	char *user;
	struct mbx_options opt;
	struct mbxlock_options lock;
	struct mbxwalk_cache *walked; /* for list(); may be NULL */
};

/*
 * A record that has a UID on disk, all before it having one too, in ascending
 * order: where a walk can start. It is checked before it is believed: UW moves
 * records only down, so if this one still lies here with its UID, all before
 * it lie where they were.
 */
struct mbx_tail {
	uint64_t off; /* of its line; 0: none known */
	uint32_t uidvalidity;
	struct scan_point after;
};

/* What a walk to the end of the file found. */
struct mbx_walk {
	struct scan_point at;	/* the end; broken also when no UID is left */
	struct scan_point zero; /* before the first record without a UID */
	uint32_t zeros;		/* how many of those there are */
	uint32_t uid_disk;	/* the highest UID on disk */
};

/*
 * From begin() to end(): the locks, and what was read under them. Nobody else
 * changes header, size or records meanwhile, so nothing is read twice.
 */
struct mbx_session {
	struct mbxparse lock;
	bool loaded; /* head, header, size and times are known */
	bool walked; /* walk is known */
	bool marked; /* flags or keywords changed: sessions of UW must see it */
	bool grown;  /* a message was appended */
	bool wrote;  /* anything */
	bool touched; /* mtime was set by touch() */
	uint64_t size;
	struct timespec mtime; /* before we wrote */
	uint8_t head[MBX_HEADER_SIZE];
	struct mbx_header header;
	struct mbx_walk walk;
};

struct mbx_box {
	struct box base;
	const struct mbx_store *store;
	char *folder; /* as given to open() */
	struct mbxlock_options lock;
	int fd;
	/* flock() belongs to the open file, not to the thread: the first
	 * reader takes it and the last one lets go. */
	pthread_mutex_t share_lock;
	unsigned shares;
	/* What follows belongs to the thread that holds the folder. */
	int write_fd;		     /* -1 until something is written */
	struct mbx_session *session; /* NULL unless begun */
	struct mbx_tail tail;
	int64_t mark;	/* mtime given at the last change, seconds */
	int64_t let_go; /* when the locks were last given back, microseconds */
	/* sync() may run beside that thread. */
	pthread_mutex_t sync_lock;
	atomic_bool unsynced; /* something written is not yet durable */
};

/* A piece of the file, so that short messages do not cost a read each. */
struct mbx_window {
	uint64_t off;
	size_t len;
	bool small; /* the last message was short: read ahead */
	uint8_t data[MBX_WINDOW];
};

/* mbx.c */

/** mbx_window_at - up to MBX_LINE_WINDOW octets at @off of a file of @end */
MUST_CHECK int mbx_window_at(struct mbx_window *w, int fd, uint64_t off,
			     uint64_t end, const uint8_t **p, size_t *len);
/** mbx_window_expect - @size: of the message that comes next */
void mbx_window_expect(struct mbx_window *w, uint64_t size);
/** mbx_next_uid - the UID that clients see for the next record (mbx.h, "UIDs"),
 * and what the one after it will be; 0: none is left */
uint32_t mbx_next_uid(struct scan_point *at, const struct mbx_record *r,
		      uint64_t off, struct damage *d);
/** mbx_tail_note - remember a record that was just passed, if it qualifies
 * @off: of its line; @after: behind it */
void mbx_tail_note(struct mbx_box *b, const struct mbx_record *r, uint64_t off,
		   uint32_t uidvalidity, const struct scan_point *after);
MUST_CHECK int mbx_share_begin(struct mbx_box *b);
/** mbx_rest - wait until UW can be no more confused by how soon we take the
 * parse lock again; call before taking it */
void mbx_rest(const struct mbx_box *b);
/** mbx_let_go - note that the parse lock was given back just now */
void mbx_let_go(struct mbx_box *b);
void mbx_share_end(struct mbx_box *b);
MUST_CHECK int mbx_stamp(struct box *box, struct stamp *out);
/** mbx_stamp_of - without a look at the name */
struct stamp mbx_stamp_of(const struct stat *st);

/* mbxread.c */

MUST_CHECK ssize_t mbx_read(struct box *box, const struct msg *m,
			    const char *name, void *buf, size_t len,
			    uint64_t off);
MUST_CHECK int mbx_holds(struct box *box, const struct msg *m,
			 uint32_t uidvalidity, const struct stamp *since);
/** mbx_line_is_of - whether the m->line octets at @line are the line of @m
 * @out: what it says, if so */
bool mbx_line_is_of(const uint8_t *line, const struct msg *m,
		    struct mbx_record *out);

/* mbxsession.c */

MUST_CHECK int mbx_begin(struct box *box);
void mbx_end(struct box *box, struct stamp *out);
/** mbx_now - the second that the files of now get as their time */
int64_t mbx_now(void);
/** mbx_session_enter - begin() unless it was; @own: whether it was not
 * Header, size and times are known afterwards. Return: as begin(); -EBADMSG
 * when the file has no good header. */
MUST_CHECK int mbx_session_enter(struct mbx_box *b, bool *own);
/** mbx_session_leave - end(), if it is ours to end */
void mbx_session_leave(struct mbx_box *b, bool own);
/** mbx_session_load - make header, size and times known */
MUST_CHECK int mbx_session_load(struct mbx_box *b);
/** mbx_session_write - io_pwrite() of what sync() makes durable; half of it may
 * be on disk when it fails */
MUST_CHECK int mbx_session_write(struct mbx_box *b, const void *data,
				 size_t len, uint64_t off);
/** mbx_record_at - the record whose line starts at @off
 * Return: 0; -EBADMSG when it cannot be read, or is torn; -errno */
MUST_CHECK int mbx_record_at(struct mbx_box *b, struct mbx_window *w,
			     uint64_t off, struct mbx_record *r);
/** mbx_session_walk - make session->walk known
 * Return: 0; -EBADMSG for a record that cannot be read, or a torn tail. */
MUST_CHECK int mbx_session_walk(struct mbx_box *b);
/** mbx_walk_pass - account for the record at walk->at. Return: its UID as
 * shown, 0 if none is left */
uint32_t mbx_walk_pass(struct mbx_box *b, struct mbx_walk *walk,
		       const struct mbx_record *r);
/** mbx_raise_uidlast - durable, and only ever upwards */
MUST_CHECK int mbx_raise_uidlast(struct mbx_box *b, uint32_t uid);
/**
 * mbx_number - the UIDs of the records without one, after mbx_session_walk()
 * @last: the record whose line starts here is the last one
 * @write: put them on disk, durable on return; UIDLAST must cover them already
 * @uid_out: the last one
 */
MUST_CHECK int mbx_number(struct mbx_box *b, uint64_t last, bool write,
			  uint32_t *uid_out);

/* mbxwrite.c */

MUST_CHECK int mbx_flag(struct box *box, const struct msg *m, const char *name,
			const struct flag_change *change, struct msg *out);
MUST_CHECK int mbx_keyword(struct box *box, const char *name,
			   unsigned *slot_out);
MUST_CHECK int mbx_expunge(struct box *box, const struct msg *m,
			   const char *name);
MUST_CHECK int mbx_assign(struct box *box);
MUST_CHECK int mbx_reserve(struct box *box, uint32_t uid);
MUST_CHECK int mbx_mend(struct box *box, uint32_t *was, uint32_t *is);
MUST_CHECK int mbx_touch(struct box *box);
MUST_CHECK int mbx_sync(struct box *box);
/** mbx_named_slots - the slots that have a name on disk, as bits */
uint32_t mbx_named_slots(const struct mbx_header *h);

/** mbx_line_of - the record of a message, if it is what lies there
 * Return: 0; -ESTALE; -errno */
MUST_CHECK int mbx_line_of(struct mbx_box *b, const struct msg *m,
			   struct mbx_record *r);
/** mbx_write_flags - keywords and flags of the record whose text is at @text */
MUST_CHECK int mbx_write_flags(struct mbx_box *b, uint64_t text,
			       const struct mbx_record *r);

/* mbxnumber.c */

MUST_CHECK int mbx_renumber(struct box *box, const struct numbering *want);

/** mbx_alone - what needs the exclusive lock. Return: -EBUSY; as @work */
MUST_CHECK int mbx_alone(struct box *box,
			 int (*work)(struct mbx_box *b, void *arg), void *arg);

/* mbxslots.c */

MUST_CHECK int mbx_reslot(struct box *box, const struct keywords *shown,
			  const struct msg *list, size_t count);

/* mbxappend.c */

MUST_CHECK int mbx_append(struct box *box, int fd, const struct msg *want,
			  struct msg *got);
