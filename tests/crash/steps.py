"""The daemon, stopped before each of its durable steps.

A test says what there is (make, prepare), what is done through the view (do),
and how many steps that must have at least. It is done once to the end, then
once for every n with the daemon stopped before its n-th step (IO_STOP_AT) from
the beginning of the operation on (IO_STOP_FROM), until one gets through. After
each stop
 - c-client opens the mailboxes and finds the state before or the state after;
 - the daemon starts again, and so does the view: names, octets and times;
   nothing twice, nothing missing, no UID that was another's;
 - what had been answered before the stop is there;
 - where it is the state before, doing it again leads to the state after.

    class Flags(steps.Case):
        def test_seen(self):
            self.steps(lambda top: os.rename(...), at_least=3)
"""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle')]
import harness      # noqa: E402

STOPPED = 100       # exit status of a daemon that stopped before a step
MOST = 150          # steps that no operation here has
AGAIN = 9           # steps of a start at which it is stopped again
CALL = 25           # seconds that a call through the view may take
USER = 'alice'
STORES = ('legacy', 'store', 'index')

DONE, REFUSED, BROKEN = range(3)    # what became of the user's calls


def attempt(uid, fn, *args):
    """fn(*args) in a child that is only uid: DONE, or REFUSED when it got an
    OSError, as it does from a view whose daemon is gone. Bounded."""
    pid = os.fork()
    if pid == 0:
        status = BROKEN
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            fn(*args)
            status = DONE
        except OSError as e:
            if os.environ.get('JANUSMAIL_TRACE'):
                print(f'# {fn.__name__}: {e}', flush=True)
            status = REFUSED
        except BaseException:   # whatever it was, the child ends here
            with contextlib.suppress(BaseException):
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
        os._exit(status)
    try:
        status = harness.wait_for(fn.__name__, lambda: _ended(pid), CALL)[1]
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        raise
    if not os.WIFEXITED(status) or os.WEXITSTATUS(status) == BROKEN:
        raise AssertionError(f'{fn.__name__} failed, see above')
    return os.WEXITSTATUS(status)


def _ended(pid):
    got, status = os.waitpid(pid, os.WNOHANG)
    return (got, status) if got else None


def folders_of(top):
    """Names of the directories that are folders; '' is INBOX."""
    return [''] + sorted(n for n in os.listdir(top) if n.startswith('.')
                         and os.path.isdir(os.path.join(top, n, 'cur')))


def messages_of(folder):
    """cur/NAME or new/NAME -> octets and time; no base name twice."""
    out, bases = {}, {}
    for sub in ('cur', 'new'):
        for name in os.listdir(os.path.join(folder, sub)):
            path = os.path.join(folder, sub, name)
            base = name.partition(':')[0]
            if base in bases:
                raise AssertionError(f'{folder}: {base} is there twice: '
                                     f'{sub}/{name} and {bases[base]}')
            bases[base] = f'{sub}/{name}'
            with open(path, 'rb') as f:
                data = f.read()
            st = os.stat(path)
            if st.st_size != len(data):
                raise AssertionError(f'{path}: {st.st_size} octets announced, '
                                     f'{len(data)} read')
            out[bases[base]] = facts(data, st.st_mtime_ns)
    return out


def facts(data, mtime_ns):
    """A message in State.view."""
    return hashlib.sha256(data).hexdigest(), len(data), mtime_ns


def look_at_all(top):
    for name in folders_of(top):
        messages_of(os.path.join(top, name))


def uids_of(folder):
    """What dovecot-uidlist says, base name -> UID; it must be whole, and its
    UIDs ascend."""
    path = os.path.join(folder, 'dovecot-uidlist')
    if not os.path.exists(path):
        return {}
    with open(path, encoding='ascii', errors='surrogateescape') as f:
        lines = f.read().split('\n')
    if lines.pop() != '' or not lines[0].startswith('3 V'):
        raise AssertionError(f'{path} is torn: {lines[:1]} ... {lines[-1:]}')
    out, last = {}, 0
    for line in lines[1:]:
        words, _, base = line.partition(' :')
        uid = int(words.split()[0])
        if not base or uid <= last or base in out:
            raise AssertionError(f'{path}: {line!r} after UID {last}')
        out[base], last = uid, uid
    return out


class State:
    """Everything about the user's mail at one moment."""

    def __init__(self, rig):
        top = os.path.join(rig.mnt, USER)
        self.view, self.uids, self.keywords = {}, {}, {}
        for name in folders_of(top):
            folder = os.path.join(top, name)
            self.view[name] = messages_of(folder)
            self.uids[name] = uids_of(folder)
            path = os.path.join(folder, 'dovecot-keywords')
            if os.path.exists(path):
                with open(path, encoding='ascii') as f:
                    self.keywords[name] = f.read()
        self.mbx = mailboxes(rig)

    def bases(self):
        """(folder, base name) of every message."""
        return sorted((folder, os.path.basename(n).partition(':')[0])
                      for folder, names in self.view.items() for n in names)


def mailboxes(rig):
    """What c-client finds: mailbox -> dump."""
    home = rig.legacy_file(USER)
    paths = [p for p in (f'{home}/INBOX', f'{home}/mail')
             if os.path.exists(p)]
    return harness.cc_dump(*paths)


def mail(dump):
    """Messages only: mailbox -> UID -> facts."""
    return {box: facts['mail'] for box, facts in dump.items()}


class Case(harness.Case):
    """Tests that stop the daemon."""

    def steps(self, do, at_least, **how):
        """Stop before every step of do(top), called as the user.

        at_least: the number of steps it must have met.
        make(rig): the legacy store; without it an INBOX and a folder "box".
        prepare(top), as the user: more that is there before.
        warm(top): looks that are not part of it; default: at everything;
            False: the folders were never looked at.
        wait(rig): until what goes on behind the calls is done; after
            prepare() and do(), and after the new start.
        check(case, before, after, found, done): instead of the usual
            comparison of states; done is whether all calls were answered.
        between(before, after): {mailbox: [messages]}, what c-client may find
            beside the two states.
        mailboxes(before, after, dumps): instead of the usual look at what
            c-client finds before the new start.
        options: of the mount, beside scan=touch.
        again=False: do() cannot be called twice.
        settle=False: the daemon is killed once the calls are answered, and
            does not come to what it does a little later.
        twice=True: the daemon is stopped again when it starts after a stop,
            before one of its first steps.
        """
        stops = _Stops(self, do, **how)
        met = stops.run()
        self.assertGreaterEqual(
            met, at_least, 'this operation has fewer steps than it must have: '
            'is it done, and through compat/io.h?')
        return stops

    # What there is

    @staticmethod
    def make(rig):
        rig.user(USER, 'inbox', 'keywords')

    # The usual comparison

    def check(self, before, after, found, done):
        self.check_mailboxes(before, after, found.mbx)
        if done:
            self.assert_same(after.view, found.view, 'it was answered')
        elif found.view != before.view:
            self.assert_same(after.view, found.view, 'neither before nor after')
        self.check_uids(before, after, found)

    def check_mailboxes(self, before, after, found, between=None):
        """What c-client finds: messages before or after, box for box; UIDs
        that are given out do not come again."""
        self.assertLessEqual(set(before.mbx) & set(after.mbx), set(found))
        for box, now in found.items():
            states = [s.mbx[box] for s in (before, after) if box in s.mbx]
            self.assertTrue(states, f'a mailbox {box} appeared')
            self.assertIn(now['uidvalidity'],
                          [s['uidvalidity'] for s in states], box)
            good = [s['mail'] for s in states]
            if now['mail'] not in good + (between or {}).get(box, []):
                self.assert_same(states[-1]['mail'], now['mail'],
                                 f'{box}: neither before nor after')
            self.assertGreaterEqual(now['uidnext'], states[0]['uidnext'], box)

    def check_uids(self, before, after, found):
        """No message has another UID than before, and none has one that was
        another's."""
        for folder, uids in found.uids.items():
            was = before.uids.get(folder, {})
            for base, uid in uids.items():
                self.assertEqual(was.get(base, uid), uid,
                                 f'{folder or "INBOX"}: {base}')
            shown = {os.path.basename(n).partition(':')[0]
                     for n in found.view.get(folder, {})}
            self.assertLessEqual(set(was) & shown, set(uids),
                                 'dovecot-uidlist has lost a message')
            owner = {uid: base for base, uid in was.items()}
            for base, uid in uids.items():
                self.assertEqual(owner.get(uid, base), base,
                                 f'{folder or "INBOX"}: UID {uid} again')


class _Stops:
    """One operation and all its stops."""

    def __init__(self, case, do, make=None, prepare=None, warm=None,
                 wait=None, check=None, between=None, mailboxes=None,
                 options=None, again=True, settle=True, twice=False):
        self.case, self.do, self.again = case, do, again
        self.settle, self.twice = settle, twice
        self.between = between or (lambda before, after: None)
        self.mailboxes = mailboxes or self._mailboxes
        self.prepare, self.wait = prepare, wait
        self.warm = look_at_all if warm is None else warm
        self.check = check or type(case).check
        self.rig = case.rig()
        (make or case.make)(self.rig)
        self.uid = self.rig.users[USER]
        self.top = os.path.join(self.rig.mnt, USER)
        self.trigger = self.rig.path('count')
        self.options = self.rig.options(scan='touch', **(options or {}))
        self.names = []     # of the steps it was stopped before

    # Files as they were

    def _save(self):
        self._copy(self.rig.dir, self.rig.path('saved'))

    def _restore(self):
        self._locks_away()
        self._copy(self.rig.path('saved'), self.rig.dir)

    @staticmethod
    def _copy(source, target):
        os.makedirs(target, exist_ok=True)
        for name in STORES:
            shutil.rmtree(os.path.join(target, name), ignore_errors=True)
        r = harness.run(['cp', '-a', *(
            p for p in (os.path.join(source, name) for name in STORES)
            if os.path.exists(p)), target])
        if r.returncode:
            raise AssertionError(f'cp: {r.stderr}')

    def _locks_away(self):
        """Files of UW's locks that a stopped daemon has left."""
        for path, _, files in os.walk(self.rig.legacy):
            for name in files:
                st = os.stat(os.path.join(path, name))
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f'/tmp/.{st.st_dev:x}.{st.st_ino:x}')

    # One run

    def _once(self, n):
        """Up to the n-th step, 0: to the end. What became of the calls, and
        whether it was stopped."""
        env = {'IO_STOP_AT': str(n), 'IO_STOP_FROM': self.trigger} if n else {}
        self.rig.mount(self.options, env=env)
        proc = self.rig.daemon
        if self.warm:
            self.warm(self.top)
        with open(self.trigger, 'w', encoding='ascii'):
            pass
        try:
            answer = attempt(self.uid, self.do, self.top)
            if answer == DONE and self.wait:
                with contextlib.suppress(OSError) if n \
                        else contextlib.nullcontext():
                    self._wait(proc)
            if answer == DONE and not self.settle and n:
                self._kill()
                stopped = proc.returncode == STOPPED
            else:
                stopped = self._unmount(proc)
        finally:
            os.unlink(self.trigger)
        return answer, stopped

    def _wait(self, proc):
        try:
            self.wait(self.rig)
        except AssertionError:
            # The daemon does not answer any more: that is no failure.
            if proc.poll() != STOPPED:
                raise

    def _unmount(self, proc):
        """Whether the daemon had stopped, or stopped meanwhile."""
        mnt, self.rig.daemon = self.rig.mnt, None
        deadline = time.monotonic() + CALL
        while proc.poll() is None and time.monotonic() < deadline:
            if not harness.mountinfo(mnt) or \
                    harness.run(['umount', mnt]).returncode == 0:
                break
            time.sleep(0.02)
        with contextlib.suppress(subprocess.TimeoutExpired):
            proc.wait(CALL)
        self.rig.force(mnt)
        if proc.poll() not in (0, STOPPED):
            raise AssertionError(f'janusmaild ended with {proc.poll()}:\n'
                                 + self.rig.log())
        return proc.returncode == STOPPED

    def _kill(self):
        """The daemon that was started to look; an orderly end takes longer,
        and nobody needs what it leaves."""
        proc, self.rig.daemon = self.rig.daemon, None
        if proc:
            proc.kill()
            proc.wait(CALL)
            self.rig.force(self.rig.mnt)

    def _look(self, first=False):
        """Start again and see what there is."""
        self.rig.mount(self.options)
        if self.wait and not first:
            self.wait(self.rig)
        return State(self.rig)

    # All of them

    def run(self):
        self._begin()
        for n in range(1, MOST):
            self._restore()
            answer, stopped = self._once(n)
            with self.case.subTest(step=n, before=self._name(stopped)):
                self._after_stop(answer, stopped)
            self._kill()
            if not stopped:
                return n - 1
        raise AssertionError(f'more than {MOST} steps')

    def _begin(self):
        """The state before and, after a run to the end, the state after."""
        if self.prepare:
            self.rig.mount(self.options)
            if attempt(self.uid, self.prepare, self.top) != DONE:
                raise AssertionError('it cannot be prepared')
            if self.wait:
                self.wait(self.rig)
            self.before = State(self.rig)
            self._unmount(self.rig.daemon)
        self._save()
        if not self.prepare:
            self.before = self._look(first=True)
            self._unmount(self.rig.daemon)
            if self.warm:
                self._save()
        self._restore()
        answer, _ = self._once(0)
        if answer != DONE:
            raise AssertionError('it fails without being stopped')
        self.after = self._look()
        self._kill()

    def _name(self, stopped):
        if stopped:
            self.names.append(self.rig.log().rpartition('stopped before step')
                              [2].splitlines()[0].strip())
        return self.names[-1] if stopped else 'the end'

    def _stop_again(self, n):
        """A start and a look, up to the n-th step."""
        proc = self.rig.start('-o', self.options, self.rig.mnt,
                              env={'IO_STOP_AT': str(n)})
        harness.wait_for('the mount', lambda: proc.poll() is not None
                         or harness.mountinfo(self.rig.mnt))
        attempt(0, look_at_all, self.top)
        proc.kill()
        proc.wait(CALL)
        self.rig.force(self.rig.mnt)

    def _mailboxes(self, before, after, found):
        self.case.check_mailboxes(before, after, found,
                                  self.between(before, after))

    def _after_stop(self, answer, stopped):
        case = self.case
        self.mailboxes(self.before, self.after, mailboxes(self.rig))
        if self.twice and stopped:
            self._stop_again(1 + len(self.names) % AGAIN)
        found = self._look()
        self.check(case, self.before, self.after, found,
                   answer == DONE or not stopped)
        if found.view == self.before.view != self.after.view and self.again:
            if attempt(self.uid, self.do, self.top) != DONE:
                case.fail('it cannot be done again')
            if self.wait:
                self.wait(self.rig)
            found = State(self.rig)
            case.assert_same(self.after.view, found.view, 'done again')
            case.assert_same(mail(self.after.mbx), mail(found.mbx),
                             'done again')
