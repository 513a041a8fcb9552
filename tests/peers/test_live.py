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
import model_check      # noqa: E402
import model_mail       # noqa: E402
from live_actors import WORDS, Deliverer    # noqa: E402
from live_book import Book, Wrong, done   # noqa: E402
from live_imap import HEADER, Imap, mark_of     # noqa: E402
from live_uw import Uw, UwProcess, flags_of_dump    # noqa: E402

BOXES = ('INBOX', 'Work', 'Lists')
HELD_MS = 10
PATIENCE = 30       # seconds until both sides must agree
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

    def words_of_nobody(self, box):
        """Keywords of this round, when two have taken a slot for their own:
        the later one's name is that of all mails which have either."""
        if any(b == box and len(words) > 1
               for (b, _), words in self.slots.items()):
            self.clashes += 1
            return set(self.fresh_words)
        return set()

    def uw_reset(self, box, validity):
        self.resets.setdefault(box, set()).add(validity)


def table_of(path):
    """The keywords in the header of an MBX."""
    with open(path, 'rb') as f:
        words = f.read(2048)[25:].decode().split('\r\n')[:30]
    return words[:words.index('')] if '' in words else words


class Checkpoint:
    """Nobody does anything any more: do all sides say the same, and is it what
    must have come of what was done?"""

    def __init__(self, world, uws):
        self.world, self.book = world, world.book
        self.sessions = [(a, s) for a in uws for s in a.sessions.values()]
        self.began, self.nudges = time.monotonic(), 0

    def check(self):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self.all()
            except model_check.Disagreement as e:
                if time.monotonic() > end:
                    raise Wrong(f'not after {PATIENCE} s: {e}') from None
            time.sleep(0.1)

    def look(self):
        """Dovecot gives numbers to what agents put into new/."""
        for user in self.world.users:
            conn = imapraw.Conn(self.world.dovecot.imap_port, user)
            try:
                for name in self.world.boxes:
                    conn.select(name)
            finally:
                conn.close()

    def all(self):
        self.look()
        status = {(u['name'], f['name']): f
                  for u in self.world.rig.status()['users']
                  for f in u['folders']}
        found = {}
        for user in self.world.users:
            conn = imapraw.Conn(self.world.dovecot.imap_port, user)
            try:
                for name in self.world.boxes:
                    box = user, name
                    found[box] = self.box(conn, box, status[box])
            finally:
                conn.close()
        for actor, s in self.sessions:
            self.session(actor, s, found[s.box][1])
        for box, (mails, _) in found.items():
            self.judge(box, mails)
        return sum(len(mails) for mails, _ in found.values())

    def session(self, actor, s, dump):
        differs = actor.differs(s, dump)
        if not differs:
            return
        why, perhaps_uw = differs
        if perhaps_uw and time.monotonic() > self.began + 2:
            self.nudge(s.box)
        raise model_check.Disagreement(
            f'{actor.name} {s.word}, {s.box}: {why}')

    def nudge(self, box):
        """A change through Dovecot, which no session misses, shows it all that
        there was before."""
        mail = self.book.find(box, f'anchor.{box[0]}.{box[1]}')
        on = False in mail.allowed('\\Flagged')
        conn = imapraw.Conn(self.world.dovecot.imap_port, box[0])
        try:
            conn.select(box[1])
            conn.do(f'UID STORE {mail.uid} {"+" if on else "-"}FLAGS '
                    '(\\Flagged)')
            conn.do('NOOP')
        finally:
            conn.close()
        mail.flags['\\Flagged'] = [done(on)]
        self.nudges += 1

    def box(self, conn, box, status):
        """Mails as Dovecot, the view and c-client have them, all the same."""
        mirror = status['delivered']
        if mirror['waiting'] or mirror['no_uid']:
            raise model_check.Disagreement(f'{box}: {mirror}')
        conn.select(box[1])
        got = conn.fetch('1:*', 'FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[]')
        top = f'{self.world.rig.mnt}/{box[0]}' + (
            '' if box[1] == 'INBOX' else '/.' + box[1])
        view = model_check.view_of(top, f'{box[0]}: {box[1]}', got)
        dump = next(iter(harness.cc_dump(self.world.mbx(box)).values()))
        others = {d['dovecot']: d['mbx'] for d in
                  status['legacy'].get('disagreements', ())}
        if {others.get(u, u) for u in got} != set(dump['mail']):
            raise model_check.Disagreement(
                f'{box}: Dovecot has UIDs {sorted(got)}, the MBX '
                f'{sorted(dump["mail"])}, {others} being known')
        mails = {uid: self.one(box, uid, got[uid], view[uid],
                               dump['mail'][others.get(uid, uid)])
                 for uid in got}
        for what, is_ in (('Dovecot', conn.uidvalidity),
                          ('the MBX', dump['uidvalidity'])):
            if is_ != self.world.validity[box]:
                raise model_check.Disagreement(
                    f'{box}: UIDVALIDITY of {what} is {is_} instead of '
                    f'{self.world.validity[box]}')
        return mails, dump

    def one(self, box, uid, imap, file, cc):
        where = f'{box}: UID {uid}'
        octets = model_mail.crlf(file['octets'])
        flags = {f.decode() for f in imap[b'FLAGS']}
        for what, a, b in (
                ('flags of IMAP and the view', model_mail.lower(flags),
                 model_mail.lower(file['flags'])),
                ('flags of IMAP and the MBX', model_mail.lower(flags),
                 flags_of_dump(cc)),
                ('octets of IMAP and the view', bytes(imap[b'BODY[]']),
                 harness.through_dovecot(octets)),
                ('octets of the view and the MBX', cc['sha256'] in (
                    model_check.sha(octets),
                    model_check.sha(file['octets'])), True),
                ('dates', time.strftime('%Y-%m-%dT%H:%M:%SZ',
                                        time.gmtime(file['date'])),
                 cc['date']),
                ('dates of IMAP and the view', model_mail.stamp_of(
                    imap[b'INTERNALDATE'].decode()), file['date'])):
            if a != b:
                raise model_check.Disagreement(f'{where}: {what}: {a!r}, '
                                               f'{b!r}')
        mark = octets.partition(b'X-Model: ')[2].partition(b'\r\n')[0]
        return mark.decode(), flags, file['date'], octets

    def judge(self, box, mails):
        """All agree; but is it right?"""
        self.book.note('all', f'{box}: ' + ', '.join(
            f'{uid} {m[0]} {" ".join(sorted(m[1]))}'
            for uid, m in sorted(mails.items())))
        self.book.check_there(box, [m[0] for m in mails.values()], 'all')
        self.world.table(box, table_of(self.world.mbx(box)))
        ignored = model_mail.lower(self.world.words_of_nobody(box))
        for uid, (mark, flags, date, octets) in mails.items():
            mail = self.book.seen('imap', box, self.world.validity[box], uid,
                                  mark, 'all')
            self.book.check_mail(mail, flags, date, octets, 'all', ignored)
            self.book.settled(mail, flags)
        for mail in self.book.in_box(box):
            if mail.mark not in {m[0] for m in mails.values()}:
                mail.gone.setdefault('all', time.monotonic())


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
                            if 'messages with another UID' not in p]
        finally:
            rig.close()
            if not os.environ.get('JANUSMAIL_KEEP'):
                rig.remove()
        if problems:
            raise Wrong('\n'.join(problems[:8]))


def keep_log(run):
    path = os.path.join(tempfile.gettempdir(),
                        f'live-{run.conf["seed"]}.log')
    with open(path, 'w', encoding='utf-8', errors='replace') as f:
        f.write(f'{run.conf}\n' + '\n'.join(run.world.book.lines)
                + '\n--- janusmaild\n' + run.world.rig.log()
                + '\n--- Dovecot\n' + run.world.dovecot.log())
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
            text += f'\nwhat was done: {keep_log(run)}'
            run.close(False)
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
            'nap': rnd.choice((0.01, 0.05)), 'seconds': 7, 'alone': 2, 'wild': False,
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
