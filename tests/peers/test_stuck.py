#!/usr/bin/python3
"""A process that holds a lock of a mailbox and never lets go: what is known is
read on, what has to wait waits alone and fails in time, and everything goes on
by itself when it lets go."""

import concurrent.futures
import contextlib
import os
import signal
import subprocess
import sys
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle')]
import harness      # noqa: E402
import mbxfile      # noqa: E402
from harness_holder import holder   # noqa: E402

MESSAGES = 60
CROWD = 50      # folders; each can have one change at a time in the kernel
PATIENT = 8     # so many threads wait for one user
LONG = 60       # seconds; who waits for this lock is seen to do so
SOON = 15       # a slow machine, but nobody who waits
STUCK = mbxfile.record(mbxfile.text(999), 0, 0)


class Stuck(harness.Case):
    def serve(self, lockwait, crowd=0):
        self.r = self.rig()
        for user in ('alice', 'bob'):
            self.r.user(user)
            for name in ('INBOX', 'mail/other'):
                self.r.put(user, name, mbxfile.mailbox(MESSAGES))
        self.inbox = self.r.legacy_file('alice', 'INBOX')
        self.many = [self.r.put('alice', f'mail/s{n}', mbxfile.mailbox(3))
                     for n in range(crowd)]
        self.daemon = self.r.mount(self.r.options(lockwait=lockwait))
        self.top = f'{self.r.mnt}/alice'
        self.elsewhere = [f'{self.top}/.other', f'{self.r.mnt}/bob',
                          f'{self.r.mnt}/bob/.other']
        self.known = self.names(self.top)
        self.assertEqual(len(self.known), MESSAGES)
        for top in self.elsewhere:
            self.assertEqual(len(self.names(top)), MESSAGES)
        for n in range(crowd):
            self.assertEqual(len(self.names(f'{self.top}/.s{n}')), 3)

    @staticmethod
    def names(top):
        return {int(n.split('.')[0]): f'{top}/{sub}/{n}'
                for sub in ('new', 'cur')
                for n in os.listdir(f'{top}/{sub}')}

    def read_all(self, top):
        for uid, path in self.names(top).items():
            with open(path, 'rb') as f:
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                self.assertEqual(f.read(), mbxfile.text(uid))

    @staticmethod
    def flag(path, flags):
        """Whether it could be set."""
        to = f'{os.path.dirname(path)}/' \
            f'{os.path.basename(path).split(":")[0]}:2,{flags}'
        with contextlib.suppress(OSError):
            os.rename(path, to)
            return True
        return False

    def took(self, fn, *args):
        began = time.monotonic()
        fn(*args)
        return time.monotonic() - began

    def deliver(self, name):
        with open(f'{self.top}/tmp/{name}', 'xb') as f:
            f.write(b'Subject: meanwhile\r\n\r\nx\r\n')
        os.rename(f'{self.top}/tmp/{name}', f'{self.top}/new/{name}')

    def work_elsewhere(self, round_):
        """Everything that a folder is used for."""
        for top in self.elsewhere:
            self.read_all(top)
            names = self.names(top)
            uid = MESSAGES - round_
            self.assertTrue(self.flag(names[uid], 'FS'))
            os.unlink(names[uid - 20])

    def on_disk(self, path):
        return {uid: m['flags'] for uid, m in next(iter(
            harness.cc_dump(path).values()))['mail'].items()}

    def locked(self):
        return (self.r.folder_status('alice', 'INBOX') or {}).get('locked')

    def crowd(self, pool):
        """A change in each of many folders at once; the daemon has them."""
        jobs = [pool.submit(self.flag, self.names(f'{self.top}/.s{n}')[1],
                            'FS') for n in range(len(self.many))]
        harness.wait_for('the others to give up', lambda: sum(
            not j.done() for j in jobs) <= PATIENT)
        return jobs

    def said_if_so(self, *words):
        """What may have been said, if it took that long."""
        for word in words:
            if word in self.r.log():
                self.r.expect_log(word)

    def agree(self):
        """c-client, Dovecot's directory and the flags that were set."""
        def same():
            view = {uid: ''.join(c for c in path.partition(':2,')[2]
                                 if c.isupper()) or '-'
                    for uid, path in self.names(self.top).items()}
            self.last = (self.on_disk(self.inbox), view)
            return self.last[0] == self.last[1]
        harness.wait_for('agreement', same)
        return self.last[0]

    def test_the_parse_lock_for_ever(self):
        """A delivery that wrote its mail and then stopped."""
        self.serve(LONG)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with holder(self.inbox, how='shared parse', record=STUCK) as pid:
                first = self.took(self.read_all, self.top)
                then = [self.took(self.read_all, self.top)
                        for _ in range(3)]
                self.assertLess(first + sum(then), SOON)
                self.assertEqual(set(self.names(self.top)), set(self.known))
                fd = os.open(self.known[3], os.O_RDONLY)
                job = pool.submit(self.flag, self.known[1], 'FS')
                beside = self.took(self.work_elsewhere, 0)
                # Its directory is the kernel's now; what is open is not.
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                reads = self.took(os.pread, fd, 100, 0)
                self.assertRegex(self.locked()['by'], f'^pid {pid} ')
                self.assertLess(reads + beside, SOON)
                self.assertFalse(job.done())
                print(f'# {first:.2f} s for the first {MESSAGES} reads, then '
                      f'{min(then):.2f} to {max(then):.2f} s; while a change '
                      f'waits: {reads:.2f} s, elsewhere {beside:.2f} s')
            # Who waited gets what he waited for.
            self.assertTrue(job.result())
        os.close(fd)
        harness.wait_for('the new message', lambda: MESSAGES + 1
                         in self.names(self.top))
        self.assertEqual(self.agree(), {
            u: 'FS' if u == 1 else '-' for u in [*self.known, MESSAGES + 1]})
        self.assertIsNone(self.locked())
        self.said_if_so('locked')
        self.all_elsewhere()

    def all_elsewhere(self):
        """What work_elsewhere(0) did, and nothing else."""
        for path in ('bob/INBOX', 'bob/mail/other', 'alice/mail/other'):
            self.assertEqual(self.on_disk(self.r.legacy_file(path)), {
                u: 'FS' if u == MESSAGES else '-' for u in self.known
                if u != MESSAGES - 20})

    def test_many_that_wait_at_once(self):
        """They do not take all threads."""
        self.serve(LONG, CROWD)
        with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
            with holder(*self.many) as pid:
                jobs = self.crowd(pool)
                took = self.took(self.work_elsewhere, 0)
                took += self.took(self.read_all, self.top)
                waiting = sum(not j.done() for j in jobs)
                print(f'# {CROWD} changes at once, {waiting} still waiting: '
                      f'{took:.2f} s for everything elsewhere')
                self.assertLess(took, SOON)
                self.assertGreater(waiting, 0)
            done = [j.result() for j in jobs]
        self.assertGreaterEqual(sum(done), waiting)
        for n, (path, ok) in enumerate(zip(self.many, done)):
            self.assertEqual(self.on_disk(path)[1], 'FS' if ok else '-')
            if not ok:
                self.assertTrue(self.flag(self.names(
                    f'{self.top}/.s{n}')[1], 'FS'))
        self.r.expect_log(f'cannot be renamed: pid {pid} ')
        # Who could not even try does not know.
        self.said_if_so('cannot be renamed: another process')
        self.said_if_so('more changes had failed')
        self.all_elsewhere()

    def test_changes_fail_at_the_deadline_and_lose_nothing(self):
        self.serve(3)
        a, b = self.known[1], self.known[2]
        with holder(self.inbox) as pid:
            self.assertLess(self.took(lambda: self.assertFalse(
                self.flag(a, 'FS'))), SOON)
            with self.assertRaises(OSError):
                os.unlink(b)
            self.assertEqual(self.names(self.top), self.known)
            self.assertRegex(self.locked()['by'], f'^pid {pid} ')
            # One has waited in vain; the next ones do not do it again.
            took = self.took(lambda: [
                self.assertFalse(self.flag(self.known[uid], 'FS'))
                for uid in range(10, 40)])
            self.assertLess(took, SOON)
        self.r.expect_log(f'cannot be renamed: pid {pid} .python3',
                          '31 more changes had failed')
        self.assertTrue(self.flag(a, 'FS'))
        os.unlink(b)
        flags = self.agree()
        self.assertEqual(flags[1], 'FS')
        self.assertNotIn(2, flags)

    def test_deliveries_do_not_wait(self):
        """The file is there at once, its copy when that is possible."""
        self.serve(1)
        with holder(self.inbox, how='shared parse', record=STUCK):
            took = self.took(self.deliver, '1700000000.M1.agent')
            self.assertLess(took, SOON)
            with open(f'{self.top}/dovecot-uidlist', 'a') as f:
                f.write(f'{MESSAGES + 2} :1700000000.M1.agent\n')
            os.stat(f'{self.top}/dovecot-uidlist')
            harness.wait_for('one that waits', lambda: self.r.folder_status(
                'alice', 'INBOX')['delivered']['waiting'] == 1)
            self.assertIn('1700000000.M1.agent', os.listdir(
                f'{self.top}/new'))
        harness.wait_for('the copy', lambda: self.r.folder_status(
            'alice', 'INBOX')['delivered']['mirrored'] == 1)
        self.assertEqual(sorted(self.on_disk(self.inbox)),
                         list(range(1, MESSAGES + 3)))
        self.said_if_so('locked', 'more changes had failed')

    def test_dovecot_goes_on_with_what_is_known(self):
        harness.need_dovecot()
        self.serve(2)
        dovecot = self.r.dovecot()
        with holder(self.inbox, how='shared parse', record=STUCK):
            began = time.monotonic()
            imap = dovecot.imap('alice')
            got = harness.imap_folder(imap, 'INBOX', readonly=False)
            self.assertLess(time.monotonic() - began, SOON)
            self.assertEqual({u: m['body'] for u, m in got['mail'].items()},
                             {u: mbxfile.text(u) for u in self.known})
        harness.wait_for('the new message', lambda: MESSAGES + 1 in
                         harness.imap_folder(imap, 'INBOX')['mail'])
        imap.logout()
        self.said_if_so('locked')

    def test_a_session_of_uw_for_ever(self):
        """It keeps UW from compacting, and nobody from anything else."""
        self.serve(LONG)
        uid = self.r.users['alice']
        size = os.stat(self.inbox).st_size
        with subprocess.Popen(
                [harness.CC_MAKE, '-o', f'{uid}:{uid}',
                 self.r.legacy_file('alice'), 'session', 'INBOX'],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, **harness.NO_LEAKS}) as session:
            self.assertTrue(session.stdout.readline().startswith('ok'))
            began = time.monotonic()
            self.assertTrue(self.flag(self.known[1], 'FS'))
            os.unlink(self.known[2])
            self.r.make('alice', 'deliver', 'INBOX')
            harness.wait_for('the new message', lambda: MESSAGES + 1
                             in self.names(self.top))
            self.read_known()
            self.assertLess(time.monotonic() - began, SOON)
            r = self.r.tool('compact', self.inbox)
            self.assertNotEqual(r.returncode, 0)
            self.assertGreater(os.stat(self.inbox).st_size, size)
            self.assertIn(f'pid {session.pid} ', r.stderr)
            session.stdin.write('quit\n')
            session.stdin.close()
            session.wait(30)
        flags = self.agree()
        self.assertEqual(flags[1], 'FS')
        self.assertEqual(set(flags), set(self.known) - {2} | {MESSAGES + 1})

    def read_known(self):
        for uid, path in self.names(self.top).items():
            if uid in self.known:
                with open(path, 'rb') as f:
                    self.assertEqual(f.read(), mbxfile.text(uid))

    def test_the_mailbox_itself_for_ever(self):
        """The exclusive lock: octets may be moving."""
        self.serve(LONG)
        self.read_all(self.top)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with holder(self.inbox, how='exclusive', record=STUCK) as pid:
                took = self.took(self.read_known)
                job = pool.submit(self.flag, self.known[1], 'FS')
                took += self.took(self.work_elsewhere, 0)
                self.assertLess(took, SOON)
                self.assertFalse(job.done())
                self.assertRegex(self.locked()['by'], f'^pid {pid} ')
            self.assertTrue(job.result())
        self.said_if_so('locked')
        self.assertEqual(self.agree(), {
            u: 'FS' if u == 1 else '-' for u in [*self.known, MESSAGES + 1]})
        self.all_elsewhere()

    def test_unmounting_does_not_wait(self):
        self.serve(LONG)
        self.deliver('1700000000.M1.agent')
        with holder(self.inbox, how='shared parse', record=STUCK):
            self.assertEqual(set(self.names(self.top)) - {1700000000},
                             set(self.known))
            began = time.monotonic()
            self.r.unmount()
            self.assertLess(time.monotonic() - began, 2 * SOON)
        self.r.mount()
        self.assertEqual(set(self.names(self.top)) - {1700000000},
                         set(self.known) | {MESSAGES + 1})

    def test_the_end_of_the_daemon_does_not_wait(self):
        """Not even for those who wait for the lock."""
        self.serve(LONG, CROWD)
        with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
            with holder(*self.many):
                jobs = self.crowd(pool)
                os.kill(self.daemon.pid, signal.SIGTERM)
                self.assertEqual(self.daemon.wait(2 * SOON), 0)
                self.r.daemon = None
            self.assertFalse(any(j.result() for j in jobs))
        self.said_if_so('cannot be renamed', 'locked')
        self.r.mount()
        for n, path in enumerate(self.many):
            self.assertEqual(len(self.names(f'{self.top}/.s{n}')), 3)
            self.assertEqual(self.on_disk(path), {1: '-', 2: '-', 3: '-'})


if __name__ == '__main__':
    harness.main()
