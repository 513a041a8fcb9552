/*
 * base.h - the few words every file of this project uses.
 *
 * Error convention, everywhere: a function that can fail returns int, 0 or
 * -errno (or ssize_t: a count or -errno). Predicates return bool. The closed
 * set of errno values and their meaning here:
 *
 *   -ENOENT   it is not there; not a fault, never logged where detected
 *   -EBADMSG  octets do not follow the format
 *   -ESTALE   the store changed under us: sync and retry once
 *   -EAGAIN   a lock was not obtained in time
 *   -EUCLEAN  an index invariant is broken: drop the index and rebuild it
 *   others    as in errno(3)
 */
#pragma once

#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Scoped clean-up: the resource is released when the variable goes away. */
#define AUTO_FREE __attribute__((cleanup(base_auto_free)))
#define AUTO_FD __attribute__((cleanup(base_auto_close)))

/** base_auto_free - clean-up for AUTO_FREE; @p points at the pointer */
void base_auto_free(void *p);
/** base_auto_close - clean-up for AUTO_FD; keeps errno; -1 is fine */
void base_auto_close(const int *fd);

/** base_steal_fd - take a descriptor out of an AUTO_FD variable */
int base_steal_fd(int *fd);
/** base_steal_ptr - take a pointer out of an AUTO_FREE variable */
#define base_steal_ptr(pp)                                                     \
	({                                                                     \
		__typeof__(*(pp)) base_stolen_ = *(pp);                        \
		*(pp) = NULL;                                                  \
		base_stolen_;                                                  \
	})
