"""mbx_write and c-client sessions as objects, for the tests that write."""

import os
import shutil
import subprocess
import tempfile

import harness
from harness_base import BUILD, NO_LEAKS

MBX_WRITE = os.path.join(BUILD, 'tests', 'mbx_write')
STOPPED = 100   # exit status of a program that IO_STOP_AT stopped


def need():
    harness.need_cclient()
    harness.skip_unless(os.access(MBX_WRITE, os.X_OK), 'mbx_write is not built')


class Home:
    """A home directory for c-client; gone at the end of the test."""

    def __init__(self, case, owner=None):
        self.dir = tempfile.mkdtemp(prefix='jm-write.', dir='/tmp')
        self.as_owner = []
        case.addCleanup(shutil.rmtree, self.dir, True)
        os.mkdir(self.path('mail'))
        if owner is not None:
            self.as_owner = ['-o', f'{owner}:{owner}']
            for name in ('.', 'mail'):
                os.chown(self.path(name), owner, owner)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def make(self, *args):
        r = harness.run([harness.CC_MAKE, *self.as_owner, self.dir, *args], env=NO_LEAKS)
        if r.returncode or r.stderr:
            raise AssertionError(f'cc_make {args}: {r.stderr}')

    def put(self, name, data):
        with open(self.path(name), 'wb') as f:
            f.write(data)
        return self.path(name)


def lock_name(path):
    st = os.stat(path)
    return f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'


class Talk:
    """A program that answers each line with one line."""

    def __init__(self, case, args, env=None):
        self.proc = subprocess.Popen(
            args, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, **(env or {})})
        case.addCleanup(harness.end, self.proc)

    def read(self):
        line = self.proc.stdout.readline()
        if not line:
            raise AssertionError('it ended: ' + self.proc.stderr.read())
        return line.split()

    def ask(self, text):
        """The words of the answer, whatever it is."""
        self.proc.stdin.write(text + '\n')
        self.proc.stdin.flush()
        return self.read()

    def do(self, text):
        """The words after "ok"; anything else is a failure."""
        words = self.ask(text)
        if words[0] != 'ok':
            raise AssertionError(f'{text}: {" ".join(words)}')
        return words[1:]

    def quit(self):
        self.proc.stdin.close()
        status = self.proc.wait(harness.WAIT)
        noise = self.proc.stderr.read()
        if status or noise:
            raise AssertionError(f'ended with {status}: {noise}')


class Session(Talk):
    """A c-client session, open from now on."""

    def __init__(self, case, home, name):
        super().__init__(case, [harness.CC_MAKE, *home.as_owner, home.dir,
                                'session', name], NO_LEAKS)
        self.first = self.read()

    def show(self):
        """UID -> (flags, keywords) as the session believes."""
        words = self.do('show')[1:]
        return {int(u): (f, sorted(k.split('%')) if k else [])
                for u, f, k in (w.split(':') for w in words)}


class Ours(Talk):
    """A box of compat/mbx.h."""

    def __init__(self, case, path):
        super().__init__(case, [MBX_WRITE, path])

    def list(self):
        """UID -> (flags, keywords, UID on disk)."""
        out = {}
        for w in self.do('list'):
            uid, disk, flags, names, _ = w.split(':')
            out[int(uid)] = (int(flags, 16),
                             sorted(names.split('%')) if names else [],
                             int(disk))
        return out


def stop_at(path, commands, n):
    """Run commands, stopped before step n; 0 is a whole run. The exit status;
    what a stopped process leaves in /tmp is removed."""
    r = harness.run([MBX_WRITE, path],
                    stdin=''.join(c + '\n' for c in commands),
                    env={'IO_STOP_AT': str(n)} if n else {})
    if os.path.exists(lock_name(path)):
        os.unlink(lock_name(path))
    if r.returncode not in (0, STOPPED) or r.stderr or 'no ' in r.stdout:
        raise AssertionError(f'{commands}: {r.returncode}: {r.stdout}'
                             f'{r.stderr}')
    return r.returncode
