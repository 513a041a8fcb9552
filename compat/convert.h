/*
 * convert.h - the messages of an MBX as files of a Maildir folder.
 *
 * The names are those that the view shows, the octets those that lie in the
 * MBX, the time of a file is the date of its message. What is there already
 * stays as it is, so that it can be stopped at any moment and called again:
 *
 *	convert_new(box, &target, &hooks, &c);
 *	while ((ret = convert_step(c)) > 0)
 *		...				pause, look at convert_result()
 *	convert_free(c);
 *
 * A step looks at some hundred messages and copies those that are missing: into
 * tmp/, then, when there are many, one sync of the filesystem for all of them,
 * then they get their names. So whatever has its name is whole and durable; the
 * names themselves are with the next sync.
 *
 * All record lines are walked over, in passes, until one of them shows that
 * nothing changed while it was under way. So the MBX may be in use. Files whose
 * message was expunged meanwhile are removed; flags of files follow.
 *
 * Locks are the back end's: UW waits for a slice of record lines, or for one
 * message to be read, never for a disk that is written to.
 *
 * Memory: for a step, and some 40 octets a file that is there.
 *
 * Threads: a convert is for one thread at a time. It acts as the target's owner
 * wherever it writes, so no identity may have been entered.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "compat/base.h"
#include "compat/letters.h"
#include "compat/store.h"

struct convert;

struct convert_target {
	int dirfd; /* of the folder: cur/, new/ and tmp/ lie in it */
	uid_t uid; /* whose the files are to be */
	gid_t gid;
	uint32_t number;      /* of the folder: what names are made of */
	uint32_t uidvalidity; /* the one in names */
	uint32_t on_disk;     /* the one that the MBX must have */
	bool add_only;	      /* no file is renamed or removed */
};

/* What a person has to look at. */
struct convert_fault {
	uint32_t uid; /* 0: not known */
	uint64_t off; /* of the record in the MBX */
	bool kept;    /* it was converted all the same */
	char reason[200];
};

/* All but letters may be NULL. */
struct convert_hooks {
	void *arg;
	/* A pass begins: what the last one said of messages and faults does
	 * not count any more. */
	int (*pass)(void *arg);
	/* Which letters stand for the slots of the MBX; asked for when its
	 * keywords have changed, before a name is made of them. */
	int (*letters)(const struct keywords *box, struct letters *out,
		       void *arg);
	/* Letters of a message that are no keywords of the MBX. */
	uint32_t (*more_letters)(uint32_t uid, void *arg);
	/* Whether the message is a file of another name already. */
	bool (*elsewhere)(uint32_t uid, void *arg);
	/* A message that has its file, in order of UIDs. */
	int (*shown)(const struct msg *m, const char *base, void *arg);
	/* So much was copied. May wait; non-zero ends it and is returned. */
	int (*pace)(uint64_t octets, void *arg);
	void (*fault)(const struct convert_fault *f, void *arg);
};

struct convert_result {
	uint64_t at, end; /* how far the pass is in the MBX, in octets */
	/* Of this pass. */
	uint64_t messages, octets;
	uint64_t foreign; /* files that are no copies */
	uint32_t uidnext;
	struct keywords keywords;
	struct damage damage;
	struct stamp stamp; /* of the MBX when the pass began */
	/* Of all passes. */
	uint64_t copied, copied_octets, renamed, removed;
	bool settled; /* nothing changed during the last pass */
};

/** convert_new - what an earlier run left in tmp/ is removed
 * @box, @t->dirfd: must outlive it; @t and @h are copied. Return: 0; -errno */
MUST_CHECK int convert_new(struct box *box, const struct convert_target *t,
			   const struct convert_hooks *h, struct convert **out);

/**
 * convert_step - do some of it
 * Return: 1: there is more; 0: all was done, and has been made durable but for
 * the names of the last files; -EBADMSG: the MBX has no good header; -ESTALE:
 * it is another one, or has another UIDVALIDITY; -EAGAIN: it stays locked;
 * -EEXIST: a file has the name of a message; what a hook returned; -errno.
 */
MUST_CHECK int convert_step(struct convert *c);

const struct convert_result *convert_result(const struct convert *c);

/** convert_free - files that have no name yet are removed; NULL is fine */
void convert_free(struct convert *c);
