#!/usr/bin/python3
"""Places that messages have left: a message that somebody has open is read as
itself or not at all, whatever lies now where it was found. What UW does to the
mailbox is done by hand here, under UW's locks, so that the daemon cannot look
in between."""

import os
import sys
import threading

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle')]
import harness      # noqa: E402
import mbxfile      # noqa: E402

BUSY = 'INBOX: cannot be brought up to date: '
VALIDITY = 0x4b3d5a10       # mbxfile's


def text(word):
    """All of the same size."""
    return b'Subject: %-8s\r\n\r\n%s\r\n' % (word.encode(),
                                           (word * 400)[:1200].encode())


class Stale(harness.Case):
    def serve(self, *records, uidlast, lockwait=1):
        self.r = self.rig()
        self.r.user('anna')
        self.path = self.r.put('anna', 'INBOX', mbxfile.header(
            uidlast=uidlast) + b''.join(records))
        self.r.mount(self.r.options(lockwait=lockwait))
        self.top = f'{self.r.mnt}/anna'
        self.open = {}
        for sub in ('new', 'cur'):
            for name in os.listdir(f'{self.top}/{sub}'):
                fd = os.open(f'{self.top}/{sub}/{name}', os.O_RDONLY)
                self.addCleanup(os.close, fd)
                self.open[int(name.split('.')[0])] = fd

    def write(self, f, *records, uidlast, uidvalidity=VALIDITY):
        f.seek(0)
        f.write(mbxfile.header(uidvalidity, uidlast) + b''.join(records))
        f.truncate()
        f.flush()

    def read(self, uid):
        """What is read now, past what the kernel remembers; None: nothing."""
        fd = self.open[uid]
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        try:
            return os.pread(fd, 1 << 20, 0)
        except OSError:
            return None

    def never_other_while_locked(self, uid, word):
        """The daemon cannot look at the mailbox anew, and says so."""
        self.assertIsNone(self.never_other(uid, word))
        if BUSY not in self.r.expected:
            self.r.expect_log(BUSY)

    def never_other(self, uid, word):
        got = self.read(uid)
        self.assertTrue(got in (text(word), None), f'UID {uid}: {got[:30]}'
                        if got else '')
        return got

    def test_one_without_a_uid_where_another_was(self):
        """Date, size and the missing UID are the same; nothing else tells."""
        a, b, c = (mbxfile.record(text(w), 0, 0) for w in
                   ('first', 'second', 'third'))
        self.serve(a, b, uidlast=4)
        self.assertEqual(sorted(self.open), [5, 6])
        with mbxfile.locked(self.path) as f:
            # UW opens it, expunges the first one, and mail comes in.
            self.write(f, mbxfile.record(text('second'), 6), c, uidlast=6)
            self.never_other_while_locked(6, 'second')
            self.never_other_while_locked(5, 'first')
        self.assertEqual(self.read(6), text('second'))
        self.assertIsNone(self.never_other(5, 'first'))

    def test_one_whose_uid_came_meanwhile_is_read_on(self):
        self.serve(mbxfile.record(text('first'), 0, 0),
                   mbxfile.record(text('second'), 0, 0), uidlast=4)
        with mbxfile.locked(self.path) as f:
            self.write(f, mbxfile.record(text('first'), 5),
                       mbxfile.record(text('second'), 6),
                       mbxfile.record(text('third'), 0, 0), uidlast=6)
            self.assertEqual(self.read(5), text('first'))
            self.assertEqual(self.read(6), text('second'))

    def test_a_line_that_somebody_wrote_into_a_mail(self):
        """The body of a mail has what looks like the record of another one,
        and compaction moves it to where that one was."""
        forged = mbxfile.record(text('forged'), 2)
        real = mbxfile.record(text('real'), 2)
        before = mbxfile.record(text('before'), 1)
        carrier = b'Subject: carrier\r\n\r\n'
        carrier += b'x' * (len(before) - len(mbxfile.line(9999, 3))
                           - len(carrier)) + forged * 2
        self.serve(before, real, mbxfile.record(carrier, 3), uidlast=3)
        self.assertEqual(self.read(2), text('real'))
        with mbxfile.locked(self.path) as f:
            self.write(f, mbxfile.record(carrier, 3), uidlast=3)
            # The place is right to the octet.
            f.seek(mbxfile.HEADER + len(before))
            self.assertEqual(f.read(len(forged)), forged)
            self.never_other_while_locked(2, 'real')
        self.assertIsNone(self.never_other(2, 'real'))
        self.assertEqual(self.read(3), carrier)

    def test_the_place_and_the_uid_of_another_regime(self):
        self.serve(*(mbxfile.record(text(w), n + 1) for n, w in
                     enumerate(('first', 'second', 'third'))), uidlast=3)
        with mbxfile.locked(self.path) as f:
            self.write(f, mbxfile.record(text('second'), 1),
                       mbxfile.record(text('third'), 2),
                       mbxfile.record(text('fourth'), 3),
                       uidlast=3, uidvalidity=VALIDITY + 9)
            for uid, word in enumerate(('first', 'second', 'third')):
                self.never_other_while_locked(uid + 1, word)
        os.listdir(f'{self.top}/cur')
        self.r.expect_log('UW has reset UIDVALIDITY')

    def test_a_reader_who_waits_while_uids_start_anew(self):
        """Who waits for the look at the mailbox is not given the message that
        has the UID of his."""
        words = ('first', 'second', 'third')
        self.serve(*(mbxfile.record(text(w), n + 1)
                     for n, w in enumerate(words)), uidlast=3, lockwait=20)
        got = {}

        def reader(uid):
            got[uid] = self.read(uid)
        with mbxfile.locked(self.path) as f:
            self.write(f, mbxfile.record(text('second') + b'.', 1),
                       mbxfile.record(text('third') + b'.', 2),
                       mbxfile.record(text('fourth') + b'.', 3),
                       uidlast=3, uidvalidity=VALIDITY + 9)
            crowd = [threading.Thread(target=reader, args=(uid + 1,))
                     for uid in range(len(words))]
            for t in crowd:
                t.start()
            for t in crowd:
                t.join(0.5)
        for t in crowd:
            t.join(30)
        self.r.expect_log('UW has reset UIDVALIDITY')
        for uid, word in enumerate(words):
            self.assertTrue(got[uid + 1] in (None, text(word)), got[uid + 1])
            self.assertIsNone(self.never_other(uid + 1, word))

    def test_an_expunged_one_whose_place_is_another_s(self):
        """One that is gone is read on by who has it open, until its octets
        are."""
        self.serve(mbxfile.record(text('first'), 1),
                   mbxfile.record(text('second'), 2),
                   mbxfile.record(text('third'), 3), uidlast=3)
        gone = mbxfile.EXPUNGED | mbxfile.DELETED | mbxfile.OLD
        with mbxfile.locked(self.path) as f:
            self.write(f, mbxfile.record(text('first'), 1),
                       mbxfile.record(text('second'), 2, gone),
                       mbxfile.record(text('third'), 3), uidlast=3)
        harness.wait_for('the expunge', lambda: not any(
            n.startswith('2.') for n in os.listdir(f'{self.top}/cur')))
        self.assertEqual(self.read(2), text('second'))
        with mbxfile.locked(self.path) as f:
            self.write(f, mbxfile.record(text('first'), 1),
                       mbxfile.record(text('third'), 3), uidlast=3)
            self.never_other_while_locked(2, 'second')
            self.never_other_while_locked(3, 'third')
        self.assertIsNone(self.never_other(2, 'second'))
        self.assertEqual(self.read(3), text('third'))


if __name__ == '__main__':
    harness.main()
