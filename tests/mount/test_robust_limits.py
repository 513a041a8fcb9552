#!/usr/bin/python3
"""What the machine allows: descriptors, reserved blocks, groups."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle')]
import harness  # noqa: E402
import mbxfile  # noqa: E402

GROUP = 5555


def native(rig, user, uid):
    """A user with a Maildir++ tree in the new store and no legacy mail."""
    top = os.path.join(rig.store, user)
    for name in ('', 'cur', 'new', 'tmp'):
        os.makedirs(os.path.join(top, name), exist_ok=True)
        os.chmod(os.path.join(top, name), 0o700)
        os.chown(os.path.join(top, name), uid, uid)
    return top


class Descriptors(harness.Case):
    LIMIT, FILES = 400, 2000

    def setUp(self):
        self.r = self.rig()
        uid = harness.FIRST_UID
        self.top = native(self.r, 'anna', uid)
        for i in range(self.FILES):
            path = f'{self.top}/cur/{i}.x:2,S'
            with open(path, 'w') as f:
                f.write(f'{i}\n')
            os.chown(path, uid, uid)
        self.uid = uid
        self.r.expect_log('open files: no more than the usual limit of 400')

    def mount(self, more=''):
        """With few descriptors, and no way to get more."""
        with open(self.r.log_name, 'ab') as log:
            proc = subprocess.Popen(
                ['setpriv', '--bounding-set', '-sys_resource', '--inh-caps',
                 '-sys_resource', 'sh', '-c',
                 f'ulimit -n {self.LIMIT}; exec "$@"', 'sh', harness.DAEMON,
                 '-f', '-o', self.r.options() + more, self.r.mnt],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env={**os.environ, **self.r.env()})
        self.r.others.append(proc)
        self.r.daemon = proc
        harness.wait_for('the mount', lambda: harness.mountinfo(self.r.mnt))

    def read_all(self, but=0):
        cur = f'{self.r.mnt}/anna/cur'
        names = sorted(n for n in os.listdir(cur) if '.x' in n)
        assert len(names) == self.FILES - but, len(names)
        for name in names:
            with open(f'{cur}/{name}') as f:
                assert f.read().strip() == name.split('.')[0]

    def descriptors(self):
        return len(os.listdir(f'/proc/{self.r.daemon.pid}/fd'))

    def test_a_folder_with_more_files_than_descriptors(self):
        self.mount()
        for _ in range(3):
            harness.as_user(self.uid, self.read_all)
        self.assertLess(self.descriptors(), self.LIMIT / 2)

        def delivers():
            with open(f'{self.r.mnt}/anna/tmp/x', 'w') as f:
                f.write('x')
            os.rename(f'{self.r.mnt}/anna/tmp/x', f'{self.r.mnt}/anna/new/x')
        harness.as_user(self.uid, delivers)
        self.assertIn('x', os.listdir(f'{self.top}/new'))

    def test_many_readers_at_a_time(self):
        self.mount(',readdirplus')
        readers = [os.fork() for _ in range(4)]
        if 0 in readers:
            status = 1
            try:
                self.read_all()
                status = 0
            finally:
                os._exit(status)
        for pid in readers:
            ended = harness.wait_for(
                'a reader', lambda pid=pid: [
                    x for x in (os.waitpid(pid, os.WNOHANG),) if x[0]], 120)
            self.assertEqual(ended[0][1], 0)

    def test_what_is_open_stays_open(self):
        self.mount()
        cur = f'{self.r.mnt}/anna/cur'
        files = [open(f'{cur}/{i}.x:2,S') for i in range(40)]
        for i in range(0, 40, 2):
            os.rename(f'{cur}/{i}.x:2,S', f'{cur}/{i}.x:2,T')
        fd = os.open(cur, os.O_RDONLY)
        self.read_all()
        gone = open(f'{cur}/new', 'w+')
        os.unlink(f'{cur}/new')
        self.read_all()
        gone.write('still here')
        gone.flush()
        st = os.fstat(gone.fileno())
        self.assertEqual((st.st_size, st.st_nlink), (10, 0))
        gone.close()
        for i, f in enumerate(files):
            self.assertEqual(f.read(), f'{i}\n')
            self.assertEqual(os.fstat(f.fileno()).st_size, len(f'{i}\n'))
            f.close()
        self.assertEqual(len(os.listdir(fd)), self.FILES)
        self.assertTrue(os.access('7.x:2,S', os.R_OK, dir_fd=fd))
        os.close(fd)

    def test_what_was_closed_is_found_again(self):
        """By whatever name it has now, whoever changed it."""
        self.mount()
        cur = f'{self.r.mnt}/anna/cur'
        inos = {i: os.stat(f'{cur}/{i}.x:2,S').st_ino for i in range(5)}
        os.rename(f'{cur}/1.x:2,S', f'{cur}/1.x:2,')
        os.link(f'{cur}/2.x:2,S', f'{cur}/2.y')
        os.rename(f'{self.top}/cur/3.x:2,S', f'{self.top}/cur/3.x:2,')
        os.unlink(f'{self.top}/cur/4.x:2,S')
        self.read_all(but=1)
        for i, name in ((0, '0.x:2,S'), (1, '1.x:2,'), (2, '2.x:2,S'),
                        (2, '2.y'), (3, '3.x:2,')):
            self.assertEqual(os.stat(f'{cur}/{name}').st_ino, inos[i], name)
            os.chmod(f'{cur}/{name}', 0o640)
            self.assertEqual(
                os.stat(f'{self.top}/cur/{name}').st_mode & 0o777, 0o640)
        harness.wait_for('the end of a name', lambda: not os.path.exists(
            f'{cur}/4.x:2,S'))

    def test_walks_by_descriptors(self):
        """What du, find and tar do: the directory stays open all the time."""
        self.mount()
        for _ in range(2):
            r = harness.run(['find', f'{self.r.mnt}/anna', '-type', 'f',
                             '-size', '-1000k', '-printf', 'x'])
            self.assertEqual((r.stdout.count('x'), r.stderr),
                             (self.FILES, ''))

    def test_more_directories_than_descriptors(self):
        for i in range(self.LIMIT):
            for sub in ('', 'cur', 'new', 'tmp'):
                path = f'{self.top}/.f{i}/{sub}'
                os.mkdir(path, 0o700)
                os.chown(path, self.uid, self.uid)
        self.mount()

        def looks():
            for i in range(self.LIMIT):
                for sub in ('cur', 'new', 'tmp'):
                    assert not os.listdir(f'{self.r.mnt}/anna/.f{i}/{sub}')
        for _ in range(2):
            harness.as_user(self.uid, looks)
        self.assertLess(self.descriptors(), self.LIMIT)

    def test_ends_while_directories_are_forgotten(self):
        """The kernel may hold what a request of ours waits for."""
        for i in range(self.LIMIT):
            for sub in ('', 'cur', 'new', 'tmp'):
                path = f'{self.top}/.f{i}/{sub}'
                os.mkdir(path, 0o755)
        walk = ('import os, sys\n'
                'for _ in range(50):\n'
                ' for i in range(400):\n'
                '  for s in ("cur", "new"):\n'
                '   try: os.listdir(f"{sys.argv[1]}/anna/.f{i}/{s}")\n'
                '   except OSError as e:\n'
                '    if e.errno != 24: sys.exit()\n')
        for sig in (signal.SIGTERM, signal.SIGKILL) * 3:
            self.mount()
            walkers = [subprocess.Popen(
                [sys.executable, '-c', walk, self.r.mnt],
                stderr=subprocess.DEVNULL) for _ in range(3)]
            self.r.others += walkers
            harness.wait_for('a crowd', lambda: 'the limit is near'
                             in self.r.log())
            time.sleep(0.1)
            proc, self.r.daemon = self.r.daemon, None
            os.kill(proc.pid, sig)
            self.assertEqual(proc.wait(harness.WAIT), 0 if sig == signal.SIGTERM
                             else -sig, self.r.log())
            harness.run(['umount', '-l', self.r.mnt])
            for w in walkers:
                w.wait(harness.WAIT)
            open(self.r.log_name, 'w').close()
        self.r.expected = []

    def test_ends_in_order_without_descriptors(self):
        """All of them open at a time: errors, but no abort at the end."""
        self.mount()
        cur, files, refused = f'{self.r.mnt}/anna/cur', [], 0
        for i in range(self.LIMIT + 50):
            try:
                files.append(open(f'{cur}/{i}.x:2,S'))
            except OSError as e:
                self.assertEqual(e.errno, 24)
                refused += 1
                if refused == 3:
                    break
        self.assertGreater(refused, 0)
        proc = self.r.daemon
        os.kill(proc.pid, signal.SIGTERM)
        self.assertEqual(proc.wait(15), 0, self.r.log())
        self.r.daemon = None
        for f in files:
            try:
                f.close()
            except OSError:
                pass


class Reserved(harness.Case):
    def test_reserved_blocks_are_root_s(self):
        """Nobody fills through the mount what he could not fill without."""
        harness.skip_unless(shutil.which('mkfs.ext4'), 'no mkfs.ext4')
        r = self.rig()
        image = r.path('image')
        with open(image, 'wb') as f:
            f.truncate(24 << 20)
        made = harness.run(['mkfs.ext4', '-q', '-m', '40', image])
        harness.skip_unless(made.returncode == 0, made.stderr)
        made = harness.run(['mount', '-o', 'loop', image, r.store])
        harness.skip_unless(made.returncode == 0, 'no loop device')
        top = native(r, 'anna', harness.FIRST_UID)
        r.mount()

        def fill(path):
            with open(path, 'wb', buffering=0) as f:
                try:
                    while True:
                        f.write(bytes(65536))
                except OSError as e:
                    assert e.errno == 28, e

        def allocate(path):
            fd = os.open(path, os.O_RDWR | os.O_CREAT)
            try:
                os.posix_fallocate(fd, 0, 20 << 20)
            except OSError as e:
                assert e.errno == 28, e
            else:
                raise AssertionError('allocated what is reserved')

        for tree in (top, f'{r.mnt}/anna'):
            for way in (fill, allocate):
                with self.subTest(tree=tree, way=way.__name__):
                    name = f'{way.__name__}.{len(tree)}'
                    harness.as_user(harness.FIRST_UID, way,
                                    f'{tree}/tmp/{name}')
                    free = os.statvfs(r.store)
                    self.assertGreater(free.f_bfree * free.f_bsize, 6 << 20)
                    os.unlink(f'{top}/tmp/{name}')


def in_group(uid, groups, fn):
    """fn() as uid with these supplementary groups."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            fn()
            status = 0
        except OSError as e:
            status = 100 + e.errno
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Crowd(harness.Case):
    FOLDERS = 100

    def lock(self, path):
        """As UW does while it parses."""
        st = os.stat(path)
        name = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
        fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
        os.fchmod(fd, 0o666)
        self.addCleanup(os.close, fd)
        self.addCleanup(os.unlink, name)
        fcntl.flock(fd, fcntl.LOCK_EX)

    def test_one_user_s_locked_mailboxes(self):
        """More changes wait for them than there are threads that serve; others
        are served all the same."""
        r = self.rig()
        for name in ('alice', 'bob'):
            r.user(name)
            r.put(name, 'INBOX', mbxfile.mailbox(1))
        boxes = [r.put('alice', f'mail/f{i}', mbxfile.mailbox(1))
                 for i in range(self.FOLDERS)]
        r.mount(r.options(lockwait=6))
        names = []
        for i in range(self.FOLDERS):
            cur = f'{r.mnt}/alice/.f{i}/cur'
            names.append(os.path.join(cur, os.listdir(cur)[0]))
        for box in boxes:
            self.lock(box)
        r.expect_log('keeps the mailbox locked')

        def flag(name):
            with contextlib.suppress(OSError):
                os.rename(name, name + 'F')
        threads = [threading.Thread(target=flag, args=(n,)) for n in names]
        for t in threads:
            t.start()
        time.sleep(.5)
        slowest = 0
        for _ in range(20):
            began = time.monotonic()
            os.listdir(f'{r.mnt}/bob/cur')
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(.05)
        for t in threads:
            t.join()
        # Who has to wait for a thread waits for most of lockwait.
        self.assertLess(slowest, 4)


class Groups(harness.Case):
    def setUp(self):
        self.r = self.rig()
        self.anna, self.bob = harness.FIRST_UID, harness.FIRST_UID + 1
        self.top = native(self.r, 'anna', self.anna)
        self.r.mount()
        self.m = f'{self.r.mnt}/anna'

    def share(self, name, mode=0o770):
        os.mkdir(f'{self.top}/{name}')
        os.chown(f'{self.top}/{name}', self.anna, GROUP)
        os.chmod(f'{self.top}/{name}', mode)
        os.chmod(self.top, 0o711)
        time.sleep(1.1)
        return f'{self.m}/{name}'

    def test_a_group_may_what_it_may_on_the_disk(self):
        d = self.share('shared')
        groups = [4000 + i for i in range(100)] + [GROUP]

        def works():
            os.mkdir(f'{d}/dir')
            with open(f'{d}/file', 'w') as f:
                f.write('x')
            os.link(f'{d}/file', f'{d}/link')
            os.symlink('file', f'{d}/symlink')
            os.rename(f'{d}/file', f'{d}/other')
            os.unlink(f'{d}/link')
            os.rmdir(f'{d}/dir')
        self.assertEqual(in_group(self.bob, [GROUP], works), 0)
        os.unlink(f'{self.top}/shared/other')
        os.unlink(f'{self.top}/shared/symlink')
        self.assertEqual(in_group(self.bob, groups, works), 0)
        st = os.stat(f'{self.top}/shared/other')
        self.assertEqual((st.st_uid, st.st_gid), (self.bob, self.bob))

    def test_who_is_not_in_the_group_may_not(self):
        d = self.share('closed')

        def makes():
            os.mkdir(f'{d}/dir')
        self.assertEqual(in_group(self.bob, [4444], makes), 113)
        self.assertEqual(in_group(self.bob, [], makes), 113)

    def test_an_owner_gives_a_file_to_one_of_his_groups(self):
        def gives(name):
            with open(f'{self.m}/{name}', 'w') as f:
                f.write('x')
            os.chown(f'{self.m}/{name}', -1, GROUP)
        self.assertEqual(in_group(self.anna, [GROUP], lambda: gives('a')), 0)
        self.assertEqual(os.stat(f'{self.top}/a').st_gid, GROUP)
        self.assertEqual(in_group(self.anna, [], lambda: gives('b')), 101)
        self.assertEqual(os.stat(f'{self.top}/b').st_gid, self.anna)


if __name__ == '__main__':
    harness.main()
