#!/usr/bin/python3
"""What the mirror does not take for an expunge, nor for a copy."""

import os
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle')]
import harness      # noqa: E402
from harness_mirror import LF, Mirrored     # noqa: E402


class Trust(Mirrored):
    def put_back(self, old):
        """Nothing is mounted; the file is another one then."""
        with open(self.path + '.old', 'xb') as f:
            f.write(old)
        os.chown(self.path + '.old', self.uid, self.uid)
        os.replace(self.path + '.old', self.path)

    def test_uw_goes_on_with_an_older_mailbox(self):
        """It gives the UID of a copy, which it does not know, to other mail."""
        self.start()
        with open(self.path, 'rb') as f:
            old = f.read()
        self.assertEqual(self.deliver('1.M1.host'), 4)
        self.wait_uid(4)
        self.settled()
        self.r.expect_log('not the message any more', 'another UID')
        self.r.unmount()
        with open(self.path, 'r+b') as f:
            f.truncate(0)
            f.write(old)
        for n in range(2):
            self.uw_delivers(f'Subject: {n}\r\n\r\nby UW\r\n'.encode())
        self.c_client()
        self.assertEqual(sorted(self.mbx()), [1, 2, 3, 4, 5])
        self.r.mount(self.options)
        self.assertEqual(self.read('1.M1.host'), LF)
        self.assertEqual(len(self.names()), 6)
        harness.as_user(self.uid, os.unlink,
                        f'{self.top}/{self.find("1.M1.host")}')
        self.assertEqual(len(self.names()), 5)
        self.settled()
        for uid in (4, 5):
            self.assertIn(uid, self.disk())

    def test_an_older_mailbox_deletes_nothing(self):
        """UW's own mail had the copy's UID, and is gone again."""
        self.start()
        with open(self.path, 'rb') as f:
            old = f.read()
        self.assertEqual(self.deliver('1.M1.host'), 4)
        self.wait_uid(4)
        self.settled()
        self.r.expect_log('another mailbox was put in place')
        self.r.unmount()
        self.put_back(old)
        self.uw_delivers()
        self.c_client('set 4 \\Deleted', 'expunge')
        self.assertEqual(sorted(self.mbx()), [1, 2, 3])
        self.r.mount(self.options)
        self.assertEqual(self.read('1.M1.host'), LF)
        self.settled()
        self.wait_uid(4)
        self.remount()
        self.assertEqual(self.read('1.M1.host'), LF)

    def test_a_name_without_room_for_flags(self):
        """It keeps nobody else from following."""
        self.start()
        long = '1.M1.' + 'x' * (os.pathconf(self.top, 'PC_NAME_MAX') - 5)
        self.put(long)
        self.deliver('2.M1.host')
        first = self.number(long)
        self.wait_uid(first)
        self.settled()
        self.c_client(f'set {first - 1}:{first} \\Flagged')
        self.wait_name('cur/2.M1.host:2,F')
        self.assertEqual(self.find(long), 'new/' + long)
        self.remount()
        self.wait_name('cur/2.M1.host:2,F')
        self.assertEqual(self.find(long), 'new/' + long)


if __name__ == '__main__':
    harness.main()
