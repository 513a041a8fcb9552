#!/usr/bin/python3
"""The same IMAP sessions on a Maildir on a disk and on the view of MBX
mailboxes: Dovecot answers the same, and afterwards c-client finds in the MBX
what Dovecot says is there.

Each sessions/*.imap is a test of its own, with a user of its own on both sides.
The language is that of tests/imap_script.py; besides

    #: mbx INBOX work       the folders that are MBX mailboxes in the end (all
                            that were at the start, if it is not said)
    #: only dovecot INBOX WORD...
                            keywords that this MBX does not hold in the end

Then come random ones; JANUSMAIL_SEED=N makes the first of them from seed N, and
JANUSMAIL_RANDOM=N makes so many. JANUSMAIL_SESSIONS=DIR writes scripts and
transcripts there. JANUSMAIL_NATIVE=1 has a disk on both sides, which shows that
Dovecot itself says the same twice.
"""

import difflib
import glob
import os
import re
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
import imap_boxes  # noqa: E402
import imap_mbx  # noqa: E402
import imap_random  # noqa: E402
import imap_script  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
EXTRA = 'mail_save_crlf = yes\n' + os.environ.get('JANUSMAIL_DOVECOT', '')
NATIVE_ONLY = os.environ.get('JANUSMAIL_NATIVE')


SEED = int(os.environ.get('JANUSMAIL_SEED', 20261122))
RANDOM = int(os.environ.get('JANUSMAIL_RANDOM', 4))
STEPS = 150
AFTERWARDS = '''
A: SELECT INBOX
A: STORE 1:* +FLAGS.SILENT (Urgent)
A: STORE 2 +FLAGS.SILENT (\\Deleted)
A: EXPUNGE
A: APPEND INBOX (\\Seen) {plain}
A: FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])
'''


def scripts():
    for path in sorted(glob.glob(os.path.join(HERE, 'sessions', '*.imap'))):
        with open(path, encoding='utf-8') as f:
            yield os.path.basename(path)[:-5], f.read()
    for seed in range(SEED, SEED + RANDOM):
        yield f'random_{seed}', imap_random.session(
            seed, imap_boxes.world(), STEPS)


def said(text, what):
    """Words of each line "#: what ..."."""
    return [words.split()
            for words in re.findall(rf'^#: {what}(.*)$', text, re.M)]


class Side:
    """One of the two: a Dovecot, and what it said."""

    def __init__(self, dovecot, user, text):
        self.dovecot, self.user, self.text = dovecot, user, text
        self.lines, self.error = [], None
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        session = imap_script.Session(self.dovecot.imap_port, self.user)
        try:
            session.run(self.text)
            session.finish()
        except Exception as e:
            self.error = e
        finally:
            session.close()
        self.lines = session.transcript

    def result(self):
        self.thread.join()
        if self.error:
            tail = '\n'.join(f'{s}\n    {t}' for s, t in self.lines[-5:])
            raise AssertionError(f'{self.dovecot.name}: {self.error!r}\n'
                                 f'{tail}') from self.error
        return self.lines


class Sessions(harness.SharedCase):
    """test_... are made below, one a script."""

    @classmethod
    def build(cls, rig):
        harness.need_dovecot()
        cls.world = imap_boxes.world()
        cls.known = {b.uidvalidity for b in cls.world.values()}
        cls.texts = {'popuser': '', **dict(scripts())}
        cls.ran = []
        for name in cls.texts:
            user = cls.user(name)
            rig.user(user)
            imap_boxes.build_mbx(rig, user, cls.world)
            for kind in ('native', 'second'):
                top = rig.path(kind, user)
                os.makedirs(top)
                imap_boxes.build_maildir(top, cls.world, rig.users[user])
        if not NATIVE_ONLY:
            rig.mount(cls.options())
            # A folder's directories get their times when it is first seen, and
            # Dovecot looks twice at what has changed within a second.
            for _, _, files in os.walk(rig.mnt):
                del files
            time.sleep(1.2)
        cls.start()

    @classmethod
    def options(cls):
        return cls.shared.options(
            subscriptions=f'{cls.shared.legacy}/%u/.mailboxlist')

    @classmethod
    def start(cls):
        rig = cls.shared
        second = rig.path('second') if NATIVE_ONLY else rig.mnt
        cls.native = rig.dovecot(
            location=f'maildir:{rig.path("native")}/%n', extra=EXTRA)
        cls.view = rig.dovecot(location=f'maildir:{second}/%n', extra=EXTRA)
        # So it says, on a disk too, when a message has left and come back.
        for d in (cls.native, cls.view):
            d.expected.append('Warning: .*: Duplicate file entry at line')

    @staticmethod
    def user(name):
        return name.replace('_', '').lower()

    def same_answers(self, name, text):
        """What both sides answered, without what may differ."""
        sides = [Side(d, self.user(name), text)
                 for d in (self.native, self.view)]
        outputs = []
        for side in sides:
            lines = side.result()
            outputs.append(imap_script.Normal(
                self.known, not name.startswith('random')).transcript(lines))
        self.write(name, outputs + [text.splitlines()])
        if outputs[0] != outputs[1]:
            self.fail('\n' + '\n'.join(list(difflib.unified_diff(
                *outputs, 'disk', 'view', n=2, lineterm=''))[:60]))
        self.assertGreater(len(outputs[0]), 5)

    def run_script(self, name):
        self.same_answers(name, self.texts[name])
        self.ran.append(name)
        self.same_facts(self.user(name))
        if not NATIVE_ONLY:
            self.same_in_mbx(name)

    @staticmethod
    def write(name, outputs):
        where = os.environ.get('JANUSMAIL_SESSIONS')
        for kind, lines in zip(('disk', 'view', 'imap'), outputs):
            if where:
                with open(f'{where}/{name}.{kind}', 'w') as f:
                    f.write('\n'.join(lines) + '\n')

    def same_facts(self, user):
        now = time.time()
        disk, view = (imap_mbx.comparable(self.known, now, imap_mbx.facts(d, user))
                      for d in (self.native, self.view))
        self.assertGreater(len(disk), 3)
        self.assert_same(disk, view, f'{user}: on disk -> in the view')

    def same_in_mbx(self, name):
        text, user = self.texts[name], self.user(name)
        folders = sum(said(text, 'mbx'), []) or list(self.world)
        without = {words[0]: set(words[1:])
                   for words in said(text, 'only dovecot')}
        imap_mbx.compare(self, self.shared, self.view, user, folders, without)

    def test_pop3(self):
        outputs = []
        for dovecot in (self.native, self.view):
            pop = dovecot.pop3('popuser')
            out = [pop.stat(), pop.list(), pop.uidl()]
            for n in range(1, 10):
                out += [pop.retr(n), pop.top(n, 3)]
            out += [pop.dele(2), pop.dele(8), pop.rset(), pop.dele(1),
                    pop.dele(6), pop.dele(9), pop.stat(), pop.quit()]
            pop = dovecot.pop3('popuser')
            out += [pop.stat(), pop.list(), pop.uidl(), pop.retr(6),
                    pop.quit()]
            outputs.append(out)
        for disk, view in zip(*outputs):
            self.assertEqual(disk, view)
        self.ran.append('popuser')
        self.same_facts('popuser')
        if not NATIVE_ONLY:
            self.same_in_mbx('popuser')

    def compact(self, users):
        """The space of expunged messages is reclaimed, as each user."""
        for user in users:
            files = glob.glob(self.shared.legacy_file(user, '**', '*'),
                              recursive=True)
            r = self.shared.tool('compact',
                                 *(f for f in files if os.path.isfile(f)),
                                 uid=self.shared.users[user])
            self.assertEqual(r.returncode, 0, f'{r.stdout}{r.stderr}')

    def nothing_to_complain(self):
        """Of a store in which only Dovecot was at work."""
        count = 0
        for user in self.shared.status()['users']:
            for folder in user['folders']:
                if folder['phase'] != 'legacy':
                    continue
                about = f'{user["name"]}: {folder}'
                self.assertEqual(folder['state'], 'ok', about)
                for word in 'damage', 'unreadable', 'uid_disagreements':
                    self.assertFalse(folder['legacy'].get(word), about)
                d = folder['delivered']
                self.assertEqual(
                    (d['mirrored'], d['no_uid'], d['waiting'], d['refused']),
                    (d['files'], 0, 0, []), about)
                count += d['files']
        if len(self.ran) == len(self.texts):
            self.assertGreater(count, 100)

    def stop_everything(self):
        """And throw Dovecot's and our indexes away."""
        rig = self.shared
        for d in (self.native, self.view):
            d.stop()
        if not NATIVE_ONLY:
            rig.unmount()
            r = rig.tool('check', rig.index)
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
            harness.run(['rm', '-rf', rig.index])
        for top in (rig.path('native'), rig.path('second'), rig.store):
            for path, _, files in os.walk(top):
                for file in files:
                    if re.match(r'dovecot(\.list)?\.index', file):
                        os.unlink(os.path.join(path, file))

    def test_zz_after_a_restart_without_indexes(self):
        """What is on the disks is still the same, also when the mailboxes were
        compacted; and work goes on."""
        if not self.ran:
            self.skipTest('no session went before')
        users = [self.user(name) for name in self.ran]
        if not NATIVE_ONLY:
            self.nothing_to_complain()
            self.compact(users[::3])
        self.stop_everything()
        if not NATIVE_ONLY:
            self.compact(users[1::3])
            self.shared.mount(self.options())
        self.start()
        for name in self.ran:
            with self.subTest(name):
                self.same_answers(name, AFTERWARDS)
                self.same_facts(self.user(name))
                if not NATIVE_ONLY:
                    self.same_in_mbx(name)


def test_of(name):
    def test(self):
        self.run_script(name)
    return test


for script, _ in scripts():
    setattr(Sessions, f'test_{script}', test_of(script))

if __name__ == '__main__':
    harness.main()
