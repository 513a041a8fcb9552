#!/usr/bin/python3
"""Mail delivered into a folder that is an MBX still: whatever an agent does to
a Maildir works, and the message keeps its name and its octets for ever."""

import errno
import os
import shutil
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import read, refused  # noqa: E402

ALICE, BOB = harness.FIRST_UID, harness.FIRST_UID + 1
DATE = 1000000007
ODD = b'From: a\nSubject: bare\n\nCR\rNUL\0 \xff no end'


def write(path, data, date=None):
    """As agents do: O_EXCL, all of it, its date, fsync, the size by lseek."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        assert os.write(fd, data) == len(data)
        if date:
            os.utime(path, (date, date))
        os.fsync(fd)
        assert os.lseek(fd, 0, os.SEEK_END) == len(data)
    finally:
        os.close(fd)


def sync_dir(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


class Delivery(harness.Case):
    def setUp(self):
        self.r = self.rig()
        self.r.user('alice', 'inbox', 'flags', 'recent')
        self.r.user('bob', 'inbox')
        self.r.mount()

    def m(self, *names):
        """Below a legacy folder, through the mount."""
        return os.path.join(self.r.mnt, 'alice', '.flags', *names)

    def s(self, *names):
        return os.path.join(self.r.store, 'alice', '.flags', *names)

    def user(self, fn, *args, uid=ALICE):
        harness.as_user(uid, fn, *args)

    def names(self, sub='cur'):
        return sorted(n for n in os.listdir(self.m(sub)) if n[0] != '.')

    def of_the_mbx(self, sub='cur'):
        return [n for n in self.names(sub) if '.janusmail,S=' in n]

    def deliver(self, to, data=ODD, date=DATE):
        """Dovecot's way. @to: below the folder."""
        def body():
            tmp = self.m('tmp', 'T' + os.path.basename(to).split(':')[0])
            write(tmp, data, date)
            os.rename(tmp, self.m(to))
            sync_dir(os.path.dirname(self.m(to)))
        self.user(body)

    def test_by_rename_into_new_and_cur(self):
        before = self.names()
        for to in ('new/1234.M1P1.host,S=43,W=46', 'cur/1235.M1P1.host:2,FS',
                   'cur/1236.strange +name=\xe4'):
            self.deliver(to)
            st = os.stat(self.m(to))
            self.assertEqual(read(self.m(to)), ODD)
            self.assertEqual((st.st_mtime, st.st_size, st.st_uid),
                             (DATE, len(ODD), ALICE))
            self.assertEqual(st.st_ino, os.stat(self.s(to)).st_ino)
        self.assertEqual(len(self.names()), len(before) + 2)
        self.assertIn('1234.M1P1.host,S=43,W=46', self.names('new'))
        self.assertEqual(os.listdir(self.m('tmp')), [])

    def test_by_link_and_unlink(self):
        """qmail, procmail."""
        def body():
            write(self.m('tmp/q'), ODD)
            os.link(self.m('tmp/q'), self.m('new/1234.q.host'))
            refused(errno.EEXIST, os.link, self.m('tmp/q'),
                    self.m('new/1234.q.host'))
            os.unlink(self.m('tmp/q'))
            assert read(self.m('new/1234.q.host')) == ODD
            assert os.stat(self.m('new/1234.q.host')).st_nlink == 1
        self.user(body)

    def test_made_where_it_stays(self):
        def body():
            write(self.m('new/1234.direct'), ODD)
            write(self.m('cur/1235.direct:2,S'), ODD)
            assert read(self.m('cur/1235.direct:2,S')) == ODD
            refused(errno.EEXIST, write, self.m('cur/1235.direct:2,FS'), b'')
            refused(errno.EEXIST, write, self.m('new/1235.direct'), b'')
        self.user(body)
        self.assertIn('1234.direct', self.names('new'))

    def test_what_may_not_lie_among_messages(self):
        def body():
            for sub in ('cur', 'new'):
                refused(errno.EACCES, os.mkdir, self.m(sub, 'd'))
                refused(errno.EACCES, os.symlink, 'x', self.m(sub, 's'))
            os.mkdir(self.m('tmp/d'))
            refused(errno.EACCES, os.rename, self.m('tmp/d'),
                    self.m('cur/d'))
            os.rmdir(self.m('tmp/d'))
            os.symlink('/etc/passwd', self.m('tmp/s'))
            os.mkfifo(self.m('tmp/f'))
            for name in 'sf':
                refused(errno.EACCES, os.rename, self.m('tmp', name),
                        self.m('new', name))
            refused(errno.EACCES, os.link, self.m('tmp/f'), self.m('new/f'))
            os.unlink(self.m('tmp/s'))
            os.unlink(self.m('tmp/f'))
            for sub in ('cur', 'new', 'tmp'):
                refused(errno.EACCES, os.rmdir, self.m(sub))
        self.user(body)

    def test_tmp_is_a_directory_as_any(self):
        def body():
            write(self.m('tmp/a'), b'one')
            refused(errno.EEXIST, write, self.m('tmp/a'), b'two')
            os.link(self.m('tmp/a'), self.m('tmp/b'))
            os.rename(self.m('tmp/a'), self.m('tmp/b2'))
            assert sorted(os.listdir(self.m('tmp'))) == ['b', 'b2']
            os.unlink(self.m('tmp/b'))
            os.unlink(self.m('tmp/b2'))
            assert os.stat(self.m('tmp')).st_mode & 0o777 == 0o700
        self.user(body)

    def test_a_name_that_is_taken(self):
        mine = self.of_the_mbx()[0]
        base = mine.split(':')[0]
        self.deliver('cur/1234.host:2,S', b'first')

        def body():
            write(self.m('tmp/t'), b'second')
            for to in (mine, base + ':2,', base, base + ':2,FRST',
                       '1234.host:2,S', '1234.host:2,', '1234.host'):
                for sub in ('cur', 'new'):
                    refused(errno.EEXIST, os.link, self.m('tmp/t'),
                            self.m(sub, to))
                    refused(errno.EEXIST, os.rename, self.m('tmp/t'),
                            self.m(sub, to))
            assert read(self.m('tmp/t')) == b'second'
            assert read(self.m('cur/1234.host:2,S')) == b'first'
            os.rename(self.m('tmp/t'), self.m('cur/1234.hos:2,'))
        before = read(self.m('cur', mine))
        self.user(body)
        self.assertEqual(read(self.m('cur', mine)), before)

    def test_flags_of_a_delivered_message(self):
        self.deliver('new/1234.host')
        ino = os.stat(self.m('new/1234.host')).st_ino
        self.user(os.rename, self.m('new/1234.host'),
                  self.m('cur/1234.host:2,'))
        self.user(os.rename, self.m('cur/1234.host:2,'),
                  self.m('cur/1234.host:2,FSa'))
        st = os.stat(self.m('cur/1234.host:2,FSa'))
        self.assertEqual((st.st_ino, st.st_mtime), (ino, DATE))
        for name in ('1234.host', '1234.host:2,', '1234.host:2,FS'):
            self.assert_errno(errno.ENOENT, os.stat, self.m('cur', name))
        self.assert_errno(errno.ENOENT, os.stat, self.m('new/1234.host'))

    def test_expunge_of_a_delivered_message(self):
        self.deliver('cur/1234.host:2,S')

        def body():
            with open(self.m('cur/1234.host:2,S'), 'rb') as f:
                os.unlink(self.m('cur/1234.host:2,S'))
                assert f.read() == ODD
            refused(errno.ENOENT, os.unlink, self.m('cur/1234.host:2,S'))
        self.user(body)
        self.assertNotIn('1234.host:2,S', self.names())
        self.assertFalse(os.path.exists(self.s('cur/1234.host:2,S')))

    def test_names_outlive_the_daemon_and_the_index(self):
        odd = ['1234.a,S=9,W=9:2,FSz', '1235.b:2,', '1236.c:2,XPf',
               '1237.d', '1.janusmail,S=12:2,S']
        for name in odd:
            self.deliver('cur/' + name)
        facts = {n: (os.stat(self.m('cur', n)).st_ino, read(self.m('cur', n)))
                 for n in self.names()}
        self.assertLessEqual(set(odd), set(facts))
        for drop in (False, True):
            self.r.unmount()
            if drop:
                shutil.rmtree(self.r.index)
            self.r.mount()
            self.assertEqual(facts, {
                n: (os.stat(self.m('cur', n)).st_ino, read(self.m('cur', n)))
                for n in self.names()})

    def test_times_grow_with_each_change(self):
        def times():
            return [os.stat(self.m(s)).st_mtime_ns for s in ('cur', 'new')]
        steps = [
            (1, lambda: self.deliver('new/1.h')),
            (1, lambda: self.deliver('new/2.h')),
            (0, lambda: self.deliver('cur/3.h:2,')),
            (0, lambda: self.user(os.rename, self.m('cur/3.h:2,'),
                                  self.m('cur/3.h:2,S'))),
            (0, lambda: self.user(os.unlink, self.m('cur/3.h:2,S'))),
            (1, lambda: self.user(os.unlink, self.m('new/2.h'))),
            (2, lambda: self.user(os.rename, self.m('new/1.h'),
                                  self.m('cur/1.h:2,'))),
        ]
        last = times()
        for which, step in steps:
            step()
            now = times()
            for i in (0, 1):
                if which in (i, 2):
                    self.assertGreater(now[i], last[i])
                else:
                    self.assertEqual(now[i], last[i])
            self.assertLessEqual(max(now), time.time_ns())
            last = now
        self.r.remount()
        self.assertEqual(times(), last)

    def test_a_file_put_there_behind_the_mount(self):
        self.deliver('cur/1.h:2,')
        time.sleep(0.05)
        with open(self.s('cur/2.h:2,S'), 'wb') as f:
            f.write(b'x')
        os.chown(self.s('cur/2.h:2,S'), ALICE, ALICE)
        self.assertIn('2.h:2,S', self.names())
        self.user(write, self.m('tmp/t'), b'y')
        self.user(refused, errno.EEXIST, os.rename, self.m('tmp/t'),
                  self.m('cur/2.h:2,'))

    def test_what_was_put_there_and_is_no_file(self):
        """It is said of it that it cannot be mirrored, and of nothing else."""
        self.r.expect_log('cannot be in the MBX: it is not a regular file')
        self.names()
        os.symlink('/dev/null', self.s('new/1.link'))
        os.mkfifo(self.s('new/2.fifo'))
        self.deliver('new/3.host')

        def number():
            with open(self.m('dovecot-uidlist'), 'a') as f:
                f.write('101 :1.link\n102 :2.fifo\n103 :3.host\n')
        self.user(number)

        def done():
            self.state = self.r.folder_status('alice', 'flags')['delivered']
            return self.state['mirrored'] == 1
        harness.wait_for('the message', done)
        self.assertEqual([r['name'] for r in self.state['refused']],
                         ['1.link', '2.fifo'])
        self.assertEqual(self.state['waiting'], 0)

    def mirrored(self):
        f = self.r.folder_status('alice', 'flags')
        return f['delivered']['mirrored']

    def test_a_journal_that_was_lost(self):
        """Nothing is there twice, neither here nor in the MBX."""
        self.names()
        for i in range(3):
            self.deliver(f'cur/{i}.host:2,FS', ODD + b'%d' % i)

        def number():
            with open(self.m('dovecot-uidlist'), 'a') as f:
                f.write(''.join(f'{101 + i} :{i}.host\n' for i in range(3)))
        self.user(number)
        harness.wait_for('the mirror', lambda: self.mirrored() == 3)
        names = self.names()
        mbx = self.r.legacy_file('alice', 'mail', 'flags')
        for drop in (False, True):
            self.r.unmount()
            before = harness.cc_dump(mbx)
            shutil.rmtree(os.path.join(self.r.store, '.janusmail',
                                       'journals'))
            if drop:
                shutil.rmtree(self.r.index)
            self.r.expected = ['another UID at Dovecot']
            self.r.mount()
            self.assertEqual(self.names(), names)
            harness.wait_for('the mirror', lambda: self.mirrored() == 3)
            self.assert_same(before, harness.cc_dump(mbx))

    def test_letters_outlive_the_list(self):
        """Who removes the one file does not get other keywords."""
        self.names()
        text = '0 Later\n1 Sooner\n'

        def body():
            with open(self.m('dovecot-keywords'), 'w') as f:
                f.write(text)
            os.unlink(self.m('dovecot-uidlist'))
            assert os.stat(self.m('dovecot-uidlist')).st_size
            with open(self.m('dovecot-keywords')) as f:
                assert f.read() == text
        self.user(body)

    def test_one_base_name_twice(self):
        """Not through the view, but it must not be hidden either."""
        self.r.expect_log('have one base name')
        self.names()
        for name in ('1.h:2,', '1.h:2,S'):
            with open(self.s('cur', name), 'wb') as f:
                f.write(name.encode())
            os.chown(self.s('cur', name), ALICE, ALICE)
        self.assertLessEqual({'1.h:2,', '1.h:2,S'}, set(self.names()))
        for name in ('1.h:2,', '1.h:2,S'):
            self.assertEqual(read(self.m('cur', name)), name.encode())
            self.user(os.unlink, self.m('cur', name))
        self.assertFalse([n for n in self.names() if n.startswith('1.h')])

    def test_dot_files_pass_through(self):
        def body():
            for sub in ('cur', 'new'):
                write(self.m(sub, '.wake'), b'')
                os.unlink(self.m(sub, '.wake'))
        self.user(body)
        self.deliver('new/1.h')
        self.assertEqual(self.names('new'), ['1.h'])

    def test_nobody_else(self):
        self.deliver('cur/1.h:2,')
        mine = self.of_the_mbx()[0]

        def body():
            for sub in ('cur', 'new', 'tmp', ''):
                refused(errno.EACCES, os.listdir, self.m(sub))
            for name in ('1.h:2,', mine):
                refused(errno.EACCES, read, self.m('cur', name))
                refused(errno.EACCES, os.unlink, self.m('cur', name))
                refused(errno.EACCES, os.rename, self.m('cur', name),
                        self.m('cur', name + 'S'))
                refused(errno.EACCES, os.link, self.m('cur', name),
                        os.path.join(self.r.mnt, 'bob/tmp/x'))
                refused(errno.EACCES, os.rename, self.m('cur', name),
                        os.path.join(self.r.mnt, 'bob/cur/x'))
            refused(errno.EACCES, write, self.m('tmp/x'), b'')
            write(os.path.join(self.r.mnt, 'bob/tmp/x'), b'')
            refused(errno.EACCES, os.rename,
                    os.path.join(self.r.mnt, 'bob/tmp/x'), self.m('cur/x'))
        self.user(body, uid=BOB)
        self.assertIn('1.h:2,', self.names())

    def test_listings_are_whole_while_names_change(self):
        """A name that is missing from a listing is an expunge to Dovecot."""
        count = 40
        for i in range(count):
            self.deliver(f'cur/{i}.h:2,')
        want = {n.split(':')[0] for n in self.names()}
        end = threading.Event()
        problems, rounds, looks = [], [0, 0], [0, 0]

        def flip(first):
            letters = ':2,'
            while not end.is_set():
                new = ':2,S' if letters == ':2,' else ':2,'
                for i in range(first, count, 2):
                    os.rename(self.m('cur', f'{i}.h{letters}'),
                              self.m('cur', f'{i}.h{new}'))
                letters = new
                rounds[first] += 1

        def look(which):
            while not end.is_set():
                got = [n.split(':')[0] for n in self.names()]
                if sorted(got) != sorted(want):
                    problems.append((want - set(got), len(got)))
                    return
                looks[which] += 1
        threads = [threading.Thread(target=flip, args=(i,)) for i in (0, 1)]
        threads += [threading.Thread(target=look, args=(i,)) for i in (0, 1)]
        for t in threads:
            t.start()
        time.sleep(3)
        try:
            harness.wait_for('listings and renames', lambda: problems
                             or min(*rounds, *looks) > 1)
        finally:
            end.set()
            for t in threads:
                t.join()
        self.assertEqual(problems, [])


if __name__ == '__main__':
    harness.main()
