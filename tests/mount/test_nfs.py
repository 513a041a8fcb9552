#!/usr/bin/python3
"""UW's library skips its locks on NFS without a word: nothing is served there.
There is no NFS in a test; a library tells the daemon that there is."""

import errno
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
sys.path.insert(0, os.path.join(harness.TESTS, 'oracle'))
import mbxfile  # noqa: E402

LIBRARY = os.path.join(harness.BUILD, 'tests', 'libas_nfs.so')
BOX = mbxfile.mailbox(3)


class Nfs(harness.Case):
    def setUp(self):
        super().setUp()
        with open(harness.DAEMON, 'rb') as f:
            harness.skip_unless(b'__asan_init' not in f.read(),
                                'a sanitizer has to be loaded first')
        self.r = self.rig()
        self.r.user('alice')
        self.inbox = self.r.put('alice', 'INBOX', BOX)
        self.box = self.r.put('alice', 'mail/box', BOX)
        os.mkdir(self.r.path('other'), 0o1777)

    def env(self, below):
        return {'LD_PRELOAD': os.path.abspath(LIBRARY), 'AS_NFS': below}

    def refused(self, below, text, status, **options):
        proc = self.r.start('-o', self.r.options(**options), self.r.mnt,
                            env=self.env(below))
        self.assertEqual(proc.wait(harness.WAIT), status)
        self.r.expect_log(text)

    def test_the_library_does_nothing_else(self):
        self.r.mount(env=self.env('/nowhere'))
        self.assertEqual(len(os.listdir(f'{self.r.mnt}/alice/cur')), 3)

    def test_a_directory_of_mailboxes(self):
        self.refused(self.r.legacy, "lies on nfs, where UW's locks do not "
                     'work', 2)

    def test_a_spool(self):
        self.refused(self.r.path('other'), 'other/%u: lies on nfs', 2,
                     spool=f'{self.r.path("other")}/%u')

    def test_a_directory_of_lock_files(self):
        self.refused(self.r.path('other'), "lockdir=.*: lies on nfs, where "
                     "UW's locks do nothing", 32,
                     lockdir=self.r.path('other'))

    def test_one_mailbox(self):
        """A mount below the mail directory, say."""
        self.r.mount(env=self.env(self.box))
        self.assert_errno(errno.EIO, os.listdir,
                          f'{self.r.mnt}/alice/.box/cur')
        self.assertEqual(len(os.listdir(f'{self.r.mnt}/alice/cur')), 3)
        damage = self.r.folder_status('alice', 'box')['damage']
        self.assertIn('network filesystem', damage['text'])
        self.r.expect_log('box .*network filesystem')


if __name__ == '__main__':
    harness.main()
