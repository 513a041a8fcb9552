"""What the mount tests share: a private place, a daemon, a Dovecot.

    class Reads(harness.Case):
        def test_something(self):
            rig = self.rig()
            rig.user('alice', 'inbox', 'flags')
            rig.mount()
            ...

A rig is a directory with legacy/ store/ index/ mnt/ logs/ in it. Whatever was
started there is stopped when the test ends, however it ends: no mount and no
process stays behind. Waits are bounded; a mount that hangs is aborted through
/sys/fs/fuse. After the end the daemon's log is searched: an error or a warning
that the test did not announce (rig.expect_log) fails it, and so does any line
of Dovecot's error log and any report of a sanitizer.

Environment: JANUSMAIL_BUILD, the build directory (default: build beside tests);
JANUSMAIL_KEEP=1 keeps the directories of tests that failed.
"""

import atexit
import contextlib
import fnmatch
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

from harness_base import (  # noqa: F401  (tests reach these as harness.*)
    BUILD, CC_DUMP, CC_MAKE, DAEMON, FIRST_UID, NO_LEAKS, NOBODY, TESTS,
    TOOL, TOP, WAIT, as_user, end, free_ports, fuse_abort, mountinfo,
    need_cclient, need_dovecot, need_mount, run, skip_unless, wait_for)
from harness_dovecot import (  # noqa: F401
    Dovecot, imap_folder, quote, through_dovecot)
from harness_files import (  # noqa: F401
    age, cc_dump, difference, parse_dump, read, read_quietly, refused,
    snapshot)

SANITIZER = {
    'ASAN_OPTIONS': 'detect_leaks=1:abort_on_error=0:exitcode=99:log_path={}',
    'UBSAN_OPTIONS': 'print_stacktrace=1:halt_on_error=0:log_path={}',
}

SUSPICIOUS = re.compile(r'error:|warning:|ERROR: |runtime error|[Aa]ssert|'
                        r'[Pp]anic|segfault|SIGSEGV|core dumped|BUG|corrupt')
# Warnings about the machine, and about names that had to be changed.
ORDINARY = re.compile(r'open files: no more than the usual limit|'
                      r'whose name a Maildir\+\+ folder cannot have')

_rigs = []


class Rig:
    """A private directory and what runs in it."""

    def __init__(self, prefix='jm.'):
        self.dir = tempfile.mkdtemp(prefix=prefix, dir='/tmp')
        os.chmod(self.dir, 0o755)
        for name in ('legacy', 'store', 'mnt', 'logs', 'home'):
            os.mkdir(self.path(name), 0o755)
        os.chmod(self.path('logs'), 0o777)
        self.legacy, self.store, self.index, self.mnt, self.logs = (
            self.path(n) for n in
            ('legacy', 'store', 'index', 'mnt', 'logs'))
        self.users = {}
        self.daemon = None
        self.dovecots = []
        self.expected = []
        self.problems = []
        self.others = []
        self.log_name = os.path.join(self.logs, 'janusmaild.log')
        _rigs.append(self)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    # Legacy stores

    def user(self, name, *scenarios, uid=None):
        """A user with a legacy home; scenarios are cc_make's."""
        uid = uid or FIRST_UID + len(self.users)
        home = os.path.join(self.legacy, name)
        os.makedirs(os.path.join(home, 'mail'))
        for path in (home, os.path.join(home, 'mail')):
            os.chmod(path, 0o700)
            os.chown(path, uid, uid)
        self.users[name] = uid
        for scenario in scenarios:
            self.make(name, scenario)
        return home

    def make(self, user, *args):
        uid = self.users[user]
        r = run([CC_MAKE, '-o', f'{uid}:{uid}',
                 os.path.join(self.legacy, user), *args], env=NO_LEAKS)
        if r.returncode:
            raise AssertionError(f'cc_make {args}: {r.stderr}')

    def legacy_file(self, user, *names):
        return os.path.join(self.legacy, user, *names)

    def put(self, user, name, data):
        """A legacy file with these octets, owned by the user."""
        path = self.legacy_file(user, name)
        with open(path, 'wb') as f:
            f.write(data)
        os.chmod(path, 0o600)
        os.chown(path, self.users[user], self.users[user])
        return path

    # The daemon

    def options(self, **more):
        """-o for many users; None as a value leaves an option out."""
        opts = {'inbox': f'{self.legacy}/%u/INBOX',
                'folders': f'{self.legacy}/%u/mail',
                'store': self.store, 'index': self.index, **more}
        return ','.join(f'{k}={v}' for k, v in opts.items()
                        if v is not None)

    def env(self):
        prefix = os.path.join(self.logs, 'sanitizer')
        return {k: v.format(prefix) for k, v in SANITIZER.items()}

    def start(self, *args, uid=None, env=None):
        """Start janusmaild with any arguments; it is ours to end."""
        ids = {} if uid is None else {'user': uid, 'group': uid,
                                      'extra_groups': []}
        with open(self.log_name, 'ab') as log:
            proc = subprocess.Popen(
                [DAEMON, '-f', *args], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, cwd='/',
                env={**os.environ, **self.env(), **(env or {})}, **ids)
        self.others.append(proc)
        return proc

    def mount(self, options=None, mnt=None, uid=None, env=None):
        """Mount and wait until it is there."""
        mnt = mnt or self.mnt
        proc = self.start('-o', options or self.options(), mnt, uid=uid,
                          env=env)

        def ready():
            if proc.poll() is not None:
                raise AssertionError(
                    f'janusmaild ended with {proc.returncode}:\n'
                    + self.log())
            info = mountinfo(mnt)
            return info and info['type'] == 'fuse.janusmail'
        wait_for(f'the mount at {mnt}', ready)
        self.daemon = proc
        return proc

    def unmount(self, mnt=None):
        """Orderly; the daemon must end with 0."""
        mnt, proc = mnt or self.mnt, self.daemon
        self.daemon = None

        def gone():
            return run(['umount', mnt]).returncode == 0
        try:
            wait_for(f'umount {mnt}', gone)
            status = proc.wait(WAIT) if proc else 0
        except (AssertionError, subprocess.TimeoutExpired) as e:
            self.force(mnt)
            raise AssertionError(f'unmount: {e}\n{self.log()}') from None
        if status:
            raise AssertionError(f'janusmaild ended with {status}:\n'
                                 + self.log())

    def remount(self, **kw):
        self.unmount()
        self.mount(**kw)

    @staticmethod
    def force(mnt):
        """Take a mount away that does not answer."""
        while True:
            info = mountinfo(mnt)
            if not info:
                return
            fuse_abort(info['dev'].split(':')[1])
            if run(['umount', '-l', mnt]).returncode:
                return

    def log(self):
        with contextlib.suppress(FileNotFoundError), \
                open(self.log_name, errors='replace') as f:
            return f.read()
        return ''

    def expect_log(self, *patterns):
        """Announce errors or warnings (regular expressions); check_log() then
        wants each of them to be there."""
        self.expected += patterns

    def check_log(self):
        """What is wrong with the logs, as a list of lines."""
        found, seen = [], set()
        for line in self.log().splitlines():
            if not SUSPICIOUS.search(line):
                continue
            hits = [p for p in self.expected if re.search(p, line)]
            seen.update(hits)
            if not hits and not ORDINARY.search(line):
                found.append(f'janusmaild: {line}')
        found += [f'janusmaild never said: {p}' for p in self.expected
                  if p not in seen]
        for name in sorted(os.listdir(self.logs)):
            if name.startswith('sanitizer'):
                with open(os.path.join(self.logs, name),
                          errors='replace') as f:
                    found.append(f'{name}: {f.read()[:4000]}')
        for d in self.dovecots:
            found += d.complaints()
        return found

    # The command line tool

    def tool(self, *args, **kw):
        return run([TOOL, *args], env=self.env(), **kw)

    def dump(self, spec):
        r = self.tool('dump', spec, timeout=120)
        if r.returncode:
            raise AssertionError(f'janusmail dump {spec}: {r.returncode}: '
                                 f'{r.stderr}')
        return parse_dump(r.stdout)

    def status(self, mnt=None):
        r = self.tool('status', '--json', mnt or self.mnt)
        if r.returncode:
            raise AssertionError(f'janusmail status: {r.returncode}: '
                                 f'{r.stderr}')
        return json.loads(r.stdout)

    def folder_status(self, user, name):
        """One folder's entry of status --json, or None."""
        for u in self.status()['users']:
            if u.get('name', user) == user:
                for f in u['folders']:
                    if f['name'] == name:
                        return f
        return None

    def dovecot(self, **kw):
        return Dovecot(self, **kw)

    def close(self):
        """Stop and remove everything; never raises."""
        if self in _rigs:
            _rigs.remove(self)
        for d in self.dovecots:
            d.stop()
        for line in reversed(list(self._mounts_here())):
            with contextlib.suppress(Exception):
                if run(['umount', line], timeout=10).returncode:
                    self.force(line)
            self.force(line)
        for proc in self.others:
            end(proc)

    def _mounts_here(self):
        with open('/proc/self/mountinfo', errors='surrogateescape') as f:
            return [line.split()[4] for line in f
                    if line.split()[4].startswith(self.dir + '/')]

    def remove(self):
        if not self._mounts_here():
            shutil.rmtree(self.dir, ignore_errors=True)


def clean_up():
    for rig in list(_rigs):
        rig.close()
        rig.remove()


atexit.register(clean_up)


def _terminated(*_):
    clean_up()
    os._exit(143)


signal.signal(signal.SIGTERM, _terminated)


# Running

class Case(unittest.TestCase):
    """A test with rigs; each ends with a look at the logs."""

    maxDiff = 4000

    def rig(self, **kw):
        need_mount()
        need_cclient()
        rig = Rig(**kw)
        self.addCleanup(self._finish, rig)
        return rig

    def _finish(self, rig):
        # _outcome.success is that of this cleanup, not of the test.
        failed = self._outcome and \
            str(self) in getattr(self._outcome.result, 'bad', ())
        problems = rig.check_log() if not failed else []
        if rig.daemon and not failed:
            try:
                rig.unmount()
                problems += [p for p in rig.check_log()
                             if p not in problems]
            except AssertionError as e:
                problems.append(str(e))
        rig.close()
        if failed or problems:
            tail = rig.log().splitlines()[-25:]
            sys.stdout.write('--- log of janusmaild (end)\n'
                             + '\n'.join(tail) + '\n')
            for d in rig.dovecots:
                sys.stdout.write(f'--- log of {d.name} (end)\n{d.log()[-1500:]}')
        if not (failed or problems) or not os.environ.get('JANUSMAIL_KEEP'):
            rig.remove()
        if problems:
            raise AssertionError('\n'.join(problems[:8]))

    def assert_same(self, want, got, message=''):
        """Two dicts of facts are equal; else the first differences."""
        if want != got:
            self.fail(f'{message}\n{difference(want, got)}')

    def assert_errno(self, errno_wanted, fn, *args, **kw):
        if isinstance(errno_wanted, int):
            errno_wanted = (errno_wanted,)
        try:
            fn(*args, **kw)
        except OSError as e:
            self.assertIn(e.errno, errno_wanted, str(e))
            return
        self.fail(f'no error from {fn.__name__}{args}')


class SharedCase(Case):
    """Many looks at one rig, which build() makes once for all tests."""

    @classmethod
    def build(cls, rig):
        raise NotImplementedError

    @classmethod
    def setUpClass(cls):
        need_mount()
        need_cclient()
        cls.shared = Rig()
        cls.addClassCleanup(cls._finish_class)
        cls.build(cls.shared)

    @classmethod
    def _finish_class(cls):
        rig, problems = cls.shared, []
        try:
            if rig.daemon:
                rig.unmount()
            problems = rig.check_log()
        except AssertionError as e:
            problems = [str(e)]
        rig.close()
        rig.remove()
        if problems:
            raise AssertionError('\n'.join(problems[:8]))


class Result(unittest.TestResult):
    """One line a test, reasons where there are any."""

    def __init__(self):
        super().__init__()
        self.passed = 0
        self.bad = set()

    def startTest(self, test):
        super().startTest(test)
        self.began = time.monotonic()
        self.reported = False

    def _line(self, word, test, text=''):
        name = getattr(test, '_testMethodName', None) or str(test)
        took = time.monotonic() - getattr(self, 'began', time.monotonic())
        print(f'{word:4} {name} ({took:.2f} s)'
              + (f': {text}' if text else ''), flush=True)

    def addSuccess(self, test):
        self.passed += 1
        self._line('ok', test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._line('skip', test, reason)

    def addFailure(self, test, err):
        self._bad(test, err)

    def addError(self, test, err):
        self._bad(test, err)

    def addSubTest(self, test, subtest, err):
        if err:
            self._bad(test, err, str(subtest.params))

    def _bad(self, test, err, what=''):
        self.bad.add(str(test))
        self._line('FAIL', test, what)
        text = ''.join(traceback.format_exception(*err)) \
            if not issubclass(err[0], AssertionError) else \
            ''.join(traceback.format_tb(err[2])[-2:]) + str(err[1]) + '\n'
        print('     ' + text.rstrip().replace('\n', '\n     '), flush=True)


def main():
    """Run the tests of the calling program; arguments are name patterns."""
    loader, suite = unittest.defaultTestLoader, unittest.TestSuite()
    wanted = sys.argv[1:]

    def add(tests):
        for t in tests:
            if isinstance(t, unittest.TestSuite):
                add(t)
            elif not wanted or any(fnmatch.fnmatch(t.id(), f'*{w}*')
                                   for w in wanted):
                suite.addTest(t)
    add(loader.loadTestsFromModule(sys.modules['__main__']))
    result = Result()
    suite.run(result)
    clean_up()
    print(f'# cases: {result.passed} passed, {len(result.bad)} failed, '
          f'{len(result.skipped)} skipped')
    if result.bad:
        sys.exit(1)
    sys.exit(77 if result.skipped and not result.passed else 0)
