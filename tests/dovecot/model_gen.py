"""Random operations that make sense, from a seed.

With one process anything may follow anything. With several, what runs at the
same time must come to the same whatever the order: each message belongs to one
process until the next checkpoint, and folders are made, renamed and deleted
between (actor "main").
"""

import random

from model_mail import (
    DELETED, IMAP_KINDS, KEYWORDS, KINDS, SYSTEM, UW, Model)

NAMES = ('Work', 'Work.Deep', 'Lists', 'Lists.a.b', 'Old-mail', 'Zoo',
         'Work.Deep.er', '&ANw-ml', 'New', 'New.er')

# Operation: how often, and whether it needs a folder with an MBX.
WEIGHTS = {
    'append': 16, 'deliver': 12, 'uwput': 8, 'lmtp': 2, 'store': 22,
    'uwflag': 8, 'agentflag': 6, 'copy': 8, 'move': 7, 'agentmove': 2,
    'expunge': 7, 'agentrm': 2, 'uwexpunge': 2, 'close': 1, 'uwopen': 2,
    'uwclose': 2, 'create': 2, 'rename': 2, 'delete': 1.5, 'subscribe': 1,
    'unsubscribe': 0.5, 'look': 6, 'remount': 0.4, 'reindex': 0.3,
    'forget': 0.3}
MAIN = {'create', 'rename', 'delete', 'subscribe', 'unsubscribe', 'remount',
        'reindex', 'forget', 'uwopen', 'uwclose', 'close'}
LIMIT = 60      # messages in a mailbox, about


class Generator:
    def __init__(self, seed, conf):
        self.rnd = random.Random(seed)
        self.conf = conf
        self.model = Model(conf)
        self.actors = conf['actors']
        self.count = 100
        self.parallel = self.actors > 1
        self.weights = {k: w for k, w in WEIGHTS.items()
                        if k not in conf.get('without', ())}

    def number(self):
        self.count += 1
        return self.count

    def generate(self, ops):
        """A list of operations with a checkpoint now and then."""
        out = []
        since = 0
        while len(out) < ops:
            op = self.one()
            op = op and self.model.resolve(op)
            if not op or not self.model.apply(op):
                continue
            out.append(op)
            since += 1
            if since >= self.conf['round']:
                out.append(self.check())
                since = 0
        out.append(self.check())
        return out

    def check(self):
        op = {'op': 'check', 'a': 'main'}
        if self.parallel:
            op.update(owners=self.rnd.randrange(10**6), actors=self.actors)
        self.model.apply(op)
        return op

    def one(self):
        kind = self.rnd.choices(list(self.weights),
                                self.weights.values())[0]
        self.actor = self.rnd.randrange(self.actors)
        boxes = [b for b, x in self.model.boxes.items()
                 if x['legacy'] or kind not in UW]
        if not boxes:
            return None
        self.box = self.rnd.choice(boxes)
        op = getattr(self, '_' + kind, self._plain)(kind)
        if op:
            op = {'op': kind, **op}
            op['a'] = 'main' if kind in MAIN else self.actor
        return op

    # Parts

    def flags(self, most=4, keywords=True):
        pool = SYSTEM + (() if self.parallel else (DELETED,)) \
            + (KEYWORDS * keywords)
        return sorted(set(self.rnd.choices(pool,
                                           k=self.rnd.randrange(most + 1))))

    def date(self):
        # 1990..2025: Dovecot takes "now" for what is later than that.
        return self.rnd.randrange(631152000, 1760000000)

    def some(self, fresh=False, most=6):
        """Messages of the mailbox that the actor may touch."""
        ms = [x.m for x in self.model.in_box(self.box)
              if (fresh or not x.fresh)
              and (not self.parallel or x.owner == self.actor)]
        if not ms:
            return None
        n = min(len(ms), 1 + int(self.rnd.expovariate(0.6)), most)
        return sorted(self.rnd.sample(ms, n), key=lambda m: int(m[1:]))

    def full(self, box):
        return len(self.model.in_box(box)) >= LIMIT

    def _new(self, kinds):
        m = f'm{self.number()}'
        return {'m': m, 'box': self.box, 'kind': self.rnd.choice(kinds),
                'flags': self.flags(), 'date': self.date()}

    # Operations

    def _plain(self, kind):
        return {'box': self.box} if kind not in ('remount', 'reindex',
                                                 'forget') else {}

    def _append(self, kind):
        return None if self.full(self.box) else self._new(IMAP_KINDS)

    def _deliver(self, kind):
        if self.full(self.box):
            return None
        op = self._new(KINDS)
        op['how'] = self.rnd.choice(('rename', 'link', 'cur', 'linkcur'))
        op['flags'] = (self.flags(keywords=False)
                       if op['how'].endswith('cur') else [])
        op['sizes'] = self.rnd.choice(('', 'S', 'SW'))
        return op

    def _uwput(self, kind):
        if self.full(self.box):
            return None
        op = self._new(KINDS)
        # An append makes no keyword, so none that is unknown.
        op['flags'] = self.flags(keywords=False)
        return op

    def _lmtp(self, kind):
        return {'m': f'm{self.number()}'}

    def _store(self, kind):
        ms = self.some(most=40)
        how = self.rnd.choice('++--=' if kind == 'store' else '+-')
        flags = self.flags(3)
        if not ms or not (flags or how == '='):
            return None
        return {'box': self.box, 'ms': ms, 'how': how, 'flags': flags}

    _uwflag = _store

    def _agentflag(self, kind):
        ms = self.some(fresh=True, most=2)
        return ms and {'box': self.box, 'ms': ms,
                       'flags': self.flags(keywords=False)}

    def _copy(self, kind):
        ms = self.some()
        to = self.rnd.choice(list(self.model.boxes))
        if not ms or self.full(to) or (kind != 'copy' and to == self.box):
            return None
        return {'box': self.box, 'ms': ms, 'to': to,
                'ns': [f'm{self.number()}' for _ in ms]}

    _move = _copy

    def _agentmove(self, kind):
        op = self._copy(kind)
        if not op or any(f[0] != '\\' for m in op['ms']
                         for f in self.model.mail[m].flags):
            return None
        return op

    def _expunge(self, kind):
        ms = self.some(most=20)
        return ms and {'box': self.box, 'ms': ms}

    def _agentrm(self, kind):
        ms = self.some(fresh=True, most=3)
        return ms and {'box': self.box, 'ms': ms}

    def _uwexpunge(self, kind):
        """All that are \\Deleted go, so those must be ours, too."""
        ms = self.some(most=8)
        if not ms:
            return None
        more = [x.m for x in self.model.in_box(self.box)
                if DELETED in x.flags and x.m not in ms]
        return {'box': self.box, 'ms': ms + more}

    def _close(self, kind):
        return None if self.parallel else {'box': self.box}

    def _create(self, kind):
        if len(self.model.boxes) > 9:
            return None
        return {'b': f'b{self.number()}', 'name': self.rnd.choice(NAMES)}

    def _rename(self, kind):
        return {'box': self.box, 'name': self.rnd.choice(NAMES)}

    def _delete(self, kind):
        if len(self.model.boxes) < 4:
            return None
        return {'box': self.box}

    def _unsubscribe(self, kind):
        names = sorted(self.model.subscribed)
        return {'name': self.rnd.choice(names)} if names else None
