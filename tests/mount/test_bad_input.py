#!/usr/bin/python3
"""Damaged and hostile legacy files, while served: the daemon lives, says in one
log line what and where, the status shows it, what is good is served, nobody
else notices, and no legacy file is touched."""

import errno
import os
import re
import sys

_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(_here),
                os.path.join(os.path.dirname(_here), 'oracle')]
import harness  # noqa: E402
import mbxfile  # noqa: E402

GOOD = mbxfile.mailbox(5)
AT = mbxfile.offsets(GOOD)
TEXTS = [mbxfile.text(n) for n in range(1, 6)]
ALL = [1, 2, 3, 4, 5]


def cut(pos):
    return GOOD[:pos]


def insert(pos, junk):
    return GOOD[:pos] + junk + GOOD[pos:]


def swap(old, new, which):
    """Replace within the which-th record line."""
    end = GOOD.index(b'\r\n', AT[which])
    line = GOOD[AT[which]:end]
    assert old in line
    return GOOD[:AT[which]] + line.replace(old, new, 1) + GOOD[end:]


def oversize(which, size):
    return swap(b',%d;' % len(TEXTS[which]), b',%s;' % size, which)


# name -> (octets, kind, offset or None, UIDs served; None: EIO)
DAMAGED = {
    'header-uidvalidity': (GOOD[:7] + b'ZZZZZZZZ' + GOOD[15:], 'header', None,
                           None),
    'header-short': (GOOD[:1000], 'header', None, None),
    'tail-in-line': (cut(AT[4] + 20), 'record', AT[4], ALL[:4]),
    'tail-in-text': (cut(len(GOOD) - 10), 'record', AT[4], ALL[:4]),
    'tail-one-octet': (GOOD + b'x', 'record', len(GOOD), ALL),
    'tail-of-nul': (GOOD + bytes(700), 'record', len(GOOD), ALL),
    'junk-in-the-middle': (insert(AT[2], b'some junk\r\n'), 'record', AT[2],
                           ALL[:2]),
    'line-too-long': (insert(AT[3], b'0' * 80), 'record', AT[3], ALL[:3]),
    'size-zero': (oversize(2, b'0'), 'record', AT[2], ALL[:2]),
    'size-huge': (oversize(1, b'9999999999999'), 'record', AT[1], ALL[:1]),
    'size-overflow': (oversize(1, b'18446744073709551615'), 'record', AT[1],
                      ALL[:1]),
    'size-negative': (oversize(1, b'-5'), 'record', AT[1], ALL[:1]),
    'flags-not-hex': (swap(b'0010-', b'00g0-', 3), 'record', AT[3], ALL[:3]),
    'date': (swap(b'02-Feb-2004', b'99-Xyz-2004', 2), 'date', AT[2], ALL),
    'keywords': (mbxfile.mailbox(5, keywords=['one', '', 'three']),
                 'keywords', 25, ALL),
}


class Base(harness.Case):
    def mounted(self, bad):
        """A rig whose alice has the bad mailbox among good ones."""
        rig = self.rig()
        rig.user('alice')
        rig.put('alice', 'INBOX', GOOD)
        rig.put('alice', 'mail/good', GOOD)
        rig.user('bob')
        rig.put('bob', 'INBOX', GOOD)
        for name, data in bad.items():
            rig.put('alice', f'mail/{name}', data)
        self.rig_now = rig
        return rig

    def view(self, *names):
        return os.path.join(self.rig_now.mnt, *names)

    def messages(self, folder):
        """UID -> octets of a folder of the view."""
        out = {}
        for sub in ('cur', 'new'):
            top = os.path.join(folder, sub)
            for name in os.listdir(top):
                with open(os.path.join(top, name), 'rb') as f:
                    out[int(name.split('.')[0])] = f.read()
        return out

    def check_others(self):
        """Everybody else is served in full."""
        want = dict(zip(ALL, TEXTS))
        for folder in ('alice', 'alice/.good', 'bob'):
            self.assertEqual(self.messages(self.view(folder)), want, folder)
        self.assertIsNone(self.rig_now.daemon.poll())


class Damage(Base):
    def check(self, name):
        data, kind, off, uids = DAMAGED[name]
        rig = self.mounted({name: data})
        harness.age(rig.legacy)
        before = harness.snapshot(rig.legacy)
        rig.expect_log(rf'alice.*{name}')
        rig.mount()
        folder = self.view('alice', f'.{name}')
        if uids is None:
            self.assert_errno(errno.EIO, os.listdir, f'{folder}/cur')
        else:
            got = self.messages(folder)
            self.assertEqual(sorted(got), uids)
            self.assertEqual([got[u] for u in sorted(got)],
                             TEXTS[:len(uids)])
        self.check_others()
        entry = rig.folder_status('alice', name)
        self.assertEqual(entry['state'],
                         'unreadable' if uids is None else 'damaged')
        self.assertEqual(entry['damage']['kind'], kind)
        if off is not None:
            self.assertTrue(0 <= entry['damage']['offset'] - off < 64,
                            entry['damage'])
        self.assertGreater(len(entry['damage']['text']), 10)
        self.check_log_line(name, entry['damage'])
        rig.unmount()
        self.assert_same(before, harness.snapshot(rig.legacy))

    def check_log_line(self, name, damage):
        lines = [line for line in self.rig_now.log().splitlines()
                 if re.search(r'(error|warning): ', line) and name in line]
        self.assertEqual(len(lines), 1, '\n'.join(lines))
        self.assertIn('alice', lines[0])
        self.assertIn(damage['text'], lines[0])
        if damage.get('offset'):
            self.assertIn(str(damage['offset']), lines[0])


def one(name):
    return lambda self: self.check(name)


for _name in DAMAGED:
    setattr(Damage, 'test_' + _name.replace('-', '_'), one(_name))


class Special(Base):
    """What is not a regular file of the user, where mailboxes should be."""

    def test_not_a_mailbox(self):
        rig = self.mounted({})
        mail = rig.legacy_file('alice', 'mail')
        os.mkfifo(f'{mail}/fifo')
        os.mknod(f'{mail}/device', 0o20600, os.makedev(1, 3))
        os.symlink('good', f'{mail}/symlink')
        os.symlink('/etc/passwd', f'{mail}/passwd')
        os.symlink('..', f'{mail}/loop')
        os.mkdir(f'{mail}/directory')
        os.chown(f'{mail}/directory', 5001, 5001)
        rig.put('alice', 'mail/linked', GOOD)
        os.link(f'{mail}/linked', f'{rig.dir}/second')
        rig.put('alice', 'mail/foreign', GOOD)
        os.chown(f'{mail}/foreign', 5002, 5002)
        rig.put('alice', 'mail/text', b'Just some notes.\n')
        harness.age(rig.legacy)
        before = harness.snapshot(rig.legacy)
        rig.expected.append(r'alice')
        rig.mount()
        self.check_others()
        served = [n for n in os.listdir(self.view('alice'))
                  if n.startswith('.')]
        self.assertNotIn('.directory', served)
        status = rig.status()
        user = [u for u in status['users'] if u['name'] == 'alice'][0]
        why = {os.path.basename(n['path']): n['why']
               for n in user.get('not_served', [])}
        for name in ('fifo', 'device', 'symlink', 'passwd', 'loop', 'linked',
                     'foreign', 'text'):
            if f'.{name}' in served:
                # Then nothing of it is shown, and the status says so.
                self.assert_errno((errno.EIO, errno.EACCES), os.listdir,
                                  self.view('alice', f'.{name}', 'cur'))
                self.assertEqual(rig.folder_status('alice', name)['state'],
                                 'unreadable')
            else:
                self.assertIn(name, why)
                self.assertGreater(len(why[name]), 5)
        rig.unmount()
        if 'alice' not in rig.log():
            rig.expected.clear()
        self.assert_same(before, harness.snapshot(rig.legacy))

    def test_an_empty_file_is_an_empty_folder(self):
        rig = self.mounted({'born': b''})
        rig.expect_log('born: .*UIDVALIDITY')
        rig.mount()
        self.assertEqual(self.messages(self.view('alice', '.born')), {})
        self.check_others()
        rig.put('alice', 'mail/born', GOOD)

        def filled():
            return sorted(self.messages(self.view('alice', '.born'))) == ALL
        harness.wait_for('the mailbox that was born', filled)
        rig.unmount()

    def test_inbox_is_a_fifo(self):
        rig = self.mounted({})
        os.unlink(rig.legacy_file('bob', 'INBOX'))
        os.mkfifo(rig.legacy_file('bob', 'INBOX'))
        rig.expected.append('bob')
        rig.mount()
        try:
            self.assertEqual(os.listdir(self.view('bob', 'cur')), [])
        except OSError as e:
            self.assertIn(e.errno, (errno.EIO, errno.EACCES, errno.ENOENT))
        self.assertEqual(sorted(self.messages(self.view('alice'))), ALL)
        rig.unmount()
        if 'bob' not in rig.log():
            rig.expected.clear()

    def test_strange_names(self):
        names = {b'new\nline': '.new_line', b'caf\xe9': '.caf&AOk-',
                 'grün'.encode(): '.gr&APw-n', b'~tilde': '._tilde',
                 b'a.b': '.a_b', b'a_b': None, b'tab\tx': '.tab_x',
                 b'INBOX': '.INBOX_2', b'bad&name': None,
                 b'long' + b'x' * 240: None}
        rig = self.mounted({})
        for name in names:
            path = os.path.join(os.fsencode(rig.legacy_file('alice', 'mail')),
                                name)
            with open(path, 'wb') as f:
                f.write(GOOD)
            os.chmod(path, 0o600)
            os.chown(path, 5001, 5001)
        rig.expected.append('alice')
        rig.mount()
        got = [n for n in os.listdir(os.fsencode(self.view('alice')))
               if n.startswith(b'.')]
        self.assertEqual(len(got), len(names) + 1, got)    # and good
        for name, want in names.items():
            if want:
                self.assertIn(want.encode(), got)
        for name in got:
            self.assertRegex(name, rb'^[\x20-\x7e]+$')
            self.assertEqual(
                sorted(self.messages(self.view('alice', name.decode()))), ALL)
        entries = [u for u in rig.status()['users']
                   if u['name'] == 'alice'][0]['folders']
        renamed = {e['name']: e['renamed'] for e in entries}
        self.assertTrue(renamed['new_line'])
        self.assertFalse(renamed['good'])
        self.assertEqual(sum(e['name'].startswith('a_b') for e in entries), 2)
        rig.unmount()
        if not re.search('(error|warning).*alice', rig.log()):
            rig.expected.clear()


class Changes(Base):
    """The file changes in ways that UW never does, while it is in use."""

    def start(self):
        rig = self.mounted({'box': GOOD})
        rig.expected.append('alice.*box')
        rig.mount()
        self.folder = self.view('alice', '.box')
        self.assertEqual(sorted(self.messages(self.folder)), ALL)
        self.file = rig.legacy_file('alice', 'mail', 'box')
        return rig

    def stop(self, rig):
        self.check_others()
        rig.unmount()
        if not re.search('(error|warning).*box', rig.log()):
            rig.expected.clear()

    def settle(self, uids):
        """Wait until the folder shows these UIDs; every octet is right."""
        def shows():
            try:
                got = self.messages(self.folder)
            except OSError:
                return False
            for uid, data in got.items():
                self.assertIn(data, self.texts)
            return sorted(got) == uids
        harness.wait_for(f'UIDs {uids}', shows)

    texts = TEXTS

    def test_shrinks(self):
        rig = self.start()
        names = os.listdir(f'{self.folder}/cur')
        fd = os.open(f'{self.folder}/cur/{names[0]}', os.O_RDONLY)
        os.truncate(self.file, AT[2])
        for name in names:
            uid = int(name.split('.')[0])
            try:
                with open(f'{self.folder}/cur/{name}', 'rb') as f:
                    self.assertEqual(f.read(), TEXTS[uid - 1])
            except OSError as e:
                self.assertGreater(uid, 2, e)
        os.close(fd)
        self.settle([1, 2])
        os.truncate(self.file, 0)
        self.check_others()
        with open(self.file, 'wb') as f:
            f.write(GOOD)
        self.settle(ALL)
        self.stop(rig)

    def test_torn_in_the_middle_of_a_text(self):
        rig = self.start()
        os.truncate(self.file, AT[3] + 70)
        names = {int(n.split('.')[0]): n
                 for n in os.listdir(f'{self.folder}/cur')}
        self.assertEqual(sorted(names), ALL)
        for uid, name in names.items():
            fd = os.open(f'{self.folder}/cur/{name}', os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if uid > 3:
                self.assert_errno(errno.EIO, os.read, fd, 1000)
            else:
                self.assertEqual(os.read(fd, 1000), TEXTS[uid - 1])
            os.close(fd)
        with open(self.file, 'r+b') as f:
            f.write(GOOD)
        self.settle(ALL)
        self.stop(rig)

    def test_replaced_by_another_mailbox(self):
        rig = self.start()
        os.listdir(f'{self.folder}/cur')
        other = mbxfile.header(uidlast=9) + b''.join(
            mbxfile.record(b'other %d\r\n' % n, n) for n in range(1, 10))
        self.texts = [b'other %d\r\n' % n for n in range(1, 10)]
        os.rename(rig.put('alice', 'new', other), self.file)
        self.settle(list(range(1, 10)))
        self.stop(rig)

    def replaced(self, make):
        rig = self.start()
        names = os.listdir(f'{self.folder}/cur')
        aside = rig.legacy_file('alice', 'aside')
        os.rename(self.file, aside)
        make(self.file)
        for _ in range(3):
            for name in names:
                try:
                    with open(f'{self.folder}/cur/{name}', 'rb') as f:
                        self.assertIn(f.read(), TEXTS)
                except OSError as e:
                    self.assertIn(e.errno, (errno.EIO, errno.ENOENT,
                                            errno.EACCES, errno.ESTALE))
            try:
                os.listdir(f'{self.folder}/cur')
            except OSError as e:
                self.assertIn(e.errno, (errno.EIO, errno.EACCES,
                                        errno.ENOENT))
            self.check_others()
        if os.path.isdir(self.file) and not os.path.islink(self.file):
            os.rmdir(self.file)
        elif os.path.lexists(self.file):
            os.unlink(self.file)
        os.rename(aside, self.file)
        self.settle(ALL)
        self.stop(rig)

    def test_replaced_by_a_fifo(self):
        self.replaced(os.mkfifo)

    def test_replaced_by_a_symlink(self):
        self.replaced(lambda path: os.symlink('good', path))

    def test_replaced_by_a_directory(self):
        self.replaced(os.mkdir)

    def test_removed_for_a_while(self):
        self.replaced(lambda path: None)

    def test_replaced_by_rubbish(self):
        def rubbish(path):
            with open(path, 'wb') as f:
                f.write(os.urandom(5000))
            os.chown(path, 5001, 5001)
        self.replaced(rubbish)


class Lists(harness.Case):
    def test_subscriptions_elsewhere_are_told_in_one_line(self):
        r = self.rig()
        r.user('alice')
        r.put('alice', '.mailboxlist', b'mail/one\n' + b''.join(
            b'/var/elsewhere/%d\n' % n for n in range(300)))
        r.expect_log('mailboxlist: /var/elsewhere/0 and 299 more lines')
        r.mount()
        with open(f'{r.mnt}/alice/subscriptions', 'rb') as f:
            self.assertTrue(f.read().endswith(b'\n\none\n'))
        self.assertEqual(r.log().count('elsewhere'), 1)


if __name__ == '__main__':
    harness.main()
