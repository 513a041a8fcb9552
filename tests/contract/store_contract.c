/*
 * What store.h promises, asked of every back end: one mailbox is built in each
 * format and must look the same through all of them. Here: list, open, scan and
 * stamp; see also read_contract.c.
 */
#include "compat/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "world.h"

/* ---- stores -------------------------------------------------------------- */

CONTRACT(lists_the_folder_once_and_nothing_else)
{
	struct world_seen s = { 0 };

	cr_assert_eq(store->ops->list(store, world_see, &s), 0);
	cr_expect_eq(s.wanted, 1);
	cr_expect_eq(s.folders, 0);
	cr_expect_eq(s.others, 0);
}

CONTRACT(a_walk_ends_where_the_caller_ends_it)
{
	struct world_seen s = { .give = 42 };

	cr_assert_eq(store->ops->list(store, world_see, &s), 42);
	cr_expect_eq(s.calls, 1);
	s = (struct world_seen){ .give = -EIO };
	cr_assert_eq(store->ops->list(store, world_see, &s), -EIO);
}

CONTRACT(a_folder_that_is_not_there_is_enoent)
{
	struct box *none = NULL;

	cr_expect_eq(store->ops->open(store, "nothing", &none), -ENOENT);
	cr_expect_eq(store->ops->open(store, ".nothing", &none), -ENOENT);
	cr_expect_null(none);
}

CONTRACT(a_folder_outside_the_store_is_not_opened)
{
	struct box *none = NULL;
	char up[64];

	(void)snprintf(up, sizeof(up), "../mail/%s", be->folder);
	cr_expect_eq(store->ops->open(store, "..", &none), -EXDEV);
	cr_expect_eq(store->ops->open(store, up, &none), -EXDEV);
	cr_expect_lt(store->ops->open(store, "/etc/passwd", &none), 0);
	cr_expect_null(none);
}

CONTRACT(a_symbolic_link_is_not_followed)
{
	struct box *none = NULL;
	const char *link = be == &backend_mbx ? "mail/link" : "Maildir/.link";
	struct world_seen s = { 0 };

	cr_assert_eq(symlink(be->folder, fixture_path(link)), 0);
	cr_expect_eq(store->ops->open(store, strchr(link, '/') + 1, &none),
		     -ELOOP);
	cr_assert_eq(store->ops->list(store, world_see, &s), 0);
	cr_expect_eq(s.wanted, 1);
	cr_expect_eq(s.folders, 0);
	cr_expect_eq(s.others, 1);
}

CONTRACT(nothing_is_closed_and_freed_quietly)
{
	box->ops->close(NULL);
	store->ops->free(NULL);
	cr_assert_eq(got.count, 0);
	world_scan();
	world_expect_five();
}

/* ---- scan ---------------------------------------------------------------- */

CONTRACT(a_scan_gives_the_messages_by_ascending_uid)
{
	world_scan();
	world_expect_five();
}

CONTRACT(a_scan_gives_the_flags)
{
	world_scan();
	cr_assert_eq(got.count, (size_t)BACKEND_FIVE);
	for (size_t i = 0; i < got.count; i++)
		cr_expect_eq(got.msgs[i].flags, backend_five[i].flags,
			     "UID %u: %x", backend_five[i].uid,
			     got.msgs[i].flags);
}

CONTRACT(a_scan_gives_the_keywords_by_name)
{
	uint32_t bits;

	world_scan();
	for (size_t w = 0; w < ARRAY_LEN(backend_words); w++)
		cr_expect_str_eq(got.scan.keywords.name[be->slots[w]],
				 backend_words[w]);
	for (size_t i = 0; i < got.count; i++) {
		bits = 0;
		for (size_t w = 0; w < ARRAY_LEN(backend_words); w++)
			if (got.msgs[i].keywords & 1U << be->slots[w])
				bits |= 1U << w;
		cr_expect_eq(bits, backend_five[i].keywords, "UID %u",
			     backend_five[i].uid);
	}
}

CONTRACT(a_scan_gives_dates_and_sizes)
{
	world_scan();
	for (size_t i = 0; i < got.count; i++) {
		cr_expect_eq(got.msgs[i].date, backend_five[i].date, "UID %u",
			     backend_five[i].uid);
		cr_expect_eq(got.msgs[i].size, backend_five[i].len);
	}
}

CONTRACT(a_scan_gives_uidvalidity_and_uidnext)
{
	world_scan();
	cr_expect_eq(got.scan.uidvalidity, (uint32_t)BACKEND_UIDVALIDITY);
	cr_expect_eq(got.scan.uidnext, 4000000001);
}

CONTRACT(a_good_mailbox_has_no_damage)
{
	got.scan.damage = (struct damage){ .kind = DAMAGE_UID, .count = 3 };
	world_scan();
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
	cr_expect_eq(got.scan.damage.count, 0);
	cr_expect_str_eq(got.scan.damage.text, "");
}

CONTRACT(a_second_scan_gives_the_same)
{
	static struct fixture_scan again;

	world_scan();
	cr_assert_eq(fixture_scan(box, &again), 0);
	cr_assert_eq(again.count, got.count);
	for (size_t i = 0; i < got.count; i++) {
		const struct msg *a = &again.msgs[i], *b = &got.msgs[i];

		cr_expect(a->uid == b->uid && a->flags == b->flags &&
			  a->keywords == b->keywords && a->date == b->date &&
			  a->size == b->size && a->off == b->off);
		cr_expect_str_eq(again.names[i], got.names[i]);
	}
	cr_expect(stamp_equal(&again.scan.stamp, &got.scan.stamp));
	cr_expect_eq(again.scan.next.off, got.scan.next.off);
	cr_expect_eq(again.scan.uidnext, got.scan.uidnext);
}

CONTRACT(an_empty_mailbox_has_no_message)
{
	world_end();
	be->move_away();
	(void)rmdir(fixture_path("lock"));
	world_begin(be, NULL, 0);
	world_scan();
	cr_expect_eq(got.count, 0);
	cr_expect_eq(got.scan.uidvalidity, (uint32_t)BACKEND_UIDVALIDITY);
	cr_expect_eq(got.scan.uidnext, 1);
	cr_expect_eq(got.scan.damage.kind, DAMAGE_NONE);
}

CONTRACT(a_callback_that_fails_ends_the_scan)
{
	struct scan s = { 0 };
	unsigned calls = 0;

	cr_assert_eq(box->ops->scan(box, &s, world_refuse, &calls), -ECANCELED);
	cr_expect_eq(calls, 2);
	world_scan();
	world_expect_five();
}

CONTRACT(a_scan_from_the_last_point_shows_what_came_since)
{
	size_t last;

	world_scan();
	be->append(&backend_sixth);
	got.scan.from = got.scan.next;
	world_scan();
	/* Maildir has no such point and gives all of them. */
	cr_assert_eq(got.count, be == &backend_mbx ? 1 : 6);
	last = got.count - 1;
	cr_expect_eq(got.msgs[last].uid, backend_sixth.uid);
	cr_expect_eq(got.msgs[last].flags, backend_sixth.flags);
	cr_expect(fixture_is(box, &got, last, backend_sixth.text,
			     backend_sixth.len));
	cr_expect_eq(got.scan.uidnext, backend_sixth.uid + 1);
}

CONTRACT(a_scan_shows_changed_flags)
{
	be->set_flags(&backend_five[1], MSG_SEEN | MSG_OLD);
	world_scan();
	world_expect_five();
	cr_expect_eq(got.msgs[1].flags, MSG_SEEN | MSG_OLD);
	cr_expect_eq(got.msgs[2].flags, backend_five[2].flags);
}

/* ---- stamps -------------------------------------------------------------- */

CONTRACT(a_stamp_stays_when_nothing_changes)
{
	struct stamp before = world_stamp(), after;

	world_tick();
	world_scan();
	world_expect_five();
	after = world_stamp();
	cr_expect(stamp_equal(&before, &after));
	cr_expect(stamp_equal(&before, &got.scan.stamp));
}

CONTRACT(a_stamp_differs_after_an_append)
{
	struct stamp before = world_stamp(), after;

	world_tick();
	be->append(&backend_sixth);
	after = world_stamp();
	cr_expect_not(stamp_equal(&before, &after));
}

CONTRACT(a_stamp_differs_after_a_flag_change)
{
	struct stamp before = world_stamp(), after;

	world_tick();
	be->set_flags(&backend_five[0], MSG_OLD);
	after = world_stamp();
	cr_expect_not(stamp_equal(&before, &after));
}

CONTRACT(a_folder_that_was_renamed_is_stale)
{
	struct stamp s;

	world_scan();
	be->move_away();
	cr_expect_eq(box->ops->stamp(box, &s), -ESTALE);
	cr_expect_eq(fixture_scan(box, &got), -ESTALE);
	cr_expect_eq(got.count, 0);
}

CONTRACT(a_folder_that_was_replaced_is_stale)
{
	struct stamp s;

	be->move_away();
	(void)rmdir(fixture_path("lock"));
	be->build(&backend_sixth, 1);
	cr_expect_eq(box->ops->stamp(box, &s), -ESTALE);
	cr_expect_eq(fixture_scan(box, &got), -ESTALE);
	box->ops->close(box);
	box = NULL;
	cr_assert_eq(store->ops->open(store, be->folder, &box), 0);
	world_scan();
	cr_assert_eq(got.count, 1);
	cr_expect(fixture_is(box, &got, 0, backend_sixth.text,
			     backend_sixth.len));
}

CONTRACT(a_folder_that_was_removed_is_stale)
{
	struct stamp s;

	be->move_away();
	fixture_remove(fixture_path(be == &backend_mbx ? "mail/elsewhere"
						       : "Maildir/.elsewhere"));
	cr_expect_eq(box->ops->stamp(box, &s), -ESTALE);
	cr_expect_eq(fixture_scan(box, &got), -ESTALE);
}
