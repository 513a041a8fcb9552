#!/usr/bin/python3
"""What is done through the view, with the daemon stopped before each of its
durable steps: the state before or the state after, never a third (law 8)."""

import os
import sys

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import harness      # noqa: E402
import steps        # noqa: E402
import mbxfile      # noqa: E402

TEXT = b'From: new@example.test\r\nSubject: new\r\n\r\nOne\0line\nno end'


def put(rig, name, data):
    return rig.put(steps.USER, name, data)


def only_inbox(rig):
    rig.user(steps.USER)
    put(rig, 'INBOX', mbxfile.mailbox(3, keywords=('Label', 'Other')))


class Looking(steps.Case):
    """Nobody changes anything, and the daemon writes all the same."""

    def check_seeding(self, before, after, found, done):
        """Names begin with the ledger; until it is written there are none."""
        self.assertEqual(
            [sorted(v.values()) for v in found.view.values()],
            [sorted(v.values()) for v in after.view.values()])
        self.assertEqual(found.keywords, after.keywords)
        self.assertEqual(found.mbx, before.mbx)
        for folder, names in found.view.items():
            self.assertEqual(
                {os.path.basename(n).partition(':')[0] for n in names},
                set(found.uids[folder]), folder)

    def test_seeding(self):
        self.steps(steps.look_at_all, 30, make=only_inbox, warm=False,
                   check=type(self).check_seeding)


if __name__ == '__main__':
    harness.main()
