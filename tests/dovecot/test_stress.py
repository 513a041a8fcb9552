#!/usr/bin/python3
"""Many IMAP clients at once on shared mailboxes with an MBX behind them.

    tests/dovecot/test_stress.py                        short, as tests/run does
    tests/dovecot/test_stress.py --seconds 60 --clients 12 [--seed N]

Each client checks what it is told (imapraw.py): EXISTS and EXPUNGE add up, UIDs
ascend, a UID has the same octets each time anybody looks. In the end every
message whose APPEND was acknowledged and which nobody removed is there, once,
octet by octet, with the flags that were acknowledged; by IMAP, in the view, and
as c-client reads the MBX. Dovecot has nothing to complain of.
"""

import argparse
import collections
import os
import random
import re
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness          # noqa: E402
from harness_uw import Uw   # noqa: E402
import imapraw          # noqa: E402
from model_check import sha         # noqa: E402
from model_mail import (            # noqa: E402
    KEYWORDS, SYSTEM, crlf, imap_date, lower, octets)

BOXES = ('INBOX', 'Sent', 'lists')
KINDS = ('crlf', 'noend', '8bit', 'record', 'crlf', 'big')


class Book:
    """What all clients together know; a message is known by its X-Model."""

    def __init__(self):
        self.lock = threading.Lock()
        self.octets = {}        # (box, uidvalidity, uid): hash
        self.there = {}         # (box, uid): (text, kind, date)
        self.flags = {}         # (box, uid): set, acknowledged
        self.maybe = set()      # (box, uid): somebody is removing it
        self.gone = set()
        self.count = collections.Counter()
        self.number = 0

    def next(self):
        with self.lock:
            self.number += 1
            return f's{self.number}'

    def saw(self, box, validity, uid, data):
        """The same UID has the same octets for everybody and always."""
        with self.lock:
            was = self.octets.setdefault((box, validity, uid), sha(data))
        if was != sha(data):
            raise imapraw.Broken(f'{box}: UID {uid} has other octets')

    def add(self, box, uid, what, flags):
        with self.lock:
            if (box, uid) in self.there or (box, uid) in self.gone:
                raise imapraw.Broken(f'{box}: UID {uid} given out twice')
            self.there[box, uid] = what
            self.flags[box, uid] = set(flags)


class Client(threading.Thread):
    """Its own random operations. Flags and expunges are of messages whose
    UID it owns (by remainder), so what must come out is known."""

    def __init__(self, number, clients, port, book, ends, seed):
        super().__init__(daemon=True)
        self.number, self.clients = number, clients
        self.port, self.book = port, book
        self.end, self.least = ends
        self.rnd = random.Random(f'{seed}/{number}')
        self.error = None
        self.conn = None
        self.doing = ''

    def run(self):
        try:
            self.conn = imapraw.Conn(self.port, 'alice')
            while not self.is_over():
                self.step()
            self.conn.logout()
        except Exception:
            self.error = (f'client {self.number}, {self.doing}:\n'
                          + traceback.format_exc())

    def is_over(self):
        """A slow machine gets longer for the work that is to be done."""
        now = time.monotonic()
        return now >= self.end and (self.book.count['append'] > self.least
                                    or now >= self.end + harness.WAIT)

    def step(self):
        what = self.rnd.choices(
            ('append', 'store', 'copy', 'move', 'expunge', 'fetch', 'idle',
             'status', 'select', 'noop', 'search', 'again'),
            (20, 25, 6, 4, 8, 14, 2, 4, 6, 8, 4, 1))[0]
        if not self.conn.box or what == 'select':
            self.conn.select(self.rnd.choice(BOXES))
        self.conn.sync()
        self.doing = f'{what} in {self.conn.box}'
        getattr(self, '_' + what)()
        with self.book.lock:
            self.book.count[what] += 1

    def mine(self, most=5):
        """Some UIDs of this client in the selected mailbox."""
        box = self.conn.box
        with self.book.lock:
            uids = [u for u in self.conn.uids
                    if u % self.clients == self.number
                    and (box, u) in self.book.there]
        self.rnd.shuffle(uids)
        return sorted(uids[:self.rnd.randint(1, most)])

    def _select(self):
        pass

    def _append(self):
        text, box = self.book.next(), self.rnd.choice(BOXES)
        kind = self.rnd.choice(KINDS)
        flags = set(self.rnd.choices(SYSTEM + KEYWORDS[:6],
                                     k=self.rnd.randrange(3)))
        date = self.rnd.randrange(631152000, 1760000000)
        uid = self.conn.append(box, octets(text, kind), sorted(flags),
                               imap_date(date))
        self.book.add(box, uid, (text, kind, date), flags)

    def _store(self):
        uids, box = self.mine(20), self.conn.box
        if not uids:
            return
        flag = self.rnd.choice(SYSTEM + KEYWORDS[:6])
        sign = self.rnd.choice('++-')
        self.conn.do(f'UID STORE {imapraw.as_set(uids)} {sign}FLAGS '
                     f'({flag})')
        with self.book.lock:
            for u in uids:
                flags = self.book.flags[box, u]
                (flags.add if sign == '+' else flags.discard)(flag)

    def _copied(self, verb):
        uids, box, to = self.mine(4), self.conn.box, self.rnd.choice(BOXES)
        if not uids or to == box:
            return
        with self.book.lock:
            facts = {u: (self.book.there[box, u],
                         set(self.book.flags[box, u])) for u in uids}
            if verb == 'MOVE':
                self.forget(box, uids)
        for u, n in self.conn.copy(uids, to, verb).items():
            self.book.add(to, n, *facts.pop(u))
        if facts:
            raise imapraw.Broken(f'{box}: {verb} left out {sorted(facts)}')

    def _copy(self):
        self._copied('COPY')

    def _move(self):
        self._copied('MOVE')

    def forget(self, box, uids):
        for u in uids:
            del self.book.there[box, u], self.book.flags[box, u]
            self.book.gone.add((box, u))

    def _expunge(self):
        uids, box = self.mine(6), self.conn.box
        if not uids or len(self.conn.uids) < 8:
            return
        with self.book.lock:
            self.forget(box, uids)
        uids = imapraw.as_set(uids)
        self.conn.do(f'UID STORE {uids} +FLAGS.SILENT (\\Deleted)')
        self.conn.do(f'UID EXPUNGE {uids}')

    def _fetch(self):
        uids = [u for u in self.conn.uids if u]
        if not uids:
            return
        start = self.rnd.randrange(len(uids))
        part = uids[start:start + self.rnd.randrange(1, 12)]
        box, validity = self.conn.box, self.conn.uidvalidity
        for uid, facts in self.conn.fetch(
                imapraw.as_set(part), 'RFC822.SIZE BODY.PEEK[]').items():
            if b'BODY[]' not in facts:      # flags only, said by the way
                continue
            data = facts[b'BODY[]']
            if data == b'NIL' and (box, uid) in self.book.gone:
                continue                    # expunged a moment ago
            if int(facts[b'RFC822.SIZE']) != len(data):
                raise imapraw.Broken(
                    f'{box}: UID {uid}: {facts[b"RFC822.SIZE"]} octets: '
                    f'{bytes(data)!r}')
            self.book.saw(box, validity, uid, data)

    def _idle(self):
        self.conn.idle(self.rnd.random())

    def _status(self):
        self.conn.do(f'STATUS {imapraw.quote(self.rnd.choice(BOXES))} '
                     '(MESSAGES UIDNEXT UNSEEN UIDVALIDITY)')

    def _noop(self):
        self.conn.do('NOOP')

    def _search(self):
        self.conn.do('UID SEARCH ' + self.rnd.choice(
            ('UNSEEN', 'KEYWORD todo', 'FLAGGED', 'SINCE 1-Jan-2001')))

    def _again(self):
        self.conn.logout()
        self.conn = imapraw.Conn(self.port, 'alice')


class Stress(harness.Case):
    def start(self, mail=20):
        harness.need_dovecot()
        rig = self.rig()
        rig.user('alice', 'inbox')
        for name in BOXES[1:]:
            self.put(rig, name, mail)
        rig.mount()
        return rig, rig.dovecot(extra='mail_save_crlf = yes\n')

    @staticmethod
    def put(rig, name, count):
        """A mailbox by c-client."""
        uw = Uw(rig.legacy_file('alice'), rig.users['alice'])
        uw(f'make mail/{name}')
        for n in range(count):
            path = rig.path('text')
            with open(path, 'wb') as f:
                f.write(octets(f'{name}{n}', 'crlf'))
            uw(f'put mail/{name} {path} 03-Mar-2003_03:03:03_+0000')
        uw.close()

    def stress(self, seconds, clients, seed):
        rig, dovecot = self.start()
        # A message that comes back to where it was has its old name.
        dovecot.expected.append(': Duplicate file entry at line ')
        book = Book()
        self.enter_old_mail(dovecot, book)
        ends = time.monotonic() + seconds, 2 * seconds
        crowd = [Client(n, clients, dovecot.imap_port, book, ends, seed)
                 for n in range(clients)]
        for c in crowd:
            c.start()
        for c in crowd:
            c.join(seconds + 150)
        errors = [c.error for c in crowd if c.error] + [
            f'client {c.number} hangs, {c.doing}' for c in crowd
            if c.is_alive()]
        self.assertFalse(errors, f'seed {seed}:\n' + '\n'.join(errors[:4]))
        print(f'# seed {seed}: {sum(book.count.values())} operations: '
              + ', '.join(f'{n} {k}' for k, n in book.count.most_common()))
        self.assertGreater(book.count['append'], 2 * seconds)
        self.everything_there(rig, dovecot, book)

    @staticmethod
    def enter_old_mail(dovecot, book):
        c = imapraw.Conn(dovecot.imap_port, 'alice')
        for box in BOXES:
            c.select(box)
            got = c.fetch('1:*', 'FLAGS INTERNALDATE BODY.PEEK[]')
            for uid, facts in got.items():
                book.add(box, uid, (bytes(facts[b'BODY[]']), None, None),
                         {f.decode() for f in facts[b'FLAGS']}
                         - {'\\Recent'})
        c.logout()

    def everything_there(self, rig, dovecot, book):
        c = imapraw.Conn(dovecot.imap_port, 'alice')
        for box in BOXES:
            c.select(box)
            want = {u: x for (b, u), x in book.there.items() if b == box}
            got = c.fetch('1:*', 'FLAGS BODY.PEEK[]')
            self.assertEqual(sorted(got), sorted(want), box)
            for uid, (text, kind, _) in want.items():
                data = text if kind is None else crlf(octets(text, kind))
                self.assertEqual(bytes(got[uid][b'BODY[]']), data)
                self.assertEqual(
                    lower(f.decode() for f in got[uid][b'FLAGS']),
                    lower(book.flags[box, uid]), f'{box}: UID {uid}')
            harness.wait_for(f'c-client on {box}', lambda b=box: not
                             self.differs(rig, book, b), 30)
        c.logout()

    def differs(self, rig, book, box):
        """How the MBX is not what it should be."""
        top = rig.mnt + '/alice' + ('' if box == 'INBOX' else '/.' + box)
        files = [n for sub in ('cur', 'new')
                 for n in os.listdir(f'{top}/{sub}')]
        want = collections.Counter(
            (sha(text if kind is None else crlf(octets(text, kind))),
             ','.join(sorted(f.replace(',', '\\x2c')
                             for f in lower(book.flags[box, uid])
                             if f[0] != '\\')) or '-')
            for (b, uid), (text, kind, _) in book.there.items() if b == box)
        path = rig.legacy_file('alice', *(
            [box] if box == 'INBOX' else ['mail', box]))
        dump = next(iter(harness.cc_dump(path).values()))['mail']
        got = collections.Counter((m['sha256'], m['keywords'])
                                  for m in dump.values())
        self.last = (want - got, got - want)
        return want != got or len(files) != sum(want.values())

    def test_a_crowd_on_shared_mailboxes(self):
        seed = random.SystemRandom().randrange(10**6)
        self.stress(15, 10, seed)


def by_hand(argv):
    p = argparse.ArgumentParser()
    p.add_argument('--seconds', type=int, default=60)
    p.add_argument('--clients', type=int, default=12)
    p.add_argument('--seed', type=int, default=1)
    args = p.parse_args(argv)
    Stress.test_a_crowd_on_shared_mailboxes = lambda self: self.stress(
        args.seconds, args.clients, args.seed)
    del sys.argv[1:]


if __name__ == '__main__':
    if any(a.startswith('--') for a in sys.argv[1:]):
        by_hand(sys.argv[1:])
    harness.main()
