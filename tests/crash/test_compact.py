#!/usr/bin/python3
"""janusmail compact is stopped before each of its steps: c-client then finds
every message as it was, and the next run ends with the same octets."""

import fcntl
import json
import os
import subprocess
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                os.path.join(os.path.dirname(os.path.dirname(
                    os.path.abspath(__file__))), 'oracle')]
import harness  # noqa: E402
import mbxfile  # noqa: E402
import writer  # noqa: E402
from harness_base import BUILD  # noqa: E402

TOOL = os.path.join(BUILD, 'janusmail')
IN_USE, DAMAGED, NO_ROOM, STOPPED = 75, 65, 73, 100
GONE = mbxfile.EXPUNGED | mbxfile.DELETED | mbxfile.OLD
NOTE = slice(1600, 1900)


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def message(uid, size):
    text = mbxfile.text(uid)
    fill = f'UID {uid} line of some length, so that it differs.\r\n'.encode()
    return (text + fill * (size // len(fill) + 1))[:max(size, 1)]


def box(shape, uidlast=None, uids=True):
    """shape: (size, expunged) of each message; with the dates, flags and
    keywords of every sort."""
    data = b''
    for uid, (size, gone) in enumerate(shape, 1):
        data += mbxfile.record(
            message(uid, size), uid if uids is True or uid <= uids else 0,
            GONE if gone else (uid * 7) % 64 | mbxfile.OLD, uid % 4,
            mbxfile.DATES[uid % 12])
    last = uidlast or (len(shape) if uids is True else uids)
    return mbxfile.header(uidlast=last, keywords=['one', 'two'], pid=77) + data


def without_holes(data):
    """What must be left."""
    at = mbxfile.offsets(data) + [len(data)]
    out = data[:mbxfile.HEADER]
    for (start, end), r in zip(zip(at, at[1:]), mbxfile.records(data)):
        if not r['flags'] & mbxfile.EXPUNGED:
            out += data[start:end]
    return out


K, HOLE = False, True
SHAPES = {
    'roomy': [(300, K), (5000, HOLE), (700, K), (40, HOLE), (900, K)],
    'roomy, in pieces': [(200, HOLE), (3000, HOLE), (60, HOLE), (700, K),
                         (800, K)],
    'roomy, last gone': [(300, K), (5000, HOLE), (700, K), (40, HOLE)],
    'small first': [(300, K), (80, HOLE), (7000, K), (40, HOLE), (9000, K)],
    'one octet': [(1, HOLE), (20000, K), (1, HOLE), (1, K), (1, K)],
    'all gone': [(300, HOLE), (400, HOLE)],
    'only at the end': [(300, K), (400, K), (500, HOLE), (1, HOLE)],
    'tiny kept': [(600, HOLE), (1, K)],
    'many': [(200 + 31 * n % 700, n % 3 == 1) for n in range(40)],
}


class Case(harness.Case):
    def setUp(self):
        writer.need()
        self.home = writer.Home(self)

    def tool(self, path, *args, stop=0, env=None):
        r = harness.run([TOOL, 'compact', *args, path], env={
            **({'IO_STOP_AT': str(stop)} if stop else {}), **(env or {})})
        if os.path.exists(path) and os.path.exists(writer.lock_name(path)):
            self.assertTrue(stop)
            os.unlink(writer.lock_name(path))
        return r

    def look(self, path):
        return next(iter(harness.cc_dump(path).values()))

    def same_but_uidlast(self, got, want, above=0):
        self.assertEqual(got[:15], want[:15])
        self.assertGreaterEqual(int(got[15:23], 16), int(want[15:23], 16))
        self.assertLessEqual(int(got[15:23], 16),
                             int(want[15:23], 16) + above)
        self.assertEqual(got[23:], want[23:])

    def complete(self, path, *args):
        r = self.tool(path, *args)
        self.assertEqual((r.returncode, r.stderr), (0, ''))
        return r.stdout


class Steps(Case):
    def through(self, data, at_least, final=None, above=64):
        path = self.home.put('mail/box', data)
        before = self.look(path)
        final = final or without_holes(data)
        self.complete(path)
        self.assert_same(final, read(path))
        self.assertEqual(self.look(path)['mail'], before['mail'])
        stopped = 0
        for n in range(1, 10000):
            path = self.home.put('mail/box', data)
            r = self.tool(path, stop=n)
            if r.returncode == 0:
                break
            self.assertEqual(r.returncode, STOPPED, r.stderr)
            stopped = n
            with self.subTest(step=n):
                found = self.look(path)
                self.assert_same(before['mail'], found['mail'])
                self.assertEqual(found['uidvalidity'],
                                 before['uidvalidity'])
                self.complete(path)
                self.same_but_uidlast(read(path), final, above)
        self.assertGreaterEqual(stopped, at_least)
        return stopped


def add(name, at_least):
    def test(self):
        self.through(box(SHAPES[name]), at_least)
    setattr(Steps, 'test_' + ''.join(c if c.isalnum() else '_'
                                     for c in name), test)


for _name, _least in [('roomy', 12), ('roomy, in pieces', 14),
                      ('roomy, last gone', 10), ('small first', 25),
                      ('one octet', 25), ('all gone', 4),
                      ('only at the end', 4), ('tiny kept', 10),
                      ('many', 20)]:
    add(_name, _least)


class Places(Case):
    def test_every_alignment_of_the_line(self):
        """The hole's line, and the end of the file, wherever they lie on their
        pages; half written, too."""
        for shift in [*range(1920, 2000, 3), *range(3900, 4000, 7)]:
            shape = [(shift, K), (300, HOLE), (2500 + 7 * shift % 4096, K),
                     (20, HOLE), (600, K)]
            with self.subTest(shift=shift):
                data = box(shape)
                path = self.home.put('mail/box', data)
                self.complete(path)
                self.assert_same(without_holes(data), read(path))

    def test_half_of_a_line(self):
        """At every switch any part of the new line may be on disk."""
        data = box(SHAPES['small first'])
        before = None
        halves = 0
        final = without_holes(data)
        states = []
        for n in range(1, 200):
            path = self.home.put('mail/box', data)
            if self.tool(path, stop=n).returncode == 0:
                break
            states.append(read(path))
        for old, new in zip(states, states[1:]):
            note = old[NOTE]
            if not note.startswith(b'janusmail-compact') or \
                    note != new[NOTE] or len(old) != len(new):
                continue
            at, size = int(note[18:34], 16), int(note[34:36], 16)
            if old[:at] != new[:at] or old[at + size:] != new[at + size:] or \
                    old == new:
                continue
            for k in range(1, size, 5):
                for a, b in ((old, new), (new, old)):
                    torn = a[:at + k] + b[at + k:]
                    if torn in (old, new):
                        continue
                    halves += 1
                    path = self.home.put('mail/box', torn)
                    self.assertIn('interrupted', self.complete(
                        path, '--dry-run'))
                    self.assertEqual(read(path), torn)
                    self.complete(path)
                    self.same_but_uidlast(read(path), final, 64)
                    found = self.look(path)
                    before = before or found['mail']
                    self.assertEqual(found['mail'], before)
        self.assertGreater(halves, 40)

    def test_interrupted_again_and_again(self):
        """What was made to grow does not grow more each time."""
        data = box(SHAPES['many'])
        for n in (4, 8, 12, 14):
            path = self.home.put('mail/box', data)
            largest = 0
            for turn in range(6):
                self.assertEqual(self.tool(path, stop=n).returncode, STOPPED)
                if turn < 2:
                    largest = max(largest, os.stat(path).st_size)
            self.assertLessEqual(os.stat(path).st_size, largest)
            self.complete(path)
            self.same_but_uidlast(read(path), without_holes(data), 64)

    def test_mail_delivered_between_crash_and_next_run(self):
        data = box(SHAPES['small first'])
        new = self.home.put('new', b'Subject: new\n\nNew.\n')
        met = 0
        for n in range(1, 200):
            path = self.home.put('mail/box', data)
            if self.tool(path, stop=n).returncode == 0:
                break
            before = self.look(path)['mail']
            self.assertEqual(writer.stop_at(
                path, [f'append {new} 0', 'assign', 'sync'], 0), 0)
            found = self.look(path)['mail']
            self.assertEqual(len(found), len(before) + 1)
            self.complete(path)
            self.assert_same(found, self.look(path)['mail'])
            met += 1
        self.assertGreater(met, 25)

    def test_uids_that_are_not_on_disk_yet(self):
        """They get the ones that UW would give them, and keep them."""
        data = box(SHAPES['roomy'], uids=2)
        path = self.home.put('mail/box', data)
        before = self.look(path)
        self.complete(path)
        after = self.look(path)
        self.assert_same(before['mail'], after['mail'])
        self.assertEqual(after['uidnext'], before['uidnext'])
        self.assertEqual([r['uid'] for r in mbxfile.records(read(path))],
                         [1, 3, 5])
        stopped = 0
        for n in range(1, 100):
            path = self.home.put('mail/box', data)
            if self.tool(path, stop=n).returncode == 0:
                break
            self.complete(path)
            texts = [r['text'] for r in mbxfile.records(read(path))]
            self.assertEqual(texts, [message(u, s) for u, s in
                                     ((1, 300), (3, 700), (5, 900))])
            stopped = n
        self.assertGreater(stopped, 15)


class Full(Case):
    def setUp(self):
        super().setUp()
        self.place = self.home.path('full')
        os.mkdir(self.place)

    def mount(self, octets):
        r = harness.run(['mount', '-t', 'tmpfs', '-o',
                         f'size={octets},mode=755', 'none', self.place])
        harness.skip_unless(r.returncode == 0, f'no tmpfs: {r.stderr}')
        self.addCleanup(harness.run, ['umount', '-l', self.place])

    def put(self, data):
        path = os.path.join(self.place, 'box')
        with open(path, 'wb') as f:
            f.write(data)
        os.utime(path, ns=(10 ** 18, 10 ** 18))
        return path

    def test_no_room_to_grow(self):
        data = box(SHAPES['small first'])
        self.mount(32 << 10)
        path = self.put(data)
        r = self.tool(path)
        self.assertEqual(r.returncode, NO_ROOM, r.stderr)
        self.assertRegex(r.stderr, r'no room, nothing was changed: \d{5} octets')
        self.assertEqual(read(path), data)
        self.assertEqual(os.stat(path).st_mtime_ns, 10 ** 18)
        # What was reserved is free again.
        self.assertGreater(os.statvfs(self.place).f_bavail, 1)
        harness.run(['mount', '-o', 'remount,size=64k', self.place])
        self.complete(path)
        self.assertEqual(read(path), without_holes(data))

    def test_no_room_is_needed_where_the_hole_is_large(self):
        data = box(SHAPES['roomy'])
        self.mount((len(data) + 4095) // 4096 * 4096)
        path = self.put(data)
        self.complete(path)
        self.assertEqual(read(path), without_holes(data))


class Refusals(Case):
    def untouched(self, path, status, *texts, args=(), before=None):
        st, data = os.stat(path), read(path)
        r = self.tool(path, *args)
        now = os.stat(path)
        self.assertEqual(r.returncode, status, r.stdout + r.stderr)
        for text in texts:
            self.assertIn(text, r.stderr)
        self.assertEqual(read(path), data)
        self.assertEqual((st.st_mtime_ns, st.st_ino), (now.st_mtime_ns,
                                                       now.st_ino))
        return r

    def test_nothing_to_do_leaves_no_trace(self):
        path = self.home.put('mail/box', box([(300, K), (1, K)]))
        self.untouched(path, 0)
        path = self.home.put('mail/box', mbxfile.header())
        self.untouched(path, 0)

    def test_open_in_uw(self):
        self.home.make('keywords')
        path = self.home.path('mail', 'keywords')
        s = writer.Session(self, self.home, 'mail/keywords')
        self.untouched(path, IN_USE, 'in use by pid', 'cc_make')
        self.untouched(path, 0, args=['--dry-run'])
        s.quit()
        self.complete(path)

    def test_being_looked_at(self):
        """Who holds the parse lock is waited for, and then it is given up."""
        path = self.home.put('mail/box', box(SHAPES['roomy']))
        name = writer.lock_name(path)
        with open(name, 'w') as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            p = subprocess.Popen([TOOL, 'compact', path],
                                 stderr=subprocess.PIPE, text=True)
            self.addCleanup(harness.end, p)
            self.assertIn('locked', p.communicate(timeout=60)[1])
            self.assertEqual(p.returncode, IN_USE)
        os.unlink(name)
        self.complete(path)

    def test_damage(self):
        good = box(SHAPES['roomy'])
        at = mbxfile.offsets(good)
        bad = {
            'torn text': good[:-1],
            'torn line': good + b'01-Jan-2001 00:0',
            'junk': good + b'\0' * 100,
            'a line in the middle': good[:at[2]] + b'?' + good[at[2] + 1:],
            'size': good[:at[1]] + good[at[1]:].replace(b',5000;', b',0000;',
                                                       1),
            'UID order': good.replace(b'-00000003\r', b'-00000001\r', 1),
            'UIDLAST': good[:15] + b'00000004' + good[23:],
            'UID 0 before others': good.replace(b'-00000003\r',
                                                b'-00000000\r', 1),
            'date': good.replace(good[at[0]:at[0] + 6], b'xx-Jan', 1),
            'header padding': good[:1700] + b'x' + good[1701:],
        }
        for what, data in bad.items():
            with self.subTest(what):
                self.assertNotEqual(data, good)
                path = self.home.put('mail/box', data)
                self.untouched(path, DAMAGED, 'damaged', 'expected')
                self.untouched(path, DAMAGED, args=['--dry-run'])

    def test_other_files(self):
        for data in (b'', b'From anna\n', b'*mbx*\r\n' + b'x' * 3000):
            self.untouched(self.home.put('mail/box', data), DAMAGED)
        path = self.home.put('mail/box', box(SHAPES['roomy']))
        os.link(path, self.home.path('mail', 'other'))
        self.assertEqual(self.tool(path).returncode, 74)
        self.assertEqual(self.tool(self.home.path('mail')).returncode, 74)
        self.assertEqual(self.tool(self.home.path('none')).returncode, 66)

    def test_usage(self):
        for args in ([], ['--what', 'x']):
            r = harness.run([TOOL, 'compact', *args])
            self.assertEqual(r.returncode, 64)
            self.assertIn('--help', r.stderr)
        r = harness.run([TOOL, 'compact', '--help'])
        self.assertEqual(r.returncode, 0)
        self.assertIn('examples:', r.stdout)

    def test_what_is_said(self):
        data = box(SHAPES['small first'])
        path = self.home.put('mail/b%x y', data)
        want = len(data) - len(without_holes(data))
        r = self.untouched(path, 0, args=['--dry-run', '--json'])
        doc = json.loads(r.stdout)
        self.assertTrue(doc['dry_run'])
        f = doc['files'][0]
        self.assertEqual((f['messages'], f['expunged'],
                          f['size'] - f['size_after']), (3, 2, want))
        self.assertGreater(f['room'], 16000)
        self.assertIn(f'{want} octets, can go',
                      self.complete(path, '--dry-run'))
        self.assertIn(f'{want} octets, reclaimed', self.complete(path))
        self.assertEqual(read(path), without_holes(data))
        r = harness.run([TOOL, 'compact', '--json', path,
                         self.home.path('none')])
        self.assertEqual(r.returncode, 66)
        files = json.loads(r.stdout)['files']
        self.assertEqual(files[0]['expunged'], 0)
        self.assertIn('No such file', files[1]['error'])

    def test_times_owner_and_inode(self):
        path = self.home.put('mail/box', box(SHAPES['small first']))
        os.chmod(path, 0o640)
        os.utime(path, ns=(10 ** 18, 10 ** 18))
        before = os.stat(path)
        self.complete(path)
        after = os.stat(path)
        self.assertEqual((before.st_ino, before.st_mode, before.st_uid),
                         (after.st_ino, after.st_mode, after.st_uid))
        # As after a change of UW's: whole seconds.
        self.assertGreater(after.st_mtime, before.st_mtime)
        self.assertEqual(after.st_mtime_ns % 10 ** 9, 0)
        self.assertEqual(os.listdir(self.home.path('mail')), ['box'])


if __name__ == '__main__':
    harness.main()
