"""The same mail as UW keeps it and as a Maildir on a disk.

A world is a dict of folder name -> Box; build_mbx() writes it into a legacy
home, build_maildir() as a native Maildir++ with the same UIDs, flags, dates and
octets, independently of janusmail.
"""

import dataclasses
import os
import time

from oracle import mbxfile

FLAGS = {'S': mbxfile.SEEN, 'T': mbxfile.DELETED, 'F': mbxfile.FLAGGED,
         'R': mbxfile.ANSWERED, 'D': mbxfile.DRAFT}


@dataclasses.dataclass
class Mail:
    uid: int
    text: bytes
    flags: str = ''
    keywords: tuple = ()
    date: int = 1076566028
    recent: bool = False


@dataclasses.dataclass
class Box:
    uidvalidity: int
    mail: list
    uidlast: int = 0
    keywords: tuple = ()


PLAIN = (b'From: Anna Rossi <anna@example.test>\r\n'
         b'To: list@example.test, "Carlo, B." <carlo@example.test>\r\n'
         b'Date: Tue, 3 Feb 2004 10:11:12 +0100\r\n'
         b'Subject: A plain message\r\n'
         b'Message-ID: <plain@example.test>\r\n\r\n'
         b'First line.\r\nSecond line, with a needle.\r\n')

MULTIPART = (
    b'From: b@example.test\r\nTo: anna@example.test\r\n'
    b'Cc: x@example.test,\r\n\ty@example.test\r\n'
    b'Date: Wed, 4 Feb 2004 00:00:00 -0800\r\n'
    b'Subject: =?iso-8859-1?Q?Caff=E8_in_two_parts?=\r\n'
    b'In-Reply-To: <plain@example.test>\r\n'
    b'Message-ID: <multi@example.test>\r\nMIME-Version: 1.0\r\n'
    b'Content-Type: multipart/mixed; boundary="=_b"\r\n\r\n'
    b'Preamble.\r\n--=_b\r\n'
    b'Content-Type: text/plain; charset=iso-8859-1\r\n'
    b'Content-Transfer-Encoding: quoted-printable\r\n\r\n'
    b'Un caff=E8 al volo.\r\n--=_b\r\n'
    b'Content-Type: application/octet-stream; name="d.bin"\r\n'
    b'Content-Disposition: attachment; filename="d.bin"\r\n'
    b'Content-Transfer-Encoding: base64\r\n\r\n'
    b'AAECAwQFBgcICQoLDA0ODw==\r\n--=_b--\r\nEpilogue.\r\n')

NESTED = (
    b'From: c@example.test\r\nTo: anna@example.test\r\n'
    b'Subject: Fwd: A plain message\r\nMIME-Version: 1.0\r\n'
    b'Message-ID: <nested@example.test>\r\n'
    b'Content-Type: multipart/mixed; boundary=outer\r\n\r\n'
    b'--outer\r\n\r\nSee below.\r\n--outer\r\n'
    b'Content-Type: message/rfc822\r\n\r\n' + PLAIN + b'\r\n--outer--\r\n')

ODD = (b'Subject: no end of line at the end\r\n'
       b'X-Long: ' + b'word ' * 60 + b'\r\n\r\n'
       b'From the start of a line\r\n.\r\n..dots\r\n\xe8\xe9 8 bit\r\n'
       b'the end')

HEADER_ONLY = b'Subject: nothing else\r\nFrom: d@example.test\r\n\r\n'

LARGE = (b'From: big@example.test\r\nSubject: large\r\n\r\n'
         + b''.join(b'line %05d of a large message\r\n' % n
                    for n in range(3000)))

SAMPLES = {'plain': PLAIN, 'multi': MULTIPART, 'nested': NESTED, 'odd': ODD,
           'header': HEADER_ONLY, 'large': LARGE}


def sample(name):
    """A message by name; "#n" is the n-th of a series."""
    if name.startswith('#'):
        return mbxfile.text(int(name[1:]))
    return SAMPLES[name]


def series(first, count, **kw):
    return [Mail(uid, mbxfile.text(uid), date=1000000000 + 86400 * uid, **kw)
            for uid in range(first, first + count)]


def world():
    inbox = [
        Mail(3, PLAIN, 'S', date=1075799472),
        Mail(4, MULTIPART, 'SR', ('$Label1',), date=1075881600),
        Mail(7, NESTED, 'F', ('$Label1', 'Urgent')),
        Mail(8, ODD, '', ('NonJunk',), date=1),
        Mail(12, HEADER_ONLY, 'D', date=2000000000),
        Mail(13, LARGE, 'T', date=951782400),
        Mail(20, mbxfile.text(20), '', date=1100000020),
        Mail(21, mbxfile.text(21), '', date=1100000021, recent=True),
        Mail(22, mbxfile.text(22), '', date=1100000022, recent=True),
    ]
    work = series(1, 10)
    for i, mail in enumerate(work):
        mail.flags = ('', 'S', 'SF', 'T', 'R', 'D', 'S', 'SRFDT', 'S', 'F')[i]
    return {
        'INBOX': Box(1090519041, inbox, 40, ('$Label1', 'Urgent', 'NonJunk')),
        'work': Box(1090519042, work, 10, ('todo',)),
        'old.letters': Box(1090519043, series(5, 4, flags='S'), 8),
        'old.bills': Box(1090519044, series(1, 2, flags='F'), 5),
        'empty': Box(1090519045, [], 0),
        'lots': Box(1090519046, series(1, 120, flags='S'), 120),
    }


SUBSCRIBED = ['INBOX', 'old.letters', 'work']


# UW's side

def mbx_octets(box):
    out = mbxfile.header(box.uidvalidity,
                         max([box.uidlast] + [m.uid for m in box.mail]),
                         box.keywords)
    for m in box.mail:
        flags = sum(FLAGS[c] for c in m.flags)
        if not m.recent:
            flags |= mbxfile.OLD
        words = sum(1 << box.keywords.index(k) for k in m.keywords)
        date = time.strftime('%d-%b-%Y %H:%M:%S +0000', time.gmtime(m.date))
        out += mbxfile.record(m.text, m.uid, flags, words, date)
    return out


def build_mbx(rig, user, boxes):
    """All boxes in the legacy home of a user of the rig."""
    uid = rig.users[user]
    for name, box in boxes.items():
        where = [] if name == 'INBOX' else ['mail']
        parts = name.split('.')
        for n in range(1, len(parts)):
            path = rig.legacy_file(user, *where, *parts[:n])
            if not os.path.isdir(path):
                os.mkdir(path, 0o700)
                os.chown(path, uid, uid)
        rig.put(user, os.path.join(*where, *parts), mbx_octets(box))
    rig.put(user, '.mailboxlist', ''.join(
        ('INBOX' if name == 'INBOX' else 'mail/' + name.replace('.', '/'))
        + '\n' for name in SUBSCRIBED).encode())


# A Maildir on a disk

def maildir_folder(top, name):
    return top if name == 'INBOX' else os.path.join(top, '.' + name)


def put_box(path, box):
    for sub in ('', 'cur', 'new', 'tmp'):
        os.makedirs(os.path.join(path, sub), 0o700, exist_ok=True)
    letter = {k: chr(ord('a') + i) for i, k in enumerate(box.keywords)}
    lines = [f'3 V{box.uidvalidity} '
             f'N{max([box.uidlast] + [m.uid for m in box.mail]) + 1}']
    for m in box.mail:
        base = f'{m.date}.M{m.uid}P{box.uidvalidity}.disk,S={len(m.text)}'
        lines.append(f'{m.uid} :{base}')
        info = ''.join(sorted(m.flags)) + ''.join(
            sorted(letter[k] for k in m.keywords))
        if m.recent and not info:
            file = os.path.join(path, 'new', base)
        else:
            file = os.path.join(path, 'cur', f'{base}:2,{info}')
        with open(file, 'wb') as f:
            f.write(m.text)
        os.utime(file, (m.date, m.date))
    if box.keywords:
        with open(os.path.join(path, 'dovecot-keywords'), 'w') as f:
            f.writelines(f'{i} {k}\n' for i, k in enumerate(box.keywords))
    with open(os.path.join(path, 'dovecot-uidlist'), 'w') as f:
        f.writelines(line + '\n' for line in lines)


def build_maildir(top, boxes, uid):
    """The same as a Maildir++ of user id uid."""
    for name, box in boxes.items():
        path = maildir_folder(top, name)
        put_box(path, box)
        if name != 'INBOX':
            with open(os.path.join(path, 'maildirfolder'), 'w'):
                pass
    with open(os.path.join(top, 'subscriptions'), 'w') as f:
        f.write('V\t2\n\n')
        f.writelines(name.replace('.', '\t') + '\n' for name in SUBSCRIBED)
    for path, dirs, files in os.walk(top):
        for name in dirs + files + ['.']:
            full = os.path.join(path, name)
            os.chown(full, uid, uid)
            os.chmod(full, 0o700 if os.path.isdir(full) else 0o600)
