"""What a new IMAP client finds, compared with what c-client finds in the MBX
mailboxes behind the view."""

import hashlib
import re
import time

import harness

LETTER = {'\\Draft': 'D', '\\Flagged': 'F', '\\Answered': 'R', '\\Seen': 'S',
          '\\Deleted': 'T'}


def facts(dovecot, user):
    """Everything that a new client finds: folders, subscriptions, mail."""
    m = dovecot.imap(user)
    out = {'list': sorted(re.sub(rb' ?\\(Un)?Marked', b'', line)
                          for line in m.list()[1]),
           'lsub': sorted(m.lsub()[1])}
    for line in out['list']:
        if b'\\Noselect' not in line and b'\\NonExistent' not in line:
            name = line.split(b' "." ')[1].decode().strip('"')
            out[name] = harness.imap_folder(m, name)
    m.logout()
    return out


def comparable(known, now, everything):
    """Facts without what may differ between two servers."""
    out = {}
    for name, folder in everything.items():
        if not isinstance(folder, dict):
            out[name] = folder
            continue
        entry = out[name] = {'messages': folder['messages'],
                             'uidnext': folder['uidnext']}
        if folder['uidvalidity'] in known:
            entry['uidvalidity'] = folder['uidvalidity']
        for uid, mail in folder['mail'].items():
            date = 'now' if abs(mail['date'] - now) < 86400 else mail['date']
            entry[uid] = {**mail, 'date': date,
                          'flags': sorted(mail['flags'] - {'\\Recent'})}
    return out


def as_dump(folder, without):
    """A folder of facts in the words of a dump."""
    out = {}
    for uid, mail in folder['mail'].items():
        words = {f.lower() for f in mail['flags'] if f[0] != '\\'} - without
        out[uid] = {
            'flags': ''.join(sorted(LETTER[f] for f in mail['flags']
                                    if f in LETTER)) or '-',
            'keywords': ','.join(sorted(words)) or '-',
            'date': time.strftime('%Y-%m-%dT%H:%M:%SZ',
                                  time.gmtime(mail['date'])),
            'size': str(mail['size']),
            'body': mail['body']}
    return out


def expected(everything, folders, only_dovecot):
    """Dumps of folders, without the keywords that only_dovecot has for one."""
    want = {f: as_dump(everything[f], only_dovecot.get(f, set()))
            for f in folders}
    for folder in want.values():
        for mail in folder.values():
            mail['sha256'] = hashlib.sha256(mail.pop('body')).hexdigest()
    return want


def compare(case, rig, dovecot, user, folders, only_dovecot=None, seconds=30):
    """c-client finds in the user's MBX mailboxes, which are these folders, what
    Dovecot says, once the mirror has done its work."""
    everything = facts(dovecot, user)
    want = expected(everything, folders, only_dovecot or {})

    def look():
        dump = harness.cc_dump(rig.legacy_file(user, 'INBOX'),
                               rig.legacy_file(user, 'mail'))
        return {f: box['mail'] for f, box in dump.items()}, dump

    deadline = time.monotonic() + seconds
    got, dump = look()
    while got != want and time.monotonic() < deadline:
        time.sleep(0.2)
        got, dump = look()
    case.assertEqual(sorted(want), sorted(got), 'MBX mailboxes')
    for folder in folders:
        case.assert_same(want[folder], got[folder],
                         f'{user}: {folder}: IMAP -> MBX')
        case.assertEqual(dump[folder]['uidvalidity'],
                         everything[folder]['uidvalidity'])
    return everything
