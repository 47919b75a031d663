"""Predictors on disk, by the hash of what they were fitted to: a router that starts again does not fit again.

A file is numpy's .npz, arrays of numbers alone (never pickle). It is written under another name and renamed, so that
routers which start at the same moment do each other no harm; one that can't be read is fitted anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tasks.routing.quality.predictor import QualityPredictor

if TYPE_CHECKING:
    from tasks.routing.classify.encoder import Encoder
    from tasks.routing.quality.outcomes import Outcomes

__all__ = ["fitted", "load", "save"]

#: Counts up with every change of what is fitted or saved: older files are not read any more.
FORMAT = 1


def fitted(outcomes: Outcomes, *, encoder: Encoder | None = None, folder: Path | None = None) -> QualityPredictor:
    """The predictor of `outcomes`: from `folder` where it is there, else fitted, and saved there.

    A folder that can't be written to costs a fit at every start, no error.

    Raises:
        ConfigError: as `QualityPredictor.fit`.
    """
    if folder is None:
        return QualityPredictor.fit(outcomes, encoder=encoder)
    said = f"{FORMAT} {outcomes.fingerprint} {encoder.fingerprint if encoder is not None else ''}"
    path = folder / f"quality-{hashlib.sha256(said.encode()).hexdigest()[:32]}.npz"
    with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return load(path, encoder=encoder)
    predictor = QualityPredictor.fit(outcomes, encoder=encoder)
    with contextlib.suppress(OSError):
        save(predictor, path)
    return predictor


def save(predictor: QualityPredictor, path: Path) -> None:
    """Write it; whoever reads at the same time sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    models = np.frombuffer("\n".join(predictor.models).encode(), np.uint8)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, models=models, **predictor.arrays())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load(path: Path, *, encoder: Encoder | None = None) -> QualityPredictor:
    """Read what `save` wrote. Raises OSError, ValueError, KeyError or BadZipFile for what is no such file."""
    # numpy leaves a file open that turns out to be none of its own.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
        arrays = dict(saved)
    models = arrays.pop("models").tobytes().decode().split("\n")
    return QualityPredictor.of_arrays(models, arrays, encoder=encoder)
