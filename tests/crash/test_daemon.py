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
                   check=type(self).check_seeding)

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
            harness.wait_for('the change', lambda: shown(os.listdir(cur)), 10)
        self.steps(do, at_least, check=type(self).check_following, wait=wait,
                   again=False)

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


if __name__ == '__main__':
    harness.main()
