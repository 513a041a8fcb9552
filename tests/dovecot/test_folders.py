#!/usr/bin/python3
"""CREATE, RENAME, DELETE and SUBSCRIBE over IMAP, where some folders are
mailboxes of UW and others are native: what IMAP and c-client find afterwards."""

import contextlib
import fcntl
import os
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                os.path.join(os.path.dirname(os.path.dirname(
                    os.path.abspath(__file__))), 'oracle')]
import harness      # noqa: E402
import mbxfile      # noqa: E402

MAIL = b'From: a@example.test\r\nSubject: %d\r\n\r\nText of %d.\r\n'
UID = harness.FIRST_UID


def ok(answer):
    if answer[0] != 'OK':
        raise AssertionError(answer)
    return answer[1]


def mailbox(count, uidvalidity):
    data = mbxfile.mailbox(count)
    return data[:7] + b'%08x' % uidvalidity + data[15:]


class Folders(harness.Case):
    def setUp(self):
        harness.need_dovecot()
        self.r = self.rig()
        self.r.user('alice', 'inbox', 'flags')
        os.mkdir(self.box('lists'), 0o700)
        os.chown(self.box('lists'), UID, UID)
        self.r.put('alice', 'mail/lists/a', mailbox(4, 0x51000001))
        self.r.put('alice', 'mail/lists/b', mailbox(3, 0x51000002))
        self.r.mount()
        self.dovecot = self.r.dovecot()
        self.m = self.session()

    def session(self):
        m = self.dovecot.imap('alice')
        self.addCleanup(self.end, m)
        return m

    @staticmethod
    def end(m):
        with contextlib.suppress(OSError):
            m.shutdown()

    def remount(self):
        """Its sessions keep the view busy."""
        self.dovecot.stop()
        self.r.remount()
        self.dovecot = self.r.dovecot()
        self.m = self.session()

    def box(self, *names):
        return self.r.legacy_file('alice', 'mail', *names)

    def list(self, m=None, what='list'):
        """Names that can be selected."""
        out = set()
        own = m or self.session()
        lines = getattr(own, what)()[1]
        if not m:
            own.logout()
        for line in lines:
            if line and b'\\Noselect' not in line and \
                    b'\\NonExistent' not in line:
                out.add(line.split(b' "." ')[1].decode().strip('"'))
        return out

    def facts(self, name, m=None):
        own = m or self.session()
        try:
            out = harness.imap_folder(own, name)
        finally:
            if not m:
                own.logout()
        for mail in out['mail'].values():
            mail['flags'].discard('\\Recent')
        return out

    def append(self, name, n, flags=''):
        ok(self.m.append(harness.quote(name), flags,
                         '" 3-Mar-2003 03:03:03 +0000"', MAIL % (n, n)))

    def check_uw(self, path, facts):
        """c-client has the mailbox with the same UIDs."""
        dump = next(iter(harness.cc_dump(self.box(path)).values()))
        self.assertEqual(sorted(dump['mail']), sorted(facts['mail']))
        self.assertEqual(dump['uidvalidity'], facts['uidvalidity'])

    def status(self, name):
        return ok(self.m.status(harness.quote(name),
                                '(MESSAGES UIDNEXT UIDVALIDITY)'))[0] \
            .split(b'(')[1]

    def trash(self):
        path = f'{self.r.store}/.janusmail/trash/alice'
        return sorted(os.listdir(path)) if os.path.exists(path) else []

    def test_rename(self):
        before, status = self.facts('flags'), self.status('flags')
        ok(self.m.rename('flags', 'Work.old flags'.join('""')))
        self.assertEqual(self.list(self.m), {
            'INBOX', 'lists.a', 'lists.b', 'Work.old flags'})
        self.assertEqual(self.status('Work.old flags'), status)
        self.assert_same(before, self.facts('Work.old flags', self.m))
        self.assert_same(before, self.facts('Work.old flags'))
        self.check_uw('Work/old flags', before)
        self.assertNotEqual(self.m.select('flags')[0], 'OK')
        # And it goes on as a mailbox.
        self.append('Work.old flags', 1, '\\Flagged')
        after = self.facts('Work.old flags')
        new, = set(after['mail']) - set(before['mail'])
        self.assertEqual(after['mail'][new]['body'], MAIL % (1, 1))
        self.remount()
        self.assert_same(after, self.facts('Work.old flags'))

    def test_rename_with_children(self):
        """Of a folder that is native, or is none."""
        a, b = self.facts('lists.a'), self.facts('lists.b')
        ok(self.m.create('lists'))
        ok(self.m.create('lists.native'))
        self.append('lists.native', 7)
        native = self.facts('lists.native')
        ok(self.m.rename('lists', 'Archive.lists'))
        self.assertEqual(self.list(self.m), {
            'INBOX', 'flags', 'Archive.lists', 'Archive.lists.a',
            'Archive.lists.b', 'Archive.lists.native'})
        self.assert_same(a, self.facts('Archive.lists.a'))
        self.assert_same(b, self.facts('Archive.lists.b'))
        self.assert_same(native, self.facts('Archive.lists.native'))
        self.check_uw('Archive/lists/a', a)
        self.assertEqual(sorted(os.listdir(self.box())), ['Archive', 'flags'])
        ok(self.m.rename('Archive.lists', 'lists'))
        self.assert_same(a, self.facts('lists.a'))
        self.check_uw('lists/b', b)

    def test_rename_while_another_session_has_it(self):
        other = self.session()
        ok(other.select('lists.a'))
        before = self.facts('lists.a')
        ok(self.m.rename('lists.a', 'here'))
        self.assert_same(before, self.facts('here'))
        try:
            other.noop()    # Dovecot may end it: the mailbox is gone
        except other.abort:
            pass
        self.dovecot.expected += ['lists.a']
        self.check_uw('here', before)

    def test_delete(self):
        before = self.facts('lists.a')
        ok(self.m.delete('lists.a'))
        self.assertEqual(self.list(self.m), {'INBOX', 'flags', 'lists.b'})
        self.assertEqual(self.list(), {'INBOX', 'flags', 'lists.b'})
        self.assertFalse(os.path.exists(self.box('lists/a')))
        kept, = self.trash()
        self.assertTrue(kept.endswith('.lists\\x2fa'), kept)
        left = os.listdir(os.path.join(self.r.mnt, 'alice'))
        self.assertNotIn('..DOVECOT-TRASHED', left)
        self.assertNotIn('.lists.a', left)
        # UW makes one of that name: another folder.
        self.r.put('alice', 'mail/lists/a', mailbox(2, 0x51000009))
        harness.wait_for('lists.a', lambda: 'lists.a' in self.list())
        after = self.facts('lists.a')
        self.assertEqual(after['uidvalidity'], 0x51000009)
        self.assertEqual(sorted(after['mail']), [1, 2])
        self.check_uw('lists/a', after)
        # And so does IMAP.
        ok(self.m.delete('lists.a'))
        ok(self.m.create('lists.a'))
        self.append('lists.a', 3)
        new = self.facts('lists.a')
        self.assertEqual(new['messages'], 1)
        self.assertNotIn(new['uidvalidity'], (before['uidvalidity'],
                                              after['uidvalidity']))
        self.remount()
        self.assert_same(new, self.facts('lists.a'))
        self.assertEqual(len(self.trash()), 2)

    def test_delete_with_mail_that_was_delivered(self):
        self.facts('flags')
        for n in range(3):
            self.append('flags', n)
        ok(self.m.delete('flags'))
        self.assertEqual(self.list(), {'INBOX', 'lists.a', 'lists.b'})
        self.assertEqual(len(self.trash()), 1)
        ok(self.m.create('flags'))
        self.assertEqual(self.facts('flags')['messages'], 0)

    def test_delete_and_rename_while_uw_has_it_open(self):
        self.dovecot.expected += ['flags']
        self.r.expect_log('flags: cannot be renamed: pid',
                          'flags: cannot be deleted: pid')
        before = self.facts('flags')
        fd = os.open(self.box('flags'), os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH)
            self.assertEqual(self.m.rename('flags', 'other')[0], 'NO')
            self.assert_same(before, self.facts('flags'))
            self.assertEqual(self.m.delete('flags')[0], 'NO')
        finally:
            os.close(fd)
        self.assertIn('flags', self.list())
        self.assertTrue(os.path.exists(self.box('flags')))
        self.assertEqual(self.trash(), [])
        ok(self.m.delete('flags'))
        self.assertNotIn('flags', self.list())

    def count(self, path):
        dump = harness.cc_dump(self.box(path))
        return len(next(iter(dump.values()))['mail']) if dump else 0

    def test_uw_deletes_a_mailbox_with_all_that_was_mirrored(self):
        self.facts('lists.a')
        self.append('lists.a', 1, '\\Seen')
        harness.wait_for('the mirror', lambda: self.count('lists/a') == 5)
        os.unlink(self.box('lists/a'))
        harness.wait_for('the end of lists.a',
                         lambda: 'lists.a' not in self.list())

    def test_uw_deletes_a_mailbox_but_not_what_it_never_had(self):
        self.dovecot.stop()
        self.r.unmount()
        self.r.mount(self.r.options(mirror='off'))
        self.dovecot = self.r.dovecot()
        self.m = self.session()
        self.facts('lists.a')
        self.append('lists.a', 1, '\\Seen')
        uid = max(self.facts('lists.a')['mail'])
        os.unlink(self.box('lists/a'))

        def only_that():
            time.sleep(0.3)
            self.assertIn('lists.a', self.list())
            try:
                return list(self.facts('lists.a')['mail']) == [uid]
            except AssertionError:
                return False    # not noticed yet
        self.dovecot.expected += ['lists.a']
        harness.wait_for('only what was delivered', only_that)
        # Who looks before that is known may be told so.
        if 'the mailbox file is gone' in self.r.log():
            self.r.expect_log('the mailbox file is gone')
        mail = self.facts('lists.a')['mail'][uid]
        self.assertEqual(mail['body'], MAIL % (1, 1))

    def test_subscriptions(self):
        for name in ('flags', 'lists.a'):
            ok(self.m.subscribe(name))
        before = self.list(self.m, 'lsub')
        self.assertLessEqual({'flags', 'lists.a'}, before)
        ok(self.m.unsubscribe('lists.a'))
        ok(self.m.create('native'))
        ok(self.m.subscribe('native'))
        want = before - {'lists.a'} | {'native'}
        self.assertEqual(self.list(self.m, 'lsub'), want)
        self.remount()
        self.assertEqual(self.list(what='lsub'), want)
        # What is deleted stays subscribed, as at UW's.
        ok(self.m.delete('flags'))
        self.assertIn(b'flags', b' '.join(self.m.lsub()[1]))

    def test_inbox_stays(self):
        before = self.facts('INBOX')
        self.assertEqual(self.m.delete('INBOX')[0], 'NO')
        self.assert_same(before, self.facts('INBOX'))
        self.assertEqual(self.trash(), [])


if __name__ == '__main__':
    harness.main()
