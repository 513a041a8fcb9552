#!/usr/bin/python3
"""Listings: complete whatever else fails, with inode numbers that mean
something, also while others list and the mailbox changes."""

import errno
import os
import sys
import threading
import time

_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(_here),
                os.path.join(os.path.dirname(_here), 'oracle')]
import harness  # noqa: E402
import mbxfile  # noqa: E402

COUNT = 60
GOOD = mbxfile.mailbox(COUNT)
AT = mbxfile.offsets(GOOD)
ALL = list(range(1, COUNT + 1))
BUSY_S = 3
LISTINGS = 6    # and no fewer, however slow the machine is


def uid_of(name):
    return int(name.split('.')[0])


class Plus(harness.Case):
    """With -o readdirplus every name is looked up while it is listed."""

    def rig_with(self, *words):
        rig = self.rig()
        rig.user('alice')
        rig.put('alice', 'INBOX', GOOD)
        rig.mount(','.join([rig.options(), *words]))
        self.assertEqual(len(os.listdir(f'{rig.mnt}/alice/cur')), COUNT)
        return rig

    def check_failed_lookup(self, *words):
        rig = self.rig_with(*words)
        os.makedirs(f'{rig.mnt}/alice/.native/cur')
        other = f'{rig.store}/alice/.native/other'
        os.mkdir(other)
        harness.run(['mount', '-t', 'tmpfs', 'none', other])
        try:
            with os.scandir(f'{rig.mnt}/alice/.native') as entries:
                got = {e.name: e.is_dir(follow_symlinks=False)
                       for e in entries}
            self.assertEqual(got, {'cur': True, 'other': True})
            self.assert_errno(errno.EXDEV, os.stat,
                              f'{rig.mnt}/alice/.native/other')
        finally:
            harness.run(['umount', other])
        self.assertTrue(os.path.isdir(f'{rig.mnt}/alice/.native/other'))

    def test_a_name_that_cannot_be_looked_up_is_listed(self):
        self.check_failed_lookup()

    def test_and_so_it_is_with_readdirplus(self):
        self.check_failed_lookup('readdirplus')

    def test_attributes_that_came_along_are_right(self):
        rig = self.rig_with('readdirplus')
        top = f'{rig.mnt}/alice/cur'
        for name in os.listdir(top):
            uid = uid_of(name)
            self.assertEqual(os.stat(f'{top}/{name}').st_size,
                             len(mbxfile.text(uid)))
            with open(f'{top}/{name}', 'rb') as f:
                self.assertEqual(f.read(), mbxfile.text(uid))


class Users(harness.Case):
    def numbers(self, rig):
        with os.scandir(rig.mnt) as entries:
            return {e.name: e.inode() for e in entries}

    def test_each_user_has_a_number_of_his_own(self):
        rig = self.rig()
        names = [f'user{n}' for n in range(20)]
        for name in names:
            rig.user(name)
            rig.put(name, 'INBOX', GOOD)
        rig.mount()
        first = self.numbers(rig)
        self.assertEqual(sorted(first), sorted(names))
        self.assertEqual(len(set(first.values())), len(names))
        for ino in first.values():
            self.assertLess(ino, 1 << 63)
        want = {n: os.stat(f'{rig.mnt}/{n}').st_ino for n in names[:10]}
        second = self.numbers(rig)
        self.assertEqual({n: second[n] for n in want}, want)


class Busy(harness.Case):
    """Readers at work while a changer does what UW does, and worse."""

    def setUp(self):
        self.wrong = []
        self.listings = 0
        self.until = 0

    def note(self, what):
        self.wrong.append(what)

    def is_over(self):
        return self.wrong or (time.monotonic() >= self.until
                              and self.listings >= LISTINGS)

    def work(self, fn):
        try:
            while not self.is_over():
                fn()
        except Exception as e:     # told where the test can fail
            self.note(f'{fn.__name__}: {type(e).__name__}: {e}')

    def list_all(self):
        """Complete, each message once: cur/ and new/ are two moments, so one
        that moves between them may be in both or in none."""
        got = []
        for sub in ('new', 'cur'):
            with os.scandir(f'{self.folder}/{sub}') as entries:
                got.append({uid_of(e.name): e for e in entries})
        for names in got:
            for uid, entry in names.items():
                self.compare(uid, entry)
        missing = set(ALL) - set(got[0]) - set(got[1]) - self.moving
        if missing:
            self.note(f'missing: {sorted(missing)}')
        self.listings += 1

    def compare(self, uid, entry):
        """A name that is still there has the number that was listed."""
        try:
            st = os.stat(entry.path)
        except FileNotFoundError:
            return
        if st.st_ino != entry.inode():
            self.note(f'{entry.name}: {entry.inode():x} is {st.st_ino:x}')
        if st.st_size != len(mbxfile.text(uid)):
            self.note(f'{entry.name}: {st.st_size} octets')

    def read_all(self):
        top = f'{self.folder}/cur'
        for name in os.listdir(top):
            try:
                with open(f'{top}/{name}', 'rb') as f:
                    data = f.read()
            except OSError as e:
                if e.errno not in (errno.ENOENT, errno.EIO, errno.ESTALE):
                    raise
                continue
            if data != mbxfile.text(uid_of(name)):
                self.note(f'{name}: other octets')

    def write(self, pos, octets):
        with open(self.file, 'r+b', buffering=0) as f:
            os.lseek(f.fileno(), pos, os.SEEK_SET)
            os.write(f.fileno(), octets)

    def flag(self, n, flags):
        end = GOOD.index(b'\r\n', AT[n])
        self.write(end - 13, b'%04x' % flags)

    def change_flags(self):
        for n in range(0, COUNT, 7):
            self.flag(n, mbxfile.OLD | mbxfile.SEEN)
            time.sleep(0.003)
            self.flag(n, mbxfile.OLD)
        self.flag(5, 0)
        time.sleep(0.01)
        self.flag(5, mbxfile.OLD)

    def damage(self):
        pos = GOOD.index(b';', AT[20])
        self.write(pos, b'?')
        time.sleep(0.03)
        self.write(pos, b';')
        time.sleep(0.03)

    def renumber(self):
        self.validity += 1
        self.write(7, b'%08x' % self.validity)
        time.sleep(0.1)

    def run_busy(self, *changers):
        rig = self.rig()
        rig.user('alice')
        rig.put('alice', 'INBOX', GOOD)
        self.file = rig.put('alice', 'mail/box', GOOD)
        self.folder = f'{rig.mnt}/alice/.box'
        self.validity = 0x4b3d5a10
        self.moving = {6}
        rig.expected.append('alice: folder box')
        rig.mount()
        self.list_all()
        self.until = time.monotonic() + BUSY_S
        threads = [threading.Thread(target=self.work, args=(fn,))
                   for fn in (self.list_all, self.list_all, self.read_all,
                              self.read_all, *changers)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(self.wrong, [])
        self.assertIsNone(rig.daemon.poll())
        if 'error' not in rig.log() and 'warning' not in rig.log():
            rig.expected.clear()

    def test_flags_change(self):
        self.run_busy(self.change_flags)

    def test_damage_comes_and_goes(self):
        self.run_busy(self.damage)

    def test_uidvalidity_is_reset(self):
        self.run_busy(self.renumber, self.change_flags)


if __name__ == '__main__':
    harness.main()
