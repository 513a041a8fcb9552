#!/usr/bin/python3
"""Full filesystems: what needs space fails with ENOSPC and leaves nothing
behind, what needs none goes on, and when there is space again all is well
without a new start. Each of the three places lies on a small ext4 in turn; and
a legacy store that has become read-only.

Quotas are not tried: EDQUOT comes from the same calls, and needs a kernel with
quota formats."""

import contextlib
import errno
import os
import sys
import time
import traceback

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle'),
                os.path.join(TESTS, 'crash')]
import harness      # noqa: E402
import mbxfile      # noqa: E402
import steps        # noqa: E402

USER = steps.USER
WORDS = ('Label', 'Other')
NEW = '1163456789.M1P2.mx.example.test'
TEXT = b'Subject: new\r\n\r\n' + b'A line of a new message.\r\n' * 40
LARGE = b'Subject: large\r\n\r\n' + b'A line of a message.\r\n' * 20000
FULL = (errno.ENOSPC,)


def small_disk(rig, name, mib=3):
    """A small ext4 at rig.path(name), which is a directory of the rig."""
    image, place = rig.path(f'{name}.img'), rig.path(name)
    os.makedirs(place, exist_ok=True)
    with open(image, 'wb') as f:
        f.truncate(mib << 20)
    r = harness.run(['mkfs.ext4', '-q', '-m', '0', '-O', '^has_journal',
                     '-N', '400', image])
    if r.returncode == 0:
        r = harness.run(['mount', '-o', 'loop', image, place])
    harness.skip_unless(r.returncode == 0,
                        f'no loop device: {r.stderr.strip()}')
    os.rmdir(os.path.join(place, 'lost+found'))
    os.chmod(place, 0o755)
    return place


def outcome(uid, fn, *args):
    """fn(*args) in a child that is only uid: 0, or the errno it met."""
    pid = os.fork()
    if pid == 0:
        status = 255
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            fn(*args)
            status = 0
        except OSError as e:
            status = e.errno
        except BaseException:   # whatever it was, the child ends here
            with contextlib.suppress(BaseException):
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
        os._exit(status)
    status = harness.wait_for(fn.__name__, lambda: ended(pid), 60)[1]
    return os.waitstatus_to_exitcode(status)


def ended(pid):
    got, status = os.waitpid(pid, os.WNOHANG)
    return (got, status) if got else None


class Filler:
    """What takes the space away, and gives it back."""

    def __init__(self, place):
        self.path = os.path.join(place, 'filler')

    def fill(self):
        os.sync()       # what is to be allocated, is
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        end = os.lseek(fd, 0, os.SEEK_END)
        for size in (1 << 16, 4096, 512):
            with contextlib.suppress(OSError):
                while True:
                    end += os.pwrite(fd, b'\0' * size, end)
        os.fsync(fd)
        os.close(fd)

    def fill_inodes(self):
        with contextlib.suppress(OSError):
            for n in range(10000):
                with open(f'{self.path}{n}', 'x'):
                    pass

    def clear(self):
        for name in os.listdir(os.path.dirname(self.path)):
            if name.startswith('filler'):
                os.unlink(os.path.join(os.path.dirname(self.path), name))


def stay(path):
    """Everything of a real tree: path -> size."""
    return {os.path.join(p, n): os.lstat(os.path.join(p, n)).st_size
            for p, _, names in os.walk(path) for n in names}


def write_new(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        while data:
            data = data[os.write(fd, data):]
        os.fsync(fd)
    finally:
        os.close(fd)


def deliver(top, name=NEW, data=TEXT, to='new'):
    """As agents do it: nothing stays in tmp/ when it fails."""
    tmp = f'{top}/tmp/{name}'
    try:
        write_new(tmp, data)
        os.rename(tmp, f'{top}/{to}/{name}')
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(tmp)


class Full(harness.Case):
    def start(self, small, mib=3, look=True, **options):
        """A store with INBOX and box; small: which directory is a disk of its
        own."""
        self.r = rig = self.rig()
        place = small_disk(rig, small, mib)
        self.disk = Filler(place)
        rig.user(USER)
        rig.put(USER, 'INBOX', mbxfile.mailbox(5, keywords=WORDS))
        rig.put(USER, 'mail/box', mbxfile.mailbox(3))
        self.top = f'{rig.mnt}/{USER}'
        if small == 'index':
            os.mkdir(rig.path('index/db'), 0o700)
            options['index'] = rig.path('index/db')
        rig.mount(rig.options(scan='touch', **options))
        if look:
            steps.look_at_all(self.top)
        return rig

    def outcome(self, fn, *args):
        return outcome(self.r.users[USER], fn, *args)

    def user(self, fn, *args):
        got = self.outcome(fn, *args)
        self.assertEqual(got, 0, f'{fn.__name__}{args[:2]}: '
                         f'{errno.errorcode.get(got, got)}')

    def refused(self, fn, *args, wanted=FULL):
        """As the user; fn fails with that error and with no other."""
        got = self.outcome(fn, *args)
        self.assertIn(got, wanted, f'{fn.__name__}{args[:2]}: '
                      f'{errno.errorcode.get(got, got)}')

    def reflag(self, uid, letters, folder=''):
        top = os.path.join(self.top, folder)
        was = self.name_of(uid, folder)
        base = os.path.basename(was).partition(':')[0]
        return self.outcome(os.rename, f'{top}/{was}',
                            f'{top}/cur/{base}:2,{letters}')

    def name_of(self, uid, folder=''):
        top = os.path.join(self.top, folder)
        for sub in ('cur', 'new'):
            for name in os.listdir(f'{top}/{sub}'):
                if name.split('.')[0] == str(uid):
                    return f'{sub}/{name}'
        return None

    def view(self, folder=''):
        return steps.messages_of(os.path.join(self.top, folder))

    def mail(self, box='INBOX'):
        return steps.mailboxes(self.r)[box]['mail']

    def check_all(self):
        """View and MBX agree, and every octet can be read."""
        for folder, box in (('', 'INBOX'), ('.box', 'box')):
            shown = {v[0] for v in self.view(folder).values()}
            held = {m['sha256'] for m in self.mail(box).values()}
            self.assertLessEqual(held, shown)
            steps.uids_of(os.path.join(self.top, folder))


class NewStore(Full):
    def test_deliveries(self):
        rig = self.start('store')
        before = self.view()
        files = stay(f'{rig.store}/{USER}')
        self.disk.fill()
        self.refused(deliver, self.top, NEW, LARGE)
        self.refused(deliver, f'{self.top}/.box', NEW, LARGE, 'cur')
        self.assert_same(before, self.view())
        self.assert_same(files, stay(f'{rig.store}/{USER}'))
        self.check_all()
        self.disk.clear()
        self.user(deliver, self.top, NEW, LARGE)
        with open(f'{self.top}/new/{NEW}', 'rb') as f:
            self.assertEqual(f.read(), LARGE)
        self.assertEqual(set(self.view()) - set(before), {f'new/{NEW}'})

    def test_copies(self):
        rig = self.start('store')
        rig.put(USER, 'mail/large', mbxfile.header(uidlast=1)
                + mbxfile.record(LARGE, 1))
        names = harness.wait_for('the folder', lambda: os.path.isdir(
            f'{self.top}/.large/cur') and os.listdir(f'{self.top}/.large/cur'))
        source = f'{self.top}/.large/cur/{names[0]}'
        before = self.view()
        files = stay(f'{rig.store}/{USER}')
        self.disk.fill()
        self.refused(os.link, source, f'{self.top}/tmp/copy')
        self.refused(os.link, source, f'{self.top}/cur/{names[0]}')
        self.refused(os.rename, source, f'{self.top}/cur/{names[0]}')
        self.assertEqual(os.listdir(f'{self.top}/.large/cur'), names)
        self.assertEqual(os.listdir(f'{self.top}/tmp'), [])
        self.assert_same(before, self.view())
        self.assert_same(files, stay(f'{rig.store}/{USER}'))
        self.disk.clear()
        self.user(os.link, source, f'{self.top}/cur/{names[0]}')
        self.user(os.rename, source, f'{self.top}/.box/cur/{names[0]}')
        self.assertEqual(os.listdir(f'{self.top}/.large/cur'), [])
        for folder in ('', '.box'):
            with open(f'{self.top}/{folder}/cur/{names[0]}', 'rb') as f:
                self.assertEqual(f.read(), LARGE)

    def test_no_inodes(self):
        """Space there is, but not a file more."""
        rig = self.start('store')
        before = self.view()
        files = stay(f'{rig.store}/{USER}')
        self.disk.fill_inodes()
        name = self.name_of(1)
        self.refused(deliver, self.top)
        self.refused(os.link, f'{self.top}/{name}', f'{self.top}/tmp/copy')
        self.refused(os.rename, f'{self.top}/{name}',
                     f'{self.top}/.box/{name}')
        self.refused(write_new, f'{self.top}/dovecot-keywords.lock', b'x')
        self.assertEqual(self.reflag(2, 'Sz'), errno.ENOSPC)
        self.assert_same(before, self.view())
        self.assert_same(files, stay(f'{rig.store}/{USER}'))
        self.assertEqual(self.reflag(2, 'FS'), 0)
        self.disk.clear()
        self.user(deliver, self.top)
        self.assertEqual(self.reflag(2, 'FSz'), 0)
        self.user(os.rename, f'{self.top}/{name}', f'{self.top}/.box/{name}')
        self.assertEqual(len(self.view()), len(before))
        self.check_all()

    def test_changes_in_place_need_no_space(self):
        rig = self.start('store')
        before = self.mail()
        self.disk.fill()
        self.assertEqual(self.reflag(2, 'FS'), 0)
        self.assertEqual(self.reflag(3, 'Sab'), 0)
        self.user(os.unlink, f'{self.top}/{self.name_of(4)}')
        self.assertTrue(self.name_of(2).endswith(':2,FS'))
        self.assertTrue(self.name_of(3).endswith(':2,Sab'))
        self.assertIsNone(self.name_of(4))
        rig.remount(options=rig.options(scan='touch'))
        self.assertTrue(self.name_of(3).endswith(':2,Sab'))
        after = self.mail()
        self.assertEqual(set(before) - set(after), {4})
        self.assertEqual(after[2]['flags'], 'FS')
        self.assertEqual(after[3]['keywords'], 'label,other')
        self.check_all()

    def test_a_letter_without_a_name(self):
        """It is kept in a file: taken, or refused with the reason; never
        forgotten."""
        self.start('store')
        self.disk.fill()
        answers = {}
        for uid in range(1, 6):
            name = self.name_of(uid)
            answers[uid] = self.reflag(uid, 'Sz')
            self.assertIn(answers[uid], (0, errno.ENOSPC))
            if answers[uid]:
                self.assertEqual(self.name_of(uid), name)
            else:
                self.assertTrue(self.name_of(uid).endswith(':2,Sz'))
        self.disk.clear()
        for uid, answer in answers.items():
            self.assertEqual(self.name_of(uid).endswith('z'), not answer)
            if answer:
                self.assertEqual(self.reflag(uid, 'Sz'), 0)
            self.assertTrue(self.name_of(uid).endswith(':2,Sz'))
        self.r.remount(options=self.r.options(scan='touch'))
        for uid in range(1, 6):
            self.assertTrue(self.name_of(uid).endswith(':2,Sz'))

    def test_control_files(self):
        """Dovecot's way: a lock file, written, then renamed."""
        self.start('store')
        path = f'{self.top}/dovecot-uidlist'
        with open(path, 'rb') as f:
            was = f.read()
        self.disk.fill()
        self.refused(write_new, f'{path}.lock', LARGE)
        self.user(os.unlink, f'{path}.lock')
        with open(path, 'rb') as f:
            self.assertEqual(f.read(), was)
        self.disk.clear()
        self.user(write_new, f'{path}.lock', was)
        self.user(os.rename, f'{path}.lock', path)
        self.check_all()

    def test_new_mail_of_uw(self):
        """It shows when the uidlist can name it; what was there shows all the
        time."""
        rig = self.start('store', mib=2)
        path = rig.legacy_file(USER, 'INBOX')
        before = self.view()
        uidlist = f'{rig.store}/{USER}/dovecot-uidlist'
        size = os.stat(uidlist).st_size
        self.disk.fill()
        # A block of the list may have room for a few.
        more = (4096 - size % 4096) // 60 + 20
        rig.expect_log('No space left')
        with open(path, 'r+b') as f:
            f.seek(15)
            f.write(b'%08x' % (5 + more))
            f.seek(0, os.SEEK_END)
            for uid in range(6, 6 + more):
                f.write(mbxfile.record(mbxfile.text(uid), uid))
        for _ in range(3):
            with contextlib.suppress(OSError):
                self.assertLessEqual(set(before), set(self.view()))
            time.sleep(0.1)
        self.assertEqual(len(steps.uids_of(f'{rig.store}/{USER}')), 5)
        self.disk.clear()
        harness.wait_for('all messages', lambda: len(self.view()) == 5 + more)
        self.assertEqual(len(steps.uids_of(self.top)), 5 + more)
        self.check_all()

    def test_first_look(self):
        """No folder without its control files, and no half ones."""
        rig = self.start('store', look=False)
        os.listdir(self.top)
        self.disk.fill()
        rig.expect_log('No space left')
        for folder in ('', '.box'):
            with contextlib.suppress(OSError):
                names = os.listdir(f'{self.top}/{folder}/cur')
                self.assertEqual(set(steps.uids_of(
                    f'{rig.store}/{USER}/{folder}')),
                    {n.partition(':')[0] for n in names})
        self.assertFalse([n for n in stay(rig.store) if n.endswith('.tmp')])
        self.disk.clear()
        harness.wait_for('both folders', lambda: self.try_look())
        self.assertEqual([len(self.view()), len(self.view('.box'))], [5, 3])
        self.check_all()

    def try_look(self):
        with contextlib.suppress(OSError):
            steps.look_at_all(self.top)
            return True
        return False

    def test_folders(self):
        self.start('store')
        self.disk.fill()
        for n in range(500):    # there is room for some
            if self.outcome(os.mkdir, f'{self.top}/.f{n}', 0o700):
                break
        self.refused(os.mkdir, f'{self.top}/.f{n}', 0o700)
        self.check_all()
        # The ledger's last block has room for some.
        name = '.box'
        for n in range(60):
            to = f'.{n:03}' + 'x' * 60
            got = self.rename_folder(name, to)
            if got:
                break
            name = to
        self.assertEqual(got, errno.ENOSPC)
        self.assertEqual([f for f in steps.folders_of(self.top) if f],
                         [name])
        self.assertEqual(list(steps.mailboxes(self.r)), ['INBOX', name[1:]])
        before = self.view(name)
        self.assertEqual(len(before), 3)
        self.disk.clear()
        self.user(os.mkdir, f'{self.top}/.later', 0o700)
        self.assertIn('.later', os.listdir(self.top))
        self.assertEqual(self.rename_folder(name, '.box'), 0)
        self.assert_same(before, self.view('.box'))
        self.check_all()

    def rename_folder(self, name, to):
        return self.outcome(os.rename, f'{self.top}/{name}',
                            f'{self.top}/{to}')


class Index(Full):
    def test_a_full_index(self):
        """What cannot be remembered is not lost."""
        rig = self.start('index', mib=4)
        rig.expect_log('No space left')
        self.disk.fill()
        self.assertEqual(len(self.view()), 5)
        with open(rig.legacy_file(USER, 'mail/box'), 'r+b') as f:
            f.seek(15)
            f.write(b'%08x' % 300)
            f.seek(0, os.SEEK_END)
            for uid in range(4, 301):
                f.write(mbxfile.record(mbxfile.text(uid), uid))
        with contextlib.suppress(OSError):
            self.view('.box')
        self.assertIn(self.reflag(2, 'S'), (0, errno.ENOSPC))
        self.true_or_nothing()
        self.user(deliver, self.top)
        self.true_or_nothing()
        rig.remount(options=rig.options(scan='touch',
                                        index=rig.path('index/db')))
        self.true_or_nothing()
        self.disk.clear()
        harness.wait_for('all messages', lambda: self.count('.box') == 300)
        self.assertEqual(self.reflag(2, 'FS'), 0)
        self.assertTrue(self.name_of(2).endswith(':2,FS'))
        self.assertEqual(self.mail()[2]['flags'], 'FS')
        self.assertEqual(len(self.view()), 6)
        self.check_all()

    def true_or_nothing(self):
        """A listing is whole and says what the MBX says, or there is none."""
        names = []
        with contextlib.suppress(OSError):
            names = os.listdir(f'{self.top}/cur')
        flags = {int(n.split('.')[0]): n.partition(':2,')[2] for n in names}
        mail = self.mail()
        self.assertIn(flags, ({}, {uid: mail[uid]['flags'].replace('-', '')
                                   for uid in mail}))

    def count(self, folder):
        with contextlib.suppress(OSError):
            return len(self.view(folder))
        return 0


class Legacy(Full):
    def uidlist_says(self, base):
        """Dovecot gives the next UID to a file."""
        path = f'{self.top}/dovecot-uidlist'
        with open(path, encoding='ascii') as f:
            head, *lines = f.read().splitlines()
        words = head.split()
        uid = int(words[2][1:])
        words[2] = f'N{uid + 1}'
        text = '\n'.join([' '.join(words), *lines, f'{uid} :{base}', ''])

        def write():
            write_new(f'{path}.lock', text.encode())
            os.rename(f'{path}.lock', path)
        self.user(write)
        return uid

    def test_changes_in_place_need_no_space(self):
        rig = self.start('legacy')
        before = self.mail()
        size = os.stat(rig.legacy_file(USER, 'INBOX')).st_size
        self.disk.fill()
        self.assertEqual(self.reflag(2, 'FSab'), 0)
        self.user(os.unlink, f'{self.top}/{self.name_of(4)}')
        rig.remount(options=rig.options(scan='touch'))
        self.assertTrue(self.name_of(2).endswith(':2,FSab'))
        after = self.mail()
        self.assertEqual(set(before) - set(after), {4})
        self.assertEqual(after[2]['keywords'], 'label,other')
        self.assertEqual(os.stat(rig.legacy_file(USER, 'INBOX')).st_size, size)
        self.check_all()

    def test_the_mirror_waits(self):
        rig = self.start('legacy')
        rig.expect_log('not in the MBX yet: No space left')
        path = rig.legacy_file(USER, 'INBOX')
        before = self.mail()
        self.disk.fill()
        self.user(deliver, self.top, NEW, LARGE)
        uid = self.uidlist_says(NEW)

        def lag():
            return rig.folder_status(USER, 'INBOX')['delivered']
        harness.wait_for('the mirror to try', lambda: lag()['waiting'] == 1)
        time.sleep(0.5)
        self.assertEqual(lag()['waiting'], 1)
        self.assert_same(before, self.mail())
        with open(path, 'rb') as f:
            self.assertEqual(len(mbxfile.records(f.read())), 5)
        with open(f'{self.top}/new/{NEW}', 'rb') as f:
            self.assertEqual(f.read(), LARGE)
        self.disk.clear()
        harness.wait_for('the mirror', lambda: lag()['waiting'] == 0, 30)
        after = self.mail()
        self.assertEqual(set(after) - set(before), {uid})
        self.assertEqual(after[uid]['size'], str(len(LARGE)))

    def test_read_only(self):
        """Reading goes on; a change is refused, and the log says where."""
        rig = self.start('legacy')
        view, mail = self.view(), self.mail()
        r = harness.run(['mount', '-o', 'remount,ro', rig.legacy])
        self.assertEqual(r.returncode, 0, r.stderr)
        rig.expect_log('INBOX: a message cannot be renamed.*Read-only',
                       'not in the MBX yet: Read-only')
        self.assert_same(view, self.view())
        refusal = (errno.EROFS, errno.EIO, errno.EACCES)
        began = time.monotonic()
        self.assertIn(self.reflag(2, 'S'), refusal)
        self.refused(os.unlink, f'{self.top}/{self.name_of(2)}',
                     wanted=refusal)
        self.assertLess(time.monotonic() - began, 5)
        self.assert_same(view, self.view())
        rig.remount(options=rig.options(scan='touch'))
        self.assert_same(view, self.view())
        self.assertIn(self.reflag(2, 'S'), refusal)
        self.user(deliver, self.top)        # that is another filesystem
        self.assertEqual(len(self.view()), 6)
        uid = self.uidlist_says(NEW)
        harness.wait_for('the mirror to try',
                         lambda: 'not in the MBX yet' in rig.log())
        r = harness.run(['mount', '-o', 'remount,rw', rig.legacy])
        self.assertEqual(r.returncode, 0, r.stderr)
        harness.wait_for('the mirror', lambda: uid in self.mail())
        self.assert_same(mail, {u: m for u, m in self.mail().items()
                                if u != uid})
        self.assertEqual(self.reflag(2, 'S'), 0)
        self.assertEqual(self.mail()[2]['flags'], 'S')


class WithDovecot(Full):
    def setUp(self):
        harness.need_dovecot()

    def files(self):
        """What lies in the store, without what Dovecot keeps for itself."""
        return {n: s for n, s in stay(f'{self.r.store}/{USER}').items()
                if 'dovecot' not in os.path.basename(n)}

    def test_imap(self):
        """APPEND says NO and leaves nothing; STORE and EXPUNGE work."""
        rig = self.start('store', mib=6)
        dovecot = rig.dovecot(
            location=f'maildir:{rig.mnt}/%n:INDEX={rig.path("home")}/%n/index')
        dovecot.expected += ['No space left', 'disk space']
        m = dovecot.imap(USER)
        self.assertEqual(len(harness.imap_folder(m, 'INBOX')['mail']), 5)
        m.select('INBOX')
        before = self.files()
        self.disk.fill()
        typ, data = m.append('INBOX', None, None, LARGE)
        self.assertEqual(typ, 'NO', data)
        self.assert_same(before, self.files())
        typ, data = m.uid('COPY', '1:3', 'box')
        self.assertIn(typ, ('OK', 'NO'))
        copied = typ == 'OK'
        self.assertEqual(m.uid('STORE', '2', '+FLAGS', r'(\Seen)')[0], 'OK')
        self.assertEqual(m.uid('STORE', '3', '+FLAGS', r'(\Deleted)')[0],
                         'OK')
        self.assertEqual(m.expunge()[0], 'OK')
        self.assertEqual(set(self.mail()), {1, 2, 4, 5})
        self.assertEqual(self.mail()[2]['flags'], 'S')
        self.disk.clear()
        typ, data = m.append('INBOX', None, None, LARGE)
        self.assertEqual(typ, 'OK', data)
        box = harness.imap_folder(m, 'INBOX')['mail']
        self.assertEqual(len(box), 5)
        self.assertEqual([v['body'] for v in box.values()
                          if v['size'] == len(LARGE)], [LARGE])
        self.assertEqual(len(harness.imap_folder(m, 'box')['mail']),
                         6 if copied else 3)
        m.logout()


if __name__ == '__main__':
    harness.main()
