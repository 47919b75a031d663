"""The prompts of a folder, read when the configuration is loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.config.prompts import version_of
from tasks.config.templates import Template, compile_template
from tasks.contract.errors import ConfigError

__all__ = ["PromptFile", "read_folder"]

#: Bytes of one file.
MOST_BYTES = 256 * 1024
#: Files of one folder, those of its folders included.
MOST_FILES = 1000

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class PromptFile:
    """A prompt that stands in a file of its own. `source` is its text before anything is filled in."""

    source: str
    version: str
    template: Template


def read_folder(folder: Path, *, shown: str, prefix: str, known: Collection[str]) -> dict[str, PromptFile]:
    """All prompts below `folder`, by `prefix` and their path there. Hidden files are left out.

    `shown` starts the lines of the error, in place of the folder; `known` are the variables of the templates.

    Raises:
        ConfigError: all problems, a line each: files that lead out of the folder, are too large, no UTF-8, no template.
    """
    found: dict[str, PromptFile] = {}
    problems: list[str] = []
    files = sorted(_files(folder))
    if len(files) > MOST_FILES:
        raise ConfigError(f"{shown}:1: holds {len(files):,} files, the limit is {MOST_FILES:,}")
    for path in files:
        name = path.relative_to(folder).as_posix()
        source, problem = _read(folder, path, name)
        if problem:
            problems.append(f"{shown}/{name}:1: {problem}")
            continue
        full = prefix + name
        template, wrong = compile_template(source, name=f"prompt file:{full}", known=known)
        problems += [f"{shown}/{name}:{line}: {what}" for line, what in wrong]
        if template is not None:
            found[full] = PromptFile(source, version_of(source), template)
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names if not name.startswith(".") and Path(place, name).is_file())


def _read(folder: Path, path: Path, name: str) -> tuple[str, str]:
    """Its text, and what is wrong with it."""
    if not _NAME.fullmatch(name):
        return "", "its name must be letters, digits, '.', '_' and '-'; rename it"
    try:
        # A link may lead to where the folder's own files are kept, as those of a mounted volume do, and no further.
        if not path.resolve(strict=True).is_relative_to(folder.resolve()):
            return "", "is a link that leads out of its folder; copy the file here"
        if (size := path.stat().st_size) > MOST_BYTES:
            return "", f"has {size:,} bytes, the limit is {MOST_BYTES:,}"
        return path.read_text(encoding="utf-8-sig"), ""
    except UnicodeDecodeError:
        return "", "is not UTF-8 text; convert it"
    except (OSError, RuntimeError) as error:  # before Python 3.13 a link to itself is a RuntimeError
        return "", f"can't be read: {error.strerror if isinstance(error, OSError) else 'a link to itself'}"
