"""IMAP by hand: every octet that the server says is looked at.

imaplib hides what matters here: the order of untagged answers, the arithmetic
of EXISTS and EXPUNGE, the UIDs in response codes. A Conn keeps the list of UIDs
by sequence number while a mailbox is selected, and raises Broken for anything
that no correct server says: a number out of range, a UID that falls, a message
that has other octets than before.
"""

import re
import select
import socket
import time


class Broken(AssertionError):
    """The server said something that cannot be."""


class Refused(Exception):
    """NO or BAD."""


def _atom(text, at):
    """The end of an atom; what is in BODY[] belongs to it, spaces and all."""
    depth, in_body = 0, text[at:at + 5].upper() == b'BODY['
    while at < len(text):
        c = text[at:at + 1]
        if c == b'[' and in_body:
            depth += 1
        elif c == b']' and in_body:
            depth -= 1
        elif depth <= 0 and c in (b' ', b'(', b')', b'"'):
            break
        at += 1
    return at


def parse(pieces):
    """Pieces of a response, text and literals in turn, as nested lists. A
    literal is a bytearray, a quoted string too; an atom is bytes."""
    stack = [[]]
    for turn, text in enumerate(pieces):
        if turn % 2:
            stack[-1].append(bytearray(text))
            continue
        at = 0
        while at < len(text):
            c = text[at:at + 1]
            if c == b' ':
                at += 1
            elif c == b'(':
                stack.append([])
                at += 1
            elif c == b')':
                done = stack.pop()
                stack[-1].append(done)
                at += 1
            elif c == b'"':
                m = re.compile(rb'"((?:[^"\\]|\\.)*)"').match(text, at)
                stack[-1].append(bytearray(re.sub(rb'\\(.)', rb'\1', m[1])))
                at = m.end()
            else:
                end = _atom(text, at)
                stack[-1].append(text[at:end])
                at = end
    return stack[0]


def numbers(text):
    """A sequence set of a response code as a list, in its order."""
    out = []
    for part in text.split(b','):
        a, _, b = part.partition(b':')
        if b:
            a, b = int(a), int(b)
            out += range(a, b + 1) if a <= b else range(a, b - 1, -1)
        else:
            out.append(int(a))
    return out


def as_set(uids):
    return ','.join(str(u) for u in uids)


class Conn:
    """One connection. Callers read self.uids (by sequence number, 0 where
    not known yet), self.flags (UID -> set) and self.said (untagged lines)."""

    def __init__(self, port, user, timeout=60):
        self.sock = socket.create_connection(('127.0.0.1', port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b''
        self.tag = 0
        self.box = None
        self.leave()
        if not self.line().startswith(b'* OK'):
            raise Broken('no greeting')
        self.do(f'LOGIN {user} pw')

    def leave(self):
        self.box, self.uids, self.flags = None, [], {}
        self.uidvalidity = self.uidnext = 0
        self.read_only = False
        self.expunge_forbidden = False

    def close(self):
        self.sock.close()

    # Octets

    def _more(self):
        got = self.sock.recv(1 << 18)
        if not got:
            raise Broken('the server closed the connection')
        self.buf += got

    def line(self):
        while b'\r\n' not in self.buf:
            self._more()
        text, _, self.buf = self.buf.partition(b'\r\n')
        return text

    def response(self):
        """One response as pieces."""
        pieces = [self.line()]
        while True:
            m = re.search(rb'\{(\d+)\}$', pieces[-1])
            if not m:
                return pieces
            n = int(m[1])
            pieces[-1] = pieces[-1][:m.start()]
            while len(self.buf) < n:
                self._more()
            pieces.append(self.buf[:n])
            self.buf = self.buf[n:]
            pieces.append(self.line())

    # Commands

    def start(self, command, literal=None):
        self.tag += 1
        out = b'a%d %s' % (self.tag, command.encode('utf-8')
                           if isinstance(command, str) else command)
        if literal is not None:
            out += b' {%d+}\r\n' % len(literal) + literal
        self.sock.sendall(out + b'\r\n')
        return b'a%d ' % self.tag

    def finish(self, tag):
        """The text after OK; what came before is in self.said."""
        while True:
            pieces = self.response()
            if pieces[0].startswith(tag):
                break
            self._untagged(pieces)
        status, _, text = pieces[0][len(tag):].partition(b' ')
        if status == b'OK':
            return text
        raise Refused(f'{status.decode()} {text.decode("utf-8", "replace")}')

    def do(self, command, literal=None):
        self.said = []
        word = command.split()[0]
        # No EXPUNGE may come while these run (RFC 3501, 7.4.1).
        self.expunge_forbidden = word in ('FETCH', 'STORE', 'SEARCH')
        try:
            return self.finish(self.start(command, literal))
        except Refused as e:
            raise Refused(f'{command[:200]}: {e}') from None
        finally:
            self.expunge_forbidden = False

    def _untagged(self, pieces):
        text = pieces[0]
        if text.startswith(b'* BYE'):
            raise Broken(f'BYE: {text!r}')
        if re.match(rb'\* (OK|NO|BAD|PREAUTH)\b', text):
            self._status(text)
            self.said.append([text])
            return
        words = parse(pieces)
        self.said.append(words)
        if len(words) > 2 and words[1].isdigit():
            self._counted(int(words[1]), words[2].upper(), words)

    def _status(self, text):
        m = re.search(rb'\[UIDVALIDITY (\d+)\]', text)
        if m:
            self.uidvalidity = int(m[1])
        m = re.search(rb'\[UIDNEXT (\d+)\]', text)
        if m:
            self.uidnext = int(m[1])
        if text.startswith(b'* NO'):
            raise Broken(f'untagged {text!r}')

    def _counted(self, n, word, words):
        if word == b'EXISTS':
            if n < len(self.uids):
                raise Broken(f'{self.box}: EXISTS falls from '
                             f'{len(self.uids)} to {n}')
            self.uids += [0] * (n - len(self.uids))
        elif word == b'EXPUNGE':
            if self.expunge_forbidden:
                raise Broken(f'{self.box}: EXPUNGE where none may be')
            if not 1 <= n <= len(self.uids):
                raise Broken(f'{self.box}: EXPUNGE of {n} of '
                             f'{len(self.uids)}')
            self.flags.pop(self.uids.pop(n - 1), None)
        elif word == b'FETCH':
            self._fetched(n, words[3])

    def _fetched(self, n, items):
        if not 1 <= n <= len(self.uids):
            raise Broken(f'{self.box}: FETCH of {n} of {len(self.uids)}')
        facts = dict(zip(items[::2], items[1::2]))
        if b'UID' in facts:
            uid = int(facts[b'UID'])
            if self.uids[n - 1] not in (0, uid):
                raise Broken(f'{self.box}: message {n} was UID '
                             f'{self.uids[n - 1]} and is {uid}')
            self.uids[n - 1] = uid
            known = [u for u in self.uids if u]
            if any(a >= b for a, b in zip(known, known[1:])):
                raise Broken(f'{self.box}: UIDs do not ascend: {known}')
        if b'FLAGS' in facts and self.uids[n - 1]:
            self.flags[self.uids[n - 1]] = {f.decode()
                                            for f in facts[b'FLAGS']}

    # What callers want

    def select(self, name, examine=False):
        self.leave()
        self.box = name
        text = self.do(f'{"EXAMINE" if examine else "SELECT"} {quote(name)}')
        self.read_only = text.startswith(b'[READ-ONLY]')
        self.sync()

    def sync(self):
        """Learn the UIDs of messages that have none yet."""
        first = next((i for i, u in enumerate(self.uids, 1) if not u), None)
        if first:
            self.do(f'FETCH {first}:* (UID FLAGS)')

    def fetch(self, uids, what):
        """UID -> facts."""
        self.do(f'UID FETCH {uids} (UID {what})')
        out = {}
        for words in self.said:
            if len(words) > 3 and words[2].upper() == b'FETCH':
                facts = dict(zip(words[3][::2], words[3][1::2]))
                if b'UID' in facts and len(facts) > 1:
                    out.setdefault(int(facts[b'UID']), {}).update(facts)
        return out

    def append(self, name, octets, flags=(), date=None):
        """The UID it got."""
        when = f' "{date}"' if date else ''
        text = self.do(f'APPEND {quote(name)} ({" ".join(flags)}){when}',
                       octets)
        return int(self._code(rb'APPENDUID \d+ (\d+)', text)[1])

    def copy(self, uids, name, verb='COPY'):
        """UID there -> UID here."""
        text = self.do(f'UID {verb} {as_set(uids)} {quote(name)}')
        m = self._code(rb'COPYUID \d+ ([\d:,]+) ([\d:,]+)',
                       text, *(w[0] for w in self.said if len(w) == 1))
        return dict(zip(numbers(m[1]), numbers(m[2])))

    @staticmethod
    def _code(pattern, *texts):
        for text in texts:
            m = re.search(rb'\[' + pattern + rb'\]', text)
            if m:
                return m
        raise Broken(f'no {pattern!r} in {texts!r}')

    def names(self, verb='LIST'):
        self.do(f'{verb} "" *')
        return {bytes(w[4]).decode() for w in self.said
                if len(w) == 5 and w[1] == verb.encode()
                and b'\\Noselect' not in w[2]
                and b'\\NonExistent' not in w[2]}

    def idle(self, seconds):
        """What came meanwhile is taken in."""
        self.said = []
        tag = self.start('IDLE')
        end = time.monotonic() + seconds
        if not self.line().startswith(b'+'):
            raise Broken('IDLE is not answered')
        while (left := end - time.monotonic()) > 0:
            if b'\r\n' in self.buf or select.select([self.sock], [], [],
                                                    left)[0]:
                self._untagged(self.response())
        self.sock.sendall(b'DONE\r\n')
        self.finish(tag)

    def logout(self):
        self.sock.sendall(b'z LOGOUT\r\n')
        try:
            while self.sock.recv(1 << 16):
                pass
        finally:
            self.sock.close()


def quote(name):
    return '"' + name.replace('\\', '\\\\').replace('"', '\\"') + '"'
