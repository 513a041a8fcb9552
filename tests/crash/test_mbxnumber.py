#!/usr/bin/python3
"""UIDs and UIDVALIDITY put back, stopped before every step: c-client finds
ascending UIDs and no reason to number anew, and in the end it is done."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
sys.path.insert(0, os.path.join(harness.TESTS, 'oracle'))
import mbxfile  # noqa: E402
import writer  # noqa: E402

OLD, NEW = 0x4b3d5a10, 0x4a000001
GONE = mbxfile.EXPUNGED | mbxfile.DELETED | mbxfile.OLD


def mailbox(records, uidlast):
    """Pairs of UID and whether it is expunged."""
    return mbxfile.header(OLD, uidlast) + b''.join(
        mbxfile.record(mbxfile.text(n), uid, GONE if gone else mbxfile.OLD)
        for n, (uid, gone) in enumerate(records))


class Renumber(harness.Case):
    def setUp(self):
        writer.need()
        self.home = writer.Home(self)

    def look(self):
        dump = list(harness.cc_dump(self.path).values())[0]
        return dump['uidvalidity'], sorted(dump['mail'])

    def read(self):
        with open(self.path, 'rb') as f:
            return f.read()

    def session(self):
        """Whatever c-client would mend it mends now."""
        writer.Session(self, self.home, 'mail/box').quit()

    def every_step(self, records, uidlast, want, at_least):
        data = mailbox(records, uidlast)
        texts = [r['text'] for r in mbxfile.records(data)]
        numbers = {OLD: [uid for uid, gone in records if not gone], NEW: want}
        command = [f'renumber {NEW} 50 ' + ' '.join(map(str, want))]
        for n in range(1, 100):
            self.path = self.home.put('mail/box', data)
            status = writer.stop_at(self.path, command, n)
            found = self.read()
            with self.subTest(step=n):
                self.check(found, texts)
                # Whoever knows either UIDVALIDITY finds the UIDs he knows.
                validity, uids = self.look()
                self.assertEqual(uids, numbers.get(validity, uids))
                self.assertEqual(writer.stop_at(self.path, command, 0), 0)
                self.assertEqual(self.look(), (NEW, want))
                self.check(self.read(), texts)
                self.assertGreaterEqual(int(self.read()[15:23], 16), 50)
                self.session()
                self.assertEqual(self.look(), (NEW, want))
            if status == 0:
                self.assertGreaterEqual(n, at_least)
                return
        self.fail('it does not end')

    def check(self, found, texts):
        records = mbxfile.records(found)
        self.assertEqual([r['text'] for r in records], texts)
        uids = [r['uid'] for r in records if r['uid']]
        self.assertEqual(uids, sorted(set(uids)))
        self.assertLessEqual(max(uids), int(found[15:23], 16))

    def test_numbers_grow(self):
        self.every_step([(n, False) for n in (1, 2, 3, 4, 5)], 5,
                        [3, 5, 8, 9, 12], 8)

    def test_numbers_shrink(self):
        self.every_step([(n, False) for n in (31, 32, 33, 34)], 60,
                        [3, 5, 8, 34], 6)

    def test_some_grow_and_some_shrink_among_expunged_ones(self):
        self.every_step([(2, True), (3, False), (7, True), (8, True),
                         (9, False), (30, False), (31, True)], 31,
                        [4, 8, 10], 8)

    def refused(self, command, error, data):
        self.path = self.home.put('mail/box', data)
        ours = writer.Ours(self, self.path)
        self.assertEqual(ours.ask(command), ['no', error])
        ours.quit()
        self.assertEqual(self.read(), data)

    def test_no_room_between_them(self):
        self.refused(f'renumber {NEW} 0 4 5', 'ERANGE',
                     mailbox([(1, False), (2, True), (3, False)], 3))

    def test_numbers_that_do_not_ascend(self):
        self.refused(f'renumber {NEW} 0 5 5', 'ERANGE',
                     mailbox([(1, False), (3, False)], 3))

    def test_a_session_has_it_open(self):
        data = mailbox([(1, False), (3, False)], 3)
        self.path = self.home.put('mail/box', data)
        session = writer.Session(self, self.home, 'mail/box')
        data = self.read()
        ours = writer.Ours(self, self.path)
        self.assertEqual(ours.ask(f'renumber {NEW} 0 5 6'), ['no', 'EBUSY'])
        self.assertEqual(self.read(), data)
        session.quit()
        ours.do(f'renumber {NEW} 0 5 6')
        self.assertEqual(self.look(), (NEW, [5, 6]))
        ours.quit()


if __name__ == '__main__':
    harness.main()
