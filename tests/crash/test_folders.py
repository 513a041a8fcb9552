#!/usr/bin/python3
"""Folders renamed and deleted through the view, with the daemon stopped before
each of its durable steps: the state before or the state after (law 8)."""

import contextlib
import hashlib
import os
import shutil
import sys
import tempfile
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import harness      # noqa: E402
import steps        # noqa: E402
import mbxfile      # noqa: E402

WORDS = ('Label', 'Other')
TRASHED = '..DOVECOT-TRASHED'


def stores(rig):
    rig.user(steps.USER)
    rig.put(steps.USER, 'INBOX', mbxfile.mailbox(2))
    rig.put(steps.USER, 'mail/box', mbxfile.mailbox(
        4, uids=[3, 7, 8, 9], keywords=WORDS))


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.sha256(f.read()).hexdigest()


def renamed(old, new):
    def do(top):
        os.rename(f'{top}/{old}', f'{top}/{new}')
    return do


class Renamed(steps.Case):
    make = staticmethod(stores)

    def check(self, before, after, found, done):
        super().check(before, after, found, done)
        # Names of mailboxes and folders go together.
        mbx = {f'.{name.replace("/", ".")}' for name in found.mbx
               if name != 'INBOX'}
        self.assertEqual(mbx, set(found.view) - {''})
        old, = set(before.view) - set(after.view)
        new, = set(after.view) - set(before.view)
        now = new if new in found.view else old
        self.assertEqual(found.uids[now], before.uids[old])
        self.assertEqual(found.keywords[now], before.keywords[old])

    def test_to_another_name(self):
        self.steps(renamed('.box', '.other'), 8)

    def test_into_directories_that_are_made(self):
        self.steps(renamed('.box', '.a.b.c'), 12)

    def test_out_of_directories_that_are_left(self):
        def make(rig):
            stores(rig)
            for name in ('a', 'a/b'):
                os.mkdir(rig.legacy_file(steps.USER, 'mail', name), 0o700)
                os.chown(rig.legacy_file(steps.USER, 'mail', name),
                         *[rig.users[steps.USER]] * 2)
            os.rename(rig.legacy_file(steps.USER, 'mail/box'),
                      rig.legacy_file(steps.USER, 'mail/a/b/box'))
        self.steps(renamed('.a.b.box', '.box'), 10, make=make)

    def check_kept(self, before, after, found, done):
        """The mailbox keeps its name, whatever the folder's is."""
        steps.Case.check(self, before, after, found, done)
        self.assertEqual(found.mbx, before.mbx)
        now = '.box*' if '.box*' in found.view else '.box'
        self.assertEqual(found.uids[now], before.uids['.box'])

    def test_to_a_name_that_uw_cannot_have(self):
        self.steps(renamed('.box', '.box*'), 6, check=type(self).check_kept)

    def test_and_control_files_elsewhere(self):
        with tempfile.TemporaryDirectory(prefix='jm-c.') as control:
            os.chmod(control, 0o755)
            self.steps(renamed('.box', '.other'), 9,
                       options={'control': f'{control}/%u'}, again=False,
                       check=steps.Case.check)


class Deleted(steps.Case):
    make = staticmethod(stores)

    def trash(self, rig):
        top = f'{rig.store}/.janusmail/trash/{steps.USER}'
        return {n: os.path.join(top, n) for n in os.listdir(top)} \
            if os.path.isdir(top) else {}

    def rig(self):
        self.one = super().rig()
        return self.one

    def check(self, before, after, found, done):
        """Where the directory has gone is Dovecot's affair."""
        for state in (before, after, found):
            state.view.pop(TRASHED, None)
            state.uids.pop(TRASHED, None)
        super().check(before, after, found, done)
        self.assertEqual('box' in found.mbx, '.box' in found.view)
        kept = [path for path in self.trash(self.one).values()
                if os.path.isfile(path)]
        want = hashlib.sha256(mbxfile.mailbox(
            4, uids=[3, 7, 8, 9], keywords=WORDS)).hexdigest()
        self.assertEqual([digest(path) for path in kept],
                         [] if 'box' in found.mbx else [want])
        self.assertEqual([p for p in kept if p.endswith('.tmp')], [])

    def delete(self, top):
        os.rename(f'{top}/.box', f'{top}/{TRASHED}')
        # What has no cur/ is no folder to these tests.
        for sub in ('/cur', ''):
            shutil.rmtree(f'{top}/{TRASHED}{sub}')

    def test_into_the_trash(self):
        self.steps(self.delete, 15)

    def test_when_the_trash_is_there(self):
        def make(rig):
            stores(rig)
            os.makedirs(f'{rig.store}/.janusmail/trash/{steps.USER}', 0o700)
        self.steps(self.delete, 12, make=make)

    def test_with_the_trash_on_another_filesystem(self):
        def make(rig):
            r = harness.run(['mount', '-t', 'tmpfs', '-o', 'size=8M', 'none',
                             rig.legacy])
            harness.skip_unless(r.returncode == 0, f'no tmpfs: {r.stderr}')
            os.chmod(rig.legacy, 0o755)
            stores(rig)
        self.steps(self.delete, 20, make=make)

    def check_room(self, before, after, found, done):
        """The mailbox is gone, and the directory, with Dovecot's files, is in
        the trash or in the way."""
        self.assertEqual(found.view.get('.box', {}), {})
        self.assertEqual(found.view[''], before.view[''])
        self.assertNotIn('box', found.mbx)
        dirs = [p for p in self.trash(self.one).values() if os.path.isdir(p)]
        dirs.append(f'{self.one.store}/{steps.USER}/.box')
        self.assertEqual(len([d for d in dirs if os.path.exists(
            f'{d}/dovecot-uidlist')]), 1)
        if done:
            self.assertIn('.box', found.view)

    def test_a_new_folder_where_one_is_gone(self):
        def do(top):
            rig = os.path.dirname(os.path.dirname(top))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f'{rig}/legacy/{steps.USER}/mail/box')
            deadline = time.monotonic() + harness.WAIT
            while '.box' in os.listdir(top) and time.monotonic() < deadline:
                time.sleep(0.3)
            for sub in ('', '/new', '/tmp', '/cur'):
                os.mkdir(f'{top}/.box{sub}', 0o700)
        self.steps(do, 9, check=type(self).check_room, again=False)


if __name__ == '__main__':
    harness.main()
