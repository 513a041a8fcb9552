#!/usr/bin/python3
"""Readers of a mailbox that c-client appends to, expunges and compacts all the
while: each fetch is the message, octet by octet.

    tests/peers/test_beside.py                      10000 fetches, as tests/run
    tests/peers/test_beside.py --fetches 200000 [--seed N]

The messages are as hard to tell apart as can be: one date for all, three sizes,
and most are read before UW has given them a UID. The n-th appended has UID n,
so what must be in it is known. A message stays for some time while UW takes out
others before it, so that it is moved again and again, and is then expunged,
unless a reader wants it for one more moment. The daemon is stopped now and then
for as long as UW works.
"""

import argparse
import contextlib
import ctypes
import errno
import mmap
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'dovecot')]
import harness              # noqa: E402
import imapraw              # noqa: E402
from harness_uw import Uw    # noqa: E402

FETCHES, SEED = 10000, None
SIZES = (700, 700, 9000, 700, 9000, 60000)
DATE = '03-Mar-2003_03:03:03_+0000'
MOST = 1000000              # UIDs
STAY = 60                   # so many appended later
BATCH = 4
PACE = 25                   # fetches between two expunges
ABSENT, THERE, GOING, GONE = range(4)
fork = multiprocessing.get_context('fork')


def text(uid):
    head = b'Subject: %08d\r\n\r\n' % uid
    size = SIZES[uid % len(SIZES)]
    return (head + b'%08d\r\n' % uid * (size // 10))[:size - 2] + b'\r\n'


class World:
    """What readers and writer know together, in shared memory."""

    def __init__(self):
        self.lock = fork.Lock()
        self.state = fork.RawArray(ctypes.c_uint8, MOST)
        self.held = fork.RawArray(ctypes.c_uint8, MOST)
        self.newest = fork.RawValue(ctypes.c_uint32, 0)
        self.compactions = fork.RawValue(ctypes.c_uint32, 0)
        self.right = fork.RawArray(ctypes.c_uint32, len(SHARES))
        self.stop = fork.Event()

    def hold(self, rnd, most=1):
        """Messages that stay until they are let go."""
        with self.lock:
            last = self.newest.value
            there = [u for u in range(max(1, last - 2 * STAY), last + 1)
                     if self.state[u] == THERE]
            uids = sorted(rnd.sample(there, min(most, len(there))))
            for u in uids:
                self.held[u] += 1
        return uids

    def let_go(self, uids):
        with self.lock:
            for u in uids:
                self.held[u] -= 1


class Writer(threading.Thread):
    """c-client at work; counts how often it moved messages."""

    def __init__(self, rig, world, box, seed):
        super().__init__(daemon=True)
        self.rig, self.world, self.box = rig, world, box
        self.rnd = random.Random(f'{seed}/writer')
        self.uw = Uw(rig.legacy_file('alice'), rig.users['alice'])
        self.path = rig.path('text')
        self.file = rig.legacy_file('alice', box)
        self.error = None
        self.count = dict.fromkeys(('appended', 'expunged', 'compactions',
                                    'stops'), 0)
        self.uw(f'make {box}')
        for _ in range(STAY // BATCH):
            self.append()

    def append(self):
        for _ in range(BATCH):
            uid = self.world.newest.value + 1
            with open(self.path, 'wb') as f:
                f.write(text(uid))
            self.uw(f'put {self.box} {self.path} {DATE}')
            self.count['appended'] += 1
            with self.world.lock:
                self.world.state[uid] = THERE
                self.world.newest.value = uid

    def victims(self):
        w, last = self.world, self.world.newest.value
        with w.lock:
            uids = [u for u in range(1, last + 1)
                    if w.state[u] == THERE and not w.held[u]
                    and (u <= last - STAY or u % 3 == 0)]
            uids = self.rnd.sample(uids, min(BATCH, len(uids)))
            for u in uids:
                w.state[u] = GOING
        return sorted(uids)

    @contextlib.contextmanager
    def daemon_stopped(self):
        """Wherever it is just now. It may hold a lock that UW waits for."""
        pid = self.rig.daemon.pid
        os.kill(pid, signal.SIGSTOP)
        timer = threading.Timer(0.05, os.kill, (pid, signal.SIGCONT))
        timer.start()
        self.count['stops'] += 1
        try:
            yield
        finally:
            timer.cancel()
            os.kill(pid, signal.SIGCONT)

    def expunge(self):
        uids = self.victims()
        was = os.stat(self.file).st_size
        session = self.rnd.random() < 0.5
        if session:
            self.uw(f'open {self.box}')
        if uids:
            self.uw(f'flag {self.box} + {",".join(map(str, uids))} \\Deleted')
        with self.daemon_stopped() if self.rnd.random() < 0.2 \
                else contextlib.nullcontext():
            self.uw(f'expunge {self.box}')
        if session:
            self.uw(f'close {self.box}')
        self.count['expunged'] += len(uids)
        if os.stat(self.file).st_size < was:
            self.world.compactions.value += 1
            self.count['compactions'] += 1
        with self.world.lock:
            for u in uids:
                self.world.state[u] = GONE

    def pace(self):
        """Some fetches, or a while."""
        enough = sum(self.world.right) + PACE
        until = time.monotonic() + 0.2
        while sum(self.world.right) < enough and time.monotonic() < until:
            time.sleep(0.002)

    def run(self):
        try:
            while not self.world.stop.is_set():
                self.append()
                self.expunge()
                self.pace()
        except Exception:
            self.error = traceback.format_exc()
        finally:
            self.world.stop.set()


class Reader:
    """Fetches until it has its share; runs in a process of its own."""

    def __init__(self, number, world, top, share, seed, port):
        self.number, self.world = number, world
        self.top, self.share = top, share
        self.rnd = random.Random(f'{seed}/{type(self).__name__}')
        self.port = port
        self.count = {'right': 0, 'met': 0, 'gone': 0}

    def run(self, pipe):
        try:
            self.begin()
            while self.count['right'] < self.share \
                    and not self.world.stop.is_set():
                self.fetch()
            pipe.send((self.count, None))
        except BaseException:
            pipe.send((self.count, traceback.format_exc()))

    def begin(self):
        pass

    def fetch(self):
        raise NotImplementedError

    def right(self, uid, data, want=None):
        want = text(uid) if want is None else want
        if data != want:
            raise AssertionError(
                f'UID {uid}: {len(data)} octets for {len(want)}, '
                f'{bytes(data[:40])!r} for {want[:40]!r}')
        self.count['right'] += 1
        self.world.right[self.number] += 1

    @contextlib.contextmanager
    def meeting(self, fetches=1):
        """Counts those that a compaction fell into, or came just before."""
        was = self.world.compactions.value
        yield
        if self.world.compactions.value != was:
            self.count['met'] += fetches

    def wait_for_a_compaction(self):
        was = self.world.compactions.value
        harness.wait_for('a compaction', lambda: self.world.stop.is_set() or
                         self.world.compactions.value != was)

    def names(self):
        out = {}
        for sub in ('new', 'cur'):
            for name in os.listdir(f'{self.top}/{sub}'):
                out[int(name.split('.')[0])] = f'{self.top}/{sub}/{name}'
        return out

    def open(self, uid):
        """By its name, which changes when UW has seen it; None: not there."""
        for _ in range(50):
            with contextlib.suppress(FileNotFoundError, KeyError):
                return os.open(self.names()[uid], os.O_RDONLY)
            if self.world.state[uid] != THERE:
                return None
        raise AssertionError(f'UID {uid} is not there')

    @staticmethod
    def forget(fd):
        """So that the kernel asks again, and for no more than is wanted."""
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def pieces(self, fd, start, size):
        """From there to the end, and what is said to be behind it."""
        data = b''
        while start + len(data) < size:
            n = self.rnd.choice((100, 4096, 8192, 1 << 17))
            got = os.pread(fd, n, start + len(data))
            if not got:
                break
            data += got
        return data + os.pread(fd, 100, start + len(data))


class ByName(Reader):
    """Whatever is listed, also what UW is just taking out."""

    def fetch(self):
        names = self.names()
        for uid in self.rnd.sample(sorted(names), min(8, len(names))):
            try:
                fd = os.open(names[uid], os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                with self.meeting():
                    self.forget(fd)
                    data = os.pread(fd, 300, 0)
                    if self.rnd.random() < 0.05:
                        self.wait_for_a_compaction()
                    data += self.pieces(fd, len(data), len(text(uid)))
                self.right(uid, data)
            except OSError as e:
                if e.errno != errno.EIO or self.world.state[uid] == THERE:
                    raise
                self.count['gone'] += 1
            finally:
                os.close(fd)


class KeptOpen(Reader):
    """Files that are open across many compactions."""

    def begin(self):
        self.fds = {}


    def fetch(self):
        while len(self.fds) < 20:
            for uid in self.world.hold(self.rnd):
                if uid in self.fds:
                    self.world.let_go([uid])
                    continue
                self.fds[uid] = self.open(uid)
        with self.meeting(len(self.fds)):
            self.wait_for_a_compaction()
            for uid, fd in self.fds.items():
                self.forget(fd)
                self.right(uid, self.pieces(fd, 0, len(text(uid))))
        if self.rnd.random() < 0.1:
            uid = self.rnd.choice(sorted(self.fds))
            os.close(self.fds.pop(uid))
            self.world.let_go([uid])


class Mapped(Reader):
    """An error would be SIGBUS, and the end of this process."""

    def fetch(self):
        uids = self.world.hold(self.rnd, 10)
        with contextlib.ExitStack() as stack:
            maps = {uid: self.map(stack, uid) for uid in uids}
            halves = {uid: m[:len(m) // 2] for uid, m in maps.items()}
            with self.meeting(len(maps)):
                self.wait_for_a_compaction()
                for uid, m in maps.items():
                    self.right(uid, halves[uid] + m[len(m) // 2:])
        self.world.let_go(uids)

    def map(self, stack, uid):
        fd = self.open(uid)
        stack.callback(os.close, fd)
        self.forget(fd)
        return stack.enter_context(mmap.mmap(
            fd, os.fstat(fd).st_size, mmap.MAP_SHARED, mmap.PROT_READ))


class Imap(Reader):
    """A client of Dovecot."""

    def begin(self):
        self.conn = imapraw.Conn(self.port, 'alice')

    def synced_to(self, uids):
        def there():
            self.conn.do('NOOP')
            self.conn.sync()
            return set(uids) <= set(self.conn.uids)
        return there

    def fetch(self):
        uids = self.world.hold(self.rnd, 6)
        what = self.rnd.choice(('BODY.PEEK[]', 'BODY.PEEK[HEADER]'))
        if not self.conn.box:
            self.conn.select('box')
        # New mail shows when Dovecot's list of UIDs names it.
        harness.wait_for(uids, self.synced_to(uids))
        with self.meeting(len(uids)):
            if self.rnd.random() < 0.1:
                self.wait_for_a_compaction()
            got = self.conn.fetch(imapraw.as_set(uids), what)
        for uid in uids:
            want = text(uid)
            key = what.replace('.PEEK', '').encode()
            if key.endswith(b'[HEADER]'):
                want = want[:want.index(b'\r\n\r\n') + 4]
            self.right(uid, got[uid][key], want)
        self.world.let_go(uids)


SHARES = ((ByName, 0.4), (KeptOpen, 0.3), (Mapped, 0.15), (Imap, 0.15))


class Beside(harness.Case):
    def readers(self, world, top, fetches, seed, port):
        out = []
        for number, (kind, part) in enumerate(SHARES):
            here, there = fork.Pipe(False)
            reader = kind(number, world, top, int(fetches * part), seed, port)
            proc = fork.Process(target=reader.run, args=(there,), daemon=True)
            proc.start()
            there.close()
            out.append((kind.__name__, proc, here))
        return out

    def gather(self, readers, writer, seed):
        """Their counts; the test fails with the first of them that does."""
        counts = {}
        while len(counts) < len(readers):
            self.assertIsNone(writer.error, f'seed {seed}: {writer.error}')
            for name, proc, pipe in readers:
                if name in counts or not (pipe.poll(0.1)
                                          or not proc.is_alive()):
                    continue
                try:
                    counts[name], error = pipe.recv()
                except EOFError:
                    proc.join()
                    error = f'ended with {proc.exitcode}'
                self.assertIsNone(error, f'seed {seed}: {name}: {error}')
        return counts

    def test_ten_thousand_fetches(self):
        harness.need_dovecot()
        seed = SEED or random.SystemRandom().randrange(10**6)
        rig, world = self.rig(), World()
        rig.user('alice')
        writer = Writer(rig, world, 'mail/box', seed)
        rig.mount()
        dovecot = rig.dovecot(extra='mail_save_crlf = yes\n')
        top = f'{rig.mnt}/alice/.box'
        began = time.monotonic()
        readers = self.readers(world, top, FETCHES, seed, dovecot.imap_port)
        try:
            writer.start()
            counts = self.gather(readers, writer, seed)
        finally:
            world.stop.set()
            writer.join(harness.WAIT)
            for _, proc, _ in readers:
                proc.kill()
                proc.join()
        writer.uw.close()
        print(f'# seed {seed}: {time.monotonic() - began:.1f} s, writer: '
              f'{writer.count}; readers: {counts}')
        self.enough(counts, writer)
        self.nothing_lost(rig, world, top, dovecot)

    def enough(self, counts, writer):
        self.assertGreaterEqual(
            sum(c['right'] for c in counts.values()),
            sum(int(FETCHES * part) for _, part in SHARES))
        self.assertGreater(writer.count['compactions'], FETCHES // 200)
        for name, count in counts.items():
            self.assertGreater(count['met'], FETCHES // 1000, name)

    def nothing_lost(self, rig, world, top, dovecot):
        want = [u for u in range(1, world.newest.value + 1)
                if world.state[u] == THERE]
        dump = next(iter(harness.cc_dump(
            rig.legacy_file('alice', 'mail/box')).values()))
        self.assertEqual(sorted(dump['mail']), want)
        harness.wait_for('the view', lambda: sorted(
            int(n.split('.')[0]) for sub in ('new', 'cur')
            for n in os.listdir(f'{top}/{sub}')) == want)
        imap = dovecot.imap('alice')
        got = harness.imap_folder(imap, 'box')
        imap.logout()
        self.assertEqual(sorted(got['mail']), want)
        self.assertEqual(got['uidvalidity'], dump['uidvalidity'])
        for uid in want:
            self.assertTrue(got['mail'][uid]['body'] == text(uid), uid)


def by_hand(argv):
    global FETCHES, SEED
    p = argparse.ArgumentParser()
    p.add_argument('--fetches', type=int, default=FETCHES)
    p.add_argument('--seed', type=int, default=1)
    args = p.parse_args(argv)
    FETCHES, SEED = args.fetches, args.seed
    del sys.argv[1:]


if __name__ == '__main__':
    if any(a.startswith('--') for a in sys.argv[1:]):
        by_hand(sys.argv[1:])
    harness.main()
