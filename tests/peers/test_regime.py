#!/usr/bin/python3
"""UIDLAST below a UID in use, messages numbered anew: mended, and not seen by
Dovecot's clients."""

import fcntl
import os
import sys
import threading
import time
import types

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402
import harness_files  # noqa: E402
sys.path.insert(0, os.path.join(harness.TESTS, 'oracle'))
import mbxfile  # noqa: E402
import writer  # noqa: E402

VALIDITY = 0x4b3d5a10


class Regime(harness.Case):
    def setUp(self):
        super().setUp()
        self.r = self.rig()
        self.r.user('alice')

    def box(self):
        with open(self.path, 'rb') as f:
            return f.read()

    def put(self, data):
        self.path = self.r.put('alice', 'mail/box', data)
        return data

    def uids(self):
        top = f'{self.r.mnt}/alice/.box'
        return sorted(int(n.split('.')[0]) for sub in ('cur', 'new')
                      for n in os.listdir(f'{top}/{sub}'))

    def session_of_uw(self):
        """What c-client makes of it, read-write; it must keep the regime."""
        self.r.make('alice', 'deliver', 'mail/box')
        dump = list(harness.cc_dump(self.path).values())[0]
        self.assertEqual(dump['uidvalidity'], VALIDITY)
        return sorted(dump['mail'])

    def test_it_is_raised_and_nothing_else_changes(self):
        data = self.put(mbxfile.mailbox(5, uids=[1, 2, 7, 8, 11], uidlast=3))
        self.r.mount()
        self.assertEqual(self.uids(), [1, 2, 7, 8, 11])
        now = self.box()
        self.assertEqual(now[15:23], b'%08x' % 11)
        self.assertEqual(now[:15] + now[23:], data[:15] + data[23:])
        self.assertEqual(self.r.folder_status('alice', 'box')['state'], 'ok')
        self.assertEqual(self.session_of_uw(), [1, 2, 7, 8, 11, 12])
        harness.wait_for('the new one', lambda: self.uids() ==
                         [1, 2, 7, 8, 11, 12])
        self.r.expect_log('folder box: UIDLAST was 3, .* is 11 now')

    def test_messages_without_a_uid_keep_their_turn(self):
        self.put(mbxfile.mailbox(3, uidlast=1)
                 + mbxfile.record(mbxfile.text(9), 0, 0))
        self.r.mount()
        self.assertEqual(self.uids(), [1, 2, 3, 4])
        self.assertEqual(self.session_of_uw(), [1, 2, 3, 4, 5])
        self.r.expect_log('folder box: UIDLAST was 1, .* is 3 now')

    def test_a_header_that_is_written_back_later(self):
        """As a session of UW with an old header in its memory does it."""
        self.put(mbxfile.mailbox(5))
        self.r.mount()
        self.assertEqual(self.uids(), [1, 2, 3, 4, 5])
        with open(self.path, 'r+b') as f:
            f.seek(15)
            f.write(b'%08x' % 2)
        self.assertEqual(self.uids(), [1, 2, 3, 4, 5])
        self.assertEqual(self.box()[15:23], b'%08x' % 5)
        self.assertEqual(self.session_of_uw(), [1, 2, 3, 4, 5, 6])
        self.r.expect_log('folder box: UIDLAST was 2, .* is 5 now')

    def test_who_mends_it_under_his_locks_does_not_wait_for_them(self):
        self.put(mbxfile.mailbox(5))
        self.r.mount(self.r.options(lockwait=30, watch='off',
                                    scan='touch'))
        top = f'{self.r.mnt}/alice/.box/cur'
        self.assertEqual(self.uids(), [1, 2, 3, 4, 5])
        name = sorted(os.listdir(top))[0]
        flagged = name.split(':')[0] + ':2,F'
        change = threading.Thread(target=os.rename, args=(
            f'{top}/{name}', f'{top}/{flagged}'))
        with mbxfile.locked(self.path) as f:
            f.seek(15)
            f.write(b'%08x' % 2)
            f.flush()
            self.uids()  # it is known from here on that it is locked
            change.start()
            wait = f'/proc/self/task/{change.native_id}/wchan'
            harness.wait_for('the change to wait', lambda: b'request_wait'
                             in harness_files.read(wait))
        began = time.monotonic()
        change.join()
        self.assertLess(time.monotonic() - began, 20)
        self.assertIn(flagged, os.listdir(top))
        self.assertEqual(self.box()[15:23], b'%08x' % 5)
        self.r.expect_log('folder box: UIDLAST was 2, .* is 5 now')

    def test_an_older_mailbox_is_put_back(self):
        """UIDs that were given out are not given to other messages."""
        older = self.put(mbxfile.mailbox(5))
        self.r.mount()
        self.assertEqual(self.uids(), [1, 2, 3, 4, 5])
        for _ in range(2):
            newer = self.session_of_uw()
        self.assertEqual(newer, [1, 2, 3, 4, 5, 6, 7])
        harness.wait_for('the new ones', lambda: self.uids() == newer)
        with open(self.path, 'r+b') as f:
            f.write(older)
            f.truncate()
        self.assertEqual(self.uids(), [1, 2, 3, 4, 5])
        harness.wait_for('UIDLAST to be raised',
                         lambda: self.box()[15:23] == b'%08x' % 7)
        self.assertEqual(self.session_of_uw(), [1, 2, 3, 4, 5, 8])
        harness.wait_for('the next one', lambda: self.uids() ==
                         [1, 2, 3, 4, 5, 8])

    def test_a_locked_mailbox_is_mended_later(self):
        data = self.put(mbxfile.mailbox(5, uidlast=2))
        st = os.stat(self.path)
        lock = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
        self.r.mount(self.r.options(lockwait=0, scan='touch'))
        with open(lock, 'xb') as f:
            os.chmod(lock, 0o666)
            fcntl.flock(f, fcntl.LOCK_EX)
            with self.assertRaises(OSError):
                self.uids()
            self.assertEqual(self.box(), data)
            os.unlink(lock)
        harness.wait_for('the locks', lambda: self.uids() == [1, 2, 3, 4, 5])
        self.r.expect_log('keeps the mailbox locked',
                          'UIDLAST was 2, .* is 5 now')


    def test_a_list_of_another_uidvalidity_is_not_kept(self):
        """It was put back behind the mount, say."""
        self.put(mbxfile.mailbox(3))
        self.r.mount()
        self.assertEqual(self.uids(), [1, 2, 3])
        path = f'{self.r.store}/alice/.box/dovecot-uidlist'
        data = harness_files.read(path)
        with open(path, 'wb') as f:
            f.write(data.replace(b'V%d' % VALIDITY, b'V1234', 1))
        self.r.make('alice', 'deliver', 'mail/box')
        harness.wait_for('the new one', lambda: self.uids() == [1, 2, 3, 4])
        self.assertIn(b'V%d' % VALIDITY, harness_files.read(path))

NEW = 0x6b000000


class Reset(Regime):
    """UIDVALIDITY and UIDs are others in the file than those that were shown."""

    UIDS = [3, 5, 8, 9, 12]

    def home(self):
        uid = self.r.users['alice']
        return types.SimpleNamespace(as_owner=['-o', f'{uid}:{uid}'],
                                     dir=self.r.legacy_file('alice'))

    def start(self):
        self.put(mbxfile.mailbox(5, uids=self.UIDS))
        self.r.mount()
        self.assertEqual(self.uids(), self.UIDS)
        self.before = self.texts()

    def texts(self):
        """UID -> octets, of the view."""
        top = f'{self.r.mnt}/alice/.box'
        out = {}
        for sub in ('cur', 'new'):
            for n in os.listdir(f'{top}/{sub}'):
                with open(f'{top}/{sub}/{n}', 'rb') as f:
                    out[int(n.split('.')[0])] = f.read()
        return out

    def renumber(self, uids, validity=NEW, uidlast=None):
        """In place and under the locks, as UW does it."""
        with mbxfile.locked(self.path) as f:
            self.renumber_locked(f, uids, validity, uidlast)

    @staticmethod
    def renumber_locked(f, uids, validity, uidlast):
        data = bytearray(f.read())
        data[7:15] = b'%08x' % validity
        data[15:23] = b'%08x' % (max(uids) if uidlast is None else uidlast)
        for off, uid in zip(mbxfile.offsets(bytes(data)), uids):
            end = data.index(b'\r\n', off)
            data[end - 8:end] = b'%08x' % uid
        f.seek(0)
        f.write(data)

    def disk(self):
        """UIDVALIDITY and UIDs as c-client sees them."""
        dump = list(harness.cc_dump(self.path).values())[0]
        return dump['uidvalidity'], sorted(dump['mail'])

    def damage(self):
        return (self.r.folder_status('alice', 'box').get('damage')
                or {}).get('kind')

    def assert_unchanged(self):
        self.assert_same(self.before, self.texts())

    def test_it_is_put_back(self):
        self.start()
        self.renumber([3, 5, 6, 7, 8])
        self.assert_unchanged()
        self.assertEqual(self.disk(), (VALIDITY, self.UIDS))
        self.assertGreaterEqual(int(self.box()[15:23], 16), 12)
        self.assertIsNone(self.damage())
        self.assertEqual(self.session_of_uw(), self.UIDS + [13])
        self.r.expect_log('box: another program had numbered the messages '
                          f'anew; UIDVALIDITY {VALIDITY} and .* put back')

    def test_expunged_ones_between_them_fit(self):
        self.start()
        top = f'{self.r.mnt}/alice/.box/cur'
        for name in os.listdir(top):
            if name.startswith(('5.', '8.')):
                os.unlink(f'{top}/{name}')
        self.before = self.texts()
        self.assertEqual(sorted(self.before), [3, 9, 12])
        self.renumber([1, 2, 3, 4, 5])
        self.assert_unchanged()
        self.assertEqual(self.disk(), (VALIDITY, [3, 9, 12]))
        self.r.expect_log('put back')

    def test_messages_that_were_moved_are_known(self):
        """UW has taken one out as well."""
        self.start()
        data = self.box()
        at = mbxfile.offsets(data)
        with mbxfile.locked(self.path) as f:
            f.write(data[:at[1]] + data[at[2]:])
            f.truncate()
            f.seek(0)
            self.renumber_locked(f, [1, 2, 3, 4], NEW, 4)
        del self.before[5]
        self.assert_unchanged()
        self.assertEqual(self.disk(), (VALIDITY, [3, 8, 9, 12]))
        self.r.expect_log('put back')

    def test_another_mailbox_is_another(self):
        self.start()
        with mbxfile.locked(self.path) as f:
            f.write(mbxfile.header(NEW, 2) + b''.join(
                mbxfile.record(b'other %d\r\n' % n * 50, n) for n in (1, 2)))
            f.truncate()
        self.assertEqual(self.uids(), [1, 2])
        self.assertEqual(self.disk(), (NEW, [1, 2]))
        self.r.expect_log('UW has reset UIDVALIDITY')

    def pending(self):
        """A session of UW keeps it from being put back."""
        self.start()
        session = writer.Session(self, self.home(), './mail/box')
        self.renumber([3, 5, 6, 7, 8])
        self.assert_unchanged()
        self.assertEqual(self.box()[7:15], b'%08x' % NEW)
        self.assertEqual(self.damage(), 'regime')
        self.r.expect_log('box .*: regime .*put back when nobody has')
        return session

    def end(self, session, uids):
        harness.end(session.proc)
        harness.wait_for('it to be put back',
                         lambda: self.box()[7:15] == b'%08x' % VALIDITY)
        self.assertEqual(self.disk(), (VALIDITY, uids))
        self.assertEqual(self.uids(), uids)
        harness.wait_for('the state', lambda: self.damage() is None)
        self.r.expect_log('numbered the messages anew; .* put back')

    def test_while_uw_has_it_open_only_the_view_keeps_it(self):
        session = self.pending()
        self.r.make('alice', 'deliver', 'mail/box')
        harness.wait_for('the new one', lambda: self.uids()
                         == self.UIDS + [13])
        self.assertEqual(self.box()[7:15], b'%08x' % NEW)
        self.end(session, self.UIDS + [13])

    def test_what_has_just_come_can_be_read(self):
        session = self.pending()
        top = f'{self.r.mnt}/alice/.box'
        uids = list(self.UIDS)
        for n in range(6, 12):
            with mbxfile.locked(self.path) as f:
                f.seek(0, 2)
                f.write(mbxfile.record(mbxfile.text(n), 0, 0))
            uids.append(uids[-1] + 1)
            harness.wait_for('the new one', lambda: self.uids() == uids)
            name, = (x for x in os.listdir(f'{top}/new')
                     if x.startswith(f'{uids[-1]}.'))
            # The kernel has none of it, and the file has just been changed.
            os.utime(self.path)
            self.assertEqual(harness_files.read(f'{top}/new/{name}'),
                             mbxfile.text(n))
        self.end(session, uids)

    def test_changes_go_to_the_right_message(self):
        session = self.pending()
        top = f'{self.r.mnt}/alice/.box/cur'
        eight, = (n for n in os.listdir(top) if n.startswith('8.'))
        nine, = (n for n in os.listdir(top) if n.startswith('9.'))
        os.rename(f'{top}/{eight}', f'{top}/{eight.split(":")[0]}:2,F')
        os.unlink(f'{top}/{nine}')
        self.assertEqual(self.uids(), [3, 5, 8, 12])
        harness.wait_for('UW to see it',
                         lambda: session.show()[8][0] == 'F')
        self.end(session, [3, 5, 8, 12])
        dump = list(harness.cc_dump(self.path).values())[0]
        self.assertEqual([u for u, m in dump['mail'].items()
                          if 'F' in m['flags']], [8])

    def test_a_restart_changes_nothing(self):
        session = self.pending()
        self.r.remount()
        self.assert_unchanged()
        self.assertEqual(self.damage(), 'regime')
        self.end(session, self.UIDS)

    def test_what_is_delivered_waits(self):
        session = self.pending()
        top = f'{self.r.mnt}/alice/.box'
        with open(f'{top}/tmp/x', 'wb') as f:
            f.write(mbxfile.text(7))
        os.rename(f'{top}/tmp/x', f'{top}/new/1.x.host')
        self.assertEqual(len(mbxfile.offsets(self.box())), 5)
        harness.end(session.proc)
        harness.wait_for('it to be put back',
                         lambda: self.box()[7:15] == b'%08x' % VALIDITY)
        self.r.expect_log('put back')

    def test_uids_out_of_order(self):
        """Those that were shown first stay, and are what UW finds."""
        self.start()
        self.renumber([3, 5, 1, 9, 12], VALIDITY)
        self.assert_unchanged()
        self.assertEqual(self.disk(), (VALIDITY, self.UIDS))
        self.r.expect_log('box: UIDs were out of order')

    def test_one_without_a_uid_before_one_that_has(self):
        """An append of UW's that lost the race with a delivery."""
        self.start()
        with mbxfile.locked(self.path) as f:
            f.seek(0, 2)
            f.write(mbxfile.record(mbxfile.text(6), 0, 0))
        self.assertEqual(self.uids(), self.UIDS + [13])
        self.before = self.texts()
        with mbxfile.locked(self.path) as f:
            f.seek(15)
            f.write(b'%08x' % 13)
            f.seek(0, 2)
            f.write(mbxfile.record(mbxfile.text(7), 13, 0))
        self.assertEqual(self.uids(), self.UIDS + [13, 14])
        self.assertEqual(self.texts()[13], self.before[13])
        self.assertEqual(self.disk(), (VALIDITY, self.UIDS + [13, 14]))
        self.r.expect_log('UIDs were out of order')

    def rename_slot(self, name):
        """A keyword in the place of the first one, and on the second message,
        as a session of UW makes it that has not looked."""
        with mbxfile.locked(self.path) as f:
            data = f.read()
            f.seek(25)
            f.write(name + b'\r\n' + b'\r\n' * 29)
            f.seek(data.index(b'\r\n', mbxfile.offsets(data)[1]) - 21)
            f.write(b'%08x' % 1)

    def on_disk(self):
        """UID -> keywords, as c-client has them."""
        dump = list(harness.cc_dump(self.path).values())[0]
        return {u: m['keywords'] for u, m in dump['mail'].items()}

    def names(self):
        return sorted(os.listdir(f'{self.r.mnt}/alice/.box/cur'))

    def start_slots(self):
        data = bytearray(mbxfile.mailbox(3, keywords=('Foo',)))
        end = data.index(b'\r\n', mbxfile.offsets(bytes(data))[0])
        data[end - 21:end - 13] = b'%08x' % 1
        self.put(bytes(data))
        self.r.mount()
        self.assertTrue(self.names()[0].endswith(':2,a'))

    def test_a_keyword_gets_its_own_slot_again(self):
        self.start_slots()
        before = self.names()
        self.rename_slot(b'Bar')
        harness.wait_for('the other one', lambda: self.names()[1:]
                         == [before[1] + 'b', before[2]])
        self.assertEqual(self.names()[0], before[0])
        self.assertEqual(self.on_disk(), {1: 'foo', 2: 'bar', 3: '-'})
        self.assertEqual(mbxfile.keyword_table(self.box()), ['Bar', 'Foo'])
        self.assertIsNone(self.damage())
        self.r.expect_log('put a keyword in the place of another')

    def test_keywords_can_be_changed_meanwhile(self):
        self.start_slots()
        session = writer.Session(self, self.home(), './mail/box')
        self.rename_slot(b'Bar')
        one, two, three = self.names()
        self.assertEqual(self.damage(), 'slots')
        top = f'{self.r.mnt}/alice/.box/cur'
        os.rename(f'{top}/{three}', f'{top}/{three}a')
        os.rename(f'{top}/{one}', f'{top}/{one[:-1]}F')
        self.assertEqual(self.names(), [one[:-1] + 'F', two, three + 'a'])
        harness.end(session.proc)
        harness.wait_for('a slot', lambda: mbxfile.keyword_table(self.box())
                         == ['Bar', 'Foo'])
        harness.wait_for('the names', lambda: self.names()
                         == [one[:-1] + 'F', two + 'b', three + 'a'])
        self.assertEqual(self.on_disk(), {1: '-', 2: 'bar', 3: 'foo'})
        self.r.expect_log('slots at', 'put a keyword in the place of another')

    def test_what_uw_gave_out_is_not_given_again(self):
        """The same race, after UW's numbers up to 19 came and went."""
        self.start()
        with mbxfile.locked(self.path) as f:
            f.seek(15)
            f.write(b'%08x' % 20)
            f.seek(0, 2)
            f.write(mbxfile.record(mbxfile.text(6), 0, 0)
                    + mbxfile.record(mbxfile.text(7), 20, 0))
        self.assertEqual(self.uids(), self.UIDS + [21, 22])
        self.assertEqual(self.disk(), (VALIDITY, self.UIDS + [21, 22]))
        self.r.expect_log('UIDs were out of order')

    def out_of_order(self, uids, uidlast, shown):
        self.put(mbxfile.mailbox(5, uids=uids, uidlast=uidlast))
        self.r.mount()
        self.assertEqual(self.uids(), shown)
        self.assertEqual(self.disk(), (VALIDITY, shown))
        self.r.expect_log('box: UIDs were out of order')

    def test_uids_out_of_order_from_the_start(self):
        self.out_of_order([1, 5, 3, 7, 8], 2, [1, 5, 6, 7, 8])

    def test_a_uid_twice(self):
        self.out_of_order([1, 2, 2, 3, 4], 4, [1, 2, 5, 6, 7])

    def test_uidvalidity_0_becomes_what_was_shown(self):
        self.put(mbxfile.mailbox(3))
        self.renumber([1, 2, 3], 0)
        self.r.mount()
        self.assertEqual(self.uids(), [1, 2, 3])
        with open(f'{self.r.store}/alice/.box/dovecot-uidlist',
                  encoding='ascii') as f:
            shown = int(f.readline().split()[1][1:])
        self.assertEqual(self.disk(), (shown, [1, 2, 3]))
        names = sorted(os.listdir(f'{self.r.mnt}/alice/.box/cur'))
        self.r.make('alice', 'deliver', 'mail/box')
        harness.wait_for('the new one', lambda: len(self.uids()) == 4)
        self.assertEqual(
            sorted(os.listdir(f'{self.r.mnt}/alice/.box/cur')), names)


if __name__ == '__main__':
    harness.main()
