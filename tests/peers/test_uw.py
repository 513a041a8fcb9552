#!/usr/bin/python3
"""UW programs at work on a mailbox while it is served: what they change shows,
and they are never kept waiting."""

import fcntl
import hashlib
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness_uw import Session  # noqa: E402


class Uw(harness.Case):
    def start(self, *scenarios, **options):
        rig = self.rig()
        rig.user('alice', 'inbox', *scenarios)
        rig.mount(rig.options(**options))
        self.rig_now = rig
        return rig

    def view(self, folder):
        top = f'{self.rig_now.mnt}/{list(self.rig_now.users)[0]}'
        return top if folder == 'INBOX' else f'{top}/.{folder}'

    def file(self, folder):
        return self.rig_now.legacy_file(
            list(self.rig_now.users)[0], 'INBOX' if folder == 'INBOX' else f'mail/{folder}')

    def shown(self, top):
        """A folder of the view as plain files say it; UIDs are the leading
        numbers, since only Dovecot writes new ones into its uidlist."""
        out, letters = {}, {}
        with open(f'{top}/dovecot-keywords', encoding='utf-8') as f:
            for line in f:
                slot, word = line.split()
                letters[chr(ord('a') + int(slot))] = word.lower()
        for sub in ('cur', 'new'):
            for name in os.listdir(f'{top}/{sub}'):
                with open(f'{top}/{sub}/{name}', 'rb') as f:
                    data = f.read()
                info = name.partition(':2,')[2]
                out[int(name.split('.')[0])] = {
                    'flags': ''.join(filter(str.isupper, info)) or '-',
                    'keywords': ','.join(sorted(
                        letters.get(c, f'unknown-{c}')
                        for c in info if c.islower())) or '-',
                    'size': str(len(data)),
                    'sha256': hashlib.sha256(data).hexdigest()}
        return out

    def agree(self, folder, seconds=harness.WAIT):
        """The view comes to say what c-client says."""
        def same():
            want = list(harness.cc_dump(self.file(folder)).values())[0]['mail']
            for mail in want.values():
                del mail['date']
            try:
                got = self.shown(self.view(folder))
            except OSError as e:        # it changed meanwhile, or is locked
                self.last = str(e)
                return False
            self.last = harness.difference(want, got)
            return not self.last
        try:
            harness.wait_for('agreement', same, seconds)
        except AssertionError:
            self.fail(self.last)

    def inodes(self, folder):
        out = {}
        for sub in ('cur', 'new'):
            with os.scandir(f'{self.view(folder)}/{sub}') as it:
                for e in it:
                    out[int(e.name.split('.')[0])] = (
                        e.inode(), e.name.split(':')[0])
        return out

    def test_new_mail_shows(self):
        rig = self.start('flags')
        self.agree('flags')
        before = self.inodes('flags')
        mtime = os.stat(f'{self.view("flags")}/new').st_mtime_ns
        rig.make('alice', 'deliver', 'mail/flags')
        self.agree('flags')
        after = self.inodes('flags')
        self.assertEqual(len(after), 33)
        self.assertLessEqual(before.items(), after.items())
        self.assertGreater(os.stat(f'{self.view("flags")}/new').st_mtime_ns,
                           mtime)

    def test_flags_of_a_session_show(self):
        rig = self.start('gaps')
        self.agree('gaps')
        before = self.inodes('gaps')
        s = Session(rig, 'alice', 'mail/gaps')
        s('set 1:5 \\Seen')
        self.agree('gaps')
        s('set 3 \\Flagged Urgent')
        s('clear 1 \\Seen')
        self.agree('gaps')
        s.close()
        self.agree('gaps')
        self.assertEqual(before, self.inodes('gaps'))

    def test_flags_in_the_same_second_show(self):
        """UW's mtime has whole seconds; a change must not hide in one."""
        rig = self.start('gaps')
        self.agree('gaps')
        s = Session(rig, 'alice', 'mail/gaps')
        for turn in range(6):
            s(f'{"clear" if turn % 2 else "set"} 1 \\Seen')
            self.agree('gaps')
        s.close()

    def test_compaction_keeps_names_and_bytes(self):
        rig = self.start('flags')
        self.agree('flags')
        before = self.inodes('flags')
        folder = self.view('flags')
        name = max(os.listdir(f'{folder}/cur'),
                   key=lambda n: int(n.split('.')[0]))
        self.assertEqual(name.split('.')[0], '32')
        size = os.stat(self.file('flags')).st_size
        s = Session(rig, 'alice', 'mail/flags')
        s('clear 32 \\Deleted')
        self.agree('flags')
        name = name.replace('T', '')
        fd = os.open(f'{folder}/cur/{name}', os.O_RDONLY)
        whole = os.pread(fd, 1 << 20, 0)
        s('set 1:7 \\Deleted')
        s('expunge')
        s.close()
        self.assertLess(os.stat(self.file('flags')).st_size, size)
        self.agree('flags')
        self.assertEqual(os.pread(fd, 1 << 20, 0), whole)
        os.close(fd)
        after = self.inodes('flags')
        self.assertLessEqual(after.items(), before.items())
        self.assertLess(len(after), 26)

    def test_hidden_expunge(self):
        """Two sessions: the record stays and is marked."""
        rig = self.start('gaps')
        self.agree('gaps')
        size = os.stat(self.file('gaps')).st_size
        one = Session(rig, 'alice', 'mail/gaps')
        two = Session(rig, 'alice', 'mail/gaps')
        one('set 2:4 \\Deleted')
        one('expunge')
        self.assertEqual(os.stat(self.file('gaps')).st_size, size)
        self.agree('gaps')
        two.close('die')
        one.close('die')
        self.agree('gaps')

    def test_uids_predicted_are_those_given(self):
        rig = self.start('tail')
        self.agree('tail')
        before = self.inodes('tail')
        Session(rig, 'alice', 'mail/tail').close()
        self.agree('tail')
        self.assertEqual(before, self.inodes('tail'))

    def test_a_folder_made_meanwhile_shows(self):
        rig = self.start()
        os.listdir(self.view('INBOX'))
        rig.make('alice', 'recent')

        def there():
            return '.recent' in os.listdir(self.view('INBOX'))
        harness.wait_for('the new folder', there)
        self.agree('recent')

    def test_mailbox_under_steady_fire(self):
        """Deliveries, flags and compactions while the view is read: never a
        wrong octet, never a daemon that complains."""
        rig = self.start('flags')
        folder = self.view('flags')
        texts = {}
        end = time.monotonic() + 4
        s = Session(rig, 'alice', 'mail/flags')
        reads = turn = 0
        while time.monotonic() < end or reads <= 50:
            turn += 1
            s(('append', 'set 1:3 \\Seen', 'set 2 \\Deleted', 'expunge',
               'ping')[turn % 5])
            for name in os.listdir(f'{folder}/cur'):
                base = name.split(':')[0]
                try:
                    with open(f'{folder}/cur/{name}', 'rb') as f:
                        data = f.read()
                except FileNotFoundError:
                    continue
                self.assertEqual(len(data), int(base.split('S=')[1]))
                self.assertEqual(texts.setdefault(base, data), data)
                reads += 1
        s.close()
        self.agree('flags')

    def test_uw_never_waits_for_us(self):
        """Open files and listings hold no lock that a UW program needs."""
        self.start('gaps', 'many')
        for folder in ('gaps', 'many'):
            names = os.listdir(f'{self.view(folder)}/cur')
            fd = os.open(f'{self.view(folder)}/cur/{names[0]}', os.O_RDONLY)
            os.read(fd, 10)
            with open(self.file(folder), 'r+b') as f:
                harness.wait_for('the exclusive lock',
                                 lambda: self.try_lock(f))
            os.close(fd)

    @staticmethod
    def try_lock(f):
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(f, fcntl.LOCK_UN)
        return True

    def lock_name(self, folder):
        st = os.stat(self.file(folder))
        return f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'

    def test_a_stuck_lock_does_not_hang_us(self):
        rig = self.start('gaps', 'flags', lockwait=1)
        self.agree('gaps')
        self.agree('flags')
        rig.make('alice', 'deliver', 'mail/gaps')
        lock = self.lock_name('gaps')
        rig.expected.append('gaps')
        fd = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        os.fchmod(fd, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            began = time.monotonic()
            try:
                os.listdir(f'{self.view("gaps")}/cur')
            except OSError:
                pass
            self.assertLess(time.monotonic() - began, 15)
            # The others do not wait with it.
            self.assertEqual(len(self.inodes('flags')), 32)
        finally:
            os.unlink(lock)
            os.close(fd)
        self.agree('gaps')
        if 'gaps' not in rig.log():
            rig.expected.clear()

    def test_no_lock_file_stays(self):
        self.start('gaps', 'flags')
        for name in ('gaps', 'flags'):
            self.agree(name)
            self.assertFalse(os.path.lexists(self.lock_name(name)))

    def test_dmail_delivers(self):
        harness.skip_unless(os.access('/usr/bin/dmail', os.X_OK),
                            'dmail is not installed')
        rig = self.rig()
        # dmail wants a user of the system; "mail" is on every Debian.
        home = rig.user('mail', 'inbox', uid=8)
        rig.mount()
        r = subprocess.run(
            ['setpriv', '--reuid', '8', '--regid', '8', '--clear-groups',
             'dmail'], input=b'From: a@example.test\nSubject: by dmail\n\nx\n',
            env={'HOME': home, 'PATH': '/usr/bin:/bin'}, timeout=20,
            capture_output=True)
        self.assertEqual(r.returncode, 0, r.stderr)

        self.rig_now = rig
        self.assertEqual(len(harness.cc_dump(f'{home}/INBOX')['INBOX']['mail']),
                         10)
        self.agree('INBOX')

    def test_dovecot_gives_new_mail_the_uids_of_uw(self):
        harness.need_dovecot()
        rig = self.start('flags')
        imap = rig.dovecot().imap('alice')
        self.assertEqual(harness.imap_folder(imap, 'flags')['uidnext'], 33)
        for turn in range(3):
            rig.make('alice', 'deliver', 'mail/flags')
            rig.make('alice', 'deliver', 'mail/flags')
            want = harness.cc_dump(self.file('flags'))['flags']

            def same():
                got = harness.imap_folder(imap, 'flags')
                return (sorted(got['mail']) == sorted(want['mail'])
                        and got['uidnext'] == want['uidnext']
                        and got['uidvalidity'] == want['uidvalidity'])
            harness.wait_for('the same UIDs', same)
        imap.logout()


if __name__ == '__main__':
    harness.main()
