"""Random IMAP sessions in the language of imap_script.py, from a seed.

Three connections take turns. Folders that somebody has selected are not
renamed or deleted: when their session notices depends on the time.
"""

import random

WORDS = ['$Label1', 'Urgent', 'todo', 'red', 'green', 'blue', '$Forwarded',
         'later', 'x-1']
FLAGS = ['\\Seen', '\\Flagged', '\\Answered', '\\Draft', '\\Deleted']
MAILS = ['plain', 'multi', 'nested', 'odd', 'header']


class Writer:
    def __init__(self, seed, world):
        self.r = random.Random(seed)
        self.lines = []
        self.mbx = set(world)
        self.folders = set(world)
        self.selected = {}
        self.writable = {}
        self.made = 0

    def flags(self, least=0):
        n = self.r.randint(least, 3)
        return '(' + ' '.join(self.r.sample(FLAGS + WORDS, n)) + ')'

    def folder(self):
        return self.r.choice(sorted(self.folders))

    def free_folder(self):
        """A folder without children that nobody has selected."""
        names = [f for f in self.folders if f != 'INBOX'
                 and f not in self.selected.values()]
        return self.r.choice(sorted(names)) if names else None

    def numbers(self):
        a, b = self.r.randint(1, 12), self.r.randint(1, 12)
        return self.r.choice([f'{a}', f'{a}:{b}', f'{a},{b}', f'{a}:*', '*',
                              '1:*'])

    def literal(self):
        name = self.r.choice(MAILS + [f'#{self.r.randint(100, 999)}'] * 3)
        return '{%s%s}' % (name, self.r.choice(['', '+']))

    def message(self):
        date = ''
        if self.r.random() < .5:
            date = '"%2d-%s-%d %02d:%02d:%02d +0100" ' % (
                self.r.randint(1, 28), self.r.choice(['Jan', 'Jul']),
                self.r.randint(1980, 2020), self.r.randint(0, 23),
                self.r.randint(0, 59), self.r.randint(0, 59))
        return f'{self.flags()} {date}{self.literal()}'

    # Commands; each gives one or None

    def select(self, c):
        verb = 'EXAMINE' if self.r.random() < .15 else 'SELECT'
        self.selected[c] = self.folder()
        self.writable[c] = verb == 'SELECT'
        return f'{verb} {self.selected[c]}'

    def leave(self, c):
        del self.selected[c]
        return self.r.choice(['CLOSE', 'UNSELECT'])

    def store(self, c):
        uid = self.r.choice(['', '', 'UID '])
        how = self.r.choice(['+', '+', '-', ''])
        silent = self.r.choice(['', '.SILENT'])
        return (f'{uid}STORE {self.numbers()} {how}FLAGS{silent} '
                f'{self.flags(1)}')

    def copy(self, c):
        verb = self.r.choice(['COPY', 'UID COPY', 'MOVE', 'UID MOVE'])
        what = self.r.choice([str(self.r.randint(1, 10)), self.numbers()])
        if what in ('1:*', '*') and 'MOVE' in verb:
            what = '1'
        return f'{verb} {what} {self.folder()}'

    def fetch(self, c):
        uid = self.r.choice(['', 'UID '])
        what = self.r.choice([
            '(UID FLAGS)', 'FLAGS', '(FLAGS INTERNALDATE RFC822.SIZE)',
            'BODY.PEEK[]', 'BODY[]<0.30>', 'ENVELOPE', 'BODY.PEEK[TEXT]',
            'BODYSTRUCTURE', 'BODY.PEEK[HEADER.FIELDS (SUBJECT)]'])
        return f'{uid}FETCH {self.numbers()} {what}'

    def search(self, c):
        return self.r.choice([
            'SEARCH UNSEEN', 'UID SEARCH DELETED', 'SEARCH KEYWORD red',
            'UID SEARCH ALL', 'SEARCH SUBJECT number', 'SEARCH BODY line',
            'SEARCH RETURN (MIN MAX COUNT) FLAGGED', 'SEARCH LARGER 150',
            'SEARCH SINCE 1-Jan-2003', 'UID SEARCH UNANSWERED UNDRAFT'])

    def append(self, c):
        several = ''.join(' ' + self.message()
                          for _ in range(self.r.choice([0, 0, 0, 1, 3])))
        return f'APPEND {self.folder()} {self.message()}{several}'

    def status(self, c):
        return f'STATUS {self.folder()} (MESSAGES UIDNEXT UNSEEN)'

    def create(self, c):
        self.made += 1
        parent = self.r.choice(['', '', 'work.', 'lots.'])
        name = f'{parent}new{self.made}'
        self.folders.add(name)
        return f'CREATE {name}'

    def rename(self, c):
        old = self.free_folder()
        if not old or any(f.startswith(old + '.') for f in self.folders):
            return None
        self.made += 1
        new = f'renamed{self.made}'
        self.folders.remove(old)
        self.folders.add(new)
        if old in self.mbx:
            self.mbx.remove(old)
            self.mbx.add(new)
        return f'RENAME {old} {new}'

    def delete(self, c):
        old = self.free_folder()
        if not old or any(f.startswith(old + '.') for f in self.folders):
            return None
        self.folders.remove(old)
        self.mbx.discard(old)
        return f'DELETE {old}'

    def expunge(self, c):
        return self.r.choice(['EXPUNGE', f'UID EXPUNGE {self.numbers()}'])

    def other(self, c):
        return self.r.choice(['NOOP', 'NOOP', 'CHECK', 'LIST "" *',
                              'LSUB "" *', f'SUBSCRIBE {self.folder()}'])

    WITHOUT = [('append', 6), ('status', 2), ('create', 1), ('rename', 1),
               ('delete', .5), ('other', 2), ('select', 6)]
    WITH = [('store', 14), ('copy', 7), ('fetch', 7), ('search', 3),
            ('expunge', 3), ('leave', 1.5), ('other', 6)]

    def command(self):
        c = self.r.choice('ABC')
        table = self.WITHOUT + (self.WITH if c in self.selected else [])
        kinds, weights = zip(*table)
        text = None
        while text is None:
            kind = self.r.choices(kinds, weights)[0]
            text = getattr(self, kind)(c)
        self.lines.append(f'{c}: {text}')


def session(seed, world, steps):
    """A script of so many commands."""
    w = Writer(seed, world)
    for _ in range(steps):
        w.command()
    return '\n'.join([f'# seed {seed}', '#: mbx ' + ' '.join(sorted(w.mbx))]
                     + w.lines) + '\n'
