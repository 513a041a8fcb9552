"""Trees as facts that can be compared, and dumps (janusmail-dump(5))."""

import hashlib
import os
import stat
import time

from harness_base import CC_DUMP, NO_LEAKS, run


def read_quietly(path, dir_fd=None):
    fd = os.open(path, os.O_RDONLY | os.O_NOATIME | os.O_NOFOLLOW,
                 dir_fd=dir_fd)
    with os.fdopen(fd, 'rb') as f:
        return f.read()


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def refused(error, fn, *args):
    """fn(*args) fails with that error; for what runs in as_user()."""
    try:
        fn(*args)
    except OSError as e:
        assert e.errno == error, f'{fn.__name__}{args}: {e}'
        return
    raise AssertionError(f'{fn.__name__}{args} succeeded')


def snapshot(root):
    """Everything about a tree that must not change: path -> facts."""
    facts = {}

    def visit(path):
        st = os.lstat(path)
        facts[os.path.relpath(path, root)] = entry = {
            'mode': oct(st.st_mode), 'owner': (st.st_uid, st.st_gid),
            'ino': st.st_ino, 'links': st.st_nlink, 'size': st.st_size,
            'mtime': st.st_mtime_ns, 'ctime': st.st_ctime_ns,
            'atime': st.st_atime_ns}
        if stat.S_ISREG(st.st_mode):
            entry['sha256'] = hashlib.sha256(read_quietly(path)).hexdigest()
        elif stat.S_ISDIR(st.st_mode):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME)
            try:
                names = os.listdir(fd)
            finally:
                os.close(fd)
            for name in sorted(names):
                visit(os.path.join(path, name))

    visit(root)
    return facts


def age(root):
    """Give a tree access times older than its other times, so that a read with
    any mount option but noatime would show."""
    old = int((time.time() - 3 * 86400) * 1e9)
    for path, dirs, files in os.walk(root, topdown=False):
        for name in files + ['.']:
            p = os.path.join(path, name)
            st = os.lstat(p)
            if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
                os.utime(p, ns=(old, st.st_mtime_ns))


def difference(before, after):
    """The first differences of two dicts of facts, for people."""
    lines = []
    for key in sorted(set(before) | set(after), key=str):
        a, b = before.get(key), after.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            lines += [f'{key}: {k}: {a.get(k)!r} -> {b.get(k)!r}'
                      for k in sorted(set(a) | set(b)) if a.get(k) != b.get(k)]
        else:
            lines.append(f'{key!r}: {a!r} -> {b!r}')
    more = f'\n... {len(lines) - 20} more' if len(lines) > 20 else ''
    return '\n'.join(lines[:20]) + more


# Dumps

def parse_dump(text):
    """janusmail-dump(5) text: {folder: facts}, [subscribed names]"""
    lines = text.splitlines()
    if not lines or lines[0] != 'janusmail-dump 1':
        raise AssertionError(f'not a dump: {text[:200]!r}')
    folders, subscribed, current = {}, [], None
    for line in lines[1:]:
        word, rest = line.split(' ', 1)
        if word == 'folder':
            name, *fields = rest.split()
            current = {k: int(v) for k, v in (f.split('=') for f in fields)}
            current['mail'] = {}
            folders[name] = current
        elif word == 'subscribed':
            subscribed.append(rest)
        else:
            current['mail'][int(word)] = dict(
                f.split('=', 1) for f in rest.split())
    return folders, subscribed


def cc_dump(*paths):
    r = run([CC_DUMP, *paths], env=NO_LEAKS, timeout=120)
    if r.returncode:
        raise AssertionError(f'cc_dump {paths}: {r.stderr}')
    return parse_dump(r.stdout)[0]
