"""UW's c-client at work beside us: a session that stays open, and a program
that does what it is told."""

import os
import subprocess

from harness_base import BUILD, CC_MAKE, NO_LEAKS, WAIT, end

CC_MAIL = os.path.join(BUILD, 'tests', 'cc_mail')


class Session:
    """A c-client session that keeps a mailbox open (cc_make session)."""

    def __init__(self, rig, user, name):
        uid = rig.users[user]
        self.proc = subprocess.Popen(
            [CC_MAKE, '-o', f'{uid}:{uid}', rig.legacy_file(user), 'session',
             name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True, env={**os.environ, **NO_LEAKS})
        rig.others.append(self.proc)
        self.answer()

    def answer(self):
        line = self.proc.stdout.readline().split()
        assert line and line[0] == 'ok', line
        return line[1:]

    def __call__(self, command):
        """The words after "ok"; the first is the number of messages."""
        self.proc.stdin.write(command + '\n')
        self.proc.stdin.flush()
        return self.answer()

    def show(self):
        """UID -> (flags, keywords) as the session believes."""
        return {int(u): (f, k) for u, f, k in
                (w.split(':') for w in self('show')[1:])}

    def close(self, how='quit'):
        self.proc.stdin.write(how + '\n')
        self.proc.stdin.close()
        self.proc.wait(WAIT)


class Uw:
    """A cc_mail that waits for commands."""

    def __init__(self, home, uid):
        self.proc = subprocess.Popen(
            [CC_MAIL, '-o', f'{uid}:{uid}', home], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, env={**os.environ, **NO_LEAKS})

    def __call__(self, line):
        self.proc.stdin.write(line + '\n')
        self.proc.stdin.flush()
        answer = self.proc.stdout.readline().strip()
        if answer != 'ok':
            self.proc.stdin.close()
            raise AssertionError(f'c-client: {line}: {answer}: '
                                 + self.proc.stderr.read())

    def close(self):
        end(self.proc)
