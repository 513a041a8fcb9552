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
 *	box->ops->close(box)
 *	store->ops->free(store)
 *
 * Threads: a store and its boxes may be used by several threads at once for
 * stamp and read; scan is for one thread at a time per box (the caller's
 * folder lock sees to it).
 *
 * Locks: a back end takes the locks of its format by itself, for the time of
 * one operation, with a deadline (-EAGAIN). Nothing stays locked between
 * operations.
 *
 * Reading never changes a store: no atime, no mtime, no octet.
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
	const char *name; /* to give to open(): MBX "a/b", Maildir ".a.b";
			     "" for INBOX of a Maildir */
	bool is_folder;	  /* false: a file that is not served, @why says */
	const char *why;  /* static text; NULL for a folder */
};
/* A non-zero return ends the walk and is returned by list(). */
typedef int store_list_fn(const struct store_entry *e, void *arg);

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
	 * Never gives octets of another message: the place is checked first.
	 * Return: octets (fewer only at the end of the message); -ESTALE when
	 * the message is not at its place any more: sync and retry; -EAGAIN.
	 */
	ssize_t (*read)(struct box *b, const struct msg *m, const char *name,
			void *buf, size_t len, uint64_t off);
};

/* Both are the first member of a back end's own struct. */
struct store {
	const struct store_ops *ops;
};
struct box {
	const struct store_ops *ops;
};

/** stamp_equal - whether two stamps say "nothing changed" */
bool stamp_equal(const struct stamp *a, const struct stamp *b);
/** damage_name - a stable word for a kind: "record", "uid", ... */
const char *damage_name(enum damage_kind kind);
/** damage_add - count a finding; text and place stay those of the gravest
 * kind seen first (smaller kind = graver, DAMAGE_ACCESS gravest) */
void damage_add(struct damage *d, enum damage_kind kind, uint64_t off,
		uint32_t uid, const char *fmt, ...) PRINTF_LIKE(5, 6);
