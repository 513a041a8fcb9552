"""What everybody did to the mailboxes, and what must come of it.

All actors work at the same time, so there is no list of what must be there.
Instead each notes what it is about to do, and when it was done; a Book says of
any state whether that could have led to it:

* a mail is there, once, with the octets and the date it was given, unless
  somebody may have expunged it;
* a flag has the value that the last change gave it; of changes that overlap
  in time any may be the last, so one that nobody else touched is kept;
* a UID means one mail for ever, and a mail has one UID.

A mail is known by its mailbox and its mark (the header line X-Model): no mark
is ever given twice, and none is copied to where it was before.
"""

import threading
import time

from model_mail import crlf, lower

DELETED = '\\Deleted'
NEVER = float('inf')


class Wrong(AssertionError):
    """What cannot have come of what was done."""


def normal(octets):
    """As Dovecot sends them."""
    return crlf(bytes(octets)).replace(b'\0', b'\x80')


class Change:
    """Something that takes time; until it is said to be done it may happen
    now."""

    def __init__(self, value, by=None):
        self.value, self.by = value, by
        self.began, self.ended, self.sure = time.monotonic(), NEVER, True

    def done(self):
        self.ended = time.monotonic()

    def doubtful(self):
        """It may have had an effect or none."""
        self.sure = False
        self.done()


def last_values(changes):
    """What may be the last of them: those that none surely came after."""
    after = max((c.began for c in changes if c.sure), default=-1)
    open_ = [c for c in changes if c.ended >= after]
    values = {c.value for c in open_}
    if not any(c.sure for c in changes):
        values.add(False)
    return values


def values_during(changes, since, until):
    """What somebody may have found between two moments."""
    before = max((c.began for c in changes if c.sure and c.ended <= since),
                 default=-1)
    values = {c.value for c in changes
              if c.began <= until and c.ended >= before}
    if before < 0:
        values.add(False)
    return values


class Mail:
    def __init__(self, box, mark, octets, date, flags, origin):
        self.box, self.mark, self.origin = box, mark, origin
        self.put = normal(octets)   # what was put in; agents add in front
        self.octets = None          # as somebody saw it first
        self.date = date
        self.uid = None             # at Dovecot
        self.birth = Change(True)
        self.flags = {}
        self.leaving = []           # Changes that take this very mail away
        self.gone = {}              # side: when somebody saw it leave
        for flag in flags:
            self.flags.setdefault(flag, []).append(self.birth)

    def __repr__(self):
        return f'{self.box[0]}: {self.box[1]}: {self.mark} ({self.origin})'

    def change(self, flag, change):
        self.flags.setdefault(lower_one(flag), []).append(change)

    def values_since(self, flag, since):
        """What one may believe who looked at that moment or later."""
        return values_during(self.flags.get(lower_one(flag), ()), since,
                             time.monotonic())

    def allowed(self, flag):
        return last_values(self.flags.get(flag, ())) or {False}

    def copied(self, source, since):
        """It got the flags that the source had at some moment."""
        now = time.monotonic()
        for flag, changes in list(source.flags.items()):
            values = values_during(changes, since, now)
            if True in values:
                change = Change(True)
                change.began = since
                change.ended, change.sure = now, False not in values
                self.flags.setdefault(flag, []).append(change)

    def look(self, octets, who):
        """Somebody has read it."""
        octets = normal(octets)
        if self.octets is None and octets.endswith(self.put):
            self.octets = octets
        if octets != self.octets:
            raise Wrong(f'{self!r}: {who} gives other octets: '
                        f'{octets[:300]!r} instead of '
                        f'{(self.octets or self.put)[:300]!r}')


def lower_one(flag):
    return next(iter(lower([flag])))


class Book:
    def __init__(self):
        self.lock = threading.RLock()
        self.mails = {}         # (box, mark): Mail
        self.marks = {}         # (side, box, validity, uid): mark
        self.uids = {}          # (side, box, validity, mark): uid
        self.expunges = {}      # box: [Change]
        self.lines = []
        self.began = time.monotonic()
        self.count = 0

    def note(self, who, text):
        with self.lock:
            now = time.monotonic() - self.began
            self.lines.append(f'{now:9.4f} {who:8} {text}')

    def new_mark(self, who):
        with self.lock:
            self.count += 1
            return f'{who}.{self.count}'

    def new(self, box, mark, octets, date, flags, origin):
        mail = Mail(box, mark, octets, date, lower(flags), origin)
        with self.lock:
            if (box, mark) in self.mails:
                raise Wrong(f'{mail!r}: the test gave that mark twice')
            self.mails[box, mark] = mail
        return mail

    def find(self, box, mark):
        with self.lock:
            return self.mails.get((box, mark))

    def in_box(self, box):
        with self.lock:
            return [m for m in self.mails.values() if m.box == box]

    def expunge(self, box, by):
        """Somebody takes out whatever is \\Deleted."""
        change = Change(True, by)
        with self.lock:
            self.expunges.setdefault(box, []).append(change)
        return change

    # What must be

    def may_be_gone(self, mail):
        """One that is being copied may have got \\Deleted by that."""
        with self.lock:
            deleted = [c.began for c in mail.flags.get(DELETED, ())
                       if c.value]
            return bool(
                not mail.birth.sure or mail.birth.ended == NEVER
                or mail.leaving
                or deleted and any(c.ended > min(deleted)
                                   for c in self.expunges.get(mail.box, ())))

    def must_be_gone(self, mail):
        return bool(mail.gone)

    def seen(self, side, box, validity, uid, mark, who):
        """Somebody was shown that mail under that UID."""
        with self.lock:
            mail = self.mails.get((box, mark))
            if not mail:
                raise Wrong(f'{who}: {box}: UID {uid} is {mark!r}, which '
                            'nobody put there')
            before = self.marks.setdefault((side, box, validity, uid), mark)
            had = self.uids.setdefault((side, box, validity, mark), uid)
            if before != mark:
                raise Wrong(f'{who}: {box}: UID {uid} was {before} and is '
                            f'{mark}')
            if had != uid:
                raise Wrong(f'{who}: {mail!r} had UID {had} and has {uid}')
            if side == 'imap':
                mail.uid = uid
            return mail

    def went(self, side, mail, who):
        """Somebody was told that it is there no more."""
        with self.lock:
            if not mail.gone and not self.may_be_gone(mail):
                raise Wrong(f'{who}: {mail!r}, UID {mail.uid}, is gone, and '
                            'nobody expunged it')
            mail.gone.setdefault(side, time.monotonic())

    def appeared(self, side, mail, since, who):
        """It was not shown before and is now, by a question asked at since."""
        if mail.gone.get(side, NEVER) < since:
            raise Wrong(f'{who}: {mail!r}, UID {mail.uid}, came back')

    def check_there(self, box, marks, where):
        """The marks that a quiet mailbox shows."""
        if len(set(marks)) != len(marks):
            twice = {m for m in marks if marks.count(m) > 1}
            raise Wrong(f'{where}: {sorted(twice)} more than once')
        for mail in self.in_box(box):
            there = mail.mark in marks
            if not (there or mail.gone or self.may_be_gone(mail)):
                raise Wrong(f'{where}: {mail!r}, UID {mail.uid}, is lost')
            if there and self.must_be_gone(mail):
                raise Wrong(f'{where}: {mail!r}, UID {mail.uid}, was '
                            'expunged and is there')

    def check_mail(self, mail, flags, date, octets, where, is_known):
        mail.look(octets, where)
        if mail.date is None:
            mail.date = date
        if mail.date != date:
            raise Wrong(f'{where}: {mail!r}: date {date} instead of '
                        f'{mail.date}')
        have = lower(flags)
        for flag in filter(is_known, have | set(mail.flags)):
            if (flag in have) not in mail.allowed(flag):
                raise Wrong(f'{where}: {mail!r}, UID {mail.uid}: {flag} is '
                            f'{flag in have}, and nobody made it so: '
                            + self.history(mail, flag))

    def history(self, mail, flag):
        return '; '.join(
            f'{c.began - self.began:.4f} to {c.ended - self.began:.4f}: '
            f'{c.value} by {c.by}' + ('' if c.sure else ', perhaps')
            for c in mail.flags.get(flag, ())) or 'never touched'

    def settled(self, mail, flags):
        """At a checkpoint all changes are over: this is how it is."""
        mail.flags = {f: [done(True)] for f in lower(flags)}
        self.expunges.pop(mail.box, None)


def done(value):
    change = Change(value)
    change.done()
    return change
