"""janusmail convert over the users of a rig, and what it made."""

import glob
import hashlib
import json
import os
import re

import harness

ALL, QUARANTINED, TROUBLE, STOPPED = 0, 1, 2, 100   # exit statuses


def spec(rig):
    return f'mbx:inbox={rig.legacy}/%u/INBOX,folders={rig.legacy}/%u/mail'


def convert(rig, *args, to='out', want=ALL, env=None):
    """The text that it printed; its status is the one wanted."""
    r = harness.run([harness.TOOL, 'convert', *args, spec(rig), rig.path(to)],
                    env={**rig.env(), **(env or {})}, timeout=120)
    if r.returncode != want:
        raise AssertionError(f'convert ended with {r.returncode}: {r.stdout}'
                             f'{r.stderr}')
    return r.stdout + r.stderr


def objects(text):
    return [json.loads(line) for line in text.splitlines()]


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def names_of(root):
    """Of a Maildir++ root: folder/cur/NAME -> time and octets."""
    out = {}
    for folder in [''] + [n for n in os.listdir(root) if n[0] == '.']:
        for sub in ('cur', 'new'):
            for name in os.listdir(os.path.join(root, folder, sub)):
                path = os.path.join(root, folder, sub, name)
                st = os.stat(path)
                out[f'{folder}/{sub}/{name}'] = (
                    st.st_mtime_ns, st.st_size, st.st_uid, st.st_mode,
                    hashlib.sha256(read(path)).hexdigest())
    return out


def controls_of(root):
    """Dovecot's files; each folder has a GUID of its own."""
    out = {}
    for path in glob.glob(f'{root}/**/*', recursive=True, include_hidden=True):
        name = os.path.basename(path)
        if name.startswith('dovecot') or name == 'subscriptions':
            out[os.path.relpath(path, root)] = re.sub(
                rb' G[0-9a-f]{32}\n', b' G\n', read(path))
    return out


def without_numbers(value):
    """A number that was given out is not given out again, also to a run that
    was stopped right then."""
    if isinstance(value, dict):
        return {without_numbers(k): without_numbers(v)
                for k, v in value.items()}
    if isinstance(value, bytes):
        return re.sub(rb'F[0-9a-f]{8}D', b'D', value)
    return re.sub(r'F[0-9a-f]{8}D', 'D', value) if isinstance(value, str) \
        else value


def tree(root):
    return without_numbers({**names_of(root), **controls_of(root)})


def flag_set(letters):
    return set() if letters == '-' else set(letters)


def keyword_set(text):
    if text == '-':
        return set()
    return {re.sub(r'\\x(..)', lambda m: chr(int(m[1], 16)), k)
            for k in text.split(',')}
