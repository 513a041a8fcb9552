#!/usr/bin/python3
"""janusmail compact on a mailbox that a daemon serves at the moment."""

import contextlib
import fcntl
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                os.path.join(os.path.dirname(os.path.dirname(
                    os.path.abspath(__file__))), 'oracle')]
import harness  # noqa: E402
import mbxfile  # noqa: E402

GONE = mbxfile.EXPUNGED | mbxfile.DELETED | mbxfile.OLD
COUNT = 12


def text(uid):
    return mbxfile.text(uid) + b'%d more.\r\n' % uid * (uid * 300)


def box():
    """Every third message is expunged; the first hole is a small one."""
    return mbxfile.header(uidlast=COUNT, keywords=['one']) + b''.join(
        mbxfile.record(text(uid), uid, GONE if uid % 3 == 2 else mbxfile.OLD,
                       uid % 2) for uid in range(1, COUNT + 1))


class Served(harness.Case):
    def setUp(self):
        harness.need_cclient()
        self.r = self.rig()
        self.r.user('anna')
        self.path = self.r.put('anna', 'mail/box', box())
        self.r.mount()
        self.cur = f'{self.r.mnt}/anna/.box/cur'

    def everything(self):
        out = {}
        for name in os.listdir(self.cur):
            with open(f'{self.cur}/{name}', 'rb') as f:
                out[name] = (f.read(), os.fstat(f.fileno()).st_ino,
                             os.fstat(f.fileno()).st_mtime)
        return out

    @staticmethod
    def remove_lock(path):
        """What was left; the daemon, which looks by itself, may have it at
        the moment, or have taken it away."""
        with contextlib.suppress(FileNotFoundError), open(path, 'r+b') as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(f.fileno()), os.stat(path)):
                os.unlink(path)

    def compact(self, stop=0):
        r = harness.run([harness.TOOL, 'compact', self.path],
                        env={'IO_STOP_AT': str(stop)} if stop else {})
        if stop and r.returncode == 100:
            st = os.stat(self.path)
            self.remove_lock(f'/tmp/.{st.st_dev:x}.{st.st_ino:x}')
            return False
        self.assertEqual((r.returncode, r.stderr), (0, ''))
        return True

    def test_nothing_changes_in_the_view(self):
        before = self.everything()
        self.assertEqual(len(before), 8)
        size = os.stat(self.path).st_size
        self.compact()
        self.assertLess(os.stat(self.path).st_size, size)
        self.assert_same(before, self.everything())

    def test_who_has_a_message_open_reads_on(self):
        before = self.everything()
        files = {name: os.open(f'{self.cur}/{name}', os.O_RDONLY)
                 for name in before}
        for name, fd in files.items():
            self.assertEqual(os.pread(fd, 10, 0), before[name][0][:10])
        self.compact()
        for name, fd in files.items():
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            self.assertEqual(os.pread(fd, 1 << 20, 0), before[name][0])
            os.close(fd)

    def test_stopped_anywhere(self):
        """Between a crash and the next run the view is whole, too."""
        before = self.everything()
        met = 0
        for n in range(1, 200):
            files = {name: os.open(f'{self.cur}/{name}', os.O_RDONLY)
                     for name in before}
            done = self.compact(stop=n)
            for name, fd in files.items():
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                self.assertEqual(os.pread(fd, 1 << 20, 0), before[name][0])
                os.close(fd)
            self.assert_same(before, self.everything())
            if done:
                break
            # Each time from the same holes.
            if n % 3 == 0:
                with mbxfile.locked(self.path) as f:
                    f.write(box())
                    f.truncate()
            met += 1
        self.assertGreater(met, 20)
        self.assertEqual(self.r.folder_status('anna', 'box')['state'], 'ok')


if __name__ == '__main__':
    harness.main()
