#!/usr/bin/python3
"""A file that one process makes larger is as large as another one is told: what
fstat() says can be read, and mapped. Dovecot's index logs are such files."""

import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness      # noqa: E402

SECONDS = 2
LOOKS = 200     # and no fewer, however slow the machine is
TIMES = 10


def append(path):
    """Until somebody ends it."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    while True:
        os.write(fd, b'x' * 36)


def look(path, end, answer):
    fd, looks, beyond = os.open(path, os.O_RDONLY), 0, 0
    while time.monotonic() < end or looks < LOOKS:
        size = os.fstat(fd).st_size
        looks += 1
        beyond += size > 0 and os.pread(fd, 1, size - 1) != b'x'
    os.write(answer, b'%d %d\n' % (looks, beyond))


def in_child(fn, *args):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            fn(*args)
            status = 0
        finally:
            os._exit(status)
    return pid


class Growth(harness.Case):
    def measure(self, path):
        """Of how many looks how many saw more than there was."""
        answers, answer = os.pipe()
        end = time.monotonic() + SECONDS
        readers = [in_child(look, path, end, answer) for _ in range(3)]
        os.close(answer)
        for pid in readers:
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
        with os.fdopen(answers) as f:
            told = [[int(n) for n in line.split()] for line in f]
        self.assertEqual(len(told), len(readers))
        return tuple(sum(n) for n in zip(*told))

    def test_no_octet_is_promised_too_soon(self):
        rig = self.rig()
        rig.user('alice', 'inbox')
        rig.mount()
        path = f'{rig.mnt}/alice/dovecot.index.log'
        with open(path, 'wb'):
            pass
        writers = [in_child(append, path) for _ in range(2)]
        found = []
        try:
            # One in fifteen without our doing, each time; a busy machine lets
            # some through, and a very busy one many, for a while.
            while len(found) < TIMES and not any(
                    beyond < looks / 100 for looks, beyond in found):
                size = os.stat(path).st_size
                found.append(self.measure(path))
                self.assertGreater(os.stat(path).st_size, size)
        finally:
            for pid in writers:
                os.kill(pid, signal.SIGKILL)
                self.assertEqual(os.waitpid(pid, 0)[1], signal.SIGKILL)
        looks, beyond = found[-1]
        self.assertLess(beyond, looks / 100, found)

    def test_one_alone_waits_for_nothing(self):
        rig = self.rig()
        rig.user('alice', 'inbox')
        rig.mount()
        fd = os.open(f'{rig.mnt}/alice/dovecot.index.log',
                     os.O_RDWR | os.O_CREAT, 0o600)
        took = []
        for n in range(300):
            began = time.monotonic()
            os.write(fd, b'x' * 36)
            self.assertEqual(os.fstat(fd).st_size, 36 * (n + 1))
            took.append(time.monotonic() - began)
        os.close(fd)
        # A wait is at least two milliseconds, each time; that of a busy
        # machine is not.
        self.assertLess(sorted(took)[30], 0.0015)


if __name__ == '__main__':
    harness.main()
