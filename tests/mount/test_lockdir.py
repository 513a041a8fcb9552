#!/usr/bin/python3
"""The daemon locks where UW locks, or it does not start."""

import os
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402


class Lockdir(harness.Case):
    def setUp(self):
        super().setUp()
        self.r = self.rig()
        self.r.user('alice', 'inbox')

    def with_private_tmp(self, **options):
        """A daemon with a /tmp of its own, as PrivateTmp= makes it. What lies
        in everybody's /tmp is reached through another name."""
        keep = tempfile.mkdtemp(prefix='jm.', dir='/var/tmp')
        self.addCleanup(shutil.rmtree, keep)
        opts = self.r.options(**options).replace(self.r.dir,
                                                 keep + self.r.dir[4:])
        daemon = os.path.abspath(harness.DAEMON)
        if daemon.startswith('/tmp/'):
            daemon = keep + daemon[4:]
        script = ('set -e; mount --make-rprivate /; mount --rbind /tmp "$1"; '
                  'mount -t tmpfs -o mode=1777 none /tmp; '
                  'exec timeout -s TERM 3 "$2" -f -o "$3" "$4"')
        return subprocess.run(
            ['unshare', '-m', 'sh', '-c', script, 'sh', keep, daemon, opts,
             f'{keep}{self.r.dir[4:]}/mnt'],
            capture_output=True, text=True, timeout=30, check=False,
            env={**os.environ, **self.r.env()})

    def test_another_tmp_than_everybodys_is_refused(self):
        r = self.with_private_tmp()
        self.assertEqual(r.returncode, 32, r.stderr)
        self.assertIn('PrivateTmp=no', r.stderr)
        self.assertNotIn('mounted', r.stderr)

    def test_the_admins_word_counts(self):
        r = self.with_private_tmp(lockdir='/tmp')
        self.assertIn(': mounted', r.stderr)
        self.assertNotIn('PrivateTmp', r.stderr)

    def test_in_a_chroot_of_its_own_uw_is_there_too(self):
        """Another root directory, with the system's process 1 in sight."""
        daemon = os.path.abspath(harness.DAEMON)
        script = (
            'set -e; mount --make-rprivate /; '
            'mount -t tmpfs -o mode=755 none "$1"; cd "$1"; '
            'for d in usr proc dev etc; do mkdir $d; '
            'mount --rbind /$d $d; done; '
            'for d in bin sbin lib lib64; do ln -s usr/$d $d; done; '
            'mkdir -m 1777 tmp; mkdir rig run b; mount --bind "$5" rig; '
            'mount --bind "$(dirname "$2")" b; '
            'exec timeout -s TERM 3 chroot . /b/janusmaild -f -o "$3" "$4"')
        root = tempfile.mkdtemp(prefix='jm.', dir='/var/tmp')
        self.addCleanup(os.rmdir, root)
        r = subprocess.run(
            ['unshare', '-m', 'sh', '-c', script, 'sh', root, daemon,
             self.r.options().replace(self.r.dir, '/rig'), '/rig/mnt',
             self.r.dir],
            capture_output=True, text=True, timeout=30, check=False,
            env={**os.environ, **self.r.env()})
        self.assertIn(': mounted', r.stderr)

    def refused(self, text, lockdir):
        proc = self.r.start('-o', self.r.options(lockdir=lockdir), self.r.mnt)
        self.assertEqual(proc.wait(10), 32)
        self.r.expect_log(text)

    def test_a_directory_that_is_not_there_is_refused(self):
        self.refused('lockdir=.*/none: No such file', self.r.path('none'))

    def test_a_file_is_refused(self):
        self.refused('lockdir=.*: Not a directory',
                     self.r.legacy_file('alice', 'INBOX'))

    def test_a_directory_that_uw_cannot_write_to_is_told(self):
        os.mkdir(self.r.path('locks'), 0o755)
        self.r.mount(self.r.options(lockdir=self.r.path('locks'),
                                    scan='touch'))
        self.r.expect_log('lockdir=.*should be mode 1777')

    def test_everybodys_tmp_is_right(self):
        self.r.mount()
        self.assertNotIn('lockdir', self.r.log())


if __name__ == '__main__':
    harness.main()
