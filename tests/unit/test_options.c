#include "fs/options.h"

#include <errno.h>

#include "fixture.h"

TEST(options, a_command_line_without_mountpoint_is_refused)
{
	char name[] = "janusmaild";
	char *argv[] = { name, NULL };
	char err[200] = "";
	struct options opt;

	cr_assert_eq(options_parse(1, argv, &opt, err, sizeof(err)), -EINVAL);
	cr_assert_str_eq(err, "no MOUNTPOINT; see janusmaild --help");
	options_fini(&opt);
}
