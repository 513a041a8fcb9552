"""Sessions of UW's c-client, for a live test."""

import os
import subprocess
import time

from harness_base import NO_LEAKS
import harness_uw
import imapraw
import model_mail
import model_run
from live_actors import Actor, all_done
from live_book import DELETED, Wrong

UW_KINDS = ('crlf', 'noend', 'nul', '8bit', 'big', 'record')
FLAG_OF = {letter: flag for flag, letter in model_run.LETTERS.items()}


class UwProcess(harness_uw.Uw):
    """cc_mail, whose complaints go to a file."""

    def __init__(self, home, uid, log):
        self.log = log
        with open(log, 'ab') as f:
            self.proc = subprocess.Popen(
                [harness_uw.CC_MAIL, '-o', f'{uid}:{uid}', home],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=f,
                text=True, errors='surrogateescape', start_new_session=True,
                env={**os.environ, **NO_LEAKS})

    def ask(self, line):
        """(whether it was ok, what else it said)"""
        self.proc.stdin.write(line + '\n')
        self.proc.stdin.flush()
        said = ''
        while True:
            answer = self.proc.stdout.readline()
            if not answer:
                raise Wrong(f'c-client ended at {line!r}: {self.complaint()}')
            if answer.strip() in ('ok', 'no'):
                return answer.strip() == 'ok', said
            said += answer

    def complaint(self):
        with open(self.log, errors='replace') as f:
            return f.read()[-500:]


class Session:
    """A mailbox that c-client has open."""

    def __init__(self, word, box, read_only):
        self.word, self.box, self.read_only = word, box, read_only
        self.validity = 0
        self.mails = {}         # UID: (flags, Mail)


class Uw(Actor):
    """One process of c-client with one or two sessions."""

    SIDE = 'uw'
    WEIGHTS = {'open': 4, 'close': 3, 'store': 14, 'new_word': 1,
               'expunge': 5, 'append': 5, 'ping': 8, 'read': 6}

    def __init__(self, world, name, user, writes):
        super().__init__(world, name, user)
        self.writes = writes        # mailboxes that it opens to write
        self.home = world.rig.legacy_file(user)
        self.uw = UwProcess(self.home, world.rig.users[user],
                            f'{world.rig.logs}/{name}.cc')
        self.sessions = {}
        self.scratch = os.path.join(world.scratch, name)

    def ask(self, line, must=True):
        with self.timed('uw ' + line.split()[0]):
            ok, said = self.uw.ask(line)
        self.note(f'{line} -> {"ok" if ok else "no"}')
        # What one of its sessions broke another one finds.
        ok |= self.world.conf['wild'] and \
            'rebuilding UIDs' in self.uw.complaint()
        if must and not ok:
            raise Wrong(f'{self.name}: {line}: c-client says no: '
                        + self.uw.complaint())
        return said if ok else None

    def some_session(self, writes=False):
        good = [s for s in self.sessions.values()
                if not (writes and s.read_only)]
        return self.rnd.choice(good) if good else None

    def show(self, s, fresh=False):
        """What the session believes now."""
        words = self.ask(f'show {s.word}').split()
        now, began = {}, time.monotonic()
        s.validity = int(words[1])
        self.world.table(s.box, words[3].split('%')[:-1])
        for item in words[4:]:
            uid, letters, keywords, mark = item.split(':', 3)
            mail = self.seen(s, int(uid), mark)
            flags = {FLAG_OF[c] for c in letters}
            now[int(uid)] = flags | set(keywords.split('%')[:-1]), mail
        for uid, (_, mail) in s.mails.items():
            if uid not in now and mail:
                self.book.went('uw', mail, self.name)
        if fresh:
            for _, mail in now.values():
                if mail:
                    self.book.appeared('uw', mail, s.since, self.name)
        s.mails = now

    def seen(self, s, uid, mark):
        if s.validity != self.world.validity[s.box]:
            self.world.uw_reset(s.box, s.validity)
            return self.book.find(s.box, mark)
        return self.book.seen('uw', s.box, s.validity, uid, mark, self.name)

    # Commands

    def _open(self):
        if len(self.sessions) >= 2:
            return self._close()
        box = self.box()
        word = next(w for w in ('s1', 's2') if w not in self.sessions)
        s = Session(word, box, box[1] not in self.writes
                    or self.rnd.random() < .15)
        s.since = time.monotonic()
        self.ask(f'attach {word} {self.world.uw_name(box[1])} '
                 + ('ro' if s.read_only else 'rw'))
        self.sessions[word] = s
        self.show(s, fresh=True)

    def _close(self):
        s = self.some_session()
        if not s:
            return
        # A session that leaves, and is alone, takes out octets.
        self.ask(f'close {s.word}')
        del self.sessions[s.word]

    def _store(self):
        s = self.some_session(writes=True)
        if not s:
            return self._open()
        flags = self.words(s.box, 2) or ['\\Seen']
        if self.rnd.random() < .25:
            flags = [DELETED]
        self.store(s, flags, self.rnd.random() < .7)

    def store(self, s, flags, value):
        mails = self.some([m for _, m in s.mails.values()])
        if not mails:
            return
        uids = [u for u, (_, m) in s.mails.items() if m in mails]
        changes = self.flag_changes(mails, flags, value)
        verb = self.rnd.choice(('flag', 'store')) \
            if self.world.conf['blind'] else 'flag'
        said = self.ask(f'{verb} {s.word} {"+" if value else "-"} '
                        f'{imapraw.as_set(uids)} {" ".join(flags)}',
                        must=False)
        all_done(changes, said is not None)
        self.show(s)

    def _new_word(self):
        s = self.some_session(writes=True)
        word = s and self.world.new_word('uw', s.box)
        if word:
            self.store(s, [word], True)

    def _expunge(self):
        s = self.some_session(writes=True)
        if not s:
            return self._open()
        change = self.book.expunge(s.box, self.SIDE)
        self.ask(f'expunge {s.word}', must=False)
        change.done()
        self.show(s)

    def _append(self):
        box = self.box()
        if self.full(box):
            return self._expunge()
        self.put(box, self.book.new_mark(self.name), self.words(box))

    def put(self, box, mark, flags):
        octets = model_mail.octets(mark, self.rnd.choice(UW_KINDS))
        date = self.date()
        with open(self.scratch, 'wb') as f:
            f.write(octets)
        os.chmod(self.scratch, 0o644)
        mail = self.book.new(box, mark, octets, date, flags, 'uw')
        when = model_mail.imap_date(date).replace(' ', '_')
        self.ask(f'put {self.world.uw_name(box[1])} {self.scratch} {when} '
                 + ' '.join(flags))
        mail.birth.done()

    def _ping(self):
        s = self.some_session()
        if not s:
            return self._open()
        self.ask(f'ping {s.word}')
        self.show(s)

    def _read(self):
        s = self.some_session()
        if not s or not s.mails:
            return self._open()
        uid = self.rnd.choice(list(s.mails))
        out = self.scratch + '.got'
        with open(out, 'wb'):
            os.chmod(out, 0o666)
        self.ask(f'get {s.word} {uid} {out}')
        with open(out, 'rb') as f:
            s.mails[uid][1].look(f.read(), self.name)

    # A checkpoint

    def differs(self, s, dump):
        """None when the session has come to see what is in the MBX; else why
        not, and whether UW alone may be to blame: its sessions miss what
        others of them did within the same second."""
        self.ask(f'ping {s.word}')
        self.show(s)
        if s.validity != dump['uidvalidity']:
            return f'UIDVALIDITY {s.validity}', False
        for uid in set(dump['mail']) - set(s.mails):
            return f'does not see UID {uid}', False
        for uid in set(s.mails) - set(dump['mail']):
            return f'still sees UID {uid}', any(
                e.by == 'uw' for e in self.book.expunges.get(s.box, ()))
        for uid, (flags, mail) in s.mails.items():
            want, have = flags_of_dump(dump['mail'][uid]), \
                model_mail.lower(flags)
            if have != want:
                return (f'{mail!r}, UID {uid}: {sorted(have)} and not '
                        f'{sorted(want)}'), any(
                    c.by == 'uw' for f in have ^ want
                    for c in mail.flags.get(f, ()))
        return None

    def leave(self):
        for word in list(self.sessions):
            self.ask(f'close {word}')
            del self.sessions[word]

    def close(self):
        self.uw.close()


def flags_of_dump(entry):
    """Flags of a line of janusmail-dump(5), comparable."""
    words = entry['keywords'].replace('\\x2c', ',').split(',')
    return {FLAG_OF[c] for c in entry['flags'] if c != '-'} \
        | {w for w in words if w != '-'}
