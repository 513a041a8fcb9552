#!/usr/bin/python3
"""Folders renamed, deleted and made through the view, where some are mailboxes
of UW: names follow each other, nothing is lost."""

import errno
import fcntl
import os
import re
import shutil
import sys
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import harness          # noqa: E402
import test_folders     # noqa: E402
from test_folders import OTHER, mailbox     # noqa: E402

TRASHED = '..DOVECOT-TRASHED'
UID = harness.FIRST_UID


class OpsCase(test_folders.FolderCase):
    def at(self, name, *more):
        return os.path.join(self.view, f'.{name}' if name else '', *more)

    def real(self, name, *more):
        return os.path.join(self.r.store, 'alice', f'.{name}', *more)

    def rename(self, old, new):
        os.rename(self.at(old), self.at(new))

    def read_box(self, name):
        with open(self.box(name), 'rb') as f:
            return f.read()

    def dirs(self, *names):
        for name in names:
            os.mkdir(self.box(name), 0o700)
            os.chown(self.box(name), UID, UID)

    def create(self, name):
        """As Dovecot does."""
        for sub in ('', 'cur', 'new', 'tmp'):
            os.mkdir(self.at(name, sub), 0o700)
            os.chown(self.at(name, sub), UID, UID)

    def ledger(self):
        """Last line of each folder: number -> [dir, ..., phase, ...]."""
        with open(f'{self.r.store}/.janusmail/users/alice',
                  encoding='ascii') as f:
            text = f.read()
        found = re.findall(r'^(?:folder|line \d+) ([0-9a-f]{8}) (.*)$', text,
                           re.M)
        return {number: words.split() for number, words in found}

    def trash(self):
        path = f'{self.r.store}/.janusmail/trash/alice'
        return sorted(os.listdir(path)) if os.path.exists(path) else []

    def in_trash(self, name):
        return f'{self.r.store}/.janusmail/trash/alice/{name}'

    def all_of(self, *names):
        return {name: self.facts(name) for name in names}

    def check_stays(self, name, before):
        """At every look, for longer than the mailboxes are looked at twice,
        and after a restart."""
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            self.assertIn(f'.{name}', self.folders())
            time.sleep(0.4)
        self.assert_same(before, self.facts(name))
        self.r.remount()
        self.assert_same(before, self.facts(name))

    def hold(self, name):
        """Have the mailbox open as a session of UW has it."""
        fd = os.open(self.box(name), os.O_RDWR)
        fcntl.flock(fd, fcntl.LOCK_SH)
        return fd


class Rename(OpsCase):
    def test_the_mailbox_follows(self):
        self.r.mount()
        before = self.facts('flags')
        octets, ino = self.read_box('flags'), os.stat(self.box('flags')).st_ino
        was = self.at('flags', 'cur', next(
            k[4:] for k in before if k.startswith('cur/')))
        fd, dir_fd = (os.open(was, os.O_RDONLY),
                      os.open(self.at('flags', 'cur'), os.O_RDONLY))
        try:
            self.rename('flags', 'other')
            self.assertEqual(os.fstat(fd).st_size, len(os.read(fd, 1 << 20)))
            self.assertEqual(len(os.listdir(dir_fd)), len(
                [k for k in before if k.startswith('cur/')]))
        finally:
            os.close(fd)
            os.close(dir_fd)
        self.assertEqual(self.folders(), {'.other'})
        self.assert_hidden('.flags')
        self.assertEqual(os.listdir(self.box('')), ['other'])
        self.assertEqual(self.read_box('other'), octets)
        self.assertEqual(os.stat(self.box('other')).st_ino, ino)
        dump = harness.cc_dump(self.box('other'))
        self.assertEqual(len(next(iter(dump.values()))['mail']), len(
            [k for k in before if '/' in k]))
        self.assertFalse(os.path.exists(self.real('flags')))
        self.assert_same(before, self.facts('other'))
        self.check_stays('other', before)
        self.assertNotIn('gone', self.r.log())

    def test_into_a_tree_and_back(self):
        self.r.mount()
        before = self.facts('flags')
        self.rename('flags', 'a.b c.d')
        self.assertTrue(os.path.isfile(self.box('a/b c/d')))
        st = os.stat(self.box('a/b c'))
        self.assertEqual((st.st_uid, st.st_gid, st.st_mode & 0o7777),
                         (UID, UID, 0o700))
        self.assert_same(before, self.facts('a.b c.d'))
        self.rename('a.b c.d', 'flags')
        self.assertEqual(os.listdir(self.box('')), ['flags'])
        self.check_stays('flags', before)

    def test_a_folder_with_children(self):
        """Dovecot renames one after the other."""
        self.dirs('lists', 'lists/deep')
        self.put('lists/a', 4)
        self.put('lists/deep/b', 5, OTHER)
        self.r.mount()
        self.create('lists')
        a, b = self.facts('lists.a'), self.facts('lists.deep.b')
        for name in ('', '.a', '.deep.b'):
            self.rename(f'lists{name}', f'new.place{name}')
            self.assert_errno(errno.ENOENT, self.rename, f'lists{name}',
                              f'new.place{name}')
        self.assertEqual(sorted(os.listdir(self.box(''))), ['flags', 'new'])
        self.assertTrue(os.path.isfile(self.box('new/place/deep/b')))
        self.assertEqual(self.folders(), {
            '.flags', '.new.place', '.new.place.a', '.new.place.deep.b'})
        self.assert_same(a, self.facts('new.place.a'))
        self.check_stays('new.place.deep.b', b)

    def keeps_name(self, new):
        before = self.facts('flags')
        self.rename('flags', new)
        self.assertTrue(os.path.isfile(self.box('flags')))
        self.assertIn('its mailbox keeps its name', self.r.log())
        self.assertEqual(self.r.folder_status('alice', new)['legacy']['name'],
                         'flags')
        self.check_stays(new, before)
        self.rename(new, 'flags')
        self.assertTrue(os.path.isfile(self.box('flags')))
        self.check_stays('flags', before)

    def test_below_a_mailbox_it_keeps_its_name(self):
        self.put('box', 2, OTHER)
        self.r.mount()
        self.keeps_name('box.sub')

    def test_a_name_that_uw_cannot_have_is_only_the_folders(self):
        self.r.mount()
        self.keeps_name('with*star')

    def test_a_file_in_the_way_stays(self):
        self.r.put('alice', 'mail/note', b'no mail\n')
        self.r.expect_log('not shown: ')
        self.r.mount()
        self.keeps_name('note')
        with open(self.box('note'), 'rb') as f:
            self.assertEqual(f.read(), b'no mail\n')

    def test_never_over_another_folder(self):
        self.put('box', 2, OTHER)
        self.r.mount()
        self.create('native')
        before = self.all_of('flags', 'box')
        for name in ('box', 'native'):
            self.assert_errno((errno.EEXIST, errno.ENOTEMPTY), self.rename,
                              'flags', name)
        self.assert_same(before, self.all_of('flags', 'box'))
        self.assertEqual(os.listdir(self.at('native', 'cur')), [])
        # Nor a native one over a mailbox's.
        self.assert_errno((errno.EEXIST, errno.EACCES, errno.ENOTEMPTY),
                          self.rename, 'native', 'box')
        self.assert_same(before, self.all_of('flags', 'box'))

    def test_not_while_uw_has_it_open(self):
        self.r.mount()
        before = self.facts('flags')
        fd = self.hold('flags')
        try:
            self.assert_errno(errno.EBUSY, self.rename, 'flags', 'other')
            self.assert_errno(errno.EBUSY, os.rename, self.at('flags'),
                              os.path.join(self.view, TRASHED))
        finally:
            os.close(fd)
        self.assertEqual(self.folders(), {'.flags'})
        self.assertEqual(self.trash(), [])
        self.assert_same(before, self.facts('flags'))
        self.rename('flags', 'other')
        self.check_stays('other', before)

    def test_only_within_ones_own_tree(self):
        self.r.user('bob', 'inbox')
        self.r.mount()
        before = self.facts('flags')
        os.listdir(f'{self.r.mnt}/bob')
        self.assert_errno((errno.EACCES, errno.EXDEV), os.rename,
                          self.at('flags'), f'{self.r.mnt}/bob/.flags')
        self.assert_same(before, self.facts('flags'))
        self.assertEqual(self.trash(), [])

    def test_not_among_messages(self):
        self.put('box', 2, OTHER)
        self.r.mount()
        before = self.all_of('flags', 'box')
        for place in ('.box/cur/x', '.box/tmp/x', '.box/x', 'cur/x'):
            self.assert_errno(errno.EACCES, os.rename, self.at('flags'),
                              os.path.join(self.view, place))
        self.assert_same(before, self.all_of('flags', 'box'))
        self.assertEqual(self.trash(), [])

    def test_control_files_elsewhere_follow(self):
        control = f'{self.r.dir}/control'
        os.mkdir(control, 0o755)
        self.r.mount(self.r.options(control=f'{control}/%u'))
        before = self.facts('flags')
        real = f'{control}/alice/.flags/dovecot-uidlist'
        ino = os.stat(real).st_ino
        self.rename('flags', 'other')
        self.assert_same(before, self.facts('other'))
        self.assertEqual(os.stat(real.replace('.flags', '.other')).st_ino, ino)
        self.assertFalse(os.path.exists(real))

    def test_and_uw_renames_it_back(self):
        self.r.mount()
        before = self.facts('flags')
        self.rename('flags', 'other')
        os.rename(self.box('other'), self.box('flags'))
        self.wait_folders('flags')
        self.assert_same(before, self.facts('flags'))

    def test_native_folders_are_as_ever(self):
        self.r.mount()
        self.create('one')
        self.rename('one', 'two.three')
        self.assertEqual(self.folders(), {'.flags', '.two.three'})
        self.assertEqual(os.listdir(self.box('')), ['flags'])


class Delete(OpsCase):
    def delete(self, name, to=TRASHED):
        os.rename(self.at(name), os.path.join(self.view, to))

    def purge(self, to=TRASHED):
        shutil.rmtree(os.path.join(self.view, to))

    def deleted_lines(self):
        return [w for w in self.ledger().values() if w[3] == 'deleted']

    def test_the_mailbox_goes_into_the_trash(self):
        self.r.mount()
        before = self.facts('flags')
        octets, st = self.read_box('flags'), os.stat(self.box('flags'))
        self.delete('flags')
        self.assertEqual(os.listdir(self.box('')), [])
        kept, = self.trash()
        self.assertRegex(kept, r'^\d{10}\.[0-9a-f]{8}\.flags$')
        with open(self.in_trash(kept), 'rb') as f:
            self.assertEqual(f.read(), octets)
        now = os.stat(self.in_trash(kept))
        self.assertEqual((now.st_ino, now.st_uid, now.st_mtime_ns),
                         (st.st_ino, st.st_uid, st.st_mtime_ns))
        # What is left of the directory is an ordinary one.
        self.assertEqual(os.listdir(os.path.join(self.view, TRASHED, 'cur')),
                         [])
        self.purge()
        self.assertEqual(self.folders(), set())
        self.assert_hidden('.flags')
        self.assertEqual([w[0] for w in self.deleted_lines()], ['.'])
        self.assertEqual([f['name'] for f in
                          self.r.status()['users'][0]['folders']], ['INBOX'])
        self.r.remount()
        self.assertEqual(self.folders(), set())
        # The name is free: another mailbox of UW's is another folder.
        self.r.make('alice', 'flags')
        self.wait_folders('flags')
        after = self.facts('flags')
        self.assertFalse({k for k in before if '/' in k} & set(after))
        self.r.remount()
        self.assert_same(after, self.facts('flags'))
        self.assertEqual(self.trash(), [kept])

    def test_into_the_directory_of_an_earlier_one(self):
        self.put('a/b'.replace('/', '-'), 2, OTHER)
        self.r.mount()
        self.delete('flags')
        self.assert_errno((errno.EEXIST, errno.ENOTEMPTY), self.delete, 'a-b')
        self.assertTrue(os.path.isfile(self.box('a-b')))
        self.assertEqual(len(self.trash()), 1)
        self.delete('a-b', f'{TRASHED}/0123456789abcdef')
        self.assertEqual(len(self.trash()), 2)
        self.purge()
        self.assertEqual(self.folders(), set())

    def test_moved_elsewhere_it_is_copied(self):
        """Only Dovecot's trash means that it is to be deleted."""
        self.r.mount()
        os.mkdir(os.path.join(self.view, 'old'))
        for to in ('saved', 'old/saved', '.'):
            self.assert_errno((errno.EXDEV, errno.EBUSY, errno.EEXIST),
                              self.delete, 'flags', to)
        self.assertEqual(self.trash(), [])
        names = os.listdir(os.path.join(self.at('flags'), 'cur'))
        harness.run(['mv', self.at('flags'),
                     os.path.join(self.view, 'saved')])
        self.assertEqual(sorted(os.listdir(
            os.path.join(self.view, 'saved', 'cur'))), sorted(names))

    def test_a_name_that_needs_escaping(self):
        self.dirs('a')
        self.put('a/b c', 2, OTHER)
        self.r.mount()
        self.delete('a.b c')
        self.assertRegex(self.trash()[0], r'\.a\\x2fb\\x20c$')
        # UW would leave the directory, too.
        self.assertTrue(os.path.isdir(self.box('a')))

    def test_a_native_folder_takes_the_name(self):
        self.r.mount()
        self.delete('flags')
        self.purge()
        self.create('flags')
        self.assertEqual(os.listdir(self.at('flags', 'cur')), [])
        self.r.remount()
        self.assertEqual(self.folders(), {'.flags'})
        self.assertEqual(os.listdir(self.at('flags', 'cur')), [])

    def test_the_same_twice(self):
        """Each time the mailbox is another one, and in the trash."""
        self.r.mount()
        for n in range(1, 4):
            self.delete('flags')
            self.purge()
            self.assertEqual(len(self.trash()), n)
            self.r.make('alice', 'flags')
            self.wait_folders('flags')
            self.assertGreater(len(self.facts('flags')), 5)
        self.assertEqual(len(self.deleted_lines()), 3)
        self.assertEqual(len(self.ledger()), 5)

    def test_rmdir_is_for_empty_directories(self):
        self.r.mount()
        before = self.facts('flags')
        self.assert_errno((errno.ENOTEMPTY, errno.EACCES), os.rmdir,
                          self.at('flags'))
        self.assertEqual(self.trash(), [])
        self.assert_same(before, self.facts('flags'))

    def test_a_single_users_trash(self):
        store = f'{self.r.dir}/mail'
        os.mkdir(store, 0o700)
        os.chown(store, UID, UID)
        self.r.mount(f'inbox={self.home}/INBOX,folders={self.home}/mail,'
                     f'store={store},index={self.r.index}')
        self.view = self.r.mnt
        self.assertGreater(len(self.facts('flags')), 5)
        self.delete('flags')
        self.purge()
        self.assertEqual(self.folders(), set())
        kept, = os.listdir(f'{store}/janusmail/trash')
        self.assertTrue(kept.endswith('.flags'))
        self.assertNotIn('janusmail', os.listdir(self.view))

    def test_the_trash_on_another_filesystem(self):
        mail = f'{self.home}/mail'
        octets = self.read_box('flags')
        r = harness.run(['mount', '-t', 'tmpfs', '-o', f'uid={UID},mode=700',
                         'none', mail])
        harness.skip_unless(r.returncode == 0, f'no tmpfs: {r.stderr}')
        try:
            with open(self.r.put('alice', 'mail/flags', octets), 'rb'):
                self.r.mount()
            self.facts('flags')
            self.delete('flags')
            self.assertEqual(os.listdir(mail), [])
            kept, = self.trash()
            with open(self.in_trash(kept), 'rb') as f:
                self.assertEqual(f.read(), octets)
            self.assertEqual(os.stat(self.in_trash(kept)).st_uid, UID)
            self.purge()
            self.assertEqual(self.folders(), set())
            self.r.unmount()
        finally:
            harness.run(['umount', '-l', mail])

    def test_nobody_else_can_look_into_the_trash(self):
        self.r.mount()
        self.delete('flags')
        for path in (self.in_trash(''), f'{self.r.store}/.janusmail/trash'):
            self.assertEqual(os.stat(path).st_mode & 0o7777, 0o700)
            self.assertEqual(os.stat(path).st_uid, 0)


class Gone(OpsCase):
    """UW has deleted the mailbox; its folder's directory is still there."""

    def deliver(self, name, file='1.M2P3.host', sub='new'):
        path = self.real(name, sub, file)
        with open(path, 'wb') as f:
            f.write(b'Subject: delivered\n\nNot in the mailbox.\n')
        os.chown(path, UID, UID)

    def lose(self, name):
        os.rename(self.box(name), f'{self.r.dir}/kept')

    def wait_messages(self, sub, names):
        """Until the loss, or the return, has been noticed."""
        path = self.at('flags', sub)

        def is_so():
            os.listdir(self.view)
            try:
                return sorted(os.listdir(path)) == sorted(names)
            except OSError as e:
                self.assertIn(e.errno, (errno.EIO, errno.ENOENT))
                return False
        harness.wait_for(f'{names} in {path}', is_so)

    def test_a_new_folder_takes_the_name(self):
        self.r.mount()
        before = self.facts('flags')
        self.lose('flags')
        self.wait_folders()
        self.create('flags')
        self.assertEqual(self.folders(), {'.flags'})
        self.assertEqual(os.listdir(self.at('flags')).count('dovecot-uidlist'),
                         0)
        kept, = self.trash()
        self.assertRegex(kept, r'\.flags\.dir$')
        self.assertTrue(os.path.exists(self.in_trash(
            f'{kept}/dovecot-uidlist')))
        # The mailbox that comes back is another folder then.
        os.rename(f'{self.r.dir}/kept', self.box('flags'))
        self.wait_folders('flags', 'flags_2')
        self.assertFalse({k for k in before if '/' in k}
                         & set(self.facts('flags_2')))
        self.r.remount()
        self.assertEqual(self.folders(), {'.flags', '.flags_2'})
        self.assertEqual(os.listdir(self.at('flags', 'cur')), [])

    def test_a_folder_is_renamed_to_the_name(self):
        self.put('box', 2, OTHER)
        self.r.mount()
        self.facts('flags')
        before = self.facts('box')
        self.lose('flags')
        self.wait_folders('box')
        self.rename('box', 'flags')
        self.assertTrue(os.path.isfile(self.box('flags')))
        self.check_stays('flags', before)
        self.assertEqual(len(self.trash()), 1)
        self.create('native')
        self.lose('flags')
        self.wait_folders('native')
        self.rename('native', 'flags')
        self.assertEqual(self.folders(), {'.flags'})
        self.assertEqual(len(self.trash()), 2)

    def test_mail_that_was_delivered_stays_in_sight(self):
        self.r.mount()
        self.facts('flags')
        self.deliver('flags')
        self.lose('flags')
        self.wait_messages('new', ['1.M2P3.host'])
        self.wait_messages('cur', [])
        self.assertIn('mail that was delivered since is shown', self.r.log())
        with open(self.at('flags', 'new', '1.M2P3.host'), 'rb') as f:
            self.assertIn(b'Not in the mailbox', f.read())
        self.r.remount()
        self.wait_messages('new', ['1.M2P3.host'])
        # It is an ordinary folder: mail can be moved, and it can be deleted.
        os.rename(self.at('flags', 'new', '1.M2P3.host'),
                  self.at('flags', 'cur', '1.M2P3.host:2,S'))
        self.assert_errno((errno.EEXIST, errno.ENOTEMPTY), os.mkdir,
                          self.at('flags'))
        os.rename(self.at('flags'), os.path.join(self.view, TRASHED))
        shutil.rmtree(os.path.join(self.view, TRASHED))
        self.assertEqual(self.folders(), set())
        self.create('flags')
        self.assertEqual(self.folders(), {'.flags'})

    def test_and_the_mailbox_comes_back(self):
        self.r.mount()
        before = self.facts('flags')
        self.deliver('flags', '1.M2P3.host:2,S', 'cur')
        self.lose('flags')
        self.wait_messages('cur', ['1.M2P3.host:2,S'])
        time.sleep(0.1)
        cur = os.stat(self.at('flags', 'cur')).st_mtime_ns
        os.rename(f'{self.r.dir}/kept', self.box('flags'))
        self.wait_messages('cur', ['1.M2P3.host:2,S'] + [
            k[4:] for k in before if k.startswith('cur/')])
        self.assertGreater(os.stat(self.at('flags', 'cur')).st_mtime_ns, cur)
        after = self.facts('flags')
        after.pop('cur/1.M2P3.host:2,S')
        self.assert_same(before, after)


if __name__ == '__main__':
    harness.main()
