#!/usr/bin/python3
"""A file that one process makes larger is as large as another one is told: what
fstat() says can be read, and mapped. Dovecot's index logs are such files."""

import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness      # noqa: E402

SECONDS = 2


def append(path, end):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    while time.monotonic() < end:
        os.write(fd, b'x' * 36)


def look(path, end, answer):
    fd, looks, beyond = os.open(path, os.O_RDONLY), 0, 0
    while time.monotonic() < end:
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
    def test_no_octet_is_promised_too_soon(self):
        rig = self.rig()
        rig.user('alice', 'inbox')
        rig.mount()
        path = f'{rig.mnt}/alice/dovecot.index.log'
        with open(path, 'wb'):
            pass
        answers, answer = os.pipe()
        end = time.monotonic() + SECONDS
        pids = [in_child(append, path, end) for _ in range(2)]
        pids += [in_child(look, path, end, answer) for _ in range(3)]
        os.close(answer)
        for pid in pids:
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
        with os.fdopen(answers) as f:
            told = [[int(n) for n in line.split()] for line in f]
        looks, beyond = (sum(n) for n in zip(*told))
        self.assertGreater(looks, 300)
        self.assertGreater(os.stat(path).st_size, 36 * 300)
        # One in fifteen without our doing; a busy machine lets some through.
        self.assertLess(beyond, looks / 200, f'{beyond} of {looks}')

    def test_one_alone_waits_for_nothing(self):
        rig = self.rig()
        rig.user('alice', 'inbox')
        rig.mount()
        fd = os.open(f'{rig.mnt}/alice/dovecot.index.log',
                     os.O_RDWR | os.O_CREAT, 0o600)
        count, began = 300, time.monotonic()
        for n in range(count):
            os.write(fd, b'x' * 36)
            self.assertEqual(os.fstat(fd).st_size, 36 * (n + 1))
        each = (time.monotonic() - began) / count
        os.close(fd)
        self.assertLess(each, 0.0015)


if __name__ == '__main__':
    harness.main()
