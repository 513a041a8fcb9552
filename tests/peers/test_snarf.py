#!/usr/bin/python3
"""The old MTA's spool: what is in it gets into INBOX as UW would do it, once,
and under the locks of everybody who has to do with it."""

import contextlib
import fcntl
import os
import random
import re
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
sys.path.insert(0, os.path.join(harness.TESTS, 'oracle'))
import mbxfile  # noqa: E402
from harness_holder import holder   # noqa: E402

LINE = re.compile(rb'([^,]*),(\d+);([0-9a-f]{8})([0-9a-f]{4})-([0-9a-f]{8})'
                  rb'\r\n')
DATES = ['Wed Dec  2 05:53:22 1992', 'Thu Jan  1 10:00 2004',
         'Thu Jan  1 10:00:01 PST 2004', 'Thu Jan  1 10:00:02 2004 +0130',
         'Thu Jan  1 10:00:03 -0730 2004', 'Sun Feb 29 23:59:59 2004 EST',
         'Thu Jan  1 10:00 2004 remote from relay',
         'Thu Jan  1 10:00:04 2004  remote from a.b.c']
# Lines that begin like the start of a message, and some that are one.
NEARLY = ['From me to you', '>From x Wed Dec  2 05:53:22 1992',
          'From x Wed Dec 2 05:53:22 1992', 'From: x',
          'From x Wed Dec  2 05-53-22 1992', 'From here, Wed at 05:53 1992',
          'From x Xxx Yyy 99 00:00:00 2004']
NOTES = ['Status: RO', 'Status: O', 'X-Status: F', 'X-Status: ADT',
         'X-Keywords: one two', 'X-UID: 17', 'X-IMAPbase: 123456 7 one',
         'status: R', 'STATUS: D', 'Status of things', 'x-uid: 5',
         'X-Keywords: a\n b\n\tc', 'Statusbar: kept', 'X-Status']


def messages(data):
    """(date, flags without OLD, octets) of an MBX's records."""
    at, out = mbxfile.HEADER, []
    while at < len(data):
        m = LINE.match(data, at)
        end = m.end() + int(m[2])
        out.append((m[1], int(m[4], 16) & ~mbxfile.OLD, data[m.end():end]))
        at = end
    return out


def mail(n, date=DATES[0], notes=(), body='body\n'):
    return (f'From sender{n}@example.test {date}\nSubject: number {n}\n'
            + ''.join(f'{x}\n' for x in notes) + f'\n{body}\n').encode()


def random_spool(rnd):
    out = b''
    for n in range(rnd.randrange(1, 12)):
        lines = [rnd.choice(NEARLY + ['', '', 'text', 'x' * 5000, '\tz'])
                 for _ in range(rnd.randrange(8))]
        notes = rnd.sample(NOTES, rnd.randrange(4))
        one = mail(n, rnd.choice(DATES if n else DATES[:-1]), notes, '\n'.join(lines))
        if rnd.random() < 0.2:
            one = one.replace(b'\n', b'\r\n')
        out += one
    if rnd.random() < 0.2:
        out = out[:-rnd.randrange(1, 30)].rstrip(b'\r')
    return out


class Snarf(harness.Case):
    def setUp(self):
        super().setUp()
        self.r = self.rig()
        self.r.user('alice', 'inbox')
        self.spool = self.r.path('spool')
        os.mkdir(self.spool)
        os.chmod(self.spool, 0o2775)

    def mount(self, **options):
        self.r.mount(self.r.options(spool=f'{self.spool}/%u', **options))

    def path(self, user='alice'):
        return os.path.join(self.spool, user)

    def put(self, data, user='alice', how='wb'):
        with open(self.path(user), how) as f:
            f.write(data)
        os.chown(self.path(user), self.r.users[user], 8)
        os.chmod(self.path(user), 0o660)

    def deliver(self, data, user='alice'):
        """As an MTA does."""
        def dot():
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path(user) + '.lock',
                                 os.O_CREAT | os.O_EXCL, 0o666))
                return True
        harness.wait_for('the lock file', dot)
        try:
            if not os.path.exists(self.path(user)):
                self.put(b'', user)
            with open(self.path(user), 'ab') as f:
                fcntl.flock(f, fcntl.LOCK_EX)
                f.write(data)
        finally:
            os.unlink(self.path(user) + '.lock')

    def left(self, user='alice'):
        with open(self.path(user), 'rb') as f:
            return f.read()

    def inbox(self, user='alice'):
        with open(self.r.legacy_file(user, 'INBOX'), 'rb') as f:
            return messages(f.read())

    def taken(self, user='alice', left=b''):
        harness.wait_for('the spool to be taken',
                         lambda: self.left(user) == left, 20)
        # The spool is cut before the locks are dropped.
        harness.wait_for('its lock to go', lambda: not os.path.exists(
            self.path(user) + '.lock'), 5)

    def waiting(self):
        for user in self.r.status()['users']:
            if user['name'] == 'alice':
                return user.get('spool')
        return None

    def test_it_comes_as_uw_takes_it(self):
        rnd = random.Random(20261122)
        self.r.user('bob', 'inbox', uid=self.r.users['alice'])
        self.mount()
        for turn in range(8):
            data = random_spool(rnd)
            had = {u: len(self.inbox(u)) for u in ('alice', 'bob')}
            uw = self.r.path('uw')
            with open(uw, 'wb') as f:
                f.write(data)
            os.chown(uw, self.r.users['bob'], -1)
            self.r.make('bob', 'snarf', uw)
            want = self.inbox('bob')[had['bob']:]
            self.put(data)
            os.listdir(f'{self.r.mnt}/alice/cur')
            try:
                self.taken()
            except AssertionError:
                raise AssertionError(data[:3000]) from None
            got = self.inbox()[had['alice']:]
            dates = [[m[0] for m in x] for x in (want, got)]
            with self.subTest(turn=turn):
                self.assertTrue(want)
                self.assertEqual([m[1:] for m in want], [m[1:] for m in got],
                                 data)
                self.assertEqual([self.instant(d) for d in dates[0]],
                                 [self.instant(d) for d in dates[1]])
        # It shows, and UW reads it.
        self.assertEqual(
            len(list(harness.cc_dump(self.r.legacy_file('alice', 'INBOX'))
                     .values())[0]['mail']),
            len(os.listdir(f'{self.r.mnt}/alice/cur'))
            + len(os.listdir(f'{self.r.mnt}/alice/new')))

    @staticmethod
    def instant(text):
        stamp, zone = text.decode().strip().rsplit(' ', 1)
        seconds = int(time.mktime(time.strptime(stamp, '%d-%b-%Y %H:%M:%S'))
                      ) - time.timezone
        offset = int(zone[1:3]) * 3600 + int(zone[3:]) * 60
        return seconds - (offset if zone[0] == '+' else -offset)

    def test_uws_own_message_stays(self):
        self.put(mail(1))
        had = len(self.inbox())
        self.r.make('alice', 'snarf', self.path())
        pseudo = self.left()
        self.assertIn(b"DON'T DELETE THIS MESSAGE", pseudo)
        self.mount()
        os.listdir(f'{self.r.mnt}/alice/cur')
        self.assertIsNone(self.waiting())
        self.put(mail(2), how='ab')
        self.taken(left=pseudo)
        self.assertEqual(len(self.inbox()), had + 2)
        self.r.make('alice', 'snarf', self.path())
        self.assertEqual(len(self.inbox()), had + 2)

    def test_without_the_option_nothing_is_touched(self):
        name = f'jmtest{os.getpid()}'
        path = f'/var/mail/{name}'
        self.r.user(name, 'inbox', uid=self.r.users['alice'])
        with open(path, 'xb') as f:
            f.write(mail(1))
        self.addCleanup(os.unlink, path)
        self.r.mount()
        os.listdir(f'{self.r.mnt}/{name}/cur')
        time.sleep(2.5)
        with open(path, 'rb') as f:
            self.assertEqual(f.read(), mail(1))
        self.assertIn(f'{len(mail(1))} octets wait in {path}: there is no '
                      'spool=', self.r.tool('status', self.r.mnt).stdout)

    @contextlib.contextmanager
    def blocked(self, how):
        """Somebody has one of the locks; nothing is taken meanwhile."""
        st = os.stat(self.path())
        session = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
        with open(self.path(), 'r+b') as f, contextlib.ExitStack() as stack:
            if how == 'flock':
                fcntl.flock(f, fcntl.LOCK_SH)
            elif how == 'fcntl':
                fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack(
                    'hhqqi', fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            elif how == 'dot':
                with open(self.path() + '.lock', 'x', encoding='ascii') as d:
                    d.write(f'{os.getpid()}\n')
                stack.callback(os.unlink, self.path() + '.lock')
            else:
                s = stack.enter_context(open(session, 'xb'))
                os.chmod(session, 0o666)
                fcntl.flock(s, fcntl.LOCK_EX)
                stack.callback(os.unlink, session)
            yield

    def test_every_lock_is_waited_for(self):
        self.mount()
        os.listdir(f'{self.r.mnt}/alice/cur')
        for how in ('flock', 'fcntl', 'dot', 'session'):
            had = len(self.inbox())
            self.put(b'')
            with self.subTest(lock=how), self.blocked(how):
                self.put(mail(how), how='r+b')
                harness.wait_for('it to be noticed', lambda: (
                    self.waiting() or {}).get('why') == 'it is locked', 10)
                self.assertEqual(self.left(), mail(how))
                self.assertEqual(len(self.inbox()), had)
                if how in ('flock', 'session'):
                    self.assertRegex(self.waiting()['locked_by'],
                                     f'^pid {os.getpid()} ')
            self.taken()
            self.assertEqual(len(self.inbox()), had + 1)

    def test_a_lock_file_of_the_dead_is_removed(self):
        self.mount()
        os.listdir(f'{self.r.mnt}/alice/cur')
        with open(self.path() + '.lock', 'x', encoding='ascii') as f:
            f.write('4194303\n')
        self.put(mail(1))
        self.taken()
        self.r.expect_log("alice.lock: nobody's any more")

    def test_a_session_of_uw_and_we_do_not_double_it(self):
        """Both look for mail in the same spool at the same time."""
        self.mount(lockwait=2)
        os.listdir(f'{self.r.mnt}/alice/cur')
        had = len(self.inbox())
        for n in range(60):
            self.deliver(mail(n))
            if n % 3 == 0:
                self.r.make('alice', 'snarf', self.path())
            time.sleep(0.05)
        self.r.make('alice', 'snarf', self.path())
        harness.wait_for('all of it', lambda: len(self.inbox()) >= had + 60,
                         10)
        got = sorted(m[2] for m in self.inbox()[had:])
        self.assertEqual(got, sorted(set(got)))
        self.assertEqual(len(got), 60)

    def test_what_is_no_spool_is_left_alone(self):
        self.put(b'not a mailbox\n' * 3)
        self.mount()
        os.listdir(f'{self.r.mnt}/alice/cur')
        self.r.expect_log('spool/alice: mail stays there: .*damaged')
        harness.wait_for('the log', lambda: 'stays there' in self.r.log(), 10)
        self.assertEqual(self.left(), b'not a mailbox\n' * 3)

    def test_nobody_elses_file_is_taken(self):
        victim = self.r.put('alice', 'victim', mail(1))
        had = len(self.inbox())
        for how in ('link', 'symlink', 'owner'):
            with self.subTest(how=how):
                if how == 'link':
                    os.link(victim, self.path())
                elif how == 'symlink':
                    os.symlink(victim, self.path())
                else:
                    self.put(mail(1))
                    os.chown(self.path(), 4242, 8)
                    os.chmod(self.path(), 0o666)
                self.mount()
                os.listdir(f'{self.r.mnt}/alice/cur')
                time.sleep(2.5)
                with open(victim, 'rb') as f:
                    self.assertEqual(f.read(), mail(1))
                self.assertEqual(len(self.inbox()), had)
                self.r.unmount()
                os.unlink(self.path())
        self.r.expect_log('mail stays there: the spool has hard links',
                          'mail stays there: the spool belongs to somebody')

    def session_is_free(self):
        """Whether a session of UW could take mail out of the spool now."""
        st = os.stat(self.path())
        try:
            with open(f'/tmp/.{st.st_dev:x}.{st.st_ino:x}', 'rb') as f:
                fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except FileNotFoundError:
            pass
        return True

    def dot(self):
        return os.path.exists(self.path() + '.lock')

    def test_a_locked_inbox_does_not_keep_the_spool_locked(self):
        self.mount(lockwait=60)
        os.listdir(f'{self.r.mnt}/alice/cur')
        inbox = self.r.legacy_file('alice', 'INBOX')
        had = len(self.inbox())
        with holder(inbox):
            self.put(mail(1))
            for _ in range(2):
                harness.wait_for('the spool to be locked', self.dot)
                harness.wait_for('others to get at it',
                                 lambda: not self.dot(), 20)
        self.taken()
        self.assertEqual(len(self.inbox()), had + 1)

    def test_what_was_taken_is_not_left_to_uw(self):
        """INBOX is locked when one half is in it, and still in the spool."""
        self.mount(lockwait=60)
        os.listdir(f'{self.r.mnt}/alice/cur')
        inbox = self.r.legacy_file('alice', 'INBOX')
        had, size = len(self.inbox()), os.path.getsize(inbox)
        self.put(b''.join(mail(n) for n in range(400)))
        harness.wait_for('some of it',
                         lambda: os.path.getsize(inbox) > size + 500, 20)
        with holder(inbox):
            half = len(self.inbox()) - had
            self.assertTrue(0 < half < 400)
            for _ in range(2):
                harness.wait_for('others to get at the spool',
                                 lambda: not self.dot(), 20)
                with open(self.path() + '.lock', 'x', encoding='ascii') as f:
                    f.write(f'{os.getpid()}\n')
                    time.sleep(4)
                self.assertFalse(self.session_is_free())
                os.unlink(f.name)
                harness.wait_for('it to be tried again', self.dot, 20)
            self.assertEqual(len(self.inbox()), had + half)
        self.taken()
        got = [m[2] for m in self.inbox()[had:]]
        self.assertEqual(len(got), 400)
        self.assertEqual(len(set(got)), 400)

    def test_an_end_in_the_middle_leaves_nothing_in_both_places(self):
        self.mount()
        os.listdir(f'{self.r.mnt}/alice/cur')
        inbox = self.r.legacy_file('alice', 'INBOX')
        had, size = len(self.inbox()), os.path.getsize(inbox)
        self.put(b''.join(mail(n) for n in range(100)))
        harness.wait_for('some of it',
                         lambda: os.path.getsize(inbox) > size, 20)
        self.r.unmount()
        self.assertEqual(len(self.inbox()), had + 100)
        self.assertEqual(self.left(), b'')

    def test_its_lock_file_is_ours_alone(self):
        """It does not grow old; and who makes another one keeps his."""
        self.mount()
        os.listdir(f'{self.r.mnt}/alice/cur')
        self.put(b'')
        st = os.stat(self.path())
        session = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
        with open(session, 'xb') as f:
            os.chmod(session, 0o666)
            f.write(b'12345')
        self.put(b''.join(mail(n) for n in range(200)), how='r+b')
        dot = self.path() + '.lock'
        harness.wait_for('the lock', self.dot)
        made = os.stat(dot)
        self.assertEqual(os.path.getsize(session), 0)

        def younger():
            now = os.stat(dot)
            return now.st_ino == made.st_ino and \
                now.st_ctime_ns > made.st_ctime_ns + 10**8
        harness.wait_for('it to be renewed', younger, 10)
        with open(dot + '.mine', 'x', encoding='ascii') as f:
            f.write(f'{os.getpid()}\n')
        os.rename(dot + '.mine', dot)
        harness.wait_for('the end', self.session_is_free, 60)
        self.assertEqual(self.left(), b'')
        self.assertTrue(self.dot())
        os.unlink(dot)
        self.r.expect_log('alice.lock: removed or replaced')

    def test_much_mail_does_not_keep_the_next_one_waiting(self):
        self.mount()
        os.listdir(f'{self.r.mnt}/alice/cur')
        had = len(self.inbox())
        self.put(mail(1, body='\n' * (16 << 20)))
        self.taken()
        self.put(mail(2))
        harness.wait_for('it', lambda: len(self.inbox()) == had + 2, 10)

    def test_no_spool_fills_the_directory_of_the_locks(self):
        locks = self.r.path('locks')
        os.mkdir(locks)
        r = harness.run(['mount', '-t', 'tmpfs', '-o', 'size=4M,mode=1777',
                         'none', locks])
        harness.skip_unless(r.returncode == 0, f'no tmpfs: {r.stderr}')
        self.addCleanup(harness.run, ['umount', '-l', locks])
        # It takes no room where it is, but would there.
        self.put(mail(1))
        os.truncate(self.path(), 3 << 20)
        self.mount(lockdir=locks)
        had = len(self.inbox())
        self.r.expect_log('mail stays there: .*too little room in lockdir=')
        os.listdir(f'{self.r.mnt}/alice/cur')
        harness.wait_for('the log', lambda: 'too little' in self.r.log(), 20)
        self.assertEqual(os.path.getsize(self.path()), 3 << 20)
        self.assertEqual(len(self.inbox()), had)

    def test_all_of_it_or_nothing(self):
        """INBOX has room for some of it only."""
        had = len(self.inbox())
        size = os.path.getsize(self.r.legacy_file('alice', 'INBOX'))
        self.mount(mbxmax=size + 1000)
        os.listdir(f'{self.r.mnt}/alice/cur')
        data = b''.join(mail(n) for n in range(30))
        self.put(data)
        self.r.expect_log('mail stays there: INBOX would grow beyond')
        harness.wait_for('the log', lambda: 'would grow' in self.r.log(), 20)
        self.assertEqual(self.left(), data)
        self.assertEqual(len(self.inbox()), had)

    def test_what_comes_as_the_spool_is_cut_is_not_overlooked(self):
        self.mount()
        os.listdir(f'{self.r.mnt}/alice/cur')
        had = len(self.inbox())
        for n in range(1, 4):
            self.put(mail(f'{n}a'))
            with open(self.path(), 'ab') as f:
                until = time.monotonic() + 20
                while os.path.getsize(f.fileno()) > 0:
                    self.assertLess(time.monotonic(), until)
                f.write(mail(f'{n}b'))
            harness.wait_for('both', lambda want=had + 2 * n:
                             len(self.inbox()) == want, 20)
            self.taken()

    def test_a_locked_inbox_is_waited_for(self):
        self.mount(lockwait=1)
        os.listdir(f'{self.r.mnt}/alice/cur')
        had = len(self.inbox())
        st = os.stat(self.r.legacy_file('alice', 'INBOX'))
        name = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
        with open(name, 'xb') as f:
            os.chmod(name, 0o666)
            fcntl.flock(f, fcntl.LOCK_EX)
            held = self.r.status()['locks']
            self.put(mail(1) + mail(2))
            harness.wait_for('it to be noticed', lambda: (
                self.waiting() or {}).get('why') == 'it is locked', 10)
            # Nobody waits for us because of the spool's session lock.
            self.assertEqual(self.r.status()['locks'], held)
            self.assertEqual(self.left(), mail(1) + mail(2))
            os.unlink(name)
        self.taken()
        self.assertEqual(len(self.inbox()), had + 2)


if __name__ == '__main__':
    harness.main()
