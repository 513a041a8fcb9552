#!/usr/bin/python3
"""What is done through the view, with the daemon stopped before each of its
durable steps: the state before or the state after, never a third (law 8)."""

import contextlib
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import harness      # noqa: E402
import steps        # noqa: E402
import test_mirror  # noqa: E402
import mbxfile      # noqa: E402

WORDS = ('Label', 'Other')
TEXT = b'From: new@example.test\r\nSubject: new\r\n\r\nOne\0line\nno end'
NEW = '1163456789.M1P2.mx.example.test'
DATE = 1163456789


def stores(rig):
    rig.user(steps.USER)
    rig.put(steps.USER, 'INBOX', mbxfile.mailbox(4, keywords=WORDS))
    rig.put(steps.USER, 'mail/box', mbxfile.mailbox(2, uids=[3, 7]))


def only_inbox(rig):
    rig.user(steps.USER)
    rig.put(steps.USER, 'INBOX', mbxfile.mailbox(3, keywords=WORDS))


def base_of(name):
    return name.partition(':')[0]


def flags_of(name):
    return name.partition(':2,')[2]


def find(top, uid):
    """The name of a message of the MBX, with cur/ or new/."""
    for sub in ('cur', 'new'):
        for name in os.listdir(f'{top}/{sub}'):
            if name.split('.')[0] == str(uid):
                return f'{sub}/{name}'
    raise AssertionError(f'{top}: no message {uid}')


def reflag(top, uid, letters):
    was = find(top, uid)
    os.rename(f'{top}/{was}', f'{top}/cur/{base_of(was)[4:]}:2,{letters}')


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def save(path, data):
    """A new file, as agents make it."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)     # of the first try
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, data[:20])
    os.write(fd, data[20:])
    os.utime(fd, (DATE, DATE))
    os.fsync(fd)
    os.close(fd)


def name_keywords(top, text):
    """dovecot-keywords, as Dovecot replaces it."""
    lock = f'{top}/dovecot-keywords.lock'
    with contextlib.suppress(FileNotFoundError):
        os.unlink(lock)
    save(lock, text.encode())
    st = os.stat(f'{top}/dovecot-keywords')
    os.utime(lock, (st.st_atime, int(st.st_mtime) + 1))
    os.rename(lock, f'{top}/dovecot-keywords')


class Changes(steps.Case):
    make = staticmethod(stores)

    def test_a_flag(self):
        self.steps(lambda top: reflag(top, 2, 'FS'), 9)

    def test_a_keyword(self):
        self.steps(lambda top: reflag(top, 2, 'Sb'), 4, settle=False)

    def test_flags_of_many(self):
        """Every message by itself is as before or as after."""
        def do(top):
            for uid in range(1, 5):
                reflag(top, uid, 'RS')

        def check(case, before, after, found, done):
            case.assertEqual(sorted(found.bases()), sorted(after.bases()))
            names = sorted(found.view[''], key=lambda n: int(
                n[4:].split('.')[0]))
            letters = [flags_of(n) for n in names]
            at = letters.count('RS')
            case.assertEqual(letters, ['RS'] * at + [''] * (4 - at))
            case.assertTrue(at == 4 or not done)
            case.check_uids(before, after, found)
            case.check_mailboxes(before, after, found.mbx,
                                 between(before, after))

        def between(before, after):
            """The first, the first two... have their flags."""
            was, now = (s.mbx['INBOX']['mail'] for s in (before, after))
            return {'INBOX': [{**was, **{uid: now[uid] for uid in now
                                         if uid <= last}}
                              for last in range(1, 4)]}
        self.steps(do, 14, check=check, between=between, again=False,
                   settle=False)

    def test_fsync_of_the_directory(self):
        """It is for the names, so it is for the mailbox."""
        def do(top):
            for letters in ('S', 'F', 'R'):
                reflag(top, 2, letters)
                sync(f'{top}/cur')
        stops = self.steps(do, 12, settle=False, again=False,
                           check=lambda *_: 0, mailboxes=lambda *_: 0)
        names = [n.partition(': ')[2] for n in stops.names]
        # By itself it would come after all of them. Threads take turns, so
        # not each run has the same step in the same place.
        self.assertIn('fsync', names)

    def test_a_new_keyword(self):
        """The letter first, then its name. The letter is not kept where the
        flags are: it comes before those."""
        words = '0 Label\n1 Other\n2 Fresh\n'

        def do(top):
            reflag(top, 3, 'Sc')
            name_keywords(top, words)

        def check(case, before, after, found, done):
            case.check_mailboxes(before, after, found.mbx,
                                 between(before, after))
            letter = {folder: {n.replace(':2,Sc', ':2,c'): v
                               for n, v in names.items()}
                      for folder, names in after.view.items()}
            case.assertIn(found.view, (before.view, letter, after.view))
            case.assertIn(found.keywords, (before.keywords, after.keywords))
            if done or found.keywords == after.keywords:
                case.assertEqual(found.view, after.view)
                case.assert_same(after.mbx['INBOX']['mail'],
                                 found.mbx['INBOX']['mail'], 'named')
            case.check_uids(before, after, found)

        def wait(rig):
            """A letter that has got its name becomes a keyword."""
            top = os.path.join(rig.mnt, steps.USER)
            with open(f'{top}/dovecot-keywords') as f:
                named = f.read() == words
            if named and find(top, 3).endswith('c'):
                harness.wait_for('the keyword', lambda: steps.mailboxes(rig)[
                    'INBOX']['mail'][3]['keywords'] == 'fresh')

        def between(before, after):
            """Message 3 has its flag, its keyword not yet."""
            was, now = (s.mbx['INBOX']['mail'] for s in (before, after))
            return {'INBOX': [{**now, 3: {**now[3],
                                          'keywords': was[3]['keywords']}}]}
        self.steps(do, 20, check=check, between=between, wait=wait,
                   twice=True)

    def test_expunge(self):
        self.steps(lambda top: os.unlink(f'{top}/{find(top, 2)}'), 9)

    def test_expunge_of_the_last(self):
        """Its UID is not given out again."""
        stops = self.steps(lambda top: os.unlink(f'{top}/{find(top, 4)}'), 4,
                           settle=False)
        self.assertEqual(stops.before.mbx['INBOX']['uidnext'],
                         stops.after.mbx['INBOX']['uidnext'])


class Deliveries(steps.Case):
    make = staticmethod(stores)

    def expect(self, stops, folder, name):
        self.assertEqual(
            stops.after.view[folder][name],
            steps.facts(TEXT, DATE * 1000000000))

    def test_by_rename(self):
        def do(top):
            save(f'{top}/tmp/{NEW}', TEXT)
            os.rename(f'{top}/tmp/{NEW}', f'{top}/new/{NEW}')
            sync(f'{top}/new')
        self.expect(self.steps(do, 2), '', f'new/{NEW}')

    def test_by_link(self):
        def do(top):
            save(f'{top}/tmp/x', TEXT)
            os.link(f'{top}/tmp/x', f'{top}/new/{NEW}')
            os.unlink(f'{top}/tmp/x')
        self.expect(self.steps(do, 2), '', f'new/{NEW}')

    def test_save_with_flags(self):
        name = f'{NEW},S={len(TEXT)}:2,FSa'

        def do(top):
            save(f'{top}/.box/tmp/{NEW}', TEXT)
            os.rename(f'{top}/.box/tmp/{NEW}', f'{top}/.box/cur/{name}')
        self.expect(self.steps(do, 2), '.box', f'cur/{name}')


class Delivered(steps.Case):
    """A message that is a file, and not in the MBX."""

    make = staticmethod(stores)

    @staticmethod
    def prepare(top):
        save(f'{top}/tmp/{NEW}', TEXT)
        os.rename(f'{top}/tmp/{NEW}', f'{top}/new/{NEW}')

    def test_flags(self):
        self.steps(lambda top: os.rename(f'{top}/new/{NEW}',
                                         f'{top}/cur/{NEW}:2,S'),
                   2, prepare=self.prepare)

    def test_unlink(self):
        self.steps(lambda top: os.unlink(f'{top}/new/{NEW}'), 2,
                   prepare=self.prepare)

    def test_move(self):
        """To another folder; never in neither."""
        self.steps(lambda top: os.rename(f'{top}/new/{NEW}',
                                         f'{top}/.box/cur/{NEW}:2,S'),
                   2, prepare=self.prepare)


class Mirrored(steps.Case):
    """A message that is a file, and in the MBX as well."""

    make = staticmethod(stores)

    def check_moved(self, before, after, found, done):
        """It is there, byte for byte; when it has left its folder, what the
        MBX still has of it may show there."""
        self.check_mailboxes(before, after, found.mbx)
        self.check_uids(before, after, found)
        self.assertIn(found.view['.box'],
                      (before.view['.box'], after.view['.box']))
        if done:
            self.assert_same(after.view, found.view)
        if found.view['.box'] == before.view['.box']:
            self.assert_same(before.view, found.view)
        rest = set(found.view[''].items()) ^ set(before.view[''].items())
        self.assertLessEqual(len(rest), 2)
        self.assertEqual([n for n, _ in rest if test_mirror.BASE not in n
                          and '.janusmail' not in n], [])

    @staticmethod
    def mirrored(rig):
        """Nothing is to come when it has left its folder."""
        cur = os.path.join(rig.mnt, steps.USER, '.box', 'cur')
        if not any(test_mirror.BASE in n for n in os.listdir(cur)):
            test_mirror.mirrored(rig)

    def test_move(self):
        name = test_mirror.BASE
        self.steps(lambda top: os.rename(f'{top}/new/{name}',
                                         f'{top}/.box/cur/{name}:2,S'),
                   8, prepare=test_mirror.deliver, wait=self.mirrored,
                   check=type(self).check_moved)


class Copies(steps.Case):
    make = staticmethod(stores)

    def test_copy(self):
        """link(), as Dovecot does it: into tmp/, and then a rename."""
        def do(top):
            name = find(f'{top}/.box', 7)
            tmp = f'{top}/tmp/copy'
            with contextlib.suppress(FileNotFoundError):
                os.unlink(tmp)
            os.link(f'{top}/.box/{name}', tmp)
            os.rename(tmp, f'{top}/cur/{base_of(name)[4:]}:2,S')
        stops = self.steps(do, 6)
        self.same_message(stops, '.box', '')

    def test_copy_into_cur(self):
        def do(top):
            name = find(f'{top}/.box', 7)
            os.link(f'{top}/.box/{name}', f'{top}/cur/{base_of(name)[4:]}:2,S')
        stops = self.steps(do, 6)
        self.same_message(stops, '.box', '')

    def same_message(self, stops, source, target):
        """Octets and time are the same in both."""
        new = set(stops.after.view[target]) - set(stops.before.view[target])
        self.assertEqual(len(new), 1)
        base = base_of(os.path.basename(new.pop()))
        facts = [f for folder in (source, target)
                 for n, f in stops.after.view[folder].items() if base in n]
        self.assertEqual(len(facts), 2)
        self.assertEqual(facts[0], facts[1])

    def test_move(self):
        """Copied, then expunged: both for a moment, never none."""
        def do(top):
            name = find(f'{top}/.box', 7)
            os.rename(f'{top}/.box/{name}',
                      f'{top}/cur/{base_of(name)[4:]}:2,S')

        def check(case, before, after, found, done):
            case.check_mailboxes(before, after, found.mbx)
            case.assertIn(found.view[''], (before.view[''], after.view['']))
            case.assertIn(found.view['.box'],
                          (before.view['.box'], after.view['.box']))
            if done or found.view['.box'] == after.view['.box']:
                case.assert_same(after.view, found.view)
            case.check_uids(before, after, found)
        self.steps(do, 11, check=check, settle=False)

    def test_move_to_a_native_folder(self):
        def prepare(top):
            for name in ('.other', '.other/cur', '.other/new', '.other/tmp'):
                os.mkdir(f'{top}/{name}', 0o700)

        def do(top):
            name = find(top, 1)
            os.rename(f'{top}/{name}', f'{top}/.other/{name}')

        def check(case, before, after, found, done):
            case.check_mailboxes(before, after, found.mbx)
            if done or found.view[''] == after.view['']:
                case.assert_same(after.view, found.view)
            case.assertIn(found.view['.other'], (before.view['.other'],
                                                 after.view['.other']))
        self.steps(do, 10, prepare=prepare, check=check, settle=False)


class Looking(steps.Case):
    """Nobody changes anything through the view, and the daemon writes all the
    same."""

    make = staticmethod(stores)

    def check_seeding(self, before, after, found, done):
        """Names begin with the ledger; until it is written there are none."""
        self.assertEqual(
            [sorted(v.values()) for v in found.view.values()],
            [sorted(v.values()) for v in after.view.values()])
        self.assertEqual(found.keywords, after.keywords)
        self.assertEqual(found.mbx, before.mbx)
        for folder, names in found.view.items():
            self.assertEqual({base_of(os.path.basename(n)) for n in names},
                             set(found.uids[folder]), folder)

    def test_seeding(self):
        self.steps(steps.look_at_all, 35, make=only_inbox, warm=False,
                   check=type(self).check_seeding, twice=True)

    def check_following(self, before, after, found, done):
        self.assert_same(after.view, found.view)
        self.assert_same(after.mbx, found.mbx)
        self.assertEqual(found.keywords, after.keywords)
        self.check_uids(before, after, found)
        names = {base_of(os.path.basename(n)) for n in found.view['']}
        self.assertLessEqual(names, set(found.uids['']))
        self.assertEqual(found.uids, after.uids)

    def following(self, change, at_least, shown):
        """UW changes its INBOX; then somebody looks. What is shown may be
        late: a lock file that nobody has signed yet is given a second."""
        def do(top):
            path = os.path.join(os.path.dirname(os.path.dirname(top)),
                                'legacy', steps.USER, 'INBOX')
            with open(path, 'r+b') as f:
                change(f)
            steps.look_at_all(top)

        def wait(rig):
            cur = os.path.join(rig.mnt, steps.USER, 'cur')
            harness.wait_for('the change', lambda: shown(os.listdir(cur)))
        self.steps(do, at_least, check=type(self).check_following, wait=wait,
                   again=False, twice=True)

    def test_new_mail(self):
        def change(f):
            f.seek(15)
            f.write(b'%08x' % 9)
            f.seek(0, os.SEEK_END)
            f.write(mbxfile.record(TEXT, 9))
        self.following(change, 8, lambda names: len(names) == 5)

    def test_keywords_and_flags(self):
        def change(f):
            data = f.read()
            at = mbxfile.offsets(data)[1]
            f.seek(25)
            f.write(b'Label\r\nOther\r\nThird\r\n' + b'\r\n' * 27)
            f.seek(data.index(b'\r\n', at) - 21)
            f.write(b'%08x%04x' % (1 << 2, mbxfile.SEEN | mbxfile.OLD))
        self.following(change, 12, lambda names: [
            n for n in names if flags_of(n) == 'Sc'])

    def test_expunge(self):
        def change(f):
            data = f.read()
            f.seek(data.index(b'\r\n', mbxfile.offsets(data)[1]) - 13)
            f.write(b'%04x' % (mbxfile.EXPUNGED | mbxfile.OLD))
        self.following(change, 3, lambda names: len(names) == 3)

    def test_reset_of_uidvalidity(self):
        """Names of the old one are gone, those of the new one are listed."""
        def check(case, before, after, found, done):
            case.assertEqual(sorted(found.view[''].values()),
                             sorted(after.view[''].values()))
            names = {base_of(os.path.basename(n)) for n in found.view['']}
            case.assertFalse(names & set(found.uids['']) & set(before.uids['']))
            case.assertEqual(names, set(found.uids['']))
            case.assert_same(before.view['.box'], found.view['.box'])
            case.assertEqual(found.mbx, after.mbx)

        def change(top):
            path = os.path.join(os.path.dirname(os.path.dirname(top)),
                                'legacy', steps.USER, 'INBOX')
            mbxfile.anew(path, 0x4c000001)
            steps.look_at_all(top)

        def wait(rig):
            top = os.path.join(rig.mnt, steps.USER)
            harness.wait_for('the new names', lambda: all(
                '.V4c000001' in n for n in os.listdir(f'{top}/cur')))
        stops = self.steps(change, 15, check=check, wait=wait, again=False,
                           twice=True, mailboxes=lambda *_: None)
        stops.rig.expect_log('UW has reset UIDVALIDITY')


if __name__ == '__main__':
    harness.main()
