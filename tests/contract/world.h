/*
 * world.h - the frame of the contract's cases: the mailbox of backends.h, open
 * in one back end after the other.
 */
#pragma once

#include "../unit/fixture.h"
#include "backends.h"

extern const struct backend *be;
extern struct store *store;
extern struct box *box;
extern struct fixture_scan got;

/* CONTRACT(the_sentence_that_is_true_of_every_back_end) { ... } */
#define CONTRACT(name)                                                         \
	static void contract_##name(void);                                     \
	TEST(contract_mbx, name)                                               \
	{                                                                      \
		world_run(&backend_mbx, contract_##name);                      \
	}                                                                      \
	TEST(contract_maildir, name)                                           \
	{                                                                      \
		world_run(&backend_maildir, contract_##name);                  \
	}                                                                      \
	static void contract_##name(void)

void world_begin(const struct backend *backend, const struct mail *mails,
		 size_t count);
void world_end(void);
void world_run(const struct backend *backend, void (*body)(void));

/** world_scan - into got; must succeed */
void world_scan(void);
/** world_expect_five - got is what was built, and reads like it */
void world_expect_five(void);
/** world_stamp - must succeed */
struct stamp world_stamp(void);
/** world_tick - wait longer than a tick of the file system's clock */
void world_tick(void);

/* For list(): what it gave; @give is what the callback returns. */
struct world_seen {
	unsigned folders, others, wanted, calls;
	int give;
};
int world_see(const struct store_entry *e, void *arg);

/** world_refuse - for scan(): fails at the second message; @arg: counts calls
 */
int world_refuse(const struct msg *m, const char *name, void *arg);
