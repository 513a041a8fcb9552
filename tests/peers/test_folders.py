#!/usr/bin/python3
"""Folders renamed and deleted through the view while UW's programs work on the
same mailboxes."""

import errno
import os
import shutil
import subprocess
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import harness      # noqa: E402
from test_uw import Session     # noqa: E402

UID = 65534     # mailutil wants a user with a name
TRASHED = '..DOVECOT-TRASHED'
ROUNDS = 12


class Folders(harness.Case):
    def setUp(self):
        self.r = self.rig()
        self.home = self.r.user('alice', 'inbox', 'flags', uid=UID)
        self.r.mount()
        self.view = f'{self.r.mnt}/alice'

    def uw(self, *args):
        """mailutil as the user, with the mailboxes where they are."""
        return subprocess.run(
            ['mailutil', *args], user=UID, group=UID, extra_groups=[],
            env={'HOME': self.home, 'PATH': os.environ['PATH'],
                 'USER': 'alice'}, cwd=self.home, text=True,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60)

    def count(self, *names):
        dump = harness.cc_dump(os.path.join(self.home, 'mail', *names))
        return len(next(iter(dump.values()))['mail'])

    def shown(self, folder):
        return [name for sub in ('cur', 'new')
                for name in os.listdir(f'{self.view}/{folder}/{sub}')]

    def test_a_session_keeps_its_mailbox(self):
        before = sorted(self.shown('.flags'))
        session = Session(self.r, 'alice', 'mail/flags')
        for target in ('.other', TRASHED):
            self.assert_errno(errno.EBUSY, os.rename, f'{self.view}/.flags',
                              f'{self.view}/{target}')
        self.assertEqual(session('ping'), len(before))
        session('append')
        session.close()
        os.rename(f'{self.view}/.flags', f'{self.view}/.other')
        self.assertEqual(self.count('other'), len(before) + 1)
        # Its next one finds the mailbox under its new name.
        session = Session(self.r, 'alice', 'mail/other')
        self.assertEqual(session('ping'), len(before) + 1)
        session.close()

    def test_mailutil_finds_the_new_names(self):
        count = len(self.shown('.flags'))
        os.rename(f'{self.view}/.flags', f'{self.view}/.a.b')
        r = self.uw('check', 'mail/a/b')
        self.assertEqual(r.returncode, 0, r.stderr)
        r = self.uw('rename', 'mail/a/b', 'mail/c')
        self.assertEqual(r.returncode, 0, r.stderr)
        harness.wait_for('.c', lambda: '.c' in os.listdir(self.view))
        self.assertEqual(len(self.shown('.c')), count)
        os.rename(f'{self.view}/.c', f'{self.view}/{TRASHED}')
        shutil.rmtree(f'{self.view}/{TRASHED}')
        self.assertNotEqual(self.uw('check', 'mail/c').returncode, 0)
        r = self.uw('create', '#driver.mbx/mail/c')
        self.assertEqual(r.returncode, 0, r.stderr)
        harness.wait_for('.c', lambda: '.c' in os.listdir(self.view))
        self.assertEqual(self.shown('.c'), [])

    def test_deliveries_while_it_is_renamed(self):
        """Each message is in the mailbox, whatever it was called then."""
        before, sent = len(self.shown('.flags')), 0
        names = ['flags', 'other']
        for n in range(ROUNDS):
            agent = subprocess.Popen(
                [harness.CC_MAKE, '-o', f'{UID}:{UID}', self.home, 'deliver',
                 f'mail/{names[0]}'], stderr=subprocess.PIPE,
                env={**os.environ, **harness.NO_LEAKS})
            # The last one is there in time on the slowest machine.
            if n == ROUNDS - 1:
                agent.wait(harness.WAIT)
            else:
                time.sleep(0.004 * n)
            try:
                os.rename(f'{self.view}/.{names[0]}',
                          f'{self.view}/.{names[1]}')
                names.reverse()
            except OSError as e:
                self.assertEqual(e.errno, errno.EBUSY)
            agent.communicate(timeout=30)
            sent += agent.returncode == 0
        self.assertGreater(sent, 0)
        self.assertEqual(os.listdir(f'{self.home}/mail'), [names[0]])
        self.assertEqual(self.count(names[0]), before + sent)
        harness.wait_for('all of them', lambda: len(self.shown(
            f'.{names[0]}')) == before + sent)


if __name__ == '__main__':
    harness.main()
