"""Secrets from the environment: the configuration names a variable, never a value."""

from __future__ import annotations

import os
from pathlib import Path

from tasks.contract.encoding import read_text_file
from tasks.contract.errors import ConfigError


def read_secret(name: str) -> str | None:
    """The value of environment variable `name`, or the content of the file that ``name_FILE`` names.

    Raises:
        ConfigError: if the file can't be read.
    """
    file = os.environ.get(f"{name}_FILE")
    if file:
        try:
            return read_text_file(Path(file)).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise ConfigError(f"{name}_FILE: {reason}: {file}") from None
    return os.environ.get(name) or None
