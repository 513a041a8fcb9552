#!/usr/bin/python3
"""UIDLAST below a UID in use: mended before UW finds it."""

import fcntl
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
sys.path.insert(0, os.path.join(harness.TESTS, 'oracle'))
import mbxfile  # noqa: E402

VALIDITY = 0x4b3d5a10


class Regime(harness.Case):
    def setUp(self):
        super().setUp()
        self.r = self.rig()
        self.r.user('alice')

    def box(self):
        with open(self.path, 'rb') as f:
            return f.read()

    def put(self, data):
        self.path = self.r.put('alice', 'mail/box', data)
        return data

    def uids(self):
        top = f'{self.r.mnt}/alice/.box'
        return sorted(int(n.split('.')[0]) for sub in ('cur', 'new')
                      for n in os.listdir(f'{top}/{sub}'))

    def session_of_uw(self):
        """What c-client makes of it, read-write; it must keep the regime."""
        self.r.make('alice', 'deliver', 'mail/box')
        dump = list(harness.cc_dump(self.path).values())[0]
        self.assertEqual(dump['uidvalidity'], VALIDITY)
        return sorted(dump['mail'])

    def test_it_is_raised_and_nothing_else_changes(self):
        data = self.put(mbxfile.mailbox(5, uids=[1, 2, 7, 8, 11], uidlast=3))
        self.r.mount()
        self.assertEqual(self.uids(), [1, 2, 7, 8, 11])
        now = self.box()
        self.assertEqual(now[15:23], b'%08x' % 11)
        self.assertEqual(now[:15] + now[23:], data[:15] + data[23:])
        self.assertEqual(self.r.folder_status('alice', 'box')['state'], 'ok')
        self.assertEqual(self.session_of_uw(), [1, 2, 7, 8, 11, 12])
        harness.wait_for('the new one', lambda: self.uids() ==
                         [1, 2, 7, 8, 11, 12])
        self.r.expect_log('folder box: UIDLAST was 3, .* is 11 now')

    def test_messages_without_a_uid_keep_their_turn(self):
        self.put(mbxfile.mailbox(3, uidlast=1)
                 + mbxfile.record(mbxfile.text(9), 0, 0))
        self.r.mount()
        self.assertEqual(self.uids(), [1, 2, 3, 4])
        self.assertEqual(self.session_of_uw(), [1, 2, 3, 4, 5])
        self.r.expect_log('folder box: UIDLAST was 1, .* is 3 now')

    def test_a_header_that_is_written_back_later(self):
        """As a session of UW with an old header in its memory does it."""
        self.put(mbxfile.mailbox(5))
        self.r.mount()
        self.assertEqual(self.uids(), [1, 2, 3, 4, 5])
        with open(self.path, 'r+b') as f:
            f.seek(15)
            f.write(b'%08x' % 2)
        self.assertEqual(self.uids(), [1, 2, 3, 4, 5])
        self.assertEqual(self.box()[15:23], b'%08x' % 5)
        self.assertEqual(self.session_of_uw(), [1, 2, 3, 4, 5, 6])
        self.r.expect_log('folder box: UIDLAST was 2, .* is 5 now')

    def test_other_damage_is_not_touched(self):
        data = self.put(mbxfile.mailbox(5, uids=[1, 5, 3, 7, 8], uidlast=2))
        self.r.expect_log('folder box')
        self.r.mount()
        self.uids()
        self.assertEqual(self.box(), data)

    def test_a_locked_mailbox_is_mended_later(self):
        data = self.put(mbxfile.mailbox(5, uidlast=2))
        st = os.stat(self.path)
        lock = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
        self.r.mount(self.r.options(lockwait=0, scan='touch'))
        with open(lock, 'xb') as f:
            os.chmod(lock, 0o666)
            fcntl.flock(f, fcntl.LOCK_EX)
            with self.assertRaises(OSError):
                self.uids()
            self.assertEqual(self.box(), data)
            os.unlink(lock)
        harness.wait_for('the locks', lambda: self.uids() == [1, 2, 3, 4, 5])
        self.r.expect_log('keeps the mailbox locked',
                          'UIDLAST was 2, .* is 5 now')


if __name__ == '__main__':
    harness.main()
