"""A folder whose delivered mail is mirrored, and what agents, Dovecot and UW
do to it."""

import os
import subprocess

import harness
import mbxfile

LF = b'Subject: lf\n\none\r\ntwo\n\nlast line'
DATE = 1234567890


class Mirrored(harness.Case):
    def start(self, data=None, name='INBOX', **options):
        self.r = self.rig()
        self.r.user('alice')
        self.path = self.r.put('alice', name, data if data is not None
                               else mbxfile.mailbox(3))
        self.options = self.r.options(**options)
        self.r.mount(self.options)
        self.uid = self.r.users['alice']
        self.top = f'{self.r.mnt}/alice'
        if name != 'INBOX':
            self.top += '/.' + os.path.basename(name)
        self.folder = 'INBOX' if name == 'INBOX' else os.path.basename(name)
        os.listdir(f'{self.top}/cur')
        self.count = 0

    def remount(self, drop_index=False):
        self.r.unmount()
        if drop_index:
            subprocess.run(['rm', '-rf', self.r.index], check=True)
        self.r.mount(self.options)
        os.listdir(f'{self.top}/cur')

    # What an agent and Dovecot do

    def put(self, base, data=LF, flags=None, date=DATE):
        """A delivery into new/, or with flags into cur/."""
        harness.as_user(self.uid, self._put, base, data, flags, date)

    def _put(self, base, data, flags, date):
        tmp = f'{self.top}/tmp/{base}'
        with open(tmp, 'xb') as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.utime(tmp, (date, date))
        os.rename(tmp, f'{self.top}/new/{base}' if flags is None
                  else f'{self.top}/cur/{base}:2,{flags}')

    def number(self, *bases, uid=None):
        """Dovecot gives them the next UIDs; the first one's."""
        harness.as_user(self.uid, self._number, bases, uid)
        return self.uidlist()[bases[0]]

    def _number(self, bases, uid):
        path = f'{self.top}/dovecot-uidlist'
        uid = uid or self.next_uid()
        with open(path, 'a') as f:
            for i, base in enumerate(bases):
                f.write(f'{uid + i} :{base}\n')

    def next_uid(self):
        with open(f'{self.top}/dovecot-uidlist') as f:
            n = int(f.readline().split(' N')[1].split()[0])
        return max([n, *(u + 1 for u in self.uidlist().values())])

    def uidlist(self):
        with open(f'{self.top}/dovecot-uidlist') as f:
            return {line.rstrip('\n').partition(' :')[2]: int(line.split()[0])
                    for line in list(f)[1:]}

    def deliver(self, base, data=LF, flags=None, date=DATE):
        self.put(base, data, flags, date)
        return self.number(base)

    # What is to be seen

    def mbx(self):
        return list(harness.cc_dump(self.path).values())[0]['mail']

    def disk(self):
        with open(self.path, 'rb') as f:
            data = f.read()
        try:
            found = mbxfile.records(data)
        except (ValueError, TypeError):     # it is being written
            return {}
        return {r['uid']: r for r in found
                if not r['flags'] & mbxfile.EXPUNGED
                and len(r['text']) == r['size']}

    def wait_uid(self, uid):
        harness.wait_for(f'UID {uid} in the MBX', lambda: uid in self.disk())
        return self.disk()[uid]

    def names(self):
        return sorted(f'{sub}/{n}' for sub in ('cur', 'new')
                      for n in os.listdir(f'{self.top}/{sub}'))

    def find(self, base):
        """sub/name of the one message with that base; None"""
        found = [n for n in self.names()
                 if n.partition('/')[2].partition(':')[0] == base]
        self.assertLessEqual(len(found), 1)
        return found[0] if found else None

    def wait_name(self, name):
        base = name.partition('/')[2].partition(':')[0]
        harness.wait_for(name, lambda: self.find(base) == name)

    def status(self):
        return self.r.folder_status('alice', self.folder)['delivered']

    def settled(self):
        """Nothing waits any more."""
        harness.wait_for('the mirror', lambda: self.status()['waiting'] == 0
                         and self.status()['no_uid'] == 0)

    def read(self, base):
        with open(f'{self.top}/{self.find(base)}', 'rb') as f:
            return f.read()

    def c_client(self, *commands):
        """A read/write session of c-client."""
        r = harness.run(
            [harness.CC_MAKE, '-o', f'{self.uid}:{self.uid}',
             os.path.join(self.r.legacy, 'alice'), 'session',
             os.path.relpath(self.path,
                             os.path.join(self.r.legacy, 'alice'))],
            stdin='\n'.join([*commands, 'quit']) + '\n', env=harness.NO_LEAKS)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertNotIn('no ', r.stdout)

    def uw_delivers(self, text=b'Subject: by UW\r\n\r\nUW\r\n'):
        r = harness.run([harness.CC_MAKE, '-o', f'{self.uid}:{self.uid}',
                         os.path.join(self.r.legacy, 'alice'), 'deliver',
                         os.path.relpath(self.path, os.path.join(
                             self.r.legacy, 'alice'))], env=harness.NO_LEAKS)
        self.assertEqual(r.returncode, 0, r.stderr)
