#!/usr/bin/python3
"""janusmail convert without a mount: what c-client says of every mailbox is
what a Dovecot on the tree says; names are those that a mounted view shows."""

import glob
import os
import pty
import re
import subprocess
import sys
import time
import types

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle'),
                os.path.join(TESTS, 'mount')]
import harness  # noqa: E402
import mbxfile  # noqa: E402
import writer  # noqa: E402
from harness_convert import (  # noqa: E402
    ALL, QUARANTINED, TROUBLE, controls_of, convert, flag_set, keyword_set,
    names_of, objects, read, spec, tree)
from test_enospc import small_disk  # noqa: E402

LETTERS = 26
IMAP_FLAGS = {'\\Draft': 'D', '\\Flagged': 'F', '\\Answered': 'R',
              '\\Seen': 'S', '\\Deleted': 'T'}
EMAILS = os.path.join(harness.TOP, '..', 'shared', 'data', 'emails')


class Whole(harness.SharedCase):
    """One user with every kind of mailbox, and a second one."""

    @classmethod
    def build(cls, rig):
        harness.need_dovecot()
        cls.home = rig.user('alice', 'all')
        rig.user('bob', 'inbox', 'keywords')
        rig.put('alice', 'mail/wide', mbxfile.mailbox(
            len(mbxfile.DATES), dates=mbxfile.DATES))
        cls.oracle = harness.cc_dump(f'{cls.home}/INBOX', f'{cls.home}/mail')
        harness.age(rig.legacy)
        cls.legacy = harness.snapshot(rig.legacy)
        cls.text = convert(rig, '--jobs', '2')
        cls.after = harness.snapshot(rig.legacy)
        cls.root = rig.path('out', 'alice')
        cls.names = names_of(cls.root)
        cls.controls = controls_of(cls.root)
        cls.dovecot = rig.dovecot(location=f'maildir:{rig.path("out")}/%n')

    def test_the_old_store_is_untouched(self):
        self.assert_same(self.legacy, self.after)

    def test_it_says_what_it_did(self):
        count = sum(f['messages'] for f in self.oracle.values())
        self.assertGreater(count, 250)
        self.assertRegex(self.text, rf'2 users, \d+ folders, \d+ messages')
        self.assertIn('remark: alice: keywords: 4 of its keywords have no '
                      'letter', self.text)

    def test_dovecot_agrees_with_c_client(self):
        imap = self.dovecot.imap('alice')
        for name, want in self.oracle.items():
            with self.subTest(folder=name):
                self.check_folder(imap, name.replace('\\x20', ' '), want)
        imap.logout()

    def check_folder(self, imap, name, want):
        got = harness.imap_folder(imap, name)
        for key in ('uidvalidity', 'uidnext', 'messages'):
            self.assertEqual(got[key], want[key], key)
        self.assertEqual(sorted(got['mail']), sorted(want['mail']))
        lost = {f'label{n}' for n in range(LETTERS + 1, 31)}
        for uid, w in want['mail'].items():
            g, flags = got['mail'][uid], set()
            flags = g['flags'] - {'\\Recent'}
            self.assertEqual({IMAP_FLAGS[f] for f in flags if f in IMAP_FLAGS},
                             flag_set(w['flags']), uid)
            self.assertEqual(
                {f.lower() for f in flags if f not in IMAP_FLAGS},
                {k for k in keyword_set(w['keywords']) if k not in lost}, uid)
            date = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(g['date']))
            self.assertEqual(date, w['date'], uid)

    def test_octets_are_those_of_the_mailbox(self):
        found = {}
        for path, facts in self.names.items():
            folder = path.split('/')[0][1:] or 'INBOX'
            uid = int(os.path.basename(path).split('.')[0])
            found.setdefault(folder.replace(' ', '\\x20'), {})[uid] = facts[4]
        for name, want in self.oracle.items():
            self.assertEqual({u: m['sha256'] for u, m in want['mail'].items()},
                             found.get(name, {}), name)

    def test_bodies_arrive_through_dovecot(self):
        imap = self.dovecot.imap('alice')
        got = harness.imap_folder(imap, 'bodies')
        raw = {r['uid']: r['text'] for r in
               mbxfile.records(read(f'{self.home}/mail/bodies'))}
        for uid, m in got['mail'].items():
            self.assertEqual(m['body'], harness.through_dovecot(raw[uid]), uid)
        imap.logout()

    def test_subscriptions(self):
        imap = self.dovecot.imap('alice')
        got = b' '.join(imap.lsub()[1])
        for name in (b'INBOX', b'a.b.c', b'dotted_name', b'&ANw-ml&AOQ-ut'):
            self.assertIn(name, got)
        imap.logout()

    def test_pop3_uidl_is_that_of_uw(self):
        inbox = self.oracle['INBOX']
        pop = self.dovecot.pop3('alice')
        got = [line.split()[1].decode() for line in pop.uidl()[1]]
        pop.quit()
        self.assertEqual(got, [f'{inbox["uidvalidity"]:08x}{uid:08x}'
                               for uid in sorted(inbox['mail'])])

    def test_everything_belongs_to_the_user(self):
        for path, _, files in os.walk(self.root):
            for name in ['.'] + files:
                st = os.stat(os.path.join(path, name))
                self.assertEqual(st.st_uid, 5001, os.path.join(path, name))
                self.assertEqual(st.st_mode & 0o077, 0)

    def test_a_view_of_the_same_mail_has_the_same_names(self):
        rig = self.shared
        rig.mount()
        view = os.path.join(rig.mnt, 'alice')
        self.assert_same(self.names, names_of(view))
        # Dovecot may have been at the tree by now; the view is fresh.
        rig.unmount()
        self.assert_same(self.controls, controls_of(
            os.path.join(rig.store, 'alice')))


class Again(harness.Case):
    """Runs over what an earlier run has made."""

    def start(self, *scenarios):
        rig = self.rig()
        rig.user('alice', *scenarios or ('inbox', 'keywords'))
        convert(rig)
        return rig, rig.path('out', 'alice')

    def test_nothing_to_do(self):
        rig, root = self.start()
        before = harness.snapshot(root)
        text = objects(convert(rig, '--json'))[-1]
        self.assertEqual((text['copied'], text['unchanged']), (0, 2))
        self.assert_same(before, harness.snapshot(root))

    def test_verify_finds_no_difference(self):
        rig, _ = self.start('inbox', 'flags', 'bodies', 'dates', 'tail')
        # As an admin has it in his fstab.
        r = rig.tool('verify', spec(rig) + ',mirror=off,index=/x',
                     f'maildir:{rig.path("out")}')
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)

    def test_what_changed_in_uw_follows(self):
        rig, root = self.start()
        uw = writer.Talk(self, [os.path.join(os.path.dirname(harness.CC_MAKE),
                                             'cc_mail'),
                                '-o', '5001:5001',
                                os.path.join(rig.legacy, 'alice')],
                         harness.NO_LEAKS)
        rig.make('alice', 'deliver', 'INBOX')
        uw.do('flag INBOX + 1 \\Flagged')
        uw.do('flag INBOX + 2 \\Deleted')
        uw.do('expunge INBOX')
        uw.quit()
        text = objects(convert(rig, '--json'))[-1]
        self.assertEqual((text['copied'], text['expunged']), (1, 1))
        self.assertGreater(text['renamed'], 0)
        home = os.path.join(rig.legacy, 'alice')
        want = harness.cc_dump(f'{home}/INBOX')
        self.assert_same(want['INBOX'], rig.dump(f'maildir:{root}')[0]['INBOX'])

    def test_what_dovecot_changed_stays(self):
        rig, root = self.start()
        dovecot = rig.dovecot(location=f'maildir:{rig.path("out")}/%n')
        imap = dovecot.imap('alice')
        imap.select('INBOX')
        self.assertEqual(imap.uid('STORE', '1', '+FLAGS', '(\\Flagged)')[0],
                         'OK')
        imap.uid('STORE', '2', '+FLAGS', '(\\Deleted)')
        imap.expunge()
        imap.append('INBOX', '', None, b'Subject: x\r\n\r\nnew\r\n')
        imap.logout()
        before = names_of(root)
        rig.make('alice', 'deliver', 'INBOX')
        text = convert(rig, want=QUARANTINED)
        self.assertIn('messages were added only', text)
        # UW and Dovecot have both given a message this UID.
        self.assertRegex(text, 'UID 11 .*dovecot-uidlist has given its UID')
        after = names_of(root)
        self.assertLessEqual(set(before), set(after))
        # What Dovecot has expunged does not come back.
        self.assertEqual(len(after), len(before) + 1)
        imap = dovecot.imap('alice')
        self.assertIn('\\Flagged',
                      harness.imap_folder(imap, 'INBOX')['mail'][1]['flags'])
        imap.logout()

    def test_a_tree_that_a_daemon_serves_is_not_touched(self):
        rig = self.rig()
        rig.user('alice', 'inbox')
        rig.mount()
        text = convert(rig, to='store', want=TROUBLE)
        self.assertIn('is in use by process', text)

    def test_a_tree_that_a_daemon_has_served(self):
        rig = self.rig()
        rig.user('alice', 'inbox', 'keywords')
        rig.mount()
        imap = rig.dovecot().imap('alice')
        self.assertEqual(imap.append('INBOX', '(\\Seen)', None,
                                     b'Subject: new\r\n\r\nnew\r\n')[0], 'OK')
        want = {name: harness.imap_folder(imap, name)
                for name in ('INBOX', 'keywords')}
        imap.logout()
        home = rig.legacy_file('alice', 'INBOX')
        harness.wait_for('the mirror', lambda: harness.cc_dump(home)['INBOX'][
            'messages'] == want['INBOX']['messages'])
        view = names_of(os.path.join(rig.mnt, 'alice'))
        rig.unmount()
        convert(rig, to='store')
        self.assert_same(view, names_of(os.path.join(rig.store, 'alice')))
        # The same through a mount: these are native folders now.
        rig.mount()
        self.assert_same(view, names_of(os.path.join(rig.mnt, 'alice')))
        imap = rig.dovecots[0].imap('alice')
        got = {name: harness.imap_folder(imap, name) for name in want}
        imap.logout()
        self.assertEqual(want, got)


class Odd(harness.Case):
    def test_damage_is_reported_with_its_place(self):
        rig = self.rig()
        rig.user('alice', 'inbox')
        good = mbxfile.mailbox(3)
        rig.put('alice', 'mail/torn', good + b'02-Feb-2004 06:0')
        rig.put('alice', 'mail/date', mbxfile.mailbox(2, dates=[
            mbxfile.DATE, '02-Xxx-2004 06:07:08 +0100']))
        rig.put('alice', 'mail/picture', b'\x89PNG\r\n' * 1000)
        os.symlink('/etc/passwd', rig.legacy_file('alice', 'mail/link'))
        out = objects(convert(rig, '--json', want=QUARANTINED))
        by = {(o['type'], o.get('folder', o.get('file'))): o for o in out}
        torn = by['quarantine', 'torn']
        self.assertEqual((torn['user'], torn['offset'], torn['converted']),
                         ('alice', len(good), False))
        self.assertIn('record', torn['reason'])
        date = by['finding', 'date']
        self.assertEqual((date['uid'], date['offset'], date['converted']),
                         (2, mbxfile.offsets(mbxfile.mailbox(2))[1], True))
        self.assertIn(('note', 'picture'), by)
        root = rig.path('out', 'alice')
        got = rig.dump(f'maildir:{root}')[0]
        self.assertEqual(sorted(got['torn']['mail']), [1, 2, 3])
        self.assertEqual(got['torn']['uidnext'], 4)
        # Told again as long as it is there; mended, it goes on.
        convert(rig, want=QUARANTINED)
        rig.put('alice', 'mail/torn', mbxfile.mailbox(4))
        os.unlink(rig.legacy_file('alice', 'mail/date'))
        text = objects(convert(rig, '--json'))[-1]
        self.assertEqual((text['copied'], text['quarantined']), (1, 0))

    def test_nothing_is_removed_behind_damage(self):
        rig = self.rig()
        rig.user('alice')
        whole = mbxfile.mailbox(5)
        rig.put('alice', 'INBOX', whole)
        convert(rig)
        rig.put('alice', 'INBOX', whole[:mbxfile.offsets(whole)[2] + 10])
        convert(rig, want=QUARANTINED)
        self.assertEqual(len(names_of(rig.path('out', 'alice'))), 5)

    def test_mail_that_is_like_no_other(self):
        files = sorted(f for f in glob.glob(f'{EMAILS}/**/*', recursive=True)
                       if os.path.isfile(f) and os.path.getsize(f))
        harness.skip_unless(files, f'no mail in {EMAILS}')
        rig = self.rig()
        home = rig.user('alice')
        data = mbxfile.header(uidlast=len(files))
        for uid, path in enumerate(files, 1):
            data += mbxfile.record(read(path), uid)
        rig.put('alice', 'INBOX', data)
        oracle = harness.cc_dump(f'{home}/INBOX')
        convert(rig)
        self.assert_same(oracle['INBOX'], rig.dump(
            f'maildir:{rig.path("out", "alice")}')[0]['INBOX'])

    def test_a_mailbox_that_is_open_in_uw(self):
        rig = self.rig()
        home = types.SimpleNamespace(dir=rig.user('alice', 'inbox'),
                                     as_owner=['-o', '5001:5001'])
        session = writer.Session(self, home, 'INBOX')
        before = session.show()
        convert(rig)
        self.assertEqual(before, session.show())
        self.assertEqual(
            len(names_of(rig.path('out', 'alice'))), len(before))
        session.quit()

    def test_a_mailbox_that_stays_locked(self):
        rig = self.rig()
        rig.user('alice', 'inbox', 'keywords')
        with mbxfile.locked(rig.legacy_file('alice', 'mail/keywords')):
            r = rig.tool('convert', spec(rig) + ',lockwait=1', rig.path('out'))
        self.assertEqual(r.returncode, TROUBLE)
        self.assertIn('alice: keywords: another process keeps it locked',
                      r.stderr)
        self.assertEqual(objects(convert(rig, '--json'))[-1]['unchanged'], 1)

    def test_a_full_disk(self):
        rig = self.rig()
        rig.user('alice')
        rig.put('alice', 'INBOX', mbxfile.mailbox(20) + mbxfile.record(
            b'Subject: large\r\n\r\n' + b'x' * (4 << 20), 21))
        with open(rig.legacy_file('alice', 'INBOX'), 'r+b') as f:
            f.seek(15)
            f.write(b'%08x' % 21)
        place = small_disk(rig, 'out')
        text = convert(rig, want=TROUBLE)
        self.assertIn('No space left on device', text)
        root = os.path.join(place, 'alice')
        self.assertEqual(os.listdir(os.path.join(root, 'tmp')), [])
        self.assertFalse(os.path.exists(os.path.join(root,
                                                     'dovecot-uidlist')))
        # With more room it goes on.
        with open(rig.legacy_file('alice', 'INBOX'), 'r+b') as f:
            f.truncate(mbxfile.offsets(read(f.name))[20])
        convert(rig)
        self.assertEqual(len(names_of(root)), 20)

    def test_the_rate_is_kept(self):
        rig = self.rig()
        rig.user('alice')
        rig.put('alice', 'INBOX', mbxfile.mailbox(1) + mbxfile.record(
            b'Subject: large\r\n\r\n' + b'x' * (300 << 10), 2)
            + mbxfile.record(b'Subject: large\r\n\r\n' + b'x' * (300 << 10), 3))
        with open(rig.legacy_file('alice', 'INBOX'), 'r+b') as f:
            f.seek(15)
            f.write(b'%08x' % 3)
        start = time.monotonic()
        out = objects(convert(rig, '--json', '--limit-rate', '300k'))
        took = time.monotonic() - start
        self.assertGreater(took, 1.9)
        shown = [o for o in out if o['type'] == 'progress']
        self.assertGreater(len(shown), 2)
        for o in shown:
            self.assertLessEqual(o['percent'], 100)
            self.assertLessEqual(o['octets'], o['octets_total'])
        self.assertEqual(shown[-1]['percent'], 100)

    def test_a_terminal_sees_how_far_it_is(self):
        rig = self.rig()
        rig.user('alice')
        rig.put('alice', 'INBOX', mbxfile.mailbox(1500))
        ours, theirs = pty.openpty()
        proc = subprocess.Popen(
            [harness.TOOL, 'convert', '--limit-rate', '80k', spec(rig),
             rig.path('out')], stdout=subprocess.PIPE, stderr=theirs,
            text=True)
        os.close(theirs)
        seen = b''
        while True:     # until the other end is closed
            try:
                part = os.read(ours, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
        os.close(ours)
        out = proc.communicate(timeout=harness.WAIT)[0]
        self.assertEqual(proc.returncode, ALL)
        self.assertNotIn('%', out)
        shown = [int(n) for n in re.findall(rb'(\d+) %  ', seen)]
        self.assertGreater(len(shown), 1)
        self.assertEqual(shown, sorted(shown))
        self.assertEqual(shown[-1], 100)
        self.assertRegex(seen, rb'kB of \d+ kB, .*/s, 0:0\d left')

    def test_a_dry_run_makes_nothing(self):
        rig = self.rig()
        rig.user('alice', 'inbox', 'keywords')
        before = harness.snapshot(rig.dir)
        out = objects(convert(rig, '--dry-run', '--json'))[-1]
        self.assert_same(before, harness.snapshot(rig.dir))
        self.assertEqual((out['users'], out['folders'], out['dry_run']),
                         (1, 2, True))
        self.assertEqual(out['messages'], sum(
            f['messages'] for f in harness.cc_dump(
                rig.legacy_file('alice', 'INBOX'),
                rig.legacy_file('alice', 'mail')).values()))

    def test_only_some_users_and_folders(self):
        rig = self.rig()
        for name in ('alice', 'bob'):
            rig.user(name, 'inbox', 'keywords')
        convert(rig, '--user', 'bob', '--folder', 'keywords')
        self.assertEqual(sorted(n for n in os.listdir(rig.path('out'))
                                if n[0] != '.'), ['bob'])
        self.assertTrue(all(n.startswith('.keywords/') for n in
                            names_of(rig.path('out', 'bob'))))

    def test_one_mailbox_and_one_directory(self):
        rig = self.rig()
        home = rig.user('alice', 'inbox', 'keywords')
        for what, folder in (('INBOX', 'INBOX'), ('mail', 'keywords'),
                             ('mail/keywords', 'keywords')):
            to = rig.path(what.replace('/', '-'))
            r = rig.tool('convert', f'mbx:{home}/{what}', to)
            self.assertEqual(r.returncode, ALL, r.stderr)
            got = rig.dump(f'maildir:{to}')[0]
            self.assertEqual(
                got[folder]['messages'], list(harness.cc_dump(
                    f'{home}/{what}').values())[0]['messages'])
            self.assertEqual(os.stat(os.path.join(to, 'cur')).st_uid, 5001)

    def test_what_is_wrong_is_said(self):
        for args, says in ((('x', 'y'), 'starts with mbx:'),
                           (('mbx:/x',), 'SPEC and DIR'),
                           (('mbx:/nonexistent/x', '/tmp/y'), 'No such file'),
                           (('--jobs', '0', 'mbx:/x', 'y'), '--jobs'),
                           (('--limit-rate', '5x', 'mbx:/x', 'y'), 'octets')):
            r = harness.run([harness.TOOL, 'convert', *args])
            self.assertEqual(r.returncode, TROUBLE, args)
            self.assertIn(says, r.stderr)


if __name__ == '__main__':
    harness.main()
