/*
 * What store.h promises about reading, and that it leaves no trace.
 */
#include "compat/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "world.h"

/* ---- read ---------------------------------------------------------------- */

static ssize_t read_part(size_t i, void *buf, size_t len, uint64_t off)
{
	return box->ops->read(box, &got.msgs[i], got.names[i], buf, len, off);
}

CONTRACT(any_part_of_a_message_can_be_read)
{
	enum { GUARD = 0x5a };
	char buf[128];

	world_scan();
	for (size_t i = 0; i < got.count; i++) {
		for (size_t off = 0; off <= backend_five[i].len; off++) {
			size_t want = (off * 7 + i) % 23 + 1, left;

			left = backend_five[i].len - off;
			memset(buf, GUARD, sizeof(buf));
			cr_assert_eq(read_part(i, buf, want, off),
				     (ssize_t)(want < left ? want : left));
			if (want < left)
				left = want;
			cr_assert_eq(memcmp(buf, backend_five[i].text + off,
					    left),
				     0, "UID %u at %zu", backend_five[i].uid,
				     off);
			cr_assert_eq(buf[left], GUARD);
		}
	}
}

CONTRACT(nothing_is_read_past_the_end)
{
	char buf[16];

	world_scan();
	for (size_t i = 0; i < got.count; i++) {
		cr_expect_eq(read_part(i, buf, sizeof(buf),
				       backend_five[i].len),
			     0);
		cr_expect_eq(read_part(i, buf, sizeof(buf), 1U << 20), 0);
		cr_expect_eq(read_part(i, buf, sizeof(buf), UINT64_MAX), 0);
		cr_expect_eq(read_part(i, buf, 0, 0), 0);
	}
}

CONTRACT(a_message_of_more_than_a_mebibyte_is_read_whole)
{
	enum { BIG = (1 << 20) + 12345, PIECE = 130001 };
	struct mail m = { .uid = 4000000009,
			  .flags = MSG_OLD,
			  .date = 1400000001,
			  .len = BIG };
	AUTO_FREE char *text = malloc(BIG);
	AUTO_FREE char *buf = malloc(BIG);
	size_t done = 0;

	for (size_t i = 0; i < BIG; i++)
		text[i] = (char)(i * 2654435761U >> 13);
	m.text = text;
	be->append(&m);
	be->append(&(struct mail){ 4000000010, 0, 0, 5, "end", 3 });
	world_scan();
	cr_assert_eq(got.count, 7);
	cr_expect(fixture_is(box, &got, 5, text, BIG));
	cr_expect(fixture_is(box, &got, 6, "end", 3));
	while (done < BIG) {
		ssize_t n = read_part(5, buf + done, PIECE, done);

		cr_assert_gt(n, 0);
		done += (size_t)n;
	}
	cr_assert_eq(done, (size_t)BIG);
	cr_expect_eq(memcmp(buf, text, BIG), 0);
}

CONTRACT(a_read_after_a_flag_change_is_right_or_stale)
{
	char buf[256];
	ssize_t n;

	world_scan();
	be->set_flags(&backend_five[1], MSG_SEEN | MSG_OLD);
	n = read_part(1, buf, sizeof(buf), 0);
	cr_assert(n == -ESTALE || n == (ssize_t)backend_five[1].len, "%zd", n);
	if (n > 0)
		cr_expect_eq(memcmp(buf, backend_five[1].text,
				    backend_five[1].len),
			     0);
	world_scan();
	world_expect_five();
}

CONTRACT(a_message_that_was_never_there_is_stale)
{
	struct msg m;
	char buf[64];

	world_scan();
	m = got.msgs[1];
	m.uid = m.uid_disk = 5;
	m.size++;
	cr_expect_eq(box->ops->read(box, &m, "5.M1P2.host,S=4", buf,
				    sizeof(buf), 0),
		     -ESTALE);
}

static void *read_all_the_time(void *arg)
{
	char buf[128];

	for (unsigned i = 0; i < 2000; i++) {
		size_t at = i % (size_t)BACKEND_FIVE;
		size_t off = i % 5 < backend_five[at].len ? i % 5 : 0;
		ssize_t n = read_part(at, buf, sizeof(buf), off);

		if (n != (ssize_t)(backend_five[at].len - off) ||
		    memcmp(buf, backend_five[at].text + off, (size_t)n) != 0)
			return arg;
	}
	return NULL;
}

CONTRACT(two_threads_read_at_once)
{
	pthread_t threads[2];
	void *wrong;

	world_scan();
	for (size_t i = 0; i < ARRAY_LEN(threads); i++)
		cr_assert_eq(pthread_create(&threads[i], NULL,
					    read_all_the_time, &got),
			     0);
	for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
		cr_assert_eq(pthread_join(threads[i], &wrong), 0);
		cr_expect_null(wrong);
	}
}

/* ---- no traces ----------------------------------------------------------- */

static struct statx traces[32];
static size_t trace_count;
static bool trace_again;

static void trace_one(const char *path, bool is_dir)
{
	struct statx now;
	const struct statx *was = &traces[trace_count];

	(void)is_dir;
	cr_assert_lt(trace_count, ARRAY_LEN(traces));
	cr_assert_eq(statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW,
			   STATX_BASIC_STATS, &now),
		     0);
	if (!trace_again)
		traces[trace_count] = now;
	else
		cr_expect(now.stx_ino == was->stx_ino &&
				  now.stx_size == was->stx_size &&
				  memcmp(&now.stx_atime, &was->stx_atime,
					 sizeof(now.stx_atime)) == 0 &&
				  memcmp(&now.stx_mtime, &was->stx_mtime,
					 sizeof(now.stx_mtime)) == 0 &&
				  memcmp(&now.stx_ctime, &was->stx_ctime,
					 sizeof(now.stx_ctime)) == 0,
			  "%s was touched", path);
	trace_count++;
}

static void trace(const char *top, bool again)
{
	trace_again = again;
	trace_count = 0;
	fixture_walk(top, trace_one);
	cr_assert_gt(trace_count, 2);
}

CONTRACT(reading_leaves_no_trace)
{
	const char *top = fixture_path(be == &backend_mbx ? "mail" : "Maildir");
	struct world_seen s = { 0 };
	/* The walk itself reads the directories: so that it moves no atime. */
	trace(top, false);
	world_tick();
	trace(top, false);
	world_tick();
	cr_assert_eq(store->ops->list(store, world_see, &s), 0);
	box->ops->close(box);
	box = NULL;
	cr_assert_eq(store->ops->open(store, be->folder, &box), 0);
	(void)world_stamp();
	world_scan();
	world_expect_five();
	trace(top, true);
}

static void try_lock(const char *path, bool is_dir)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	(void)is_dir;
	cr_assert_geq(fd, 0);
	cr_expect_eq(flock(fd, LOCK_EX | LOCK_NB), 0, "%s is locked", path);
	(void)close(fd);
}

static void no_file(const char *path, bool is_dir)
{
	cr_expect(is_dir, "%s was left", path);
}

static void expect_unlocked(void)
{
	fixture_walk(fixture_path(be == &backend_mbx ? "mail" : "Maildir"),
		     try_lock);
	if (be == &backend_mbx)
		fixture_walk(fixture_path("lock"), no_file);
}

CONTRACT(nothing_stays_locked)
{
	struct scan s = { 0 };
	unsigned calls = 0;
	char buf[8];

	world_scan();
	expect_unlocked();
	cr_assert_eq(read_part(0, buf, sizeof(buf), 1), 8);
	expect_unlocked();
	(void)world_stamp();
	expect_unlocked();
	cr_assert_eq(box->ops->scan(box, &s, world_refuse, &calls), -ECANCELED);
	expect_unlocked();
	be->move_away();
	cr_assert_eq(fixture_scan(box, &got), -ESTALE);
	expect_unlocked();
}
