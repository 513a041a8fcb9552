#!/usr/bin/python3
"""An operation that writes to an MBX is stopped before each of its steps; what
c-client then finds is the state before or the state after.

One thing cannot be so: UIDLAST and the UIDs of records that have none yet
cannot change at once. In between, and only for such records, c-client predicts
numbers higher than before; they were never anybody's."""

import os
import shutil
import sys

sys.path[:0] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                os.path.join(os.path.dirname(os.path.dirname(
                    os.path.abspath(__file__))), 'oracle')]
import harness  # noqa: E402
import mbxfile  # noqa: E402
import writer  # noqa: E402

SMALL = b'Subject: new\n\nOne line.\nAnother.\r\n'
LARGE = b'Subject: large\n\n' + b'A line of some length.\n' * 30000


def read(path):
    with open(path, 'rb') as f:
        return f.read()


class Steps(harness.Case):
    def setUp(self):
        writer.need()
        self.home = writer.Home(self)
        self.home.make('tail')      # 5 with UIDs, 7 without
        self.home.make('keywords')
        self.small = self.home.put('small', SMALL)
        self.large = self.home.put('large', LARGE)

    def look(self, path):
        dump = harness.cc_dump(path)
        self.assertEqual(len(dump), 1)
        return next(iter(dump.values()))

    def fresh(self, scenario):
        path = self.home.path('mail', 'box')
        if os.path.exists(path):
            os.unlink(path)
        shutil.copy(self.home.path('mail', scenario), path)
        return path

    def through(self, scenario, commands):
        """Stop before every step; for each stop (dump, octets). The states
        after each whole command come first."""
        states = []
        for k in range(len(commands) + 1):
            path = self.fresh(scenario)
            part = commands[:k]
            if 'begin' in part and 'end' not in part:
                part = part + ['end']
            self.assertEqual(writer.stop_at(path, part, 0), 0)
            states.append((self.look(path), read(path)))
        stops = []
        for n in range(1, 100):
            path = self.fresh(scenario)
            if writer.stop_at(path, commands, n) == 0:
                break
            stops.append((self.look(path), read(path)))
            self.goes_on(path, stops[-1][0])
        else:
            self.fail('it does not end')
        return states, stops

    def goes_on(self, path, found):
        """A read/write session of c-client takes it as it is, and so do we."""
        s = writer.Session(self, self.home, 'mail/box')
        s.quit()
        after = self.look(path)
        self.assertEqual(after['uidvalidity'], found['uidvalidity'])
        self.assert_same(found['mail'], after['mail'])
        self.assertEqual(writer.stop_at(
            path, [f'append {self.small} 0', 'assign', 'sync'], 0), 0)
        last = self.look(path)
        self.assertEqual(last['uidvalidity'], found['uidvalidity'])
        self.assertEqual(last['messages'], found['messages'] + 1)
        for uid, facts in found['mail'].items():
            self.assertEqual(last['mail'][uid], facts)

    def check(self, scenario, commands, at_least):
        """Every stop shows one of the states; no UID differs."""
        states, stops = self.through(scenario, commands)
        self.assertGreaterEqual(len(stops), at_least)
        first, final = states[0][0], states[-1][0]
        for n, (found, octets) in enumerate(stops, 1):
            with self.subTest(step=n):
                self.assertEqual(found['uidvalidity'], first['uidvalidity'])
                self.assertIn(found['mail'], [s[0]['mail'] for s in states])
                self.assertLessEqual(first['uidnext'], found['uidnext'])
                self.assertLessEqual(found['uidnext'], final['uidnext'])
                self.assertIn(mbxfile.keyword_table(octets),
                              [mbxfile.keyword_table(s[1]) for s in states])
                self.assertEqual(octets[2038:2048], states[0][1][2038:2048])
        return states, stops

    def check_numbers(self, scenario, commands, at_least):
        """As check(), but records without a UID may have higher numbers."""
        states, stops = self.through(scenario, commands)
        self.assertGreaterEqual(len(stops), at_least)
        first = states[0][0]
        disk = {r['uid'] for r in mbxfile.records(states[0][1])}
        shapes = [self.shape(s[0]) for s in states]
        for n, (found, octets) in enumerate(stops, 1):
            with self.subTest(step=n):
                self.assertEqual(found['uidvalidity'], first['uidvalidity'])
                self.assertIn(self.shape(found), shapes)
                for uid in found['mail']:
                    if uid not in disk:
                        self.assertGreater(uid, max(disk))
                self.assertLessEqual(disk - {0}, {
                    r['uid'] for r in mbxfile.records(octets)})
                # What has a number on disk has the one that was predicted.
                wanted = [r['uid'] for r in mbxfile.records(states[-1][1])]
                for i, r in enumerate(mbxfile.records(octets)):
                    if r['uid']:
                        self.assertEqual(r['uid'], wanted[i])
        return states, stops

    @staticmethod
    def shape(folder):
        """Messages in order, without their UIDs."""
        return [folder['mail'][uid] for uid in sorted(folder['mail'])]

    def test_flags(self):
        states, _ = self.check('keywords', ['flag 3 +\\Seen +\\Flagged'], 2)
        self.assertEqual(states[1][0]['mail'][3]['flags'], 'FS')

    def test_a_new_keyword(self):
        states, _ = self.check('tail', ['keyword Fresh'], 2)
        self.assertEqual(mbxfile.keyword_table(states[1][1]), ['Fresh'])

    def test_flags_with_a_new_keyword(self):
        states, _ = self.check('tail', [
            'keyword Fresh', 'keyword Other',
            'flag 3 +\\Seen +Fresh +Other'], 6)
        self.assertEqual(states[3][0]['mail'][3]['keywords'], 'fresh,other')

    def test_expunge(self):
        states, _ = self.check('keywords', ['expunge 3'], 2)
        self.assertNotIn(3, states[1][0]['mail'])

    def test_expunge_without_uid(self):
        states, _ = self.check_numbers('tail', ['expunge 8'], 8)
        self.assertEqual(sorted(states[1][0]['mail']),
                         [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12])

    def test_assign(self):
        states, _ = self.check_numbers('tail', ['assign'], 10)
        self.assertNotIn(0, [r['uid'] for r in
                             mbxfile.records(states[1][1])])
        self.assert_same(states[0][0]['mail'], states[1][0]['mail'])

    def test_reserve(self):
        states, _ = self.check('keywords', ['reserve 90'], 3)
        self.assertEqual(states[1][0]['uidnext'], 91)
        states, _ = self.check_numbers('tail', ['reserve 90'], 12)
        self.assertEqual(sorted(states[1][0]['mail']), [*range(1, 13)])
        self.assertEqual(states[1][0]['uidnext'], 91)

    def test_append_without_uid(self):
        for scenario in ('keywords', 'tail'):
            states, _ = self.check(scenario, [f'append {self.small} 0'], 3)
            self.assertEqual(states[1][0]['messages'],
                             states[0][0]['messages'] + 1)

    def test_append_with_uid(self):
        states, _ = self.check('keywords', [
            f'append {self.small} 60 +\\Seen +Label7'], 5)
        self.assertEqual(states[1][0]['mail'][60]['keywords'], 'label7')
        self.assertEqual(states[1][0]['uidnext'], 61)

    def test_append_with_uid_behind_some_without(self):
        states, _ = self.check_numbers('tail', [f'append {self.small} 60'],
                                       12)
        self.assertEqual(sorted(states[1][0]['mail']),
                         [*range(1, 13), 60])

    def test_append_of_a_large_message(self):
        states, _ = self.check('keywords', [f'append {self.large} 0'], 3)
        self.assertEqual(states[1][0]['mail'][35]['size'],
                         str(len(LARGE) + LARGE.count(b'\n')))

    def test_many_under_one_lock(self):
        # Fields in place: 4 steps. The append: UIDLAST and the record, each
        # with its fsync, which is for the others too. The times: once.
        states, stops = self.check('keywords', [
            'begin', 'flag 1 +\\Draft', 'flag 1 -$Forwarded', 'expunge 4',
            'flag 5 +\\Answered', f'append {self.small} 70', 'end', 'sync'],
            9)
        self.assertEqual(len(stops), 9)
        self.assertEqual(len(states[0][0]['mail']),
                         len(states[-1][0]['mail']))

    def test_touch_and_sync(self):
        states, _ = self.check('keywords', ['flag 3 +\\Seen', 'sync',
                                            'touch'], 4)
        self.assertEqual(states[1][0]['mail'], states[3][0]['mail'])


if __name__ == '__main__':
    harness.main()
