#!/usr/bin/python3
"""janusmail convert, stopped before each of its steps, killed, interrupted:
what has its name is whole, and run again it ends the same."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle')]
import harness  # noqa: E402
import mbxfile  # noqa: E402
from harness_convert import (  # noqa: E402
    ALL, STOPPED, TROUBLE, convert, names_of, read, spec, tree,
    without_numbers)


class Stops(harness.Case):
    """Stopped before each of its steps."""

    MOST = 150

    def check_partial(self, root, whole):
        """Whatever has a name is whole."""
        if not os.path.exists(os.path.join(root, 'new')):
            return
        found = {}
        for folder in [''] + [n for n in os.listdir(root) if n[0] == '.']:
            for sub in ('cur', 'new'):
                d = os.path.join(root, folder, sub)
                for name in os.listdir(d) if os.path.isdir(d) else ():
                    st = os.stat(os.path.join(d, name))
                    found[f'{folder}/{sub}/{name}'] = (
                        st.st_mtime_ns, st.st_size, st.st_uid, st.st_mode,
                        hashlib.sha256(read(os.path.join(d, name)))
                        .hexdigest())
        for name, facts in without_numbers(found).items():
            self.assertEqual(whole.get(name), facts, name)

    def stop_everywhere(self, rig, make, at_least):
        """make() has the tree as it is before; returns when a run got
        through."""
        make()
        before = tree(rig.path('out', 'alice')) \
            if os.path.exists(rig.path('out')) else {}
        convert(rig)
        whole = tree(rig.path('out', 'alice'))
        for n in range(1, self.MOST):
            shutil.rmtree(rig.path('out'), True)
            make()
            r = harness.run([harness.TOOL, 'convert', spec(rig),
                             rig.path('out')], timeout=60,
                            env={**rig.env(), 'IO_STOP_AT': str(n)})
            if r.returncode == ALL:
                self.assertGreaterEqual(n, at_least)
                return
            self.assertEqual(r.returncode, STOPPED, r.stderr)
            where = r.stderr.rpartition('stopped before step')[2]
            with self.subTest(step=n, before=where.strip()):
                self.check_partial(rig.path('out', 'alice'),
                                   {**before, **whole})
                convert(rig)
                self.assert_same(whole, tree(rig.path('out', 'alice')))
        self.fail('it never got through')

    def legacy(self):
        rig = self.rig()
        rig.user('alice')
        rig.put('alice', 'INBOX', mbxfile.header(uidlast=9, keywords=['One'])
                + mbxfile.record(mbxfile.text(1), 1, mbxfile.SEEN, 1)
                + mbxfile.record(mbxfile.text(2), 4, 0))
        rig.put('alice', 'mail/box', mbxfile.mailbox(2))
        rig.put('alice', '.mailboxlist', b'INBOX\nmail/box\n')
        return rig

    def test_the_first_run(self):
        rig = self.legacy()
        self.stop_everywhere(rig, lambda: None, 40)

    def test_a_later_run(self):
        rig = self.legacy()
        box = rig.legacy_file('alice', 'mail/box')

        def make():
            """A tree, and then other flags, an expunge, and a new message."""
            rig.put('alice', 'mail/box', mbxfile.mailbox(2))
            convert(rig)
            with open(box, 'r+b') as f:
                for pos, flags in zip(mbxfile.offsets(read(box)),
                                      (b'0014', b'8010')):
                    f.seek(pos)
                    f.seek(pos + len(f.readline()) - 15)
                    f.write(flags)
                f.seek(0, os.SEEK_END)
                f.write(mbxfile.record(mbxfile.text(3), 3))
                f.seek(15)
                f.write(b'00000003')
        self.stop_everywhere(rig, make, 15)

    def test_killed_in_the_middle(self):
        rig = self.rig()
        rig.user('alice')
        rig.put('alice', 'INBOX', mbxfile.mailbox(3000))
        convert(rig, to='whole')
        for after in (0.05, 0.15, 0.3):
            proc = subprocess.Popen(
                [harness.TOOL, 'convert', '--limit-rate', '1m', spec(rig),
                 rig.path('out')], stdout=subprocess.DEVNULL)
            time.sleep(after)   # where it is hit does not matter
            proc.kill()
            proc.wait()
        convert(rig)
        self.assert_same(tree(rig.path('whole', 'alice')),
                         tree(rig.path('out', 'alice')))

    def test_an_interrupt_is_an_orderly_end(self):
        rig = self.rig()
        rig.user('alice')
        rig.put('alice', 'INBOX', mbxfile.mailbox(2000))
        proc = subprocess.Popen(
            [harness.TOOL, 'convert', '--limit-rate', '50k', spec(rig),
             rig.path('out')], stdout=subprocess.PIPE, text=True)
        harness.wait_for('it to begin', lambda: os.path.isdir(
            rig.path('out', 'alice', 'tmp')))
        proc.send_signal(signal.SIGTERM)
        self.assertIn('interrupted', proc.communicate(timeout=harness.WAIT)[0])
        self.assertEqual(proc.returncode, TROUBLE)
        self.assertEqual(os.listdir(rig.path('out', 'alice', 'tmp')), [])
        convert(rig)
        self.assertEqual(len(names_of(rig.path('out', 'alice'))), 2000)


if __name__ == '__main__':
    harness.main()
