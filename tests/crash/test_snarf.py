#!/usr/bin/python3
"""Mail on its way from the old MTA's spool to INBOX, the daemon stopped before
each step: it is in the one or the other, and in the end once in INBOX."""

import contextlib
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import harness      # noqa: E402
import steps        # noqa: E402
sys.path.insert(0, os.path.join(harness.TESTS, 'oracle'))
import mbxfile      # noqa: E402

# Two are the same octet for octet.
SUBJECTS = ('one', 'two', 'two', 'three')
# The last one is of before 1970, in the zone that we run in.
DATES = {'three': 'Thu Jan  1 00:00:01 1970'}
ZONE = 'Asia/Tokyo'
WAIT = 15


class Snarf(harness.Case):
    def setUp(self):
        super().setUp()
        self.r = self.rig()
        self.r.user('alice')
        self.spool = self.r.path('spool')
        os.mkdir(self.spool, 0o2775)
        self.box = self.r.legacy_file('alice', 'INBOX')
        self.path = f'{self.spool}/alice'
        self.trigger = self.r.path('count')
        self.options = self.r.options(spool=f'{self.spool}/%u', scan='touch')

    def reset(self, pseudo):
        self.r.put('alice', 'INBOX', mbxfile.mailbox(3))
        self.had = 3
        with open(self.path, 'wb') as f:
            f.write(pseudo)
            for s in SUBJECTS:
                date = DATES.get(s, 'Thu Jan  1 10:00:01 2004')
                f.write(f'From a@example.test {date}\nSubject: {s}\n'
                        f'Status: RO\n\n{s}\n\n'.encode())
        uid = self.r.users['alice']
        os.chown(self.path, uid, 8)
        for name in (self.box, self.path):
            st = os.stat(name)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f'/tmp/.{st.st_dev:x}.{st.st_ino:x}')

    def in_spool(self):
        with open(self.path, 'rb') as f:
            data = f.read()
        return {s for s in SUBJECTS if f'Subject: {s}\n'.encode() in data}

    def count(self):
        with open(self.box, 'rb') as f:
            data = f.read()
        return {s: data.count(f'Subject: {s}\r\n'.encode())
                for s in set(SUBJECTS)}

    def run_to(self, n):
        """Up to the n-th step. Whether it was stopped."""
        env = {'TZ': ZONE}
        if n:
            env |= {'IO_STOP_AT': str(n), 'IO_STOP_FROM': self.trigger}
        self.r.mount(self.options, env=env)
        proc, self.r.daemon = self.r.daemon, None
        with open(self.trigger, 'w', encoding='ascii'):
            pass
        try:
            with contextlib.suppress(OSError):
                os.listdir(f'{self.r.mnt}/alice/cur')
            harness.wait_for(
                'the spool to be taken', lambda: proc.poll() is not None
                or (not self.in_spool() and not os.listdir(self.notes())),
                WAIT)
        finally:
            os.unlink(self.trigger)
        stopped = proc.poll() is not None
        if stopped:
            self.assertEqual(proc.returncode, steps.STOPPED)
        proc.kill()
        proc.wait(10)
        self.r.force(self.r.mnt)
        self.forget_empty_lock()
        return stopped

    def forget_empty_lock(self):
        """Stopped by another thread between making it and writing its pid:
        such a lock counts for five minutes, as everywhere."""
        lock = self.path + '.lock'
        with contextlib.suppress(FileNotFoundError):
            if os.stat(lock).st_size == 0:
                os.unlink(lock)

    def notes(self):
        return f'{self.r.store}/.janusmail/spool'

    def once(self):
        return {s: SUBJECTS.count(s) for s in set(SUBJECTS)}

    def every_step(self, pseudo=b''):
        for n in range(1, 200):
            self.reset(pseudo)
            stopped = self.run_to(n)
            with self.subTest(step=n):
                have = self.count()
                for s in set(SUBJECTS):
                    self.assertTrue(s in self.in_spool()
                                    or have[s] == SUBJECTS.count(s), s)
                    self.assertLessEqual(have[s], SUBJECTS.count(s))
                harness.cc_dump(self.box)
                self.assertFalse(self.run_to(0))
                self.assertEqual(self.count(), self.once())
                with open(self.path, 'rb') as f:
                    self.assertEqual(f.read(), pseudo)
                self.assertEqual(
                    len(list(harness.cc_dump(self.box).values())[0]['mail']),
                    self.had + len(SUBJECTS))
            if not stopped:
                self.assertGreater(n, 12, 'that were too few steps')
                return
        self.fail('too many steps')

    def test_every_step(self):
        self.r.expect_log("alice.lock: nobody's any more")
        self.every_step()


if __name__ == '__main__':
    harness.main()
