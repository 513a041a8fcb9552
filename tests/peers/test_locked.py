#!/usr/bin/python3
"""A mailbox that somebody keeps locked: it waits alone."""

import concurrent.futures
import contextlib
import fcntl
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402

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
        self.r.expect_log('alice: folder INBOX: .*locked')
        with self.kept('INBOX'):
            with self.crowd(f'{top}/cur') as jobs:
                for _ in range(5):
                    self.assertLess(
                        took(lambda: os.listdir(f'{self.r.mnt}/bob/cur')), 3)
                    # Nor is another folder of the same user.
                    self.assertLess(
                        took(lambda: os.listdir(f'{top}/.gaps/cur')), 3)
            # Waits do not add up.
            self.assertLess(max(j.result() for j in jobs), 20)
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


if __name__ == '__main__':
    harness.main()
