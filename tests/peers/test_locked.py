#!/usr/bin/python3
"""A mailbox that somebody keeps locked: it waits alone."""

import concurrent.futures
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness_holder import holder   # noqa: E402

CROWD = 60      # the daemon has about as many threads


def took(fn):
    began = time.monotonic()
    with contextlib.suppress(OSError):
        fn()
    return time.monotonic() - began


class Locked(harness.Case):
    def setUp(self):
        super().setUp()
        self.r = self.rig()
        self.r.user('alice', 'inbox', 'gaps')
        self.r.user('bob', 'inbox')

    @contextlib.contextmanager
    def kept(self, *names):
        """alice's mailbox changes, and then somebody sits on it."""
        path = self.r.legacy_file('alice', *names)
        self.r.make('alice', 'deliver', '/'.join(names))
        fd = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def crowd(self, path):
        with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
            jobs = [pool.submit(took, lambda: os.listdir(path))
                    for _ in range(CROWD)]
            time.sleep(0.3)
            yield jobs

    def test_one_user_cannot_stop_the_others(self):
        self.r.mount(self.r.options(lockwait=6))
        top = f'{self.r.mnt}/alice'
        before = set(os.listdir(f'{top}/cur'))
        os.listdir(f'{self.r.mnt}/bob/cur')
        with self.kept('INBOX'):
            # What is known is shown, and nobody waits for it for long.
            self.assertLessEqual(before, set(os.listdir(f'{top}/cur')))
            with self.crowd(f'{top}/cur') as jobs:
                for _ in range(5):
                    self.assertLess(
                        took(lambda: os.listdir(f'{self.r.mnt}/bob/cur')), 3)
                    # Nor is another folder of the same user.
                    self.assertLess(
                        took(lambda: os.listdir(f'{top}/.gaps/cur')), 3)
            # Waits do not add up.
            self.assertLess(max(j.result() for j in jobs), 20)
        if 'locked' in self.r.log():
            self.r.expect_log('alice: folder INBOX: .*locked')
        harness.wait_for('the new message', lambda: len(
            set(os.listdir(f'{top}/cur')) | set(os.listdir(f'{top}/new')))
            > len(before))

    def test_the_end_does_not_wait(self):
        proc = self.r.mount(self.r.options(lockwait=30))
        os.listdir(f'{self.r.mnt}/alice/cur')
        with self.kept('INBOX'):
            with self.crowd(f'{self.r.mnt}/alice/cur'):
                os.kill(proc.pid, signal.SIGTERM)
                self.assertEqual(proc.wait(20), 0)
                self.r.daemon = None
        if 'locked' in self.r.log():
            self.r.expect_log('locked')

    def test_what_is_known_is_read_on(self):
        """The parse lock alone keeps nobody from reading."""
        self.r.mount(self.r.options(lockwait=2))
        top = f'{self.r.mnt}/alice/cur'
        want = {n: open(f'{top}/{n}', 'rb').read() for n in os.listdir(top)}
        path = self.r.legacy_file('alice', 'INBOX')
        st = os.stat(path)
        lock = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
        fd = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            for name, data in want.items():
                with open(f'{top}/{name}', 'rb') as f:
                    self.assertEqual(f.read(), data)
        finally:
            os.unlink(lock)
            os.close(fd)

    def parse_lock(self, *names):
        """The parse lock in a process that never lets go; its pid."""
        return holder(self.r.legacy_file('alice', *names))

    def set_flags(self, top, names):
        """How many of them could be set."""
        done = 0
        for name in names:
            with contextlib.suppress(OSError):
                os.rename(f'{top}/{name}',
                          f'{top}/{name.split(":")[0]}:2,FS')
                done += 1
        return done

    def locked(self, folder='INBOX'):
        return self.r.folder_status('alice', folder).get('locked')

    def test_who_it_is_is_told_once(self):
        self.r.mount(self.r.options(lockwait=0))
        top = f'{self.r.mnt}/alice/cur'
        # The daemon's own first look is not waited for either.
        harness.wait_for('the first look', lambda: (self.r.folder_status(
            'alice', 'INBOX') or {}).get('state') == 'ok')
        names = [n for n in os.listdir(top) if not n.endswith(':2,FS')]
        self.assertIsNone(self.locked())
        with self.parse_lock('INBOX') as pid:
            for _ in range(50):
                self.assertEqual(self.set_flags(top, names[:2]), 0)
            said = [line for line in self.r.log().splitlines()
                    if 'cannot be renamed' in line]
            self.assertEqual(len(said), 1, said)
            self.assertRegex(said[0], f': pid {pid} .python3.* keeps')
            self.assertRegex(self.locked()['by'], f'^pid {pid} ')
            self.assertRegex(self.r.tool('status', self.r.mnt).stdout,
                             f'locked for .* by pid {pid} ')
            self.assertEqual(
                len(os.listdir(f'{self.r.mnt}/alice/.gaps/cur')) > 0, True)
        self.assertIsNone(self.locked())
        self.assertEqual(self.set_flags(top, names[:1]), 1)
        self.r.expect_log(f'cannot be renamed: pid {pid} ',
                          'can be changed again; 99 more changes had failed')
        with self.parse_lock('INBOX') as pid:
            self.assertEqual(self.set_flags(top, names[1:2]), 0)
        self.r.expect_log(f'cannot be renamed: pid {pid} ')

    def test_new_mail_that_waits_says_for_whom(self):
        self.r.mount(self.r.options(lockwait=0, watch='off'))
        top = f'{self.r.mnt}/alice'
        os.listdir(f'{top}/cur')
        self.r.make('alice', 'deliver', 'INBOX')
        with self.parse_lock('INBOX') as pid:
            with contextlib.suppress(OSError):
                os.listdir(f'{top}/cur')
            self.assertRegex(self.locked()['by'], f'^pid {pid} ')
        self.r.expect_log('cannot be brought up to date: '
                          f'pid {pid} .python3.* keeps the mailbox locked')

    def test_a_session_of_uw_is_named(self):
        """A folder that somebody has open can be neither renamed nor
        deleted."""
        self.r.mount()
        top = f'{self.r.mnt}/alice'
        os.listdir(f'{top}/.gaps/cur')
        uid = self.r.users['alice']
        with subprocess.Popen(
                [harness.CC_MAKE, '-o', f'{uid}:{uid}',
                 self.r.legacy_file('alice'), 'session', './mail/gaps'],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, **harness.NO_LEAKS}) as session:
            self.assertTrue(session.stdout.readline().startswith('ok'))
            with self.assertRaises(OSError):
                os.rename(f'{top}/.gaps', f'{top}/.other')
            session.stdin.write('quit\n')
            session.stdin.close()
            session.wait(10)
        self.r.expect_log(f'folder gaps: cannot be renamed: pid {session.pid} '
                          '.cc_make.* has the mailbox open')
        os.rename(f'{top}/.gaps', f'{top}/.other')


if __name__ == '__main__':
    harness.main()
