#!/usr/bin/python3
"""Each thing that UW's programs do to mailboxes reaches the view and whoever is
connected to Dovecot: once where directories are watched, once where they are
polled. UW is the real c-client."""

import os
import re
import sys
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle')]
import harness      # noqa: E402
import mbxfile      # noqa: E402
from harness_dovecot import Idler       # noqa: E402
from harness_uw import Session, Uw      # noqa: E402

USER, NEW_USER = 'alice', 'bob'
COUNT = 6
LETTERS = {'\\Draft': 'D', '\\Flagged': 'F', '\\Answered': 'R',
           '\\Seen': 'S', '\\Deleted': 'T'}
SOON = 20           # seconds; Dovecot itself would look after 30 only


def ok(answer):
    assert answer[0] == 'OK', answer
    return answer[1]


class Changes:
    """Both ways; see below."""

    def start(self, *boxes):
        harness.need_dovecot()
        self.r = self.rig()
        home = self.r.user(USER)
        self.uid = self.r.users[USER]
        self.r.put(USER, 'INBOX', mbxfile.mailbox(COUNT))
        for name in boxes:
            self.r.put(USER, f'mail/{name}', mbxfile.mailbox(COUNT))
        with open(self.r.path('text'), 'wb') as f:
            f.write(mbxfile.text(77))
        self.uw = Uw(home, self.uid)
        self.addCleanup(self.uw.close)
        self.r.mount(self.r.options(scan='touch', **self.options))
        self.dovecot = self.r.dovecot(
            extra='mail_save_crlf = yes\nmailbox_idle_check_interval = 30s\n',
            users={USER: self.uid, NEW_USER: self.uid + 1})
        self.imap = self.connect(USER)
        self.idler = Idler(self.imap)

    def connect(self, user, folder='INBOX'):
        m = self.dovecot.imap(user)
        self.addCleanup(m.shutdown)
        ok(m.select(folder))
        return m

    def announced(self, what, change, pattern):
        """Somebody in IDLE is told of it."""
        self.idler.idle()
        change()
        began = time.monotonic()
        lines = self.idler.until(pattern, SOON)
        took = time.monotonic() - began
        self.idler.done()
        print(f'     {self.mode}: {what} announced after {took:.3f} s',
              flush=True)
        return lines[-1]

    def put(self, name='INBOX', flags=''):
        self.uw(f'put {name} {self.r.path("text")} - {flags}')

    def mbx(self):
        """As c-client has it: UID -> (letters, keywords, octets)."""
        path = self.r.legacy_file(USER, 'INBOX')
        return {u: (m['flags'].strip('-'), m['keywords'].strip('-'), m['size'])
                for u, m in harness.cc_dump(path)['INBOX']['mail'].items()}

    def shown(self, mail):
        out = {}
        for uid, m in mail.items():
            letters = ''.join(sorted(LETTERS[f] for f in m['flags']
                                     if f in LETTERS))
            words = sorted(f.lower() for f in m['flags'] if f[0] != '\\')
            out[uid] = letters, ','.join(words), str(m['size'])
        return out

    def agree(self):
        """The connected session, a new one, and c-client, message for message;
        and the view has the octets."""
        want = self.mbx()
        ok(self.imap.noop())
        for m in (self.imap, self.dovecot.imap(USER)):
            mail = harness.imap_folder(m, 'INBOX')['mail']
            self.assert_same(want, self.shown(mail))
        m.logout()
        top = f'{self.r.mnt}/{USER}'
        files = [f'{top}/{d}/{n}' for d in ('cur', 'new')
                 for n in os.listdir(f'{top}/{d}')]
        octets = []
        for path in files:
            with open(path, 'rb') as f:
                octets.append(f.read())
        self.assertEqual(sorted(octets),
                         sorted(m['body'] for m in mail.values()))

    # In a mailbox

    def test_messages(self):
        self.start()
        self.agree()
        self.announced('APPEND', self.put, rb'\* %d EXISTS' % (COUNT + 1))
        self.agree()
        line = self.announced('flags', lambda: self.uw(
            r'flag INBOX + 3 \Flagged \Answered'), rb'\* 3 FETCH')
        self.assertIn(b'\\Flagged', line)
        self.agree()
        line = self.announced('a new keyword', lambda: self.uw(
            'flag INBOX + 2 Urgent'), rb'\* 2 FETCH')
        self.assertIn(b'Urgent', line)
        self.agree()
        line = self.announced('a flag that goes', lambda: self.uw(
            r'flag INBOX - 3 \Flagged'), rb'\* 3 FETCH')
        self.assertNotIn(b'\\Flagged', line)
        self.agree()

    def test_uids_that_are_assigned(self):
        """Delivered without a UID, as dmail does; the next session of UW gives
        it one, which Dovecot had foretold."""
        self.start()
        self.announced('mail without a UID', lambda: self.r.make(
            USER, 'deliver', 'INBOX'), rb'\* %d EXISTS' % (COUNT + 1))
        ok(self.imap.noop())
        before = harness.imap_folder(self.imap, 'INBOX')
        time_before = self.new_ns()
        self.uw('ping INBOX')
        self.assertIn(b'%08x\r\n' % (COUNT + 1), self.octets())
        self.agree()
        self.assert_same(before, harness.imap_folder(self.imap, 'INBOX'))
        self.assertEqual(self.new_ns(), time_before)

    def new_ns(self):
        return os.stat(f'{self.r.mnt}/{USER}/new').st_mtime_ns

    def octets(self):
        with open(self.r.legacy_file(USER, 'INBOX'), 'rb') as f:
            return f.read()

    def test_expunge_and_compaction(self):
        self.start()
        ok(self.imap.fetch('1', '(BODY.PEEK[])'))
        size = len(self.octets())
        # Two have it open: what is expunged stays where it is, marked.
        one, two = (Session(self.r, USER, 'INBOX') for _ in range(2))
        one('set 2 \\Deleted')
        ok(self.imap.noop())
        self.announced('an expunge', lambda: one('expunge'),
                       rb'\* 2 EXPUNGE')
        self.assertEqual(len(self.octets()), size)
        self.agree()
        # One alone: the others slide down. Nobody has to be told, but whoever
        # reads then reads the right octets.
        two.close()
        one('expunge')
        one.close()
        self.assertLess(len(self.octets()), size)
        self.agree()
        # Both at once.
        self.uw(r'flag INBOX + 1,4 \Deleted')
        ok(self.imap.noop())
        self.announced('an expunge that slides',
                       lambda: self.uw('expunge INBOX'), rb'\* \d EXPUNGE')
        self.assertEqual(len(self.mbx()), COUNT - 3)
        self.agree()

    # Whole mailboxes

    def names(self, command):
        """Of a new session: Dovecot lists its root once in each."""
        m = self.dovecot.imap(USER)
        rows = ok(getattr(m, command)())
        m.logout()
        return {re.match(rb'\([^)]*\) "." "?([^"]*)"?$', row)[1].decode()
                for row in rows if row}

    def known(self):
        """Asked of the daemon: the view is not looked at for it."""
        for u in self.r.status()['users']:
            if u['name'] == USER:
                return {f['name'] for f in u['folders']
                        if f.get('state') != 'gone'}
        return set()

    def test_folders(self):
        self.start('old', 'gone', 'stays')
        self.uw('subscribe mail/old')
        self.assertEqual(self.names('list'),
                         {'INBOX', 'old', 'gone', 'stays'})
        uids = harness.imap_folder(self.imap, 'old')
        ok(self.imap.select('INBOX'))       # in view, so that it is polled
        self.uw('rename mail/old mail/renamed')
        self.uw('delete mail/gone')
        self.uw('make mail/new')
        self.put('mail/new')
        os.mkdir(self.r.legacy_file(USER, 'mail/sub'), 0o700)
        os.chown(self.r.legacy_file(USER, 'mail/sub'), self.uid, self.uid)
        self.uw('make mail/sub/deep')
        self.uw('subscribe mail/new')
        self.uw('unsubscribe mail/old')
        want = {'renamed', 'stays', 'new', 'sub.deep'}
        began = time.monotonic()
        harness.wait_for('the daemon to know them', lambda: self.known()
                         - {'INBOX'} == want)
        print(f'     {self.mode}: folders known after '
              f'{time.monotonic() - began:.3f} s', flush=True)
        self.assertEqual(self.names('list') - {'sub'}, want | {'INBOX'})
        # Who is connected can go there, too.
        self.assert_same(uids, harness.imap_folder(self.imap, 'renamed'))
        self.assertEqual(harness.imap_folder(self.imap, 'new')['messages'], 1)
        # The kernel may know its directories for a second.
        self.dovecot.expected += ['Mailbox gone: ']
        self.assertEqual(self.imap.select('gone')[0], 'NO')
        harness.wait_for('the subscriptions',
                         lambda: self.names('lsub') == {'new'})

    def test_a_new_user(self):
        self.start()
        home = self.r.user(NEW_USER)
        uw = Uw(home, self.r.users[NEW_USER])
        self.addCleanup(uw.close)
        uw('make INBOX')
        self.imap = self.connect(NEW_USER)
        self.idler = Idler(self.imap)
        self.announced('mail of a new user', lambda: uw(
            f'put INBOX {self.r.path("text")} -'), rb'\* 1 EXISTS')

    # When nobody waits

    def test_flags_at_the_next_command(self):
        """Also in the very second in which Dovecot looked last: changed times
        are told apart by more than seconds."""
        self.start()
        flags = ['\\Flagged', '\\Answered', 'Word']
        for n in range(12):
            sign = '-' if n % 2 else '+'
            flag = flags[n // 2 % 3]
            ok(self.imap.noop())
            self.imap.response('FETCH')
            self.uw(f'flag INBOX {sign} 4 {flag}')
            ok(self.imap.noop())
            told = self.imap.response('FETCH')[1]
            self.assertEqual(len(told), 1, told)
            self.assertTrue(told[0].startswith(b'4 ('), told)
            self.assertEqual(flag.encode() in told[0], sign == '+', told)
        self.agree()


class Watched(Changes, harness.Case):
    mode, options = 'inotify', {}


class Polled(Changes, harness.Case):
    mode, options = 'poll', {'watch': 'poll', 'poll': '1'}


if __name__ == '__main__':
    harness.main()
