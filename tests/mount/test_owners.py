#!/usr/bin/python3
"""Whose mail it is: nobody gets another one's tree by making a file first,
and what was root's by mistake is mended."""

import errno
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), 'oracle'))
import harness  # noqa: E402
import mbxfile  # noqa: E402

ANNA, BOB = 5001, 5002


def owners(top):
    """All owners in a tree."""
    found = {os.lstat(top).st_uid}
    for path, dirs, files in os.walk(top):
        found |= {os.lstat(os.path.join(path, n)).st_uid
                  for n in dirs + files}
    return found


def chown_all(top, uid):
    for path, dirs, files in os.walk(top):
        for name in dirs + files:
            os.lchown(os.path.join(path, name), uid, uid)
    os.lchown(top, uid, uid)


class Owners(harness.Case):
    def setUp(self):
        self.r = self.rig()
        self.spool = self.r.path('spool')
        os.mkdir(self.spool)
        os.chmod(self.spool, 0o1777)

    def put(self, path, uid):
        with open(path, 'wb') as f:
            f.write(mbxfile.mailbox(3))
        os.chmod(path, 0o600)
        os.chown(path, uid, uid)

    def view(self, *names):
        return os.path.join(self.r.mnt, *names)

    def error_of(self, name):
        return [u.get('error', '') for u in self.r.status()['users']
                if u['name'] == name][0]

    def assert_refused(self, name, why):
        self.assert_errno(errno.EACCES, os.stat, self.view(name))
        self.assert_errno(errno.EACCES, os.listdir, self.view(name))
        self.assertIn(name, os.listdir(self.r.mnt))
        self.assertRegex(self.error_of(name), why)
        told = [line for line in self.r.log().splitlines()
                if f'user {name}: not shown' in line]
        self.assertEqual(len(told), 1, told)
        self.assertFalse(os.path.exists(f'{self.r.store}/{name}'))

    def test_a_public_spool_proves_nothing(self):
        harness.as_user(BOB, lambda: open(f'{self.spool}/anna', 'w').close())
        self.put(f'{self.spool}/anna', BOB)
        self.r.expect_log('user anna: not shown: .*spool/anna lies in a '
                          'directory that everybody may write to')
        self.r.mount(self.r.options(inbox=f'{self.spool}/%u', folders=None))
        self.assert_refused('anna', 'proves nothing')

    def test_a_symbolic_link_is_told_of(self):
        self.r.user('bob', 'inbox', uid=BOB)
        home = self.r.user('anna', uid=ANNA)
        os.rmdir(f'{home}/mail')
        os.symlink('../bob/INBOX', f'{home}/INBOX')
        self.r.expect_log('user anna: not shown: a symbolic link lies where')
        self.r.mount()
        self.assertEqual(os.listdir(self.r.mnt), ['bob'])
        self.assert_errno(errno.ENOENT, os.stat, self.view('anna'))
        self.assertFalse(os.path.exists(f'{self.r.store}/anna'))

    def test_a_home_does(self):
        """Bob's file in the spool is refused, anna's tree is anna's."""
        for name, uid in (('anna', ANNA), ('bob', BOB)):
            home = self.r.user(name, uid=uid)
            os.rmdir(f'{home}/mail')
            self.put(f'{self.spool}/{name}', BOB)
        self.r.expect_log('anna: folder INBOX.*belongs to another user')
        self.r.mount(self.r.options(
            inbox=f'{self.spool}/%u', folders=None,
            subscriptions=f'{self.r.legacy}/%u/.mailboxlist'))
        self.assertEqual(len(os.listdir(self.view('bob', 'cur'))), 3)
        self.assertEqual(os.stat(self.view('anna')).st_uid, ANNA)
        self.assert_errno(errno.EIO, os.listdir, self.view('anna', 'cur'))
        self.assertEqual(owners(f'{self.r.store}/anna'), {ANNA})
        harness.as_user(BOB, self.assert_errno, errno.EACCES, os.listdir,
                        self.view('anna'))

    def test_a_tree_that_is_there_does(self):
        os.mkdir(f'{self.r.store}/anna', 0o700)
        os.chown(f'{self.r.store}/anna', ANNA, ANNA)
        self.put(f'{self.spool}/anna', ANNA)
        self.r.mount(self.r.options(inbox=f'{self.spool}/%u', folders=None))
        self.assertEqual(len(os.listdir(self.view('anna', 'cur'))), 3)
        self.assertEqual(owners(f'{self.r.store}/anna'), {ANNA})

    def test_an_inbox_of_roots_in_a_home(self):
        self.r.user('anna', 'inbox', 'flags', uid=ANNA)
        inbox = self.r.legacy_file('anna', 'INBOX')
        os.chown(inbox, 0, 0)
        self.r.expect_log('INBOX.*belongs to another user')
        self.r.mount()
        self.assertEqual(os.stat(self.view('anna')).st_uid, ANNA)
        self.assertGreater(len(os.listdir(self.view('anna', '.flags/cur'))), 9)
        self.assert_errno(errno.EIO, os.listdir, self.view('anna', 'cur'))
        os.chown(inbox, ANNA, ANNA)
        harness.wait_for('INBOX', self.inbox_is_there)
        self.r.remount()
        self.assertTrue(self.inbox_is_there())
        self.assertEqual(owners(f'{self.r.store}/anna'), {ANNA})

    def inbox_is_there(self):
        try:
            return len(os.listdir(self.view('anna', 'cur'))) == 7
        except OSError:
            return False

    def test_what_is_roots_by_mistake_is_given_back(self):
        self.r.user('anna', 'inbox', 'flags', uid=ANNA)
        self.r.mount()
        for sub in ('cur', '.flags/cur'):
            os.listdir(self.view('anna', sub))
        self.r.unmount()
        tree = f'{self.r.store}/anna'
        chown_all(tree, 0)
        self.r.mount()
        self.assertGreater(len(os.listdir(self.view('anna', '.flags/cur'))), 9)
        self.assertEqual(owners(tree), {ANNA})
        self.assertIn("belonged to root; they are the user's now",
                      self.r.log())

    def test_what_could_be_a_trick_is_only_reported(self):
        """In a directory of the user's a file of root's may be a link."""
        self.r.user('anna', 'inbox', 'flags', uid=ANNA)
        self.r.mount()
        os.listdir(self.view('anna', '.flags/cur'))
        self.r.unmount()
        tree = f'{self.r.store}/anna'
        for name, uid in (('dovecot-uidlist', 0), ('maildirfolder', BOB)):
            os.chown(f'{tree}/.flags/{name}', uid, uid)
        os.chown(f'{tree}/.flags/tmp', 0, 0)
        os.chmod(f'{tree}/.flags/tmp', 0o777)
        self.r.expect_log(r'user anna: 3 files or directories .*chown them to '
                          r'5001:5001')
        self.r.mount()
        os.listdir(self.view('anna'))
        for name, uid in (('dovecot-uidlist', 0), ('maildirfolder', BOB),
                          ('tmp', 0)):
            self.assertEqual(os.stat(f'{tree}/.flags/{name}').st_uid, uid)

    def two_places(self, inbox_uid, mail_uid):
        for top, uid, sub in (('a', inbox_uid, ''), ('b', mail_uid, 'mail')):
            os.makedirs(self.r.path(top, 'anna', sub))
            chown_all(self.r.path(top, 'anna'), uid)
        self.put(self.r.path('a/anna/INBOX'), inbox_uid)
        return {'inbox': self.r.path('a/%u/INBOX'),
                'folders': self.r.path('b/%u/mail')}

    def test_places_that_disagree(self):
        places = self.two_places(ANNA, BOB)
        self.r.expect_log('user anna: not shown: .*a/anna belongs to uid 5001,'
                          ' but .*b/anna to uid 5002')
        self.r.mount(self.r.options(**places))
        self.assert_refused('anna', 'owner=UID:GID')
        chown_all(self.r.path('b/anna'), ANNA)
        self.assertEqual(len(os.listdir(self.view('anna', 'cur'))), 3)
        self.assertEqual(self.error_of('anna'), '')

    def test_a_tree_of_another_one(self):
        self.r.user('anna', 'inbox', uid=ANNA)
        self.r.mount()
        os.listdir(self.view('anna', 'cur'))
        self.r.unmount()
        chown_all(f'{self.r.store}/anna', BOB)
        self.r.expect_log('user anna: not shown: .*store/anna to uid 5002')
        self.r.mount()
        self.assert_errno(errno.EACCES, os.stat, self.view('anna'))

    def test_roots_own(self):
        places = self.two_places(0, 0)
        for top in 'ab':
            os.rename(self.r.path(top, 'anna'), self.r.path(top, 'root'))
            os.mkdir(self.r.path(top, 'anna'))
        self.put(self.r.path('a/anna/INBOX'), 0)
        self.r.expect_log('user anna: not shown: .* belongs to root')
        self.r.mount(self.r.options(**places))
        self.assert_refused('anna', 'chown it to the user')
        self.assertEqual(len(os.listdir(self.view('root', 'cur'))), 3)
        self.r.unmount()
        self.r.mount(self.r.options(owner=f'{ANNA}:{ANNA}', **places))
        self.assertEqual(os.stat(self.view('anna')).st_uid, ANNA)
        self.assertEqual(len(os.listdir(self.view('anna', 'cur'))), 3)
        self.assertEqual(len(os.listdir(self.view('root', 'cur'))), 3)
        self.assertEqual(owners(f'{self.r.store}/root'), {ANNA})


if __name__ == '__main__':
    harness.main()
