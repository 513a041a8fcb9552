#!/usr/bin/python3
"""Messages that go from folder to folder, be these MBX or native: by link, as
Dovecot copies, and by rename. None is lost, none is overwritten, and what
arrives has the octets and the date of what left."""

import errno
import os
import shutil
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import read, refused  # noqa: E402

ALICE = harness.FIRST_UID


def write(path, data):
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        assert os.write(fd, data) == len(data)
        os.fsync(fd)
    finally:
        os.close(fd)


class Copies(harness.Case):
    def setUp(self):
        self.r = self.rig()
        self.r.user('alice', 'inbox', 'flags', 'recent')
        self.r.mount()
        self.user(self.make_native)

    def m(self, folder, *names):
        return os.path.join(self.r.mnt, 'alice', folder, *names)

    def make_native(self):
        for sub in ('', 'cur', 'new', 'tmp'):
            os.mkdir(self.m('.Native', sub), 0o700)

    def user(self, fn, *args):
        harness.as_user(ALICE, fn, *args)

    def names(self, folder, sub='cur'):
        return sorted(os.listdir(self.m(folder, sub)))

    def mbx(self, folder='.flags', at=0, sub='cur'):
        """The name of a message that lies in the MBX only."""
        return [n for n in self.names(folder, sub)
                if '.janusmail,S=' in n][at]

    def in_mbx(self, name='flags'):
        """What c-client sees there, by UID."""
        dump = harness.cc_dump(self.r.legacy_file('alice', 'mail', name))
        return list(dump.values())[0]['mail']

    def facts(self, path):
        st = os.stat(path)
        return read(path), int(st.st_mtime), st.st_size, st.st_uid

    def dovecot_copy(self, frm, name, to, to_name):
        """link into tmp/, rename, fsync of the directory."""
        os.link(self.m(frm, 'cur', name), self.m(to, 'tmp', 't.copy'))
        os.rename(self.m(to, 'tmp', 't.copy'), self.m(to, 'cur', to_name))
        fd = os.open(self.m(to, 'cur'), os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)

    def test_copy_of_an_mbx_message(self):
        name = self.mbx()
        want = self.facts(self.m('.flags', 'cur', name))
        before = len(self.in_mbx())
        for to in ('.recent', '.Native', '.flags'):
            other = name if to != '.flags' else '99.copy:2,S'
            self.user(self.dovecot_copy, '.flags', name, to, other)
            self.assertEqual(self.facts(self.m(to, 'cur', other)), want)
            self.assertIn(other, self.names(to))
            self.assertEqual(os.listdir(self.m(to, 'tmp')), [])
        self.assertEqual(self.facts(self.m('.flags', 'cur', name)), want)
        self.assertLessEqual(before, len(self.in_mbx()))
        self.r.unmount()
        shutil.rmtree(self.r.index)
        self.r.mount()
        for to in ('.recent', '.Native', '.flags'):
            self.assertEqual(self.facts(self.m(to, 'cur', name)), want)

    def test_copy_of_a_file(self):
        def body():
            write(self.m('.flags', 'cur', '1.h:2,S'), b'x\r\n')
            for to in ('.recent', '.Native'):
                self.dovecot_copy('.flags', '1.h:2,S', to, '1.h:2,')
                assert read(self.m(to, 'cur', '1.h:2,')) == b'x\r\n'
            os.unlink(self.m('.recent', 'cur', '1.h:2,'))
            assert read(self.m('.flags', 'cur', '1.h:2,S')) == b'x\r\n'
            os.rename(self.m('.flags', 'cur', '1.h:2,S'),
                      self.m('.flags', 'cur', '1.h:2,FS'))
            assert '1.h:2,' in os.listdir(self.m('.Native', 'cur'))
        self.user(body)

    def test_copy_from_a_native_folder(self):
        def body():
            write(self.m('.Native', 'cur', '1.h:2,S'), b'native\r\n')
            self.dovecot_copy('.Native', '1.h:2,S', '.flags', '1.h:2,S')
            assert read(self.m('.flags', 'cur', '1.h:2,S')) == b'native\r\n'
            refused(errno.EEXIST, os.link,
                    self.m('.Native', 'cur', '1.h:2,S'),
                    self.m('.flags', 'new', '1.h'))
        self.user(body)

    def test_move_of_an_mbx_message(self):
        for at, to in ((0, '.recent'), (1, '.Native')):
            name = self.mbx(at=at)
            uid = int(name.split('.')[0])
            want = self.facts(self.m('.flags', 'cur', name))
            self.user(os.rename, self.m('.flags', 'cur', name),
                      self.m(to, 'cur', name))
            self.assertNotIn(name, self.names('.flags'))
            self.assertEqual(self.facts(self.m(to, 'cur', name)), want)
            self.assertNotIn(uid, self.in_mbx())
            self.assert_errno(errno.ENOENT, os.stat,
                              self.m('.flags', 'cur', name))

    def test_what_was_moved_is_another_file_at_once(self):
        name = self.names('.flags')[0]
        old, new = self.m('.flags', 'cur', name), self.m('.recent', 'cur',
                                                         name)
        was = os.stat(old).st_ino
        self.user(os.rename, old, new)
        now = os.stat(new).st_ino
        self.assertNotEqual(now, was)
        self.assertEqual(now, os.stat(os.path.join(
            self.r.store, 'alice', '.recent', 'cur', name)).st_ino)

    def test_move_there_and_back(self):
        name = self.mbx()
        want = self.facts(self.m('.flags', 'cur', name))

        def body():
            a, b = (self.m(f, 'cur', name) for f in ('.flags', '.recent'))
            os.rename(a, b)
            os.rename(b, a)
        # Dovecot's list has it under the UID that it had.
        self.r.expect_log('another UID')
        self.user(body)
        harness.wait_for('the mirror', lambda: 'another UID' in self.r.log())
        self.assertEqual(self.facts(self.m('.flags', 'cur', name)), want)
        self.assertEqual(self.names('.flags').count(name), 1)
        self.assertNotIn(name, self.names('.recent'))

    def test_move_of_a_file(self):
        def body():
            write(self.m('.flags', 'new', '1.h'), b'one')
            steps = [('.flags', 'new/1.h'), ('.recent', 'cur/1.h:2,S'),
                     ('.Native', 'cur/1.h:2,'), ('.flags', 'cur/2.h:2,'),
                     ('.flags', 'cur/3.h:2,F'), ('.Native', 'tmp/x')]
            ino = os.stat(self.m(*steps[0])).st_ino
            for a, b in zip(steps, steps[1:]):
                os.rename(self.m(*a), self.m(*b))
                assert read(self.m(*b)) == b'one'
                assert os.stat(self.m(*b)).st_ino == ino
                refused(errno.ENOENT, os.stat, self.m(*a))
        self.user(body)

    def test_nothing_is_overwritten(self):
        mine, other = self.mbx(), self.mbx('.recent')
        base = other.split(':')[0]

        def body():
            write(self.m('.Native', 'cur', '1.h:2,'), b'native')
            write(self.m('.recent', 'cur', '1.h:2,S'), b'file')
            for frm in (self.m('.flags', 'cur', mine),
                        self.m('.Native', 'cur', '1.h:2,')):
                data = read(frm)
                for to in (other, base, base + ':2,FT', '1.h:2,S', '1.h:2,',
                           '1.h'):
                    refused(errno.EEXIST, os.link, frm,
                            self.m('.recent', 'cur', to))
                    refused(errno.EEXIST, os.rename, frm,
                            self.m('.recent', 'new', to))
                assert read(frm) == data
            refused(errno.EEXIST, os.rename, self.m('.flags', 'cur', mine),
                    self.m('.Native', 'cur', '1.h:2,'))
        before = {n: read(self.m('.recent', 'cur', n))
                  for n in self.names('.recent')}
        self.user(body)
        self.assertEqual(before, {n: read(self.m('.recent', 'cur', n))
                                  for n in before})
        self.assertIn(mine, self.names('.flags'))

    def test_the_same_base_on_both_sides(self):
        """Names are unique in a folder, not among them."""
        def body():
            write(self.m('.flags', 'cur', '1.h:2,'), b'here')
            write(self.m('.recent', 'cur', '1.h:2,S'), b'there')
            os.unlink(self.m('.flags', 'cur', '1.h:2,'))
            assert read(self.m('.recent', 'cur', '1.h:2,S')) == b'there'
            os.rename(self.m('.recent', 'cur', '1.h:2,S'),
                      self.m('.flags', 'cur', '1.h:2,S'))
            assert read(self.m('.flags', 'cur', '1.h:2,S')) == b'there'
        self.user(body)

    def test_flags_and_expunge_of_an_mbx_message(self):
        name = self.mbx()
        base, uid = name.split(':')[0], int(name.split('.')[0])
        cur = self.m('.flags', 'cur', '')
        ino = os.stat(cur + name).st_ino

        def body():
            time = os.stat(cur).st_mtime_ns
            os.rename(cur + name, cur + base + ':2,DF')
            assert os.stat(cur).st_mtime_ns > time
            assert os.stat(cur + base + ':2,DF').st_ino == ino
            refused(errno.ENOENT, os.stat, cur + name)
            refused(errno.ENOENT, os.stat, cur + base)
            refused(errno.EACCES, os.rename, cur + base + ':2,DF',
                    cur + 'other:2,DF')
            data = read(cur + base + ':2,DF')
            with open(cur + base + ':2,DF', 'rb') as f:
                time = os.stat(cur).st_mtime_ns
                os.unlink(cur + base + ':2,DF')
                assert os.stat(cur).st_mtime_ns > time
                assert os.fstat(f.fileno()).st_size == len(data)
                assert f.read() == data
            refused(errno.ENOENT, os.unlink, cur + base + ':2,DF')
        self.user(body)
        self.assertNotIn(base, [n.split(':')[0] for n in self.names('.flags')])
        self.assertNotIn(uid, self.in_mbx())

    def test_recent_mail_goes_to_cur(self):
        name = self.mbx('.recent', sub='new')
        uid = int(name.split('.')[0])
        ino = os.stat(self.m('.recent', 'new', name)).st_ino
        self.user(os.rename, self.m('.recent', 'new', name),
                  self.m('.recent', 'cur', name + ':2,'))
        self.assertEqual(os.stat(self.m('.recent', 'cur', name + ':2,')).st_ino,
                         ino)
        self.assertNotIn(name, self.names('.recent', 'new'))
        self.r.remount()
        self.assertIn(name + ':2,', self.names('.recent'))
        self.assertIn(uid, self.in_mbx('recent'))

    def test_a_file_that_has_two_names(self):
        """In two folders, or in tmp/ and cur/: each goes its own way."""
        def body():
            write(self.m('.flags', 'tmp', 't'), b'two')
            os.link(self.m('.flags', 'tmp', 't'),
                    self.m('.flags', 'cur', '1.h:2,'))
            os.link(self.m('.flags', 'tmp', 't'),
                    self.m('.recent', 'new', '1.h'))
            st = os.stat(self.m('.flags', 'tmp', 't'))
            assert st.st_nlink == 3
            os.unlink(self.m('.flags', 'tmp', 't'))
            os.rename(self.m('.flags', 'cur', '1.h:2,'),
                      self.m('.flags', 'cur', '1.h:2,T'))
            os.unlink(self.m('.recent', 'new', '1.h'))
            assert read(self.m('.flags', 'cur', '1.h:2,T')) == b'two'
            assert os.stat(self.m('.flags', 'cur', '1.h:2,T')).st_nlink == 1
            os.link(self.m('.flags', 'cur', '1.h:2,T'),
                    self.m('.Native', 'dovecot-uidlist'))
            os.unlink(self.m('.Native', 'dovecot-uidlist'))
            assert read(self.m('.flags', 'cur', '1.h:2,T')) == b'two'
        self.user(body)

    def test_a_name_that_is_no_message(self):
        """Out of the folder, and to a name with a dot."""
        name = self.mbx()
        want = self.facts(self.m('.flags', 'cur', name))
        self.user(os.rename, self.m('.flags', 'cur', name),
                  os.path.join(self.r.mnt, 'alice', 'saved'))
        self.assertEqual(self.facts(self.m('saved')), want)
        self.assertNotIn(name, self.names('.flags'))
        self.user(os.rename, self.m('saved'),
                  self.m('.flags', 'cur', '1.back:2,'))
        self.assertEqual(self.facts(self.m('.flags', 'cur', '1.back:2,')),
                         want)

    # A file whose copy lies in the MBX

    def number(self, folder, base):
        """As Dovecot gives a UID; that of the copy in the MBX is the same."""
        path = self.m(folder, 'dovecot-uidlist')
        with open(path, encoding='utf-8') as f:
            head, *lines = f.read().splitlines()
        uid = max([int(head.split(' N')[1].split()[0]) - 1,
                   *(int(line.split()[0]) for line in lines)]) + 1

        def write():
            with open(path, 'a', encoding='utf-8') as f:
                f.write(f'{uid} :{base}\n')
        self.user(write)
        return uid

    def mirrored(self, base='1.h', folder='.flags'):
        self.user(write, self.m(folder, 'cur', base + ':2,S'),
                  b'Subject: x\r\n\r\nmirrored\r\n')
        uid = self.number(folder, base)
        self.await_mbx(folder, lambda mail: uid in mail)
        return uid

    def await_mbx(self, folder, test):
        harness.wait_for(f'the mailbox of {folder}',
                         lambda: test(self.in_mbx(folder[1:])))

    def once(self, base, folder='.flags'):
        got = [n for sub in ('cur', 'new') for n in self.names(folder, sub)
               if n.split(':')[0] == base]
        self.assertEqual(len(got), 1, got)
        return got[0]

    def test_each_is_listed_once_while_it_is_mirrored(self):
        bases = [f'{i}.h' for i in range(60)]

        def body():
            for base in bases:
                write(self.m('.flags', 'cur', base + ':2,'), b'x\r\n')
        self.user(body)
        before = [n.split(':')[0] for n in self.names('.flags')]
        for base in bases:
            uid = self.number('.flags', base)
        looks, end = 0, time.monotonic() + harness.WAIT
        while uid not in self.in_mbx() or looks < 20:
            got = [n.split(':')[0] for n in self.names('.flags')]
            self.assertEqual(sorted(got), sorted(before))
            looks += 1
            self.assertLess(time.monotonic(), end)

    def test_move_of_a_mirrored_file(self):
        uid = self.mirrored()
        self.once('1.h')
        want = self.facts(self.m('.flags', 'cur', '1.h:2,S'))
        before = len(self.names('.flags'))
        self.user(os.rename, self.m('.flags', 'cur', '1.h:2,S'),
                  self.m('.recent', 'cur', '1.h:2,S'))
        self.assertNotIn(uid, self.in_mbx())
        self.assertEqual(len(self.names('.flags')), before - 1)
        self.assertEqual(self.facts(self.m('.recent', 'cur', '1.h:2,S')), want)
        there = self.number('.recent', '1.h')
        self.await_mbx('.recent', lambda mail: there in mail)
        self.once('1.h', '.recent')

    def test_another_base_name_for_a_mirrored_file(self):
        """Dovecot does that where it finds a size to be wrong."""
        uid = self.mirrored('1.h,W=9')
        self.user(os.rename, self.m('.flags', 'cur', '1.h,W=9:2,S'),
                  self.m('.flags', 'cur', '1.h:2,S'))
        self.assertNotIn(uid, self.in_mbx())
        self.once('1.h')
        new = self.number('.flags', '1.h')
        self.assertGreater(new, uid)
        self.await_mbx('.flags', lambda mail: new in mail)
        self.once('1.h')
        self.r.unmount()
        shutil.rmtree(self.r.index)
        self.r.mount()
        self.once('1.h')
        self.assertFalse([n for n in self.names('.flags') if 'W=9' in n])

    def test_copy_of_a_mirrored_file(self):
        self.mirrored()
        self.user(self.dovecot_copy, '.flags', '1.h:2,S', '.recent', '1.h:2,')
        self.user(refused, errno.EEXIST, os.link,
                  self.m('.recent', 'cur', '1.h:2,'),
                  self.m('.flags', 'cur', '1.h:2,'))
        self.once('1.h')
        self.user(os.unlink, self.m('.flags', 'cur', '1.h:2,S'))
        self.once('1.h', '.recent')

    def test_a_mirrored_file_that_is_lost(self):
        """Then what the MBX has of it shows, under the same name."""
        uid = self.mirrored()
        cur = self.m('.flags', 'cur', '')
        os.unlink(os.path.join(self.r.store, 'alice/.flags/cur/1.h:2,S'))
        for rebuilt in (False, True):
            if rebuilt:
                self.r.unmount()
                shutil.rmtree(self.r.index)
                self.r.mount()
            self.assertEqual(self.once('1.h'), '1.h:2,S')
            self.assertEqual(read(cur + '1.h:2,S'),
                             b'Subject: x\r\n\r\nmirrored\r\n')
            self.assert_errno(errno.ENOENT, os.stat, cur + '1.h')
        self.user(refused, errno.EEXIST, write, cur + '1.h', b'')
        self.user(os.rename, cur + '1.h:2,S', cur + '1.h:2,FS')
        self.assertEqual(self.once('1.h'), '1.h:2,FS')
        self.assertIn(uid, self.in_mbx())
        self.user(os.unlink, cur + '1.h:2,FS')
        self.assertNotIn(uid, self.in_mbx())
        self.r.expect_log('another UID')    # it has its old one with Dovecot
        self.user(write, cur + '1.h:2,', b'again')
        self.await_mbx('.flags', lambda mail: uid + 1 in mail)
        self.r.remount()
        self.assertEqual(read(cur + '1.h:2,'), b'again')

    def test_a_move_that_fails_when_it_is_done(self):
        """The message was expunged: its copy is all there is."""
        frm, name = self.m('.flags', 'cur'), self.mbx()
        data = read(os.path.join(frm, name))
        count = len(self.in_mbx())
        real = os.path.join(self.r.store, 'alice/.flags/cur')
        fd = os.open(frm, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, fd)
        self.r.expect_log('was expunged, and is shown')
        os.rename(real, real + '.away')

        def move():
            try:
                os.rename(name, self.m('.recent', 'cur', '1.h:2,'),
                          src_dir_fd=fd)
            except OSError:
                pass
        self.user(move)
        os.rename(real + '.away', real)
        # Who looks meanwhile, and finds no directory, says so.
        missing = 'folder flags: cannot be brought up to date: No such file'
        if missing in self.r.log():
            self.r.expect_log(missing)
        self.assertEqual(len(self.in_mbx()), count - 1)
        self.assertEqual(read(self.m('.recent', 'cur', '1.h:2,')), data)
        self.assertNotIn(name, os.listdir(frm))


if __name__ == '__main__':
    harness.main()
