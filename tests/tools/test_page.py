#!/usr/bin/python3
"""The page of verify --html, in a real browser: wide and narrow, light and
dark, for 2,000 users."""

import hashlib
import html.parser
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import harness  # noqa: E402

USERS = 2000
EVIL = '"><script>document.title="gone"<script>&'


def manifest(users):
    """janusmail-manifest(5) text: users is {name: [message lines]}."""
    def sha(text):
        return hashlib.sha256(text.encode()).hexdigest()

    out, roots, count, octets = ['janusmail-manifest 1\n'], '', 0, 0
    for name in sorted(users, key=lambda n: n.encode()):
        mail = users[name]
        size = sum(int(re.search(r'size=(\d+)', m)[1]) for m in mail)
        folder = (f'folder INBOX uidvalidity=7 uidnext=9 '
                  f'messages={len(mail)} octets={size}\n' + ''.join(mail))
        name = escaped(name)
        lines = f'user {name}\nfolder-hash {sha(folder)}\n'
        roots += f'user-hash {sha(lines)}\n'
        out.append(f'user {name}\n{folder}folder-hash {sha(folder)}\n'
                   f'user-hash {sha(lines)}\n')
        count, octets = count + len(mail), octets + size
    out.append(f'root {sha(roots)} users={len(users)} '
               f'folders={len(users)} messages={count} octets={octets}\n')
    return ''.join(out)


def message(uid, text, flags='-', keywords='-'):
    h = hashlib.sha256(text.encode()).hexdigest()
    return (f'{uid} flags={flags} keywords={keywords} '
            f'date=2012-10-07T13:00:31Z size={len(text)} sha256={h} '
            'crlf=same\n')


def escaped(text):
    return ''.join(f'\\x{ord(c):02x}' if c in ' "\\' else c for c in text)


def pixels(path):
    """Width, height and rows of RGB of a PNG of 8 bits, not interlaced."""
    with open(path, 'rb') as f:
        data = f.read()
    at, idat, head = 8, b'', None
    while at < len(data):
        size, kind = struct.unpack('>I4s', data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        if kind == b'IHDR':
            head = struct.unpack('>IIBBBBB', body)
        elif kind == b'IDAT':
            idat += body
        at += 12 + size
    width, height, depth, color, _, _, interlaced = head
    assert depth == 8 and color in (2, 6) and not interlaced, head
    return width, height, unfilter(zlib.decompress(idat), width, height,
                                   3 if color == 2 else 4)


def unfilter(raw, width, height, bpp):
    rows, before = [], bytearray(width * bpp)
    for y in range(height):
        at = y * (width * bpp + 1)
        kind, row = raw[at], bytearray(raw[at + 1:at + 1 + width * bpp])
        for i in range(len(row)):
            a = row[i - bpp] if i >= bpp else 0
            b = before[i]
            c = before[i - bpp] if i >= bpp else 0
            if kind == 1:
                row[i] = (row[i] + a) & 255
            elif kind == 2:
                row[i] = (row[i] + b) & 255
            elif kind == 3:
                row[i] = (row[i] + (a + b) // 2) & 255
            elif kind == 4:
                p = a + b - c
                best = min((abs(p - a), 0, a), (abs(p - b), 1, b),
                           (abs(p - c), 2, c))
                row[i] = (row[i] + best[2]) & 255
        rows.append([tuple(row[i:i + 3]) for i in range(0, len(row), bpp)])
        before = row
    return rows


class Parser(html.parser.HTMLParser):
    """What a page is made of, and what it refers to."""

    def __init__(self):
        super().__init__()
        self.tags, self.refs, self.text = {}, [], []

    def handle_starttag(self, tag, attrs):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attrs:
            if name in ('src', 'href', 'data', 'action', 'onload'):
                self.refs.append(value)

    def handle_data(self, data):
        self.text.append(data)


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(prefix='jm.')
        cls.addClassCleanup(shutil.rmtree, cls.dir, True)
        a, b = {}, {}
        for n in range(USERS):
            name = f'user{n:04}'
            mail = [message(i, f'{n} {i}' * (1 + n % 7), 'S')
                    for i in range(1, 6)]
            a[name], b[name] = mail, list(mail)
            if n % 100 == 7:
                b[name][2] = message(3, f'{n} 3' * (1 + n % 7), 'FS')
            if n % 250 == 9:
                b[name].pop()
        a[EVIL] = b[EVIL] = [message(1, 'evil')]
        a['Zoë'] = [message(1, 'x', keywords='<b>&amp;')]
        b['Zoë'] = [message(1, 'x', keywords='<i>')]
        specs = []
        for name, users in (('a', a), ('b', b)):
            path = os.path.join(cls.dir, name)
            with open(path, 'w', encoding='utf-8') as f:
                f.write(manifest(users))
            specs.append(f'manifest:{path}')
        cls.page = os.path.join(cls.dir, 'page.html')
        cls.result = harness.run([harness.TOOL, 'verify', '--html', cls.page,
                                  *specs], timeout=120)
        cls.few = os.path.join(cls.dir, 'few.html')
        harness.run([harness.TOOL, 'verify', '--html', cls.few, '--user',
                     'Zoë', '--user', 'user0007', '--user', 'user0009',
                     *specs])

    def test_it_is_whole_and_escaped(self):
        self.assertEqual(self.result.returncode, 1, self.result.stderr)
        with open(self.page, encoding='utf-8') as f:
            text = f.read()
        p = Parser()
        p.feed(text)
        self.assertNotIn('script', p.tags)
        self.assertNotIn('<b>&amp;', text)
        # Only to places in itself.
        self.assertTrue(p.refs)
        self.assertTrue(all(r.startswith('#') for r in p.refs), p.refs)
        self.assertNotRegex(text, r'url\(|@import|https?:')
        self.assertEqual(p.tags['svg'], USERS + 2)
        shown = ''.join(p.text)
        self.assertIn(escaped(EVIL), shown)
        self.assertIn('<b>&amp; in A, <i> in B', shown)
        self.assertIn('2,002', shown)
        # 20 flags, 8 messages and keywords.
        self.assertEqual(p.tags['tr'], 1 + 4 + 1 + 29)

    def shoot(self, name, width, height, dark, page):
        if not shutil.which('chromium'):
            self.skipTest('chromium is not installed')
        path = os.path.join(self.dir, name + '.png')
        args = ['chromium', '--headless', '--no-sandbox', '--disable-gpu',
                '--disable-dev-shm-usage', '--hide-scrollbars',
                f'--user-data-dir={self.dir}/profile-{name}',
                f'--window-size={width},{height}', f'--screenshot={path}']
        if dark:
            args.append('--blink-settings=preferredColorScheme=0')
        r = subprocess.run([*args, f'file://{page}'], timeout=240,
                           capture_output=True, check=False)
        self.assertTrue(os.path.exists(path), r.stderr.decode())
        keep = os.environ.get('JANUSMAIL_SHOTS')
        if keep:
            shutil.copy(path, keep)
        return pixels(path)

    def check(self, name, width, height, dark, page=None):
        got_width, got_height, rows = self.shoot(name, width, height, dark,
                                                 page or self.page)
        self.assertEqual((got_width, got_height), (width, height))
        counts = {}
        for row in rows:
            for p in row:
                counts[p] = counts.get(p, 0) + 1
        ground = max(counts, key=counts.get)
        light = sum(ground) / 3
        self.assertTrue(light < 60 if dark else light > 200, ground)

        # Neither blank nor a smear: text, and bars in their colours.
        self.assertGreater(len(counts), 50)
        self.assertLess(counts[ground], 0.98 * width * height)
        color = ((0xc2, 0x57, 0x0c) if page else
                 (0x4f, 0xae, 0x85) if dark else (0x2f, 0x7d, 0x5b))
        self.assertGreater(counts.get(color, 0), 100)
        ink = sum(n for p, n in counts.items()
                  if abs(sum(p) / 3 - light) > 120)
        self.assertGreater(ink, 1000)
        # Nothing is cut off at the right: a margin of ground.
        self.assertTrue(all(row[-3] == ground for row in rows))

    def test_differences_in_a_narrow_window(self):
        self.check('differences', 500, 1000, False, self.few)

    def test_wide_and_light(self):
        self.check('wide-light', 1100, 700, False)

    def test_wide_and_dark(self):
        self.check('wide-dark', 1100, 700, True)

    def test_narrow_and_light(self):
        self.check('narrow-light', 500, 800, False)

    def test_narrow_and_dark(self):
        self.check('narrow-dark', 500, 800, True)


if __name__ == '__main__':
    harness.main()
