r"""Scripted IMAP sessions: what a server says to them, line by line.

A script is text, one step a line; a capital letter is a connection, which logs
in when it is first used:

    A: SELECT INBOX         send a command, read until it is answered
    A> FETCH 1 BODY[]       send only
    A& FETCH 1 BODY[]       send only, together with what follows
    A.                      read until all that was sent is answered
    A! DONE                 send a line that is no command
    A? EXISTS               read until a line matches (a regular expression)
    A-                      close the connection without a word
    let m A HIGHESTMODSEQ (\d+)
                            a variable from what A has received last; <<m>>
                            stands for it from then on
    wait 1.1                seconds
    *5 A: APPEND work {#<<n>>}
                            five times, <<n>> is 1 to 5
    # words                 a comment

{plain} is a message of imap_boxes.py as a literal, {plain+} the same without
waiting for the server, {"text"} any text. Lines that begin with "#:" say
something to the test that runs the script.
"""

import hashlib
import re
import select
import socket
import time

import imap_boxes

TIMEOUT = 20
LITERAL = re.compile(r'\{(#?\w+|"[^"]*")(\+?)\}')
STEP = re.compile(r'(?:\*(\d+) )?([A-Z])([:>&.!?-]) ?(.*)')


class Connection:
    """One client; answers are whole lines with their literals."""

    def __init__(self, port, letter):
        self.letter = letter
        self.sock = socket.create_connection(('127.0.0.1', port), TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b''
        self.count = 0
        self.open_tags = []
        self.gone = False
        self.later, self.waiting = False, b''

    def close(self):
        self.sock.close()

    def receive(self):
        got = self.sock.recv(1 << 16)
        if not got:
            raise EOFError('the server has closed the connection')
        self.data += got

    def line(self):
        while b'\n' not in self.data:
            self.receive()
        line, self.data = self.data.split(b'\n', 1)
        return line.rstrip(b'\r')

    def octets(self, count):
        while len(self.data) < count:
            self.receive()
        out, self.data = self.data[:count], self.data[count:]
        return out

    def answer(self):
        """The next answer: list of text and literals in turn."""
        parts = [self.line()]
        while m := re.search(rb'\{(\d+)\}$', parts[-1]):
            parts += [self.octets(int(m[1])), self.line()]
        return parts

    def command(self, text):
        """Send a command; answers that come before its literals are wanted
        are returned."""
        self.count += 1
        tag = f'{self.letter}{self.count}'
        self.open_tags.append(tag)
        return self.send(f'{tag} {text}')

    def send(self, text):
        before, pos, out = [], 0, b''
        for m in LITERAL.finditer(text):
            data = m[1][1:-1].encode() if m[1][0] == '"' else \
                imap_boxes.sample(m[1])
            out += (text[pos:m.start()] + '{%d%s}\r\n' % (len(data), m[2])
                    ).encode('latin-1')
            pos = m.end()
            if not m[2]:
                self.put(out)
                out = b''
                before += self.until_continuation()
                if not self.open_tags:
                    return before
            out += data
        self.put(out + (text[pos:] + '\r\n').encode('latin-1'))
        return before

    def put(self, octets):
        """With "later" what is to be sent waits for the next finish(): a
        server answers what it reads at once otherwise than pieces."""
        self.waiting += octets
        if not self.later:
            self.sock.sendall(self.waiting)
            self.waiting = b''

    def until_continuation(self):
        out = []
        while self.open_tags:
            out.append(self.answer())
            if out[-1][0].startswith(b'+'):
                return out
            self.is_tagged(out[-1])
        return out

    def is_tagged(self, answer):
        if answer[0].startswith(b'* BYE'):
            self.gone = True
        tag = answer[0].split(b' ', 1)[0].decode('latin-1')
        if tag in self.open_tags:
            self.open_tags.remove(tag)
            return True
        return False

    def finish(self):
        """Until everything is answered, or the server says good-bye."""
        out = []
        self.later = False
        self.put(b'')
        while self.open_tags:
            try:
                out.append(self.answer())
            except (EOFError, ConnectionError) as e:
                self.gone = True
                return out + [[f'({type(e).__name__})'.encode()]]
            self.is_tagged(out[-1])
        return out

    def until(self, pattern):
        out = []
        while not out or not re.search(pattern, show(out[-1])):
            try:
                out.append(self.answer())
            except (OSError, EOFError) as e:
                raise AssertionError(
                    f'{self.letter} waits for {pattern}: {e!r}\n' +
                    '\n'.join(show(a) for a in out)) from e
            self.is_tagged(out[-1])
        return out

    def rest(self):
        """What has come unasked."""
        out = []
        while self.data or select.select([self.sock], [], [], 0)[0]:
            try:
                out.append(self.answer())
            except (EOFError, ConnectionError):
                self.gone = True
                return out
        return out


def show(parts):
    """An answer as one line of text."""
    out = ''
    for i, part in enumerate(parts):
        if i % 2 == 0:
            out += part.decode('latin-1')
        elif len(part) <= 160:
            out += repr(part)
        else:
            digest = hashlib.sha256(part).hexdigest()[:16]
            out += f'<{len(part)} octets {digest} {part[:24]!r}>'
    return out


class Session:
    """A script being run against one server; transcript is what happened:
    (step, line) pairs."""

    def __init__(self, port, user):
        self.port, self.user = port, user
        self.connections = {}
        self.values = {}
        self.transcript = []
        self.last = {}

    def close(self):
        for c in self.connections.values():
            c.close()
        self.connections = {}

    def note(self, step, answers, letter=None):
        lines = [show(a) for a in answers]
        self.transcript += [(step, line) for line in lines]
        if letter and lines:
            self.last[letter] = lines
        return lines

    def connection(self, letter):
        """The one of that letter, a new one if the server has closed it."""
        old = self.connections.get(letter)
        if old and old.gone:
            old.close()
        if not old or old.gone:
            c = Connection(self.port, letter)
            self.connections[letter] = c
            self.note(f'{letter} connects', [c.answer()])
            c.count = -1
            before = c.command(f'LOGIN {self.user} pw')
            self.note(f'{letter} logs in', before + c.finish())
        return self.connections[letter]

    def fill_in(self, text):
        return re.sub(r'<<(\w+)>>', lambda m: str(self.values[m[1]]), text)

    def run(self, text):
        for line in text.splitlines():
            line = line.strip()
            if not line or line.startswith('#'):
                continue
            if line.startswith('wait '):
                time.sleep(float(line[5:]))
            elif line.startswith('let '):
                self.let(*line.split(' ', 3)[1:])
            else:
                self.steps(line)

    def let(self, name, letter, pattern):
        found = re.findall(pattern, '\n'.join(self.last[letter]))
        if not found:
            raise AssertionError(f'nothing matches {pattern} in '
                                 f'{self.last[letter]}')
        self.values[name] = found[-1]

    def steps(self, line):
        m = STEP.fullmatch(line)
        if not m:
            raise AssertionError(f'not a step: {line}')
        times, letter, kind, rest = m.groups()
        for n in range(1, int(times or 1) + 1):
            self.values['n'] = n
            self.step(letter, kind, rest)

    def step(self, letter, kind, rest):
        c = self.connection(letter)
        if kind == '-':
            c.close()
            del self.connections[letter]
            return
        text = self.fill_in(rest)
        c.later = kind == '&'
        if kind in ':>&':
            answers = c.command(text)
        elif kind == '!':
            answers = c.send(text)
        elif kind == '?':
            answers = c.until(text)
        else:
            answers = []
        if kind in ':.':
            answers += c.finish()
        # Values that differ between servers must not name the step.
        self.note(f'{letter}{kind} {rest}', answers, letter)

    def finish(self):
        """Everybody logs out."""
        for letter in sorted(self.connections):
            c = self.connections[letter]
            self.note(f'{letter} has heard', c.rest())
            if c.gone:
                continue    # it has been said good-bye to
            self.note(f'{letter} logs out', c.command('LOGOUT') + c.finish())
        self.close()


class Normal:
    """Takes out of a transcript what may differ between two servers. Numbers
    that may have any value get a label in the order in which they appear, so
    that equal ones stay equal and others different. Unless it is strict, the
    keywords that no message has and the order of flags do not count: Dovecot
    forgets such keywords whenever it writes its index anew."""

    def __init__(self, known, strict=True):
        self.known = {str(n) for n in known}
        self.strict = strict
        self.labels = {}

    def label(self, kind, number):
        if number in self.known or number in ('0', '1'):
            return number
        return self.labels.setdefault(
            (kind, number),
            f'{kind}{len([k for k in self.labels if k[0] == kind]) + 1}')

    def labelled(self, kind, pattern, line):
        return re.sub(pattern, lambda m: m[1] + self.label(kind, m[2]), line)

    def line(self, line):
        line = re.sub(r' ?\(\d+\.\d+ \+ [\d. +]+secs\)', '', line)
        line = re.sub(r'\b(in|took) \d+\.\d+ secs', r'\1 T', line)
        # Only told when the last look at the folder was long enough ago.
        line = re.sub(r' ?\\(Un)?Marked\b', '', line)
        if not self.strict:
            line = re.sub(r'\bFLAGS \(([^)]*)\)', lambda m: 'FLAGS (' + ' '.join(
                sorted(m[1].split())) + ')', line)
        line = self.labelled(
            'V', r'((?:UIDVALIDITY|APPENDUID|COPYUID) )(\d+)', line)
        line = self.labelled(
            'M', r'((?:HIGHESTMODSEQ |MODSEQ \(?))(\d+)', line)
        return re.sub(r'INTERNALDATE "([^"]*)"', self.date, line)

    @staticmethod
    def date(m):
        """A message that had no date has that of its arrival."""
        then = time.strptime(m[1].strip(), '%d-%b-%Y %H:%M:%S %z')
        if abs(time.mktime(then[:8] + (-1,)) - time.time()) < 86400:
            return 'INTERNALDATE now'
        return m[0]

    @staticmethod
    def is_early(step, line):
        """Dovecot tells of \\Recent messages when it next reads a directory,
        which it does sooner where a file was not called as it remembered."""
        return line.endswith(' RECENT') and 'SELECT' not in step

    def counts(self, step, line):
        if not self.strict and re.match(r'\* (OK \[PERMANENT)?FLAGS ', line):
            return False
        return not self.is_early(step, line)

    def transcript(self, lines):
        return [f'{step}\n    {self.line(line)}' for step, line in lines
                if self.counts(step, line)]
