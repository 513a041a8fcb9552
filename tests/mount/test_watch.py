#!/usr/bin/python3
"""What UW and delivery agents do behind the mount is noticed by itself, and
told to who watches through the mount."""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle')]
import harness      # noqa: E402
import mbxfile      # noqa: E402

CREATE, DELETE = 0x100, 0x200
MKNODAT = {'x86_64': 259, 'aarch64': 33}.get(os.uname().machine)
MANY, WATCHES = 30, 11  # users; watches, of two for each
DIRS = 520          # more than are watched for one user
libc = ctypes.CDLL(None, use_errno=True)


class Watcher:
    """inotify on directories of the view, as Dovecot has it in IDLE."""

    def __init__(self, *dirs):
        self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        for d in dirs:
            if libc.inotify_add_watch(self.fd, d.encode(),
                                      CREATE | DELETE) < 0:
                raise OSError(ctypes.get_errno(), d)

    def events(self, seconds):
        """The first that come, as (mask, name)."""
        out = []
        if not select.select([self.fd], [], [], seconds)[0]:
            return out
        data = os.read(self.fd, 65536)
        while data:
            _, mask, _, size = struct.unpack_from('iIII', data)
            out.append((mask, data[16:16 + size].rstrip(b'\0').decode()))
            data = data[16 + size:]
        return out

    def took(self, fn, seconds=5):
        """How long after fn() an event came; None if none did."""
        while self.events(0.3):
            pass
        began = time.monotonic()
        fn()
        return time.monotonic() - began if self.events(seconds) else None

    def close(self):
        os.close(self.fd)


class Watch(harness.Case):
    def start(self, *users, **options):
        self.r = self.rig()
        for user in users or ('alice',):
            self.r.user(user)
            self.r.put(user, 'INBOX', mbxfile.mailbox(3))
        self.r.mount(self.r.options(**options))
        self.top = f'{self.r.mnt}/alice'

    def watcher(self, *dirs):
        w = Watcher(*dirs)
        self.addCleanup(w.close)
        return w

    def append(self, user, name, uid, text=b'Subject: more\r\n\r\nmore\r\n'):
        path = self.r.legacy_file(user, name)
        with mbxfile.locked(path) as f:
            f.seek(15)
            f.write(b'%08x' % uid)
            f.seek(0, os.SEEK_END)
            f.write(mbxfile.record(text, uid, flags=0))

    def watch_of(self, user):
        for u in self.r.status()['users']:
            if u['name'] == user:
                return u.get('watch')
        return None

    def state(self, folder, user='alice'):
        f = self.r.folder_status(user, folder)
        return f and f['state']

    def new_ns(self):
        """The time of new/, asked of the store: the view is not touched."""
        return os.stat(f'{self.r.store}/alice/new').st_mtime_ns

    # What is noticed

    def test_news_come_without_being_asked_for(self):
        self.start()
        w = self.watcher(f'{self.top}/new', f'{self.top}/cur')
        before, names = self.new_ns(), os.listdir(f'{self.top}/cur')
        took = w.took(lambda: self.append('alice', 'INBOX', 4))
        self.assertIsNotNone(took)
        self.assertLess(took, 0.5)
        after = self.new_ns()
        self.assertGreater(after, before)
        self.assertEqual(len(os.listdir(f'{self.top}/cur')
                             + os.listdir(f'{self.top}/new')), 4)
        # Flags that UW changed, and an expunge.
        path = self.r.legacy_file('alice', 'INBOX')
        for bits in (mbxfile.SEEN | mbxfile.OLD, mbxfile.EXPUNGED):
            def write(bits=bits):
                with mbxfile.locked(path) as f:
                    at = mbxfile.offsets(f.read())[0]
                    f.seek(at)
                    f.seek(at + f.readline().index(b'-', 30) - 4)
                    f.write(b'%04x' % bits)
            self.assertIsNotNone(w.took(write), bits)
        left = os.listdir(f'{self.top}/cur')
        self.assertEqual(len(left), len(names) - 1)
        status = self.watch_of('alice')
        self.assertEqual(status['how'], 'inotify')
        self.assertGreaterEqual(status['events'], 3)
        self.assertLess(time.time() - status['last_event'], 60)
        said = self.r.tool('status', self.r.mnt).stdout
        self.assertIn('watched by inotify, places: ', said)
        self.assertRegex(said, r'folders woken: [1-9]')

    def test_waking_leaves_nothing(self):
        """The name that wakes is never there, and no time moves with it."""
        self.start()
        w = self.watcher(f'{self.top}/new')
        self.assertIsNotNone(w.took(lambda: self.append('alice', 'INBOX', 4)))
        while w.events(0.5):
            pass
        names = {d: os.listdir(f'{d}/new')
                 for d in (self.top, f'{self.r.store}/alice')}
        self.assertFalse([n for d in names.values() for n in d if n[0] == '.'])
        before = self.new_ns()
        for uid in range(5, 9):
            self.append('alice', 'INBOX', uid)
            time.sleep(0.3)
        seen = [e for e in w.events(1) if e[1] == '.janusmail-wake']
        self.assertIn((CREATE, '.janusmail-wake'), seen)
        self.assertIn((DELETE, '.janusmail-wake'), seen)
        self.assertGreater(self.new_ns(), before)
        # For everybody else it is a name as any.
        with open(f'{self.top}/new/.janusmail-wake', 'w') as f:
            f.write('mine')
        with open(f'{self.r.store}/alice/new/.janusmail-wake') as f:
            self.assertEqual(f.read(), 'mine')
        os.unlink(f'{self.top}/new/.janusmail-wake')

    def test_changes_of_ours_wake_nobody(self):
        """Who changes a flag through the mount is seen anyway."""
        self.start()
        cur = f'{self.top}/cur'
        w = self.watcher(cur, f'{self.top}/new')
        while w.events(0.3):
            pass
        woken = self.r.status()['watch']['wakes']
        for name in os.listdir(cur):
            os.rename(f'{cur}/{name}', f'{cur}/{name.split(":")[0]}:2,F')
        harness.wait_for('the MBX', lambda: self.watch_of('alice')['events'])
        time.sleep(0.5)
        self.assertEqual(self.r.status()['watch']['wakes'], woken)
        self.assertNotIn('.janusmail-wake', [e[1] for e in w.events(0.5)])

    def test_folders_come_and_go(self):
        self.start()
        os.listdir(self.top)
        mail = self.r.legacy_file('alice', 'mail')
        box = mbxfile.mailbox(2)
        self.r.put('alice', 'mail/first', box)
        harness.wait_for('a new folder', lambda: self.state('first'), 5)
        # In directories that are made now.
        self.mkdirs('sub', 'sub/deep')
        self.r.put('alice', 'mail/sub/deep/second', box)
        harness.wait_for('a deep one', lambda: self.state('sub.deep.second'),
                         5)
        os.rename(f'{mail}/first', f'{mail}/sub/third')
        harness.wait_for('a renamed one', lambda: self.state('sub.third'), 5)
        self.assertIsNone(self.state('first'))
        os.rename(f'{mail}/sub', f'{mail}/other')
        harness.wait_for('renamed with its directory',
                         lambda: self.state('other.deep.second'), 5)
        # What lies in it is still watched.
        new = f'{self.top}/.other.third/new'
        w = self.watcher(new)
        os.listdir(new)
        self.assertIsNotNone(w.took(
            lambda: self.append('alice', 'mail/other/third', 3)))
        os.unlink(f'{mail}/other/third')
        harness.wait_for('a deleted one',
                         lambda: self.state('other.third') == 'gone', 8)
        self.r.put('alice', 'mail/other/third', box)
        harness.wait_for('it is back',
                         lambda: self.state('other.third') != 'gone', 8)

    def mkdirs(self, *paths):
        for path in paths:
            path = self.r.legacy_file('alice', 'mail', path)
            os.mkdir(path, 0o700)
            os.chown(path, *[self.r.users['alice']] * 2)

    def test_directories_that_were_empty(self):
        """A first mailbox shows wherever it is made."""
        self.r = self.rig()
        self.r.user('alice')
        self.mkdirs('a', 'a/b', 'a/b/c', '.hidden')
        self.r.mount()

        def places():
            return self.watch_of('alice')['places']
        # The home three times (INBOX, mail and the list), and four in mail.
        os.listdir(f'{self.r.mnt}/alice')
        harness.wait_for('watches', lambda: places() == 7)
        self.r.put('alice', 'mail/a/b/c/box', mbxfile.mailbox(2))
        harness.wait_for('a folder', lambda: self.state('a.b.c.box'), 5)
        # And in those that are made while it is mounted.
        self.mkdirs('a/b/d', 'a/b/d/e')
        harness.wait_for('more watches', lambda: places() == 9, 5)
        self.r.put('alice', 'mail/a/b/d/e/box', mbxfile.mailbox(2))
        harness.wait_for('another', lambda: self.state('a.b.d.e.box'), 5)

    def test_too_many_directories(self):
        """Those that hold mailboxes are watched; the others are looked at
        while the user has something in view."""
        self.r = self.rig()
        self.r.user('alice')
        self.r.put('alice', 'mail/box', mbxfile.mailbox(2))
        self.mkdirs(*(f'd{n:03}' for n in range(DIRS)))
        self.r.mount()
        new = f'{self.r.mnt}/alice/.box/new'
        os.listdir(new)
        harness.wait_for('watches', lambda: self.watch_of('alice').get('why'))
        watch = self.watch_of('alice')
        self.assertEqual(watch['how'], 'inotify')
        self.assertIn('without a mailbox', watch['why'])
        w = self.watcher(new)
        took = w.took(lambda: self.append('alice', 'mail/box', 3))
        self.assertIsNotNone(took)
        for n in range(DIRS):
            self.r.put('alice', f'mail/d{n:03}/more', mbxfile.mailbox(1))
        harness.wait_for('all folders', lambda: all(
            self.state(f'd{n:03}.more') for n in range(0, DIRS, 40)), 60)
        # Now that there are so many with one, they are polled.
        harness.wait_for('polling',
                         lambda: self.watch_of('alice')['how'] == 'poll')
        took = w.took(lambda: self.append('alice', 'mail/box', 4))
        self.assertIsNotNone(took)

    def test_too_many_changes(self):
        """The kernel forgets some: everything is looked at."""
        with open('/proc/sys/fs/inotify/max_queued_events') as f:
            limit = int(f.read())
        harness.skip_unless(limit <= 100000, 'it never forgets')
        self.start()
        os.listdir(f'{self.top}/new')
        w = self.watcher(f'{self.top}/new')
        harness.wait_for('watches', lambda:
                         self.watch_of('alice')['how'] == 'inotify')
        self.r.daemon.send_signal(signal.SIGSTOP)
        try:
            path = self.r.legacy_file('alice', 'mail', 'nothing')
            for _ in range(limit // 2 + 1):
                os.close(os.open(path, os.O_CREAT))
                os.unlink(path)
            self.append('alice', 'INBOX', 4)
            self.r.put('alice', 'mail/late', mbxfile.mailbox(1))
            self.mkdirs('later')
        finally:
            self.r.daemon.send_signal(signal.SIGCONT)
        self.assertTrue(w.events(10))
        harness.wait_for('a folder', lambda: self.state('late'), 10)
        self.assertIn('too many changes at once', self.r.log())
        harness.wait_for('watches', lambda:
                         self.watch_of('alice')['places'] == 5)
        self.r.put('alice', 'mail/later/box', mbxfile.mailbox(1))
        harness.wait_for('another', lambda: self.state('later.box'), 5)

    def test_a_first_inbox(self):
        self.r = self.rig()
        self.r.user('alice')
        self.r.mount()
        os.listdir(f'{self.r.mnt}/alice')
        self.assertEqual(self.r.folder_status('alice', 'INBOX')['phase'],
                         'native')
        self.r.put('alice', 'INBOX', mbxfile.mailbox(1))
        harness.wait_for('INBOX', lambda: self.r.folder_status(
            'alice', 'INBOX')['phase'] == 'legacy', 5)

    def test_a_new_user(self):
        self.start()
        self.assertEqual(os.listdir(self.r.mnt), ['alice'])
        self.r.user('bob')
        self.r.put('bob', 'INBOX', mbxfile.mailbox(2))
        self.assertEqual(sorted(os.listdir(self.r.mnt)), ['alice', 'bob'])
        new = f'{self.r.mnt}/bob/new'
        os.listdir(new)
        w = self.watcher(new)
        self.assertIsNotNone(w.took(lambda: self.append('bob', 'INBOX', 3)))

    # Subscriptions

    def subscribed(self):
        with contextlib.suppress(FileNotFoundError), \
                open(f'{self.top}/subscriptions') as f:
            return f.read().split('\n')[2:-1]
        return None

    def test_subscriptions(self):
        self.r = self.rig()
        self.r.user('alice')
        listed = self.r.put('alice', '.mailboxlist', b'mail/one\nmail/two\n')
        self.r.mount()
        self.top = f'{self.r.mnt}/alice'
        self.assertEqual(self.subscribed(), ['one', 'two'])

        def unsubscribe(name):
            """As Dovecot does it, through the mount."""
            with open(f'{self.top}/subscriptions') as f:
                text = f.read()
            with open(f'{self.top}/subscriptions.lock', 'x') as f:
                f.write(text.replace(f'{name}\n', ''))
            os.rename(f'{self.top}/subscriptions.lock',
                      f'{self.top}/subscriptions')
        unsubscribe('one')
        with open(listed, 'ab') as f:
            f.write(b'mail/a/three\n')
        harness.wait_for('a subscription by UW', lambda: self.subscribed()
                         == ['two', 'a\tthree'], 5)
        # UW takes one away: another file under the name. The first is not new.
        def replace(text):
            with open(listed + '.new', 'wb') as f:
                f.write(text)
            os.chown(listed + '.new', *[self.r.users['alice']] * 2)
            os.rename(listed + '.new', listed)
        replace(b'mail/one\nmail/a/three\n~/mail/four\nmail/four\n')
        harness.wait_for('a list that was replaced', lambda: self.subscribed()
                         == ['a\tthree', 'four'], 5)
        # One of two lines that mean the same, beside a change that is one.
        replace(b'mail/one\nmail/a/three\nmail/four\nmail/4\n')
        harness.wait_for('what is kept', lambda: self.subscribed()
                         == ['a\tthree', 'four', '4'], 5)
        # Dovecot has the list locked: later.
        lock = f'{self.top}/subscriptions.lock'

        def locked():
            with contextlib.suppress(FileExistsError), open(lock, 'x') as f:
                return f.write(f'{os.getpid()}:{os.uname().nodename}')
        harness.wait_for('the lock', locked)
        with open(listed, 'ab') as f:
            f.write(b'mail/five\n')
        time.sleep(0.5)
        self.assertNotIn('five', self.subscribed())
        os.unlink(lock)
        harness.wait_for('its turn', lambda: 'five' in self.subscribed(), 10)
        # And what was done while nothing was mounted.
        self.r.unmount()
        replace(b'mail/one\nmail/four\nmail/4\nmail/five\nmail/two\n')
        self.r.mount()
        self.assertEqual(self.subscribed(), ['four', '4', 'five', 'two'])

    def test_a_first_subscription(self):
        self.start()
        os.listdir(self.top)
        self.assertIsNone(self.subscribed())
        self.r.put('alice', '.mailboxlist', b'mail/one\n')
        harness.wait_for('a list', lambda: self.subscribed() == ['one'], 5)

    # Without inotify

    def test_polling(self):
        self.start('alice', 'bob', watch='poll', poll=1)
        new = f'{self.top}/new'
        os.listdir(new)
        w = self.watcher(new)
        took = w.took(lambda: self.append('alice', 'INBOX', 4))
        self.assertIsNotNone(took)
        self.assertLess(took, 3)
        status = self.watch_of('alice')
        self.assertEqual((status['how'], status['why'], status['places']),
                         ('poll', 'watch=poll', 0))
        self.assertIn('watched by poll (watch=poll)',
                      self.r.tool('status', self.r.mnt).stdout)

    def test_off(self):
        self.start(watch='off')
        new = f'{self.top}/new'
        os.listdir(new)
        w = self.watcher(new)
        self.assertIsNone(w.took(lambda: self.append('alice', 'INBOX', 4), 2))
        self.assertEqual(self.watch_of('alice')['how'], 'off')
        self.assertEqual(len(os.listdir(new)), 1)   # a look shows it

    def test_watches_run_out(self):
        """Those who get none are polled, and that is said once."""
        self.r = self.rig()
        box = mbxfile.mailbox(1)
        for n in range(MANY):
            self.r.user(f'u{n:02}')
            self.r.put(f'u{n:02}', 'INBOX', box)
        self.r.expect_log('inotify watches that may be used are in use')
        self.r.mount(self.r.options(watches=WATCHES, poll=1))

        def how():
            return [u['watch']['how'] if u['attached'] else 'off'
                    for u in self.r.status()['users']]
        harness.wait_for('all to be watched or polled',
                         lambda: 'off' not in how(), 120)
        status = self.r.status()
        watched = how().count('inotify')
        # Who does not get all that he needs gives back what he got; two at
        # once may both be such.
        self.assertGreater(watched, 0)
        self.assertLessEqual(watched, WATCHES // 2)
        self.assertEqual(status['watch']['watches'], 2 * watched)
        self.assertEqual(status['watch']['users_polled'], MANY - watched)
        self.assertEqual(self.r.log().count('may be used are in use'), 1)
        for want in ('inotify', 'poll'):
            user = status['users'][how().index(want)]['name']
            new = f'{self.r.mnt}/{user}/new'
            os.listdir(new)
            w = self.watcher(new)
            took = w.took(lambda: self.append(user, 'INBOX', 2))
            self.assertIsNotNone(took, want)
            self.assertLess(took, 4, want)

    # Nothing hangs

    @contextlib.contextmanager
    def busy(self):
        """Mail comes in all the time, and somebody watches."""
        stop = threading.Event()

        def deliver():
            while not stop.wait(0.01):
                self.append('alice', 'INBOX', self.uid)
                self.uid += 1
        t = threading.Thread(target=deliver)
        os.listdir(f'{self.top}/new')
        w = Watcher(f'{self.top}/new', f'{self.top}/cur')
        t.start()
        try:
            time.sleep(1)
            self.assertTrue(w.events(2))
            yield
        finally:
            stop.set()
            t.join()
            w.close()

    def test_the_end_comes_at_once(self):
        self.start()
        self.uid = 4
        with self.busy():
            began = time.monotonic()
            self.r.unmount()
            self.assertLess(time.monotonic() - began, 5)
        self.r.mount()
        with self.busy():
            proc, self.r.daemon = self.r.daemon, None
            began = time.monotonic()
            proc.send_signal(signal.SIGTERM)
            self.assertEqual(proc.wait(10), 0)
            self.assertLess(time.monotonic() - began, 5)

    @contextlib.contextmanager
    def parse_lock(self):
        """UW's, in the hands of somebody who does nothing."""
        st = os.stat(self.r.legacy_file('alice', 'INBOX'))
        lock = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
        fd = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            os.chmod(lock, 0o666)
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(lock)
            os.close(fd)

    def is_waking(self):
        """Whether a thread of the daemon is held up in the mount."""
        tasks = f'/proc/{self.r.daemon.pid}/task'
        for tid in os.listdir(tasks):
            with contextlib.suppress(OSError), \
                    open(f'{tasks}/{tid}/syscall') as f:
                if f.read().split()[0] == str(MKNODAT):
                    return True
        return False

    def wake_is_held_up(self, uid):
        """Somebody removes a message and waits for UW, with new/ locked, when
        watchers are to be woken there."""
        for n in range(2):
            before = self.new_ns()
            self.append('alice', 'INBOX', uid + n)
            harness.wait_for('the news', lambda: self.new_ns() != before)
        name = sorted(os.listdir(f'{self.top}/new'))[0]
        stack = contextlib.ExitStack()
        stack.enter_context(self.parse_lock())
        remover = subprocess.Popen(['rm', f'{self.top}/new/{name}'],
                                   stderr=subprocess.DEVNULL)
        self.r.others.append(remover)
        for _ in range(50):
            if self.is_waking():
                return stack, remover
            time.sleep(0.02)
        stack.close()
        self.assertEqual(remover.wait(harness.WAIT), 0)
        return None

    @contextlib.contextmanager
    def stuck_wake(self):
        harness.skip_unless(MKNODAT, 'not known on this machine: mknodat')
        self.start('alice', 'bob')
        self.append('alice', 'INBOX', 4)
        for user in ('alice', 'bob'):
            os.listdir(f'{self.r.mnt}/{user}/new')
        uid, held = 5, None
        while not held:
            self.assertLess(uid, 100, 'no wake was ever held up')
            held = self.wake_is_held_up(uid)
            uid += 2
        stack, remover = held
        with stack:
            yield remover

    def test_a_stuck_wake_is_alone(self):
        with self.stuck_wake():
            w = self.watcher(f'{self.r.mnt}/bob/new')
            took = w.took(lambda: self.append('bob', 'INBOX', 4))
            self.assertIsNotNone(took)
            self.assertLess(took, 1)
            self.assertTrue(self.is_waking())

    def test_the_end_with_a_stuck_wake(self):
        with self.stuck_wake():
            # Who waits for UW then is told so.
            self.r.expect_log('cannot be expunged: .*mailbox locked')
            proc, self.r.daemon = self.r.daemon, None
            began = time.monotonic()
            proc.send_signal(signal.SIGTERM)
            self.assertEqual(proc.wait(10), 0)
            took = time.monotonic() - began
            print(f'     ended after {took:.3f} s', flush=True)
            self.assertLess(took, 5)

    def test_killed_while_it_wakes(self):
        """Its own thread waits in the mount, and cannot be killed there; the
        mount does not outlive the daemon for all that."""
        with self.stuck_wake() as remover:
            proc, self.r.daemon = self.r.daemon, None
            proc.kill()
            self.assertEqual(proc.wait(10), -signal.SIGKILL)
            self.assertEqual(remover.wait(10), 1)
        self.r.force(self.r.mnt)

    def test_nobody_watches(self):
        """Nobody can: the kernel does not know the directory."""
        self.start()
        os.stat(self.top)
        harness.wait_for('a first look', lambda: self.state('INBOX') == 'ok')
        before = self.new_ns()
        self.append('alice', 'INBOX', 4)
        harness.wait_for('a second', lambda: self.new_ns() > before)
        status = self.r.status()['watch']
        self.assertEqual(status['wakes'], 0)

    def test_a_stuck_mailbox_is_alone(self):
        """Somebody keeps a parse lock: no other mailbox waits for that, and
        when he lets go his is looked at."""
        self.start('alice', 'bob')
        tops = {u: f'{self.r.mnt}/{u}' for u in ('alice', 'bob')}
        w = {}
        for user, top in tops.items():
            os.listdir(f'{top}/new')
            w[user] = self.watcher(f'{top}/new')
        with self.parse_lock():
            path = self.r.legacy_file('alice', 'INBOX')
            with open(path, 'ab') as f:
                f.write(mbxfile.record(b'Subject: x\r\n\r\nx\r\n',
                                       flags=0))
            for uid in range(4, 9):
                took = w['bob'].took(lambda: self.append('bob', 'INBOX', uid))
                self.assertIsNotNone(took)
                self.assertLess(took, 1)
            while w['alice'].events(0):
                pass
        harness.wait_for('the news of alice', lambda: len(os.listdir(
            f'{tops["alice"]}/new')) == 1, 10)


if __name__ == '__main__':
    harness.main()
