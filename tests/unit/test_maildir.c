#include "compat/maildir.h"

#include <errno.h>
#include <fcntl.h>

#include "fixture.h"

TEST(maildir, a_directory_without_cur_is_no_store)
{
	struct store *s;

	cr_assert_eq(maildir_store_new(AT_FDCWD, fixture_dir(), &s), -EBADMSG);
}
