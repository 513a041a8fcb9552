#!/usr/bin/python3
"""The index is a cache (law 1), and reading leaves no trace (law 9)."""

import hashlib
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402


def view_facts(root):
    """Names, inode numbers, attributes and octets of a mounted tree; what
    Dovecot may rewrite, and access times, are left out."""
    facts = {}
    for path, dirs, files in os.walk(root):
        dirs.sort()
        for name in dirs + files:
            full = os.path.join(path, name)
            st = os.lstat(full)
            if name.startswith(('dovecot', 'subscriptions', 'maildirfolder')):
                continue
            entry = {'ino': st.st_ino, 'mode': oct(st.st_mode),
                     'owner': st.st_uid}
            if name in files:
                with open(full, 'rb') as f:
                    entry['sha256'] = hashlib.sha256(f.read()).hexdigest()
                entry['size'] = st.st_size
                entry['mtime'] = st.st_mtime_ns
            elif name in ('cur', 'new'):
                entry['mtime'] = st.st_mtime_ns
            facts[os.path.relpath(full, root)] = entry
    return facts


def imap_facts(dovecot, user):
    m = dovecot.imap(user)
    names = sorted(line.split(b' "." ')[1].decode().strip('"')
                   for line in m.list()[1] if b'Noselect' not in line)
    facts = {name: harness.imap_folder(m, name) for name in names}
    m.logout()
    for f in facts.values():
        for mail in f['mail'].values():
            mail['flags'] -= {'\\Recent'}
    return facts


class Laws(harness.Case):
    def rig_with_users(self):
        rig = self.rig()
        rig.user('alice', 'inbox', 'flags', 'keywords', 'tail', 'recent',
                 'holes', 'names')
        rig.user('bob', 'inbox', 'bodies')
        return rig

    def test_the_index_is_a_cache(self):
        harness.need_dovecot()
        rig = self.rig_with_users()
        seen, served, times = [], [], []
        for turn in range(3):
            rig.mount()
            dovecot = rig.dovecot()
            served.append({u: imap_facts(dovecot, u) for u in rig.users})
            dovecot.stop()
            seen.append(view_facts(rig.mnt))
            rig.unmount()
            if turn == 0:
                shutil.rmtree(rig.index)
        self.assertGreater(len(seen[0]), 150)
        self.assert_same(seen[1], seen[2], 'after a plain remount')
        # What remembers the times of directories is gone with the index; they
        # must not go back.
        for facts in seen[0], seen[1]:
            times.append({path: e.pop('mtime') for path, e in facts.items()
                          if e['mode'].startswith('0o40') and 'mtime' in e})
        for path, mtime in times[0].items():
            self.assertGreaterEqual(times[1][path], mtime, path)
        self.assert_same(seen[0], seen[1], 'after the index was deleted')
        for user in rig.users:
            for turn in (1, 2):
                self.assert_same(served[0][user], served[turn][user], user)

    def test_dumps_without_an_index(self):
        rig = self.rig_with_users()
        rig.mount()
        first = rig.dump(f'view:{rig.mnt}/alice')
        rig.unmount()
        shutil.rmtree(rig.index)
        rig.mount()
        self.assert_same(first[0], rig.dump(f'view:{rig.mnt}/alice')[0])
        r = rig.tool('check', rig.index)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)

    def test_reading_leaves_no_trace(self):
        harness.need_dovecot()
        rig = self.rig_with_users()
        harness.age(rig.legacy)
        before = harness.snapshot(rig.legacy)
        rig.mount()
        dovecot = rig.dovecot()
        for user in rig.users:
            self.assertGreater(len(imap_facts(dovecot, user)), 1)
            rig.dump(f'view:{rig.mnt}/{user}')
            rig.dump(f'mbx:{rig.legacy}/{user}/mail')
        rig.status()
        dovecot.stop()
        view_facts(rig.mnt)
        rig.unmount()
        self.assert_same(before, harness.snapshot(rig.legacy))

    def test_the_snapshot_would_notice(self):
        """The test above is worth something: each kind of trace shows."""
        rig = self.rig()
        rig.user('alice', 'inbox')
        path = rig.legacy_file('alice', 'INBOX')
        harness.age(rig.legacy)
        before = harness.snapshot(rig.legacy)
        self.assert_same(before, harness.snapshot(rig.legacy))
        with open(path, 'rb') as f:
            f.read()
        read = harness.snapshot(rig.legacy)
        if os.statvfs(path).f_flag & os.ST_NOATIME == 0:
            self.assertIn('atime', harness.difference(before, read))
        st = os.stat(path)
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
        self.assertIn('ctime', harness.difference(
            before, harness.snapshot(rig.legacy)))
        with open(path, 'r+b') as f:
            f.seek(100)
            f.write(b'#')
        self.assertIn('sha256', harness.difference(
            before, harness.snapshot(rig.legacy)))


if __name__ == '__main__':
    harness.main()
