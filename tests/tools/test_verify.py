#!/usr/bin/python3
"""janusmail verify and manifest: each planted fault is found and named, and
where there is none, none is found."""

import contextlib
import json
import os
import pty
import re
import shutil
import smtplib
import subprocess
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                os.path.join(os.path.dirname(os.path.dirname(
                    os.path.abspath(__file__))), 'oracle')]
import harness  # noqa: E402
import mbxfile  # noqa: E402

SAME, DIFFERENT, TROUBLE = 0, 1, 2


class Verify(harness.Case):
    def verify(self, a, b, *args):
        r = self.r.tool('verify', '--json', *args, a, b, timeout=300)
        self.assertIn(r.returncode, (SAME, DIFFERENT, TROUBLE), r.stderr)
        if r.stdout:
            # How far it is is told on a terminal only.
            self.assertEqual(r.stderr, '')
        return r.returncode, json.loads(r.stdout) if r.stdout else None, r

    def findings(self, report):
        """(user, folder, uid, kind, a, b) of all."""
        out = []
        for u in report['users']:
            for f in u['findings']:
                out.append((u['name'], None, None, f))
            for folder in u['folders']:
                for f in folder['findings']:
                    out.append((u['name'], folder['name'], f.get('uid'), f))
        return [(user, name, uid, f['kind'], f.get('a'), f.get('b'))
                for user, name, uid, f in out]

    def assert_finds(self, want, a, b, status=DIFFERENT, args=()):
        """Exactly these (user, folder, uid, kind)."""
        code, report, r = self.verify(a, b, *args)
        got = self.findings(report) if report else r.stderr
        self.assertEqual(sorted(map(repr, want)),
                         sorted(repr(f[:4]) for f in got), got)
        self.assertEqual(code, status, got)
        self.assertEqual(report['result'],
                         ['same', 'different', 'trouble'][status])
        # The text says the same.
        text = self.r.tool('verify', *args, a, b, timeout=300)
        self.assertEqual(text.returncode, status)
        for user, folder, uid, kind in want:
            place = ' '.join(x for x in (user, folder) if x)
            if uid:
                place += f' UID {uid}'
            self.assertRegex(text.stdout, re.compile(
                '^' + re.escape(place) + '.*' +
                ('.' if kind == 'subscribed' else re.escape(kind)), re.M))
        return got, report


class Faults(Verify):
    """On copies of what c-client made, as the mounted view shows it."""

    FOLDERS = ('inbox', 'flags', 'names', 'dates', 'gaps')

    def setUp(self):
        self.r = self.rig()
        self.r.user('alice', *self.FOLDERS)
        mail = mbxfile.mailbox(6, keywords=['Work', '$Label1'])
        at = mbxfile.offsets(mail)
        for i in (1, 3):
            line = mail.index(b';', at[i]) + 1
            mail = mail[:line] + b'00000003' + mail[line + 8:]
        self.r.put('alice', 'mail/words', mail)
        self.r.mount()
        self.mbx = (f'mbx:inbox={self.r.legacy}/%u/INBOX,'
                    f'folders={self.r.legacy}/%u/mail')
        self.view = f'view:{self.r.mnt}'
        self.top = self.r.path('copy')
        for d in sorted(os.listdir(f'{self.r.mnt}/alice')):
            path = f'{self.r.mnt}/alice/{d}'
            if os.path.isdir(path):
                os.listdir(f'{path}/cur' if d.startswith('.') else path)
        shutil.copytree(self.r.mnt, self.top,
                        copy_function=shutil.copy2)
        self.copy = f'maildir:{self.top}'

    def path(self, folder, uid):
        """The file of a message in the copy."""
        base = f'{self.top}/alice' + (f'/.{folder}' if folder != 'INBOX'
                                      else '')
        with open(f'{base}/dovecot-uidlist', encoding='ascii') as f:
            names = {int(line.split()[0]): line.rstrip().split(' :')[1]
                     for line in list(f)[1:]}
        for sub in ('cur', 'new'):
            for name in os.listdir(f'{base}/{sub}'):
                if name.split(':')[0] == names[uid]:
                    return f'{base}/{sub}/{name}'
        raise AssertionError(f'no {folder} UID {uid}')

    def rename(self, path, old, new):
        to = path.replace(old, new)
        self.assertNotEqual(path, to)
        os.rename(path, to)
        return to

    def change(self, path, fn):
        st = os.stat(path)
        with open(path, 'rb') as f:
            data = f.read()
        with open(path, 'wb') as f:
            f.write(fn(data))
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))

    def test_no_fault(self):
        self.assert_finds([], self.mbx, self.view, SAME)
        self.assert_finds([], self.mbx, self.copy, SAME)
        got, report = self.assert_finds([], self.view, self.copy, SAME)
        totals = report['totals']
        self.assertEqual(got, [])
        self.assertEqual(totals['same'], totals['a']['messages'])
        self.assertEqual(totals['from_mbx'], totals['same'])
        self.assertGreater(totals['same'], 100)
        self.assertEqual(totals['a']['folders'], 18)

    def test_flipped_octet(self):
        def flip(data):
            return data[:40] + bytes([data[40] ^ 1]) + data[41:]
        self.change(self.path('gaps', 17), flip)
        got, _ = self.assert_finds([('alice', 'gaps', 17, 'bytes')],
                                   self.mbx, self.copy)
        self.assertNotEqual(got[0][4], got[0][5])
        self.assertRegex(got[0][4], r'octets, sha256 [0-9a-f]{64}')

    def test_missing_and_extra_message(self):
        os.unlink(self.path('flags', 9))
        self.assert_finds([('alice', 'flags', 9, 'message')], self.mbx,
                          self.copy)
        got, _ = self.assert_finds([('alice', 'flags', 9, 'message')],
                                   self.copy, self.mbx)
        self.assertIsNone(got[0][4])
        self.assertIn('octets', got[0][5])

    def test_swapped_pair(self):
        one, two = self.path('INBOX', 5), self.path('INBOX', 7)
        a, b = open(one, 'rb').read(), open(two, 'rb').read()
        times = [os.stat(p).st_mtime_ns for p in (one, two)]
        for p, data, t in ((one, b, times[1]), (two, a, times[0])):
            with open(p, 'wb') as f:
                f.write(data)
            os.utime(p, ns=(t, t))
        got, _ = self.assert_finds([('alice', 'INBOX', 5, 'swapped')],
                                   self.mbx, self.copy)
        self.assertEqual(got[0][4:], ('5', '7'))

    def test_changed_flag(self):
        self.rename(self.path('flags', 2), ':2,S', ':2,FS')
        got, _ = self.assert_finds([('alice', 'flags', 2, 'flags')],
                                   self.mbx, self.copy)
        self.assertEqual(got[0][4:], ('S', 'FS'))

    def test_lost_keyword(self):
        path = self.path('words', 2)
        self.rename(path, ':2,ab', ':2,a')
        got, _ = self.assert_finds([('alice', 'words', 2, 'keywords')],
                                   self.mbx, self.copy)
        self.assertEqual(got[0][4:], ('$label1,work', 'work'))

    def test_wrong_date(self):
        path = self.path('gaps', 30)
        was = int(os.stat(path).st_mtime)
        os.utime(path, (was, was + 3600))
        got, _ = self.assert_finds([('alice', 'gaps', 30, 'date')], self.mbx,
                                   self.copy)
        self.assertNotEqual(got[0][4], got[0][5])

    def test_wrong_uid(self):
        path = f'{self.top}/alice/.gaps/dovecot-uidlist'
        with open(path, encoding='ascii') as f:
            text = f.read()
        self.assertIn('\n38 ', text)
        text = text.replace('\n38 ', '\n39 ')
        with open(path, 'w', encoding='ascii') as f:
            f.write(text)
        got, _ = self.assert_finds([('alice', 'gaps', 38, 'uid')], self.mbx,
                                   self.copy)
        self.assertEqual(got[0][4:], ('38', '39'))

    def test_uidvalidity_and_uidnext(self):
        path = f'{self.top}/alice/.gaps/dovecot-uidlist'
        with open(path, encoding='ascii') as f:
            head, _, rest = f.read().partition('\n')
        head = re.sub(r'V\d+', 'V7', head)
        head = re.sub(r'N\d+', 'N999', head)
        with open(path, 'w', encoding='ascii') as f:
            f.write(f'{head}\n{rest}')
        got, _ = self.assert_finds([('alice', 'gaps', None, 'uidvalidity'),
                                    ('alice', 'gaps', None, 'uidnext')],
                                   self.mbx, self.copy)
        self.assertEqual(got[0][5], '7')
        self.assertEqual(got[1][5], '999')

    def test_missing_folder_and_user(self):
        shutil.rmtree(f'{self.top}/alice/.a.e')
        self.r.user('bob', 'inbox')
        got, _ = self.assert_finds(
            [('alice', 'a.e', None, 'folder'), ('bob', None, None, 'user'),
             ('bob', 'INBOX', None, 'folder')], self.mbx, self.copy)
        self.assertIn(('bob', 'INBOX', None, 'folder', '9 messages', None),
                      got)
        # Only what was asked for.
        self.assert_finds([('alice', 'a.e', None, 'folder')], self.mbx,
                          self.copy, args=('--user', 'alice'))
        self.assert_finds([], self.mbx, self.copy, SAME,
                          ('--user', 'alice', '--folder', 'gaps',
                           '--folder', 'INBOX'))

    def test_subscriptions(self):
        path = f'{self.top}/alice/subscriptions'
        with open(path, encoding='utf-8') as f:
            lines = f.read().splitlines()
        self.assertIn('a\tb\tc', lines)
        lines.remove('a\tb\tc')
        with open(path, 'w', encoding='utf-8') as f:
            f.write('\n'.join([*lines, 'new']) + '\n')
        got, _ = self.assert_finds(
            [('alice', None, None, 'subscribed')] * 2, self.mbx, self.copy)
        self.assertEqual({g[4:] for g in got},
                         {('a.b.c', None), (None, 'new')})

    def test_line_ends(self):
        self.change(self.path('gaps', 12),
                    lambda data: data.replace(b'\r\n', b'\n'))
        want = [('alice', 'gaps', 12, 'line-ends')]
        self.assert_finds(want, self.mbx, self.copy)
        _, report = self.assert_finds([], self.mbx, self.copy, SAME,
                                      ('--crlf',))
        self.assertEqual(report['totals']['bare_lf'], 1)

    def test_torn_file(self):
        other = self.r.path('torn')
        shutil.copytree(self.r.legacy, other)
        path = f'{other}/alice/mail/gaps'
        with open(path, 'rb') as f:
            at = mbxfile.offsets(f.read())
        os.truncate(path, at[-1] + 10)
        spec = f'mbx:inbox={other}/%u/INBOX,folders={other}/%u/mail'
        got, _ = self.assert_finds(
            [('alice', 'gaps', None, 'damaged'),
             ('alice', 'gaps', 38, 'message')], self.mbx, spec, TROUBLE)
        damage = next(g for g in got if g[3] == 'damaged')
        self.assertIn(str(at[-1]), damage[5])
        # A header that is none: nothing of it is called missing.
        with open(path, 'r+b') as f:
            f.write(b'*mbx*\r\nno number at all')
        self.assert_finds([('alice', 'gaps', None, 'damaged')], self.mbx,
                          spec, TROUBLE)

    def test_one_mailbox_of_one_user(self):
        self.assert_finds([], f'mbx:{self.r.legacy}/alice/INBOX',
                          f'view:{self.r.mnt}/alice', SAME)
        self.assert_finds([], f'mbx:{self.r.legacy}/alice/mail/dates',
                          f'view:{self.r.mnt}', SAME, ('--user', 'alice'))
        for args in (('--user', 'nobody'), ()):
            r = self.r.tool('verify', *args,
                            f'mbx:{self.r.legacy}/alice/INBOX', self.view)
            self.assertEqual(r.returncode, TROUBLE)
            self.assertRegex(r.stderr, 'no user nobody|say which')

    def test_names_that_clash(self):
        for name in ('x.y', 'x_y'):
            self.r.put('alice', f'mail/{name}', mbxfile.mailbox(
                3 if name == 'x.y' else 4))
        self.r.remount()
        self.assert_finds([], self.mbx, self.view, SAME)

    def test_a_folder_that_somebody_renamed(self):
        """UW cannot have a mailbox below another: it keeps its name there."""
        os.rename(f'{self.r.mnt}/alice/.gaps', f'{self.r.mnt}/alice/.flags.x')
        self.assertTrue(os.path.exists(
            self.r.legacy_file('alice', 'mail', 'gaps')))
        self.assert_finds([('alice', 'flags.x', None, 'folder'),
                           ('alice', 'gaps', None, 'folder')],
                          self.mbx, self.view)
        self.assert_finds([], 'mbx:' + self.r.options(), self.view, SAME)

    def test_an_inbox_that_cannot_be_seen(self):
        self.r.unmount()
        path = self.r.legacy_file('alice', 'INBOX')
        os.rename(path, path + '.away')
        os.symlink(path + '.away', path)
        got, _ = self.assert_finds(
            [('alice', None, None, 'unreadable'),
             ('alice', 'INBOX', None, 'folder')], self.mbx, self.copy,
            TROUBLE)
        self.assertIn('symbolic link', got[0][4])

    def test_the_daemons_own_options_will_do(self):
        spec = ('mbx:' + self.r.options() +
                ',mirror=on,scan=touch,lockwait=5')
        self.assert_finds([], spec, self.view, SAME)
        # All of them that there are, too.
        text = harness.run([harness.DAEMON, '--help']).stdout
        words = set(re.findall(r'^  ([a-z]+)=', text, re.M)) - {
            'inbox', 'folders', 'subscriptions', 'dots', 'owner', 'lockdir',
            'lockwait', 'store'}
        self.assertGreater(len(words), 4)
        self.assert_finds(
            [], ','.join([spec, *(f'{w}=x' for w in words)]), self.view, SAME)
        r = self.r.tool('verify', spec + ',bogus=1', self.view)
        self.assertEqual(r.returncode, TROUBLE)
        self.assertIn('bogus', r.stderr)


class Manifests(Verify):
    def setUp(self):
        self.r = self.rig()
        self.r.user('alice', 'inbox', 'flags', 'bodies', 'tail')
        self.r.user('bob', 'inbox', 'names', 'empty')
        self.mbx = (f'mbx:inbox={self.r.legacy}/%u/INBOX,'
                    f'folders={self.r.legacy}/%u/mail')

    def manifest(self, spec, name, status=0):
        r = self.r.tool('manifest', spec)
        self.assertEqual(r.returncode, status, r.stderr)
        path = self.r.path(name)
        with open(path, 'w', encoding='utf-8') as f:
            f.write(r.stdout)
        return path, r.stdout

    def test_two_hosts_and_the_store(self):
        one, text = self.manifest(self.mbx, 'one')
        other = self.r.path('other-host')
        shutil.copytree(self.r.legacy, other)
        two, again = self.manifest(
            f'mbx:inbox={other}/%u/INBOX,folders={other}/%u/mail', 'two')
        self.assertEqual(text, again)
        self.assert_finds([], f'manifest:{one}', f'manifest:{two}', SAME)
        self.assert_finds([], f'manifest:{one}', self.mbx, SAME)
        self.r.mount()
        self.assert_finds([], f'manifest:{one}', f'view:{self.r.mnt}', SAME)
        # And the view's own.
        three, text = self.manifest(f'view:{self.r.mnt}', 'three')
        self.assertEqual(text, again)
        self.r.make('bob', 'deliver', 'mail/Sent')
        uid = 4
        got, _ = self.assert_finds(
            [('bob', 'Sent', uid, 'message'),
             ('bob', 'Sent', None, 'uidnext')], f'manifest:{three}', self.mbx)
        self.assertTrue(got)

    def test_jobs_make_no_difference(self):
        texts = {self.r.tool('manifest', '--jobs', str(n), self.mbx).stdout
                 for n in (1, 2, 7)}
        self.assertEqual(len(texts), 1)
        self.assertIn('\nuser bob\n', texts.pop())

    def test_a_damaged_manifest_is_found(self):
        path, text = self.manifest(self.mbx, 'one')
        cases = {
            'size': text.replace('size=', 'size=1', 1),
            'flag': text.replace('flags=S', 'flags=F', 1),
            'cut': text[:len(text) // 2],
            'line': re.sub(r'\n2 flags[^\n]*', '', text, count=1),
            'root': text.rsplit('root', 1)[0],
            'more': text + 'x\n',
            'none': '',
        }
        for name, bad in cases.items():
            self.assertNotEqual(text, bad)
            with open(path, 'w', encoding='utf-8') as f:
                f.write(bad)
            with self.subTest(name):
                r = self.r.tool('verify', f'manifest:{path}', self.mbx)
                self.assertEqual(r.returncode, TROUBLE, r.stdout)
                self.assertRegex(r.stderr, r'line \d+: ')

    def test_damage_is_in_the_manifest(self):
        path = self.r.legacy_file('alice', 'mail', 'flags')
        os.truncate(path, os.path.getsize(path) - 5)
        one, text = self.manifest(self.mbx, 'one', 65)
        self.assertRegex(text, r'folder flags .* damage=record\\x20at')
        self.assert_finds([('alice', 'flags', None, 'damaged')] * 2,
                          f'manifest:{one}', self.mbx, TROUBLE)


class Terminal(Verify):
    def test_how_far_it_is(self):
        """On a terminal a line says so, and is gone at the end."""
        self.r = self.rig()
        for n in range(6):
            self.r.user(f'user{n}', 'many' if n == 3 else 'inbox')
        spec = (f'mbx:inbox={self.r.legacy}/%u/INBOX,'
                f'folders={self.r.legacy}/%u/mail')
        master, slave = pty.openpty()
        proc = subprocess.Popen(
            [harness.TOOL, 'manifest', '--jobs', '1', spec], stderr=slave,
            stdout=subprocess.DEVNULL, env={**os.environ, **self.r.env()})
        os.close(slave)
        text = b''
        with contextlib.suppress(OSError):      # EIO at its end
            while part := os.read(master, 4096):
                text += part
        os.close(master)
        self.assertEqual(proc.wait(harness.WAIT), 0, text)
        shown = re.findall(r'\r(\d+) %, (\d) of 6 users, ([\d,]+) messages, '
                           r'[\d,]+/s, \S+ left\x1b\[K', text.decode())
        self.assertTrue(shown, text)
        self.assertEqual([int(s[0]) for s in shown],
                         sorted(int(s[0]) for s in shown))
        self.assertTrue(all(int(s[0]) <= 100 for s in shown))
        self.assertTrue(text.endswith(b'\r\x1b[K'), text[-40:])


class Live(Verify):
    def test_what_dovecot_delivered(self):
        """Mirrored, and with mirror=off: the totals say where it came from."""
        harness.need_dovecot()
        self.r = self.rig()
        self.r.user('alice', 'inbox')
        self.r.mount()
        dovecot = self.r.dovecot()
        m = dovecot.imap('alice')
        m.select('INBOX')
        mbx = (f'mbx:inbox={self.r.legacy}/%u/INBOX,'
               f'folders={self.r.legacy}/%u/mail')
        view = f'view:{self.r.mnt}'

        def send(count):
            for n in range(count):
                with smtplib.LMTP('127.0.0.1', dovecot.lmtp_port) as lmtp:
                    lmtp.sendmail('x@example.test', ['alice'],
                                  f'Subject: {n}\r\n\r\nDelivered.\r\n')

        def mirrored():
            d = self.r.folder_status('alice', 'INBOX')['delivered']
            return d['mirrored'] == 3 and d['waiting'] == 0
        send(3)
        m.select('INBOX')
        harness.wait_for('the mirror', mirrored)
        m.store('2', '+FLAGS', r'(\Flagged $Work)')
        _, report = self.assert_finds([], mbx, view, SAME)
        totals = report['totals']
        # Dovecot writes bare LF, the MBX has CR LF.
        self.assertEqual((totals['from_mbx'], totals['delivered'],
                          totals['bare_lf']), (9, 3, 3))
        m.logout()
        self.r.remount(options=self.r.options(mirror='off'))
        m = dovecot.imap('alice')
        send(2)
        m.select('INBOX')
        m.logout()
        self.assert_finds([('alice', 'INBOX', 14, 'message'),
                           ('alice', 'INBOX', 15, 'message')], mbx, view)
        text = self.r.tool('verify', mbx, view).stdout
        self.assertIn('B: 14 = 12 the same + 2 delivered since', text)
        self.assertIn('B: 14 = 9 out of the MBX + 5 delivered since', text)

    def test_what_native_dovecot_wrote(self):
        harness.need_dovecot()
        self.r = self.rig()
        self.r.users['alice'] = harness.FIRST_UID
        root = self.r.path('native')
        os.mkdir(root)
        os.chmod(root, 0o777)
        dovecot = self.r.dovecot(location=f'maildir:{root}/%n')
        m = dovecot.imap('alice')
        m.create('Sub')
        for box in ('INBOX', 'Sub'):
            for n in range(5):
                m.append(box, r'(\Seen $Work)' if n % 2 else None, None,
                         f'Subject: {n}\n\nin {box}\n'.encode())
        m.subscribe('Sub')
        m.select('INBOX')
        m.store('1', '+FLAGS', r'(\Answered)')
        m.logout()
        self.assert_finds([], f'maildir:{root}', f'maildir:{root}/alice',
                          SAME, ('--user', 'alice'))
        r = self.r.tool('manifest', f'maildir:{root}')
        self.assertEqual(r.returncode, 0, r.stderr)
        with open(self.r.path('list'), 'w', encoding='utf-8') as f:
            f.write(r.stdout)
        m = dovecot.imap('alice')
        m.select('Sub')
        m.store('3', '+FLAGS', r'(\Deleted)')
        m.logout()
        got, _ = self.assert_finds([('alice', 'Sub', 3, 'flags')],
                                   f'manifest:{self.r.path("list")}',
                                   f'maildir:{root}')
        self.assertEqual(got[0][4:], ('-', 'T'))

    def test_nothing_is_disturbed(self):
        self.r = self.rig()
        self.r.user('alice', 'inbox', 'flags', 'tail')
        harness.age(self.r.legacy)
        before = harness.snapshot(self.r.legacy)
        mbx = (f'mbx:inbox={self.r.legacy}/%u/INBOX,'
               f'folders={self.r.legacy}/%u/mail')
        self.assert_finds([], mbx, mbx, SAME)
        self.assert_same(before, harness.snapshot(self.r.legacy))


if __name__ == '__main__':
    harness.main()
