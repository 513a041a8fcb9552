#!/usr/bin/python3
"""dovecot-uidlist and dovecot-keywords follow what UW does to a mailbox."""

import os
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, os.path.join(TESTS, 'oracle')]
import harness      # noqa: E402
import mbxfile      # noqa: E402


class Follow(harness.Case):
    def start(self, data):
        self.r = self.rig()
        self.r.user('alice')
        self.path = self.r.put('alice', 'INBOX', data)
        self.r.mount()
        self.top = f'{self.r.mnt}/alice'

    def uidlist(self):
        """Base name -> UID."""
        with open(f'{self.top}/dovecot-uidlist') as f:
            return {line.rstrip('\n').partition(' :')[2]: int(line.split()[0])
                    for line in list(f)[1:]}

    def next_uid(self):
        """The one that Dovecot gives to the next message."""
        with open(f'{self.top}/dovecot-uidlist') as f:
            n = int(f.readline().split(' N')[1].split()[0])
        return max([n, *(uid + 1 for uid in self.uidlist().values())])

    def append(self, uid, uidlast, text):
        """As UW does it: UIDLAST first, then the message."""
        with open(self.path, 'r+b') as f:
            f.seek(15)
            f.write(b'%08x' % uidlast)
            f.seek(0, os.SEEK_END)
            f.write(mbxfile.record(text, uid))

    def names(self):
        return {n.partition(':')[0] for sub in ('cur', 'new')
                for n in os.listdir(f'{self.top}/{sub}')}

    def test_uids_do_not_part(self):
        """UW used UIDs for messages that never showed."""
        self.start(mbxfile.mailbox(6))
        self.assertEqual(sorted(self.uidlist().values()), [1, 2, 3, 4, 5, 6])
        self.append(9, 9, b'Subject: nine\r\n\r\n9\r\n')
        harness.wait_for('seven names', lambda: len(self.names()) == 7)
        self.assertEqual(sorted(self.uidlist().values()),
                         [1, 2, 3, 4, 5, 6, 9])
        self.assertEqual(set(self.uidlist()), self.names())
        harness.need_dovecot()
        with_dovecot = self.r.dovecot()
        imap = with_dovecot.imap('alice')
        box = harness.imap_folder(imap, 'INBOX')
        self.assertEqual(sorted(box['mail']), [1, 2, 3, 4, 5, 6, 9])
        self.append(20, 21, b'Subject: twenty\r\n\r\n20\r\n')
        harness.wait_for('UID 20', lambda: 20 in harness.imap_folder(
            imap, 'INBOX')['mail'])
        imap.logout()
        self.r.remount()
        self.assertEqual(sorted(self.uidlist().values()),
                         [1, 2, 3, 4, 5, 6, 9, 20])
        self.assertEqual(self.next_uid(), 22)

    def test_what_came_and_went_has_had_a_uid(self):
        """UW gave a UID to a message, and expunged it, while nobody looked:
        Dovecot does not give it to another."""
        self.start(mbxfile.mailbox(3))
        self.names()
        self.r.unmount()
        with open(self.path, 'r+b') as f:
            f.seek(15)
            f.write(b'00000007')
        self.r.mount()
        self.names()
        self.assertEqual(self.next_uid(), 8)
        # A line would become a message of Dovecot's, and be expunged.
        self.assertEqual(set(self.uidlist()), self.names())

    def test_a_header_that_cannot_be_written(self):
        """What has come shows all the same, and it is tried again."""
        self.start(mbxfile.mailbox(3))
        self.names()
        tmp = f'{self.r.store}/alice/dovecot-uidlist.tmp'
        os.mkdir(tmp)
        self.append(5, 9, b'Subject: five\r\n\r\n5\r\n')
        harness.wait_for('four names', lambda: len(self.names()) == 4)
        self.assertEqual(set(self.uidlist()), self.names())
        self.assertEqual(self.next_uid(), 6)
        os.rmdir(tmp)
        harness.wait_for('the next UID', lambda: len(self.names()) == 4
                         and self.next_uid() == 10)

    def test_a_disagreement_is_shown(self):
        """A list from elsewhere gives a message another UID."""
        self.start(mbxfile.mailbox(3))
        self.names()
        path = f'{self.top}/dovecot-uidlist'
        with open(path) as f:
            text = f.read()
        with open(path, 'w') as f:
            f.write(text.replace('\n3 :', '\n30 :'))
        self.r.expect_log('alice: folder INBOX: messages with another UID')
        self.r.remount()
        self.names()
        entry = self.r.folder_status('alice', 'INBOX')
        self.assertEqual(entry['legacy']['uid_disagreements'], 1)
        self.assertIn('another UID', self.r.tool('status', self.r.mnt).stdout)

    def test_new_mail_waits_for_the_list(self):
        """While somebody holds Dovecot's lock nothing new shows, and nothing
        old is missing."""
        self.start(mbxfile.mailbox(3))
        self.assertEqual(len(self.names()), 3)
        lock = f'{self.top}/dovecot-uidlist.lock'
        with open(lock, 'x') as f:
            f.write(f'{os.getpid()}:{os.uname().nodename}')
        self.append(4, 4, b'Subject: four\r\n\r\n4\r\n')
        self.assertEqual(len(self.names()), 3)
        os.unlink(lock)
        self.assertEqual(len(self.names()), 4)
        self.assertEqual(self.uidlist()[max(
            self.names(), key=lambda n: int(n.split('.')[0]))], 4)

    def test_what_showed_is_not_hidden_again(self):
        """A list that nobody can read: what comes then, Dovecot numbers as it
        likes. It writes a new one, and has its lock still, when more comes."""
        self.start(mbxfile.mailbox(3))
        before = self.names()
        path = f'{self.top}/dovecot-uidlist'
        with open(path) as f:
            text = f.read()
        with open(path, 'w') as f:
            f.write(text.replace('\n3 :', '\n1 :'))
        self.append(4, 4, b'Subject: four\r\n\r\n4\r\n')
        harness.wait_for('four names', lambda: len(self.names()) == 4)
        four, = self.names() - before
        self.hold(f'{path}.lock')
        with open(path, 'w') as f:
            f.write(f'{text}9 :{four}\n')
        self.append(10, 10, b'Subject: ten\r\n\r\n10\r\n')
        self.assertLessEqual(before | {four}, self.names())
        os.unlink(f'{path}.lock')
        harness.wait_for('five names', lambda: len(self.names()) == 5)
        self.assertEqual(self.uidlist()[four], 9)
        # It is said unless the mirror has counted it before.
        self.r.unmount()
        if 'another UID at Dovecot' in self.r.log():
            self.r.expect_log('another UID at Dovecot')

    def hold(self, path):
        with open(path, 'x') as f:
            f.write(f'{os.getpid()}:{os.uname().nodename}')

    def uw_names(self, name):
        """UW gives the first message the keyword of slot 0."""
        with mbxfile.locked(self.path) as f:
            data = f.read()
            end = data.index(b'\r\n', mbxfile.offsets(data)[0])
            f.seek(25)
            f.write(name + b'\r\n' + b'\r\n' * 29)
            f.seek(end - 21)
            f.write(b'00000001')

    def letters(self):
        """UID: what the names say."""
        return {self.uidlist()[n.partition(':')[0]]: n.partition(':2,')[2]
                for sub in ('cur', 'new')
                for n in os.listdir(f'{self.top}/{sub}')}

    def test_a_keyword_waits_for_its_name(self):
        """While Dovecot holds its list the letter does not show."""
        self.start(mbxfile.mailbox(2))
        self.names()
        lock = f'{self.top}/dovecot-uidlist.lock'
        self.hold(lock)
        self.uw_names(b'Label')
        self.assertEqual(self.letters(), {1: '', 2: ''})
        os.unlink(lock)
        harness.wait_for('the letter',
                         lambda: self.letters() == {1: 'a', 2: ''})
        with open(f'{self.top}/dovecot-keywords') as f:
            self.assertEqual(f.read(), '0 Label\n')

    def test_a_letter_that_dovecot_is_about_to_name(self):
        """It renames with a letter and writes its name down afterwards, all
        with the list's lock; meanwhile UW names a slot."""
        self.start(mbxfile.mailbox(2))
        self.names()
        lock = f'{self.top}/dovecot-uidlist.lock'
        self.hold(lock)
        self.uw_names(b'Label')
        self.assertEqual(self.letters(), {1: '', 2: ''})
        base = {uid: name for name, uid in self.uidlist().items()}[2]
        os.rename(f'{self.top}/cur/{base}:2,', f'{self.top}/cur/{base}:2,a')
        self.assertEqual(self.letters(), {1: '', 2: 'a'})
        with open(f'{self.top}/dovecot-keywords.lock', 'x') as f:
            f.write('0 Theirs\n')
        os.rename(f'{self.top}/dovecot-keywords.lock',
                  f'{self.top}/dovecot-keywords')
        os.unlink(lock)
        harness.wait_for('both letters',
                         lambda: self.letters() == {1: 'b', 2: 'a'})
        with open(f'{self.top}/dovecot-keywords') as f:
            self.assertEqual(f.read(), '0 Theirs\n1 Label\n')

    def test_a_list_that_was_just_replaced(self):
        """Dovecot renames its new list over the old one; ours, a moment
        later, must not hide behind what the kernel knows of that name."""
        self.start(mbxfile.mailbox(3))
        self.names()

        def replace():
            with open(f'{self.top}/dovecot-keywords.lock', 'x') as f:
                f.write('0 Theirs\n')
            os.rename(f'{self.top}/dovecot-keywords.lock',
                      f'{self.top}/dovecot-keywords')
        replace()
        with mbxfile.locked(self.path) as f:
            data = f.read()
            f.seek(0)
            f.write(data[:25] + b'Ours' + data[25:2044])
            line = mbxfile.offsets(data)[0]
            f.seek(data.index(b'\r\n', line) - 21)
            f.write(b'00000001')
        os.listdir(f'{self.top}/cur')
        with open(f'{self.top}/dovecot-keywords') as f:
            self.assertEqual(f.read(), '0 Theirs\n1 Ours\n')

    def test_not_shown_before_it_is_seeded(self):
        """Somebody holds the lock at the first look."""
        self.r = self.rig()
        self.r.user('alice')
        self.r.put('alice', 'mail/box', mbxfile.mailbox(3))
        self.r.mount(self.r.options(scan='touch'))
        os.listdir(f'{self.r.mnt}/alice')
        store = f'{self.r.store}/alice/.box'
        self.hold(f'{store}/dovecot-uidlist.lock')
        self.r.expect_log('alice: folder box: .*lock is held')
        with self.assertRaises(OSError):
            os.listdir(f'{self.r.mnt}/alice/.box/cur')
        self.assertNotIn('dovecot-uidlist', os.listdir(store))
        os.unlink(f'{store}/dovecot-uidlist.lock')
        self.top = f'{self.r.mnt}/alice/.box'
        harness.wait_for('three names', lambda: len(self.names()) == 3)
        self.assertEqual(sorted(self.uidlist().values()), [1, 2, 3])

    def test_a_reset_waits_for_the_list(self):
        """Another mailbox is there while Dovecot holds its lock."""
        self.start(mbxfile.mailbox(3))
        self.names()
        lock = f'{self.top}/dovecot-uidlist.lock'
        self.hold(lock)
        self.r.expect_log('reset UIDVALIDITY', 'lock is held',
                          'control files, locked')
        mbxfile.anew(self.path, 0x4c000001)
        with self.assertRaises(OSError):
            os.listdir(f'{self.top}/cur')
        os.unlink(lock)
        harness.wait_for('the new names', lambda: self.uidlist().keys()
                         == self.names())
        with open(f'{self.top}/dovecot-uidlist') as f:
            self.assertIn(f'V{0x4c000001} ', f.readline())

    def test_an_append_does_not_meet_ours(self):
        """Dovecot has the list open, and looked at its size, when we add."""
        self.start(mbxfile.mailbox(3))
        self.names()
        with open(f'{self.top}/dovecot-uidlist', 'r+') as f:
            os.fstat(f.fileno())
            self.append(4, 4, b'Subject: four\r\n\r\n4\r\n')
            harness.wait_for('four names', lambda: len(self.names()) == 4)
            f.seek(0, os.SEEK_END)      # as Dovecot does it
            f.write('5 :somebody.elses.name\n')
        self.assertEqual(sorted(self.uidlist().values()), [1, 2, 3, 4, 5])

    def test_replaced_by_a_twin(self):
        """Another file, same UIDVALIDITY, UIDs, sizes and dates: the octets
        that show are those of the new one."""
        old = mbxfile.mailbox(2)
        self.start(old)
        name = sorted(os.listdir(f'{self.top}/cur'))[0]
        with open(f'{self.top}/cur/{name}', 'rb') as f:
            first = f.read()
        twin = old.replace(b'number 1', b'NUMBER 1')
        self.assertNotEqual(twin, old)
        os.rename(self.r.put('alice', 'twin', twin), self.path)
        self.assertIn(name, os.listdir(f'{self.top}/cur'))
        with open(f'{self.top}/cur/{name}', 'rb') as f:
            self.assertEqual(f.read(),
                             first.replace(b'number 1', b'NUMBER 1'))


if __name__ == '__main__':
    harness.main()
