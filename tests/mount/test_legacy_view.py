#!/usr/bin/python3
"""How a legacy folder looks as files: types, modes, owners, and that nobody
can change it, not even root."""

import ctypes
import os
import stat
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402

GETDENTS64 = 217    # x86_64; the test is left out elsewhere
TYPES = {4: stat.S_IFDIR, 8: stat.S_IFREG, 10: stat.S_IFLNK, 1: stat.S_IFIFO}


def d_types(path):
    """name -> d_type as the kernel hands it out."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    buf = ctypes.create_string_buffer(1 << 16)
    out = {}
    try:
        while (n := libc.syscall(GETDENTS64, fd, buf, len(buf))) > 0:
            pos = 0
            while pos < n:
                _, _, size, kind = struct.unpack_from('=QqHB', buf.raw, pos)
                name = buf.raw[pos + 19:pos + size].split(b'\0')[0]
                out[os.fsdecode(name)] = kind
                pos += size
    finally:
        os.close(fd)
    return out


def expect_refusal(what, fn, *args):
    try:
        fn(*args)
    except OSError:
        return
    raise AssertionError(f'{what} was allowed')


def open_write(path):
    os.close(os.open(path, os.O_RDWR))


def open_create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


class LegacyView(harness.SharedCase):
    @classmethod
    def build(cls, rig):
        rig.user('alice', 'inbox', 'flags', 'names', 'recent')
        rig.user('bob', 'inbox')
        rig.mount()
        cls.view = os.path.join(rig.mnt, 'alice')
        cls.folder = os.path.join(cls.view, '.flags')

    def message(self):
        cur = os.path.join(self.folder, 'cur')
        return os.path.join(cur, sorted(os.listdir(cur))[3])

    def test_the_mount_says_what_it_is(self):
        info = harness.mountinfo(self.shared.mnt)
        self.assertEqual(info['type'], 'fuse.janusmail')
        self.assertEqual(info['source'], f'janusmail:{self.shared.index}')
        for option in ('default_permissions', 'allow_other'):
            self.assertIn(option, info['options'])

    def test_types_in_listings_are_true(self):
        harness.skip_unless(os.uname().machine == 'x86_64', 'x86_64 only')
        for path in (self.shared.mnt, self.view, self.folder,
                     f'{self.folder}/cur', f'{self.view}/.recent/new'):
            got = d_types(path)
            self.assertGreater(len(got), 2, path)
            for name, kind in got.items():
                st = os.lstat(os.path.join(path, name))
                self.assertEqual(TYPES.get(kind), stat.S_IFMT(st.st_mode),
                                 f'{path}: {name}')

    def test_folders_of_the_root(self):
        got = {n for n, t in d_types(self.view).items()
               if t == 4 and n not in ('.', '..')}
        self.assertLessEqual({'cur', 'new', 'tmp', '.flags', '.a.b.c',
                              '.dotted_name', '.&ANw-ml&AOQ-ut'}, got)
        self.assertFalse([n for n in got if 'janusmail' in n])

    def test_inode_numbers_in_listings_are_true(self):
        with os.scandir(f'{self.folder}/cur') as it:
            for entry in it:
                self.assertEqual(entry.inode(), os.lstat(entry.path).st_ino)

    def test_modes_and_owners(self):
        for sub in ('cur', 'new', 'tmp'):
            for top in (self.folder, self.view):
                st = os.stat(f'{top}/{sub}')
                self.assertEqual(stat.S_IMODE(st.st_mode), 0o700)
                self.assertEqual((st.st_uid, st.st_gid), (5001, 5001))
                self.assertLessEqual(st.st_mtime, time.time())
        st = os.stat(self.message())
        self.assertEqual((st.st_uid, st.st_gid), (5001, 5001))
        self.assertEqual(stat.S_IMODE(st.st_mode) & 0o177, 0)
        self.assertEqual(os.stat(self.view).st_uid, 5001)

    def test_tmp_looks_freshly_used(self):
        self.assertGreater(os.stat(f'{self.folder}/tmp').st_atime,
                           time.time() - 86400)

    def test_recent_mail_lies_in_new(self):
        top = f'{self.view}/.recent'
        new = sorted(os.listdir(f'{top}/new'))
        self.assertEqual([int(n.split('.')[0]) for n in new], [4, 5, 6])
        self.assertFalse([n for n in new if ':' in n])
        self.assertEqual(len(os.listdir(f'{top}/cur')), 4)

    def refusals(self):
        """What cannot be done to a message of an MBX and its folder."""
        msg, cur = self.message(), f'{self.folder}/cur'
        for sub in ('cur', 'new'):
            expect_refusal('mkdir', os.mkdir, f'{self.folder}/{sub}/d')
            expect_refusal('rmdir', os.rmdir, f'{self.folder}/{sub}')
        expect_refusal('rmdir', os.rmdir, f'{self.folder}/tmp')
        expect_refusal('write', open_write, msg)
        expect_refusal('truncate', os.truncate, msg, 0)
        expect_refusal('date', os.utime, msg, (1, 1))
        expect_refusal('mode', os.chmod, msg, 0o644)
        expect_refusal('rename cur', os.rename, cur, f'{self.folder}/away')
        expect_refusal('symlink', os.symlink, 'x', f'{cur}/y')
        expect_refusal('another name', os.rename, msg, f'{cur}/other:2,')
        os.chmod(msg, 0o600)
        os.chown(msg, 5001, 5001)
        date = os.stat(msg).st_mtime
        os.utime(msg, (1, date))
        os.utime(cur, (1, 1))

    def check_refusals(self, uid):
        before = harness.snapshot(self.shared.legacy)
        names = sorted(os.listdir(f'{self.folder}/cur'))
        times = os.stat(f'{self.folder}/cur').st_mtime_ns
        harness.as_user(uid, self.refusals)
        self.assertEqual(sorted(os.listdir(f'{self.folder}/cur')), names)
        self.assertEqual(os.stat(f'{self.folder}/cur').st_mtime_ns, times)
        self.assert_same(before, harness.snapshot(self.shared.legacy))

    def test_what_the_owner_cannot_do(self):
        self.check_refusals(5001)

    def test_what_root_cannot_do(self):
        self.check_refusals(0)

    def test_others_see_nothing(self):
        message = self.message()
        for uid in (5002, harness.NOBODY):
            for path in (self.view, self.folder, f'{self.folder}/cur'):
                harness.as_user(uid, expect_refusal, f'listing {path}',
                                os.listdir, path)
            harness.as_user(uid, expect_refusal, 'reading',
                            lambda: open(message, 'rb').close())
            harness.as_user(uid, expect_refusal, 'creating', open_create,
                            f'{self.view}/x')

    def test_the_owner_reads(self):
        def reads():
            for top in (self.view, self.folder):
                for name in os.listdir(f'{top}/cur'):
                    with open(f'{top}/cur/{name}', 'rb') as f:
                        assert len(f.read()) > 10
        harness.as_user(5001, reads)

    def test_nobody_by_that_name(self):
        for name in ('carol', '..', '.janusmail', 'x' * 255, 'a\nb'):
            if name != '..':
                self.assertFalse(
                    os.path.lexists(os.path.join(self.shared.mnt, name)))
        expect_refusal('mkdir of a user', os.mkdir,
                       os.path.join(self.shared.mnt, 'carol'))

    def test_control_files_are_real(self):
        with open(f'{self.folder}/dovecot-uidlist', encoding='ascii') as f:
            self.assertRegex(f.readline(), r'^3 V\d+ N33 G[0-9a-f]{32}\n$')
        real = f'{self.shared.store}/alice/.flags/dovecot-uidlist'
        shown = f'{self.folder}/dovecot-uidlist'
        self.assertEqual(os.stat(real).st_ino, os.stat(shown).st_ino)
        self.assertEqual(os.stat(shown).st_uid, 5001)

        def makes():
            path = f'{self.folder}/dovecot.index.log.newlock'
            open_create(path)
            os.rename(path, f'{self.folder}/dovecot.index.log')
            os.unlink(f'{self.folder}/dovecot.index.log')
        harness.as_user(5001, makes)

    def test_a_new_folder_is_native(self):
        def makes():
            top = f'{self.view}/.Fresh'
            for path in (top, f'{top}/cur', f'{top}/new', f'{top}/tmp'):
                os.mkdir(path, 0o700)
            with open(f'{top}/tmp/1', 'wb') as f:
                f.write(b'Subject: x\n\n')
            os.rename(f'{top}/tmp/1', f'{top}/new/1')
            assert os.listdir(f'{top}/new') == ['1']
        harness.as_user(5001, makes)
        self.assertTrue(os.path.exists(
            f'{self.shared.store}/alice/.Fresh/new/1'))


if __name__ == '__main__':
    harness.main()
