#!/usr/bin/python3
"""What UW's clients subscribe and unsubscribe gets into Dovecot's list, with
the daemon stopped before each of its durable steps: the list before or the
list after (law 8)."""

import contextlib
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import harness      # noqa: E402
import steps        # noqa: E402
import mbxfile      # noqa: E402

HEAD = 'V\t2\n\n'
FIRST = b'mail/one\nmail/two\n'
# Dovecot's client has unsubscribed "one" meanwhile, and subscribed "own".
BEFORE = HEAD + 'two\nown\n'
UW = b'mail/one\nmail/a/three\nmail/four\n'
AFTER = HEAD + 'own\na\tthree\nfour\n'


def read(path):
    with contextlib.suppress(FileNotFoundError), open(path) as f:
        return f.read()
    return None


class Subscriptions(steps.Case):
    def files(self):
        return [f'{d}/subscriptions' for d in (
            self.r.path('store', steps.USER),
            self.r.legacy_file(steps.USER, 'control'))[:1 + self.control]]

    def make(self, rig):
        self.r = rig
        rig.user(steps.USER)
        rig.put(steps.USER, 'INBOX', mbxfile.mailbox(2))
        rig.put(steps.USER, '.mailboxlist', FIRST)
        if self.control:    # in a place that is restored after each stop
            self.options['control'] = f'{rig.legacy}/%u/control'
            os.mkdir(rig.legacy_file(steps.USER, 'control'), 0o700)
            os.chown(rig.legacy_file(steps.USER, 'control'),
                     *[rig.users[steps.USER]] * 2)

    def prepare(self, top):
        """As Dovecot changes its list."""
        self.assertEqual(read(f'{top}/subscriptions'), HEAD + 'one\ntwo\n')
        for path in [f'{top}/subscriptions', *self.files()[1:]]:
            with open(path + '.lock', 'x') as f:
                f.write(BEFORE)
            os.rename(path + '.lock', path)

    def change(self, top):
        """As UW does it: another file under the name."""
        path = self.r.legacy_file(steps.USER, '.mailboxlist')
        with open(path + '.tmp', 'wb') as f:
            f.write(UW)
        os.rename(path + '.tmp', path)

    def followed(self):
        """Whether all is done; or the daemon ended, then nothing will be."""
        if self.r.daemon and self.r.daemon.poll() is not None:
            return True
        with contextlib.suppress(OSError):
            os.listdir(f'{self.r.mnt}/{steps.USER}')
        copy = self.r.path('store', '.janusmail', 'mailboxlists',
                           f'{steps.USER}.list')
        return {read(f) for f in self.files()} == {self.want} and \
            (read(copy) or '').encode() == self.listed()

    def listed(self):
        with open(self.r.legacy_file(steps.USER, '.mailboxlist'), 'rb') as f:
            return f.read()

    def wait(self, rig):
        self.want = AFTER if self.listed() == UW else BEFORE
        harness.wait_for('the list', self.followed)

    def stopped(self, before, after, dumps):
        """Each of the files is whole, and what nobody touched is there."""
        for path in self.files():
            self.assertIn(read(path), (BEFORE, AFTER), path)

    def check(self, before, after, found, done):
        self.assert_same(before.view, found.view)
        self.assertEqual({read(f) for f in self.files()}, {AFTER})
        for path in self.files():
            self.assertEqual([n for n in os.listdir(os.path.dirname(path))
                              if n.startswith('subscriptions')],
                             ['subscriptions'])

    def follow(self, at_least, control):
        self.control, self.options = control, {}
        self.steps(self.change, at_least, make=self.make, prepare=self.prepare,
                   wait=self.wait, mailboxes=self.stopped, again=False,
                   options=self.options,
                   check=lambda case, *what: self.check(*what))

    def test_in_the_view(self):
        self.follow(9, control=False)

    def test_in_control_too(self):
        self.follow(14, control=True)


if __name__ == '__main__':
    harness.main()
