"""MBX files that c-client cannot make: every date form, damage of all kinds.

The format is UW IMAP 2007f's, src/osdep/unix/mbx.c. A 2048-octet header, then
for each message a record line "date,size;kkkkkkkkffff-uuuuuuuu" CR LF and its
octets.
"""

import contextlib
import fcntl
import os
import re

HEADER = 2048
SEEN, DELETED, FLAGGED, ANSWERED, OLD, DRAFT = 1, 2, 4, 8, 16, 32
EXPUNGED = 0x8000
DATE = '02-Feb-2004 06:07:08 +0100'


def header(uidvalidity=0x4b3d5a10, uidlast=0, keywords=(), pid=None):
    head = b'*mbx*\r\n%08x%08x\r\n' % (uidvalidity, uidlast)
    for i in range(30):
        head += (keywords[i].encode() if i < len(keywords) else b'') + b'\r\n'
    head = head.ljust(HEADER, b'\0')
    if pid is not None:
        head = head[:2038] + b'%08x\r\n' % pid
    return head


def line(size, uid=0, flags=OLD, keywords=0, date=DATE):
    return b'%s,%d;%08x%04x-%08x\r\n' % (date.encode(), size, keywords, flags,
                                         uid)


def record(text, uid=0, flags=OLD, keywords=0, date=DATE):
    return line(len(text), uid, flags, keywords, date) + text


def text(n):
    """An ordinary message."""
    body = f'Line of message {n}.\r\n' * (1 + n % 5)
    return (f'From: a{n}@example.test\r\nSubject: number {n}\r\n'
            f'Message-ID: <w{n}@example.test>\r\n\r\n{body}').encode()


def mailbox(count=5, uids=None, dates=None, keywords=(), uidlast=None,
            flags=OLD):
    """A good mailbox of count messages."""
    uids = uids or list(range(1, count + 1))
    out = header(uidlast=max(uids) if uidlast is None else uidlast,
                 keywords=keywords)
    for i, uid in enumerate(uids):
        out += record(text(i + 1), uid, flags,
                      date=dates[i] if dates else DATE)
    return out


def offsets(data):
    """Where each record line starts, from a walk by sizes."""
    pos, out = HEADER, []
    while pos < len(data):
        out.append(pos)
        m = re.match(rb'[^,]*,(\d+);', data[pos:pos + 64])
        pos = data.index(b'\r\n', pos) + 2 + int(m[1])
    return out


def anew(path, uidvalidity):
    """Another file in its place, with the same messages under another
    UIDVALIDITY."""
    with open(path, 'rb') as f:
        data = f.read()
    st = os.stat(path)
    with open(path + '~', 'xb') as f:
        os.fchown(f.fileno(), st.st_uid, st.st_gid)
        os.fchmod(f.fileno(), st.st_mode & 0o777)
        f.write(data[:7] + b'%08x' % uidvalidity + data[15:])
    os.replace(path + '~', path)


def keyword_table(data):
    """Names by slot."""
    names = []
    for name in data[25:HEADER].split(b'\r\n')[:30]:
        if not name:
            break
        names.append(name.decode('ascii', 'replace'))
    return names


# Every form that c-client's mail_parse_date() takes.
DATES = [
    ' 1-Jan-2001 00:00:00 +0000', '01-Jan-2001 00:00:00 +0000',
    '1-Jan-2001 00:00:00 +0000', '31-Dec-1999 23:59:59 -1200',
    '5-Jun-03 04:05:06 +0200', '5-Jun-48 04:05:06 +0200',
    '5-Jun-70 04:05:06 +0200', '5-Jun-99 04:05:06 +0200',
    '12-Mar-2005', '12-Mar-2005 11:22:33', '12-Mar-2005 11:22:33 -0330',
    '12-Mar-2005 11:22:60 +0000', '31-Feb-2005 11:22:33 +0000',
    '29-Feb-2005 00:00:00 +0000', '31-Apr-2006 12:00:00 +0100',
    '12-Mar-2005 11:22:33-PST', '12-Mar-2005 11:22:33-GMT',
    '12-Mar-2005 11:22:33-UT', '12-Mar-2005 11:22:33-EST',
    '12-Mar-2005 11:22:33-EDT', '12-Mar-2005 11:22:33-CST',
    '12-Mar-2005 11:22:33-CDT', '12-Mar-2005 11:22:33-MST',
    '12-Mar-2005 11:22:33-PDT', '12-Mar-2005 11:22:33-BST',
    '12-MAR-2005 11:22:33 +0000', '12-mar-2005 11:22:33 +0000',
    '31-Dec-2096 23:59:59 -1200', '01-Jan-1970 00:00:00 +0000',
    '19-Jan-2038 03:14:08 +0000', '12-Mar-2005 11:22:33 +1400',
]


def records(data):
    """Every record of a good file: flags, keywords, uid, text..."""
    out = []
    for pos in offsets(data):
        end = data.index(b'\r\n', pos) + 2
        m = re.match(rb'([^,]*),(\d+);(.{8})(.{4})-(.{8})\r\n', data[pos:end])
        out.append({'off': pos, 'date': m[1].decode(), 'size': int(m[2]),
                    'keywords': int(m[3], 16), 'flags': int(m[4], 16),
                    'uid': int(m[5], 16), 'text': data[end:end + int(m[2])]})
    return out


@contextlib.contextmanager
def locked(path):
    """The mailbox, open for writing, under the locks of UW's append."""
    with open(path, 'r+b') as f:
        fcntl.flock(f, fcntl.LOCK_SH)
        st = os.fstat(f.fileno())
        name = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
        while True:
            # Others may open it as soon as it is there.
            mask = os.umask(0)
            fd = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
            os.umask(mask)
            fcntl.flock(fd, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(name)):
                    break
            os.close(fd)
        try:
            yield f
            f.flush()
        finally:
            os.unlink(name)
            os.close(fd)
