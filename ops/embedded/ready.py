"""How a server process of ours says where it listens, and whom it listens to: this machine only."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["add_ready_options", "announce", "is_loopback"]


def add_ready_options(parser: ArgumentParser) -> None:
    told = parser.add_mutually_exclusive_group()
    told.add_argument("--ready-file", type=Path, help="is written, with the base URL, when requests are answered")
    told.add_argument("--ready-fd", type=int, help="the same, to a file descriptor, which is then closed")


def announce(options: Namespace, url: str) -> None:
    """Write `url` and a line end to where the options of `add_ready_options` say.

    The file appears complete or not at all, so whoever waits for it need not look twice.
    """
    if options.ready_fd is not None:
        with os.fdopen(options.ready_fd, "w") as pipe:
            pipe.write(url + "\n")
    if options.ready_file is not None:
        draft = options.ready_file.with_name(options.ready_file.name + ".new")
        draft.write_text(url + "\n")
        draft.replace(options.ready_file)


def is_loopback(host: str) -> bool:
    """Tell whether `host`, a numeric address or ``localhost``, is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
