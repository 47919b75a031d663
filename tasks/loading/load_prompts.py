"""Read the prompts of a folder when the configuration is loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.config.library import PromptFile
from tasks.config.prompts import VARIABLES, version_of
from tasks.config.templates import compile_template
from tasks.contract.encoding import read_text_file
from tasks.contract.errors import ConfigError

#: Bytes of one file.
MOST_BYTES = 256 * 1024
#: Files of one folder, those of its folders included.
MOST_FILES = 1000

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)*", re.ASCII)


def read_prompts(folder: Path, *, prefix: str = "") -> dict[str, PromptFile]:
    """Read all prompts below `folder`, by `prefix` and their path there. Hidden files are left out.

    Raises:
        ConfigError: with all problems, a line each: links that lead out of the folder, files that are too large, that
            are not UTF-8, or that are not templates.
    """
    found: dict[str, PromptFile] = {}
    problems: list[str] = []
    files = sorted(_files(folder))
    if len(files) > MOST_FILES:
        raise ConfigError(f"{folder}:1: holds {len(files):,} files, the limit is {MOST_FILES:,}")
    for path in files:
        name = path.relative_to(folder).as_posix()
        source, problem = _read(folder, path, name)
        if problem:
            problems.append(f"{folder}/{name}:1: {problem}")
            continue
        full = prefix + name
        template, errors = compile_template(source, name=f"prompt file:{full}", known=VARIABLES)
        problems += [f"{folder}/{name}:{line}: {error}" for line, error in errors]
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
    """Return the text of a file, and the problem with the file or ""."""
    if not _NAME.fullmatch(name):
        return "", "its name must be letters, digits, '.', '_' and '-'; rename it"
    try:
        # Links inside the folder are allowed: mounted volumes consist of them.
        if not path.resolve(strict=True).is_relative_to(folder.resolve()):
            return "", "is a link that leads out of its folder; copy the file here"
        if (size := path.stat().st_size) > MOST_BYTES:
            return "", f"has {size:,} bytes, the limit is {MOST_BYTES:,}"
        return read_text_file(path), ""
    except UnicodeDecodeError:
        return "", "is not UTF-8 text; convert it"
    except (OSError, RuntimeError) as error:  # before Python 3.13 a link to itself is a RuntimeError
        return "", f"can't be read: {error.strerror if isinstance(error, OSError) else 'a link to itself'}"
