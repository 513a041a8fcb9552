#!/usr/bin/python3
"""Two servers at once: c-client and Dovecot on the same mailboxes, and deliveries
to both, at random. Whatever order things came in, no mail is lost,
none is there twice, none has other octets, nobody's flag is undone, UIDs and
UIDVALIDITY stay; and in every pause both sides say the same.

    tests/peers/test_live.py                        short, as tests/run does
    tests/peers/test_live.py --seed 7 --seconds 120 [--seeds N] [--users 2]
                             [--uw N] [--imap N] [--mailers N]

The choices of each actor come from the seed; how they interleave does not, so a
seed that failed need not fail again. What everybody did is kept in a file that
is named then.
"""

import argparse
import contextlib
import os
import random
import re
import sys
import tempfile
import threading
import time
import traceback

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'dovecot')]
import harness          # noqa: E402
import harness_agents   # noqa: E402
import imapraw          # noqa: E402
import model_mail       # noqa: E402
from live_actors import WORDS, Deliverer    # noqa: E402
from live_book import Book, Wrong   # noqa: E402
from live_check import Checkpoint   # noqa: E402
from live_imap import HEADER, Imap, mark_of     # noqa: E402
from live_uw import Uw, UwProcess   # noqa: E402

BOXES = ('INBOX', 'Work', 'Lists')
HELD_MS = 10
# What UW does may be told: two who give the same UID to two mails, and, where
# its processes disturb each other, an old header that one of them wrote.
UWS_FAULTS = ('messages with another UID',)
WILD_FAULTS = ('UIDLAST was .* below a UID in use', 'reset UIDVALIDITY',
               'numbered', 'keyword')
UNREADABLE = re.compile(r'imap\((\w+)\).* Mailbox (\w+): UID=(\d+): read\('
                        r'.* failed: Input/output error')
OLD = 6             # mails in each mailbox before


class World:
    """A rig, a Dovecot, and what everybody may know of them."""

    def __init__(self, conf):
        self.conf, self.book = conf, Book()
        self.boxes = BOXES[:conf['boxes']]
        self.stop = threading.Event()
        self.times, self.times_lock = {}, threading.Lock()
        self.phase = 'start'
        self.slots = {}             # (box, slot): keywords there
        self.clashes = 0
        self.resets = {}            # box: UIDVALIDITYs that UW made up
        self.known_words = list(WORDS)
        self.fresh_words = []
        self.turn = 'uw'
        self.rig = harness.Rig(prefix='jm-live.')
        self.scratch = tempfile.mkdtemp(dir=self.rig.dir)
        os.chmod(self.scratch, 0o755)
        self.users = list(harness_agents.USERS)[:conf['users']]
        self.validity = {}
        for user in self.users:
            self.make(user)
        extra = f'mail_save_crlf = {"yes" if conf["save_crlf"] else "no"}\n'
        self.dovecot = self.rig.dovecot(extra=extra)
        # The same on a disk, to compare with.
        self.plain = self.rig.dovecot(
            extra=extra, location=f'maildir:{self.rig.path("home")}/%n/Maildir')
        for user in self.users:
            self.make_plain(user)

    def mount(self):
        self.rig.mount()
        for user in self.users:
            self.learn(user)
        self.phase = 'both'

    @staticmethod
    def uw_name(name):
        return name if name == 'INBOX' else 'mail/' + name

    def mbx(self, box):
        return self.rig.legacy_file(box[0], self.uw_name(box[1]))

    def make(self, user):
        """Mailboxes of UW's, with all the keywords."""
        home = self.rig.user(user, uid=harness_agents.USERS[user])
        uw = UwProcess(home, self.rig.users[user],
                       f'{self.rig.logs}/make.cc')
        for name in self.boxes:
            self.must(uw, f'make {self.uw_name(name)}')
            for n in range(OLD):
                mark = f'old.{n}' if n else f'anchor.{user}.{name}'
                self.put(uw, (user, name), mark)
            self.must(uw, f'flag {self.uw_name(name)} + 1 '
                      + ' '.join(self.known_words))
            dump = next(iter(harness.cc_dump(
                self.mbx((user, name))).values()))
            self.validity[user, name] = dump['uidvalidity']
        uw.close()

    @staticmethod
    def must(uw, line):
        ok, said = uw.ask(line)
        if not ok:
            raise Wrong(f'c-client: {line}: {uw.complaint()}')
        return said

    def make_plain(self, user):
        conn = imapraw.Conn(self.plain.imap_port, user)
        for name in self.boxes:
            if name != 'INBOX':
                conn.do(f'CREATE {name}')
            conn.select(name)
            self.validity[user + '.plain', name] = conn.uidvalidity
        conn.close()

    def put(self, uw, box, mark):
        path = os.path.join(self.scratch, 'put')
        octets = model_mail.octets(mark, 'crlf')
        with open(path, 'wb') as f:
            f.write(octets)
        mail = self.book.new(
            box, mark, octets, None,
            self.known_words if mark.startswith('anchor') else (), 'old')
        self.must(uw, f'put {self.uw_name(box[1])} {path} -')
        mail.birth.done()

    def learn(self, user):
        """UIDVALIDITY and UIDs as they are at the beginning."""
        conn = imapraw.Conn(self.dovecot.imap_port, user)
        for name in self.boxes:
            conn.select(name)
            box, uids = (user, name), imapraw.as_set(conn.uids)
            if conn.uidvalidity != self.validity[box]:
                raise Wrong(f'{box}: UIDVALIDITY is {conn.uidvalidity}')
            for uid, facts in conn.fetch(uids, HEADER).items():
                self.book.seen('imap', box, conn.uidvalidity, uid,
                               mark_of(facts), 'all')
        conn.logout()
        conn.close()

    # What actors ask

    def took(self, kind, seconds):
        with self.times_lock:
            self.times.setdefault((self.phase, kind), []).append(seconds)

    def all_words(self):
        return set(self.known_words) | set(self.fresh_words)

    def new_word(self, side, box):
        """A keyword that nobody has used. Two who make one at once take the
        same slot, which is UW's own fault, so sides take turns."""
        with self.times_lock:
            wild = self.conf['wild'] and len(self.fresh_words) < 4
            if side != self.turn and not wild or len(self.all_words()) >= 20:
                return None
            word = f'New{len(self.all_words())}'
            self.fresh_words.append(word)
            self.turn = 'nobody'
            return word

    def table(self, box, words):
        """A session of UW's has these keywords, each in its slot."""
        with self.times_lock:
            for slot, word in enumerate(words):
                self.slots.setdefault((box, slot), set()).add(word)

    def words_of_nobody(self):
        """Keywords of this round, when two have taken a slot for their own:
        the later one's name is that of all mails which have either, and of
        their copies in other mailboxes."""
        clashes = sum(len(words) > 1 for words in self.slots.values())
        self.clashes = max(self.clashes, clashes)
        return set(self.fresh_words) if clashes else set()

    def is_known(self, flag):
        """Whether its value can be told from what was done. Sessions of UW
        that do not look before they write undo each other's changes."""
        return not self.conf['blind'] and flag not in model_mail.lower(
            self.words_of_nobody())

    def uw_reset(self, box, validity):
        self.resets.setdefault(box, set()).add(validity)


class Run:
    def __init__(self, conf):
        self.conf = conf
        self.world = World(conf)
        self.actors = []
        self.rounds = self.looked = 0
        for user in self.world.users:
            self.actors += self.cast(user)

    def cast(self, user):
        """Two processes of UW's that write flags into one mailbox, one after
        the other within a second, can bring each other to write an old header
        back (docs/MBX.md, Writing, 5); so one of them opens it to write, the
        others to read, unless the run is a wild one."""
        conf, w = self.conf, self.world
        out = [Uw(w, f'uw{i}.{user}', user,
                  [b for n, b in enumerate(w.boxes)
                   if conf['wild'] or n % conf['uw'] == i])
               for i in range(conf['uw'])]
        out += [Imap(w, f'imap{i}.{user}', user)
                for i in range(conf['imap'])]
        out += [Deliverer(w, f'mail{i}.{user}', user)
                for i in range(conf['mailers'])]
        for a in out:
            a.start()
        return out

    def alone(self):
        """UW as it is without us, and Dovecot on a disk beside it: what they
        take then is what the rest is compared with."""
        plain = [Imap(self.world, f'plain{i}.{user}', f'{user}.plain',
                      self.world.plain)
                 for i in range(self.conf['imap'])
                 for user in self.world.users]
        for a in plain:
            a.start()
        try:
            self.world.phase = 'alone'
            self.work(plain + [a for a in self.actors
                               if not isinstance(a, Imap)],
                      self.conf['alone'])
        finally:
            for a in plain:
                a.over = True
                a.go.set()
                a.close()

    def uws(self):
        return [a for a in self.actors if isinstance(a, Uw)]

    def work(self, actors, seconds):
        self.world.stop.clear()
        for a in actors:
            a.rest.clear()
            a.go.set()
        self.world.stop.wait(seconds)
        self.world.stop.set()
        for a in actors:
            if not a.rest.wait(120):
                raise Wrong(f'{a.name} does not come to an end')
        errors = [f'{a.name}: {a.error}' for a in actors if a.error]
        if errors:
            raise Wrong('\n'.join(errors))

    def round(self, seconds):
        self.rounds += 1
        self.world.turn = self.world.turn if self.world.turn != 'nobody' \
            else random.Random(self.rounds).choice(('uw', 'imap'))
        self.work(self.actors, seconds)
        if self.conf['wild']:
            for a in self.uws():
                a.leave()
        self.book_note('checkpoint')
        self.looked += Checkpoint(self.world, self.uws()).check()
        self.spread_words()

    def book_note(self, text):
        self.world.book.note('all', text)

    def spread_words(self):
        """Keywords that somebody made are made everywhere, by one session, as
        long as everybody is quiet."""
        fresh = self.world.fresh_words
        if not fresh:
            return
        for a in self.uws():
            a.leave()
        for user in self.world.users:
            uw = next(a for a in self.uws() if a.user == user)
            for name in self.world.boxes:
                mail = self.world.book.find((user, name),
                                            f'anchor.{user}.{name}')
                for word in fresh:
                    mail.flags[model_mail.lower([word]).pop()] = [
                        mail.birth]
                uw.ask(f'flag {self.world.uw_name(name)} + '
                       f'{mail.uid} {" ".join(fresh)}')
        self.looked += Checkpoint(self.world, self.uws()).check()
        self.world.known_words += fresh
        self.world.fresh_words = []
        self.world.slots = {}

    def run(self):
        if self.conf['alone']:
            self.alone()
        for a in self.uws():
            a.leave()
        self.world.mount()
        end = time.monotonic() + self.conf['seconds']
        while self.rounds < 2 or time.monotonic() < end:
            self.round(self.conf['round'])
        self.check_locks(self.world.rig.status()['locks'])

    def check_locks(self, locks):
        """UW waits for us ten milliseconds at most (docs/DESIGN.md), where
        the processor is not somebody else's in the middle of it."""
        self.locks = locks
        if not locks['taken'] or locks['median_us'] > HELD_MS * 1000 \
                or locks['p99_us'] > 10 * HELD_MS * 1000:
            raise Wrong(f'UW\'s locks: {locks}')

    def close(self, look):
        problems = []
        for a in self.actors:
            a.over = True
            a.go.set()
        for a in self.actors:
            with contextlib.suppress(Exception):
                a.close()
        rig = self.world.rig
        try:
            if look:
                self.world.dovecot.stop()
                self.world.plain.stop()
                rig.unmount()
                problems = [p for p in rig.check_log()
                            if not self.is_uws_fault(p)]
        finally:
            self.logs = rig.log(), self.world.dovecot.log()
            rig.close()
            if not os.environ.get('JANUSMAIL_KEEP'):
                rig.remove()
        if problems:
            raise Wrong('\n'.join(problems[:8]))


    def is_uws_fault(self, line):
        """What may be said, because it was none of ours."""
        m = UNREADABLE.search(line)
        if m:
            return self.was_expunged(*m.groups())
        return any(re.search(p, line) for p in UWS_FAULTS
                   + WILD_FAULTS * self.conf['wild'])

    def was_expunged(self, user, name, uid):
        """A mail that Dovecot could not read; perhaps nobody saw it there."""
        return not any(m.uid == int(uid) and not m.gone
                       for m in self.world.book.in_box((user, name)))


def keep_log(run):
    path = os.path.join(tempfile.gettempdir(),
                        f'live-{run.conf["seed"]}.log')
    with open(path, 'w', encoding='utf-8', errors='replace') as f:
        f.write(f'{run.conf}\n' + '\n'.join(run.world.book.lines)
                + '\n--- janusmaild\n%s\n--- Dovecot\n%s' % run.logs)
    return path


def attempt(conf):
    """None, or what went wrong."""
    run = None
    try:
        run = Run(conf)
        run.run()
    except Exception:
        text = traceback.format_exc()
        if run:
            run.close(False)
            text += f'\nwhat was done: {keep_log(run)}'
        return text
    attempt.run = run
    try:
        run.close(True)
    except Exception:
        return traceback.format_exc() + f'\nwhat was done: {keep_log(run)}'
    return None


def configuration(seed, **more):
    rnd = random.Random(f'conf {seed}')
    return {'seed': seed, 'users': 1, 'boxes': 3, 'uw': rnd.choice((1, 2, 2)),
            'imap': rnd.choice((1, 2)), 'mailers': 1, 'round': 3,
            'nap': rnd.choice((0.01, 0.05)), 'seconds': 7, 'alone': 2, 'wild': False, 'blind': False,
            'save_crlf': rnd.random() < 0.5, **more}


def at(times, share):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))]


def times(run):
    """How long UW's commands and deliveries took, without us and with us."""
    w = run.world
    for kind in sorted({k for _, k in w.times if not k.startswith('imap')}):
        both = w.times.get(('both', kind), ())
        alone = w.times.get(('alone', kind), ())
        if len(both) < 5 or len(alone) < 5:
            continue
        text = ', '.join(
            f'{name} {at(alone, s) * 1000:.1f} -> {at(both, s) * 1000:.1f} ms '
            f'(x {at(both, s) / at(alone, s):.1f})'
            for name, s in (('median', .5), ('95 %', .95)))
        print(f'#   {kind:11} {len(alone):5} -> {len(both):5}: {text}, '
              f'longest {max(alone) * 1000:.0f} -> {max(both) * 1000:.0f}')
    k = run.locks
    print(f'#   UW\'s locks held by us: {k["taken"]} times, median '
          f'{k["median_us"] / 1000} ms, 99 % {k["p99_us"] / 1000}, longest '
          f'{k["longest_us"] / 1000}', flush=True)


def summary(run):
    did = {}
    for a in run.actors:
        kind = type(a).__name__
        did[kind] = did.get(kind, 0) + a.did
    return ', '.join(f'{k} {n}' for k, n in did.items()) + \
        f', {run.rounds} rounds, {run.looked} mails compared, ' \
        f'UIDVALIDITY reset by UW: {len(run.world.resets)}, ' \
        f'keywords that clashed: {run.world.clashes}'


def try_seed(conf):
    """None or a text."""
    print(f'# live: seed {conf["seed"]}: {conf}', flush=True)
    text = attempt(conf)
    if text:
        return f'seed {conf["seed"]}: {text}'
    print('# ' + summary(attempt.run), flush=True)
    times(attempt.run)
    return None


class Live(harness.Case):
    def one(self, seed, **more):
        harness.need_mount()
        harness.need_cclient()
        harness.need_dovecot()
        harness_agents.need()
        text = try_seed(configuration(seed, **more))
        if text:
            self.fail(text)

    def test_one_user(self):
        self.one(1)

    def test_two_users(self):
        self.one(2, users=2)

    def test_many_who_write(self):
        """Processes of UW's that undo each other's work, and make keywords in
        the same slot: no matter to us."""
        self.one(3, uw=3, wild=True)



def by_hand(argv):
    p = argparse.ArgumentParser()
    p.add_argument('--seed', type=int)
    p.add_argument('--seeds', type=int, default=1, help='so many in a row')
    for name in ('seconds', 'alone', 'boxes', 'users', 'uw', 'imap', 'mailers', 'round'):
        p.add_argument('--' + name, type=int)
    p.add_argument('--nap', type=float)
    p.add_argument('--wild', action='store_true', default=None,
                   help='several processes of UW write into one mailbox')
    p.add_argument('--blind', action='store_true', default=None,
                   help='... and do not look before: they reset UIDVALIDITY')
    args = p.parse_args(argv)
    first = args.seed if args.seed is not None else random.randrange(10**6)
    more = {k: v for k, v in vars(args).items()
            if v is not None and k not in ('seed', 'seeds')}
    bad = 0
    for seed in range(first, first + args.seeds):
        text = try_seed(configuration(seed, **more))
        if text:
            print(text, flush=True)
            bad += 1
    return 1 if bad else 0


if __name__ == '__main__':
    if any(a.startswith('--') for a in sys.argv[1:]):
        harness.need_mount()
        status = by_hand(sys.argv[1:])
        harness.clean_up()
        sys.exit(status)
    harness.main()
