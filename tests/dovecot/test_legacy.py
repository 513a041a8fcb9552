#!/usr/bin/python3
"""Legacy folders through Dovecot: read-only and said so, the same under both
layouts of control files, and nothing lost when Dovecot forgets its indexes."""

import imaplib
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402


def facts(imap, folder):
    got = harness.imap_folder(imap, folder)
    for mail in got['mail'].values():
        mail['flags'] -= {'\\Recent'}
    return got


def select_read_only(imap, folder):
    """SELECT, which must be answered [READ-ONLY]; imaplib raises then."""
    try:
        imap.select(folder)
    except imaplib.IMAP4.readonly:
        imap.is_readonly = True
        imap.state = 'SELECTED'
        return
    raise AssertionError(f'{folder} can be written')


class Legacy(harness.Case):
    def mounted(self, **options):
        harness.need_dovecot()
        rig = self.rig()
        rig.user('alice', 'inbox', 'flags', 'keywords', 'names', 'recent')
        rig.mount(rig.options(**options))
        return rig

    def test_select_says_read_only(self):
        rig = self.mounted()
        imap = rig.dovecot().imap('alice')
        for folder in ('INBOX', 'flags', 'a.b.c', 'recent'):
            select_read_only(imap, folder)
            self.assertGreater(int(imap.untagged_responses['EXISTS'][0]), 2)
        imap.logout()

    def test_changes_are_refused(self):
        rig = self.mounted()
        dovecot = rig.dovecot()
        dovecot.expected.append(r'(Permission denied|Read-only|EACCES|'
                                r'not permitted)')
        before = harness.snapshot(rig.legacy)
        imap = dovecot.imap('alice')
        want = facts(imap, 'flags')
        typ, _ = imap.append('flags', '', None, b'Subject: x\r\n\r\nx\r\n')
        self.assertEqual(typ, 'NO')
        select_read_only(imap, 'flags')
        imap.store('1:5', '+FLAGS', '(\\Deleted \\Seen)')
        imap.expunge()
        imap.logout()
        imap = dovecot.imap('alice')
        got = facts(imap, 'flags')
        self.assertEqual(sorted(got['mail']), sorted(want['mail']))
        self.assertEqual([m['body'] for m in got['mail'].values()],
                         [m['body'] for m in want['mail'].values()])
        imap.logout()
        self.assert_same(before, harness.snapshot(rig.legacy))

    def all_facts(self, dovecot):
        imap = dovecot.imap('alice')
        out = {f: facts(imap, f) for f in
               ('INBOX', 'flags', 'keywords', 'a.b.c', 'recent')}
        out['lsub'] = sorted(imap.lsub()[1])
        imap.logout()
        return out

    def outside(self, rig):
        for name in ('control', 'dindex'):
            os.makedirs(rig.path(name, 'alice'), exist_ok=True)
            os.chown(rig.path(name, 'alice'), 5001, 5001)
            os.chmod(rig.path(name, 'alice'), 0o700)
        return (f'maildir:{rig.mnt}/%n:CONTROL={rig.path("control")}/%n'
                f':INDEX={rig.path("dindex")}/%n')

    def test_control_files_outside_the_view(self):
        rig = self.mounted()
        inside = self.all_facts(rig.dovecot())
        rig.unmount()
        location = self.outside(rig)
        rig.mount(rig.options(control=rig.path('control') + '/%u'))
        dovecot = rig.dovecot(location=location)
        outside = self.all_facts(dovecot)
        # Subscriptions made since the first mount stay where they were made.
        del inside['lsub'], outside['lsub']
        self.assert_same(inside, outside)
        self.assertTrue(os.path.exists(
            rig.path('control', 'alice', '.INBOX', 'dovecot-uidlist')))
        self.assertTrue(os.path.exists(
            rig.path('control', 'alice', '.flags', 'dovecot-uidlist')))
        self.assertTrue(os.path.exists(
            rig.path('dindex', 'alice', '.INBOX', 'dovecot.index.log')))

    def test_control_files_outside_from_the_start(self):
        harness.need_dovecot()
        rig = self.rig()
        rig.user('alice', 'inbox', 'flags', 'keywords', 'names', 'recent')
        location = self.outside(rig)
        oracle = harness.cc_dump(rig.legacy_file('alice', 'INBOX'),
                                 rig.legacy_file('alice', 'mail'))
        rig.mount(rig.options(control=rig.path('control') + '/%u'))
        got = self.all_facts(rig.dovecot(location=location))
        for folder in ('INBOX', 'flags', 'keywords', 'a.b.c', 'recent'):
            self.assertEqual(got[folder]['uidvalidity'],
                             oracle[folder]['uidvalidity'])
            self.assertEqual(got[folder]['uidnext'],
                             oracle[folder]['uidnext'])
            self.assertEqual(sorted(got[folder]['mail']),
                             sorted(oracle[folder]['mail']))
        self.assertIn(b'() "." a.b.c', got['lsub'])

    def test_lost_indexes_change_nothing(self):
        rig = self.mounted()
        location = (f'maildir:{rig.mnt}/%n:INDEX={rig.path("dindex")}/%n')
        self.outside(rig)
        dovecot = rig.dovecot(location=location)
        first = self.all_facts(dovecot)
        dovecot.stop()
        shutil.rmtree(rig.path('dindex', 'alice'))
        self.outside(rig)
        dovecot = rig.dovecot(location=location)
        self.assert_same(first, self.all_facts(dovecot))
        imap = dovecot.imap('alice')
        imap.select('flags', True)
        imap.logout()

    def test_doveadm_and_search(self):
        rig = self.mounted()
        dovecot = rig.dovecot()
        imap = dovecot.imap('alice')
        imap.select('flags', True)
        for what, count in ((('SEEN',), 16), (('DELETED', 'DRAFT'), 8),
                            (('SUBJECT', '"message 17"'), 1),
                            (('BODY', '"Line one of message 5."'), 1),
                            (('BEFORE', '1-Jan-2002'), 32),
                            (('LARGER', '1'), 32)):
            typ, data = imap.search(None, *what)
            self.assertEqual((typ, len(data[0].split())), ('OK', count), what)
        typ, data = imap.fetch('3', '(BODY.PEEK[HEADER.FIELDS (SUBJECT)])')
        self.assertEqual(data[0][1], b'Subject: message 2\r\n\r\n')
        typ, data = imap.fetch('3', '(BODY.PEEK[TEXT]<5.10>)')
        self.assertEqual(data[0][1], b'one of mes')
        imap.logout()
        out = dovecot.doveadm('mailbox', 'status', '-u', 'alice',
                              'messages', 'flags')
        self.assertIn('messages=32', out)

    def test_partial_fetches_give_the_whole(self):
        rig = self.mounted()
        imap = rig.dovecot().imap('alice')
        want = facts(imap, 'keywords')
        imap.select('keywords', True)
        for uid in (1, 7, 20):
            whole = want['mail'][uid]['body']
            got, off = b'', 0
            while off < len(whole):
                data = imap.uid('FETCH', str(uid),
                                f'(BODY.PEEK[]<{off}.97>)')[1]
                got += data[0][1]
                off += 97
            self.assertEqual(got, whole)
        imap.logout()


if __name__ == '__main__':
    harness.main()
