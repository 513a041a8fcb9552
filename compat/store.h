/*
 * store.h - one table of operations over every kind of mail store.
 *
 * A store is the mail of one user in one format; a box is one open folder of
 * it. Calling sequence:
 *
 *	store->ops->list(store, fn, arg)
 *	store->ops->open(store, "a/b", &box)
 *	box->ops->stamp(box, &stamp)
 *	box->ops->scan(box, &scan, fn, arg)
 *	box->ops->read(box, &msg, buf, len, off)
 *	box->ops->begin(box)		only around several writes in a row
 *	box->ops->flag(box, &msg, name, &change, &msg)
 *	box->ops->end(box, &stamp)
 *	box->ops->sync(box)
 *	box->ops->close(box)
 *	store->ops->free(store)
 *
 * Threads: a store and its boxes may be used by several threads at once for
 * stamp and read; scan and everything that writes is for one thread at a time
 * per box (the caller's folder lock sees to it).
 *
 * Locks: a back end takes the locks of its format by itself, for the time of
 * one operation, with a deadline (-EAGAIN). Nothing stays locked between
 * operations but from begin() to end().
 *
 * Reading never changes a store: no atime, no mtime, no octet.
 *
 * Writing: the slots from begin() on are NULL in a back end that only reads
 * (Maildir, for now). A message is known by the struct msg that a scan gave; if
 * that is not what lies in its place, nothing is written and the result is
 * -ESTALE. Every writing operation can also fail as open() does, the first time
 * (-EROFS, -EACCES), with -EAGAIN (lock), and with -ESTALE when the folder was
 * removed or replaced.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"
#include "compat/msg.h"

struct box;
struct store;

/*
 * What tells whether a folder changed since it was last looked at. Equal
 * stamps mean that nothing changed, as far as the format can tell.
 */
struct stamp {
	uint64_t dev, ino;
	uint64_t size; /* MBX: file size; Maildir: of the uidlist */
	int64_t mtime_ns,
		ctime_ns; /* MBX: of the file; Maildir: of cur/, new/ */
	int64_t ctl_ns;	  /* Maildir: the uidlist's mtime; else 0 */
};

/*
 * The fraction of a second of a file's mtime that only end() gives it, for who
 * asks for the stamp. The kernel's clock ticks every few milliseconds, so two
 * changes one right after the other can leave the same times. But whoever
 * changes a file without knowing this gives it the kernel's time or, as UW
 * does, whole seconds. So as long as this fraction is there nobody has: a stamp
 * with it needs no time to settle. UW compares whole seconds and is not
 * concerned. A file system that keeps only those loses it, and nothing else.
 */
enum { STAMP_OWN_NS = 100 };

/*
 * Where a scan can go on when only new messages are wanted, and what it knew
 * there. Opaque to callers but for storing it. All zero: from the start.
 */
struct scan_point {
	uint64_t off;	   /* MBX: where the next record starts */
	uint32_t uid_prev; /* UID shown for the last record before @off */
	uint32_t uid_last; /* highest UID used so far, header's included */
	uint32_t broken;   /* 1: UIDs on disk are out of order before @off */
};

enum damage_kind {
	DAMAGE_NONE,
	DAMAGE_HEADER,	 /* the file's header: nothing can be served */
	DAMAGE_RECORD,	 /* a record in the middle or a torn tail: what lies
			    before it is served */
	DAMAGE_DATE,	 /* served with date 0; UW cannot open the mailbox */
	DAMAGE_UID,	 /* UIDs out of order: served with UIDs of our own */
	DAMAGE_UIDLAST,	 /* UIDLAST below a UID in use */
	DAMAGE_KEYWORDS, /* the keyword table has a hole */
	DAMAGE_ACCESS,	 /* not a regular file, wrong owner, hard links... */
	DAMAGE_REGIME,	 /* numbered anew behind our back; sync.h */
	DAMAGE_SLOTS,	 /* a keyword in the place of another; keep.h */
	DAMAGE_KINDS,	 /* how many kinds there are */
};

/* What is wrong with a folder: the first finding of the gravest kind. */
struct damage {
	enum damage_kind kind;
	uint64_t off;	/* file offset, where the kind has one */
	uint32_t uid;	/* of the message concerned, 0 if none */
	uint64_t count; /* findings altogether, all kinds */
	char text[160]; /* for people: what was found, what was expected */
};

/* In: from; out: all the rest. */
struct scan {
	struct scan_point from;
	struct scan_point next; /* where a later tail scan can start */
	uint32_t uidvalidity;	/* as on disk; 0 if the format has none yet */
	uint32_t uidnext;
	struct keywords keywords;
	struct damage damage;
	struct stamp stamp; /* taken before the first message was looked at */
};

/* Called for each message by ascending UID (messages without a UID last). A
 * negative return ends the scan and is returned by it. @name: Maildir base
 * name, NUL-terminated, with flags part removed; NULL for MBX. */
typedef int store_msg_fn(const struct msg *m, const char *name, void *arg);

struct store_entry {
	const char *name;  /* to give to open(): MBX "a/b", Maildir ".a.b";
			      "" for INBOX of a Maildir */
	bool is_folder;	   /* false: a file that is not served, @why says */
	const char *why;   /* static text; NULL for a folder */
	uint64_t dev, ino; /* MBX: of a folder's file, which keep when it is
			      renamed; else 0 */
	uint64_t size;	   /* MBX: octets of a folder's file; else 0 */
};
/* A non-zero return ends the walk and is returned by list(). */
typedef int store_list_fn(const struct store_entry *e, void *arg);

/* For renumber(): what each message is to have. */
struct number {
	uint64_t off;	   /* as in struct msg */
	uint32_t uid_disk; /* what it has, 0 for none */
	uint32_t uid;
};
struct numbering {
	uint32_t uidvalidity;
	uint32_t uidlast;	   /* given out by somebody; or lower */
	const struct number *list; /* by place: all but the expunged ones */
	size_t count;
};

/* What flag() changes; what is in no mask stays as it is on disk. A bit in both
 * masks is set. */
struct flag_change {
	uint32_t set;			       /* of MSG_SYSTEM, and MSG_OLD */
	uint32_t clear;			       /* of MSG_SYSTEM */
	uint32_t keywords_set, keywords_clear; /* bits: slots */
};

struct store_ops {
	const char *name; /* "mbx", "maildir" */

	/**
	 * list - walk the folders in no particular order
	 * Return: 0; -ENOENT when the store itself is not there; -errno.
	 */
	int (*list)(struct store *s, store_list_fn *fn, void *arg);

	/**
	 * open - open one folder for reading
	 * Return: 0; -ENOENT; -EBADMSG when it is not a folder of this
	 * format (MBX: see also struct damage from scan); for what must not
	 * be opened: -ELOOP (symlink), -ENOTSUP (FIFO, device, directory),
	 * -EMLINK (hard links), -EPERM (another owner), -EREMOTE (a network
	 * filesystem, where the format's locks do not work).
	 */
	int (*open)(struct store *s, const char *folder, struct box **out);

	/** free - the store; its boxes must be closed before */
	void (*free)(struct store *s);

	/** close - give back a box; NULL is fine */
	void (*close)(struct box *b);

	/**
	 * stamp - cheap: one or a few stat calls, no lock
	 * Return: 0; -ESTALE when the folder's file was removed or replaced:
	 * close and open again; -errno.
	 */
	int (*stamp)(struct box *b, struct stamp *out);

	/**
	 * scan - every message from @scan->from on
	 * Messages that are expunged on disk are left out. Damage does not
	 * fail a scan: what is good is delivered, @scan->damage says the rest.
	 * Return: 0; -EAGAIN (lock); -ESTALE (replaced, shrank, or ->from does
	 * not fit any more); -EBADMSG (DAMAGE_HEADER: nothing was delivered);
	 * -errno.
	 */
	int (*scan)(struct box *b, struct scan *scan, store_msg_fn *fn,
		    void *arg);

	/**
	 * read - octets of a message, at @off from its start
	 * @name: as store_msg_fn gave it
	 * Never gives octets of a message with another UID, date or size: the
	 * place is checked first. That is enough as long as the folder is as it
	 * was when @m was found; else see holds().
	 * Return: octets (fewer only at the end of the message); -ESTALE when
	 * the message is not at its place any more: sync and retry; -EAGAIN.
	 */
	ssize_t (*read)(struct box *b, const struct msg *m, const char *name,
			void *buf, size_t len, uint64_t off);

	/**
	 * holds - is @m still where it was found? What was read of it before
	 * is its own then: messages that were moved do not come back.
	 * @uidvalidity: at that time
	 * @since: a settled stamp at which @m was there. When the folder still
	 * has it nothing more is looked at, otherwise every record up to that
	 * place, without the lock that guards them: whoever holds that for long
	 * keeps nobody from reading. All zero: not known.
	 * NULL in a back end where a message cannot move.
	 * Return: 0; -ESTALE; -EBADMSG when a damaged record lies before it;
	 * -EAGAIN; -errno.
	 */
	int (*holds)(struct box *b, const struct msg *m, uint32_t uidvalidity,
		     const struct stamp *since);

	/**
	 * begin - lock for several writes in a row; optional
	 * MBX: every UW process and delivery agent waits until end(): a few
	 * dozen changes or one append, then end(). Scanning is allowed. Not to
	 * be nested. Without it each operation waits two milliseconds after the
	 * one before, for the sake of UW.
	 * Return: 0; -EAGAIN; -ESTALE; -errno. end() only after 0.
	 */
	int (*begin)(struct box *b);

	/**
	 * end - let go; the file's times are set here, once for all changes
	 * @out: the stamp as it is then, before others can write: whatever they
	 * do from now on leads to another one (STAMP_OWN_NS); all zero when it
	 * cannot be had. NULL for who does not care: times are whole seconds
	 * then, as UW leaves them.
	 */
	void (*end)(struct box *b, struct stamp *out);

	/**
	 * flag - change flags and keywords, merged with what is on disk now
	 * Not durable until sync(). What is the same already is not written.
	 * @out: @m as it is on disk now (MSG_EXPUNGED if it was expunged
	 * meanwhile); may be @m; may be NULL
	 * Return: 0; -ESTALE, also when a keyword to be set has no name on disk
	 * (any more); -errno.
	 */
	int (*flag)(struct box *b, const struct msg *m, const char *name,
		    const struct flag_change *change, struct msg *out);

	/**
	 * keyword - the slot of a keyword; an unknown one is created
	 * Case of ASCII letters does not matter. Not durable until sync().
	 * Return: 0; -EINVAL for a name that the format cannot hold; -ENOSPC
	 * when no slot is free: nothing that ever had a name is used again.
	 */
	int (*keyword)(struct box *b, const char *name, unsigned *slot_out);

	/**
	 * expunge - the message is gone for everybody; no octet moves
	 * MBX: the record is marked; one without a UID on disk gets the one
	 * that scan showed first, and so do those before it. Not durable until
	 * sync() but for these. Expunging twice is fine.
	 * Return: 0; -ESTALE; -EBADMSG when UIDs are to be given out and the
	 * file is damaged; -errno.
	 */
	int (*expunge)(struct box *b, const struct msg *m, const char *name);

	/**
	 * append - a new message at the end, durable on return, or nothing
	 * @fd: a regular file with the message, read from its start
	 * @want: date, flags (MSG_SYSTEM and MSG_OLD), keywords; uid: 0 leaves
	 * it to the format (MBX: whoever parses next). Another UID must be
	 * above that of every message in the file, expunged ones and those to
	 * be numbered included. MBX: it may be below uidnext, as in a second
	 * try after a crash; whether UW gave it out before, to a message that
	 * is no more, is for the caller to know.
	 * @got: the message as it lies there. MBX: a bare LF became CR LF, so
	 * it may be longer; uid is the predicted one if none was wanted
	 * Return: 0; -EINVAL (no octets; UID 2^32 - 1); -EEXIST (UID); -EFBIG
	 * (mbx_options.max_file); -EOVERFLOW (no UID left); -ESTALE (a keyword
	 * without a name on disk); -EBADMSG, the file ends in the middle of a
	 * message, or its UIDs are out of order and one was wanted; -errno.
	 */
	int (*append)(struct box *b, int fd, const struct msg *want,
		      struct msg *got);

	/**
	 * assign - put the UIDs on disk that scan showed for messages without;
	 * durable on return
	 * Return: 0; -EBADMSG (damaged: nothing was written); -errno.
	 */
	int (*assign)(struct box *b);

	/**
	 * reserve - UIDs up to @uid are used by somebody else: whoever numbers
	 * the next message here goes on above; durable on return
	 * Messages without a UID get theirs before, as assign() does it. When
	 * nothing has to change nothing is written.
	 * Return: 0; -EINVAL (2^32 - 1); -EBADMSG (damaged: nothing was
	 * written); -errno.
	 */
	int (*reserve)(struct box *b, uint32_t uid);

	/**
	 * mend - what is wrong and has only one remedy; durable on return
	 * MBX: UIDLAST below a UID in use is raised to that (DAMAGE_UIDLAST),
	 * before UW finds it and numbers the messages anew.
	 * @was, @is: UIDLAST before and after
	 * Return: 0, also when there is nothing to do; -EBADMSG (damaged in
	 * other ways: nothing was written); -errno.
	 */
	int (*mend)(struct box *b, uint32_t *was, uint32_t *is);

	/**
	 * renumber - UIDVALIDITY and UIDs on disk become what was shown;
	 * durable on return
	 * MBX: only while nobody else has the mailbox open; not after begin().
	 * Return: 0; -EBUSY when somebody has; -ESTALE when the messages are
	 * others, or elsewhere; -ERANGE when expunged ones between them do not
	 * fit; -EBADMSG for a damaged file; nothing was written then. -errno:
	 * to be done again.
	 */
	int (*renumber)(struct box *b, const struct numbering *want);

	/**
	 * reslot - keywords whose slots have other names by now get slots of
	 * their own, for the messages that have them; durable on return
	 * @shown: the names that the bits of @list mean
	 * Return: as renumber(); -ENOSPC when no slot is free.
	 */
	int (*reslot)(struct box *b, const struct keywords *shown,
		      const struct msg *list, size_t count);

	/**
	 * touch - the second half of announcing changes, see box.touch_due
	 * Before its time, or when none is due, it does nothing.
	 */
	int (*touch)(struct box *b);

	/** sync - make durable what was written since the last sync */
	int (*sync)(struct box *b);
};

/* Both are the first member of a back end's own struct. */
struct store {
	const struct store_ops *ops;
};
struct box {
	const struct store_ops *ops;
	/* MBX: sessions of UW see changes by mtime in whole seconds. What they
	 * did not see in the second of the change they see when touch() is
	 * called at this second (time(2)) or later. 0: nothing is due. */
	int64_t touch_due;
};

/** stamp_equal - whether two stamps say "nothing changed" */
bool stamp_equal(const struct stamp *a, const struct stamp *b);
/**
 * stamp_settled - whether an equal stamp means that nothing changed
 * @at: when @s was taken, nanoseconds since the epoch. False when the last
 * change was less than a tick of the file system's clock before that: another
 * one in the same tick would leave the same stamp.
 */
bool stamp_settled(const struct stamp *s, int64_t at);
/** stamp_is_own - whether it is one that end() left, see STAMP_OWN_NS */
bool stamp_is_own(const struct stamp *s);
/** damage_name - a stable word for a kind: "record", "uid", ... */
const char *damage_name(enum damage_kind kind);
/** damage_add - count a finding; text and place stay those of the gravest
 * kind seen first (smaller kind = graver, DAMAGE_ACCESS gravest) */
void damage_add(struct damage *d, enum damage_kind kind, uint64_t off,
		uint32_t uid, const char *fmt, ...) PRINTF_LIKE(5, 6);
