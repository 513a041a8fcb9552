#!/usr/bin/python3
"""Damage that is mended later, through Dovecot: no client may lose a message or
get another UID by it, neither in a session that goes on nor in a new one."""

import contextlib
import os
import shutil
import sys

_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(_here),
                os.path.join(os.path.dirname(_here), 'oracle')]
import harness  # noqa: E402
import mbxfile  # noqa: E402

COUNT = 6
GOOD = mbxfile.mailbox(COUNT, flags=mbxfile.OLD | mbxfile.SEEN)
AT = mbxfile.offsets(GOOD)
TEXTS = {n: mbxfile.text(n) for n in range(1, COUNT + 1)}
ALL = list(range(1, COUNT + 1))


class Damage(harness.Case):
    def begin(self):
        harness.need_dovecot()
        rig = self.rig()
        rig.user('alice')
        rig.put('alice', 'INBOX', GOOD)
        self.file = rig.put('alice', 'mail/box', GOOD)
        rig.expect_log('alice: folder box .*listed but cannot be read')
        rig.mount()
        self.dovecot = rig.dovecot()
        self.begin_session()
        self.first = self.facts()
        self.assertEqual(sorted(self.first['mail']), ALL)
        return rig

    def begin_session(self):
        self.session = self.dovecot.imap('alice')
        self.addCleanup(self.hang_up, self.session)
        self.session.select('box', True)

    @staticmethod
    def hang_up(session):
        with contextlib.suppress(OSError):
            session.shutdown()

    def facts(self):
        """What a new session is told."""
        imap = self.dovecot.imap('alice')
        got = harness.imap_folder(imap, 'box', bodies=False)
        imap.logout()
        return got

    def spoil(self, n, what=b';'):
        """Break the record line of the n-th message, from 1 on."""
        with open(self.file, 'r+b') as f:
            f.seek(GOOD.index(what, AT[n - 1]))
            f.write(b'?')

    def restore(self):
        with open(self.file, 'r+b') as f:
            f.write(GOOD)

    def check(self, rig, behind):
        """Everything is as at first, while damaged."""
        entry = self.check_kind(rig, 'record')
        what = 'message behind it is' if behind == 1 else \
            'messages behind it are'
        self.assertTrue(entry['damage']['text'].endswith(
            f'; {behind} {what} listed but cannot be read'), entry)

    def check_kind(self, rig, kind):
        self.assert_same(self.first, self.facts())
        self.same_session()
        entry = rig.folder_status('alice', 'box')
        self.assertEqual((entry['state'], entry['damage']['kind']),
                         ('damaged', kind))
        return entry

    def same_session(self):
        """The one that has been there since before: it is told of nothing."""
        self.session.untagged_responses.clear()
        self.assertEqual(self.session.noop()[0], 'OK')
        self.assertNotIn('EXPUNGE', self.session.untagged_responses)
        data = self.session.uid('SEARCH', 'ALL')[1]
        self.assertEqual([int(u) for u in data[0].split()], ALL)

    def end(self, rig):
        """Mended: everything is as at first, and can be read."""
        self.restore()
        self.assert_same(self.first, self.facts())
        self.same_session()
        self.session.logout()
        imap = self.dovecot.imap('alice')
        got = harness.imap_folder(imap, 'box')['mail']
        imap.logout()
        self.assertEqual({uid: m['body'] for uid, m in got.items()}, TEXTS)
        want = harness.cc_dump(self.file)
        self.assertEqual(sorted(got), sorted(next(iter(want.values()))['mail']))
        entry = rig.folder_status('alice', 'box')
        self.assertEqual(entry['state'], 'ok')

    def body(self, imap, uid):
        data = imap.uid('FETCH', str(uid), '(BODY.PEEK[])')[1]
        return data[0][1]

    def test_a_record_in_the_middle(self):
        rig = self.begin()
        self.spoil(3)
        self.check(rig, 4)
        # What still lies in its place can be read.
        self.drop_pages(rig)
        imap = self.dovecot.imap('alice')
        imap.select('box', True)
        for uid in (1, 2, 4, 5, 6):
            self.assertEqual(self.body(imap, uid), TEXTS[uid])
        imap.logout()
        self.check(rig, 4)
        self.end(rig)

    @staticmethod
    def drop_pages(rig):
        """What the kernel has of the messages: Dovecot has read them all."""
        top = os.path.join(rig.mnt, 'alice/.box/cur')
        for name in os.listdir(top):
            fd = os.open(os.path.join(top, name), os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)

    def test_the_broken_message_itself(self):
        rig = self.begin()
        self.dovecot.expected.append('Input/output error')
        self.spoil(3)
        self.check(rig, 4)
        self.drop_pages(rig)
        imap = self.dovecot.imap('alice')
        imap.select('box', True)
        try:
            typ, data = imap.uid('FETCH', '3', '(BODY.PEEK[])')
            self.assertFalse(typ == 'OK' and data and data[0]
                             and len(data[0]) > 1 and data[0][1], data)
        except imap.abort:
            pass     # Dovecot hangs up when it cannot read what it began
        self.check(rig, 4)
        self.end(rig)

    def test_a_date(self):
        rig = self.begin()
        rig.expected[:] = ['alice: folder box .*unreadable date']
        self.spoil(3, b'F')
        self.check_kind(rig, 'date')
        self.drop_pages(rig)
        imap = self.dovecot.imap('alice')
        imap.select('box', True)
        self.assertEqual(self.body(imap, 3), TEXTS[3])
        imap.logout()
        self.end(rig)

    def test_cut_off_in_a_text(self):
        rig = self.begin()
        os.truncate(self.file, AT[4] + 70)
        self.check(rig, 2)
        self.end(rig)

    def test_cut_off_altogether(self):
        rig = self.begin()
        os.truncate(self.file, 0)
        self.check(rig, 6)
        self.end(rig)

    def test_a_restart_while_damaged(self):
        for n, behind in ((3, 4), (0, 6)):
            rig = self.begin()
            if n:
                self.spoil(n)
            else:
                os.truncate(self.file, 0)
            self.check(rig, behind)
            self.session.logout()
            self.dovecot.stop()
            rig.remount()
            self.dovecot = rig.dovecot()
            self.begin_session()
            self.check(rig, behind)
            self.end(rig)

    def test_one_damage_after_the_other(self):
        rig = self.begin()
        os.truncate(self.file, 0)
        self.check(rig, 6)
        self.restore()
        self.spoil(6)
        self.check(rig, 1)
        self.spoil(2)
        self.check(rig, 5)
        self.end(rig)

    def test_another_file_with_the_same_octets(self):
        """As a restore from a backup does it."""
        rig = self.begin()
        os.truncate(self.file, 0)
        self.check(rig, 6)
        os.rename(rig.put('alice', 'restored', GOOD), self.file)
        self.end(rig)

    def test_mended_without_the_broken_message(self):
        rig = self.begin()
        self.spoil(3)
        self.check(rig, 4)
        rest = GOOD[:AT[2]] + GOOD[AT[3]:]
        os.rename(rig.put('alice', 'mended', rest), self.file)
        self.assertEqual(sorted(self.facts()['mail']), [1, 2, 4, 5, 6])
        self.assertEqual(self.facts()['uidnext'], self.first['uidnext'])
        self.session.logout()

    def test_compaction_is_no_damage(self):
        rig = self.begin()
        rig.expected.clear()
        rest = GOOD[:AT[2]] + GOOD[AT[4]:]
        with open(self.file, 'r+b') as f:
            f.write(rest)
            f.truncate()
        self.assertEqual(sorted(self.facts()['mail']), [1, 2, 5, 6])
        self.session.logout()


class DamageBefore(harness.Case):
    """What was damaged before anybody looked, or when nobody remembers."""

    def start(self):
        harness.need_dovecot()
        self.r = self.rig()
        self.r.user('alice')
        self.file = self.r.put('alice', 'mail/box', GOOD)

    def spoil(self, n):
        with open(self.file, 'r+b') as f:
            f.seek(GOOD.index(b';', AT[n - 1]))
            f.write(b'?')

    def restore(self):
        with open(self.file, 'r+b') as f:
            f.write(GOOD)

    def uids(self):
        imap = self.dovecot.imap('alice')
        got = harness.imap_folder(imap, 'box', bodies=False)
        imap.logout()
        return sorted(got['mail'])

    def test_damaged_when_first_shown(self):
        self.start()
        self.spoil(3)
        self.r.expect_log('alice: folder box .*record')
        self.r.mount()
        self.dovecot = self.r.dovecot()
        self.assertEqual(self.uids(), [1, 2])
        self.restore()
        # Dovecot may hold its lock at the first look; then it is the next.
        harness.wait_for('all of them', lambda: self.uids() == ALL)

    def test_damaged_and_the_index_lost(self):
        """Nobody knows what is behind the damage but Dovecot: no listing is
        better than a short one."""
        self.start()
        self.r.mount()
        self.dovecot = self.r.dovecot()
        self.assertEqual(self.uids(), ALL)
        self.r.unmount()
        self.spoil(3)
        shutil.rmtree(self.r.index)
        self.r.expect_log('alice: folder box .*record')
        self.r.mount()
        for _ in range(2):
            with self.assertRaises(OSError):
                os.listdir(f'{self.r.mnt}/alice/.box/cur')
            self.assertEqual(
                self.r.folder_status('alice', 'box')['state'], 'unreadable')
            self.r.remount()
        self.restore()
        self.assertEqual(self.uids(), ALL)


if __name__ == '__main__':
    harness.main()
