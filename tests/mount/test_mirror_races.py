#!/usr/bin/python3
"""Files change their names just when the mirror comes to put them into the
MBX, and copies while Dovecot has its list."""

import os
import sys
import threading
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle')]
import harness      # noqa: E402
import mbxfile      # noqa: E402

FILES, ROUNDS, RENAMERS = 4, 40, 4


class Races(harness.Case):
    def start(self):
        rig = self.rig()
        rig.user('alice')
        path = rig.put('alice', 'INBOX', mbxfile.mailbox(3))
        rig.mount()
        self.uid = rig.users['alice']
        self.top = f'{rig.mnt}/alice'
        os.listdir(f'{self.top}/cur')
        return rig, path

    def deliver(self, bases):
        for base in bases:
            tmp = f'{self.top}/tmp/{base}'
            with open(tmp, 'xb') as f:
                f.write(b'Subject: %s\n\n' % base.encode())
            os.rename(tmp, f'{self.top}/new/{base}')

    def number(self, first, bases):
        """What Dovecot does, all at once."""
        with open(f'{self.top}/dovecot-uidlist', 'a') as f:
            f.write(''.join(f'{first + i} :{base}\n'
                            for i, base in enumerate(bases)))

    def rename(self, bases, end):
        """Flags come and go until @end."""
        at = {base: f'new/{base}' for base in bases}
        n = 0
        while not end.is_set():
            n += 1
            for base in bases:
                to = f'cur/{base}:2,{("S", "", "F")[n % 3]}'
                os.rename(f'{self.top}/{at[base]}', f'{self.top}/{to}')
                at[base] = to

    def in_mbx(self, path, uid):
        with open(path, 'rb') as f:
            data = f.read()
        try:
            return uid in [r['uid'] for r in mbxfile.records(data)]
        except (ValueError, TypeError):     # it is being written
            return False

    def race(self, path, first, bases):
        self.deliver(bases)
        end = threading.Event()
        crowd = [threading.Thread(target=self.rename, daemon=True,
                                  args=(bases[i::RENAMERS], end))
                 for i in range(RENAMERS)]
        for t in crowd:
            t.start()
        self.number(first, bases)
        last = first + len(bases) - 1
        harness.wait_for('the last one in the MBX',
                         lambda: self.in_mbx(path, last))
        end.set()
        for t in crowd:
            t.join(20)
            self.assertFalse(t.is_alive())

    def test_all_are_appended(self):
        rig, path = self.start()
        names = [[f'17{r:02}.{i:02}.agent' for i in range(FILES)]
                 for r in range(ROUNDS)]
        with open(f'{self.top}/dovecot-uidlist', encoding='utf-8') as f:
            first = int(f.readline().split(' N')[1].split()[0])

        def play():
            for r, bases in enumerate(names):
                self.race(path, first + r * FILES, bases)
        harness.as_user(self.uid, play)
        with open(path, 'rb') as f:
            found = mbxfile.records(f.read())
        # In the order of their UIDs, none left out.
        self.assertEqual([(r['uid'], r['text']) for r in found[3:]],
                         [(first + i, b'Subject: %s\r\n\r\n' % b.encode())
                          for i, b in enumerate(sum(names, []))])
        status = rig.folder_status('alice', 'INBOX')
        self.assertEqual(status['delivered']['mirrored'], FILES * ROUNDS)
        self.assertNotIn('uid_disagreements', status['legacy'])

    def uw_names_and_sets(self, path, at):
        """UW names slot 0, and gives record @at that keyword."""
        with mbxfile.locked(path) as f:
            data = f.read()
            end = data.index(b'\r\n', mbxfile.offsets(data)[at])
            f.seek(25)
            f.write(b'Label\r\n' + b'\r\n' * 29)
            f.seek(end - 21)
            f.write(b'00000001')

    def test_a_keyword_while_dovecot_has_its_list(self):
        rig, path = self.start()
        harness.as_user(self.uid, self.deliver, ['17.agent'])
        with open(f'{self.top}/dovecot-uidlist', encoding='utf-8') as f:
            first = int(f.readline().split(' N')[1].split()[0])
        harness.as_user(self.uid, self.number, first, ['17.agent'])
        harness.wait_for('the copy', lambda: self.in_mbx(path, first))
        lock = f'{self.top}/dovecot-uidlist.lock'
        with open(lock, 'x', encoding='utf-8') as f:
            f.write(f'{os.getpid()}:{os.uname().nodename}')
        self.uw_names_and_sets(path, 3)
        self.assertFalse([n for n in os.listdir(f'{self.top}/cur')
                          if n.endswith('a')])
        os.unlink(lock)
        harness.wait_for('the letter', lambda: '17.agent:2,a'
                         in os.listdir(f'{self.top}/cur'))
        self.assertEqual(rig.folder_status('alice', 'INBOX')['delivered'][
            'mirrored'], 1)

    def test_a_lock_that_is_only_tried_is_no_error(self):
        """A new letter waits for its name while UW appends a message."""
        rig, path = self.start()
        name = sorted(os.listdir(f'{self.top}/cur'))[0]

        def set_letter():
            os.rename(f'{self.top}/cur/{name}', f'{self.top}/cur/{name}a')

        def name_it():
            with open(f'{self.top}/dovecot-keywords', 'w') as f:
                f.write('0 Label\n')
        harness.as_user(self.uid, set_letter)
        with mbxfile.locked(path) as f:
            f.seek(0, os.SEEK_END)
            f.write(mbxfile.record(mbxfile.text(9)))
            f.flush()
            time.sleep(1.5)     # it is tried, some times
        harness.as_user(self.uid, name_it)

        def is_in_mbx():
            with open(path, 'rb') as f:
                return f.read(2048)[25:].startswith(b'Label\r\n')
        harness.wait_for('the keyword in the MBX', is_in_mbx)

    def test_a_uid_of_a_message_that_has_gone(self):
        """UW uses a UID, for a message that is gone before anybody looks, and
        Dovecot the same one: in the MBX nobody finds another message under
        it."""
        rig, path = self.start()
        first = 4
        harness.as_user(self.uid, self.deliver, ['17.a', '17.b'])
        harness.as_user(self.uid, self.number, first, ['17.a'])
        harness.wait_for('the copy', lambda: self.in_mbx(path, first), 10)
        with mbxfile.locked(path) as f:
            f.seek(15)
            f.write(b'%08x' % (first + 1))
            harness.as_user(self.uid, self.number, first + 1, ['17.b'])
        rig.expect_log('messages with another UID at Dovecot')
        harness.wait_for('the other copy', lambda: self.in_mbx(
            path, first + 2), 10)
        self.assertFalse(self.in_mbx(path, first + 1))
        self.assertEqual(rig.folder_status('alice', 'INBOX')['legacy'][
            'uid_disagreements'], 1)

    def test_what_the_list_has_twice(self):
        """A message that left and came back: Dovecot goes by the last one."""
        rig, path = self.start()
        harness.as_user(self.uid, self.deliver, ['17.a', '17.b'])
        with open(f'{self.top}/dovecot-uidlist', encoding='utf-8') as f:
            first = int(f.readline().split(' N')[1].split()[0])
        harness.as_user(self.uid, self.number, first,
                        ['17.a', '17.b', '17.a'])
        harness.wait_for('the copy', lambda: self.in_mbx(path, first + 2))
        with open(path, 'rb') as f:
            found = mbxfile.records(f.read())[3:]
        self.assertEqual([(r['uid'] - first, r['text']) for r in found],
                         [(1, b'Subject: 17.b\r\n\r\n'),
                          (2, b'Subject: 17.a\r\n\r\n')])
        for _ in range(2):
            os.listdir(f'{self.top}/cur')
            status = rig.folder_status('alice', 'INBOX')
            self.assertEqual(status['delivered']['mirrored'], 2)
            self.assertFalse(status['legacy'].get('disagreements'))
            rig.unmount()
            rig.mount()


if __name__ == '__main__':
    harness.main()
