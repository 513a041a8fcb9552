#!/usr/bin/python3
"""Renames and unlinks in cur/ and new/ are flags, keywords and expunges of the
MBX: at once, merged with what UW does, and the same after a crash."""

import contextlib
import fcntl
import hashlib
import os
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
from harness_uw import Session  # noqa: E402

OLD, EXPUNGED = 0x10, 0x8000


def uid_of(name):
    return int(name.split('.')[0])


def base_of(name):
    return name.partition(':2,')[0]


def letters_of(name):
    return name.partition(':2,')[2]


class Flags(harness.Case):
    def start(self, *scenarios, env=None, **options):
        self.r = self.rig()
        self.r.user('alice', *scenarios)
        self.options = options
        self.env = env
        self.r.mount(self.r.options(**options), env=env)
        return self.r

    def file(self, folder):
        return self.r.legacy_file(
            'alice', 'INBOX' if folder == 'INBOX' else f'mail/{folder}')

    def top(self, folder):
        return os.path.join(self.r.mnt, 'alice',
                            *([] if folder == 'INBOX' else [f'.{folder}']))

    def find(self, folder, uid):
        """The path of a message in the view."""
        for sub in ('cur', 'new'):
            for name in os.listdir(f'{self.top(folder)}/{sub}'):
                if uid_of(name) == uid:
                    return f'{self.top(folder)}/{sub}/{name}'
        raise AssertionError(f'no message {uid}')

    def store(self, folder, uid, letters):
        """What Dovecot does for STORE FLAGS. The new path."""
        path = self.find(folder, uid)
        to = f'{self.top(folder)}/cur/{base_of(os.path.basename(path))}' \
            f':2,{letters}'
        os.rename(path, to)
        return to

    def name_letters(self, folder, names, where=None):
        """dovecot-keywords as Dovecot writes it, under its lock."""
        top = where or self.top(folder)
        path = f'{top}/dovecot-keywords'
        with open(path + '.lock', 'x', encoding='utf-8') as f:
            for letter, word in sorted(names.items()):
                f.write(f'{ord(letter) - ord("a")} {word}\n')
            f.flush()
            os.fsync(f.fileno())
            os.fchown(f.fileno(), *2 * [self.r.users['alice']])
        os.rename(path + '.lock', path)

    def letters(self, folder):
        out = {}
        with open(f'{self.top(folder)}/dovecot-keywords',
                  encoding='utf-8') as f:
            for line in f:
                slot, word = line.split()
                out[chr(ord('a') + int(slot))] = word
        return out

    def shown(self, folder):
        """UID -> facts, as plain files say them."""
        out, words = {}, self.letters(folder)
        for sub in ('cur', 'new'):
            for name in os.listdir(f'{self.top(folder)}/{sub}'):
                with open(f'{self.top(folder)}/{sub}/{name}', 'rb') as f:
                    data = f.read()
                letters = letters_of(name)
                out[uid_of(name)] = {
                    'flags': ''.join(filter(str.isupper, letters)) or '-',
                    'keywords': ','.join(sorted(
                        words.get(c, f'?{c}').lower()
                        for c in letters if c.islower())) or '-',
                    'size': str(len(data)),
                    'sha256': hashlib.sha256(data).hexdigest()}
        return out

    def in_mbx(self, folder):
        """UID -> facts, as c-client says them."""
        (facts,) = harness.cc_dump(self.file(folder)).values()
        return {uid: {k: m[k] for k in ('flags', 'keywords', 'size', 'sha256')}
                for uid, m in facts['mail'].items()}

    def assert_agree(self, folder, *but):
        want, got = self.in_mbx(folder), self.shown(folder)
        for uid in but:
            self.assertIn(uid, got)
            want.pop(uid), got.pop(uid)
        self.assert_same(want, got, folder)

    def raw(self, folder, uid):
        """The flag digits of a record on disk."""
        with open(self.file(folder), 'rb') as f:
            data = f.read()
        at = data.index(b'-%08x\r\n' % uid)
        return int(data[at - 4:at], 16)

    def remount_killed(self):
        self.r.daemon.kill()
        self.r.daemon.wait()
        self.r.daemon = None
        self.r.force(self.r.mnt)
        self.r.mount(self.r.options(**self.options), env=self.env)

    @contextlib.contextmanager
    def parse_lock(self, folder):
        st = os.stat(self.file(folder))
        path = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
        fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        os.fchmod(fd, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            os.close(fd)

    # Flags

    def test_each_flag_set_and_cleared(self):
        self.start('inbox')
        uid = min(self.shown('INBOX'))
        for letters in ('S', 'T', 'F', 'R', 'D', 'DFRST', 'FS', ''):
            path = self.store('INBOX', uid, letters)
            self.assertTrue(os.path.exists(path))
            self.assertEqual(self.in_mbx('INBOX')[uid]['flags'],
                             letters or '-')
            self.assert_agree('INBOX')
        self.remount_killed()
        self.assert_agree('INBOX')

    def test_only_the_name_given_is_there(self):
        self.start('inbox')
        uid = min(self.shown('INBOX'))
        old = self.find('INBOX', uid)
        before = os.stat(old)
        new = self.store('INBOX', uid, 'FS')
        after = os.stat(new)
        self.assert_errno(2, os.stat, old)
        self.assert_errno(2, os.rename, old, new + 'T')
        for what in ('st_ino', 'st_size', 'st_mtime_ns', 'st_uid', 'st_mode'):
            self.assertEqual(getattr(before, what), getattr(after, what))

    def test_what_no_mbx_can_hold_is_refused(self):
        self.start('inbox')
        path = self.find('INBOX', min(self.shown('INBOX')))
        top, base = self.top('INBOX'), base_of(os.path.basename(path))
        before = self.shown('INBOX')
        for to in (f'cur/{base}:2,SX', f'cur/{base}:2,P', f'cur/{base}',
                   f'cur/{base}:2,S,x', f'cur/other.{base}:2,S',
                   f'new/{base}'):
            if f'{top}/{to}' != path:
                self.assert_errno(13, os.rename, path, f'{top}/{to}')
        self.assert_same(before, self.shown('INBOX'))
        self.assert_agree('INBOX')

    def test_recent_becomes_old(self):
        self.start('recent')
        new = os.listdir(self.top('recent') + '/new')
        self.assertGreaterEqual(len(new), 3)
        uid = uid_of(new[0])
        self.assertFalse(self.raw('recent', uid) & OLD)
        self.store('recent', uid, '')
        self.assertTrue(self.raw('recent', uid) & OLD)
        self.assertEqual(self.raw('recent', uid), OLD)
        self.assertFalse(self.raw('recent', uid_of(new[1])) & OLD)
        self.assertEqual(sorted(os.listdir(self.top('recent') + '/new')),
                         sorted(new[1:]))
        path = f'{self.top("recent")}/new/{new[1]}'
        os.rename(path, path)   # is what it is
        self.assertFalse(self.raw('recent', uid_of(new[1])) & OLD)
        self.remount_killed()
        self.assertEqual(sorted(os.listdir(self.top('recent') + '/new')),
                         sorted(new[1:]))
        self.assert_agree('recent')

    def test_directory_times_move_with_each_change(self):
        self.start('recent')
        top = self.top('recent')
        uid = uid_of(os.listdir(f'{top}/new')[0])
        seen = {(os.stat(f'{top}/cur').st_mtime_ns,
                 os.stat(f'{top}/new').st_mtime_ns)}
        self.store('recent', uid, 'S')
        now = (os.stat(f'{top}/cur').st_mtime_ns,
               os.stat(f'{top}/new').st_mtime_ns)
        for n in (0, 1):
            self.assertNotIn(now[n], [s[n] for s in seen])
        seen = set()
        for i in range(20):
            self.store('recent', uid, 'FS' if i % 2 else 'S')
            seen.add(os.stat(f'{top}/cur').st_mtime_ns)
        self.assertEqual(len(seen), 20)
        self.assertLess(max(seen), time.time_ns())
        quiet = os.stat(f'{top}/new').st_mtime_ns
        self.store('recent', uid, 'S')
        self.assertEqual(os.stat(f'{top}/new').st_mtime_ns, quiet)

    # Keywords

    def test_a_keyword_that_is_there(self):
        self.start('inbox')
        words = {v: k for k, v in self.letters('INBOX').items()}
        uid = min(self.shown('INBOX'))
        self.store('INBOX', uid, 'S' + words['$Label1'])
        self.assertEqual(self.in_mbx('INBOX')[uid]['keywords'], '$label1')
        self.store('INBOX', uid, 'S')
        self.assertEqual(self.in_mbx('INBOX')[uid]['keywords'], '-')
        self.assert_agree('INBOX')

    def test_a_new_keyword_the_letter_comes_first(self):
        self.start('inbox')
        words = self.letters('INBOX')
        self.assertNotIn('f', words)
        a, b = sorted(self.shown('INBOX'))[:2]
        path = self.store('INBOX', a, 'Sf')
        self.assertTrue(os.path.exists(path))
        self.assertEqual(self.in_mbx('INBOX')[a],
                         {**self.in_mbx('INBOX')[a], 'flags': 'S',
                          'keywords': '-'})
        self.remount_killed()
        self.assertTrue(os.path.exists(path), 'the letter is remembered')
        self.store('INBOX', b, 'f')
        self.store('INBOX', b, '')
        self.name_letters('INBOX', {**words, 'f': 'Project-X'})
        harness.wait_for(
            'the keyword in the MBX', lambda: self.in_mbx('INBOX')[a][
                'keywords'] == 'project-x')
        self.assertEqual(self.in_mbx('INBOX')[b]['keywords'], '-')
        self.assertTrue(os.path.exists(path))
        self.assert_agree('INBOX')
        self.store('INBOX', b, 'f')
        self.assertEqual(self.in_mbx('INBOX')[b]['keywords'], 'project-x')
        self.remount_killed()
        self.assert_agree('INBOX')
        self.store('INBOX', a, '')
        self.assertEqual(self.in_mbx('INBOX')[a]['keywords'], '-')

    def test_a_named_letter_without_a_slot(self):
        """Dovecot never forgets a name; the MBX may not have it yet."""
        self.start('inbox')
        self.name_letters('INBOX', {**self.letters('INBOX'), 'q': 'Later'})
        uid = min(self.shown('INBOX'))
        self.store('INBOX', uid, 'q')
        self.assertEqual(self.in_mbx('INBOX')[uid]['keywords'], 'later')
        self.assert_agree('INBOX')

    def test_control_files_elsewhere(self):
        """Then nobody tells us that a letter has its name."""
        control = None
        self.r = self.rig()
        self.r.user('alice', 'inbox')
        control = self.r.path('control')
        os.mkdir(control)
        os.mkdir(f'{control}/alice')
        os.chown(f'{control}/alice', self.r.users['alice'],
                 self.r.users['alice'])
        self.options = {'control': f'{control}/%u'}
        self.env = None
        self.r.mount(self.r.options(**self.options))
        uid = min(uid_of(n) for n in os.listdir(self.top('INBOX') + '/cur'))
        where = f'{control}/alice/.INBOX'
        self.store('INBOX', uid, 'k')
        with open(f'{where}/dovecot-keywords', encoding='utf-8') as f:
            words = {chr(97 + int(n)): w for n, w in map(str.split, f)}
        self.name_letters('INBOX', {**words, 'k': 'Away'}, where)
        harness.wait_for(
            'the name of the letter', lambda: self.in_mbx('INBOX')[uid][
                'keywords'] == 'away')

    def test_more_keywords_than_slots(self):
        self.start('keywords')
        letters = self.letters('keywords')
        taken = set(letters)
        self.assertEqual(len(taken), 26, 'the file has no letter left')
        hidden = self.r.folder_status('alice', 'keywords')['legacy'][
            'keywords_not_shown']
        self.assertEqual(len(hidden), 4)
        all_of_them = self.in_mbx('keywords')[31]
        self.store('keywords', 31, '')
        left = self.in_mbx('keywords')[31]['keywords'].split(',')
        self.assertEqual(left, sorted(w.lower() for w in hidden),
                         'what has no letter is not touched')
        self.store('keywords', 31, 'S' + ''.join(sorted(taken)))
        self.assertEqual(self.in_mbx('keywords')[31],
                         {**all_of_them, 'flags': 'S'})

    def test_the_31st_keyword_stays_with_dovecot(self):
        self.start('inbox')
        uid, other = sorted(self.shown('INBOX'))[:2]
        uw = Session(self.r, 'alice', 'INBOX')
        for n in range(29):
            uw(f'set 1 Slot{n}')
            uw('clear 1 Slot%d' % n)
        uw.close()
        # A letter whose name nobody knows yet is no other keyword's letter.
        words = {'a': '$Label1'}
        os.listdir(self.top('INBOX') + '/cur')
        have = self.letters('INBOX')
        self.assertEqual(len(have), 26)
        self.name_letters('INBOX', {**have, 'z': 'One-Too-Many'})
        self.r.expect_log('One-Too-Many stays with Dovecot')
        path = self.store('INBOX', other, 'Fz')
        self.assertTrue(os.path.exists(path))
        self.assertEqual(self.in_mbx('INBOX')[other]['flags'], 'F')
        self.assertEqual(self.in_mbx('INBOX')[other]['keywords'], '-')
        self.remount_killed()
        self.assertTrue(os.path.exists(path))
        self.store('INBOX', other, 'F')
        self.assert_agree('INBOX')
        self.assertTrue(words and uid)

    # Expunge

    def test_expunge(self):
        self.start('inbox', 'recent')
        path = self.find('INBOX', sorted(self.shown('INBOX'))[1])
        uid = uid_of(os.path.basename(path))
        size = os.stat(self.file('INBOX')).st_size
        with open(path, 'rb') as f:
            want = f.read(20)
            os.unlink(path)
            self.assertNotIn(uid, self.shown('INBOX'))
            self.assert_errno(2, os.unlink, path)
            self.assert_errno(2, os.stat, path)
            f.seek(0)
            self.assertEqual(f.read(20), want, 'open: it reads on')
            self.assertEqual(os.fstat(f.fileno()).st_size,
                             len(want) + len(f.read()))
        self.assertTrue(self.raw('INBOX', uid) & EXPUNGED)
        self.assertEqual(os.stat(self.file('INBOX')).st_size, size)
        new = self.top('recent') + '/new'
        new = f'{new}/{os.listdir(new)[0]}'
        os.unlink(new)
        self.remount_killed()
        self.assertNotIn(uid, self.shown('INBOX'))
        self.assert_agree('INBOX')
        self.assert_agree('recent')

    def test_what_uw_expunges_is_read_on(self):
        self.start('inbox')
        uid = sorted(self.shown('INBOX'))[0]
        uw, other = (Session(self.r, 'alice', 'INBOX') for _ in range(2))
        with open(self.find('INBOX', uid), 'rb') as f:
            want = f.read()
            uw('set 1 \\Deleted')
            uw('expunge')   # marked only: the other session has it open
            self.assertNotIn(uid, self.shown('INBOX'))
            self.assertEqual(os.fstat(f.fileno()).st_size, len(want))
            f.seek(0)
            self.assertEqual(f.read(), want)
        other.close(), uw.close()

    # Other processes

    def test_uw_sees_it_and_both_merge(self):
        self.start('inbox')
        uid = sorted(self.shown('INBOX'))[2]
        uw = Session(self.r, 'alice', 'INBOX')
        seq = list(uw.show()).index(uid) + 1
        self.store('INBOX', uid, 'S')
        harness.wait_for('UW to see it',
                         lambda: 'S' in uw.show()[uid][0])
        uw(f'set {seq} \\Flagged')
        self.assertEqual(letters_of(self.find('INBOX', uid)), 'FS')
        self.store('INBOX', uid, 'FRS')
        uw(f'clear {seq} \\Seen')
        self.assertEqual(letters_of(self.find('INBOX', uid)), 'FR')
        harness.wait_for('UW to see that',
                         lambda: uw.show()[uid][0] == 'FR')
        os.unlink(self.find('INBOX', uid))
        harness.wait_for('UW to see it gone', lambda: uid not in uw.show())
        uw.close()
        self.assert_agree('INBOX')

    def test_a_lock_that_is_held_is_waited_for(self):
        self.start('inbox', lockwait=20)
        uid = min(self.shown('INBOX'))
        with self.parse_lock('INBOX'):
            t = threading.Thread(target=self.store, args=('INBOX', uid, 'FS'))
            t.start()
            t.join(1)
            self.assertTrue(t.is_alive(), 'it did not wait')
        t.join(harness.WAIT)
        self.assertFalse(t.is_alive())
        self.assertEqual(self.in_mbx('INBOX')[uid]['flags'], 'FS')

    def test_a_lock_that_stays_is_no_success(self):
        self.start('inbox', lockwait=1)
        uid = min(self.shown('INBOX'))
        path = self.find('INBOX', uid)
        self.r.expect_log('INBOX: .*locked')
        with self.parse_lock('INBOX'):
            self.assert_errno((5, 11, 16), os.rename, path, path + 'T')
        self.assertTrue(os.path.exists(path))
        self.store('INBOX', uid, 'FS')
        self.assert_agree('INBOX')

    def test_a_thousand_renames_share_locks(self):
        self.start('many', env={'JANUSMAIL_TRACE': 'lock,sync'})
        cur = self.top('many') + '/cur'
        names = sorted(os.listdir(cur), key=uid_of)[:1000]
        before = self.r.log()
        began = time.monotonic()
        for name in names:
            os.rename(f'{cur}/{name}', f'{cur}/{base_of(name)}:2,FS')
        took = time.monotonic() - began
        # What follows is seen without another look at all the messages.
        left = {n for n in os.listdir(cur) if letters_of(n) == 'FS'}
        self.assertEqual(len(left), 1000)
        trace = self.r.log()[len(before):]
        locks = trace.count('parse /tmp')
        # They are given back when nothing was changed for two milliseconds:
        # who needs longer for a rename shares nothing.
        self.assertLess(locks, max(1000 / 5, took / 0.002), f'{took:.1f} s')
        self.assertNotIn('full', trace)
        for name in names:
            os.unlink(f'{cur}/{base_of(name)}:2,FS')
        took = time.monotonic() - began
        trace = self.r.log()[len(before):]
        self.assertLess(trace.count('parse /tmp'),
                        max(2000 / 5, took / 0.002), f'{took:.1f} s')
        time.sleep(4.5)    # until it is noted that nobody else wrote
        self.assertEqual(len(os.listdir(cur)), 19000)
        self.assertNotIn('full', self.r.log()[len(before):])
        # New mail then costs a look at the end of the file.
        self.r.make('alice', 'deliver', 'mail/many')
        self.assertEqual(len(os.listdir(self.top('many') + '/new')), 1)
        trace = self.r.log()[len(before):]
        self.assertIn('tail: 0: +1', trace)
        self.assertFalse('full' in trace.partition('tail: 0: +1')[0])
        self.assertEqual(len(self.in_mbx('many')), 19001)

    def test_each_gets_its_turn_in_a_burst(self):
        self.start('inbox', 'many')
        uw = Session(self.r, 'alice', 'mail/many')
        cur, stop, took, done = self.top('many') + '/cur', [], [], []
        names = sorted(os.listdir(cur), key=uid_of)[:200]

        def burst():
            while not stop:
                for i, name in enumerate(names):
                    to = f'{base_of(name)}:2,' \
                        f'{"" if "F" in letters_of(name) else "F"}'
                    os.rename(f'{cur}/{name}', f'{cur}/{to}')
                    names[i] = to
                    done.append(to)
        t = threading.Thread(target=burst)
        t.start()
        try:
            start, in_between = time.monotonic(), 0
            while time.monotonic() < start + 3 or len(took) % 2 or (
                    len(done) <= in_between
                    and time.monotonic() < start + harness.WAIT):
                if time.monotonic() < start + 1.5:
                    in_between = len(done)
                n, began = len(took), time.monotonic()
                uw('clear 300 \\Seen' if n % 2 else 'set 300 \\Seen')
                took.append(time.monotonic() - began)
            at_the_end = len(done)
        finally:
            stop.append(True)
            t.join(20)
        self.assertFalse(t.is_alive())
        uw.close()
        self.assertLess(statistics.median(took), 2, took)
        self.assertLess(max(took), 10, took)
        self.assertNotIn('S', letters_of(self.find('many', 300)))
        self.assertGreater(at_the_end, in_between, 'nor must it keep us out')

    def test_what_uw_does_right_after_us_is_seen(self):
        """Within a tick of the clock, again and again."""
        self.start('inbox')
        uid = min(self.shown('INBOX'))
        uw = Session(self.r, 'alice', 'INBOX')
        for n in range(60):
            self.store('INBOX', uid, 'S' if n % 2 else '')
            uw('set 2 \\Flagged' if n % 2 else 'clear 2 \\Flagged')
            self.assert_agree('INBOX')
        uw.close()


if __name__ == '__main__':
    harness.main()
