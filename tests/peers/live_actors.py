"""Those who work on the mailboxes of a live test, each a thread: sessions of
c-client (live_uw.py), IMAP sessions (live_imap.py), delivery agents. What they
do is random, from a seed; what comes of it they note in the Book (live_book.py),
which objects to what cannot be."""

import contextlib
import random
import threading
import time
import traceback

import harness_agents
import model_mail
from live_book import Change

SYSTEM = ('\\Seen', '\\Answered', '\\Flagged', '\\Draft')
WORDS = ('$Label1', 'NonJunk', 'Urgent', 'todo', 'x-1')
LIMIT = 40      # mails in a mailbox, about


def is_anchor(mail):
    """Never expunged, so that a mailbox is never empty."""
    return mail.mark.startswith('anchor')


class Actor(threading.Thread):
    """Works until told to stop, and again when there is another round."""

    def __init__(self, world, name, user):
        super().__init__(daemon=True, name=name)
        self.world, self.book, self.user = world, world.book, user
        self.rnd = random.Random(f'{world.conf["seed"]}/{name}')
        self.go, self.rest = threading.Event(), threading.Event()
        self.over = False
        self.error = None
        self.did = 0

    def note(self, text):
        self.book.note(self.name, text)

    @contextlib.contextmanager
    def timed(self, kind):
        began = time.monotonic()
        yield
        self.world.took(kind, time.monotonic() - began)

    def run(self):
        while self.go.wait() and not self.over:
            self.go.clear()
            try:
                while True:     # at least once
                    self.one()
                    self.did += 1
                    if self.world.stop.is_set():
                        break
                    self.pause()
                self.round_ends()
            except Exception:
                self.error = traceback.format_exc()
                self.note('FAILED: ' + self.error.strip().splitlines()[-1])
                self.world.stop.set()
            self.rest.set()

    def pause(self):
        self.world.stop.wait(self.rnd.expovariate(1) * self.world.conf['nap'])

    def round_ends(self):
        pass

    def close(self):
        pass

    def pick(self, table):
        kinds, weights = zip(*table.items())
        return self.rnd.choices(kinds, weights)[0]

    def one(self):
        getattr(self, '_' + self.pick(self.WEIGHTS))()

    # What several need

    def box(self):
        return self.user, self.rnd.choice(self.world.boxes)

    def full(self, box):
        return len([m for m in self.book.in_box(box)
                    if not m.gone]) >= LIMIT

    def words(self, box, most=2):
        pool = SYSTEM + tuple(self.world.known_words)
        return sorted(set(self.rnd.choices(pool, k=self.rnd.randrange(
            most + 1))))

    def date(self):
        return self.rnd.randrange(631152000, 1760000000)

    def some(self, mails, most=4):
        mails = [m for m in mails if m and not is_anchor(m)]
        n = min(len(mails), self.rnd.randint(1, most))
        return self.rnd.sample(mails, n)

    def flag_changes(self, mails, flags, value, since=None):
        """Notes what is about to be done. Dovecot writes nothing where its
        session believes that it is so already; what it believes is at least
        as new as since."""
        out = []
        for mail in mails:
            for flag in flags:
                change = Change(value, self.SIDE)
                if since and value in mail.values_since(flag, since):
                    change.sure = False
                mail.change(flag, change)
                out.append(change)
        return out


def all_done(changes, sure=True):
    for c in changes:
        c.done() if sure else c.doubtful()


class Deliverer(Actor):
    """One mail after the other, by one program after the other."""

    WEIGHTS = {'dmail': 6, 'tmail': 3, 'procmail': 3, 'maildrop': 1, 'lda': 2,
               'lmtp': 3}
    UWS = ('dmail', 'tmail')
    FOLDERS = ('procmail', 'maildrop', 'lda')

    def __init__(self, world, name, user):
        super().__init__(world, name, user)
        self.agents = harness_agents.Agents(world.rig, world.dovecot, user)

    def one(self):
        agent = self.pick({k: w for k, w in self.WEIGHTS.items()
                           if k in self.UWS or self.world.phase == 'both'})
        box = self.box() if agent in self.FOLDERS else (self.user, 'INBOX')
        if self.full(box):
            self.world.stop.wait(0.05)
            return
        mark = self.book.new_mark(self.name)
        octets = model_mail.octets(mark, 'lf')
        mail = self.book.new(box, mark, octets, None, (), agent)
        folder = '' if box[1] == 'INBOX' else '.' + box[1]
        with self.timed(agent):
            getattr(self.agents, agent)(folder, octets.decode())
        mail.birth.done()
        self.note(f'{agent} {box[1]} {mark}')
