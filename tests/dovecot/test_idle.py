#!/usr/bin/python3
"""An IMAP client in IDLE hears of what UW does to the mailbox: mail delivered
by dmail, flags, keywords and expunges of a c-client session."""

import os
import re
import select
import shutil
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness_dovecot import Idler  # noqa: E402
from harness_uw import Session  # noqa: E402

# dmail wants a user who is in /etc/passwd; every Debian has this one.
USER, UID = 'games', 5
TIMES = 20
WITHIN = 1.0    # seconds; Dovecot itself waits for 0.5
TEMPFAIL = 75


class Idle(harness.Case):
    def start(self, **options):
        harness.need_dovecot()
        harness.skip_unless(shutil.which('dmail'), 'no dmail')
        self.r = self.rig()
        self.r.user(USER, 'inbox', uid=UID)
        self.r.mount(self.r.options(**options))
        self.dovecot = self.r.dovecot(extra='mail_save_crlf = yes\n')
        self.imap = self.dovecot.imap(USER)
        self.addCleanup(self.end)
        self.assertEqual(self.imap.select('INBOX')[0], 'OK')
        self.client = Idler(self.imap)

    def end(self):
        if self.imap:
            self.imap.shutdown()

    def dmail(self, n):
        for _ in range(50):
            r = harness.run(
                ['dmail'], uid=UID, cwd='/',
                stdin=f'From: a@example.test\nSubject: idle {n}\n\nText.\n',
                env={'HOME': self.r.legacy_file(USER), 'LOGNAME': USER})
            if r.returncode != TEMPFAIL:
                break
            time.sleep(0.05)
        self.assertEqual(r.returncode, 0, r.stderr)

    def deliver_times(self, times):
        took = []
        for n in range(times):
            self.client.idle()
            time.sleep(0.3 + 0.07 * n)
            self.dmail(n)
            began = time.monotonic()
            self.client.until(rb'\* \d+ EXISTS')
            took.append(time.monotonic() - began)
            self.client.done()
        return took

    def test_new_mail_is_announced(self):
        self.start()
        before = len(self.imap.search(None, 'ALL')[1][0].split())
        took = self.deliver_times(TIMES)
        median = statistics.median(took)
        print(f'     mail by dmail announced: median {median:.3f} s, longest '
              f'{max(took):.3f} s, of {TIMES}', flush=True)
        self.assertLess(median, WITHIN)
        mail = harness.imap_folder(self.imap, 'INBOX')['mail']
        self.assertEqual(len(mail), before + TIMES)
        said = self.r.folder_status(USER, 'INBOX')['legacy']
        self.assertEqual(said['messages'], before + TIMES)
        self.assertNotIn('uid_disagreements', said)

    def test_polling_announces_it_too(self):
        self.start(watch='poll', poll=1)
        took = self.deliver_times(3)
        print(f'     polled every second: longest {max(took):.3f} s',
              flush=True)
        self.assertLess(max(took), 4)

    def uids(self):
        self.imap.noop()
        self.imap.response('FETCH')     # what it told by the way
        rows = self.imap.uid('FETCH', '1:*', '(FLAGS)')[1]
        return {int(m[1]): set(m[2].decode().split()) for m in (
            re.search(rb'UID (\d+) FLAGS \(([^)]*)\)', row) or re.search(
                rb'FLAGS \(([^)]*)\) UID (\d+)', row) for row in rows)}

    def test_a_session_of_uw(self):
        self.start()
        before = self.uids()
        uw = Session(self.r, USER, 'INBOX')
        uw('set 2 \\Flagged')
        # At the next command, of whatever kind.
        flags = list(self.uids().values())
        self.assertIn('\\Flagged', flags[1])
        uw('set 2 Invoice')
        flags = list(self.uids().values())
        self.assertIn('Invoice', flags[1])
        # And without one.
        self.client.idle()
        time.sleep(0.3)
        uw('set 3 \\Answered Urgent')
        began = time.monotonic()
        line = self.client.until(rb'\* 3 FETCH', 5)[-1]
        took = time.monotonic() - began
        self.assertIn(b'\\Answered', line)
        self.assertIn(b'Urgent', line)
        self.client.done()
        uw('set 1 \\Deleted')
        self.client.idle()
        time.sleep(1.2)     # what is told of the flag comes first
        began = time.monotonic()
        uw('expunge')
        self.client.until(rb'\* 1 EXPUNGE', 5)
        print(f'     flags of c-client announced after {took:.3f} s, its '
              f'expunge after {time.monotonic() - began:.3f} s', flush=True)
        self.client.done()
        self.assertEqual(list(self.uids()), list(before)[1:])
        uw.close()

    def test_who_waits_hears_all(self):
        """Several clients, one of them in another folder."""
        self.start()
        self.r.make(USER, 'gaps')
        harness.wait_for('a new folder',
                         lambda: self.r.folder_status(USER, 'gaps'), 5)
        clients = []
        for folder in ('INBOX', 'INBOX', 'gaps'):
            m = self.dovecot.imap(USER)
            self.addCleanup(m.shutdown)
            self.assertEqual(m.select(folder)[0], 'OK', folder)
            clients.append(Idler(m))
            clients[-1].idle()
        time.sleep(0.5)
        self.dmail(0)
        for c in clients[:2]:
            c.until(rb'\* \d+ EXISTS', 3)
        quiet = select.select([clients[2].imap.sock], [], [], 1)[0]
        self.assertEqual(quiet, [])
        self.r.make(USER, 'deliver', 'mail/gaps')
        clients[2].until(rb'\* \d+ EXISTS', 3)
        for c in clients:
            c.done()


if __name__ == '__main__':
    harness.main()
