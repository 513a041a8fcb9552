#!/usr/bin/python3
"""What goes wrong at the start: the exit status is mount(8)'s, the error says
what to do, and nothing is left behind. And the exit codes of the tool."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402

USAGE, SYSTEM, FAILED = 1, 2, 32


class Start(harness.Case):
    def setUp(self):
        self.r = self.rig()
        self.r.user('alice', 'inbox')

    def attempt(self, *args, uid=None, prefix=(), foreground=True):
        """Start a daemon that should end by itself."""
        r = harness.run([*prefix, harness.DAEMON,
                         *(['-f'] if foreground else []), *args],
                        uid=uid, env=self.r.env(), cwd='/')
        return r

    def refused(self, status, pattern, *args, **kw):
        r = self.attempt(*args, **kw)
        said = r.stdout + r.stderr
        statuses = status if isinstance(status, tuple) else (status,)
        self.assertIn(r.returncode, statuses, said)
        self.assertRegex(said, re.compile(pattern, re.S))
        self.assertLess(len(said.splitlines()), 6, said)
        return said

    def opts(self, **more):
        return self.r.options(**more)

    def test_usage(self):
        mnt = self.r.mnt
        good = self.opts()
        for pattern, args in (
                ('bogus', ('-o', good + ',bogus=1', mnt)),
                ('MOUNTPOINT|mountpoint|mount point', ('-o', good)),
                ('store', ('-o', self.opts(store=None), mnt)),
                ('absolute', ('-o', self.opts(inbox='a/%u/INBOX'), mnt)),
                ('%', ('-o', self.opts(inbox='/a/%u/%u'), mnt)),
                ('%', ('-o', self.opts(inbox='/a/%x'), mnt)),
                ('dots', ('-o', good + ',dots=sometimes', mnt)),
                ('owner', ('-o', good + ',owner=me', mnt)),
                ('lockwait', ('-o', good + ',lockwait=soon', mnt)),
                ('lockwait', ('-o', good + ',lockwait=-1', mnt)),
                ('.', ('--bogus', mnt)),
                ('.', ('-o', good, mnt, mnt, mnt))):
            with self.subTest(args=args):
                self.refused(USAGE, pattern, *args)
                self.assertIsNone(harness.mountinfo(mnt))

    def test_help_and_version(self):
        for args, pattern in ((['--help'], 'store=.*index='),
                              (['-h'], 'store='),
                              (['--version'], r'janusmail.*\d+\.\d+'),
                              (['-V'], r'\d+\.\d+')):
            r = harness.run([harness.DAEMON, *args])
            self.assertEqual(r.returncode, 0, args)
            self.assertRegex(r.stdout, re.compile(pattern, re.S))

    def test_missing_mountpoint(self):
        missing = self.r.path('missing')
        said = self.refused((USAGE, FAILED), re.escape(missing), '-o',
                            self.opts(), missing)
        self.assertRegex(said, 'mkdir|does not exist|No such')

    def test_mountpoint_is_a_file(self):
        path = self.r.path('file')
        open(path, 'w').close()
        self.refused((USAGE, FAILED), re.escape(path), '-o', self.opts(),
                     path)

    def test_mountpoint_is_not_empty(self):
        with open(os.path.join(self.r.mnt, 'precious'), 'w') as f:
            f.write('x')
        self.refused((USAGE, FAILED), 'empty', '-o', self.opts(), self.r.mnt)
        self.assertIsNone(harness.mountinfo(self.r.mnt))

    def test_a_dead_mount_is_there(self):
        self.r.mount()
        os.killpg(self.r.daemon.pid, signal.SIGKILL)
        self.r.daemon.wait(10)
        self.r.daemon = None
        self.assert_errno((107, 103), os.listdir, self.r.mnt)
        r = self.attempt('-o', self.opts(), self.r.mnt)
        said = r.stdout + r.stderr
        self.assertIn(r.returncode, (USAGE, FAILED), said)
        self.assertRegex(said, 'umount')
        # And what it says helps.
        self.assertEqual(harness.run(['umount', '-l',
                                      self.r.mnt]).returncode, 0)
        self.r.mount()
        self.assertIn('alice', os.listdir(self.r.mnt))

    def test_mounted_already(self):
        self.r.mount()
        other = self.r.path('index2')
        self.refused((USAGE, FAILED), 'mount', '-o', self.opts(index=other),
                     self.r.mnt)
        self.assertEqual(len(os.listdir(f'{self.r.mnt}/alice/cur')), 7)

    def test_second_daemon_on_the_same_index(self):
        self.r.mount()
        second = self.r.path('mnt2')
        os.mkdir(second)
        self.refused((SYSTEM, FAILED), 'index.*(another|in use|already)',
                     '-o', self.opts(), second)
        self.assertIsNone(harness.mountinfo(second))
        self.assertIn('alice', os.listdir(self.r.mnt))

    def test_second_daemon_on_the_same_store(self):
        """Another index, another mountpoint; the ledgers would suffer."""
        # No background scan: it would write to the ledger meanwhile.
        first = self.r.mount(self.opts(scan='touch'))
        self.assertEqual(len(os.listdir(f'{self.r.mnt}/alice/cur')), 7)
        ledger = os.path.join(self.r.store, '.janusmail', 'users', 'alice')
        with open(ledger, 'rb') as f:
            before = f.read()
        second = self.r.path('mnt2')
        os.mkdir(second)
        other = self.opts(index=self.r.path('index2'))
        self.refused((SYSTEM, FAILED),
                     f'process {first.pid}, mounted on '
                     f'{re.escape(self.r.mnt)}.*umount.*store=',
                     '-o', other, second)
        self.assertIsNone(harness.mountinfo(second))
        with open(ledger, 'rb') as f:
            self.assertEqual(f.read(), before)
        # However the first one ended, its lock went with it.
        os.killpg(first.pid, signal.SIGKILL)
        first.wait(10)
        self.r.daemon = None
        self.r.mount(other, second)
        self.assertIn('alice', os.listdir(second))
        self.r.unmount(second)

    def test_index_of_wrong_mode(self):
        os.mkdir(self.r.index, 0o755)
        os.chmod(self.r.index, 0o755)
        self.refused((SYSTEM, FAILED), 'index.*0?700', '-o', self.opts(),
                     self.r.mnt)
        os.chmod(self.r.index, 0o700)
        self.r.mount()

    def test_index_of_another_owner(self):
        os.mkdir(self.r.index, 0o700)
        os.chown(self.r.index, 5001, 5001)
        self.refused((SYSTEM, FAILED), 'index', '-o', self.opts(),
                     self.r.mnt)

    def test_no_such_store_or_index(self):
        self.refused((USAGE, SYSTEM, FAILED), 'nowhere', '-o',
                     self.opts(store=self.r.path('nowhere')), self.r.mnt)
        self.refused((USAGE, SYSTEM, FAILED), 'nowhere', '-o',
                     self.opts(index=self.r.path('nowhere/index')),
                     self.r.mnt)

    def test_no_permission(self):
        self.refused((USAGE, SYSTEM, FAILED), 'ermission|denied|root|owner',
                     '-o', self.opts(), self.r.mnt, uid=harness.NOBODY)
        self.assertIsNone(harness.mountinfo(self.r.mnt))

    def test_no_dev_fuse(self):
        harness.skip_unless(shutil.which('unshare'), 'no unshare')
        self.refused((SYSTEM, FAILED), 'fuse', '-o', self.opts(), self.r.mnt,
                     prefix=['unshare', '-m', 'sh', '-c',
                             'mount --bind /dev/null /dev/fuse && '
                             'exec "$0" "$@"'])

    def test_in_the_background(self):
        """Without -f: the parent says whether it worked."""
        bad = self.r.path('missing')
        self.refused((USAGE, FAILED), re.escape(bad), '-o', self.opts(), bad,
                     foreground=False)
        with open(self.r.log_name, 'ab') as log:
            status = subprocess.call(
                [harness.DAEMON, '-o', self.opts(), self.r.mnt], stdout=log,
                stderr=log, stdin=subprocess.DEVNULL, env={
                    **os.environ, **self.r.env()}, timeout=30)
        self.assertEqual(status, 0, self.r.log())
        self.assertEqual(harness.mountinfo(self.r.mnt)['type'],
                         'fuse.janusmail')
        self.assertIn('alice', os.listdir(self.r.mnt))
        self.r.status()
        self.r.unmount()
        harness.wait_for('the daemon to be gone',
                         lambda: not self.daemons())

    def daemons(self):
        """Processes that were started with our mount point."""
        found = []
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open(f'/proc/{pid}/cmdline', 'rb') as f:
                    words = f.read().split(b'\0')
            except OSError:
                continue
            if (self.r.mnt.encode() in words
                    and b'janusmaild' in os.path.basename(words[0])):
                found.append(int(pid))
        return found

    def test_signals_end_it_in_order(self):
        for sig in (signal.SIGTERM, signal.SIGINT):
            proc = self.r.mount()
            self.assertIn('alice', os.listdir(self.r.mnt))
            os.kill(proc.pid, sig)
            self.assertEqual(proc.wait(15), 0)
            self.assertIsNone(harness.mountinfo(self.r.mnt))
        self.r.daemon = None

    def test_the_tool_mounts_too(self):
        proc = subprocess.Popen(
            [harness.TOOL, 'mount', '-f', '-o', self.opts(), self.r.mnt],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, **self.r.env()})
        self.r.others.append(proc)
        harness.wait_for('the mount', lambda: harness.mountinfo(self.r.mnt))
        self.r.daemon = proc
        self.assertIn('alice', os.listdir(self.r.mnt))

    def test_busy_unmount_is_refused_and_harmless(self):
        self.r.mount()
        fd = os.open(f'{self.r.mnt}/alice', os.O_RDONLY)
        self.assertNotEqual(harness.run(['umount', self.r.mnt]).returncode, 0)
        self.assertEqual(len(os.listdir(f'{self.r.mnt}/alice/cur')), 7)
        os.close(fd)

    def test_killed_at_any_moment_of_the_start(self):
        """Whatever was half done is made good by the next one."""
        self.r.make('alice', 'names')
        for delay in range(0, 60, 4):
            self.r.mount()
            time.sleep(delay / 1000)
            os.killpg(self.r.daemon.pid, signal.SIGKILL)
            self.r.daemon.wait(10)
            self.r.daemon = None
            harness.run(['umount', '-l', self.r.mnt])
        self.r.mount()
        top = f'{self.r.mnt}/alice'
        want = harness.cc_dump(self.r.legacy_file('alice', 'mail', 'a', 'e'))
        self.assertEqual(len(os.listdir(f'{top}/cur')), 7)
        self.assertEqual(len(os.listdir(f'{top}/.a.e/cur')),
                         len(want['e']['mail']))
        self.assertEqual(
            len([n for n in os.listdir(top) if n.startswith('.')]), 13)
        r = self.r.tool('check', self.r.index)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)

    def test_killed_daemon_leaves_nothing_wrong(self):
        self.r.mount()
        names = sorted(os.listdir(f'{self.r.mnt}/alice/cur'))
        os.killpg(self.r.daemon.pid, signal.SIGKILL)
        self.r.daemon.wait(10)
        self.r.daemon = None
        harness.run(['umount', '-l', self.r.mnt])
        self.r.mount()
        self.assertEqual(sorted(os.listdir(f'{self.r.mnt}/alice/cur')), names)


SOMEBODY = 8    # fusermount3 wants a user of the system: "mail" is always there


class Unprivileged(harness.Case):
    def test_one_user_mounts_his_own_mail(self):
        if not os.stat('/dev/fuse').st_mode & 0o006:
            return self.in_a_namespace()
        rig = self.rig()
        harness.skip_unless(shutil.which('fusermount3'), 'no fusermount3')
        home = rig.user('alice', 'inbox', 'flags', uid=SOMEBODY)
        for path in (rig.store, rig.mnt):
            os.chown(path, SOMEBODY, SOMEBODY)
        own = rig.path('own')
        os.mkdir(own)
        os.chown(own, SOMEBODY, SOMEBODY)
        rig.mount(f'inbox={home}/INBOX,folders={home}/mail,'
                  f'store={rig.store},index={own}/index', uid=SOMEBODY)

        def reads():
            assert len(os.listdir(f'{rig.mnt}/cur')) == 7
            assert len(os.listdir(f'{rig.mnt}/.flags/cur')) == 32
        harness.as_user(SOMEBODY, reads)


    def in_a_namespace(self):
        """Where /dev/fuse is for root only: once more with one that is not."""
        harness.need_mount()
        self.assertNotIn('JANUSMAIL_INNER', os.environ)
        node = harness.Rig().path('fuse')
        os.mknod(node, 0o20666, os.stat('/dev/fuse').st_rdev)
        os.chmod(node, 0o666)
        r = harness.run(
            ['unshare', '-m', 'sh', '-c',
             'mount --bind "$0" /dev/fuse && exec "$@"', node,
             sys.executable, os.path.abspath(__file__), 'Unprivileged'],
            env={'JANUSMAIL_INNER': '1'}, timeout=120)
        if r.returncode == 77:
            self.skipTest(r.stdout)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)


class Tool(harness.Case):
    def code(self, *args, **kw):
        r = harness.run([harness.TOOL, *args], **kw)
        if r.returncode:
            self.assertRegex(r.stderr, '.')
        return r.returncode

    def test_exit_codes(self):
        rig = self.rig()
        rig.user('alice', 'inbox')
        mail = rig.legacy_file('alice', 'INBOX')
        text = rig.put('alice', 'text', b'no mailbox at all\n')
        for want, args in (
                (64, ()), (64, ('bogus',)), (64, ('dump',)),
                (64, ('dump', 'nonsense')), (64, ('dump', 'zip:/tmp')),
                (64, ('status',)), (64, ('check',)),
                (64, ('status', '--bogus', rig.mnt)),
                (66, ('dump', 'mbx:/nonexistent/INBOX')),
                (66, ('dump', 'maildir:/nonexistent')),
                (66, ('check', '/nonexistent')),
                (65, ('dump', f'mbx:{text}')),
                (69, ('status', rig.mnt)),
                (0, ('dump', f'mbx:{mail}')),
                (0, ('--help',)), (0, ('--version',))):
            with self.subTest(args=args):
                self.assertEqual(self.code(*args), want)

    def test_no_permission(self):
        rig = self.rig()
        rig.user('alice', 'inbox')
        self.assertEqual(
            self.code('dump', f'mbx:{rig.legacy}/alice/INBOX',
                      uid=harness.NOBODY), 77)

    def test_status_for_people(self):
        rig = self.rig()
        rig.user('alice', 'inbox', 'names')
        rig.mount()
        os.listdir(f'{rig.mnt}/alice/cur')
        r = rig.tool('status', rig.mnt)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn('alice', r.stdout)
        status = rig.status()
        self.assertEqual(status['schema'], 1)
        self.assertEqual(status['mountpoint'], rig.mnt)
        inbox = rig.folder_status('alice', 'INBOX')
        self.assertEqual((inbox['phase'], inbox['state']), ('legacy', 'ok'))
        self.assertEqual(inbox['legacy']['messages'], 9)
        self.assertEqual(inbox['legacy']['uidnext'], 11)
        self.assertEqual(inbox['legacy']['path'],
                         rig.legacy_file('alice', 'INBOX'))
        self.assertNotIn('damage', inbox)

        def scanned():
            return rig.folder_status('alice', 'a.b.c')['state'] == 'ok'
        harness.wait_for('the scan in the background', scanned)
        self.assertTrue(rig.folder_status('alice', 'dotted_name')['renamed'])


if __name__ == '__main__':
    harness.main()
