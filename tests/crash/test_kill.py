#!/usr/bin/python3
"""The daemon is killed at random moments under load, and mounted again.

    tests/crash/test_kill.py                    a few rounds, as tests/run does
    tests/crash/test_kill.py --rounds 50 [--seed N]

Agents deliver (fsync, rename or link, fsync of the directory), LMTP delivers,
IMAP clients append, set flags and expunge, all on mailboxes with an MBX. What
was acknowledged before the kill holds after it: a message is there, once, octet
by octet; a flag is set; what was expunged stays away; UIDs are what they were;
c-client opens the MBX and finds the same. What was under way may have happened
or not.

A kill of the daemon is not a power failure: what it has written stays.
"""

import argparse
import collections
import contextlib
import os
import random
import signal
import smtplib
import sys
import threading
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'dovecot')]
import harness          # noqa: E402
import imapraw          # noqa: E402
from model_mail import crlf, lower, octets      # noqa: E402
from model_check import sha                 # noqa: E402
from harness_uw import Uw                       # noqa: E402
from model_run import sync_dir                  # noqa: E402

BOXES = ('INBOX', 'Sent')
KINDS = ('deliver', 'append', 'store', 'lmtp')
FLAGS = ('\\Seen', '\\Flagged', '\\Answered', 'todo', '$Label1')
# What a client may get when the daemon is gone.
TROUBLE = (OSError, imapraw.Broken, imapraw.Refused,
           smtplib.SMTPException)


class Ledger:
    """What was acknowledged, by X-Model."""

    def __init__(self):
        self.lock = threading.Lock()
        self.there = {}         # text: (box, kind)
        self.trying = {}        # text: (box, kind), not acknowledged
        self.uid = {}           # text: UID, once anybody was told
        self.flags = {}         # text: acknowledged
        self.open_flags = {}    # text: being set or removed
        self.removing = {}      # text: (box, kind)
        self.gone = set()
        self.number = 0
        self.acknowledged = collections.Counter()

    def begin(self, box, kind):
        with self.lock:
            self.number += 1
            text = f'k{self.number}'
            self.trying[text] = box, kind
            return text

    def done(self, text, uid=None):
        with self.lock:
            self.there[text] = self.trying.pop(text)
            self.flags[text] = set()
            if uid:
                self.uid[text] = uid

    def pick(self, box, rnd, remainder):
        """A message with a known UID, always another one's than those of
        other clients."""
        with self.lock:
            some = [t for t, (b, _) in self.there.items()
                    if b == box and t in self.uid
                    and int(t[1:]) % 2 == remainder]
        return rnd.choice(some) if some else None


class Load:
    """Threads that work until there is trouble."""

    def __init__(self, top, dovecot, uid, book, seed):
        self.top, self.dovecot, self.uid = top, dovecot, uid
        self.book, self.seed = book, seed
        self.stop = threading.Event()
        self.error = None
        self.trouble = []
        self.threads = [threading.Thread(target=self.work, args=(fn, n),
                                         daemon=True)
                        for n, fn in enumerate((self.imap, self.imap,
                                                self.lmtp))]
        self.agents = []

    def start(self):
        for n in range(2):
            self.agents.append(Agent(self.top, self.uid, self.book,
                                     f'{self.seed}/{n}'))
        for t in self.threads + self.agents:
            t.start()

    def all_at_work(self):
        """Or fail: trouble is what a kill brings, and it has not been yet."""
        idle = [t for t in self.threads + self.agents if not t.is_alive()]
        if idle:
            raise AssertionError(f'{len(idle)} clients gave up before the '
                                 f'kill: {self.trouble} {self.error!r}')

    def join(self):
        self.stop.set()
        for t in self.agents + self.threads:
            if isinstance(t, Agent):
                t.going = False
            t.join(60)
            if t.is_alive():
                raise AssertionError('a client hangs')
        if self.error:
            raise self.error

    def work(self, fn, n):
        rnd = random.Random(f'{self.seed}/{n}')
        try:
            fn(rnd, n)
        except TROUBLE as e:
            self.trouble.append(e)
        except Exception as e:
            self.error = e

    def imap(self, rnd, n):
        conn = imapraw.Conn(self.dovecot.imap_port, 'alice', 20)
        while not self.stop.is_set():
            box = rnd.choice(BOXES)
            rnd.choices((self.append, self.store, self.expunge),
                        (4, 5, 1))[0](conn, box, rnd, n)

    def append(self, conn, box, rnd, n):
        text = self.book.begin(box, 'crlf')
        uid = conn.append(box, octets(text, 'crlf'))
        self.book.done(text, uid)
        self.book.acknowledged['append'] += 1

    def store(self, conn, box, rnd, n):
        text = self.book.pick(box, rnd, n)
        if not text:
            return
        if conn.box != box:
            conn.select(box)
        flag, sign = rnd.choice(FLAGS), rnd.choice('++-')
        self.book.open_flags.setdefault(text, set()).add(flag)
        conn.do(f'UID STORE {self.book.uid[text]} {sign}FLAGS ({flag})')
        flags = self.book.flags[text]
        (flags.add if sign == '+' else flags.discard)(flag)
        self.book.open_flags[text].discard(flag)
        self.book.acknowledged['store'] += 1

    def expunge(self, conn, box, rnd, n):
        text = self.book.pick(box, rnd, n)
        if not text:
            return
        if conn.box != box:
            conn.select(box)
        uid = self.book.uid[text]
        with self.book.lock:
            self.book.removing[text] = self.book.there.pop(text)
        conn.do(f'UID STORE {uid} +FLAGS.SILENT (\\Deleted)')
        conn.do(f'UID EXPUNGE {uid}')
        with self.book.lock:
            del self.book.removing[text]
            self.book.gone.add(text)
        self.book.acknowledged['expunge'] += 1

    def lmtp(self, rnd, n):
        while not self.stop.is_set():
            text = self.book.begin('INBOX', 'lmtp')
            with smtplib.LMTP('127.0.0.1', self.dovecot.lmtp_port,
                              timeout=20) as s:
                s.sendmail('a@example.test', 'alice@example.test',
                           octets(text, 'crlf'))
            self.book.done(text)
            self.book.acknowledged['lmtp'] += 1


class Agent(threading.Thread):
    """Delivers as the user, in a process of its own, which says what it has
    begun and what is durable."""

    def __init__(self, top, uid, book, seed):
        super().__init__(daemon=True)
        self.book = book
        ask, told = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(ask[1])
            os.close(told[0])
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            with contextlib.suppress(OSError):
                self.deliver(top, random.Random(seed), os.fdopen(ask[0]),
                             os.fdopen(told[1], 'w'))
            os._exit(0)
        os.close(ask[0])
        os.close(told[1])
        self.ask, self.told = os.fdopen(ask[1], 'w'), os.fdopen(told[0])
        self.rnd = random.Random(seed)
        self.going = True

    @staticmethod
    def deliver(top, rnd, asked, told):
        for line in asked:
            text, box, kind = line.split()
            place = top + ('' if box == 'INBOX' else '/.' + box)
            data = octets(text, kind)
            name = f'{int(time.time())}.{text}.agent'
            fd = os.open(f'{place}/tmp/{name}',
                         os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, data)
            os.fsync(fd)
            os.close(fd)
            if rnd.random() < 0.5:
                os.link(f'{place}/tmp/{name}', f'{place}/new/{name}')
                os.unlink(f'{place}/tmp/{name}')
            else:
                os.rename(f'{place}/tmp/{name}', f'{place}/new/{name}')
            sync_dir(f'{place}/new')
            told.write(text + '\n')
            told.flush()

    def run(self):
        with contextlib.suppress(OSError):
            while self.going:
                box = self.rnd.choice(BOXES)
                kind = self.rnd.choice(('crlf', 'lf', 'noend', '8bit', 'nul'))
                text = self.book.begin(box, kind)
                self.ask.write(f'{text} {box} {kind}\n')
                self.ask.flush()
                if self.told.readline() != text + '\n':
                    break
                self.book.done(text)
                self.book.acknowledged['deliver'] += 1
                time.sleep(0.005)
        with contextlib.suppress(OSError):
            self.ask.close()
        os.waitpid(self.pid, 0)


class Kill(harness.Case):
    def start(self):
        harness.need_dovecot()
        rig = self.rig()
        self.r = rig
        rig.user('alice')
        uw = Uw(rig.legacy_file('alice'), rig.users['alice'])
        uw('make INBOX')
        uw('make mail/Sent')
        self.book = Ledger()
        path = rig.path('text')
        for _ in range(10):
            text = self.book.begin('INBOX', 'crlf')
            with open(path, 'wb') as f:
                f.write(octets(text, 'crlf'))
            uw(f'put INBOX {path} 03-Mar-2003_03:03:03_+0000')
            self.book.done(text)
        uw.close()
        self.seen = {}          # (box, uid): X-Model
        self.validity = {}
        self.now = {}           # X-Model: UID, flags, octets

    def one_round(self, seed, seconds, least=0):
        """@least: so much of each kind is done before the kill, however slow
        the machine is."""
        rig = self.r
        rig.mount(env={})
        dovecot = rig.dovecot(extra='mail_save_crlf = yes\n')
        # It says how it was left.
        dovecot.expected.append('.*')
        self.check(dovecot)
        load = Load(f'{rig.mnt}/alice', dovecot, rig.users['alice'],
                    self.book, seed)
        before = self.book.acknowledged.copy()
        load.start()
        time.sleep(seconds)
        harness.wait_for('work', lambda: load.all_at_work() or all(
            self.book.acknowledged[k] >= before[k] + least for k in KINDS),
            120)
        rig.daemon.kill()
        rig.daemon.wait()
        rig.daemon = None
        load.join()
        self.mop_up(dovecot)

    def mop_up(self, dovecot):
        dovecot.stop()
        rig = self.r
        rig.force(rig.mnt)
        harness.wait_for('the end of the mount', lambda: not
                         harness.mountinfo(rig.mnt))
        # Dovecot could not remove them, and one that does not yet have its
        # owner's number in it is waited for two minutes.
        for path, _, names in os.walk(os.path.join(rig.store, 'alice')):
            for name in names:
                if name.endswith('.lock'):
                    os.unlink(os.path.join(path, name))

    def check(self, dovecot):
        """Everything acknowledged is there, nothing is there twice."""
        conn = imapraw.Conn(dovecot.imap_port, 'alice')
        found = collections.Counter()
        for box in BOXES:
            conn.select(box)
            was = self.validity.setdefault(box, conn.uidvalidity)
            self.assertEqual(was, conn.uidvalidity, box)
            got = conn.fetch('1:*', 'FLAGS BODY.PEEK[]') if conn.uids else {}
            for uid, facts in sorted(got.items()):
                text = self.message(box, uid, facts)
                found[text] += 1
            self.passed(box, got)
        conn.logout()
        self.assertFalse([t for t, n in found.items() if n > 1],
                         'there twice')
        book = self.book
        self.assertFalse(sorted(set(book.there) - set(found)),
                         'acknowledged and lost')
        self.assertFalse(sorted(book.gone & set(found)), 'expunged and back')
        strange = set(found) - set(book.there) - set(book.trying) \
            - set(book.removing)
        self.assertFalse(strange, 'from nowhere')
        self.settle(found)
        for box in BOXES:
            try:
                harness.wait_for(f'c-client agrees on {box}',
                                 lambda b=box: self.mbx_agrees(b))
            except AssertionError as e:
                self.fail(f'{e}: {self.last}; '
                          f'{self.r.folder_status("alice", box)}')

    def message(self, box, uid, facts):
        """The X-Model of a message, whose octets and flags are right."""
        data = bytes(facts[b'BODY[]'])
        text = data.partition(b'X-Model: ')[2].partition(b'\r\n')[0].decode()
        old = self.seen.setdefault((box, uid), text)
        self.assertEqual(old, text, f'{box}: UID {uid} is another message')
        book = self.book
        entry = (book.there.get(text) or book.trying.get(text)
                 or book.removing.get(text))
        if entry:
            place, kind = entry
            self.assertEqual(place, box)
            if kind == 'lmtp':
                self.assertTrue(data.endswith(crlf(octets(text, 'crlf'))))
            else:
                self.assertEqual(data, harness.through_dovecot(
                    octets(text, kind)))
        if text in book.uid:
            self.assertEqual(book.uid[text], uid, f'UID of {text}')
        flags = lower(f.decode() for f in facts[b'FLAGS'])
        if text in book.flags and text in book.there:
            unsure = lower(book.open_flags.get(text, ()))
            self.assertEqual(flags - unsure,
                             lower(book.flags[text]) - unsure, text)
        self.now[text] = uid, {f.decode() for f in facts[b'FLAGS']} \
            - {'\\Recent'}, data
        return text

    def passed(self, box, got):
        """No UID that was known names nothing, unless it was removed."""
        for (b, uid), text in list(self.seen.items()):
            if b == box and uid not in got:
                self.assertNotIn(text, self.book.there,
                                 f'{box}: UID {uid} is gone')

    def settle(self, found):
        """From now on it is known what came of what was under way."""
        book = self.book
        for text, entry in list(book.trying.items()):
            if text in found:
                book.there[text] = entry
        book.trying.clear()
        for text, entry in book.removing.items():
            if text in found:
                book.there[text] = entry
            else:
                book.gone.add(text)
        book.removing.clear()
        book.open_flags.clear()
        for text in book.there:
            book.uid[text], book.flags[text], _ = self.now[text]

    def mbx_agrees(self, box):
        path = self.r.legacy_file('alice', *(
            [box] if box == 'INBOX' else ['mail', box]))
        dump = next(iter(harness.cc_dump(path).values()))['mail']
        want = collections.Counter(
            (self.hash_of(t), ','.join(sorted(
                f for f in lower(self.book.flags[t]) if f[0] != '\\')) or '-')
            for t, (b, _) in self.book.there.items() if b == box)
        got = collections.Counter((m['sha256'], m['keywords'])
                                  for m in dump.values())
        self.last = want - got, got - want
        return want == got

    def hash_of(self, text):
        kind = self.book.there[text][1]
        return sha(self.now[text][2] if kind == 'lmtp'
                   else crlf(octets(text, kind)))

    def rounds(self, count, seed):
        rnd = random.Random(seed)
        self.start()
        for n in range(count):
            # Half of them at any moment, logins too, half under full load.
            self.one_round(f'{seed}/{n}', 0.3 + 2.2 * rnd.random(),
                           0 if n % 2 else 5)
        self.r.mount()
        dovecot = self.r.dovecot(extra='mail_save_crlf = yes\n')
        dovecot.expected.append('.*')
        self.check(dovecot)
        total = self.book.acknowledged
        print(f'# seed {seed}: {count} kills, acknowledged: '
              + ', '.join(f'{n} {k}' for k, n in total.most_common()))
        for what in KINDS:
            self.assertGreater(total[what], 2 * count, what)

    def test_killed_under_load(self):
        seed = random.SystemRandom().randrange(10**6)
        self.rounds(5, seed)


def by_hand(argv):
    p = argparse.ArgumentParser()
    p.add_argument('--rounds', type=int, default=30)
    p.add_argument('--seed', type=int, default=1)
    args = p.parse_args(argv)
    Kill.test_killed_under_load = lambda self: self.rounds(args.rounds,
                                                           args.seed)
    del sys.argv[1:]


if __name__ == '__main__':
    if any(a.startswith('--') for a in sys.argv[1:]):
        by_hand(sys.argv[1:])
    harness.main()
