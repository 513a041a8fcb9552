"""Carrying out operations for real: IMAP clients, agents, UW's programs.

An Actor is one of each, in a process of its own when there are several. What it
learns (UIDs from response codes, names) goes back as a result and is merged
into `known`:

    known['box'][b]     name, directory in the view, name for UW
    known['mail'][m]    uid, base, mbxuid
"""

import contextlib
import json
import os
import re
import select
import signal
import smtplib
import time
import traceback

import harness
from harness_uw import Uw
import imapraw
from model_mail import crlf, imap_date, lower, octets

LETTERS = {'\\Draft': 'D', '\\Flagged': 'F', '\\Answered': 'R',
           '\\Seen': 'S', '\\Deleted': 'T'}


@contextlib.contextmanager
def acting_as(uid):
    """Files are made, renamed and removed as this user."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def find(top, base):
    """(sub, name) of the file with this base name."""
    for sub in ('new', 'cur'):
        for name in os.listdir(f'{top}/{sub}'):
            if name.partition(':')[0] == base:
                return sub, name
    raise FileNotFoundError(f'{top}: {base} is not there')


def insist(fn, *args):
    """What Dovecot does at the same time may take a name away."""
    for _ in range(20):
        try:
            return fn(*args)
        except FileNotFoundError:
            time.sleep(0.01)
    return fn(*args)


def uidlist(top):
    """Base name -> UID as dovecot-uidlist has it."""
    with open(f'{top}/dovecot-uidlist', encoding='utf-8') as f:
        return {line.rstrip('\n').partition(' :')[2]: int(line.split()[0])
                for line in list(f)[1:]}


class Actor:
    def __init__(self, world):
        self.world = world      # what is asked of it does not change
        self.conn = None
        self.uw = None
        self.known = None

    # What others need

    def imap(self):
        if not self.conn:
            self.conn = imapraw.Conn(self.world.imap_port, 'alice')
        return self.conn

    def selected(self, box):
        c, name = self.imap(), self.known['box'][box]['name']
        if c.box == name:
            c.do('NOOP')
            c.sync()
        else:
            c.select(name)
        if c.read_only:
            raise AssertionError(f'{name} is read-only')
        return c

    def c_client(self):
        if not self.uw:
            self.uw = Uw(self.world.home, self.world.uid)
        return self.uw

    def uids(self, ms, key='uid'):
        return [self.known['mail'][m][key] for m in ms]

    def top(self, box):
        return self.known['box'][box]['dir']

    def base(self, m, box):
        entry = self.known['mail'][m]
        if 'base' not in entry:
            by_uid = {u: b for b, u in uidlist(self.top(box)).items()}
            entry['base'] = by_uid[entry['uid']]
        return entry['base']

    def leave(self):
        """Nothing is open any more: folders are about to move."""
        if self.conn and self.conn.box:
            self.conn.do('UNSELECT')
            self.conn.leave()

    def hang_up(self):
        if self.conn:
            self.conn.logout()
        self.conn = None

    def close(self):
        if self.conn:
            self.conn.close()
        if self.uw:
            self.uw.close()

    def run(self, op, known):
        """What is learnt: {m: {...}}."""
        self.known = known
        learnt = getattr(self, '_' + op['op'])(op) or {}
        for m, entry in learnt.items():
            known['mail'].setdefault(m, {}).update(entry)
        return learnt

    # IMAP

    def _append(self, op):
        uid = self.imap().append(
            self.known['box'][op['box']]['name'],
            octets(op['m'], op['kind']), op['flags'], imap_date(op['date']))
        return {op['m']: {'uid': uid}}

    def _store(self, op):
        sign = {'=': ''}.get(op['how'], op['how'])
        self.selected(op['box']).do(
            f'UID STORE {imapraw.as_set(self.uids(op["ms"]))} '
            f'{sign}FLAGS ({" ".join(op["flags"])})')

    def _copy(self, op):
        got = self.selected(op['box']).copy(
            self.uids(op['ms']), self.known['box'][op['to']]['name'],
            op['op'].upper())
        return {n: {'uid': got[u]}
                for n, u in zip(op['ns'], self.uids(op['ms']))}

    _move = _copy

    def _expunge(self, op):
        c, uids = self.selected(op['box']), imapraw.as_set(
            self.uids(op['ms']))
        c.do(f'UID STORE {uids} +FLAGS.SILENT (\\Deleted)')
        c.do(f'UID EXPUNGE {uids}')

    def _close(self, op):
        self.selected(op['box']).do('EXPUNGE')

    def _look(self, op):
        """Dovecot comes to know what others did: op['fresh'] has a header
        line, the flags, and a UID or None for each message."""
        c, learnt = self.selected(op['box']), {}
        if not op['fresh']:
            return {}
        self.poke(op['box'])

        def all_there():
            c.do('NOOP')
            c.sync()
            learnt.update(self._shown(c, op))
            return len(learnt) == len(op['fresh'])
        harness.wait_for(f'{c.box}: {op["fresh"]}', all_there)
        return learnt

    def _shown(self, c, op):
        names = uidlist(self.top(op['box']))
        rest = [u for u in c.uids if u not in op['taken']]
        heads = c.fetch(imapraw.as_set(rest),
                        'BODY.PEEK[HEADER.FIELDS (X-MODEL)]') if rest else {}
        learnt = {}
        for m, (text, flags, uid) in op['fresh'].items():
            entry = self.known['mail'].get(m, {})
            base, uid = entry.get('base'), uid or entry.get('uid')
            want = b'X-Model: %s\r\n' % text.encode()
            uid = uid or (names.get(base) if base else next(
                (u for u, f in heads.items()
                 if any(isinstance(v, bytearray) and want in v
                        for v in f.values())), None))
            if uid in c.flags and lower(c.flags[uid]) == set(flags):
                learnt[m] = {'uid': uid}
        return learnt

    def poke(self, box):
        """The time of cur/ moves on, and Dovecot looks."""
        top, name = self.top(box), f'{time.time()}.{os.getpid()}.poke'
        with acting_as(self.world.uid):
            with open(f'{top}/tmp/{name}', 'xb') as f:
                f.write(b'Subject: poke\n\n')
            os.rename(f'{top}/tmp/{name}', f'{top}/cur/{name}:2,')
            os.unlink(f'{top}/cur/{name}:2,')

    # Agents

    def _deliver(self, op):
        data, top = octets(op['m'], op['kind']), self.top(op['box'])
        base = f'{op["date"]}.{op["m"]}.agent'
        if 'S' in op['sizes']:
            base += f',S={len(data)}'
        if 'W' in op['sizes']:
            base += f',W={len(crlf(data))}'
        sub = 'cur' if op['how'].endswith('cur') else 'new'
        name = base + (info(op['flags']) if sub == 'cur' else '')
        with acting_as(self.world.uid):
            fd = os.open(f'{top}/tmp/{base}',
                         os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(fd, data)
                os.utime(fd, (op['date'], op['date']))
                os.fsync(fd)
                if os.lseek(fd, 0, os.SEEK_END) != len(data):
                    raise AssertionError(f'{base}: other size')
            finally:
                os.close(fd)
            if op['how'].startswith('link'):
                os.link(f'{top}/tmp/{base}', f'{top}/{sub}/{name}')
                os.unlink(f'{top}/tmp/{base}')
            else:
                os.rename(f'{top}/tmp/{base}', f'{top}/{sub}/{name}')
            sync_dir(f'{top}/{sub}')
        return {op['m']: {'base': base}}

    def _agentflag(self, op):
        top = self.top(op['box'])

        def change(base):
            sub, name = find(top, base)
            old = name.partition(':2,')[2]
            os.rename(f'{top}/{sub}/{name}', f'{top}/cur/{base}'
                      + info(op['flags'], filter(str.islower, old)))
        for m in op['ms']:
            base = self.base(m, op['box'])
            with acting_as(self.world.uid):
                insist(change, base)

    def _agentrm(self, op):
        top = self.top(op['box'])
        for m in op['ms']:
            base = self.base(m, op['box'])
            with acting_as(self.world.uid):
                insist(lambda b: os.unlink('/'.join((top, *find(top, b)))),
                       base)

    def _agentmove(self, op):
        """To a new name, as a careful agent does it."""
        top, to = self.top(op['box']), self.top(op['to'])

        def move(base, new):
            sub, name = find(top, base)
            os.rename(f'{top}/{sub}/{name}', f'{to}/cur/{new}:2,'
                      + name.partition(':2,')[2])
        learnt = {}
        for m, n in zip(op['ms'], op['ns']):
            base = self.base(m, op['box'])
            sizes = re.sub(r'^[^,]*', '', base)
            with acting_as(self.world.uid):
                insist(move, base, f'99.{n}.moved{sizes}')
            learnt[n] = {'base': f'99.{n}.moved{sizes}'}
        # The kernel moves what it knew of the old name, inode number and all,
        # and believes it for a second.
        time.sleep(1.1)
        return learnt

    def _lmtp(self, op):
        with smtplib.LMTP('127.0.0.1', self.world.lmtp_port) as lmtp:
            lmtp.sendmail('a@example.test', 'alice@example.test',
                          octets(op['m'], 'crlf'))

    # UW

    def _uwput(self, op):
        path = f'{self.world.scratch}/{op["m"]}'
        with open(path, 'wb') as f:
            f.write(octets(op['m'], op['kind']))
        date = imap_date(op['date']).replace(' ', '_')
        self.c_client()(f'put {self.known["box"][op["box"]]["uw"]} {path} '
                        f'{date} {" ".join(op["flags"])}'.strip())
        os.unlink(path)

    def _uwflag(self, op):
        self.c_client()(
            f'flag {self.known["box"][op["box"]]["uw"]} {op["how"]} '
            f'{imapraw.as_set(self.uids(op["ms"], "mbxuid"))} '
            + ' '.join(op['flags']))

    def _uwexpunge(self, op):
        self._uwflag({**op, 'how': '+', 'flags': ['\\Deleted']})
        self.c_client()(f'expunge {self.known["box"][op["box"]]["uw"]}')

    def _uwopen(self, op):
        self.c_client()(f'open {self.known["box"][op["box"]]["uw"]}')

    def _uwclose(self, op):
        self.c_client()(f'close {self.known["box"][op["box"]]["uw"]}')

    # Folders

    def _create(self, op):
        self.imap().do(f'CREATE {imapraw.quote(op["name"])}')

    def _rename(self, op):
        old = self.known['box'][op['box']]['name']
        self.imap().do(f'RENAME {imapraw.quote(old)} '
                       f'{imapraw.quote(op["name"])}')

    def _delete(self, op):
        """UW's mail shows a moment late when Dovecot has its list locked, as
        while it deletes; it says so, and one tries again."""
        name = self.known['box'][op['box']]['name']

        def delete():
            try:
                self.imap().do(f'DELETE {imapraw.quote(name)}')
            except imapraw.Refused as e:
                if 'New mails were added to mailbox' not in str(e):
                    raise
                return False
            return True
        harness.wait_for(f'DELETE {name}', delete)

    def _subscribe(self, op):
        name = self.known['box'][op['box']]['name']
        self.imap().do(f'SUBSCRIBE {imapraw.quote(name)}')

    def _unsubscribe(self, op):
        self.imap().do(f'UNSUBSCRIBE {imapraw.quote(op["name"])}')


def info(flags, letters=''):
    return ':2,' + ''.join(sorted({LETTERS[f] for f in flags})
                           + sorted(letters))


def sync_dir(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Worker:
    """An Actor in a process of its own."""

    def __init__(self, world):
        here, there = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(here[1])
            os.close(there[0])
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                self._serve(Actor(world), os.fdopen(here[0]),
                            os.fdopen(there[1], 'w'))
            finally:
                os._exit(0)
        os.close(here[0])
        os.close(there[1])
        self.to, self.back = os.fdopen(here[1], 'w'), os.fdopen(there[0])

    @staticmethod
    def _serve(actor, todo, done):
        for line in todo:
            job = json.loads(line)
            if 'end' in job:
                break
            answer = {'learnt': []}
            try:
                for word in job.get('do', ()):
                    getattr(actor, word)()
                for i, op in job.get('ops', ()):
                    answer['at'] = i
                    answer['learnt'].append(actor.run(op, job['known']))
            except Exception:
                answer['error'] = traceback.format_exc()
            done.write(json.dumps(answer) + '\n')
            done.flush()
        actor.close()

    def send(self, job):
        self.to.write(json.dumps(job) + '\n')
        self.to.flush()

    def receive(self):
        if not select.select([self.back], [], [], 120)[0]:
            return {'learnt': [], 'error': 'no answer for two minutes'}
        line = self.back.readline()
        if not line:
            return {'learnt': [], 'error': 'the process ended'}
        return json.loads(line)

    def close(self):
        """Other workers have the end of our pipe, too, so it is said."""
        with contextlib.suppress(OSError):
            self.send({'end': True})
        with contextlib.suppress(AssertionError, ChildProcessError):
            harness.wait_for('a worker', lambda: os.waitpid(
                self.pid, os.WNOHANG)[0])
            self.pid = 0
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.to.close()
        self.back.close()
