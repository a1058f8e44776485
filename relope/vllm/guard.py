"""Runs a command for as long as the process that has started this one lives.

A process that SIGKILL ends can end nothing itself, and what Linux sends to a child then (``PR_SET_PDEATHSIG``) is sent
when the *thread* that has started it ends. So this one stands between the two and looks who its parent is. It leads
the process group of the command, so that it ends whatever the command has started, too. Standard library alone.

``python guard.py PARENT COMMAND …``; its exit status is the command's.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

GRACE_S = 20.0
"""How long the command may take to end by itself."""

_LOOK_S = 0.2


def guard(parent: int, command: Sequence[str]) -> int:
    """Run a command, and end the whole process group where the parent is another than it was.

    Args:
        parent: process that this one was started by.
        command: what is run.
    """
    # What is sent to the group is meant for the command; a signal that is ignored here would be ignored there.
    signal.signal(signal.SIGTERM, lambda *_: None)
    child = subprocess.Popen(command)
    while child.poll() is None:
        if os.getppid() != parent:
            os.killpg(0, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_S)
            os.killpg(0, signal.SIGKILL)
        time.sleep(_LOOK_S)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(guard(int(sys.argv[1]), sys.argv[2:]))
