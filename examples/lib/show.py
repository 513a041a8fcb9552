#!/usr/bin/python3
"""Compare what UW's c-client sees with what Dovecot serves.

    show.py --host H --imap PORT --pop3 PORT --password P FILE...

Each FILE is named after a user and holds the output of `uwmail show` for all
of his mailboxes, followed by "subscribed" lines. Every message is compared:
UID, flags, keywords, date, size, octets. Exit status: 0 all the same, 1 not.
"""

import argparse
import base64
import email
import email.header
import imaplib
import os
import poplib
import re
import sys
import time
from datetime import datetime, timezone

MONTHS = ("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec").split()
NAME_WIDTH = 27


class Message:
    """A message as one side sees it; equal means equal in everything."""

    def __init__(self, uid, flags, date, size, octets):
        self.uid = uid
        self.flags = frozenset(f.lower() for f in flags) - {"\\recent"}
        self.date = date
        self.size = size
        self.octets = octets

    def differences(self, other):
        return [name for name in ("uid", "flags", "date", "size", "octets")
                if getattr(self, name) != getattr(other, name)]


class Mailbox:
    def __init__(self, name, uidvalidity, uidnext, messages, unseen):
        self.name = name
        self.uidvalidity = uidvalidity
        self.uidnext = uidnext
        self.messages = messages
        self.unseen = unseen

    def numbers(self):
        return (len(self.messages), self.unseen, self.uidvalidity,
                self.uidnext)


def parse_date(text):
    """INTERNALDATE as seconds; strptime would depend on the locale."""
    m = re.match(r" ?(\d+)-(\w{3})-(\d{4}) (\d\d):(\d\d):(\d\d) "
                 r"([+-])(\d\d)(\d\d)$", text)
    day, month, year, hour, minute, second, sign, zh, zm = m.groups()
    zone = (int(zh) * 60 + int(zm)) * (-60 if sign == "-" else 60)
    when = datetime(int(year), MONTHS.index(month) + 1, int(day), int(hour),
                    int(minute), int(second), tzinfo=timezone.utc)
    return int(when.timestamp()) - zone


def as_served(octets):
    """What an IMAP server has to send for these octets of a store."""
    return re.sub(rb"\r?\n", b"\r\n", octets).replace(b"\0", b"\x80")


def decode_name(name):
    """Modified UTF-7, as IMAP writes names of mailboxes."""
    def shift(m):
        if not m.group(1):
            return "&"
        text = m.group(1).replace(",", "/")
        return base64.b64decode(text + "=" * (-len(text) % 4)) \
            .decode("utf-16-be")
    return re.sub(r"&([^-]*)-", shift, name)


def served_name(uw_name):
    """The name under which janusmail (with dots=underscore) and a separator
    of "/" show a mailbox that UW knows as `uw_name`."""
    return re.sub(r"^mail/", "", uw_name).replace(".", "_")


def subject(message):
    value = email.message_from_bytes(message.octets)["subject"]
    if value is None:
        return "(no subject)"
    text = str(email.header.make_header(email.header.decode_header(value)))
    text = re.sub(r"\s+", " ", text)
    return text if len(text) <= 60 else text[:57] + "..."


# --- the two sides ------------------------------------------------------------

def read_uw(path):
    """The output of `uwmail show`: mailboxes by name, and subscriptions."""
    boxes, subscribed = {}, set()
    with open(path, "rb") as f:
        while line := f.readline():
            field = line.decode("latin-1").rstrip("\n").split("\t")
            if field[0] == "mailbox":
                name = field[1]
                box = Mailbox(name, int(field[3]), int(field[4]), [], 0)
                boxes[name] = box
            elif field[0] == "message":
                octets = f.read(int(field[3]))
                f.read(1)
                flags = field[4].split()
                box.messages.append(Message(
                    int(field[1]), flags, parse_date(field[2]),
                    int(field[3]), octets))
                box.unseen += "\\Seen" not in flags
            elif field[0] == "subscribed":
                subscribed.add(field[1])
            else:
                sys.exit(f"show.py: {path}: not output of uwmail: {field[0]}")
    return boxes, subscribed


def quoted(name):
    return '"%s"' % name.replace("\\", "\\\\").replace('"', '\\"')


def listed(answer):
    """Names in LIST or LSUB answers that can be selected."""
    names = set()
    for line in answer[1]:
        m = line and re.match(rb'\(([^)]*)\) "/" "?(.*?)"?$', line)
        if m and b"\\noselect" not in m.group(1).lower():
            names.add(m.group(2).decode())
    return names


def fetch(imap, count):
    """All messages of the selected mailbox, `count` of them."""
    if not count:
        return []
    messages = []
    status, data = imap.uid("FETCH", "1:*", "(UID FLAGS INTERNALDATE"
                            " RFC822.SIZE BODY.PEEK[])")
    if status != "OK":
        sys.exit(f"show.py: FETCH: {data}")
    for item in data:
        if not isinstance(item, tuple):
            continue
        head = item[0].decode()
        messages.append(Message(
            int(re.search(r"\bUID (\d+)", head).group(1)),
            re.search(r"FLAGS \(([^)]*)\)", head).group(1).split(),
            parse_date(re.search(r'INTERNALDATE "([^"]*)"', head).group(1)),
            int(re.search(r"RFC822.SIZE (\d+)", head).group(1)), item[1]))
    return messages


def read_dovecot(options, user):
    boxes = {}
    imap = imaplib.IMAP4(options.host, options.imap, timeout=30)
    imap.login(user, options.password)
    for name in listed(imap.list()):
        status, data = imap.status(quoted(name), "(MESSAGES UNSEEN UIDNEXT"
                                   " UIDVALIDITY)")
        if status != "OK":
            print(f"  {name}: Dovecot: {data[0].decode()}")
            continue
        count = {k: int(v) for k, v in
                 re.findall(r"([A-Z]+) (\d+)", data[0].decode()
                            .rpartition("(")[2])}
        imap.select(quoted(name), readonly=True)
        boxes[name] = Mailbox(name, count["UIDVALIDITY"], count["UIDNEXT"],
                              fetch(imap, count["MESSAGES"]),
                              count["UNSEEN"])
    subscribed = listed(imap.lsub())
    imap.logout()
    return boxes, subscribed


def read_uidls(options, user):
    pop3 = poplib.POP3(options.host, options.pop3, timeout=30)
    pop3.user(user)
    pop3.pass_(options.password)
    uidls = [line.decode().split()[1] for line in pop3.uidl()[1]]
    pop3.quit()
    return uidls


# --- the comparison -----------------------------------------------------------

class Report:
    def __init__(self):
        self.mailboxes = self.messages = self.different = 0

    def verdict(self, why):
        """The word that ends a row."""
        if not why:
            return "same"
        self.different += 1
        return "DIFFERENT: " + ", ".join(why)

    def row(self, side, name, box, end=""):
        count = "%8d %6d %11d %8d" % box.numbers() if box else "%8s" % "-"
        print(f"  {side:<8}{decode_name(name):<{NAME_WIDTH}}{count}  {end}"
              .rstrip())

    def mailbox(self, uw, dovecot):
        why = []
        if dovecot is None:
            why = ["Dovecot does not show it"]
        else:
            names = ("messages", "unseen", "UIDVALIDITY", "UIDNEXT")
            why = [n for n, a, b in zip(names, uw.numbers(),
                                        dovecot.numbers()) if a != b]
            for a, b in zip(uw.messages, dovecot.messages):
                a = Message(a.uid, a.flags, a.date, a.size,
                            as_served(a.octets))
                why += [f"{d} of UID {a.uid}" for d in a.differences(b)]
        self.row("UW", uw.name, uw)
        self.row("Dovecot", dovecot.name if dovecot else "", dovecot,
                 self.verdict(why))
        self.subjects(uw, dovecot)
        self.mailboxes += 1
        self.messages += len(uw.messages)

    def subjects(self, uw, dovecot):
        first = [subject(m) for m in uw.messages[:2]]
        theirs = [subject(m) for m in dovecot.messages[:2]] if dovecot else []
        for text in first:
            print(f"          {text}")
        if theirs != first:
            for text in theirs:
                print(f"          Dovecot: {text}")

    def uidls(self, inbox, theirs):
        ours = ["%08x%08x" % (inbox.uidvalidity, m.uid)
                for m in inbox.messages]
        same = sum(a == b for a, b in zip(ours, theirs))
        why = [] if ours == theirs else [f"UW {ours}, Dovecot {theirs}"]
        first = ours[0] if ours else "none"
        text = f"{same} of {len(ours)} UIDLs, the first is {first}"
        print(f"  {'POP3':<8}{text:<{NAME_WIDTH + 37}} {self.verdict(why)}")

    def subscriptions(self, uw, theirs):
        ours = {served_name(name) for name in uw}
        why = sorted(decode_name(n) for n in ours ^ theirs)
        text = f"{len(ours & theirs)} of {len(ours)} subscriptions"
        print(f"  {'IMAP':<8}{text:<{NAME_WIDTH + 37}} {self.verdict(why)}")


def compare_user(report, options, path):
    user = os.path.basename(path)
    uw, uw_subscribed = read_uw(path)
    dovecot, subscribed = read_dovecot(options, user)
    print(f"\n{user:<{NAME_WIDTH + 10}}messages unseen UIDVALIDITY  UIDNEXT")
    for name in sorted(uw, key=lambda n: (n != "INBOX", n)):
        report.mailbox(uw[name], dovecot.pop(served_name(name), None))
    for name, box in sorted(dovecot.items()):
        report.row("Dovecot", name, box, report.verdict(["UW has none such"]))
    report.uidls(uw["INBOX"], read_uidls(options, user))
    report.subscriptions(uw_subscribed, subscribed)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--imap", type=int, required=True)
    parser.add_argument("--pop3", type=int, required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("file", nargs="+")
    options = parser.parse_args()
    started = time.monotonic()
    report = Report()
    for path in options.file:
        compare_user(report, options, path)
    print(f"\n{len(options.file)} users, {report.mailboxes} mailboxes,"
          f" {report.messages} messages compared in"
          f" {time.monotonic() - started:.1f} s:"
          f" {report.different or 'no'} difference"
          f"{'' if report.different == 1 else 's'}")
    return 1 if report.different else 0


if __name__ == "__main__":
    sys.exit(main())
