#!/usr/bin/python3
"""Delivery agents all at once: procmail, maildrop, dovecot-lda and LMTP into
the view, UW's dmail into the MBX behind it, while an IMAP client looks on. Each
mail is there once, for Dovecot and for c-client, and in a native folder as in a
legacy one."""

import collections
import concurrent.futures
import contextlib
import hashlib
import os
import re
import sys
import threading

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                os.path.join(os.path.dirname(os.path.dirname(
                    os.path.abspath(__file__))), 'oracle')]
import harness  # noqa: E402
import harness_agents  # noqa: E402
import mbxfile  # noqa: E402

USER = 'games'
EXTRA = 'mail_save_crlf = yes\n'
EACH = 8
OLD = 5         # mails in the MBX before


def mail(agent, n):
    return (f'From: {agent}@example.test\nTo: {USER}@example.test\n'
            f'Subject: {agent} {n}\nMessage-ID: <{agent}.{n}@example.test>\n\n'
            + f'Line of mail {n} by {agent}.\n' * (1 + 37 * n % 90))


def subject(octets):
    for line in octets.replace(b'\r\n', b'\n').split(b'\n'):
        if line.startswith(b'Subject: '):
            return line[9:].decode()
    return None


class Agents(harness.Case):
    def setUp(self):
        harness.need_dovecot()
        harness.need_cclient()
        harness_agents.need()
        self.r = self.rig()
        self.r.user(USER, uid=harness_agents.USERS[USER])
        self.inbox = self.r.put(USER, 'INBOX', mbxfile.mailbox(OLD))
        self.r.put(USER, 'mail/work', mbxfile.mailbox(OLD))
        self.r.mount()
        self.top = os.path.join(self.r.mnt, USER)
        self.dovecot = self.r.dovecot(extra=EXTRA)
        self.agents = harness_agents.Agents(self.r, self.dovecot, USER)
        m = self.dovecot.imap(USER)
        for name in ('INBOX', 'work'):
            self.assertEqual(m.select(name)[0], 'OK')
        self.assertEqual(m.create('fresh')[0], 'OK')
        m.logout()
        self.stop = threading.Event()

    def look(self, m):
        """UID: size and subject; no mail is there twice."""
        m.noop()
        rows = m.uid('FETCH', '1:*', '(RFC822.SIZE '
                     'BODY.PEEK[HEADER.FIELDS (SUBJECT)])')[1]
        now = {}
        for row in rows:
            if isinstance(row, tuple):
                uid, size = re.search(rb'UID (\d+) RFC822.SIZE (\d+)',
                                      row[0]).groups()
                now[int(uid)] = int(size), subject(row[1])
        self.assertEqual(len({s for _, s in now.values()}), len(now))
        return now

    def onlooker(self, name):
        """An IMAP client that asks again and again; no mail ever goes, and none
        gets another UID."""
        m = self.dovecot.imap(USER)
        seen = {}
        m.select(name)
        over = False
        while not over:
            over = self.stop.is_set()   # one more look after all is done
            now = self.look(m)
            self.assertEqual(seen, {uid: now.get(uid) for uid in seen})
            seen = now
        m.logout()
        return len(seen)

    @contextlib.contextmanager
    def looked_on(self, name):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            looking = pool.submit(self.onlooker, name)
            try:
                yield
            finally:
                self.stop.set()
            self.seen = looking.result()

    def deliver(self, agents, folder=''):
        """Every agent in a thread; what they were given, by subject."""
        def work(agent):
            for n in range(EACH):
                getattr(self.agents, agent)(folder, mail(agent, n))
        with concurrent.futures.ThreadPoolExecutor(len(agents)) as pool:
            for job in [pool.submit(work, a) for a in agents]:
                job.result()
        return [f'{a} {n}' for a in agents for n in range(EACH)]

    def listed(self, name):
        m = self.dovecot.imap(USER)
        got = harness.imap_folder(m, name, readonly=False)['mail']
        m.logout()
        return got

    def text_is_whole(self, name, octets):
        """What the agent wrote before the mail's own header is its affair."""
        agent, n = name.split()
        want = mail(agent, int(n)).encode()
        got = octets.replace(b'\r\n', b'\n')
        self.assertEqual(got[got.index(b'\n\n'):], want[want.index(b'\n\n'):],
                         name)

    def check_listed(self, name, want, old):
        got = self.listed(name)
        names = collections.Counter(subject(m['body']) for m in got.values())
        news = {k: v for k, v in names.items()
                if not k.startswith('number ')}
        self.assertEqual(news, dict.fromkeys(want, 1))
        self.assertEqual(len(got), old + len(want))
        for m in got.values():
            if subject(m['body']) in news:
                self.text_is_whole(subject(m['body']), m['body'])
        return got

    def check_mbx(self, got, *path):
        """c-client finds the same mails, with the same octets."""
        want = sorted(hashlib.sha256(m['body']).hexdigest()
                      for m in got.values())
        self.assertEqual(len(want), len(set(want)))

        def found():
            dump = harness.cc_dump(self.r.legacy_file(USER, *path))
            return sorted(m['sha256'] for m in
                          next(iter(dump.values()))['mail'].values())
        harness.wait_for('the mirror', lambda: found() == want)

    def test_all_at_once(self):
        with self.looked_on('INBOX'):
            want = self.deliver(['procmail', 'maildrop', 'lda', 'lmtp',
                                 'dmail'])
        self.assertGreaterEqual(self.seen, OLD)
        got = self.check_listed('INBOX', want, OLD)
        self.check_mbx(got, 'INBOX')
        # Nothing comes back, or gets another UID, when all starts anew.
        self.dovecot.stop()
        self.r.remount()
        self.dovecot = self.r.dovecot(extra=EXTRA)
        again = self.listed('INBOX')
        self.assertEqual({u: m['body'] for u, m in got.items()},
                         {u: m['body'] for u, m in again.items()})
        self.assertEqual(os.listdir(os.path.join(self.top, 'tmp')), [])
        # UW and Dovecot both give UIDs out, and the daemon says so.
        said = 'messages with another UID at Dovecot than in the MBX'
        if said in self.r.log():
            self.r.expect_log(said)

    def test_legacy_folder(self):
        with self.looked_on('work'):
            want = self.deliver(['procmail', 'maildrop', 'lda'], '.work')
        got = self.check_listed('work', want, OLD)
        self.check_mbx(got, 'mail', 'work')
        # The first ones have the UIDs that they had.
        self.assertEqual(sorted(got)[:OLD], list(range(1, OLD + 1)))

    def test_native_folder(self):
        with self.looked_on('fresh'):
            want = self.deliver(['procmail', 'maildrop', 'lda'], '.fresh')
        self.check_listed('fresh', want, 0)
        self.assertFalse(os.path.exists(
            self.r.legacy_file(USER, 'mail', 'fresh')))
        # The octets that agents wrote are those on the disk.
        on_disk = []
        for sub in ('new', 'cur'):
            place = os.path.join(self.r.store, USER, '.fresh', sub)
            for name in os.listdir(place):
                with open(os.path.join(place, name), 'rb') as f:
                    on_disk.append(f.read())
        for agent in ('procmail', 'maildrop'):
            for n in range(EACH):
                self.assertIn(mail(agent, n).encode(), on_disk)


if __name__ == '__main__':
    harness.main()
