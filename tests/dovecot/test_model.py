#!/usr/bin/python3
"""Random operations by IMAP clients, agents and UW's programs; a model of every
mailbox, Dovecot, the view and c-client agree at every checkpoint.

    tests/dovecot/test_model.py                     short, as tests/run does
    tests/dovecot/test_model.py --seed 7 --ops 5000 [--actors 4] [--native]
    tests/dovecot/test_model.py --replay FILE

A seed that fails is run again with fewer and fewer operations, in new stores;
what is left is printed and can be replayed. With one actor the run is the same
each time; with several, each does its part of the list at the same time as the
others, so the parts are the same and their interleaving is not.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness          # noqa: E402
from model_check import Checker         # noqa: E402
from model_gen import Generator         # noqa: E402
from model_mail import Model, lower     # noqa: E402
from harness_uw import Uw                   # noqa: E402
from model_run import Actor, Worker         # noqa: E402

LEGACY = ['INBOX', 'Sent', 'lists.dev', 'Drafts']
FOLDER_OPS = {'create', 'rename', 'delete'}


class World:
    """A rig with one user, and a Dovecot."""

    def __init__(self, conf):
        self.conf = conf
        self.rig = harness.Rig(prefix='jm-model.')
        self.home = self.rig.user('alice')
        self.uid = self.rig.users['alice']
        self.scratch = tempfile.mkdtemp(dir=self.rig.dir)
        os.chmod(self.scratch, 0o755)
        uw = Uw(self.home, self.uid)
        for name in conf['legacy']:
            path = self.uw_name(name)
            if '/' in path[5:]:
                self._owned(os.path.join(self.home, os.path.dirname(path)))
            uw(f'make {path}')
        uw.close()
        self.view = self.rig.store if conf['plain'] else self.rig.mnt
        if not conf['legacy']:
            for sub in ('', 'cur', 'new', 'tmp'):
                self._owned(os.path.join(self.rig.store, 'alice', sub))
        self.mount()
        extra = 'mail_save_crlf = yes\n' if conf['save_crlf'] else ''
        self.dovecot = self.rig.dovecot(
            extra=extra, location=f'maildir:{self.view}/%n')
        # A message that comes back to where it was has its old name.
        self.dovecot.expected.append(': Duplicate file entry at line ')
        self.imap_port = self.dovecot.imap_port
        self.lmtp_port = self.dovecot.lmtp_port

    def _owned(self, path):
        os.makedirs(path, 0o700, exist_ok=True)
        os.chown(path, self.uid, self.uid)

    @staticmethod
    def uw_name(name):
        return name if name == 'INBOX' else 'mail/' + name.replace('.', '/')

    def top(self, name):
        return f'{self.view}/alice' + ('' if name == 'INBOX'
                                          else '/.' + name)

    def mount(self):
        if self.conf['plain']:
            return
        self.rig.mount(self.rig.options(
            scan='touch', mirror=None if self.conf['mirror'] else 'off'))

    def unmount(self):
        if not self.conf['plain']:
            self.rig.unmount()

    def folders(self):
        """Name -> entry of status --json."""
        if self.conf['plain']:
            return {}
        for u in self.rig.status()['users']:
            if u['name'] == 'alice':
                return {f['name']: f for f in u['folders']}
        return {}

    def places(self, model):
        """known['box'] of Actor."""
        status = self.folders()
        out = {}
        for b, x in model.boxes.items():
            legacy = status.get(x['name'], {}).get('legacy') or {}
            uw = (os.path.relpath(legacy['path'], self.home)
                  if 'path' in legacy else self.uw_name(x['name']))
            out[b] = {'name': x['name'], 'dir': self.top(x['name']),
                      'uw': uw}
        return out

    def close(self, look=True):
        problems = []
        try:
            if look:
                self.dovecot.stop()
                if self.rig.daemon:
                    self.rig.unmount()
                # UW and Dovecot may use a UID at the same time.
                problems = [p for p in self.rig.check_log()
                            if 'messages with another UID' not in p]
        finally:
            self.rig.close()
            if not os.environ.get('JANUSMAIL_KEEP'):
                self.rig.remove()
        if problems:
            raise AssertionError('\n'.join(problems[:8]))


class Run:
    """A list of operations carried out in a new world."""

    def __init__(self, conf):
        self.conf = conf
        self.model = Model(conf)
        self.world = World(conf)
        self.known = {'mail': {}, 'box': self.world.places(self.model)}
        self.checker = Checker(self.world, self.model, self.known)
        self.at = 0
        self.done = 0
        self.main = Actor(self.world)
        self.actors = [Actor(self.world) for _ in range(conf['actors'])] \
            if conf['actors'] == 1 else \
            [Worker(self.world) for _ in range(conf['actors'])]
        self.parallel = conf['actors'] > 1

    def run(self, ops):
        ops = list(enumerate(ops))
        while ops:
            if ops[0][1]['a'] == 'main' or not self.parallel:
                self.one(*ops.pop(0))
                continue
            n = next((i for i, (_, op) in enumerate(ops)
                      if op['a'] == 'main'), len(ops))
            self.together(ops[:n])
            del ops[:n]

    def prepared(self, op):
        """What is left of op, with what an actor must know; the model has it
        done already."""
        op = self.model.resolve(op)
        if not op:
            return None
        if op['op'] == 'look':
            uids = {x.m: self.known['mail'].get(x.m, {}).get('uid')
                    for x in self.model.in_box(op['box'])}
            op = {**op, 'taken': [u for u in uids.values() if u], 'fresh': {
                x.m: [x.body[0], sorted(lower(x.flags)), uids[x.m]]
                for x in self.model.in_box(op['box']) if x.fresh
                and (not self.parallel or x.owner == op['a'])}}
        return op if self.model.apply(op) else None

    def one(self, at, op):
        self.at = at
        op = self.prepared(op)
        if not op:
            return
        self.done += 1
        if os.environ.get('MODEL_VERBOSE'):
            print(at, json.dumps(op), flush=True)
        if op['op'] in FOLDER_OPS:
            self.tell('leave')
        if op['op'] in ('check', 'remount', 'reindex', 'forget'):
            getattr(self, op['op'])()
        else:
            actor = self.main if op['a'] == 'main' else \
                self.actors[op['a'] % len(self.actors)]
            actor.run(op, self.known)
        if op['op'] in FOLDER_OPS:
            self.known['box'] = self.world.places(self.model)

    def together(self, ops):
        """Each actor does its part, all at the same time."""
        known = json.loads(json.dumps(self.known))
        parts = [[] for _ in self.actors]
        for at, op in ops:
            self.at = at
            op = self.prepared(op)
            if op:
                self.done += 1
                parts[op['a'] % len(parts)].append((at, op))
        for actor, part in zip(self.actors, parts):
            actor.send({'ops': part, 'known': known})
        self.collect()

    def collect(self):
        answers = [a.receive() for a in self.actors]
        for a in answers:
            for learnt in a['learnt']:
                for m, entry in learnt.items():
                    self.known['mail'].setdefault(m, {}).update(entry)
        bad = [f'operation {a.get("at")}: {a["error"]}' for a in answers
               if 'error' in a]
        if bad:
            raise AssertionError('\n'.join(bad))

    def tell(self, word):
        getattr(self.main, word)()
        for a in self.actors:
            if self.parallel:
                a.send({'do': [word]})
            else:
                getattr(a, word)()
        if self.parallel:
            self.collect()

    def check(self):
        self.checker.check()

    def remount(self):
        self.tell('hang_up')
        self.world.unmount()
        self.world.mount()

    def reindex(self):
        self.tell('hang_up')
        self.world.unmount()
        shutil.rmtree(self.world.rig.index, True)
        self.world.mount()

    def forget(self):
        """Dovecot's indexes are lost; what the view has is enough."""
        self.tell('hang_up')
        for path, _, names in os.walk(os.path.join(self.world.rig.store,
                                                   'alice')):
            for name in names:
                if name.startswith(('dovecot.index', 'dovecot.list.index')):
                    os.unlink(os.path.join(path, name))

    def close(self, look):
        for a in [self.main, *self.actors]:
            a.close()
        self.world.close(look)


def attempt(ops, conf):
    """None, or (index of the operation, what went wrong)."""
    run = None
    try:
        run = Run(conf)
        run.run(ops)
        closing, run = run, None
        closing.close(True)
        attempt.tries = closing.checker.tries
        attempt.done = closing.done
        return None
    except Exception:
        text = traceback.format_exc()
        where = len(ops) if not run else run.at
        if run:
            text += '\n'.join(run.world.rig.log().splitlines()[-15:]) \
                + '\n' + run.world.dovecot.log()[-1500:]
            run.close(False)
        return where, text


def shrink(ops, conf, seconds, failure):
    """A shorter list that fails, too, and how."""
    end = time.monotonic() + seconds
    check = [{'op': 'check', 'a': 'main'}]
    if failure[0] + 1 < len(ops):
        shorter = ops[:failure[0] + 1]
        ops = shorter if shorter[-1]['op'] == 'check' else shorter + check
    n = 2
    while len(ops) > 1 and time.monotonic() < end:
        size = max(1, len(ops) // n)
        for start in range(0, len(ops), size):
            if time.monotonic() > end:
                break
            fewer = ops[:start] + ops[start + size:]
            if not fewer or fewer[-1]['op'] != 'check':
                fewer = fewer + check
            if len(fewer) >= len(ops):
                continue
            got = attempt(fewer, conf)
            if got:
                ops, failure, n = fewer, got, max(n - 1, 2)
                break
        else:
            if size == 1:
                break
            n = min(n * 2, len(ops))
    return ops, failure


def write_script(ops, conf, name):
    path = os.path.join(tempfile.gettempdir(), name)
    with open(path, 'w', encoding='utf-8') as f:
        for line in [conf, *ops]:
            f.write(json.dumps(line) + '\n')
    return path


def load(path):
    """Operations and configuration."""
    with open(path, encoding='utf-8') as f:
        conf, *ops = map(json.loads, f)
    return ops, conf


def failed(ops, conf, failure, seconds, seed):
    """Shrink, and say what is left."""
    whole = write_script(ops, conf, f'model-{seed}-whole.script')
    print(f'seed {seed}: operation {failure[0]} of {len(ops)}:\n{failure[1]}')
    if seconds:
        ops, failure = shrink(ops, conf, seconds, failure)
    path = write_script(ops, conf, f'model-{seed}.script')
    with open(path, encoding='utf-8') as f:
        script = f.read()
    return (f'seed {seed}: {len(ops)} operations fail ({whole} has all); '
            f'replay with --replay {path}:\n{script}\n{failure[1]}')


def configuration(seed, actors, native, round_=25):
    rnd = random.Random(f'conf {seed}')
    return {'legacy': [] if native else LEGACY,
            'native': ['INBOX'] if native else [],
            'actors': actors, 'round': round_,
            'save_crlf': rnd.random() < 0.6, 'seed': seed,
            'without': [], 'plain': False, 'mirror': rnd.random() < 0.8}


def try_seed(seed, conf, ops, shrink_seconds):
    """None or a text."""
    script = Generator(seed, conf).generate(ops)
    failure = attempt(script, conf)
    if failure:
        return failed(script, conf, failure, shrink_seconds, seed)
    return None


class ModelTest(harness.Case):
    """Bounded, for tests/run; the seed is another one each time."""

    def once(self, actors, native, ops):
        harness.need_mount()
        harness.need_cclient()
        harness.need_dovecot()
        seed = random.SystemRandom().randrange(10**6)
        conf = configuration(seed, actors, native)
        print(f'# seed {seed}: --seed {seed} --ops {ops} --actors {actors}'
              + ' --native' * native, flush=True)
        text = try_seed(seed, conf, ops, 60)
        if text:
            self.fail(text)
        self.assertGreater(attempt.done, ops // 2)

    def test_what_once_failed(self):
        """Scripts that were left of seeds that failed, long ago."""
        harness.need_mount()
        harness.need_cclient()
        harness.need_dovecot()
        place = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                             'scripts')
        for name in sorted(os.listdir(place)):
            failure = attempt(*load(os.path.join(place, name)))
            if failure:
                self.fail(f'{name}: operation {failure[0]}:\n{failure[1]}')

    def test_one_at_a_time(self):
        self.once(1, False, 250)

    def test_several_at_once(self):
        self.once(4, False, 400)

    def test_native_folders(self):
        self.once(3, True, 200)


def by_hand(argv):
    p = argparse.ArgumentParser()
    p.add_argument('--seed', type=int)
    p.add_argument('--seeds', type=int, default=1, help='so many in a row')
    p.add_argument('--ops', type=int, default=1000)
    p.add_argument('--actors', type=int, default=1)
    p.add_argument('--round', type=int, default=25)
    p.add_argument('--native', action='store_true')
    p.add_argument('--plain', action='store_true',
                   help='Dovecot on a Maildir without janusmail')
    p.add_argument('--no-mirror', action='store_true')
    p.add_argument('--without', default='', help='operations left out')
    p.add_argument('--shrink', type=int, default=600, help='seconds')
    p.add_argument('--replay')
    args = p.parse_args(argv)
    if args.replay:
        failure = attempt(*load(args.replay))
        if failure:
            print(f'operation {failure[0]}:\n{failure[1]}')
        return 1 if failure else 0
    first = args.seed
    if first is None:
        first = random.randrange(1000000)
    for seed in range(first, first + args.seeds):
        conf = configuration(seed, args.actors,
                             args.native or args.plain, args.round)
        conf['plain'] = args.plain
        if args.no_mirror:
            conf['mirror'] = False
        conf['without'] = [w for w in args.without.split(',') if w]
        began = time.monotonic()
        text = try_seed(seed, conf, args.ops, args.shrink)
        if text:
            print(text)
            return 1
        print(f'seed {seed}: {attempt.done} operations, {attempt.tries} '
              f'looks, {time.monotonic() - began:.0f} s', flush=True)
    return 0


if __name__ == '__main__':
    if any(a.startswith('--') for a in sys.argv[1:]):
        harness.need_mount()
        status = by_hand(sys.argv[1:])
        harness.clean_up()
        sys.exit(status)
    harness.main()
