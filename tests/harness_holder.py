"""A process that holds locks of a mailbox until it is told to let go."""

import contextlib
import subprocess
import sys

CODE = '''
import fcntl, os, sys
how, size = sys.argv[1], int(sys.argv[2])
record = sys.stdin.buffer.read(size)
os.umask(0)
names = []
for path in sys.argv[3:]:
    box = os.open(path, os.O_RDWR)
    st = os.fstat(box)
    name = f'/tmp/.{st.st_dev:x}.{st.st_ino:x}'
    if 'exclusive' in how:
        fcntl.flock(box, fcntl.LOCK_EX)
    if 'shared' in how:
        fcntl.flock(box, fcntl.LOCK_SH)
    while 'parse' in how:
        lock = os.open(name, os.O_CREAT | os.O_RDWR, 0o666)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(lock), os.stat(name)):
                names.append(name)
                break
        except FileNotFoundError:
            pass
        os.close(lock)
    os.lseek(box, 0, os.SEEK_END)
    os.write(box, record)
print('ok', flush=True)
sys.stdin.read()
for name in names:
    os.unlink(name)
'''


@contextlib.contextmanager
def holder(*paths, how='parse', record=b''):
    """Holds what @how names, parse, shared or exclusive, of all these
    mailboxes, after it has appended the record to each; its pid."""
    proc = subprocess.Popen(
        [sys.executable, '-c', CODE, how, str(len(record)), *paths],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    try:
        proc.stdin.write(record)
        proc.stdin.flush()
        if proc.stdout.readline() != b'ok\n':
            raise AssertionError(f'{paths} cannot be locked')
        yield proc.pid
    finally:
        proc.stdin.close()
        proc.wait(30)
        proc.stdout.close()
