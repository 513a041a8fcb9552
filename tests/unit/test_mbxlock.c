#include "compat/mbxlock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "fixture.h"

TEST(mbxlock, share_waits_for_nobody_when_the_file_is_free)
{
	AUTO_FD int fd = open(fixture_dir(), O_RDONLY | O_CLOEXEC);

	cr_assert_eq(mbxlock_share(fd, 0), 0);
	mbxlock_unshare(fd);
}
