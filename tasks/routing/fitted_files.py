"""Fitted models on disk: a router that starts again reads what an earlier one fitted to the same material.

A file is numpy's .npz, arrays of numbers alone (never pickle). Its name holds a hash of the material, so a change of
the configuration gives another file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import structlog
from numpy.typing import NDArray

Arrays: TypeAlias = "Mapping[str, NDArray[Any]]"

#: Files that are kept in a folder, the newest first: configurations change, and a large one has some 30 MB. Each
#: workflow that distinguishes routes has a file of its own.
KEPT = 24
#: Part of every name: raise it when the fitted models, or the way they are fitted, change.
VERSION = 4
#: Exceptions that numpy raises for a damaged file, and `of_arrays` for the file of another model.
_DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)

_log = structlog.get_logger(__name__)


class Storable(Protocol):
    """A model that is written as arrays."""

    def arrays(self) -> Arrays: ...


Model = TypeVar("Model", bound=Storable)


class FittedFiles:
    """The files of one folder; without a folder each model is fitted anew. Routers may share the folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load_or_fit(self, material: Any, of_arrays: Callable[[Arrays], Model], fit: Callable[[], Model]) -> Model:
        """Read the model of `material` (any JSON value), or fit and store it.

        A damaged file is replaced. A folder that cannot be written costs a fit at every start, and no error.
        """
        if self._folder is None:
            return fit()
        name = hashlib.sha256(json.dumps([VERSION, material]).encode()).hexdigest()[:32]
        path = self._folder / f"fitted-{name}.npz"
        try:
            # Opened here: numpy does not close a file that it finds damaged.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                model = of_arrays(dict(arrays))
        except FileNotFoundError:
            pass
        except _DAMAGED as error:
            _log.warning("a fitted model is damaged and is fitted again", file=str(path), error=type(error).__name__)
        else:
            with contextlib.suppress(OSError):
                os.utime(path)
            return model
        model = fit()
        try:
            _write(path, model.arrays())
            self._prune()
        except OSError as error:
            _log.warning("a fitted model cannot be stored", folder=str(self._folder), error=error.strerror)
        return model

    def _prune(self) -> None:
        assert self._folder is not None
        for path in sorted(self._folder.glob("fitted-*.npz"), key=_age)[KEPT:]:
            path.unlink(missing_ok=True)


def _write(path: Path, arrays: Arrays) -> None:
    """Write to another name and rename: the file appears complete, whichever router writes last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".fitted-", delete=False) as file:
        try:
            np.savez(file, allow_pickle=False, **arrays)
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except FileNotFoundError:  # another router pruned it
        return 0.0
