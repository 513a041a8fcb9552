#!/usr/bin/python3
"""What c-client says of every mailbox is what everybody else must say: the
tool on the MBX files, the tool on the mounted tree, plain file calls on the
mounted tree, Dovecot over IMAP and POP3."""

import hashlib
import os
import re
import sys
from datetime import datetime, timezone

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                os.path.dirname(os.path.abspath(__file__))]
import harness  # noqa: E402
import mbxfile  # noqa: E402

LETTERS = 26    # keywords that a Maildir name can carry
IMAP_FLAGS = {'\\Draft': 'D', '\\Flagged': 'F', '\\Answered': 'R',
              '\\Seen': 'S', '\\Deleted': 'T'}
NAME = re.compile(r'(\d+)\.V([0-9a-f]{8})F([0-9a-f]{8})D([0-9a-f]{8,16})'
                  r'\.janusmail,S=(\d+)(:2,([A-Za-z]*))?')


def seconds(rfc3339):
    t = datetime.strptime(rfc3339, '%Y-%m-%dT%H:%M:%SZ')
    return int(t.replace(tzinfo=timezone.utc).timestamp())


def flag_set(letters):
    return set() if letters == '-' else set(letters)


def keyword_set(text):
    """Of a dump, as IMAP shows them."""
    if text == '-':
        return set()
    return {re.sub(r'\\x(..)', lambda m: chr(int(m[1], 16)), k)
            for k in text.split(',')}


def plain(name):
    """A folder name of a dump as it is on disk and in IMAP."""
    return name.replace('\\x20', ' ')


def read(path):
    with open(path, 'rb') as f:
        return f.read()


class Agreement(harness.SharedCase):
    @classmethod
    def build(cls, rig):
        harness.need_dovecot()
        cls.home = rig.user('alice', 'all')
        dates = mbxfile.DATES
        rig.put('alice', 'mail/wide', mbxfile.mailbox(
            len(dates), dates=dates))
        rig.put('alice', 'mail/pid', mbxfile.header(
            7, 0x123, ['one', 'Two'], pid=4711) + b''.join(
            mbxfile.record(mbxfile.text(n), n * 16, mbxfile.OLD, n)
            for n in range(1, 4)))
        rig.put('alice', 'mail/high', mbxfile.mailbox(
            3, uids=[0x7ffffffe, 0x80000001, 0xfffffff0]))
        cls.oracle = harness.cc_dump(f'{cls.home}/INBOX', f'{cls.home}/mail')
        cls.files = {}
        for path, _, names in os.walk(f'{cls.home}/mail'):
            for name in names:
                full = os.path.join(path, name)
                folder = os.path.relpath(full, f'{cls.home}/mail')
                shown = folder.replace('.', '_').replace('/', '.')
                cls.files[shown.replace(' ', '\\x20')] = full
        cls.files['INBOX'] = f'{cls.home}/INBOX'
        # What a Maildir cannot say is missing there, and only that.
        cls.maildir = {}
        for name, folder in cls.oracle.items():
            table = mbxfile.keyword_table(read(cls.files[name]))
            first = {k.lower() for k in table[:LETTERS]}
            mail = {}
            for uid, m in folder['mail'].items():
                kept = sorted(k for k in m['keywords'].split(',')
                              if keyword_set(k) <= first or k == '-')
                mail[uid] = {**m, 'keywords': ','.join(kept) or '-'}
            cls.maildir[name] = {**folder, 'mail': mail}
        rig.mount()
        cls.dovecot = rig.dovecot()
        cls.view = os.path.join(rig.mnt, 'alice')

    def folder_dir(self, name):
        return self.view if name == 'INBOX' else f'{self.view}/.{plain(name)}'

    def compare(self, want, got):
        self.assertEqual(sorted(want), sorted(got))
        for name in want:
            with self.subTest(folder=name):
                mail_want, mail_got = want[name]['mail'], got[name]['mail']
                self.assert_same(
                    {k: v for k, v in want[name].items() if k != 'mail'},
                    {k: v for k, v in got[name].items() if k != 'mail'})
                self.assert_same(mail_want, mail_got)

    def test_the_oracle_saw_every_case(self):
        self.assertGreater(len(self.oracle), 25)
        self.assertGreater(sum(f['messages'] for f in self.oracle.values()),
                           250)
        marked = [r for r in mbxfile.records(read(self.files['holes']))
                  if r['flags'] & mbxfile.EXPUNGED]
        self.assertEqual(len(marked), 13)
        self.assertEqual(
            sum(not r['uid'] for r in
                mbxfile.records(read(self.files['tail']))), 7)
        self.assertEqual(
            len(mbxfile.keyword_table(read(self.files['keywords']))), 30)

    def test_tool_on_the_mail_directory(self):
        want = {k: v for k, v in self.oracle.items() if k != 'INBOX'}
        self.compare(want, self.shared.dump(f'mbx:{self.home}/mail')[0])

    def test_tool_on_each_mailbox(self):
        for name, path in self.files.items():
            with self.subTest(folder=name):
                got, _ = self.shared.dump(f'mbx:{path}')
                self.assertEqual(len(got), 1)
                self.assert_same(self.oracle[name]['mail'],
                                 list(got.values())[0]['mail'])

    def test_tool_on_the_view_as_a_maildir(self):
        got, _ = self.shared.dump(f'maildir:{self.view}')
        self.compare(self.maildir, got)

    def test_tool_on_the_view(self):
        got, subscribed = self.shared.dump(f'view:{self.view}')
        self.compare(self.maildir, got)
        wanted = {'INBOX', 'a.b.c', 'dotted_name', 'Sent', '&ANw-ml&AOQ-ut'}
        self.assertLessEqual(wanted, set(subscribed))

    def listing(self, name):
        """(directory, file name) of each message of a folder."""
        top = self.folder_dir(name)
        return [(sub, entry) for sub in ('cur', 'new')
                for entry in os.listdir(f'{top}/{sub}')]

    def check_file(self, name, sub, entry, want, recent):
        m = NAME.fullmatch(entry)
        path = f'{self.folder_dir(name)}/{sub}/{entry}'
        st = os.stat(path)
        data = read(path)
        self.assertEqual(int(m[5]), int(want['size']))
        self.assertEqual(st.st_size, int(want['size']))
        self.assertEqual(st.st_mtime_ns, seconds(want['date']) * 10**9)
        self.assertEqual(int(m[2], 16), self.oracle[name]['uidvalidity'])
        self.assertEqual(int(m[4], 16), seconds(want['date']))
        self.assertEqual(hashlib.sha256(data).hexdigest(), want['sha256'])
        flags = {c for c in m[7] or '' if c.isupper()}
        self.assertEqual(flags, flag_set(want['flags']))
        self.assertEqual((sub, m[6] is None),
                         ('new', True) if recent else ('cur', False))
        self.assertEqual((st.st_uid, st.st_nlink), (5001, 1))
        return st.st_ino

    def test_plain_file_calls(self):
        for name, folder in self.maildir.items():
            disk = mbxfile.records(read(self.files[name]))
            live = [r for r in disk if not r['flags'] & mbxfile.EXPUNGED]
            seen, inodes = set(), set()
            with self.subTest(folder=name):
                for sub, entry in self.listing(name):
                    uid = int(NAME.fullmatch(entry)[1])
                    want = folder['mail'][uid]
                    rec = live[sorted(folder['mail']).index(uid)]
                    system = rec['flags'] & ~mbxfile.OLD
                    recent = rec['flags'] == 0 and rec['keywords'] == 0
                    self.assertEqual(system != 0, want['flags'] != '-')
                    inodes.add(self.check_file(name, sub, entry, want,
                                               recent))
                    seen.add(uid)
                self.assertEqual(seen, set(folder['mail']))
                self.assertEqual(len(inodes), len(seen))

    def test_keyword_letters_in_file_names(self):
        name = 'keywords'
        with open(f'{self.folder_dir(name)}/dovecot-keywords',
                  encoding='ascii') as f:
            table = dict(line.rstrip('\n').split(' ', 1) for line in f)
        self.assertEqual(len(table), LETTERS)
        for sub, entry in self.listing(name):
            m = NAME.fullmatch(entry)
            got = {table[str(ord(c) - ord('a'))].lower()
                   for c in m[7] or '' if c.islower()}
            want = keyword_set(
                self.maildir[name]['mail'][int(m[1])]['keywords'])
            self.assertEqual(got, want, entry)

    def test_only_exact_names_exist(self):
        sub, entry = sorted(self.listing('flags'))[5]
        base = entry.split(':')[0]
        top = self.folder_dir('flags')
        for wrong in (base, base + ':2,DFRSTa', entry + 'x', 'x' + entry,
                      re.sub(r'S=\d+', 'S=1', entry), base + ':2'):
            if wrong != entry:
                self.assertFalse(os.path.lexists(f'{top}/{sub}/{wrong}'),
                                 wrong)
        self.assertFalse(os.path.lexists(f'{top}/new/{entry}'))

    def test_partial_reads(self):
        for name in ('bodies', 'flags'):
            for sub, entry in self.listing(name):
                path = f'{self.folder_dir(name)}/{sub}/{entry}'
                whole = read(path)
                fd = os.open(path, os.O_RDONLY)
                for off in (0, 1, 7, len(whole) - 1, len(whole),
                            len(whole) + 100):
                    self.assertEqual(os.pread(fd, 13, off),
                                     whole[off:off + 13])
                os.close(fd)

    def check_imap(self, imap, name):
        want = self.maildir[name]
        got = harness.imap_folder(imap, plain(name))
        for key in ('uidvalidity', 'uidnext', 'messages'):
            self.assertEqual(got[key], want[key], key)
        self.assertEqual(sorted(got['mail']), sorted(want['mail']))
        raw = {r['off']: r['text'] for r in
               mbxfile.records(read(self.files[name]))
               if not r['flags'] & mbxfile.EXPUNGED}
        for (uid, w), text in zip(sorted(want['mail'].items()),
                                  raw.values()):
            g = got['mail'][uid]
            self.assertEqual(hashlib.sha256(text).hexdigest(), w['sha256'])
            flags = g['flags'] - {'\\Recent'}
            system = {IMAP_FLAGS[f] for f in flags if f in IMAP_FLAGS}
            words = {f.lower() for f in flags if f not in IMAP_FLAGS}
            self.assertEqual(system, flag_set(w['flags']), uid)
            self.assertEqual(words, keyword_set(w['keywords']), uid)
            self.assertEqual(g['date'], seconds(w['date']), uid)
            body = harness.through_dovecot(text)
            self.assertEqual(g['size'], len(body), uid)
            self.assertEqual(g['body'], body, uid)

    def test_imap(self):
        imap = self.dovecot.imap('alice')
        for name in self.maildir:
            with self.subTest(folder=name):
                self.check_imap(imap, name)
        imap.logout()

    def test_imap_lists_and_subscriptions(self):
        imap = self.dovecot.imap('alice')

        def names(answer):
            return {re.match(rb'\(([^)]*)\) "\." (.*)', a)[2].decode()
                    .strip('"') for a in answer
                    if b'\\Noselect' not in a}
        got = names(imap.list()[1])
        self.assertEqual(got, set(map(plain, self.oracle)))
        got = names(imap.lsub()[1])
        self.assertLessEqual({'INBOX', 'a.b.c', 'dotted_name', 'Sent',
                              '&ANw-ml&AOQ-ut'}, got)
        imap.logout()

    def test_pop3_uidl_is_that_of_uw(self):
        inbox = self.oracle['INBOX']
        pop = self.dovecot.pop3('alice')
        got = [line.split()[1].decode() for line in pop.uidl()[1]]
        pop.quit()
        self.assertEqual(got, [f'{inbox["uidvalidity"]:08x}{uid:08x}'
                               for uid in sorted(inbox['mail'])])


class Large(harness.SharedCase):
    @classmethod
    def build(cls, rig):
        harness.need_dovecot()
        cls.home = rig.user('bob', 'inbox', 'many', 'big')
        cls.oracle = harness.cc_dump(f'{cls.home}/mail')
        rig.mount()
        cls.view = os.path.join(rig.mnt, 'bob')

    def test_dumps_agree(self):
        got, _ = self.shared.dump(f'mbx:{self.home}/mail')
        self.assert_same(self.oracle['many']['mail'], got['many']['mail'])
        self.assert_same(self.oracle['big'], got['big'])
        got, _ = self.shared.dump(f'view:{self.view}')
        self.assert_same(self.oracle['many']['mail'], got['many']['mail'])
        self.assert_same(self.oracle['big'], got['big'])

    def test_dovecot_agrees(self):
        imap = self.shared.dovecot().imap('bob')
        got = harness.imap_folder(imap, 'many', bodies=False)
        self.assertEqual(got['messages'], 20000)
        for uid, w in self.oracle['many']['mail'].items():
            g = got['mail'][uid]
            self.assertEqual((g['size'], g['date'],
                              '\\Seen' in g['flags']),
                             (int(w['size']), seconds(w['date']),
                              w['flags'] == 'S'))
        body = harness.imap_folder(imap, 'big')['mail'][1]['body']
        self.assertEqual(hashlib.sha256(
            read(f'{self.home}/mail/big')[-len(body):]).hexdigest(),
            hashlib.sha256(body).hexdigest())
        self.assertEqual(len(body), 50 << 20)
        imap.logout()


if __name__ == '__main__':
    harness.main()
