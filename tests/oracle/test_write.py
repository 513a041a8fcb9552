#!/usr/bin/python3
"""What compat/mbx.h writes, running c-client sessions see at their next ping;
what they write, it sees; and many writers at once lose nothing."""

import os
import random
import re
import select
import subprocess
import sys
import threading
import time

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                os.path.dirname(os.path.abspath(__file__))]
import harness  # noqa: E402
import mbxfile  # noqa: E402
import writer  # noqa: E402

LETTERS = {0x20: 'D', 4: 'F', 8: 'R', 1: 'S', 2: 'T'}
STRESS_SECONDS = 20
KEPT, EXPUNGED = 20, 40     # messages of the stress that stay, that go


def letters(flags):
    return ''.join(v for k, v in LETTERS.items() if flags & k)


def read(path):
    with open(path, 'rb') as f:
        return f.read()


class Write(harness.Case):
    def setUp(self):
        writer.need()

    def start(self, scenario):
        """A mailbox, a session of c-client and one of ours."""
        self.home = writer.Home(self)
        self.home.make(scenario)
        self.name = f'mail/{scenario}'
        self.path = self.home.path(self.name)
        self.mail = self.home.put('message', b'Subject: x\n\nBody.\n')
        self.header = read(self.path)[:15]
        ours = writer.Ours(self, self.path)
        return writer.Session(self, self.home, self.name), ours

    def agree(self, session, ours):
        """The session, we and a fresh look by c-client say the same."""
        seen, listed = session.show(), ours.list()
        dump = next(iter(harness.cc_dump(self.path).values()))['mail']
        self.assertEqual({u: (letters(f), k) for u, (f, k, _)
                          in listed.items()}, seen)
        self.assertEqual({u: (m['flags'].replace('-', ''),
                              [] if m['keywords'] == '-'
                              else sorted(k.replace('\\x2c', ',') for k in
                                     m['keywords'].split(',')))
                          for u, m in dump.items()},
                         {u: (f, sorted(w.lower() for w in k))
                          for u, (f, k) in seen.items()})
        self.assertEqual(read(self.path)[:15], self.header)
        return seen

    def test_flags_and_keywords_of_ours(self):
        s, o = self.start('flags')
        before = s.show()
        o.do('flag 1 +\\Seen +\\Draft')
        o.do('flag 32 -\\Seen -\\Draft +\\Deleted')
        o.do('flag 5 +Fresh +$Other')
        o.do('touch')
        seen = self.agree(s, o)
        self.assertEqual(before[1][0], '')
        self.assertEqual(seen[1][0], 'DS')
        self.assertEqual(seen[32][0], 'FRT')
        self.assertEqual(seen[5][1], ['$Other', 'Fresh'])

    def test_every_change_shows_whenever_it_is_made(self):
        """In every part of a second, also right after the session's own."""
        s, o = self.start('flags')
        for turn in range(8):
            uid = turn + 1
            s.do(f'set {uid + 20} $Own')
            if turn % 2:
                time.sleep(0.15 * turn)
                s.do('ping')
            o.do(f'flag {uid} +Turn{turn}')
            s.do('ping')
            o.do('touch')
            self.assertIn(f'Turn{turn}', s.show()[uid][1])
        self.agree(s, o)

    def test_flags_of_theirs(self):
        s, o = self.start('flags')
        s.do('set 1:3 \\Flagged')
        s.do('clear 32 \\Flagged')
        s.do('set 9 Theirs')
        self.assertIn('Theirs', o.list()[9][1])
        o.do('flag 9 +Ours')
        o.do('touch')
        s.do('ping')    # else it would take the slot for another name
        s.do('set 9 Third')
        o.do('flag 9 +\\Seen')
        o.do('touch')
        self.assertEqual(self.agree(s, o)[9][1], ['Ours', 'Theirs', 'Third'])

    def test_different_flags_of_one_message_merge(self):
        s, o = self.start('flags')
        o.do('flag 1 +\\Draft')     # the session has not seen it
        s.do('set 1 \\Seen')
        o.do('flag 1 +\\Flagged')
        s.do('clear 1 \\Seen')
        o.do('touch')
        self.assertEqual(self.agree(s, o)[1][0], 'DF')

    def test_expunge_of_ours(self):
        s, o = self.start('flags')
        size = os.stat(self.path).st_size
        o.do('expunge 3')
        o.do('expunge 32')
        o.do('touch')
        self.assertEqual(os.stat(self.path).st_size, size)
        seen = self.agree(s, o)
        self.assertEqual(len(seen), 30)
        self.assertNotIn(3, seen)
        # It is alone with the file and takes the octets of the hole away.
        self.assertLess(os.stat(self.path).st_size, size)
        s.quit()
        self.assertEqual(sorted(o.list()), sorted(seen))

    def test_theirs_moves_octets_and_ours_writes_on(self):
        s, o = self.start('flags')
        o.do('flag 20 +\\Seen')
        s.do('set 2:10 \\Deleted')
        s.do('expunge')
        s.do('append')
        o.do('flag 20 +Fresh')
        o.do(f'append {self.mail} 0')
        o.do(f'append {self.mail} 50')
        o.do('expunge 21')
        o.do('touch')
        seen = self.agree(s, o)
        self.assertEqual(sorted(seen)[-3:], [33, 34, 50])
        self.assertIn('Fresh', seen[20][1])

    def test_appends_of_ours(self):
        s, o = self.start('recent')
        self.assertEqual(o.do(f'append {self.mail} 0'), ['8'])
        self.assertEqual(sorted(self.agree(s, o)), list(range(1, 9)))
        self.assertEqual(o.do(f'append {self.mail} 12 +\\Seen +Word'), ['12'])
        o.do('touch')
        self.assertEqual(self.agree(s, o)[12], ('S', ['Word']))
        s.do('append')
        self.home.make('deliver', self.name)
        self.assertEqual(o.do(f'append {self.mail} 0'), ['15'])
        self.home.make('deliver', self.name)
        self.assertEqual(o.do(f'append {self.mail} 20'), ['20'])
        self.assertEqual(sorted(self.agree(s, o)),
                         [*range(1, 9), 12, 13, 14, 15, 16, 20])
        self.assertEqual(o.ask(f'append {self.mail} 20'), ['no', 'EEXIST'])

    def test_uids_are_the_same_whoever_gives_them_out(self):
        self.start('tail')[0].quit()    # settled
        s, o = writer.Session(self, self.home, self.name), writer.Ours(
            self, self.path)
        for turn in range(6):
            self.home.make('deliver', self.name)
            self.home.make('deliver', self.name)
            shown = o.list()
            if turn % 3 == 0:
                o.do('assign')
            elif turn % 3 == 1:
                o.do(f'expunge {max(shown)}')
                o.do('touch')
                del shown[max(shown)]
            seen = self.agree(s, o)
            self.assertEqual(sorted(seen), sorted(shown))
        self.assertEqual(max(seen), 24)

    def test_old_on_a_message_without_uid_is_harmless(self):
        s, o = self.start('flags')
        s.quit()
        self.home.make('deliver', self.name)
        o.do('flag 33 +\\Old +\\Seen')
        s = writer.Session(self, self.home, self.name)
        self.assertEqual(self.agree(s, o)[33][0], 'S')
        self.assertEqual(o.list()[33][2], 33)

    def test_new_keywords_of_both_sides(self):
        s, o = self.start('flags')
        for turn in range(5):
            o.do(f'flag 1 +Ours{turn}')
            o.do('touch')
            s.do('ping')
            s.do(f'set 2 Theirs{turn}')
        self.assertEqual(len(self.agree(s, o)[1][1]), 5)
        self.assertEqual(mbxfile.keyword_table(read(self.path)), [
            f'{who}{turn}' for turn in range(5) for who in ('Ours', 'Theirs')])

    def test_all_thirty_keywords(self):
        s, o = self.start('keywords')
        self.assertEqual(o.ask('keyword one-more'), ['no', 'ENOSPC'])
        o.do('flag 20 +Label30 -Label20')
        o.do('touch')
        self.assertEqual(self.agree(s, o)[20][1], ['Label30'])

    def test_between_begin_and_end_others_wait(self):
        s, o = self.start('flags')
        o.do('begin')
        o.do('flag 1 +\\Draft')
        s.proc.stdin.write('set 1 \\Seen\n')
        s.proc.stdin.flush()
        self.assertEqual(select.select([s.proc.stdout], [], [], 0.5)[0], [])
        o.do('flag 2 +\\Draft')
        o.do('end')
        self.assertEqual(s.read()[0], 'ok')
        o.do('touch')
        self.assertEqual(self.agree(s, o)[1][0], 'DS')

    def test_the_last_writer_field_stays(self):
        s, o = self.start('flags')
        s.do('set 1 \\Seen')
        field = read(self.path)[2038:2048]
        self.assertRegex(field, rb'^[0-9a-f]{8}\r\n$')
        o.do('flag 1 +\\Draft +Fresh')
        o.do(f'append {self.mail} 40')
        o.do('expunge 2')
        o.do('touch')
        self.assertEqual(read(self.path)[2038:2048], field)


class Stress(harness.Case):
    """Random writers for some time. Every writer has flags of its own on the
    messages that stay, so at the end each flag must be as its writer left it.

    One session of c-client at a time: two of them can spoil UIDVALIDITY
    without our help (the last-writer field, docs/MBX.md)."""

    def text(self, kind, n):
        return (f'Subject: {kind} {n}\nMessage-ID: <{kind}.{n}@example.test>'
                '\n\n' + 'Some lines.\n' * (n % 50)).encode()

    def setUp(self):
        writer.need()
        harness.skip_unless(os.geteuid() == 0, 'needs root')
        harness.skip_unless(os.access('/usr/bin/dmail', os.X_OK),
                            'dmail is not installed')
        # dmail wants a user of the system; "mail" is on every Debian.
        self.home = writer.Home(self, owner=8)
        mails = b''.join(
            mbxfile.record(self.text('first', n).replace(b'\n', b'\r\n'), n)
            for n in range(1, KEPT + EXPUNGED + 1))
        self.path = self.home.put('INBOX', mbxfile.header(
            0x50000000, KEPT + EXPUNGED, ['One', 'Two', 'Three']) + mails)
        os.chown(self.path, 8, 8)
        os.chmod(self.path, 0o600)
        self.stop = threading.Event()
        self.errors, self.sent = [], {}
        self.gone = set()
        self.later = 0
        self.state = {}

    def loop(self, fn, rng, *args):
        try:
            while not self.stop.is_set():
                fn(rng, *args)
                time.sleep(rng.random() * 0.02)
        except Exception as e:     # noqa: BLE001  shown by the main thread
            self.errors.append(f'{fn.__name__}: {e}')
            self.stop.set()

    def ours(self, rng, ours, flag, word, spare):
        """One step of one of our writers."""
        uid = rng.randint(1, KEPT)
        choice = rng.random()
        if choice < 0.5:
            for what in (flag, word):
                sign = rng.choice('+-')
                ours.do(f'flag {uid} {sign}{what}')
                self.state[uid, what] = sign == '+'
        elif choice < 0.65:
            ours.do('begin')
            for uid in rng.sample(range(1, KEPT + 1), 5):
                ours.do(f'flag {uid} +{flag}')
                self.state[uid, flag] = True
            ours.do('end')
        elif choice < 0.8:
            self.append(ours, rng, flag)
        elif choice < 0.85 and spare:
            uid = spare.pop()
            ours.do(f'expunge {uid}')
            self.gone.add(uid)
        elif choice < 0.9:
            ours.do('sync')
        elif choice < 0.92:
            ours.do('assign')
        else:
            ours.list()

    def append(self, ours, rng, flag):
        kind = f'ours{flag[1:]}'
        n = self.sent.get(kind, 0) + 1
        name = self.home.put(f'message.{kind}', self.text(kind, n))
        wanted = 0
        if rng.random() < 0.5:
            wanted = max(ours.list()) + rng.randint(1, 3)
        words = ours.ask(f'append {name} {wanted}')
        if words != ['no', 'EEXIST']:   # somebody was faster
            self.assertEqual(words[0], 'ok', words)
            self.sent[kind] = n

    def dmail(self, rng):
        n = self.sent.get('dmail', 0) + 1
        r = subprocess.run(
            ['setpriv', '--reuid', '8', '--regid', '8', '--clear-groups',
             'dmail'], input=self.text('dmail', n), timeout=60,
            env={'HOME': self.home.dir, 'PATH': '/usr/bin:/bin'},
            capture_output=True, check=False)
        if r.returncode == 75 and b'Not a MBX-format' in r.stderr:
            self.later += 1     # its race for the lock: an MTA tries again
            return
        self.assertEqual(r.returncode, 0, r.stderr)
        self.sent['dmail'] = n
        time.sleep(rng.random() * 0.1)

    def cclient(self, rng):
        """A session for some time."""
        s = writer.Session(self, self.home, 'INBOX')
        for _ in range(rng.randint(1, 40)):
            n = rng.randint(1, KEPT)    # these never move
            what = rng.choice(['\\Flagged', 'Three'])
            verb = rng.choice(['set', 'clear'])
            s.do(f'{verb} {n} {what}')
            self.state[n, what] = verb == 'set'
            if rng.random() < 0.1:
                s.do('expunge')     # nothing is \Deleted but what is gone
            if rng.random() < 0.2:
                s.do('ping')
        s.quit()

    def test_nothing_is_lost_and_nothing_doubled(self):
        seed = int(os.environ.get('JANUSMAIL_SEED', time.time()))
        print(f'# JANUSMAIL_SEED={seed}')
        first = range(KEPT + 1, KEPT + EXPUNGED + 1)
        boxes = [writer.Ours(self, self.path) for _ in range(2)]
        jobs = [(self.ours, random.Random(seed), boxes[0], '\\Draft', 'One',
                 list(first[::2])),
                (self.ours, random.Random(seed + 1), boxes[1], '\\Seen',
                 'Two', list(first[1::2])),
                (self.dmail, random.Random(seed + 2)),
                (self.cclient, random.Random(seed + 3))]
        threads = [threading.Thread(target=self.loop, args=j) for j in jobs]
        for t in threads:
            t.start()
        self.stop.wait(STRESS_SECONDS)
        try:
            harness.wait_for('enough of everything', lambda: self.errors
                             or self.is_enough(), 120)
        finally:
            self.stop.set()
            for t in threads:
                t.join(120)
        self.assertEqual(self.errors, [])
        self.verify(boxes[0])

    def is_enough(self):
        return len(self.gone) > 3 and all(
            self.sent.get(kind, 0) > 5
            for kind in ('oursDraft', 'oursSeen', 'dmail'))

    def verify(self, ours):
        ours.do('assign')
        records = [r for r in mbxfile.records(read(self.path))
                   if not r['flags'] & mbxfile.EXPUNGED]
        dump = harness.cc_dump(self.path)['INBOX']
        self.assertEqual(dump['uidvalidity'], 0x50000000)
        listed = ours.list()
        self.assertEqual(sorted(dump['mail']), sorted(listed))
        self.assertEqual(sorted(dump['mail']), [r['uid'] for r in records])

        ids = [re.search(rb'Message-ID: <(.*)@', r['text'])[1].decode()
               for r in records]
        wanted = [f'first.{n}' for n in range(1, KEPT + EXPUNGED + 1)
                  if n not in self.gone]
        wanted += [f'{kind}.{n}' for kind, last in self.sent.items()
                   for n in range(1, last + 1)]
        self.assertEqual(sorted(ids), sorted(wanted))
        for r in records[:KEPT]:
            self.assertEqual(
                r['text'], self.text('first', r['uid']).replace(b'\n',
                                                                b'\r\n'))
        # It loses that race more often where it is slower.
        self.assertLess(self.later, max(5, self.sent['dmail']))

        names = {'\\Draft': 0x20, '\\Seen': 1, '\\Flagged': 4}
        for (uid, what), want in self.state.items():
            flags, words, _ = listed[uid]
            have = bool(flags & names[what]) if what in names \
                else what in words
            self.assertEqual(have, want, f'UID {uid}: {what}')
        for uid, (flags, _, _) in listed.items():
            self.assertEqual(letters(flags),
                             dump['mail'][uid]['flags'].replace('-', ''))


if __name__ == '__main__':
    harness.main()
