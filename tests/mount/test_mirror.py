#!/usr/bin/python3
"""What is delivered through the view gets into the MBX under Dovecot's UIDs,
and file and copy stay in step."""

import errno
import fcntl
import os
import sys
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle')]
import harness      # noqa: E402
import mbxfile      # noqa: E402
from harness_mirror import DATE, LF, Mirrored   # noqa: E402

CRLF = b'Subject: lf\r\n\r\none\r\ntwo\r\n\r\nlast line'
FLAGS = {'\\Answered': 'R', '\\Deleted': 'T', '\\Draft': 'D',
         '\\Flagged': 'F', '\\Seen': 'S'}


class Mirror(Mirrored):
    # Into the MBX

    def test_a_delivery_is_in_the_mbx(self):
        self.start()
        before = self.names()
        uid = self.deliver('100.M1P2.host,S=28')
        self.assertEqual(uid, 4)
        got = self.wait_uid(uid)
        self.assertEqual(got['text'], CRLF)
        self.assertEqual(got['flags'], 0)
        self.assertEqual(self.mbx()[4]['date'], '2009-02-13T23:31:30Z')
        self.assertEqual(self.names(), sorted(
            before + ['new/100.M1P2.host,S=28']))
        self.assertEqual(self.read('100.M1P2.host,S=28'), LF)
        self.settled()
        s = self.status()
        self.assertEqual((s['files'], s['mirrored']), (1, 1))
        for drop in (False, True):
            names = self.names()
            self.remount(drop)
            self.assertEqual(self.names(), names)
            self.assertEqual(self.read('100.M1P2.host,S=28'), LF)
        self.settled()
        self.assertEqual(sorted(self.mbx()), [1, 2, 3, 4])

    def test_flags_and_keywords(self):
        self.start(mbxfile.mailbox(3, keywords=('One', 'Two')))
        with open(f'{self.top}/dovecot-keywords') as f:
            self.assertEqual(f.read(), '0 One\n1 Two\n')
        uid = self.deliver('1.M1.host', flags='FSb')
        got = self.wait_uid(uid)
        self.assertEqual(got['flags'], mbxfile.FLAGGED | mbxfile.SEEN
                         | mbxfile.OLD)
        self.assertEqual(got['keywords'], 2)
        self.assertEqual(self.mbx()[uid]['keywords'], 'two')

    def test_a_keyword_that_the_mbx_has_not(self):
        self.start(mbxfile.mailbox(3, keywords=('One',)))
        uid = self.deliver('1.M1.host', flags='Sac')
        self.wait_uid(uid)
        self.assertEqual(self.mbx()[uid]['keywords'], 'one')
        harness.as_user(self.uid, self._replace, 'dovecot-keywords',
                        '0 One\n2 Fresh\n')
        harness.wait_for('the keyword', lambda: self.mbx()[uid]['keywords']
                         == 'fresh,one')
        self.assertEqual(self.find('1.M1.host'), 'cur/1.M1.host:2,Sac')
        # Known by now: it comes with the message.
        uid = self.deliver('2.M1.host', flags='c')
        harness.wait_for('the keyword', lambda: self.mbx().get(uid, {}).get(
            'keywords') == 'fresh')

    def _replace(self, name, text):
        path = f'{self.top}/{name}'
        with open(path + '.lock', 'x') as f:
            f.write(text)
        os.utime(path + '.lock', (time.time() + 2, time.time() + 2))
        os.rename(path + '.lock', path)

    def test_many_in_order(self):
        self.start(mbxfile.header(uidlast=0))
        bases = [f'{i}.M{i}.host' for i in range(100)]
        for base in bases:
            self.put(base, b'Subject: ' + base.encode() + b'\n\nx\n')
        self.number(*bases)
        self.wait_uid(100)
        self.assertEqual(list(self.disk()), list(range(1, 101)))
        for uid, r in self.disk().items():
            self.assertIn(f'Subject: {uid - 1}.M'.encode(), r['text'])
        self.settled()
        self.assertEqual(self.status()['mirrored'], 100)

    def test_a_large_one(self):
        self.start()
        data = b'Subject: large\n\n' + b'A line of some length.\n' * 200000
        uid = self.deliver('1.M1.host', data)
        self.assertEqual(self.wait_uid(uid)['text'],
                         data.replace(b'\n', b'\r\n'))
        self.assertEqual(self.read('1.M1.host'), data)

    def test_unnumbered_waits(self):
        self.start()
        self.put('1.M1.host')
        harness.wait_for('status', lambda: self.status()['no_uid'] == 1)
        self.assertEqual(len(self.disk()), 3)
        self.number('1.M1.host')
        self.wait_uid(4)

    # In step

    def test_dovecot_changes_flags(self):
        self.start()
        uid = self.deliver('1.M1.host')
        self.wait_uid(uid)
        self.settled()
        os.rename(f'{self.top}/new/1.M1.host',
                  f'{self.top}/cur/1.M1.host:2,RS')
        got = self.disk()[uid]
        self.assertEqual(got['flags'], mbxfile.SEEN | mbxfile.ANSWERED
                         | mbxfile.OLD)
        self.assertEqual(self.find('1.M1.host'), 'cur/1.M1.host:2,RS')

    def test_dovecot_expunges(self):
        self.start()
        uid = self.deliver('1.M1.host', flags='S')
        self.wait_uid(uid)
        self.settled()
        os.unlink(f'{self.top}/cur/1.M1.host:2,S')
        self.assertNotIn(uid, self.disk())
        self.assertIsNone(self.find('1.M1.host'))
        self.remount(True)
        self.assertIsNone(self.find('1.M1.host'))
        self.assertEqual(sorted(self.mbx()), [1, 2, 3])

    def test_uw_sets_flags(self):
        self.start(mbxfile.mailbox(3, keywords=('One',)))
        uid = self.deliver('1.M1.host')
        other = self.deliver('2.M1.host', flags='FP')
        self.wait_uid(other)
        self.settled()
        self.c_client(f'set {uid} \\Seen One', f'set {other} \\Deleted',
                      f'clear {other} \\Flagged')
        self.wait_name('cur/1.M1.host:2,Sa')
        self.wait_name('cur/2.M1.host:2,TP')
        self.assertEqual(self.read('1.M1.host'), LF)
        st = os.stat(f'{self.top}/cur/1.M1.host:2,Sa')
        self.assertEqual(st.st_mtime, DATE)

    def test_uw_sees_it(self):
        """Not recent any more: in cur/."""
        self.start()
        self.wait_uid(self.deliver('1.M1.host'))
        self.settled()
        self.c_client('ping')
        self.wait_name('cur/1.M1.host:2,')

    def test_uw_expunges(self):
        self.start()
        first = self.deliver('1.M1.host')
        second = self.deliver('2.M1.host')
        self.wait_uid(second)
        self.settled()
        harness.wait_for('a closed journal', self.is_closed)
        self.c_client(f'set {first} \\Deleted', 'expunge')
        harness.wait_for('the file to go',
                         lambda: self.find('1.M1.host') is None)
        self.assertIsNotNone(self.find('2.M1.host'))
        self.assertEqual(self.status()['mirrored'], 1)
        harness.wait_for('a closed journal', self.is_closed)
        for drop in (False, True):
            self.remount(drop)
            self.assertIsNone(self.find('1.M1.host'))
            self.settled()
            self.assertEqual(sorted(self.mbx()), [1, 2, 3, second])

    def is_closed(self):
        """There may be a journal for each of very many folders."""
        fds = f'/proc/{self.r.daemon.pid}/fd'
        open_ = [os.readlink(f'{fds}/{n}') for n in os.listdir(fds)]
        return not any('/journals/' in p for p in open_)

    def test_uw_expunges_while_nobody_looks(self):
        self.start()
        first = self.deliver('1.M1.host')
        self.wait_uid(first)
        self.settled()
        self.r.unmount()
        self.c_client(f'set {first} \\Deleted', 'expunge')
        self.r.mount(self.options)
        self.assertIsNone(self.find('1.M1.host'))
        self.assertEqual(sorted(self.mbx()), [1, 2, 3])

    def test_damage_deletes_nothing(self):
        self.start()
        first = self.deliver('1.M1.host')
        self.wait_uid(first)
        self.settled()
        with open(self.path, 'rb') as f:
            good = f.read()
        at = mbxfile.offsets(good)[2]
        self.r.expect_log('damage|record at', 'MBX yet')
        at = good.index(b',', at)
        with open(self.path, 'r+b') as f:
            f.seek(at)
            f.write(b'rubbish')
        self.deliver('2.M1.host')
        for drop in (False, True):
            self.assertIsNotNone(self.find('1.M1.host'))
            self.r.unmount()
            self.r.mount(self.options)
        harness.wait_for('status', lambda: 'damaged' in
                         self.status().get('waits_for', ''))
        with open(self.path, 'r+b') as f:
            f.seek(at)
            f.write(good[at:at + 7])
        self.settled()
        self.assertEqual(self.read('1.M1.host'), LF)
        self.assertEqual(sorted(self.mbx()), [1, 2, 3, 4, 5])

    def test_an_older_mailbox_is_put_back(self):
        self.start()
        with open(self.path, 'rb') as f:
            old = f.read()
        self.wait_uid(self.deliver('1.M1.host'))
        self.settled()
        self.r.expect_log('another mailbox was put in place')
        self.r.unmount()
        with open(self.path, 'r+b') as f:
            f.truncate(0)
            f.write(old)
        self.r.mount(self.options)
        self.assertIsNotNone(self.find('1.M1.host'))
        self.wait_uid(4)
        self.settled()
        self.assertEqual(sorted(self.mbx()), [1, 2, 3, 4])

    def renumbered(self):
        self.start()
        self.wait_uid(self.deliver('1.M1.host'))
        # MBX dates end with 2097, and begin with 1970.
        self.wait_uid(self.deliver('2.M1.host', flags='F', date=1 << 33))
        self.wait_uid(self.deliver('3.M1.host', flags='S', date=-86400))
        self.settled()

    def still_there(self):
        self.assertEqual(len(self.names()), 6)
        self.assertIsNotNone(self.find('1.M1.host'))
        uids = self.uidlist()
        self.assertEqual([uids[f'{n}.M1.host'] for n in (1, 2, 3)],
                         [4, 5, 6])
        self.settled()
        for drop in (False, True):
            self.remount(drop)
            self.assertEqual(len(self.names()), 6)
            self.settled()
            self.assertEqual(len(self.disk()), 6)

    def test_uw_numbers_it_anew(self):
        self.renumbered()
        self.r.expect_log('numbered the messages anew; .* put back')
        with open(self.path, 'r+b') as f:
            f.seek(7)
            f.write(b'%08x' % 0x5b3d5a10)
        harness.wait_for('the old numbers', lambda: 'put back' in self.r.log()
                         or os.listdir(f'{self.top}/cur') is None)
        self.still_there()

    def test_another_mailbox_with_the_same_mail(self):
        self.renumbered()
        self.r.expect_log('UW has reset UIDVALIDITY')
        mbxfile.anew(self.path, 0x5b3d5a10)
        harness.wait_for('the reset', lambda: 'reset' in self.r.log()
                         or os.listdir(f'{self.top}/cur') is None)
        self.still_there()

    # UIDs

    def test_uw_took_the_uid(self):
        self.start()
        self.r.expect_log('another UID at Dovecot')
        # UW numbers while nobody reserves.
        self.r.unmount()
        base = '1.M1.host'
        store = f'{self.r.store}/alice'
        with open(f'{store}/new/{base}', 'xb') as f:
            f.write(LF)
        os.utime(f'{store}/new/{base}', (DATE, DATE))
        os.chown(f'{store}/new/{base}', self.uid, self.uid)
        with open(f'{store}/dovecot-uidlist', 'a') as f:
            f.write(f'4 :{base}\n')
        self.uw_delivers()
        self.c_client('ping')
        self.assertEqual(sorted(self.mbx()), [1, 2, 3, 4])
        self.r.mount(self.options)
        self.assertEqual(len(self.names()), 5)
        self.wait_uid(5)
        self.settled()
        self.assertEqual(self.disk()[5]['text'], CRLF)
        self.assertEqual(len(self.names()), 5)
        self.assertEqual(self.uidlist()[base], 4)
        found = self.r.folder_status('alice', 'INBOX')['legacy']
        ours = [d for d in found['disagreements'] if d['name'] == base]
        self.assertEqual([(d['dovecot'], d['mbx']) for d in ours], [(4, 5)])
        # Dovecot does not use 5 for another one; nor does a line say so, which
        # it would take for a message, and its clients would see it go.
        self.assertEqual(self.next_uid(), 6)
        self.assertLessEqual(set(self.uidlist()), {
            n.partition('/')[2].partition(':')[0] for n in self.names()})
        again = self.deliver('2.M1.host')
        self.wait_uid(again)
        self.assertEqual(len(self.names()), 6)
        self.remount(True)
        self.assertEqual(len(self.names()), 6)
        imap = self.dovecot().imap('alice')
        shown = harness.imap_folder(imap, 'INBOX')['mail']
        self.assertEqual(sorted(shown)[:4], [1, 2, 3, 4])
        self.assertEqual(len(shown), 6)
        self.assertIn(again, shown)
        imap.append('INBOX', r'(\Seen)', None, b'Subject: last\r\n\r\nx\r\n')
        self.settled()
        self.assertEqual(len(harness.imap_folder(imap, 'INBOX')['mail']), 7)
        imap.logout()
        self.assertEqual(len(self.mbx()), 7)

    def test_uids_are_reserved(self):
        """Also without the mirror: UW goes on above Dovecot's."""
        self.start(mirror='off')
        self.deliver('1.M1.host')
        self.deliver('2.M1.host')

        def uidlast():
            with open(self.path, 'rb') as f:
                return int(f.read()[15:23], 16)
        harness.wait_for('UIDLAST', lambda: uidlast() == 5)
        self.uw_delivers()
        harness.wait_for('six', lambda: len(self.names()) == 6)
        self.assertEqual(sorted(self.uidlist().values()), [1, 2, 3, 4, 5, 6])
        self.assertEqual(sorted(self.mbx()), [1, 2, 3, 6])
        self.assertEqual(self.status()['mirror'], 'off')
        self.r.remount(options=self.options)
        self.assertEqual(len(self.names()), 6)

    # What cannot be

    def test_no_octets(self):
        self.start()
        self.r.expect_log('cannot be in the MBX: it has no octets')
        self.deliver('1.M1.host', b'')
        uid = self.deliver('2.M1.host')
        self.wait_uid(uid)
        harness.wait_for('status', lambda: self.status()['refused'])
        refused = self.status()['refused']
        self.assertEqual([r['name'] for r in refused], ['1.M1.host'])
        self.assertIn('no octets', refused[0]['why'])
        self.assertIsNotNone(self.find('1.M1.host'))
        text = self.r.tool('status', self.r.mnt).stdout
        self.assertIn('1.M1.host', text)
        self.assertEqual(sorted(self.mbx()), [1, 2, 3, 5])

    def test_away_and_back(self):
        """Dovecot did not look meanwhile, so the UID stays."""
        self.start()
        base = self.names()[1].partition('/')[2].partition(':')[0]

        def body():
            os.rename(f'{self.top}/cur/{base}:2,', f'{self.top}/tmp/x')
            os.rename(f'{self.top}/tmp/x', f'{self.top}/cur/{base}:2,F')
        harness.as_user(self.uid, body)
        self.assertEqual(sorted(self.disk()), [1, 3])
        self.r.expect_log('another UID at Dovecot')
        self.remount()
        self.settled()
        self.assertEqual(sorted(self.mbx()), [1, 3, 4])
        self.assertEqual(self.find(base), f'cur/{base}:2,F')
        self.assertEqual(self.uidlist()[base], 2)

    def test_mbxmax(self):
        self.start(mbxmax='64k')
        self.r.expect_log('cannot be in the MBX: the mailbox would become')
        self.deliver('1.M1.host', b'x' * 70000)
        self.wait_uid(self.deliver('2.M1.host'))
        self.settled()
        self.assertEqual([r['name'] for r in self.status()['refused']],
                         ['1.M1.host'])
        self.assertEqual(self.read('1.M1.host'), b'x' * 70000)

    def test_a_locked_mailbox(self):
        self.start(lockwait='1')
        self.r.expect_log('not in the MBX yet')
        with open(self.lock_file(), 'a') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.put('1.M1.host')
            uid = self.number('1.M1.host')
            harness.wait_for('status', lambda: self.status().get('waits_for')
                             and self.status()['lag_ms'] > 0)
            harness.wait_for('the log', lambda: 'not in the MBX yet'
                             in self.r.log())
        self.wait_uid(uid)
        self.settled()
        self.assertNotIn('waits_for', self.status())

    def lock_file(self):
        st = os.stat(self.path)
        path = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
        with open(path, 'a'):
            os.chmod(path, 0o666)
        return path

    # With Dovecot itself

    def dovecot(self, **kw):
        harness.need_dovecot()
        return self.r.dovecot(**kw)

    def agree(self, imap):
        """Dovecot and c-client come to say the same about every message; a
        keyword waits until its name is known."""
        self.settled()
        end = time.monotonic() + harness.WAIT
        while True:
            try:
                self.compare(imap)
                return
            except AssertionError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.05)

    def compare(self, imap):
        shown = harness.imap_folder(imap, 'INBOX', bodies=False)['mail']
        found = self.mbx()
        self.assertEqual(sorted(shown), sorted(found))
        for uid, facts in shown.items():
            system = {c for f, c in FLAGS.items() if f in facts['flags']}
            words = {f.lower() for f in facts['flags'] if f[0] != '\\'}
            date = time.strftime('%Y-%m-%dT%H:%M:%SZ',
                                 time.gmtime(facts['date']))
            mbx = found[uid]
            self.assertEqual(system, set(mbx['flags'].strip('-')), uid)
            self.assertEqual(words, {w for w in mbx['keywords'].split(',')
                                     if w != '-'}, uid)
            self.assertEqual(date, mbx['date'], uid)

    def play(self, imap):
        """Appends, flags, keywords, copies, expunges."""
        for i in range(12):
            flags = ['', r'(\Seen)', '(Fresh)', r'(\Flagged Other)'][i % 4]
            ok, _ = imap.append(
                'INBOX', flags, f'"{i + 1:02}-Feb-2021 01:02:03 +0000"',
                f'Subject: {i}\r\n\r\nbody {i}\r\n'.encode())
            self.assertEqual(ok, 'OK')
        imap.select('INBOX')
        for what, flags in (('+FLAGS', r'(\Answered Third)'),
                            ('-FLAGS', r'(\Seen Other)')):
            ok, _ = imap.uid('STORE', '2:9', what, flags)
            self.assertEqual(ok, 'OK')
        imap.uid('COPY', '4:8', 'INBOX')
        imap.uid('STORE', '3,6,17', '+FLAGS', r'(\Deleted)')
        imap.expunge()
        imap.close()

    def test_dovecot_at_work(self):
        self.start()
        imap = self.dovecot().imap('alice')
        self.play(imap)
        self.agree(imap)
        self.assertEqual(len(self.mbx()), 17)
        imap.logout()
        self.remount(True)
        self.settled()
        self.assertEqual(len(self.mbx()), 17)
        self.assertEqual(self.status()['mirrored'], 15)

    def test_control_files_elsewhere(self):
        """Nobody tells us when they change."""
        self.start()
        self.r.unmount()
        control = self.r.path('control')
        os.mkdir(control, 0o755)
        self.options = self.r.options(control=f'{control}/%u')
        self.r.mount(self.options)
        os.listdir(f'{self.top}/cur')
        imap = self.dovecot(
            location=f'maildir:{self.r.mnt}/%u:CONTROL={control}/%u'
        ).imap('alice')
        self.play(imap)
        self.agree(imap)
        imap.logout()


if __name__ == '__main__':
    harness.main()
