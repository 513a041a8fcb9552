#!/usr/bin/python3
"""Legacy folders through Dovecot: written through, the same under both layouts
of control files, and nothing lost when Dovecot forgets its indexes."""

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


class Legacy(harness.Case):
    def mounted(self, **options):
        harness.need_dovecot()
        rig = self.rig()
        rig.user('alice', 'inbox', 'flags', 'keywords', 'names', 'recent')
        rig.mount(rig.options(**options))
        return rig

    def test_folders_can_be_written(self):
        rig = self.mounted()
        imap = rig.dovecot().imap('alice')
        for folder in ('INBOX', 'flags', 'a.b.c', 'recent'):
            # imaplib raises when the answer is [READ-ONLY].
            self.assertEqual(imap.select(folder)[0], 'OK')
            self.assertGreater(int(imap.untagged_responses['EXISTS'][0]), 2)
        imap.logout()

    def test_changes_arrive(self):
        rig = self.mounted()
        dovecot = rig.dovecot()
        imap = dovecot.imap('alice')
        want = facts(imap, 'flags')
        mail = b'Subject: x\r\n\r\nx\r\n'
        self.assertEqual(imap.append('flags', '(\\Flagged)', None, mail)[0],
                         'OK')
        imap.select('flags')
        uids = sorted(want['mail'])
        for what in (('STORE', str(uids[0]), '+FLAGS', '(\\Deleted \\Seen)'),
                     ('COPY', str(uids[1]), 'INBOX'),
                     ('MOVE', str(uids[2]), 'recent')):
            self.assertEqual(imap.uid(*what)[0], 'OK', what)
        self.assertEqual(imap.uid('EXPUNGE', str(uids[0]))[0], 'OK')
        imap.logout()
        imap = dovecot.imap('alice')
        got = facts(imap, 'flags')
        new = max(got['mail'])
        self.assertEqual(got['mail'].pop(new)['body'], mail)
        del want['mail'][uids[0]], want['mail'][uids[2]]
        self.assertEqual(sorted(got['mail']), sorted(want['mail']))
        for uid, mail in want['mail'].items():
            self.assertEqual(got['mail'][uid]['body'], mail['body'])
        imap.logout()
        oracle = harness.cc_dump(rig.legacy_file('alice', 'mail', 'flags'))
        self.assertNotIn(uids[0], list(oracle.values())[0]['mail'])

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

    def test_lost_control_files_come_back(self):
        """Whoever removes the list does not get other UIDs."""
        rig = self.mounted()
        dovecot = rig.dovecot()
        first = self.all_facts(dovecot)
        top = os.path.join(rig.mnt, 'alice')
        for path in (top, os.path.join(top, '.flags')):
            for name in os.listdir(path):
                if name.startswith('dovecot'):
                    os.unlink(os.path.join(path, name))
        self.assert_same(first, self.all_facts(dovecot))

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
