#!/usr/bin/python3
"""Mailboxes that UW deletes, renames or makes while we look: which folders
show, and that a folder stays the one it was."""

import errno
import os
import re
import shutil
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), 'oracle'))
import harness  # noqa: E402
import mbxfile  # noqa: E402

STOPPED = 100       # exit status at IO_STOP_AT
OTHER = 0x51234567  # a UIDVALIDITY


def mailbox(count, uidvalidity=None):
    data = mbxfile.mailbox(count)
    if uidvalidity is None:
        return data
    return data[:7] + b'%08x' % uidvalidity + data[15:]


class FolderCase(harness.Case):
    def setUp(self):
        self.r = self.rig()
        self.home = self.r.user('alice', 'inbox', 'flags')
        self.view = os.path.join(self.r.mnt, 'alice')
        self.addCleanup(self.gone_is_ordinary)

    def gone_is_ordinary(self):
        """Who looks between UW's rename and our next walk may be told so."""
        for said in ('the mailbox file is gone',
                     'is not in the MBX yet: the mailbox cannot be used'):
            if said in self.r.log():
                self.r.expect_log(said)

    def box(self, name):
        return os.path.join(self.home, 'mail', name)

    def put(self, name, count=3, uidvalidity=None):
        return self.r.put('alice', f'mail/{name}', mailbox(count, uidvalidity))

    def folders(self):
        return {n for n in os.listdir(self.view) if n.startswith('.')}

    def wait_folders(self, *names):
        want = {f'.{n}' for n in names}
        harness.wait_for(f'{want}, is {self.folders()}',
                         lambda: self.folders() == want)

    def facts(self, name):
        """What must stay the same: names, inode numbers, octets, control
        files."""
        top = os.path.join(self.view, f'.{name}')
        facts = {}
        for sub in ('cur', 'new'):
            for m in os.listdir(f'{top}/{sub}'):
                path = f'{top}/{sub}/{m}'
                with open(path, 'rb') as f:
                    facts[f'{sub}/{m}'] = os.stat(path).st_ino, f.read()
        for control in ('dovecot-uidlist', 'dovecot-keywords'):
            with open(f'{top}/{control}', 'rb') as f:
                facts[control] = f.read()
        return facts

    def assert_hidden(self, name):
        for path in (name, f'{name}/cur', f'{name}/dovecot-uidlist'):
            self.assert_errno(errno.ENOENT, os.stat, f'{self.view}/{path}')


class Gone(FolderCase):
    def test_a_deleted_mailbox_is_hidden_and_comes_back_as_itself(self):
        self.r.mount()
        before = self.facts('flags')
        self.assertGreater(len(before), 10)
        os.rename(self.box('flags'), f'{self.r.dir}/kept')
        self.wait_folders()
        time.sleep(1)       # as long as the kernel may keep a name
        self.assert_hidden('.flags')
        self.assertEqual([(f['name'], f['state'])
                          for f in self.r.status()['users'][0]['folders']],
                         [('INBOX', 'ok'), ('flags', 'gone')])
        self.assertIn('the mailbox flags is gone', self.r.log())
        # Dovecot's files stay, for when it comes back.
        self.assertTrue(os.path.exists(
            f'{self.r.store}/alice/.flags/dovecot-uidlist'))
        self.r.remount()
        self.assertEqual(self.folders(), set())
        self.assert_hidden('.flags')
        shutil.copy2(f'{self.r.dir}/kept', self.box('flags'))
        os.chown(self.box('flags'), 5001, 5001)
        self.wait_folders('flags')
        self.assert_same(before, self.facts('flags'))

    def test_a_directory_of_mailboxes_is_deleted(self):
        os.makedirs(self.box('lists/old'))
        for path in ('lists', 'lists/old'):
            os.chown(self.box(path), 5001, 5001)
        self.put('lists/a')
        self.put('lists/old/b')
        self.r.mount(self.r.options(scan='touch'))
        self.wait_folders('flags', 'lists.a', 'lists.old.b')
        shutil.rmtree(self.box('lists'))
        self.wait_folders('flags')

    def stays(self, seconds=4):
        """Seen at every look, for longer than two looks take."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.assertEqual(self.folders(), {'.flags'})
            time.sleep(0.3)

    def test_a_mail_directory_that_is_away_hides_nothing(self):
        self.r.mount()
        before = self.facts('flags')
        os.rename(f'{self.home}/mail', f'{self.home}/mail.away')
        self.stays()
        os.rename(f'{self.home}/mail.away', f'{self.home}/mail')
        self.wait_folders('flags')
        self.assert_same(before, self.facts('flags'))

    def test_a_mount_that_is_missing_hides_nothing(self):
        mail = f'{self.home}/mail'
        r = harness.run(['mount', '-t', 'tmpfs', '-o', 'uid=5001,mode=700',
                         'none', mail])
        harness.skip_unless(r.returncode == 0, f'no tmpfs: {r.stderr}')
        try:
            self.put('flags')
            self.r.mount()
            self.facts('flags')
        finally:
            harness.run(['umount', '-l', mail])
        os.unlink(self.box('flags'))
        self.stays()

    def test_inbox_is_never_hidden(self):
        self.r.expect_log('INBOX.*the mailbox file is gone')
        self.r.mount()
        self.assertEqual(len(os.listdir(f'{self.view}/cur')), 7)
        os.rename(f'{self.home}/INBOX', f'{self.r.dir}/kept')
        time.sleep(1.2)
        for _ in range(3):
            self.assert_errno(errno.EIO, os.listdir, f'{self.view}/cur')
            self.wait_folders('flags')
            time.sleep(1.1)
        os.rename(f'{self.r.dir}/kept', f'{self.home}/INBOX')
        harness.wait_for('INBOX', lambda: self.r.folder_status(
            'alice', 'INBOX') and len(os.listdir(f'{self.view}/new')) >= 0)
        self.assertEqual(len(os.listdir(f'{self.view}/cur')), 7)


class Renamed(FolderCase):
    def rename(self, old, new):
        os.rename(self.box(old), self.box(new))

    def check_moved(self, before, old, new):
        self.assertIn(f'.{new}', self.folders())
        self.assertNotIn(f'.{old}', self.folders())
        self.assert_same(before, self.facts(new))
        self.assertFalse(os.path.exists(f'{self.r.store}/alice/.{old}'))

    def test_while_we_look(self):
        self.r.mount()
        before = self.facts('flags')
        self.rename('flags', 'other')
        self.wait_folders('other')
        self.check_moved(before, 'flags', 'other')
        self.assertIn('renamed', self.r.log())
        # An open directory goes on being that folder.
        fd = os.open(f'{self.view}/.other/cur', os.O_RDONLY)
        try:
            self.rename('other', 'third')
            self.wait_folders('third')
            self.assertEqual(len(os.listdir(fd)), len(
                [k for k in before if k.startswith('cur/')]))
        finally:
            os.close(fd)
        self.r.remount()
        self.check_moved(before, 'other', 'third')

    def test_while_we_do_not_look(self):
        self.r.mount()
        before = self.facts('flags')
        self.r.unmount()
        self.rename('flags', 'other')
        self.r.mount()
        self.check_moved(before, 'flags', 'other')
        status = self.r.folder_status('alice', 'other')
        self.assertEqual(status['legacy']['name'], 'other')

    def test_a_directory_above_it(self):
        os.mkdir(self.box('lists'))
        os.chown(self.box('lists'), 5001, 5001)
        self.put('lists/a', 4)
        self.put('lists/b', 5, OTHER)
        self.r.mount()
        a, b = self.facts('lists.a'), self.facts('lists.b')
        self.rename('lists', 'Archive')
        self.wait_folders('flags', 'Archive.a', 'Archive.b')
        self.check_moved(a, 'lists.a', 'Archive.a')
        self.check_moved(b, 'lists.b', 'Archive.b')

    def test_to_a_name_that_is_taken(self):
        self.r.expect_log('whose name a Maildir')
        self.r.mount()
        before = self.facts('flags')
        for sub in ('', '/cur', '/new', '/tmp'):
            os.mkdir(f'{self.view}/.other{sub}', 0o700)
        self.rename('flags', 'other')
        self.wait_folders('other', 'other_2')
        self.assert_same(before, self.facts('other_2'))
        self.assertEqual(os.listdir(f'{self.view}/.other/cur'), [])

    def test_and_control_files_elsewhere(self):
        control = f'{self.r.dir}/control'
        os.mkdir(control, 0o755)
        self.r.mount(self.r.options(control=f'{control}/%u'))
        before = self.facts('flags')
        real = f'{control}/alice/.flags/dovecot-uidlist'
        ino = os.stat(real).st_ino
        self.rename('flags', 'other')
        self.wait_folders('other')
        self.assert_same(before, self.facts('other'))
        self.assertEqual(os.stat(real.replace('.flags', '.other')).st_ino, ino)
        self.assertFalse(os.path.exists(real))

    def test_another_mailbox_in_the_same_inode(self):
        """The number of a deleted file is soon another one's."""
        self.r.mount()
        before = self.facts('flags')
        self.r.unmount()
        ino = os.stat(self.box('flags')).st_ino
        os.unlink(self.box('flags'))
        now = os.stat(self.put('new', 2, OTHER)).st_ino
        ledger = f'{self.r.store}/.janusmail/users/alice'
        with open(ledger, encoding='ascii') as f:
            text = f.read()
        self.assertIn(f'{ino:016x}', text)
        with open(ledger, 'w', encoding='ascii') as f:
            f.write(text.replace(f'{ino:016x}', f'{now:016x}'))
        self.r.mount()
        self.wait_folders('new')
        after = self.facts('new')
        self.assertFalse(set(before) & set(after) - {
            'dovecot-uidlist', 'dovecot-keywords'})
        self.assertIn(b'V%d ' % OTHER, after['dovecot-uidlist'])
        self.assertTrue(os.path.exists(f'{self.r.store}/alice/.flags'))

    def test_inbox_is_renamed_away(self):
        """UW's RENAME INBOX moves the file; INBOX is made anew."""
        self.r.mount()
        old = os.listdir(f'{self.view}/cur')
        os.rename(f'{self.home}/INBOX', self.box('saved'))
        self.r.put('alice', 'INBOX', mailbox(2, OTHER))
        self.r.expect_log('UW has reset UIDVALIDITY')
        self.wait_folders('flags', 'saved')
        self.assertEqual(len(os.listdir(f'{self.view}/.saved/cur')), len(old))
        self.assertEqual(len(os.listdir(f'{self.view}/cur')), 2)

    def test_dovecot_keeps_the_uids(self):
        harness.need_dovecot()
        self.r.mount()
        dovecot = self.r.dovecot()
        m = dovecot.imap('alice')
        before = harness.imap_folder(m, 'flags')
        m.logout()
        self.rename('flags', 'other')
        self.wait_folders('other')
        m = dovecot.imap('alice')
        self.assertNotIn(b'flags', b' '.join(m.list()[1]))
        after = harness.imap_folder(m, 'other')
        m.logout()
        self.assert_same(before, after)
        dovecot.stop()

    def stopped_at(self, step):
        """Attach until the step: whether it ended there."""
        self.r.daemon = None
        proc = self.r.start('-o', self.r.options(scan='touch'), self.r.mnt,
                            env={'IO_STOP_AT': str(step)})
        harness.wait_for('a mount or an end', lambda: proc.poll() is not None
                         or harness.mountinfo(self.r.mnt))
        try:
            os.listdir(self.view)
            stopped = proc.poll() is not None
        except OSError:
            stopped = True
        harness.run(['umount', '-l', self.r.mnt])
        self.assertEqual(proc.wait(10), STOPPED if stopped else 0)
        return stopped

    def test_at_every_step_a_crash(self):
        names = ['flags', 'other']
        self.r.mount()
        before = self.facts('flags')
        self.r.unmount()
        steps = 0
        for step in range(1, 200):
            self.rename(*names)
            names.reverse()
            stopped = self.stopped_at(step)
            self.r.mount()
            self.check_moved(before, names[1], names[0])
            self.assertEqual(self.folders(), {f'.{names[0]}'}, step)
            self.r.unmount()
            if not stopped:
                break
            steps += 1
        self.assertGreater(steps, 8)
        self.assertLess(steps, 199)


class Ledger(FolderCase):
    def ledger(self):
        return f'{self.r.store}/.janusmail/users/alice'

    def test_one_of_version_1_is_read(self):
        self.r.mount()
        before = self.facts('flags')
        self.r.unmount()
        with open(self.ledger(), encoding='ascii') as f:
            lines = f.read().splitlines()
        self.assertEqual(lines[0], 'janusmail-ledger 3')
        last = {}       # by folder; appended lines come later
        for line in lines[1:]:
            m = re.match(r'(?:folder|line \d+) (.*) [0-9a-f]{16} '
                         r'[0-9a-f]{16}$', line)
            if m:
                last[m[1].split()[1]] = m[1]
        self.assertEqual(sorted(last), ['.', '.flags'])
        with open(self.ledger(), 'w', encoding='ascii') as f:
            f.write('janusmail-ledger 1\n'
                    + ''.join(f'folder {v}\n' for v in last.values())
                    + 'end 2\n')
        self.r.mount()
        self.assert_same(before, self.facts('flags'))
        # From the first look on it knows the files.
        os.rename(self.box('flags'), self.box('other'))
        self.wait_folders('other')
        self.assert_same(before, self.facts('other'))

    def io(self, what):
        with open(f'/proc/{self.r.daemon.pid}/io', encoding='ascii') as f:
            return int(re.search(rf'^{what}: (\d+)$', f.read(), re.M)[1])

    def test_the_first_use_of_many_folders(self):
        """Each writes its line, not those of all."""
        count = 600
        for i in range(count):
            self.put(f'f{i:03d}', 1)
        self.r.mount(self.r.options(scan='touch'))
        os.listdir(self.view)
        size, before = os.stat(self.ledger()).st_size, self.io('wchar')
        self.assertGreater(size, count * 100)
        for i in range(count):
            os.listdir(f'{self.view}/.f{i:03d}/cur')
        written = self.io('wchar') - before
        self.assertLess(written, count * size / 2)
        with open(self.ledger(), encoding='ascii') as f:
            self.assertGreater(len(f.readlines()), count)
        self.assertLess(os.stat(self.ledger()).st_size, 4 * size)
        self.r.remount()
        self.assertEqual(len(self.folders()), count + 1)

    def test_many_files_that_are_no_mail(self):
        count = 500
        for i in range(count):
            self.r.put('alice', f'mail/junk{i}', b'x' * 2000)
        self.r.expect_log('500 files are not shown, the first: junk0: ')
        self.r.mount()
        self.wait_folders('flags')
        told = [line for line in self.r.log().splitlines()
                if 'not shown' in line]
        self.assertEqual(len(told), 1, told)
        user = self.r.status()['users'][0]
        self.assertEqual(len(user['not_served']), count)
        # And they are not read again by every listing.
        time.sleep(3)
        os.listdir(self.view)
        read = []
        for _ in range(3):
            time.sleep(1.2)
            before = self.io('rchar')
            os.listdir(self.view)
            read.append(self.io('rchar') - before)
        self.assertLess(min(read), count * 2000 / 10, read)


if __name__ == '__main__':
    harness.main()
