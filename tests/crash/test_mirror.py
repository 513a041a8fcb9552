#!/usr/bin/python3
"""Between a file and its copy in the MBX, with the daemon stopped before each
of its durable steps: nothing is lost, nothing is there twice, and in the end
both are the same."""

import contextlib
import fcntl
import os
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import harness      # noqa: E402
import steps        # noqa: E402
import mbxfile      # noqa: E402

TEXT = b'From: new@example.test\nSubject: new\n\nOne line\nno end'
BASE = '1163456789.M1P2.mx.example.test'
DATE = 1163456789


def stores(*log):
    def make(rig):
        rig.user(steps.USER)
        rig.put(steps.USER, 'INBOX', mbxfile.mailbox(4, keywords=('Label',)))
        rig.expect_log(*log)
    return make


@contextlib.contextmanager
def uw_locks(path):
    """As UW keeps everybody away from a mailbox."""
    st = os.stat(path)
    lock = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
    fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        os.fchmod(fd, 0o666)
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(lock)
        os.close(fd)


def save(top, base, text=TEXT):
    tmp = f'{top}/tmp/{base}'
    with open(tmp, 'wb') as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    os.utime(tmp, (DATE, DATE))
    os.rename(tmp, f'{top}/new/{base}')


def number(top, uid, base):
    """As Dovecot does it."""
    line = f'{uid} :{base}\n'
    with open(f'{top}/dovecot-uidlist', 'r+') as f:
        if line not in f.read():
            f.write(line)
            f.flush()
            os.fsync(f.fileno())


def deliver(top):
    save(top, BASE)
    number(top, 5, BASE)


def mirrored(rig):
    """Everything that Dovecot has numbered is in the MBX."""
    top = os.path.join(rig.mnt, steps.USER)
    bases = {n.partition(':')[0] for sub in ('cur', 'new')
             for n in os.listdir(f'{top}/{sub}')}
    want = sum(base in bases and '.janusmail' not in base
               for base in steps.uids_of(top))

    def done():
        try:
            folder = rig.folder_status(steps.USER, 'INBOX')
        except AssertionError as e:     # it has just stopped
            raise OSError(str(e)) from None
        entry = folder.get('delivered') or {}
        return entry.get('waiting') == 0 and entry['mirrored'] == want
    harness.wait_for('the mirror', done)


def uw(rig_path, *commands):
    """A session of c-client, by the user himself."""
    r = harness.run([harness.CC_MAKE, rig_path, 'session', 'INBOX'],
                    stdin='\n'.join([*commands, 'quit']) + '\n',
                    env=harness.NO_LEAKS)
    if r.returncode or '\nno' in r.stdout:
        raise AssertionError(f'{commands}: {r.stdout}{r.stderr}')


class Mirror(steps.Case):
    make = staticmethod(stores())

    def one_each(self, found):
        """Every message of the MBX shows, once; and the other way round."""
        shown = {}
        for facts in found.view[''].values():
            shown[facts[0]] = shown.get(facts[0], 0) + 1
        self.assertEqual(set(shown.values()), {1})
        self.assertEqual(len(found.mbx['INBOX']['mail']),
                         len(found.view['']))

    def check_in_step(self, before, after, found, done):
        self.check_uids(before, after, found)
        self.one_each(found)
        self.assertIn(found.view, (before.view, after.view))
        state = before if found.view == before.view != after.view else after
        self.assert_same(state.mbx['INBOX']['mail'],
                         found.mbx['INBOX']['mail'], 'the MBX')

    @staticmethod
    def in_step(case, *states):
        case.check_in_step(*states)

    def follow(self, do, at_least, **how):
        return self.steps(do, at_least, wait=mirrored,
                          **{'prepare': deliver, 'check': Mirror.in_step,
                             **how})

    def test_append(self):
        """Delivered before, numbered now."""
        def check(case, before, after, found, done):
            case.check_uids(before, after, found)
            case.assertEqual(found.view, before.view)
            numbered = BASE in found.uids['']
            case.assertTrue(numbered or not done)
            case.assert_same((after if numbered else before)
                             .mbx['INBOX']['mail'],
                             found.mbx['INBOX']['mail'], 'the MBX')
        stops = self.follow(lambda top: number(top, 5, BASE), 5,
                            prepare=lambda top: save(top, BASE), check=check)
        got = stops.after.mbx['INBOX']['mail'][5]
        self.assertEqual(got['size'],
                         str(len(TEXT) + TEXT.count(b'\n')))
        names = ' '.join(stops.names)
        self.assertIn('pwrite', names)

    def test_append_of_three(self):
        bases = [f'{BASE}.{i}' for i in range(3)]

        def prepare(top):
            for i, base in enumerate(bases):
                save(top, base, TEXT + base.encode())

        def do(top):
            for i, base in enumerate(bases):
                number(top, 5 + i, base)

        def between(before, after):
            was, now = (s.mbx['INBOX']['mail'] for s in (before, after))
            return {'INBOX': [{u: f for u, f in now.items() if u <= last}
                              for last in (5, 6)]}

        def check(case, before, after, found, done):
            case.check_uids(before, after, found)
            case.assertEqual(found.view, before.view)
            now = after.mbx['INBOX']['mail']
            last = max([4, *(found.uids[''][b] for b in bases
                             if b in found.uids[''])])
            case.assert_same({u: f for u, f in now.items() if u <= last},
                             found.mbx['INBOX']['mail'], 'the MBX')
        self.follow(do, 9, prepare=prepare, check=check, between=between,
                    again=False)

    def test_dovecot_sets_flags(self):
        self.follow(lambda top: os.rename(f'{top}/new/{BASE}',
                                          f'{top}/cur/{BASE}:2,FSa'), 3)

    def test_dovecot_expunges(self):
        self.follow(lambda top: os.unlink(f'{top}/new/{BASE}'), 4)

    def test_uw_sets_flags(self):
        def do(top):
            uw(legacy(top), 'set 5 \\Flagged Label')
            harness.wait_for('the flags', lambda: f'{BASE}:2,Fa'
                             in os.listdir(f'{top}/cur'))
        self.follow(do, 2, mailboxes=self.any_mailbox, check=self.uw_did(
            lambda found: f'cur/{BASE}:2,Fa' in found.view['']))

    def test_uw_expunges(self):
        def do(top):
            uw(legacy(top), 'set 5 \\Deleted', 'expunge')
            harness.wait_for('the file to go', lambda: not any(
                n.startswith(BASE) for sub in ('cur', 'new')
                for n in os.listdir(f'{top}/{sub}')))
        self.follow(do, 3, mailboxes=self.any_mailbox, again=False,
                    check=self.uw_did(lambda found: not any(
                        BASE in n for n in found.view[''])))

    @staticmethod
    def any_mailbox(before, after, found):
        """UW has done it before we began."""

    @staticmethod
    def uw_did(is_followed):
        def check(case, before, after, found, done):
            case.check_uids(before, after, found)
            case.one_each(found)
            case.assert_same(after.mbx['INBOX']['mail'],
                             found.mbx['INBOX']['mail'], 'the MBX')
            case.assertTrue(is_followed(found))
        return check

    def test_uw_was_quicker(self):
        """UW has used the UID: the copy gets another one, once."""
        def prepare(top):
            save(top, BASE)

        def do(top):
            path = f'{legacy(top)}/INBOX'
            with uw_locks(path), open(path, 'r+b') as f:
                number(top, 5, BASE)
                f.seek(0, os.SEEK_END)
                f.write(mbxfile.record(b'Subject: by UW\r\n\r\nx\r\n', 5))
                f.seek(15)
                f.write(b'%08x' % 5)
            os.listdir(f'{top}/cur')

        def check(case, before, after, found, done):
            case.assertEqual(sorted(n for n in found.view[''] if BASE in n),
                             [f'new/{BASE}'])
            if BASE not in found.uids['']:
                return
            case.one_each(found)
            case.assertEqual(found.uids[''][BASE], 5)
            # One that was reserved for it and not used is nobody's.
            mail = found.mbx['INBOX']['mail']
            case.assertEqual(sorted(mail)[:5], [1, 2, 3, 4, 5])
            case.assertEqual(len(mail), 6)
            case.assertLess(max(mail), 8)
        self.follow(do, 6, prepare=prepare, check=check, again=False,
                    mailboxes=self.any_mailbox,
                    make=stores('another UID at Dovecot'))

    def test_uw_numbers_anew(self):
        """Another UIDVALIDITY: the copy is known by its octets."""
        def do(top):
            mbxfile.anew(f'{legacy(top)}/INBOX', 0x5b3d5a10)
            os.listdir(f'{top}/cur')

        def check(case, before, after, found, done):
            case.one_each(found)
            case.assertEqual([n for n in found.view[''] if BASE in n],
                             [f'new/{BASE}'])
            case.assertEqual(len(found.mbx['INBOX']['mail']), 5)
            case.assertEqual(found.uids[''][BASE], 5)
        self.follow(do, 5, check=check, again=False,
                    mailboxes=self.any_mailbox,
                    make=stores('UW has reset UIDVALIDITY'))


def legacy(top):
    """The home of the user whose view this is."""
    return os.path.join(os.path.dirname(os.path.dirname(top)), 'legacy',
                        steps.USER)


if __name__ == '__main__':
    harness.main()
