#!/usr/bin/python3
"""Change mail through Dovecot, as mail programs do.

    change.py --host H --imap PORT --password P --mail FILE USER FOLDER

In INBOX of USER: a flag, a keyword that nobody used before, a new message with
a date of its own (the one in FILE), a copy into FOLDER, a message moved there,
one expunged. Prints each IMAP command. Exit status: 0 all accepted, 1 not.
"""

import argparse
import imaplib
import re
import sys

DATE = '"12-Mar-2013 09:15:00 +0100"'


def say(imap, what, answer):
    status, data = answer
    print(f"   {what:<58}{status}")
    if status != "OK":
        sys.exit(f"change.py: {what}: {data}")
    return data


def change(imap, options):
    mail = open(options.mail, "rb").read()
    mail = re.sub(rb"\r?\n", b"\r\n", mail)
    folder = f'"{options.folder}"'
    say(imap, "SELECT INBOX", imap.select("INBOX"))
    last = imap.uid("SEARCH", "ALL")[1][0].split()
    say(imap, rf"STORE {last[0].decode()} +FLAGS (\Flagged)",
        imap.uid("STORE", last[0], "+FLAGS", r"(\Flagged)"))
    say(imap, f"STORE {last[-1].decode()} +FLAGS (Protocollo)",
        imap.uid("STORE", last[-1], "+FLAGS", "(Protocollo)"))
    say(imap, r"APPEND INBOX (\Seen Protocollo), of March 2013",
        imap.append("INBOX", r"(\Seen Protocollo)", DATE, mail))
    say(imap, f"COPY {last[0].decode()} {options.folder}",
        imap.uid("COPY", last[0], folder))
    say(imap, f"MOVE {last[1].decode()} {options.folder}",
        imap.uid("MOVE", last[1], folder))
    say(imap, rf"STORE {last[-2].decode()} +FLAGS (\Deleted)",
        imap.uid("STORE", last[-2], "+FLAGS", r"(\Deleted)"))
    say(imap, "EXPUNGE", imap.expunge())
    # Dovecot numbers what arrived in a folder when it next looks there.
    say(imap, f"SELECT {options.folder}", imap.select(folder))
    imap.logout()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--imap", type=int, required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--mail", required=True)
    parser.add_argument("user")
    parser.add_argument("folder")
    options = parser.parse_args()
    imap = imaplib.IMAP4(options.host, options.imap, timeout=30)
    imap.login(options.user, options.password)
    change(imap, options)


if __name__ == "__main__":
    main()
