"""A server process: it ends with its parent, and reports its address once it is ready."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from tasks.contract.atomic_file import write_at_once

#: Asks the kernel for SIGTERM when the parent dies, even by ``kill -9``, checks that the parent has not died already,
#: then becomes the command. It runs in the child, after the fork: a `preexec_fn` would be unsafe beside threads.
_LAUNCH = """
import os, sys
parent, *command = sys.argv[1:]
if sys.platform == "linux":
    import ctypes
    PR_SET_PDEATHSIG, SIGTERM = 1, 15
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(SIGTERM))
    if os.getppid() != int(parent):
        sys.exit("the parent has gone")
os.execv(command[0], command)
"""


def end_with_parent(command: Sequence[str]) -> list[str]:
    """Return a command that runs `command` as a child of this process which, on Linux, ends with it."""
    return [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command]


def add_ready_options(parser: ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--ready-file", type=Path, help="is written, with the base URL, when requests are answered")
    group.add_argument("--ready-fd", type=int, help="the same, to a file descriptor, which is then closed")


def announce(options: Namespace, url: str) -> None:
    """Write `url` and a line end to the place that the options of `add_ready_options` name.

    The file appears in one step, so a reader never sees a part of it.
    """
    if options.ready_fd is not None:
        with os.fdopen(options.ready_fd, "w") as pipe:
            pipe.write(url + "\n")
    if options.ready_file is not None:
        write_at_once(options.ready_file, url + "\n")
