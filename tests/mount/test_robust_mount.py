#!/usr/bin/python3
"""Where one must not mount, what a report may do, and who is told what."""

import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402

FAILED, USAGE, SYSTEM = 32, 1, 2


class Refused(harness.Case):
    def refused(self, status, pattern, options, mnt):
        """A daemon that does not start; one that does must not hang us."""
        proc = subprocess.Popen(
            [harness.DAEMON, '-f', '-o', options, mnt], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, **self.r.env()})
        self.r.others.append(proc)
        try:
            proc.wait(5)
        except subprocess.TimeoutExpired:
            self.r.force(mnt)
            self.fail(f'mounted: {options} {mnt}')
        said = proc.stderr.read()
        self.assertEqual(proc.returncode, status, said)
        self.assertRegex(said, re.compile(pattern, re.S))
        self.assertLess(len(said.splitlines()), 4, said)
        return said


class Apart(Refused):
    """The daemon would wait for itself."""

    def setUp(self):
        self.r = self.rig()
        self.home = self.r.user('alice', 'inbox')

    def mkdir(self, *names):
        path = os.path.join(*names)
        os.makedirs(path, exist_ok=True)
        return path

    def apart(self, mnt, what, **options):
        with self.subTest(mnt=mnt):
            said = self.refused(FAILED, 'mountpoint.*mount elsewhere',
                                self.r.options(**options), mnt)
            self.assertIn(f'{what}=', said)
            self.assertIn(os.path.realpath(mnt), said)

    def single(self, **options):
        return {'inbox': None, 'folders': None, **options}

    def test_below_one_user_s_folders(self):
        """The default layout of UW: everything in the home."""
        mnt = self.mkdir(self.home, 'Mail')
        self.apart(mnt, 'folders', **self.single(folders=self.home))
        self.apart(mnt, 'inbox', **self.single(inbox=mnt))
        os.symlink(self.home, self.r.path('link'))
        self.apart(mnt, 'folders', **self.single(folders=self.r.path('link')))
        self.apart(self.r.path('link/Mail'), 'folders',
                   **self.single(folders=self.home))

    def test_below_folders_of_some_user(self):
        self.apart(self.mkdir(self.home, 'mail/x/y'), 'folders')
        self.apart(self.mkdir(self.r.legacy, 'nobody-yet/mail/x'), 'folders',
                   inbox=None)
        # All of a user's places would lie below it.
        self.apart(self.mkdir(self.r.legacy, 'bob'), 'inbox')

    def test_in_a_home_that_was_moved(self):
        moved = self.mkdir(self.r.path('moved'), 'carl')
        mnt = self.mkdir(moved, 'mail/x')
        os.symlink(moved, os.path.join(self.r.legacy, 'carl'))
        self.apart(mnt, 'folders', inbox=None)

    def test_in_the_new_store(self):
        self.apart(self.mkdir(self.r.store, 'mnt'), 'store')
        self.apart(self.mkdir(self.r.store, 'alice/mnt'), 'store')

    def test_in_control_and_index(self):
        control = self.mkdir(self.r.path('control'))
        self.apart(self.mkdir(control, 'alice/x'), 'control',
                   control=f'{control}/%u')
        os.mkdir(self.r.index, 0o700)
        self.apart(self.mkdir(self.r.index, 'mnt'), 'index')

    def test_above(self):
        """In a directory that only looks empty."""
        top = self.mkdir(self.r.path('top'))
        inside = self.mkdir(top, 'inside')
        os.chmod(top, 0)
        # Root sees what is in it: then it is refused for that.
        for what in ('store', 'index', 'lockdir'):
            self.refused(FAILED, 'empty|mountpoint.*mount elsewhere',
                         self.r.options(**{what: inside}), top)
        self.apart(self.r.mnt, 'index', index=f'{self.r.mnt}/index')

    def test_bind_mounts_hide_nothing(self):
        bound = self.mkdir(self.r.path('bound'))
        r = harness.run(['mount', '--bind', self.r.legacy, bound])
        harness.skip_unless(r.returncode == 0, 'no bind mounts')
        self.mkdir(self.home, 'mail/x')
        self.apart(f'{bound}/alice/mail/x', 'folders')
        self.apart(f'{self.home}/mail/x', 'folders',
                   folders=f'{bound}/%u/mail', inbox=None)

    def test_beside_is_fine(self):
        mnt = self.mkdir(self.home, 'Maildir')
        os.chown(self.r.store, self.r.users['alice'], self.r.users['alice'])
        self.r.mount(self.r.options(inbox=f'{self.home}/INBOX',
                                    folders=f'{self.home}/mail'), mnt=mnt)
        self.assertEqual(len(os.listdir(f'{mnt}/cur')), 7)
        self.r.unmount(mnt)

    def test_beside_the_homes_is_fine(self):
        mnt = self.mkdir(self.r.legacy, '.view')
        self.r.mount(mnt=mnt)
        self.assertEqual(len(os.listdir(f'{mnt}/alice/cur')), 7)
        self.r.unmount(mnt)

    def test_a_mount_that_appears_below_is_not_entered(self):
        """Our own, by another way: nobody waits for it, and it is named."""
        self.r.mount()
        os.listdir(f'{self.r.mnt}/alice/cur')
        loop = self.mkdir(self.home, 'mail', 'loop')
        r = harness.run(['mount', '--bind', self.r.mnt, loop])
        harness.skip_unless(r.returncode == 0, 'no bind mounts')
        self.addCleanup(harness.run, ['umount', '-l', loop])

        def named():
            looked = subprocess.Popen(['ls', '-a', f'{self.r.mnt}/alice'],
                                      stdout=subprocess.DEVNULL)
            try:
                self.assertEqual(looked.wait(10), 0)
            except subprocess.TimeoutExpired:
                self.r.force(self.r.mnt)
                self.fail('a walk into our own mount')
            alice = [u for u in self.r.status()['users']
                     if u['name'] == 'alice'][0]
            return alice['not_served']
        found = harness.wait_for('its name', named)
        self.assertEqual([x['path'] for x in found], ['loop'])
        self.assertIn('mount', found[0]['why'])
        harness.run(['umount', loop])


class Dead(Refused):
    def test_at_once_after_its_end(self):
        """The kernel still remembers that there is a directory."""
        self.r = self.rig()
        self.r.user('alice', 'inbox')
        for _ in range(3):
            self.r.mount()
            os.listdir(self.r.mnt)
            os.stat(self.r.mnt)
            os.killpg(self.r.daemon.pid, signal.SIGKILL)
            self.r.daemon.wait(10)
            self.r.daemon = None
            self.refused(FAILED, 'umount -l', self.r.options(), self.r.mnt)
            self.assertEqual(
                harness.run(['umount', '-l', self.r.mnt]).returncode, 0)
            self.assertIsNone(harness.mountinfo(self.r.mnt))


class Shared(Refused):
    def test_an_index_in_use_says_by_whom(self):
        self.r = self.rig()
        self.r.user('alice', 'inbox')
        proc = self.r.mount()
        second = self.r.path('mnt2')
        os.mkdir(second)
        said = self.refused(SYSTEM, 'umount it.*index=', self.r.options(),
                            second)
        self.assertIn(f'process {proc.pid}', said)
        self.assertIn(self.r.mnt, said)


class Options(Refused):
    def test_allow_root_is_explained(self):
        self.r = self.rig()
        said = self.refused(USAGE, 'allow_root.*leave it out',
                            self.r.options() + ',allow_root', self.r.mnt)
        self.assertNotIn('mutually', said)


class Status(harness.Case):
    def test_it_changes_nothing(self):
        rig = self.rig()
        for i in range(5):
            rig.user(f'u{i}')
            rig.make(f'u{i}', 'inbox')
        rig.mount(rig.options() + ',scan=touch')
        os.listdir(f'{rig.mnt}/u2/cur')
        before = harness.snapshot(rig.store)
        users = {u['name']: u for u in rig.status()['users']}
        self.assertEqual({n: u['attached'] for n, u in users.items()},
                         {f'u{i}': i == 2 for i in range(5)})
        self.assertEqual([f['name'] for f in users['u2']['folders']],
                         ['INBOX'])
        self.assertEqual(users['u1']['folders'], [])
        r = rig.tool('status', rig.mnt)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn('user u1: not looked at yet\n', r.stdout)
        self.assertIn('user u2 (5003:5003)\n', r.stdout)
        after = harness.snapshot(rig.store)
        self.assert_same(
            {k: {f: v for f, v in facts.items() if f != 'atime'}
             for k, facts in before.items()},
            {k: {f: v for f, v in facts.items() if f != 'atime'}
             for k, facts in after.items()})

    def test_first_report_of_many_users_does_not_delay_the_end(self):
        rig = self.rig()
        for i in range(1000):
            os.makedirs(f'{rig.legacy}/u{i}/mail')
            open(f'{rig.legacy}/u{i}/INBOX', 'w').close()
        rig.mount(rig.options() + ',scan=touch')
        asking = subprocess.Popen(
            [harness.TOOL, 'status', '--json', rig.mnt],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rig.others.append(asking)
        time.sleep(0.5)
        proc, rig.daemon = rig.daemon, None
        os.kill(proc.pid, signal.SIGTERM)
        self.assertEqual(proc.wait(3), 0)
        self.assertEqual(os.listdir(rig.store), ['.janusmail'])

    def test_no_terminal_escapes(self):
        """A user chooses names; root reads them on a terminal."""
        rig = self.rig()
        rig.user('alice', 'inbox')
        evil = 'a\x1b[31mred\x07\x9bb\nc'
        os.makedirs(rig.legacy_file('alice', 'mail'), exist_ok=True)
        with open(rig.legacy_file('alice', 'INBOX'), 'rb') as f:
            box = f.read()
        rig.put('alice', f'mail/{evil}', box)
        rig.put('alice', f'mail/no{evil}', b'no mailbox\n')
        os.symlink('/etc', rig.legacy_file('alice', 'mail', f'li nk{evil}'))
        rig.put('alice', f'mail/damaged{evil}', box[:-30])
        os.makedirs(f'{rig.store}/alice/.own{evil}/cur')
        rig.expect_log('runs past the end', 'not shown')
        rig.mount()
        for name in os.listdir(f'{rig.mnt}/alice'):
            if name.startswith('.'):
                os.listdir(f'{rig.mnt}/alice/{name}/cur')
        r = subprocess.run([harness.TOOL, 'status', rig.mnt],
                           stdout=subprocess.PIPE, check=True)
        self.assertEqual(
            set(re.findall(rb'[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]',
                           r.stdout)), set(), r.stdout)
        self.assertIn(b'a\\x1b[31mred\\x07', r.stdout)
        self.assertIn(b'li', r.stdout)
        for word in (b'own', b'damaged', b'nk', b'no'):
            self.assertIn(word + b'a\\x1b[31m', r.stdout)
        # Every line begins as our own do: no name begins one.
        for line in r.stdout.splitlines():
            self.assertRegex(
                line, rb"^(user|mountpoint|store|index|watch|UW's locks|  )")
        r.stdout.decode()


if __name__ == '__main__':
    harness.main()
