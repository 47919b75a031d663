"""Files that another process reads while this one writes them."""

from __future__ import annotations

import os
from pathlib import Path


def write_at_once(file: Path, text: str) -> None:
    """Write a file so that a reader finds the old text or all of the new one."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.new")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
