"""Programs that deliver mail: into the view, and UW's into the MBX behind it.

procmail, maildrop, dmail and tmail want a user who is in /etc/passwd, tmail one
whose home is there; every Debian has these.
"""

import os
import shutil
import smtplib
import tempfile
import time

import harness_base

USERS = {'games': 5, 'mail': 8}
LDA = '/usr/lib/dovecot/dovecot-lda'
TEMPFAIL = 75
PROGRAMS = ('procmail', 'maildrop', 'dmail', 'tmail', LDA)
# A folder '' is INBOX, others are '.name'; tmail goes by the password file.
AS_HOME = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


def need():
    for program in PROGRAMS:
        harness_base.skip_unless(shutil.which(program), f'no {program}')


class Agents:
    """One mail each, into a folder of a user of that rig and Dovecot."""

    def __init__(self, rig, dovecot, user):
        self.rig, self.dovecot, self.user = rig, dovecot, user
        self.uid = rig.users[user]
        self.top = os.path.join(rig.mnt, user)
        self.home = rig.path('home', user)

    def file(self, name, text):
        """Whole at any time: several agents may be at work."""
        path = os.path.join(self.home, name)
        with tempfile.NamedTemporaryFile('w', dir=self.home,
                                         delete=False) as f:
            f.write(text)
            os.fchown(f.fileno(), self.uid, self.uid)
        os.rename(f.name, path)
        return path

    def as_user(self, args, text, home=None):
        return harness_base.run(args, uid=self.uid, stdin=text, cwd='/',
                                env={'HOME': home or self.home,
                                     'LOGNAME': self.user})

    @staticmethod
    def must(r):
        if r.returncode:
            raise AssertionError(f'{r.args}: {r.returncode}: '
                                 f'{r.stdout}{r.stderr}')

    def procmail(self, folder, text):
        rc = self.file(f'procmailrc{folder}',
                       f'MAILDIR={self.top}\nDEFAULT={self.top}/{folder}/\n')
        self.must(self.as_user(['procmail', '-m', rc], text))

    def maildrop(self, folder, text):
        rc = self.file(f'mailfilter{folder}',
                       f'to "{os.path.join(self.top, folder)}"\n')
        self.must(self.as_user(['maildrop', rc], text))

    def lda(self, folder, text):
        self.must(harness_base.run(
            [LDA, '-c', self.dovecot.conf, '-d', self.user, '-f',
             'a@example.test', '-m', folder[1:] or 'INBOX'], stdin=text))

    def lmtp(self, folder, text):
        if folder:
            raise AssertionError('LMTP delivers into INBOX here')
        with smtplib.LMTP('127.0.0.1', self.dovecot.lmtp_port) as lmtp:
            lmtp.sendmail('a@example.test', f'{self.user}@example.test',
                          text)

    # UW's, into the MBX; where one loses UW's race for the lock it says so, and
    # an MTA tries again.

    def dmail(self, folder, text):
        if folder:
            raise AssertionError('dmail that fails here delivers to INBOX')
        home = self.rig.legacy_file(self.user)
        self.must(self.again(lambda: self.as_user(['dmail'], text, home)))

    def tmail(self, folder, text):
        if folder:
            raise AssertionError('tmail that fails here delivers to INBOX')
        home = os.path.expanduser('~' + self.user)
        self.must(self.again(lambda: harness_base.run(
            ['unshare', '-m', 'sh', '-c', AS_HOME, 'sh',
             self.rig.legacy_file(self.user), home, 'tmail', self.user],
            stdin=text, cwd='/')))

    @staticmethod
    def again(fn):
        for _ in range(50):
            r = fn()
            if r.returncode != TEMPFAIL:
                break
            time.sleep(0.05)
        return r
