"""A Dovecot of our own, and what IMAP says of a folder."""

import contextlib
import imaplib
import os
import poplib
import re
import signal
import socket
import subprocess
import time

from harness_base import end, free_ports, run, wait_for

DOVECOT_CONF = '''
base_dir = {run}
state_dir = {run}/state
instance_name = {name}
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_username_format = %Ln
log_path = {log}
info_log_path = {log}.info
postmaster_address = postmaster@example.test
hostname = mail.example.test
default_login_user = dovenull
default_internal_user = dovecot
default_internal_group = dovecot
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = {run}.users
}}
userdb {{
  driver = passwd-file
  args = {run}.users
}}
mail_location = {location}
namespace inbox {{
  inbox = yes
}}
pop3_uidl_format = %08Xv%08Xu
mail_max_userip_connections = 200
service imap-login {{
  inet_listener imap {{
    address = 127.0.0.1
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
  chroot =
  service_count = 0
}}
service pop3-login {{
  inet_listener pop3 {{
    address = 127.0.0.1
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
  chroot =
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp}
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
{extra}
'''


class Dovecot:
    """A Dovecot of our own over the users of a rig; password "pw"."""

    def __init__(self, rig, users=None, location=None, extra=''):
        self.rig = rig
        self.name = f'dc{len(rig.dovecots)}'
        self.run = rig.path(self.name)
        self.log_name = os.path.join(rig.logs, self.name + '.log')
        self.imap_port, self.pop3_port, self.lmtp_port = free_ports(3)
        self.users = users or rig.users
        self.expected = []
        self.said = None
        os.makedirs(os.path.join(self.run, 'state'), mode=0o755)
        homes = rig.path('home')
        with open(rig.path(self.name + '.users'), 'w') as f:
            for user, uid in self.users.items():
                home = os.path.join(homes, user)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(home, 0o700)
                    os.chown(home, uid, uid)
                f.write(f'{user}:{{PLAIN}}pw:{uid}:{uid}::{home}::\n')
        # Not in base_dir: Dovecot puts a link called dovecot.conf there.
        self.conf = rig.path(self.name + '.conf')
        with open(self.conf, 'w') as f:
            f.write(DOVECOT_CONF.format(
                run=self.run, name=self.name, log=self.log_name,
                location=location or f'maildir:{rig.mnt}/%n',
                imap=self.imap_port, pop3=self.pop3_port,
                lmtp=self.lmtp_port, extra=extra))
        rig.dovecots.append(self)
        self.proc = subprocess.Popen(
            ['dovecot', '-F', '-c', self.conf], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd='/',
            start_new_session=True)
        wait_for('Dovecot', self._ready)

    def _ready(self):
        if self.proc.poll() is not None:
            raise AssertionError('dovecot: '
                                 + self.proc.stderr.read().decode())
        with contextlib.suppress(OSError), socket.create_connection(
                ('127.0.0.1', self.imap_port), 5) as s:
            return s.recv(100).startswith(b'* OK')
        return False

    def imap(self, user):
        """A logged-in imaplib connection."""
        m = imaplib.IMAP4('127.0.0.1', self.imap_port, timeout=60)
        m.login(user, 'pw')
        return m

    def pop3(self, user):
        p = poplib.POP3('127.0.0.1', self.pop3_port, timeout=60)
        p.user(user)
        p.pass_('pw')
        return p

    def doveadm(self, *args):
        r = run(['doveadm', '-c', self.conf, *args], timeout=60)
        if r.returncode:
            raise AssertionError(f'doveadm {args}: {r.stderr}')
        return r.stdout

    def log(self):
        with contextlib.suppress(FileNotFoundError), \
                open(self.log_name, errors='replace') as f:
            return f.read()
        return ''

    def complaints(self):
        """Lines of the error log until the stop; Dovecot's ordinary lines go
        elsewhere, and its processes complain when others of them end."""
        said = self.log() if self.said is None else self.said
        return [f'dovecot: {line}' for line in said.splitlines()
                if not any(re.search(p, line) for p in self.expected)]

    def stop(self):
        """At once: an orderly stop waits seconds for its idle processes."""
        if self.said is None:
            self.said = self.log()
        end(self.proc)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.proc.pid, signal.SIGKILL)


class Idler:
    """An IMAP connection that reads what comes by itself."""

    def __init__(self, imap):
        self.imap = imap
        self.tags = 0

    def idle(self):
        self.tags += 1
        self.tag = b'i%d' % self.tags
        self.imap.send(self.tag + b' IDLE\r\n')
        self.until(rb'\+ ')

    def until(self, pattern, seconds=30):
        """Lines up to one that matches."""
        out, end = [], time.monotonic() + seconds
        while not out or not re.match(pattern, out[-1]):
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f'{pattern} in vain, but {out}')
            # imaplib has a buffer; one line at a time stays in step with it.
            self.imap.sock.settimeout(left)
            try:
                out.append(self.imap.readline())
            except TimeoutError:
                continue
        self.imap.sock.settimeout(60)
        return out

    def done(self):
        self.imap.send(b'DONE\r\n')
        return self.until(self.tag + b' OK')


def quote(mailbox):
    return '"' + mailbox.replace('\\', '\\\\').replace('"', '\\"') + '"'


FETCH = re.compile(
    rb'(\d+) \(UID (\d+) FLAGS \(([^)]*)\) INTERNALDATE "([^"]*)" '
    rb'RFC822\.SIZE (\d+)(?: BODY\[\] (.*))?', re.S)


def imap_folder(m, mailbox, bodies=True, readonly=True):
    """What IMAP says of a folder: uidvalidity, uidnext, mail by UID."""
    typ, data = m.select(quote(mailbox), readonly)
    if typ != 'OK':
        raise AssertionError(f'SELECT {mailbox}: {data}')
    out = {'messages': int(data[0]), 'mail': {}}
    for key in ('UIDVALIDITY', 'UIDNEXT'):
        out[key.lower()] = int(m.response(key)[1][0])
    if not out['messages']:
        return out
    what = 'UID FLAGS INTERNALDATE RFC822.SIZE'
    typ, data = m.fetch('1:*', f'({what}{" BODY.PEEK[]" * bodies})')
    if typ != 'OK':
        raise AssertionError(f'FETCH {mailbox}: {data}')
    for item in data:
        head, body = item if isinstance(item, tuple) else (item, None)
        match = FETCH.match(head)
        if not match:
            if head.strip() not in (b')', b''):
                raise AssertionError(f'unexpected FETCH answer {head!r}')
            continue
        date = imaplib.Internaldate2tuple(b'INTERNALDATE "%s"'
                                          % match[4])
        out['mail'][int(match[2])] = {
            'flags': set(match[3].decode().split()),
            'date': int(time.mktime(date)), 'size': int(match[5]),
            'body': body}
    return out


def through_dovecot(raw):
    """The octets that Dovecot sends for a message stored as raw."""
    return re.sub(rb'(?<!\r)\n', b'\r\n', raw).replace(b'\0', b'\x80')
