"""A checkpoint of a live test: Dovecot, the view, c-client and the sessions that
are still open say the same, and it can have come of what was done."""

import time

import harness
import imapraw
import model_check
import model_mail
from live_book import Wrong, done
from live_uw import flags_of_dump

PATIENCE = 30       # seconds until both sides must agree


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
        for box in found:
            self.world.table(box, table_of(self.world.mbx(box)))
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
        for uid, (mark, flags, date, octets) in mails.items():
            mail = self.book.seen('imap', box, self.world.validity[box], uid,
                                  mark, 'all')
            self.book.check_mail(mail, flags, date, octets, 'all',
                                 self.world.is_known)
            self.book.settled(mail, flags)
        for mail in self.book.in_box(box):
            if mail.mark not in {m[0] for m in mails.values()}:
                mail.gone.setdefault('all', time.monotonic())
