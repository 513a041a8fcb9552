#!/usr/bin/python3
"""Dovecot's whole repertoire on folders that have no legacy file: the tree of a
single user, and new folders of a user with legacy mail. The log stays clean."""

import os
import smtplib
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402

MAIL = b'From: a@example.test\r\nSubject: %d\r\n\r\nText of %d.\r\n'


def ok(answer):
    if answer[0] != 'OK':
        raise AssertionError(answer)
    return answer[1]


def append(imap, folder, n, flags='', date='" 3-Mar-2003 03:03:03 +0000"'):
    ok(imap.append(harness.quote(folder), flags, date, MAIL % (n, n)))


def facts(imap, folder):
    return harness.imap_folder(imap, folder)


class Native(harness.Case):
    def single(self):
        harness.need_dovecot()
        rig = self.rig()
        os.chown(rig.store, harness.FIRST_UID, harness.FIRST_UID)
        os.chmod(rig.store, 0o700)
        for sub in ('cur', 'new', 'tmp'):
            os.mkdir(os.path.join(rig.store, sub), 0o700)
            os.chown(os.path.join(rig.store, sub), harness.FIRST_UID,
                     harness.FIRST_UID)
        rig.users['alice'] = harness.FIRST_UID
        self.options = f'store={rig.store},index={rig.index}'
        rig.mount(self.options)
        self.top = rig.mnt
        return rig, rig.dovecot(location=f'maildir:{rig.mnt}')

    def beside_legacy(self):
        harness.need_dovecot()
        rig = self.rig()
        rig.user('alice', 'inbox', 'flags')
        rig.mount()
        self.top = os.path.join(rig.mnt, 'alice')
        return rig, rig.dovecot()

    def cycle(self, imap, prefix=''):
        """APPEND, STORE, keywords, COPY, MOVE, EXPUNGE, CREATE, RENAME,
        DELETE, SUBSCRIBE in folders that begin with prefix."""
        work, other = prefix + 'Work', prefix + 'Other.Deep'
        for name in (work, other):
            ok(imap.create(name))
            ok(imap.subscribe(name))
        for n in range(1, 21):
            append(imap, work, n, '\\Seen' if n % 2 else '')
        got = facts(imap, work)
        self.assertEqual(got['messages'], 20)
        self.assertEqual(got['mail'][7]['body'], MAIL % (7, 7))
        self.assertEqual(got['mail'][7]['date'], 1046660583)
        ok(imap.select(work))
        ok(imap.store('1:5', '+FLAGS', '(\\Flagged $Label1 Urgent)'))
        ok(imap.store('2', '-FLAGS', '(Urgent)'))
        ok(imap.copy('3:4', other))
        ok(imap._simple_command('MOVE', '10:12', other))
        ok(imap.store('1', '+FLAGS', '(\\Deleted)'))
        ok(imap.expunge())
        got, moved = facts(imap, work), facts(imap, other)
        self.assertEqual(sorted(got['mail']),
                         [2, 3, 4, 5, 6, 7, 8, 9] + list(range(13, 21)))
        self.assertEqual(got['mail'][2]['flags'] - {'\\Recent'},
                         {'\\Flagged', '$Label1'})
        self.assertEqual(got['mail'][5]['flags'] - {'\\Recent'},
                         {'\\Flagged', '\\Seen', '$Label1', 'Urgent'})
        self.assertEqual([m['body'] for m in moved['mail'].values()],
                         [MAIL % (n, n) for n in (3, 4, 10, 11, 12)])
        self.assertEqual(moved['mail'][1]['flags'] - {'\\Recent'},
                         {'\\Flagged', '\\Seen', '$Label1', 'Urgent'})
        ok(imap.select('INBOX', True))
        ok(imap.rename(prefix + 'Other', prefix + 'Else'))
        again = facts(imap, prefix + 'Else.Deep')
        self.assertEqual([m['body'] for m in again['mail'].values()],
                         [m['body'] for m in moved['mail'].values()])
        ok(imap.select('INBOX', True))
        ok(imap.delete(prefix + 'Else.Deep'))
        ok(imap.unsubscribe(other))
        names = [line.split(b' "." ')[1].decode().strip('"')
                 for line in ok(imap.lsub())]
        self.assertIn(work, names)
        self.assertNotIn(other, names)
        return got

    def test_a_tree_of_ones_own(self):
        rig, dovecot = self.single()
        imap = dovecot.imap('alice')
        got = self.cycle(imap)
        append(imap, 'INBOX', 1)
        self.assertEqual(facts(imap, 'INBOX')['messages'], 1)
        imap.logout()
        dovecot.stop()
        rig.unmount()
        rig.mount(self.options)
        imap = rig.dovecot(location=f'maildir:{rig.mnt}').imap('alice')
        for mail in got['mail'].values():
            mail['flags'] -= {'\\Recent'}
        again = facts(imap, 'Work')
        for mail in again['mail'].values():
            mail['flags'] -= {'\\Recent'}
        self.assert_same(got, again, 'after a remount')
        imap.logout()

    def test_new_folders_beside_legacy_ones(self):
        rig, dovecot = self.beside_legacy()
        before = harness.snapshot(rig.legacy)
        imap = dovecot.imap('alice')
        self.cycle(imap, 'New.')
        # Out of a legacy folder, which stays as it is.
        ok(imap.select('flags', True))
        ok(imap.copy('1:32', 'New.Work'))
        flags = facts(imap, 'flags')
        copied = list(facts(imap, 'New.Work')['mail'].values())[-32:]
        self.assertEqual([m['body'] for m in copied],
                         [m['body'] for m in flags['mail'].values()])
        self.assertEqual([m['date'] for m in copied],
                         [m['date'] for m in flags['mail'].values()])
        imap.logout()
        self.assert_same(before, harness.snapshot(rig.legacy))

    def test_two_clients_at_once(self):
        _, dovecot = self.single()
        one, two = dovecot.imap('alice'), dovecot.imap('alice')
        append(one, 'INBOX', 1)
        ok(one.select('INBOX'))
        ok(two.select('INBOX'))
        append(two, 'INBOX', 2)
        ok(one.noop())
        self.assertEqual(len(ok(one.search(None, 'ALL'))[0].split()), 2)
        ok(two.store('1:2', '+FLAGS', '\\Seen'))
        ok(one.noop())
        self.assertEqual(len(ok(one.search(None, 'SEEN'))[0].split()), 2)
        ok(one.store('1', '+FLAGS', '\\Deleted'))
        ok(one.expunge())
        ok(two.noop())
        self.assertEqual(len(ok(two.search(None, 'ALL'))[0].split()), 1)
        one.logout()
        two.logout()

    def test_delivery_by_lmtp(self):
        _, dovecot = self.single()
        with smtplib.LMTP('127.0.0.1', dovecot.lmtp_port) as lmtp:
            for n in range(10):
                lmtp.sendmail('a@example.test', 'alice@example.test',
                              MAIL % (n, n))
        imap = dovecot.imap('alice')
        got = facts(imap, 'INBOX')
        self.assertEqual(got['messages'], 10)
        for n, mail in enumerate(got['mail'].values()):
            self.assertTrue(mail['body'].endswith(b'Text of %d.\r\n' % n))
        imap.logout()

    def test_pop3(self):
        _, dovecot = self.single()
        imap = dovecot.imap('alice')
        for n in range(5):
            append(imap, 'INBOX', n)
        imap.logout()
        pop = dovecot.pop3('alice')
        self.assertEqual(pop.stat()[0], 5)
        self.assertEqual(b'\r\n'.join(pop.retr(3)[1]) + b'\r\n',
                         MAIL % (2, 2))
        pop.dele(1)
        pop.quit()
        imap = dovecot.imap('alice')
        self.assertEqual(facts(imap, 'INBOX')['messages'], 4)
        imap.logout()

    def test_a_folder_with_many_messages(self):
        rig, dovecot = self.single()

        def deliver():
            for n in range(2000):
                with open(f'{rig.mnt}/new/{1000000 + n}.host', 'wb') as f:
                    f.write(MAIL % (n, n))
        harness.as_user(harness.FIRST_UID, deliver)
        imap = dovecot.imap('alice')
        ok(imap.select('INBOX'))
        got = ok(imap.fetch('1:*', '(BODY.PEEK[])'))
        bodies = [item[1] for item in got if isinstance(item, tuple)]
        self.assertEqual(bodies, [MAIL % (n, n) for n in range(2000)])
        ok(imap.store('1:1000', '+FLAGS.SILENT', '(\\Deleted)'))
        ok(imap.expunge())
        self.assertEqual(len(os.listdir(f'{rig.store}/cur')), 1000)
        imap.logout()


if __name__ == '__main__':
    harness.main()
