"""A private directory on disk: its owner and mode, its lock, and files that are written in one step."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

from tasks.contract.errors import ConfigError

#: Bytes of a socket's path at most: `sockaddr_un` holds 104 on macOS and 108 on Linux, with a zero at the end.
LONGEST_SOCKET_PATH = 103


def try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock of `path` until all its copies are closed; None if it is locked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def make_private(folder: Path) -> None:
    """Create `folder` for this user alone, or raise ConfigError if others could change what is in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat() if folder.parent == Path(tempfile.gettempdir()) else folder.stat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ConfigError(
            f"{folder}: not private, other users could change what is in it; "
            "make it yours (chown, chmod 700), or choose another state directory"
        )


def make_short_dir(state_dir: Path) -> Path:
    """Return a private directory with a short path, always the same for `state_dir`, so that clients can reconnect."""
    digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:16]
    for parent in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 (the name may be guessed: `make_private` checks it)
        folder = Path(parent, f"pointsman-{os.geteuid()}-{digest}")
        if len(os.fsencode(folder / "valkey.sock")) <= LONGEST_SOCKET_PATH:
            break
    make_private(folder)
    return folder


def keep_password(path: Path) -> str:
    """Return the password in `path`, which is made at the first call."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    password = secrets.token_urlsafe(32)
    write_private(path, password)
    return password


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step: a reader sees the old text or the new one, never a part."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)
