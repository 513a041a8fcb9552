#include "compat/mbx.h"

#include <errno.h>

#include "fixture.h"

TEST(mbx, list_of_a_missing_store_is_enoent)
{
	struct mbx_options opt = { .lock_dir = fixture_dir(),
				   .owner = (uid_t)-1,
				   .group = (gid_t)-1 };
	struct pattern root;
	struct store *s;

	cr_assert_eq(pattern_init(&root, "/tmp/no-such-mail-%u"), 0);
	cr_assert_eq(mbx_store_new(&root, "joe", &opt, &s), 0);
	cr_assert_eq(s->ops->list(s, NULL, NULL), -ENOENT);
	s->ops->free(s);
	pattern_fini(&root);
}
