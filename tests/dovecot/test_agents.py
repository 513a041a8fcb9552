#!/usr/bin/python3
"""Delivery agents and mail readers that know nothing of us, on the view of MBX
mailboxes: what they deliver and change is there, octet for octet, in the view,
over IMAP and for c-client."""

import os
import pty
import select
import shutil
import smtplib
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
import imap_boxes  # noqa: E402
import imap_mbx  # noqa: E402

# procmail and maildrop want a user who is in /etc/passwd; every Debian has it.
USER, UID = 'games', 5
EXTRA = 'mail_save_crlf = yes\n'
# The same on a Maildir on a disk: shows that the tests ask for nothing else.
NATIVE_ONLY = os.environ.get('JANUSMAIL_NATIVE')
COUNT = 12

# A user's program; its own process, because ours began as root.
PYTHON = '''
import mailbox, os, sys
box = mailbox.Maildir(sys.argv[1], create=False)
mails = sys.argv[2:]
keys = {m['Subject']: k for k, m in box.iteritems()}
for n in range(3):
    box.add(mails[n])
# Its own way to set flags writes the message again, under the same name with
# another size, which Dovecot does not bear on a disk either.
old = os.path.join(sys.argv[1], box._lookup(keys['A plain message']))
os.rename(old, old[:-len('S')] + 'FRS')
box.remove(keys['number 20'])
work = box.get_folder('work')
work.add(mails[3])
work.add(box[keys['number 21']])
box.discard(keys['number 21'])
assert len(box) == 10, len(box)
'''


def mail(n):
    return (f'From: agent{n}@example.test\nTo: games@example.test\n'
            f'Subject: delivery {n}\nMessage-ID: <d{n}@example.test>\n\n'
            f'Text {n} with two lines,\n'
            f'the second of which is {"long " * n}.\n')


def subject(body):
    for line in body.split(b'\r\n'):
        if line.startswith(b'Subject: '):
            return line[9:].decode()
    return None


class Agents(harness.Case):
    def setUp(self):
        harness.need_dovecot()
        self.r = self.rig()
        self.world = imap_boxes.world()
        self.r.user(USER, uid=UID)
        if NATIVE_ONLY:
            os.mkdir(os.path.join(self.r.mnt, USER))
            imap_boxes.build_maildir(os.path.join(self.r.mnt, USER),
                                     self.world, UID)
        else:
            imap_boxes.build_mbx(self.r, USER, self.world)
            self.r.mount()
        self.top = os.path.join(self.r.mnt, USER)
        self.home = self.r.path('home', USER)
        os.mkdir(self.home, 0o700)
        os.chown(self.home, UID, UID)
        self.began = time.time()

    def need(self, program):
        harness.skip_unless(shutil.which(program), f'{program} is missing')

    def file(self, name, text):
        path = os.path.join(self.home, name)
        with open(path, 'w') as f:
            f.write(text)
        os.chmod(path, 0o600)
        os.chown(path, UID, UID)
        return path

    def agent(self, *args, text=None, **env):
        r = harness.run(args, uid=UID, stdin=text, cwd=self.home,
                        env={'HOME': self.home, 'LOGNAME': USER, **env})
        self.assertEqual(r.returncode, 0, f'{args}: {r.stdout}{r.stderr}')
        return r

    def files(self, folder='', sub='new'):
        """Name -> octets of the files of one directory."""
        path = os.path.join(self.top, folder, sub)
        out = {}
        for name in os.listdir(path):
            with open(os.path.join(path, name), 'rb') as f:
                out[name] = f.read()
        return out

    def delivered(self, numbers, folder='INBOX', exact=True):
        """Those mails are the last of the folder, in new/, over IMAP and in
        the MBX."""
        sub = '' if folder == 'INBOX' else '.' + folder
        texts = sorted(t for t in self.files(sub).values()
                       if b'Subject: delivery' in t)
        if exact:
            self.assertEqual(texts, sorted(mail(n).encode() for n in numbers))
        self.assertEqual(os.listdir(os.path.join(self.top, sub, 'tmp')), [])
        self.assertEqual(len(texts), len(numbers))
        self.dovecot = self.r.dovecot(extra=EXTRA)
        imap = self.dovecot.imap(USER)
        got = harness.imap_folder(imap, folder, readonly=False)
        imap.logout()
        new = {u: m for u, m in got['mail'].items()
               if (subject(m['body']) or '').startswith('delivery')}
        self.assertEqual(len(got['mail']),
                         len(self.world[folder].mail) + len(numbers))
        self.assertEqual(min(new), max([self.world[folder].uidlast] + [
            m.uid for m in self.world[folder].mail]) + 1)
        self.assertEqual(sorted(subject(m['body']) for m in new.values()),
                         sorted(f'delivery {n}' for n in numbers))
        for m in new.values():
            self.assertLess(abs(m['date'] - self.began), 60)
        return self.compare()

    def compare(self):
        if NATIVE_ONLY:
            return imap_mbx.facts(self.dovecot, USER)
        return imap_mbx.compare(self, self.r, self.dovecot, USER,
                                list(self.world))

    # Delivery

    def test_procmail(self):
        self.need('procmail')
        rc = self.file('procmailrc', f'''
SHELL=/bin/sh
MAILDIR={self.top}
DEFAULT={self.top}/
LOGFILE={self.home}/log
:0
* ^Subject: delivery (3|7)$
.work/
''')
        for n in range(COUNT):
            self.agent('procmail', '-m', rc, text=mail(n))
        with open(os.path.join(self.home, 'log')) as f:
            self.assertNotRegex(f.read(), r'procmail: (?!\[)')
        work = sorted(self.files('.work').values())
        self.assertEqual(work, sorted(mail(n).encode() for n in (3, 7)))
        self.delivered([n for n in range(COUNT) if n not in (3, 7)])

    def test_maildrop(self):
        self.need('maildrop')
        rc = self.file('mailfilter', f'''
if (/^Subject: delivery (3|7)$/)
{{
	to "{self.top}/.work"
}}
to "{self.top}"
''')
        for n in range(COUNT):
            self.agent('maildrop', rc, text=mail(n))
        work = sorted(self.files('.work').values())
        self.assertEqual(work, sorted(mail(n).encode() for n in (3, 7)))
        self.delivered([n for n in range(COUNT) if n not in (3, 7)])

    def test_dovecot_lda(self):
        dovecot = self.r.dovecot(extra=EXTRA)
        lda = '/usr/lib/dovecot/dovecot-lda'
        harness.skip_unless(os.access(lda, os.X_OK), 'no dovecot-lda')
        for n in range(COUNT):
            r = harness.run([lda, '-c', dovecot.conf, '-d', USER,
                             '-f', 'a@example.test'], stdin=mail(n))
            self.assertEqual(r.returncode, 0, r.stderr)
        dovecot.stop()
        self.delivered(range(COUNT), exact=False)

    def test_lmtp(self):
        dovecot = self.r.dovecot(extra=EXTRA)
        with smtplib.LMTP('127.0.0.1', dovecot.lmtp_port) as lmtp:
            for n in range(COUNT):
                lmtp.sendmail('a@example.test', f'{USER}@example.test',
                              mail(n))
        dovecot.stop()
        self.delivered(range(COUNT), exact=False)

    # Reading and changing

    def mutt(self, folder, keys, **settings):
        """A session of mutt on a terminal; keys are what is typed."""
        self.need('mutt')
        lines = ['set quit=yes', 'set delete=yes', 'set move=no',
                 'set confirmappend=no', 'set confirmcreate=no',
                 'set mbox_type=Maildir', 'set wait_key=no', 'set beep=no',
                 f'set folder="{self.top}"', 'set sort=mailbox-order',
                 'set sleep_time=0', 'set spoolfile="' + self.top + '"']
        lines += [f'set {k}={v}' for k, v in settings.items()]
        rc = self.file('muttrc', '\n'.join(lines) + '\n')
        pid, fd = pty.fork()
        if pid == 0:
            os.setgroups([])
            os.setgid(UID)
            os.setuid(UID)
            os.chdir(self.home)
            os.execvpe('mutt', ['mutt', '-n', '-F', rc, '-f', folder,
                                '-e', f'push "{keys}"'],
                       {'HOME': self.home, 'TERM': 'vt100', 'LOGNAME': USER,
                        'PATH': os.environ['PATH'], 'LANG': 'C'})
        said, deadline = b'', time.monotonic() + 60
        while time.monotonic() < deadline:
            if not select.select([fd], [], [], 0.5)[0]:
                continue
            try:
                data = os.read(fd, 65536)
            except OSError:     # its end has closed the terminal
                break
            if not data:
                break
            said += data
        else:
            os.kill(pid, 9)
        os.close(fd)
        status = os.waitpid(pid, 0)[1]
        self.assertEqual(status, 0, said[-1500:].decode('latin-1'))
        return said

    def test_mutt(self):
        """Flags, deletes, copies into another folder, moves."""
        def on(subject, keys):
            return f'<first-entry><search>{subject}<enter>{keys}'
        self.mutt(self.top, on('^A.plain', '<flag-message>')
                  + on('in.two.parts', '<set-flag>r')
                  + on('no.end.of.line', '<delete-message>')
                  + on('nothing.else', '<copy-message>=.work<enter>')
                  + on('number.20', '<save-message>=.empty<enter>')
                  + '<sync-mailbox><quit>')
        self.dovecot = self.r.dovecot(extra=EXTRA)
        everything = self.compare()
        got = {f: [subject(m['body'])
                   for _, m in sorted(everything[f]['mail'].items())]
               for f in self.world}
        inbox = ['A plain message', '=?iso-8859-1?Q?Caff=E8_in_two_parts?=',
                 'Fwd: A plain message', 'no end of line at the end',
                 'nothing else', 'large', 'number 20', 'number 21',
                 'number 22']
        # One was marked as deleted before.
        self.assertEqual(got['INBOX'], [s for i, s in enumerate(inbox, 1)
                                        if i not in (4, 6, 7)])
        self.assertEqual(got['work'][-1], 'nothing else')
        self.assertEqual(got['empty'], ['number 20'])
        flags = {subject(m['body']): m['flags'] - {'\\Recent'}
                 for m in everything['INBOX']['mail'].values()}
        self.assertIn('\\Flagged', flags[inbox[0]])
        self.assertIn('\\Answered', flags[inbox[1]])

    def test_mutt_reads_and_leaves(self):
        """Opens messages and quits: read ones are Seen, others are old."""
        self.mutt(self.top + '/.old.letters',
                  '<first-entry><display-message><exit><quit>')
        self.mutt(self.top, '<first-entry><search>number 21<enter>'
                  '<display-message><exit><quit>')
        self.dovecot = self.r.dovecot(extra=EXTRA)
        got = self.compare()
        self.assertIn('\\Seen', got['INBOX']['mail'][21]['flags'])
        self.assertNotIn('\\Seen', got['INBOX']['mail'][22]['flags'])
        self.assertEqual(self.files(), {})
        # Without the one that was marked as deleted before.
        self.assertEqual(len(got['INBOX']['mail']), 8)

    def test_python_mailbox(self):
        """The module mailbox of Python's library."""
        self.agent('/usr/bin/python3', '-c', PYTHON, self.top,
                   *(mail(n) for n in range(4)))
        self.dovecot = self.r.dovecot(extra=EXTRA)
        imap = self.dovecot.imap(USER)
        for folder in ('INBOX', 'work'):
            imap.select(folder)
        imap.logout()
        got = self.compare()
        self.assertEqual(len(got['INBOX']['mail']), 10)
        self.assertEqual(len(got['work']['mail']), 12)
        plain = [m for m in got['INBOX']['mail'].values()
                 if subject(m['body']) == 'A plain message']
        self.assertEqual(len(plain), 1)
        self.assertEqual(plain[0]['flags'] - {'\\Recent'},
                         {'\\Seen', '\\Flagged', '\\Answered'})


if __name__ == '__main__':
    harness.main()
