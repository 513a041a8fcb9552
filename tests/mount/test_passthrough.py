#!/usr/bin/python3
"""A native tree (a store and nothing legacy) behaves as the disk does: whatever
is not an MBX message passes through, with true inode numbers."""

import errno
import fcntl
import mmap
import os
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness import read, refused  # noqa: E402

USER = harness.FIRST_UID


def write(path, data, flags=os.O_CREAT | os.O_EXCL | os.O_WRONLY):
    fd = os.open(path, flags, 0o600)
    try:
        assert os.write(fd, data) == len(data)
    finally:
        os.close(fd)


class Passthrough(harness.Case):
    """Every test runs as the user, below the mount; m() and s() are the two
    paths of a file: through the mount, and in the store."""

    def setUp(self):
        self.r = self.rig()
        for sub in ('', 'cur', 'new', 'tmp'):
            path = os.path.join(self.r.store, sub)
            os.makedirs(path, exist_ok=True)
            os.chmod(path, 0o700)
            os.chown(path, USER, USER)
        self.options = f'store={self.r.store},index={self.r.index}'
        self.r.mount(self.options)

    def m(self, *names):
        return os.path.join(self.r.mnt, *names)

    def s(self, *names):
        return os.path.join(self.r.store, *names)

    def user(self, fn):
        harness.as_user(USER, fn)

    def test_create_read_stat(self):
        def body():
            write(self.m('tmp/a'), b'hello')
            assert read(self.m('tmp/a')) == b'hello'
            a, b = os.stat(self.m('tmp/a')), os.stat(self.s('tmp/a'))
            for field in ('st_ino', 'st_mode', 'st_nlink', 'st_uid', 'st_gid',
                          'st_size', 'st_mtime_ns', 'st_blocks'):
                assert getattr(a, field) == getattr(b, field), field
            assert a.st_dev != b.st_dev
            refused(errno.EEXIST, write, self.m('tmp/a'), b'x')
            refused(errno.ENOENT, os.stat, self.m('tmp/b'))
            refused(errno.ENOENT, os.unlink, self.m('tmp/b'))
            os.unlink(self.m('tmp/a'))
            assert os.listdir(self.s('tmp')) == []
        self.user(body)

    def test_hard_links(self):
        def body():
            write(self.m('tmp/a'), b'one')
            os.link(self.m('tmp/a'), self.m('new/b'))
            a, b = os.stat(self.m('tmp/a')), os.stat(self.m('new/b'))
            assert a.st_ino == b.st_ino and b.st_nlink == 2
            assert os.stat(self.s('new/b')).st_ino == a.st_ino
            refused(errno.EEXIST, os.link, self.m('tmp/a'), self.m('new/b'))
            write(self.m('tmp/a'), b'ONE', os.O_WRONLY)
            assert read(self.m('new/b')) == b'ONE'
            os.unlink(self.m('tmp/a'))
            assert os.stat(self.m('new/b')).st_nlink == 1
            assert read(self.m('new/b')) == b'ONE'
        self.user(body)

    def test_a_dotlock_by_link(self):
        """mailboxes.lock as Dovecot makes it."""
        def body():
            tmp, lock = self.m('mailboxes.lock123'), self.m('mailboxes.lock')
            fd = os.open(tmp, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.link(tmp, lock)
            os.unlink(tmp)
            assert os.fstat(fd).st_ino == os.stat(lock).st_ino
            assert os.fstat(fd).st_dev == os.stat(lock).st_dev
            os.unlink(lock)
            os.close(fd)
        self.user(body)

    def test_rename(self):
        def body():
            write(self.m('a'), b'new')
            write(self.m('b'), b'old')
            old = os.stat(self.m('b')).st_ino
            fd = os.open(self.m('b'), os.O_RDONLY)
            os.rename(self.m('a'), self.m('b'))
            assert read(self.m('b')) == b'new'
            assert os.stat(self.m('b')).st_ino != old
            assert os.read(fd, 9) == b'old'
            os.close(fd)
            refused(errno.ENOENT, os.stat, self.m('a'))
            os.rename(self.m('b'), self.m('cur/b:2,S'))
            assert os.listdir(self.s('cur')) == ['b:2,S']
            refused(errno.ENOENT, os.rename, self.m('x'), self.m('y'))
        self.user(body)

    def test_directories(self):
        def body():
            os.mkdir(self.m('.A'), 0o700)
            os.mkdir(self.m('.A/cur'), 0o700)
            refused(errno.EEXIST, os.mkdir, self.m('.A'))
            refused(errno.ENOTEMPTY, os.rmdir, self.m('.A'))
            write(self.m('.A/cur/x'), b'x')
            os.rename(self.m('.A'), self.m('.B'))
            assert read(self.m('.B/cur/x')) == b'x'
            refused(errno.ENOENT, os.stat, self.m('.A'))
            refused(errno.EISDIR, os.unlink, self.m('.B/cur'))
            refused(errno.ENOTDIR, os.rmdir, self.m('.B/cur/x'))
            os.unlink(self.m('.B/cur/x'))
            os.rmdir(self.m('.B/cur'))
            os.rmdir(self.m('.B'))
            assert not os.path.exists(self.s('.B'))
        self.user(body)

    def test_truncate_and_append(self):
        def body():
            path = self.m('f')
            write(path, b'0123456789')
            os.truncate(path, 4)
            assert read(path) == b'0123'
            fd = os.open(path, os.O_RDWR)
            os.ftruncate(fd, 6)
            assert os.pread(fd, 10, 0) == b'0123\0\0'
            os.ftruncate(fd, 4)
            one = os.open(path, os.O_WRONLY | os.O_APPEND)
            two = os.open(path, os.O_WRONLY | os.O_APPEND)
            for i in range(50):
                os.write((one, two)[i % 2], b'%03d' % i)
            assert os.lseek(one, 0, os.SEEK_END) == 154
            want = b'0123' + b''.join(b'%03d' % i for i in range(50))
            assert read(path) == want == read(self.s('f'))
            for d in (fd, one, two):
                os.close(d)
            write(path, b'fresh', os.O_WRONLY | os.O_TRUNC)
            assert read(path) == b'fresh' == read(self.s('f'))
        self.user(body)

    def test_appends_of_two_processes(self):
        def body():
            path = self.m('log')
            write(path, b'')
            pids = []
            for who in b'ab':
                pid = os.fork()
                if not pid:
                    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
                    for _ in range(300):
                        os.write(fd, bytes([who]) * 9 + b'\n')
                    os._exit(0)
                pids.append(pid)
            for pid in pids:
                assert os.waitpid(pid, 0)[1] == 0
            lines = read(path).splitlines()
            assert len(lines) == 600, len(lines)
            assert set(lines) == {b'a' * 9, b'b' * 9}
        self.user(body)

    def test_fcntl_locks_between_processes(self):
        def body():
            path = self.m('locked')
            write(path, b'')
            fd = os.open(path, os.O_RDWR)
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

            def other():
                pid = os.fork()
                if pid == 0:
                    f = os.open(path, os.O_RDWR)
                    try:
                        fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os._exit(0)
                    except OSError as e:
                        os._exit(e.errno)
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            assert other() in (errno.EAGAIN, errno.EACCES)
            lock = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0)
            fcntl.fcntl(fd, fcntl.F_SETLK, lock)
            fcntl.lockf(fd, fcntl.LOCK_UN)
            assert other() == 0
            os.close(fd)
        self.user(body)

    def test_mmap_shared(self):
        def body():
            path = self.m('mapped')
            write(path, bytes(8192))
            fd = os.open(path, os.O_RDWR)
            with mmap.mmap(fd, 8192) as area:
                area[100:105] = b'hello'
                assert os.pread(fd, 5, 100) == b'hello'
                os.pwrite(fd, b'world', 5000)
                assert area[5000:5005] == b'world'
                area.flush()
            os.fsync(fd)
            os.close(fd)
            data = read(self.s('mapped'))
            assert data[100:105] == b'hello' and data[5000:5005] == b'world'
        self.user(body)

    def test_fsync(self):
        def body():
            fd = os.open(self.m('tmp/x'), os.O_CREAT | os.O_WRONLY, 0o600)
            os.write(fd, b'x' * 10000)
            os.fsync(fd)
            os.fdatasync(fd)
            os.close(fd)
            os.rename(self.m('tmp/x'), self.m('new/x'))
            for name in ('new', 'tmp', ''):
                fd = os.open(self.m(name), os.O_RDONLY | os.O_DIRECTORY)
                os.fsync(fd)
                os.fdatasync(fd)
                os.close(fd)
        self.user(body)

    def test_times_and_modes(self):
        def body():
            path = self.m('t')
            write(path, b'x')
            os.utime(path, ns=(1_000_000_001, 1_234_567_890_123_456_789))
            st = os.stat(path)
            assert st.st_mtime_ns == 1_234_567_890_123_456_789
            assert st.st_atime_ns == 1_000_000_001
            assert os.stat(self.s('t')).st_mtime_ns == st.st_mtime_ns
            os.utime(path)
            assert abs(os.stat(path).st_mtime - time.time()) < 10
            os.chmod(path, 0o640)
            assert os.stat(self.s('t')).st_mode & 0o777 == 0o640
            os.chown(path, -1, -1)
            refused(errno.EPERM, os.chown, path, 0, -1)
            os.statvfs(path)
        self.user(body)

    def test_maildir_delivery(self):
        def body():
            base = '1234.M5P6.host,S=6,W=7'
            for n, deliver in enumerate((
                    lambda t, d: os.rename(t, d),
                    lambda t, d: (os.link(t, d), os.unlink(t)))):
                tmp, new = self.m(f'tmp/{n}'), self.m(f'new/{n}{base}')
                write(tmp, b'mail\n\n')
                ino = os.stat(tmp).st_ino
                before = os.stat(self.m('new')).st_mtime_ns
                time.sleep(0.02)
                deliver(tmp, new)
                assert os.stat(new).st_ino == ino
                assert os.stat(self.m('new')).st_mtime_ns > before
                os.rename(new, self.m(f'cur/{n}{base}:2,S'))
            assert os.listdir(self.m('tmp')) == []
            assert len(os.listdir(self.s('cur'))) == 2
        self.user(body)

    def test_open_files_outlive_their_name(self):
        def body():
            path = self.m('x')
            write(path, b'still here')
            fd = os.open(path, os.O_RDWR)
            os.unlink(path)
            refused(errno.ENOENT, os.stat, path)
            os.pwrite(fd, b'STILL', 0)
            assert os.pread(fd, 20, 0) == b'STILL here'
            assert os.fstat(fd).st_nlink == 0
            write(path, b'another')
            assert os.pread(fd, 20, 0) == b'STILL here'
            os.close(fd)
            assert read(path) == b'another'
        self.user(body)

    def test_a_listing_is_a_snapshot(self):
        def body():
            names = {f'{i:05d}.host' for i in range(3000)}
            for name in names:
                write(self.m('new', name), b'x')
            seen = []
            with os.scandir(self.m('new')) as it:
                for i, entry in enumerate(it):
                    seen.append(entry.name)
                    if i % 3 == 0:
                        os.rename(self.m('new', entry.name),
                                  self.m('cur', entry.name + ':2,'))
                    if i % 100 == 50:
                        write(self.m('new', f'late{i}'), b'x')
            late = [n for n in seen if n.startswith('late')]
            assert len(seen) == len(set(seen))
            assert set(seen) - set(late) == names
            assert len(os.listdir(self.m('cur'))) > 900
        self.user(body)

    def test_long_names(self):
        def body():
            write(self.m('cur', 'x' * 255), b'1')
            assert read(self.s('cur', 'x' * 255)) == b'1'
            refused(errno.ENAMETOOLONG, write, self.m('cur', 'x' * 256), b'')
        self.user(body)

    def test_large_file(self):
        def body():
            block = os.urandom(1 << 20)
            fd = os.open(self.m('big'), os.O_CREAT | os.O_RDWR, 0o600)
            for i in range(12):
                os.pwrite(fd, block[i:] + block[:i], i << 20)
            os.pwrite(fd, b'end', 1 << 33)
            os.close(fd)
            assert os.stat(self.m('big')).st_size == (1 << 33) + 3
            with open(self.m('big'), 'rb') as m, open(self.s('big'),
                                                      'rb') as s:
                for i in range(12):
                    want = block[i:] + block[:i]
                    assert m.read(1 << 20) == want == s.read(1 << 20)
                m.seek(1 << 33)
                assert m.read() == b'end'
            os.unlink(self.m('big'))
        self.user(body)

    def test_many_threads(self):
        def body():
            errors = []

            def work(n):
                try:
                    for i in range(60):
                        path = self.m('tmp', f'{n}.{i}')
                        write(path, b'%d' % i)
                        os.rename(path, self.m('new', f'{n}.{i}'))
                        assert read(self.m('new', f'{n}.{i}')) == b'%d' % i
                        os.listdir(self.m('new'))
                except Exception as e:      # for the main thread to show
                    errors.append(e)
            threads = [threading.Thread(target=work, args=(n,))
                       for n in range(8)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            assert not errors, errors[:3]
            assert len(os.listdir(self.m('new'))) == 480
        self.user(body)

    def test_other_users_are_kept_out(self):
        self.user(lambda: write(self.m('cur/secret'), b'x'))

        def other():
            for path in (self.m('cur/secret'), self.m('cur')):
                refused(errno.EACCES, os.stat, path + '/.')
            refused(errno.EACCES, os.open, self.m('cur/secret'), os.O_RDONLY)
            refused(errno.EACCES, write, self.m('x'), b'')
        harness.as_user(harness.NOBODY, other)

    def test_remount_keeps_inode_numbers(self):
        def fill():
            for n in range(20):
                write(self.m('cur', f'{n}:2,'), b'x')
        self.user(fill)

        def inodes():
            return {n: os.stat(self.m('cur', n)).st_ino
                    for n in os.listdir(self.m('cur'))}
        before = inodes()
        self.r.unmount()
        self.r.mount(self.options)
        self.assertEqual(before, inodes())

    def test_changes_behind_the_mount_show(self):
        self.user(lambda: write(self.m('new/1'), b'x'))
        self.assertEqual(os.listdir(self.m('new')), ['1'])
        self.user(lambda: write(self.s('new/2'), b'y'))

        def shows():
            return sorted(os.listdir(self.m('new'))) == ['1', '2']
        harness.wait_for('a file made in the store', shows)
        self.assertEqual(read(self.m('new/2')), b'y')


if __name__ == '__main__':
    harness.main()
