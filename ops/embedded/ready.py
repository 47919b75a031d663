"""The options of a server process that report its address once it is ready."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract.atomic_file import write_at_once

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["add_ready_options", "announce"]


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
