"""The model: what each mailbox must hold, computed from operations alone.

An operation is a dict that json can write; it names mailboxes ("b3") and
messages ("m17") by numbers of its own, so that a list of operations means the
same whatever was left out of it: what refers to something that is not there
does nothing. Model.apply() says whether it does anything.

Flags are a frozenset of IMAP's words, keywords in the case they are used in.
"""

import calendar
import random
import re
import time

SYSTEM = ('\\Seen', '\\Answered', '\\Flagged', '\\Draft')
KEYWORDS = ('$Label1', '$Forwarded', 'NonJunk', 'Urgent', 'todo', 'a,b}[c',
            '$MDNSent', 'Work', 'x-1', 'LaTeR')
KINDS = ('crlf', 'lf', 'mixed', 'noend', 'nul', '8bit', 'big', 'record')
IMAP_KINDS = ('crlf', 'lf', 'noend', '8bit', 'big', 'record')
DELETED = '\\Deleted'
UW = {'uwput', 'uwflag', 'uwexpunge', 'uwopen', 'uwclose'}


def crlf(octets):
    return re.sub(rb'(?<!\r)\n', b'\r\n', octets)


def lower(flags):
    """Flags that can be compared."""
    return {f if f[0] == '\\' else f.lower() for f in flags} - {'\\Recent'}


def octets(m, kind):
    """The octets of message m; the same each time."""
    rnd = random.Random(f'{m}/{kind}')
    end = '\n' if kind in ('lf', 'nul', 'mixed') else '\r\n'
    lines = [f'From: Author {m} <a@example.test>', f'X-Model: {m}',
             f'Subject: {kind} {m}', f'Message-ID: <{m}@example.test>', '']
    lines += [f'Line {n} of {m}, {rnd.randrange(10**9)}.'
              for n in range(rnd.randrange(1, 12))]
    if kind == 'record':
        lines += ['02-Feb-2004 06:07:08 +0100,5;000000000011-00000007',
                  'From someone Sat Jan  3 01:05:34 1996', '.', '*mbx*']
    if kind == 'big':
        lines += ['x' * rnd.randrange(60, 990) for _ in range(90)]
    out = end.join(lines + ['']).encode()
    if kind == 'mixed':
        out += b'one\r\ntwo\nthree\r\n'
    elif kind == 'nul':
        out += b'a\0b\0\0c\n'
    elif kind == '8bit':
        out += b'gr\xfc\xdf\xe9 \xff\xfe\x80\r\n'
    elif kind == 'noend':
        out += b'no final newline'
    return out


def imap_date(stamp):
    zone = (stamp // 7 % 27 - 12) * 3600     # any will do
    t = time.gmtime(stamp + zone)
    return time.strftime('%d-%b-%Y %H:%M:%S ', t) + '%+03d00' % (zone // 3600)


def stamp_of(date):
    """Seconds of an INTERNALDATE."""
    t = calendar.timegm(time.strptime(date[:20].strip(),
                                      '%d-%b-%Y %H:%M:%S'))
    sign = -1 if date[21] == '-' else 1
    return t - sign * (int(date[22:24]) * 3600 + int(date[24:26]) * 60)


class Mail:
    """One message in one mailbox."""

    def __init__(self, m, box, body, flags, date, origin):
        self.m, self.box = m, box
        self.body = body        # (text's m, kind); 'lmtp': learnt later
        self.flags = frozenset(flags)
        self.date = date
        self.origin = origin    # append deliver copy uw lmtp agentmove
        self.raw = origin != 'append'
        self.owner = None
        # Fresh: Dovecot may not know it, or not how it is. Nameless: no name
        # either. Settled: it was there at a checkpoint, so it is in the MBX,
        # too. Sizes: the fields of its name; Dovecot copied it to another.
        self.fresh = origin in ('deliver', 'uw', 'lmtp', 'agentmove')
        self.nameless = origin in ('uw', 'lmtp')
        self.settled = False
        self.sizes = 'S' if origin == 'uw' else 'SW'
        self.copied = False

    def may_be_short(self, want, w):
        """Dovecot's own fault (2.3.19, on ext4, too): if a copy cannot keep
        its name, which has S= but no W=, and Dovecot has not yet counted the
        lines of the mail, it writes S into W=, and from then on sends the bare
        LFs as they are."""
        return (self.copied and self.sizes == 'S' and w == len(want)
                and want != crlf(want))


class Model:
    """Mailboxes by number: name, whether they have an MBX; messages."""

    def __init__(self, conf):
        legacy, native = conf['legacy'], conf['native']
        self.mirror = conf['mirror']
        self.boxes = {}
        self.mail = {}
        self.subscribed = set()
        self.open = set()       # mailboxes that a UW session has open
        for i, name in enumerate(legacy + native):
            self.boxes[f'b{i}'] = {'name': name, 'legacy': name in legacy}

    def in_box(self, box):
        return [x for x in self.mail.values() if x.box == box]

    def by_name(self, name):
        return next((b for b, x in self.boxes.items() if x['name'] == name),
                    None)

    def resolve(self, op):
        """op with those of its messages that it can be about; None if that is
        nothing."""
        if any(op.get(k, 'b0') not in self.boxes for k in ('box', 'to')):
            return None
        if op['op'] in UW and not self.boxes[op['box']]['legacy']:
            return None
        if 'ms' not in op:
            return op
        ok = [i for i, m in enumerate(op['ms']) if self._fits(m, op)]
        out = {k: [v[i] for i in ok] if k in ('ms', 'ns') else v
               for k, v in op.items()}
        return out if ok else None

    def _fits(self, m, op):
        x, kind = self.mail.get(m), op['op']
        if not x or x.box != op['box'] or x.owner != op['a']:
            return False
        if kind in UW:
            return x.settled and (self.mirror or x.origin == 'uw')
        return not (x.nameless if kind.startswith('agent') else x.fresh)

    def apply(self, op):
        """Carry out a resolved op. False if it does nothing."""
        return getattr(self, '_' + op['op'])(op) is not False

    def _new(self, op, origin, box, flags=(), body=None, date=None):
        if op['m'] in self.mail:
            return False
        x = Mail(op['m'], box, body, flags, date, origin)
        x.owner = op['a']
        self.mail[op['m']] = x
        return True

    def _append(self, op):
        return self._new(op, 'append', op['box'], op['flags'],
                         (op['m'], op['kind']), op['date'])

    def _deliver(self, op):
        if not self._new(op, 'deliver', op['box'], op['flags'],
                         (op['m'], op['kind']), op['date']):
            return False
        self.mail[op['m']].sizes = op['sizes']
        return True

    def _uwput(self, op):
        return self._new(op, 'uw', op['box'], op['flags'],
                         (op['m'], op['kind']), op['date'])

    def _lmtp(self, op):
        box = self.by_name('INBOX')
        return box is not None and self._new(op, 'lmtp', box, (),
                                             (op['m'], 'lmtp'))

    def _store(self, op):
        for m in op['ms']:
            x = self.mail[m]
            x.flags = {'+': x.flags | set(op['flags']),
                       '-': x.flags - set(op['flags']),
                       '=': frozenset(op['flags'])}[op['how']]

    def _uwflag(self, op):
        self._store(op)
        self._stale(op)

    def _stale(self, op):
        """Dovecot takes a directory's time after a change of its own for
        granted, and what somebody else did just before shows a second later."""
        for m in op['ms']:
            self.mail[m].fresh = True

    def _agentflag(self, op):
        """Only what capitals stand for; keywords stay."""
        for m in op['ms']:
            x = self.mail[m]
            x.flags = frozenset({f for f in x.flags if f[0] != '\\'}
                                | set(op['flags']))
        self._stale(op)

    def _copy(self, op, origin='copy'):
        if op['to'] == op['box'] and op['op'] == 'move':
            return False
        if any(n in self.mail for n in op['ns']):
            return False
        for m, n in zip(op['ms'], op['ns']):
            x = self.mail[m]
            y = Mail(n, op['to'], x.body, x.flags, x.date, origin)
            y.raw, y.owner, y.sizes = x.raw, x.owner, x.sizes
            y.copied = x.copied or origin == 'copy'
            self.mail[n] = y
            if op['op'] != 'copy':
                del self.mail[m]

    _move = _copy

    def _agentmove(self, op):
        """A file goes to another folder. Letters of keywords mean something
        else there, so none may be set."""
        if op['to'] == op['box'] or any(
                f[0] != '\\' for m in op['ms'] for f in self.mail[m].flags):
            return False
        return self._copy(op, 'agentmove')

    def _expunge(self, op):
        for m in op['ms']:
            del self.mail[m]

    _agentrm = _expunge

    def _uwexpunge(self, op):
        """All that are \\Deleted go, so op has to name them."""
        if any(DELETED in x.flags and x.m not in op['ms']
               for x in self.in_box(op['box'])):
            return False
        return self._expunge(op)

    def _close(self, op):
        """Everything \\Deleted goes."""
        if any(x.fresh for x in self.in_box(op['box'])):
            return False
        for x in self.in_box(op['box']):
            if DELETED in x.flags:
                del self.mail[x.m]

    def _uwopen(self, op):
        if op['box'] in self.open:
            return False
        self.open.add(op['box'])

    def _uwclose(self, op):
        if op['box'] not in self.open:
            return False
        self.open.remove(op['box'])

    def _create(self, op):
        if op['b'] in self.boxes or self.by_name(op['name']):
            return False
        self.boxes[op['b']] = {'name': op['name'], 'legacy': False}

    def family(self, box):
        """A mailbox and those below it."""
        name = self.boxes[box]['name']
        return [b for b, x in self.boxes.items()
                if x['name'] == name or x['name'].startswith(name + '.')]

    def _rename(self, op):
        old, new = self.boxes[op['box']]['name'], op['name']
        if old == 'INBOX' or any(b in self.open
                                 for b in self.family(op['box'])):
            return False
        if self.by_name(new) or (new + '.').startswith(old + '.'):
            return False
        for x in self.boxes.values():       # what would be in its place
            if x['name'].startswith(new + '.'):
                return False
        for b in self.family(op['box']):
            x = self.boxes[b]
            x['name'] = new + x['name'][len(old):]

    def _delete(self, op):
        if self.boxes[op['box']]['name'] == 'INBOX' \
                or op['box'] in self.open:
            return False
        for x in self.in_box(op['box']):
            del self.mail[x.m]
        del self.boxes[op['box']]

    def _subscribe(self, op):
        name = self.boxes[op['box']]['name']
        if name in self.subscribed:
            return False
        self.subscribed.add(name)

    def _unsubscribe(self, op):
        if op['name'] not in self.subscribed:
            return False
        self.subscribed.remove(op['name'])

    def _look(self, op):
        """Dovecot looks: what was delivered has a UID now."""
        for x in self.in_box(op['box']):
            if x.owner == op['a']:
                x.fresh = x.nameless = False

    def _check(self, op):
        for x in self.mail.values():
            x.fresh = x.nameless = False
            x.settled = True
        if 'owners' in op:
            rnd = random.Random(op['owners'])
            for m in sorted(self.mail):
                self.mail[m].owner = rnd.randrange(op['actors'])

    def _remount(self, op):
        return not self.open

    _reindex = _forget = _remount
