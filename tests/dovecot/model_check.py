"""A checkpoint: the model, Dovecot, the view and c-client say the same.

Facts that must never change (UID, base name, inode number, size, octets) are
kept from checkpoint to checkpoint; UIDs of a mailbox only grow.
"""

import contextlib
import hashlib
import os
import time

import harness
import imapraw
from model_mail import crlf, lower, octets, stamp_of
from model_run import LETTERS

FLAGS = {letter: flag for flag, letter in LETTERS.items()}


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Disagreement(AssertionError):
    """Perhaps not for long: somebody may still be working on it."""


def view_of(top, name, got):
    """UID -> facts of the file, which must be those that IMAP has."""
    out = {}
    with open(f'{top}/dovecot-uidlist', encoding='utf-8') as f:
        uids = {line.rstrip('\n').partition(' :')[2]:
                int(line.split()[0]) for line in list(f)[1:]}
    letters = {}
    with contextlib.suppress(FileNotFoundError), \
            open(f'{top}/dovecot-keywords', encoding='utf-8') as f:
        for line in f:
            n, word = line.split()
            letters[chr(ord('a') + int(n))] = word
    for sub in ('cur', 'new'):
        for entry in os.listdir(f'{top}/{sub}'):
            base, _, flags = entry.partition(':2,')
            if base not in uids or uids[base] in out:
                raise Disagreement(f'{name}: {sub}/{entry} has no UID, '
                                   'or is there twice')
            out[uids[base]] = file_of(f'{top}/{sub}/{entry}', base, [
                FLAGS.get(c) or letters.get(c, c) for c in flags])
    if set(out) != set(got):
        raise Disagreement(f'{name}: files and IMAP differ by UIDs '
                           f'{sorted(set(out) ^ set(got))}')
    return out


def file_of(path, base, flags):
    try:
        st = os.stat(path)
        with open(path, 'rb') as f:
            data = f.read()
    except FileNotFoundError:
        raise Disagreement(f'{path} is gone') from None
    sizes = {'S': None, 'W': None}
    for field in base.split(',')[1:]:
        if field[:2] in ('S=', 'W=') and field[2:].isdigit():
            sizes[field[0]] = int(field[2:])
    return {'base': base, 'ino': st.st_ino, 'size': st.st_size,
            'date': int(st.st_mtime), 'flags': flags, 'octets': data,
            **sizes}


class Checker:
    def __init__(self, world, model, known):
        self.world, self.model, self.known = world, model, known
        self.boxes = {}     # b: uidvalidity, uidnext
        self.facts = {}     # m: base, ino, size
        self.learnt = {}    # text: octets, date, of what an agent added to
        self.tries = 0

    def check(self, seconds=30):
        """Agreement, in the end; c-client has to wait for the mirror."""
        end = time.monotonic() + seconds
        while True:
            self.tries += 1
            try:
                self._all()
                return
            except Disagreement as e:
                if time.monotonic() > end:
                    raise AssertionError(f'checkpoint: {e}') from None
            time.sleep(0.2)

    def _all(self):
        conn = imapraw.Conn(self.world.imap_port, 'alice')
        try:
            self._folders(conn)
            for b in sorted(self.model.boxes):
                self._box(conn, b)
            conn.logout()
        finally:
            conn.close()
        status = self.world.folders()
        self._mirrored(status)
        for b in sorted(self.model.boxes):
            if self.model.boxes[b]['legacy']:
                self._mbx(b, status)
        self._no_more_boxes(status)

    def _folders(self, conn):
        want = {x['name'] for x in self.model.boxes.values()}
        got = conn.names()
        # Dovecot goes on listing a deleted parent as if it could be opened.
        got -= {n for n in got - want
                if any(w.startswith(n + '.') for w in want)}
        if want != got:
            raise Disagreement(f'LIST: {sorted(got ^ want)} (has '
                               f'{sorted(got)})')
        if conn.names('LSUB') != self.model.subscribed:
            raise Disagreement(f'LSUB: {conn.names("LSUB")} instead of '
                               f'{self.model.subscribed}')

    # What is expected of a message

    def octets(self, x, shown=b''):
        """The octets of its file."""
        text, kind = x.body
        if kind == 'lmtp':
            if text not in self.learnt:
                want = crlf(octets(text, 'crlf'))
                if not crlf(shown).endswith(want):
                    raise AssertionError(f'{text}: other octets than were '
                                         f'delivered: {shown!r}')
                self.learnt[text] = shown
            return self.learnt[text]
        out = octets(text, kind)
        if x.raw:
            return out
        return crlf(out) if self.world.conf['save_crlf'] \
            else out.replace(b'\r\n', b'\n')

    # IMAP and the view

    def _box(self, conn, b):
        name = self.model.boxes[b]['name']
        conn.select(name)
        if conn.read_only:
            raise AssertionError(f'{name} is read-only')
        old = self.boxes.get(b)
        if old and conn.uidvalidity != old[0]:
            raise AssertionError(f'{name}: UIDVALIDITY {old[0]} -> '
                                 f'{conn.uidvalidity}')
        got = conn.fetch('1:*', 'FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[]'
                         ) if conn.uids else {}
        if sorted(got) != conn.uids:
            raise AssertionError(f'{name}: FETCH gives {sorted(got)}, not '
                                 f'{conn.uids}')
        view = view_of(self.world.top(name), name, got)
        self._assign(name, b, got, view, old[1] if old else 1)
        for x in self.model.in_box(b):
            uid = self.known['mail'][x.m]['uid']
            self._message(name, x, uid, got[uid], view[uid])
        next_uid = max([conn.uidnext, *(u + 1 for u in got)])
        if old and next_uid < old[1]:
            raise AssertionError(f'{name}: UIDNEXT {old[1]} -> {next_uid}')
        self.boxes[b] = conn.uidvalidity, next_uid

    def _assign(self, name, b, got, view, first):
        """Each message has its UID, each UID its message."""
        left = set(got)
        fresh = []
        for x in self.model.in_box(b):
            uid = self.known['mail'].setdefault(x.m, {}).get('uid')
            if uid and uid not in left:
                raise Disagreement(f'{name}: {x.m}, UID {uid}, is not there')
            if uid:
                left.discard(uid)
            else:
                fresh.append(x)
        for x in fresh:
            base = self.known['mail'][x.m].get('base')
            uid = next((u for u in sorted(left)
                        if (view[u]['base'] == base if base else
                            b'X-Model: %s' % x.body[0].encode()
                            in got[u][b'BODY[]'])), None)
            if not uid:
                raise Disagreement(f'{name}: {x.m} ({x.origin}, {base}) is '
                                   'not there')
            if uid < first:
                raise AssertionError(f'{name}: {x.m} has UID {uid}, which '
                                     f'had been passed: {first}')
            left.discard(uid)
            self.known['mail'][x.m]['uid'] = uid
        if left:
            raise Disagreement(f'{name}: UIDs {sorted(left)} are nobody\'s: '
                               f'{bytes(got[min(left)][b"BODY[]"][:200])}')

    def _message(self, name, x, uid, got, file):
        where = f'{name}: {x.m} ({x.origin}), UID {uid}'
        want = self.octets(x, file['octets'])
        sent, lines = harness.through_dovecot(want), len(crlf(want))
        if x.may_be_short(want, file['W']):
            sent, lines = want.replace(b'\0', b'\x80'), len(want)
        if got[b'BODY[]'] != sent:
            raise AssertionError(f'{where}: other octets by IMAP: '
                                 f'{bytes(got[b"BODY[]"])!r}')
        if int(got[b'RFC822.SIZE']) != len(sent):
            raise AssertionError(f'{where}: RFC822.SIZE is '
                                 f'{got[b"RFC822.SIZE"]}')
        date = stamp_of(got[b'INTERNALDATE'].decode())
        if x.date is None:
            x.date = self.learnt.setdefault(x.body[0] + '/date', date)
        flags = {f.decode() for f in got[b'FLAGS']}
        for what, a, b in (
                ('octets', file['octets'], want),
                ('date by IMAP', date, x.date),
                ('date of the file', file['date'], x.date),
                ('size', file['size'], len(want)),
                ('S=', file['S'], len(want)),
                ('W=', file['W'], lines)):
            if a is not None and a != b:
                raise AssertionError(f'{where}: {what}: {a!r} instead of '
                                     f'{b!r}')
        for what, a in (('IMAP', flags), ('the view', file['flags'])):
            if lower(a) != lower(x.flags):
                raise Disagreement(f'{where}: flags by {what}: '
                                   f'{sorted(lower(a))} instead of '
                                   f'{sorted(lower(x.flags))}')
        self._unchanged(where, x.m, {k: file[k] for k in ('base', 'ino')})

    def _unchanged(self, where, m, facts):
        given = self.known['mail'][m].get('base', facts['base'])
        old = self.facts.setdefault(m, {**facts, 'base': given})
        if old != facts:
            raise AssertionError(f'{where}: {old} -> {facts}')
        self.known['mail'][m]['base'] = facts['base']

    # c-client

    def _mirrored(self, status):
        for name, f in status.items():
            mirror = f.get('delivered') or {}
            if mirror.get('mirror') == 'on' and (mirror['waiting']
                                                 or mirror['no_uid']):
                raise Disagreement(f'{name}: the mirror lags: {mirror}')

    def _mbx(self, b, status):
        name = self.model.boxes[b]['name']
        legacy = status[name]['legacy']
        got = next(iter(harness.cc_dump(legacy['path']).values()))['mail']
        old = self.boxes[b]
        left, differ = dict(got), {}
        rest = []
        for x in self.model.in_box(b):
            if x.origin != 'uw' and not self.world.conf['mirror']:
                continue
            uid = self.known['mail'][x.m]['uid']
            at = self.known['mail'][x.m].get('mbxuid', uid)
            if left.get(at) == self._as_dumped(x):
                self._mbx_uid(name, x.m, at)
                del left[at]
            else:
                rest.append(x)
            if at != uid:
                differ[self.facts[x.m]['base']] = uid, at
        for x in rest:      # copies look alike, so these come last
            uid, want = self.known['mail'][x.m]['uid'], self._as_dumped(x)
            at = next((u for u, mail in left.items() if mail == want), None)
            if at is None:
                near = [f'{u}: {mail}' for u, mail in got.items()
                        if mail['sha256'] == want['sha256']]
                raise Disagreement(
                    f'{name}: {x.m} ({x.origin}), UID {uid}, {want} is not '
                    f'in the MBX; there is {near}')
            self._mbx_uid(name, x.m, at)
            differ[self.facts[x.m]['base']] = uid, at
            del left[at]
        if left:
            raise Disagreement(f'{name}: in the MBX only: {left}')
        said = {d['name']: (d['dovecot'], d['mbx'])
                for d in legacy.get('disagreements', ())}
        if self.world.conf['mirror'] and differ != said:
            raise Disagreement(f'{name}: UIDs differ: {differ}; status says '
                               f'{said}')
        if legacy.get('uid_disagreements', 0) != len(said):
            raise Disagreement(f'{name}: status says {said} and counts '
                               f'{legacy.get("uid_disagreements")}')
        if not old:
            raise AssertionError(f'{name} was not looked at')

    def _mbx_uid(self, name, m, uid):
        entry = self.known['mail'][m]
        if entry.setdefault('mbxuid', uid) != uid:
            raise AssertionError(f'{name}: {m}: UID in the MBX '
                                 f'{entry["mbxuid"]} -> {uid}')

    def _as_dumped(self, x):
        """A line of janusmail-dump(5) about what the MBX must hold."""
        data = self.octets(x)
        if x.origin != 'uw':
            data = crlf(data)
        words = lower(x.flags)
        return {
            'flags': ''.join(sorted(LETTERS[f] for f in words
                                    if f[0] == '\\')) or '-',
            'keywords': ','.join(sorted(f.replace(',', '\\x2c')
                                        for f in words if f[0] != '\\'))
                        or '-',
            'date': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(x.date)),
            'size': str(len(data)), 'sha256': sha(data)}

    def _no_more_boxes(self, status):
        """Mailboxes of deleted folders are in the trash, all others serve."""
        want = {status[x['name']]['legacy']['path']
                for x in self.model.boxes.values() if x['legacy']}
        got = {os.path.join(path, name)
               for path, _, names in os.walk(self.world.home)
               for name in names if not name.startswith('.')}
        if want != got:
            raise Disagreement(f'mailboxes: {sorted(want ^ got)}')
