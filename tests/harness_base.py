"""Waiting, running programs, mounts: what every part of the harness needs."""

import atexit
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

TESTS = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(TESTS)
BUILD = os.path.abspath(os.environ.get('JANUSMAIL_BUILD',
                                       os.path.join(TOP, 'build')))
DAEMON = os.path.join(BUILD, 'janusmaild')
TOOL = os.path.join(BUILD, 'janusmail')


def for_everybody():
    """Programs where other users can run them, too: a clone in /root or in a
    private directory cannot be entered by the users of the tests."""
    global DAEMON, TOOL
    way = BUILD
    while way != '/' and os.stat(way).st_mode & 0o001:
        way = os.path.dirname(way)
    if way == '/' or not os.path.exists(DAEMON):
        return
    place = tempfile.mkdtemp(prefix='jm.bin.')
    atexit.register(shutil.rmtree, place, True)
    os.chmod(place, 0o755)
    DAEMON = shutil.copy(DAEMON, place)
    TOOL = shutil.copy(TOOL, place)


for_everybody()
CC_MAKE = os.path.join(BUILD, 'tests', 'cc_make')
CC_DUMP = os.path.join(BUILD, 'tests', 'cc_dump')
WAIT = 30           # seconds; nothing here takes that long unless it hangs
FIRST_UID = 5001    # test users; they need no passwd entry
NOBODY = 65534
# c-client leaks, and the oracle programs do not clean up after it.
NO_LEAKS = {'ASAN_OPTIONS': 'detect_leaks=0'}


def wait_for(what, fn, seconds=WAIT):
    """Call fn until it is true; its value. Fails after some time."""
    end = time.monotonic() + seconds
    while True:
        value = fn()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f'waited {seconds} s in vain for {what}')
        time.sleep(0.02)


def mountinfo(path):
    """The topmost mount at path as a dict, or None."""
    found = None
    with open('/proc/self/mountinfo', encoding='utf-8',
              errors='surrogateescape') as f:
        for line in f:
            left, right = line.split(' - ')
            left = left.split()
            if left[4] == path:
                right = right.split()
                found = {'dev': left[2], 'type': right[0], 'source': right[1],
                         'options': left[5] + ',' + right[2]}
    return found


def fuse_abort(minor):
    """Cut the connection of a FUSE mount; its waiting calls return."""
    ctl = '/sys/fs/fuse/connections'
    if not os.path.exists(f'{ctl}/{minor}'):
        run(['mount', '-t', 'fusectl', 'fusectl', ctl])
    with contextlib.suppress(OSError), \
            open(f'{ctl}/{minor}/abort', 'w', encoding='ascii') as f:
        f.write('1')


def skip_unless(condition, reason):
    if not condition:
        raise unittest.SkipTest(reason)


def need_mount():
    """Tests that mount need root and a usable /dev/fuse."""
    skip_unless(os.geteuid() == 0, 'needs root')
    try:
        os.close(os.open('/dev/fuse', os.O_RDWR))
    except OSError as e:
        raise unittest.SkipTest(f'/dev/fuse is not usable: {e.strerror}')
    if not os.access(DAEMON, os.X_OK):
        raise AssertionError(f'{DAEMON} is not built')


def need_cclient():
    skip_unless(os.access(CC_MAKE, os.X_OK) and os.access(CC_DUMP, os.X_OK),
                'cc_make and cc_dump are not built (libc-client missing)')


def need_dovecot():
    skip_unless(shutil.which('dovecot'), 'dovecot is not installed')


def run(args, *, uid=None, env=None, timeout=WAIT, stdin=None, cwd=None):
    """Run to the end; CompletedProcess with text of both streams."""
    ids = {} if uid is None else {'user': uid, 'group': uid,
                                  'extra_groups': []}
    return subprocess.run(args, input=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=timeout, text=True,
                          errors='surrogateescape', cwd=cwd,
                          env={**os.environ, **(env or {})}, **ids)


def free_ports(count):
    """Different ones, and none that the kernel gives to a client meanwhile."""
    ports = []
    chance = random.SystemRandom()      # tests seed the other one
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            s = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                s.bind(('127.0.0.1', chance.randrange(10000, 32000)))
                ports.append(s.getsockname()[1])
    return ports


def end(proc):
    """End a process group we started: politely, then not."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        if proc.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(proc.pid, sig)
            with contextlib.suppress(subprocess.TimeoutExpired):
                proc.wait(5)
    for f in (proc.stdin, proc.stdout, proc.stderr):
        if f:
            f.close()


def as_user(uid, fn, *args):
    """fn(*args) in a child that is only uid; what it raised is raised here."""
    pid = os.fork()
    if pid == 0:
        text, status = '', 0
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            fn(*args)
        except BaseException:     # whatever it was, the child ends here
            text, status = traceback.format_exc(), 1
        with contextlib.suppress(BaseException):
            sys.stdout.write(text)
            sys.stdout.flush()
        os._exit(status)
    status = wait_for(f'{fn.__name__} as {uid}', lambda: _ended(pid), 120)
    if status[1]:
        raise AssertionError(f'{fn.__name__} as {uid} failed, see above')


def _ended(pid):
    got, status = os.waitpid(pid, os.WNOHANG)
    return (got, status) if got else None
