/*
 * mirror_internal.h - what the files of the mirror share.
 *
 * mirror.c is the queue, its threads and what others ask; mirror_append.c puts
 * files into the MBX; mirror_uids.c reads Dovecot's numbers;
 * mirror_settle.c follows what UW did; mirror_match.c compares octets.
 */
#pragma once

#include <limits.h>
#include <pthread.h>

#include "compat/journal.h"
#include "compat/uidlist.h"
#include "fs/mirror.h"

/* A file that Dovecot has numbered and that is not in the MBX. */
struct pending {
	char *base;
	uint32_t uid;	  /* Dovecot's */
	bool clash;	  /* UW has used that UID, or a higher one */
	const char *why;  /* it never can be; NULL: it waits */
	int64_t since_ms; /* it was found */
};

/* How far dovecot-uidlist was read. */
struct mirror_list {
	uint64_t dev, ino, size;
	int64_t mtime_ns;
	uint64_t off;	  /* behind the last whole line */
	uint32_t last;	  /* UID in it */
	uint32_t uidnext; /* that Dovecot will give */
};

/* A record that a file was found to be the copy of, after a reset. */
struct mirror_found {
	uint32_t uid;
	char *base;
};

struct mirror {
	struct folder *folder;

	/* The queue's lock guards these. */
	struct mirror *next;
	int64_t due_ms;	     /* 0: not queued */
	bool busy;	     /* a thread works on it */
	bool noted;	     /* meanwhile */
	int64_t noted_ms;    /* when something was last to be done */
	unsigned backoff_ms; /* changed only while busy */

	/* Of the thread that works on it. */
	struct mirror_list list;
	uint32_t number;   /* the folder's, when the list was read */
	uint32_t reserved; /* UIDLAST is not below */
	uint32_t ours; /* what UIDLAST was when we let go of it; 0: unknown */

	/* The sync_lock guards these. */
	char name[NAME_MAX + 1];    /* mirror_name_of() gave it */
	struct mirror_found *found; /* mirror_match() */
	size_t found_count, found_room;
	struct match *match;

	_Atomic(bool) whole; /* the list is to be read from its start */

	pthread_mutex_t lock;	 /* a leaf; guards the rest */
	struct pending *pending; /* by UID */
	size_t count, room;
	const char *why; /* the first of them waits; NULL */
	int64_t why_ms;	 /* since when there is one */
	bool why_said;
};

/** mirror_of - the folder's; NULL when out of memory */
struct mirror *mirror_of(struct folder *f);
/** mirror_say_why - what the pending ones wait for; logged once, when it has
 * lasted for @after_ms */
void mirror_say_why(struct mirror *m, const char *why, int64_t after_ms);

/* mirror_uids.c */

/**
 * mirror_read_list - what dovecot-uidlist says that it did not say before:
 * files that are not in the MBX become pending
 * Return: 0; -ENOENT; -EBADMSG; -ESTALE when it is of another UIDVALIDITY;
 * -errno.
 */
MUST_CHECK int mirror_read_list(struct mirror *m);
/** mirror_claim - with the sync_lock, before mirror_settle() looks at tries: if
 * the journal was lost, what was delivered may be in the MBX under Dovecot's
 * UIDs. Return: 0; -errno */
MUST_CHECK int mirror_claim(struct folder *f, struct journal *j);
/** mirror_drop - the pending one with that UID is no more */
void mirror_drop(struct mirror *m, uint32_t uid);
void mirror_clear_pending(struct mirror *m);
/** mirror_reserve - with a lease: Dovecot's UIDs are its own from now on
 * @clashes_out: how many pending ones have turned out to have a UID that UW has
 * used. Return: 0; -errno */
MUST_CHECK int mirror_reserve(struct mirror *m, uint64_t *clashes_out);

/**
 * mirror_disagrees - whether message and UID of a record are not the MBX's
 * @mbx_out: its UID in the MBX; 0 if it is not there
 * @why_out: set if they disagree
 */
bool mirror_disagrees(struct folder *f, const struct uidlist_record *r,
		      uint32_t *mbx_out, const char **why_out);

/* mirror_append.c */

/**
 * mirror_work - reserve Dovecot's UIDs, append some of the pending files
 * @more_out: there are others
 * Return: 0; -errno, and m->why says it.
 */
MUST_CHECK int mirror_work(struct mirror *m, bool *more_out);

/* mirror_match.c */

/** mirror_same - whether message @m of the MBX has the date and the octets of
 * the file @base, CR before LF. Return: 0: it has; -ENOENT: not, or there is no
 * file; -errno */
MUST_CHECK int mirror_same(struct folder *f, const struct msg *m,
			   const char *base);
/** mirror_differs - whether the file @base is there and its octets are others
 * than those of message @m; they are not looked at where date and size fit */
bool mirror_differs(struct folder *f, const struct msg *m, const char *base);
/** mirror_free_match - what mirror_match() remembers */
void mirror_free_match(struct mirror *m);
