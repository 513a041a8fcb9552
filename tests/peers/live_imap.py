"""IMAP sessions with Dovecot, for a live test."""

import time

import harness
import imapraw
import model_mail
from live_actors import SYSTEM, Actor, all_done
from live_book import DELETED, Change, Wrong

# Where UW has a mailbox locked at the moment, Dovecot is told how it was.
BEHIND = 1.0
HEADER = 'BODY.PEEK[HEADER.FIELDS (X-MODEL)]'


def mark_of(facts):
    """The mark in what FETCH of HEADER says; empty when the mail is gone."""
    text = next((bytes(v) for v in facts.values()
                 if isinstance(v, bytearray)), b'')
    return text.partition(b':')[2].strip().decode()


class Imap(Actor):
    """One IMAP session with Dovecot."""

    SIDE = 'imap'
    WEIGHTS = {'select': 3, 'noop': 6, 'append': 7, 'store': 16,
               'new_word': 1, 'copy': 4, 'move': 4, 'expunge': 3,
               'uid_expunge': 4, 'read': 8, 'idle': 1, 'folder': 1}

    def __init__(self, world, name, user, dovecot=None):
        super().__init__(world, name, user)
        self.dovecot = dovecot or world.dovecot
        self.conn = None
        self.box_now = None
        self.mails = {}         # UID: Mail
        self.synced = 0         # when it last learnt what others did
        self.since = self.asked = 0     # the last two commands
        self.own = None         # a folder of this session

    def do(self, what, fn, *args):
        # What is learnt now may have been announced by the one before.
        self.since, self.asked = self.asked, time.monotonic()
        with self.timed('imap ' + what.split()[0]):
            try:
                got = fn(*args)
            except imapraw.Refused as e:
                self.note(f'{what} -> {e}')
                raise
        self.note(f'{what} -> ok')
        return got

    def one(self):
        """Dovecot ends a session that cannot read what it has opened: UW has
        expunged that mail, and moved others over it."""
        try:
            super().one()
        except imapraw.Broken as e:
            if 'FETCH failed' not in str(e):
                raise
            self.note(f'dropped: {e}')
            self.conn.close()
            self.conn, self.box_now, self.mails = None, None, {}

    def cmd(self, text):
        return self.do(text, self.conn.do, text)

    def selected(self):
        if not self.conn:
            self.conn = imapraw.Conn(self.dovecot.imap_port,
                                     self.user.partition('.')[0])
        if not self.box_now:
            self._select()
        return self.conn

    def learn(self):
        """What Dovecot shows now."""
        c, box = self.conn, self.box_now
        c.sync()
        # More may have come while it asked.
        fresh = [u for u in c.uids if u and u not in self.mails]
        if fresh:
            heads = c.fetch(imapraw.as_set(fresh), HEADER)
            for uid, facts in heads.items():
                self.appeared(uid, facts)
        for uid in set(self.mails) - set(c.uids):
            self.book.went('imap', self.mails.pop(uid), self.name)

    def appeared(self, uid, facts):
        mark = mark_of(facts)
        if not mark:
            return      # it went meanwhile
        mail = self.book.seen('imap', self.box_now, self.conn.uidvalidity,
                              uid, mark, self.name)
        self.book.appeared('imap', mail, self.since, self.name)
        self.mails[uid] = mail

    def uids(self, mails):
        return [u for u, m in self.mails.items() if m in mails]

    # Commands

    def _select(self):
        if not self.conn:
            return self.selected()
        self.box_now, self.mails = self.box(), {}
        self.do(f'SELECT {self.box_now[1]}', self.conn.select,
                self.box_now[1])
        if self.conn.uidvalidity != self.world.validity[self.box_now]:
            raise Wrong(f'{self.name}: {self.box_now}: UIDVALIDITY is '
                        f'{self.conn.uidvalidity}')
        self.learn()
        self.synced = self.asked - BEHIND

    def _noop(self):
        self.selected()
        self.cmd('NOOP')
        self.learn()
        self.synced = self.asked - BEHIND

    def _idle(self):
        c = self.selected()
        self.do('IDLE', c.idle, self.rnd.random() / 2)
        self.learn()

    def _append(self):
        self.selected()
        box = self.box()
        if self.full(box):
            return self._expunge()
        mark, date = self.book.new_mark(self.name), self.date()
        octets = model_mail.octets(mark,
                                   self.rnd.choice(model_mail.IMAP_KINDS))
        flags = self.words(box)
        mail = self.book.new(box, mark, octets, date, flags, 'append')
        uid = self.do(f'APPEND {box[1]} {mark} {flags}', self.conn.append,
                      box[1], octets, flags, model_mail.imap_date(date))
        self.book.seen('imap', box, self.world.validity[box], uid, mark,
                       self.name)
        mail.birth.done()

    def _store(self):
        self.selected()
        flags = self.words(self.box_now, 3) or ['\\Flagged']
        if self.rnd.random() < .2:
            flags = [DELETED]
        how = self.rnd.choice('+-' if DELETED in flags else '++-=')
        self.store(self.some(self.mails.values()), flags, how)

    def store(self, mails, flags, how):
        if not mails:
            return
        changes = self.flag_changes(mails, flags, how != '-', self.synced)
        if how == '=':
            every = set(SYSTEM + (DELETED,)) | self.world.all_words()
            changes += self.flag_changes(mails, every - set(flags), False,
                                         self.synced)
        sign = {'=': ''}.get(how, how)
        try:
            text = self.cmd(f'UID STORE {imapraw.as_set(self.uids(mails))} '
                            f'{sign}FLAGS ({" ".join(flags)})')
        except imapraw.Refused:
            text = b'EXPUNGE'
        all_done(changes, b'EXPUNGE' not in text.upper())
        self.learn()

    def _new_word(self):
        self.selected()
        word = self.world.new_word('imap', self.box_now)
        if word:
            self.store(self.some(self.mails.values()), [word], '+')

    def _copy(self, verb='COPY'):
        self.selected()
        to = self.box()
        mails = [m for m in self.some(self.mails.values())
                 if not self.book.find(to, m.mark)]
        if to == self.box_now or not mails:
            return
        if self.full(to):
            return self._expunge()
        new = [self.book.new(to, m.mark, m.octets or m.put, m.date, (),
                             verb.lower()) for m in mails]
        leaving = [Change(True) for _ in mails] if verb == 'MOVE' else []
        for mail, change in zip(mails, leaving):
            mail.leaving.append(change)
        try:
            got = self.do(f'{verb} {self.uids(mails)} {to[1]}', self.copied,
                          self.uids(mails), to[1], verb)
        except imapraw.Refused:
            got = {}
        for old, copy in zip(mails, new):
            copy.copied(old, self.synced)
            copy.octets = old.octets
            copy.put = old.put
            uid = got.get(old.uid)
            copy.birth.done() if uid else copy.birth.doubtful()
            if uid:
                self.book.seen('imap', to, self.world.validity[to], uid,
                               copy.mark, self.name)
        self.learn()

    def copied(self, uids, to, verb):
        try:
            return self.conn.copy(uids, to, verb)
        except imapraw.Broken as e:
            if 'COPYUID' not in str(e):
                raise
            return {}       # none of them was there any more

    def _move(self):
        self._copy('MOVE')

    def _expunge(self):
        self.selected()
        change = self.book.expunge(self.box_now, self.SIDE)
        self.cmd('EXPUNGE')
        change.done()
        self.learn()

    def _uid_expunge(self):
        self.selected()
        mails = self.some(self.mails.values(), 2)
        if not mails:
            return
        self.store(mails, [DELETED], '+')
        uids = imapraw.as_set(self.uids(mails))
        if not uids:
            return
        for mail in mails:
            mail.leaving.append(Change(True))
        self.cmd(f'UID EXPUNGE {uids}')
        self.learn()

    def _read(self):
        c = self.selected()
        mails = self.some(self.mails.values(), 6)
        uids = imapraw.as_set(self.uids(mails))
        if not uids:
            return
        try:
            got = self.do(f'UID FETCH {uids} BODY.PEEK[]', c.fetch, uids,
                          'BODY.PEEK[]')
        except imapraw.Refused:
            got = {}        # expunged meanwhile
        unread = set()
        for uid, facts in got.items():
            octets = facts.get(b'BODY[]')
            if isinstance(octets, bytearray):
                self.mails[uid].look(octets, self.name)
            elif octets is not None:
                unread.add(uid)
        self._noop()
        # Dovecot may learn a moment later that it has gone.
        harness.wait_for(f'{self.box_now}: {unread} to be gone or readable',
                         lambda: self.is_clear(unread))

    def is_clear(self, uids):
        """None of these is there, and cannot be read."""
        self._noop()
        left = imapraw.as_set(uids & set(self.mails))
        if not left:
            return True
        got = self.conn.fetch(left, 'BODY.PEEK[]')
        return all(isinstance(f.get(b'BODY[]'), bytearray)
                   for f in got.values())

    def _folder(self):
        """A folder of its own is made, renamed and deleted."""
        self.selected()
        if not self.own:
            self.own = f'own-{self.name}'
            try:
                self.cmd(f'CREATE {self.own}')
            except imapraw.Refused as e:
                # Dovecot says so on a disk, too, when several make folders.
                if 'ALREADYEXISTS' not in str(e):
                    raise
        elif self.rnd.random() < .6:
            new = 'own-' + self.book.new_mark(self.name).replace('.', '-')
            self.cmd(f'RENAME {self.own} {new}')
            self.own = new
        else:
            self.cmd(f'DELETE {self.own}')
            self.own = None

    def round_ends(self):
        self._noop()

    def close(self):
        if self.conn:
            self.conn.close()
