#include <errno.h>
#include <fcntl.h>

#include "../unit/fixture.h"
#include "compat/maildir.h"

TEST(contract, a_missing_store_is_enoent)
{
	struct store *s;

	cr_assert_eq(maildir_store_new(AT_FDCWD, "/no/such", &s), -ENOENT);
}
