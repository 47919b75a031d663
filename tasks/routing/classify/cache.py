"""What a classifier learned, kept in a file named by what it learned from: the next start reads it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog

from tasks.routing.classify.calibration import Calibration
from tasks.routing.classify.experts import Experts
from tasks.routing.classify.features import Features
from tasks.routing.classify.language import Languages
from tasks.routing.classify.linear import Linear
from tasks.routing.classify.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from tasks.routing.classify.material import Material

__all__ = ["Fitted", "key_of", "load", "store"]

#: Part of every name: raise it when what is fitted, or how, changes.
VERSION = 1
#: Files that are kept in a folder, the newest first: configurations change, and a big one has some 30 MB. Each
#: workflow that tells routes apart has one of its own.
KEPT = 24
#: What reading a damaged or foreign file raises.
_DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fitted:
    """All that a classifier knows, but for its encoder."""

    routes: tuple[str, ...]
    features: Features
    experts: Experts
    calibration: Calibration
    languages: Languages


def key_of(material: Material, outside: Sequence[str], fingerprint: str) -> str:
    """The name of what is fitted to this: a hash of every text, of its route, and of the encoder."""
    parts = [VERSION, material.routes, material.labels, material.texts, list(outside), fingerprint]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def load(folder: Path, key: str) -> Fitted | None:
    """What was stored under `key`; None where nothing was, or where the file is damaged."""
    path = _path(folder, key)
    try:
        # Opened here: numpy leaves a file open that it finds damaged.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            fitted = _read(arrays)
    except FileNotFoundError:
        return None
    except _DAMAGED as error:
        _log.warning(
            "the cache of a classifier is damaged and is made anew", file=str(path), error=type(error).__name__
        )
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return fitted


def store(folder: Path, key: str, fitted: Fitted) -> None:
    """Keep it. The file appears whole or not at all; of routers that store at one moment, any wins.

    A folder that can't be written costs the next start its time, and nothing else.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".classifier-", delete=False) as file:
            try:
                np.savez(file, allow_pickle=False, **_written(fitted))
                file.close()
                Path(file.name).replace(_path(folder, key))
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        _prune(folder)
    except OSError as error:
        _log.warning("what a classifier learned can't be kept", folder=str(folder), error=error.strerror)


def _prune(folder: Path) -> None:
    def age(path: Path) -> float:
        try:
            return -path.stat().st_mtime
        except FileNotFoundError:
            return 0.0

    for path in sorted(folder.glob("classifier-*.npz"), key=age)[KEPT:]:
        path.unlink(missing_ok=True)


def _path(folder: Path, key: str) -> Path:
    return folder / f"classifier-{key}.npz"


def _written(fitted: Fitted) -> dict[str, NDArray[Any]]:
    features, experts, calibration = fitted.features, fitted.experts, fitted.calibration
    about = {
        "routes": fitted.routes,
        "names": features.names(),
        "unseen": features.unseen,
        "weights": calibration.weights,
        "threshold": calibration.threshold,
        "accuracy": calibration.accuracy,
        "scripts": sorted(fitted.languages.scripts),
        "languages": sorted(fitted.languages.languages),
    }
    arrays: dict[str, NDArray[Any]] = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "columns": np.concatenate([np.fromiter(t.values(), np.int32, len(t)) for t in features.tables]),
        "idf": features.idf,
        # The weights were rounded to half precision when they were fitted.
        "linear_weights": experts.linear.weights.astype(np.float16),
        "linear_bias": experts.linear.bias.astype(np.float16),
    }
    if experts.network is not None:
        network = experts.network
        arrays |= {
            "centre": network.centre,
            "scale": np.array(network.scale, np.float64),
            "weights": network.weights,
            "bias": network.bias,
        }
        if network.hidden is not None:
            arrays |= {"hidden_weights": network.hidden[0], "hidden_bias": network.hidden[1]}
    return arrays


def _read(arrays: Mapping[str, NDArray[Any]]) -> Fitted:
    about = json.loads(arrays["about"].tobytes())
    names = about["names"]
    cuts = np.cumsum([len(names["words"]), len(names["pairs"])])
    columns = np.split(arrays["columns"], cuts)
    features = Features.of_names(names, columns, arrays["idf"], float(about["unseen"]))
    linear = Linear(arrays["linear_weights"].astype(np.float32), arrays["linear_bias"].astype(np.float32))
    network = None
    if "centre" in arrays:
        hidden = (arrays["hidden_weights"], arrays["hidden_bias"]) if "hidden_weights" in arrays else None
        network = Network(arrays["centre"], float(arrays["scale"]), hidden, arrays["weights"], arrays["bias"])
    calibration = Calibration(tuple(map(float, about["weights"])), float(about["threshold"]), float(about["accuracy"]))
    languages = Languages(frozenset(about["scripts"]), frozenset(about["languages"]))
    routes = tuple(map(str, about["routes"]))
    if len(linear.bias) != len(routes) or len(linear.weights) != features.size:
        raise ValueError("its parts do not fit together")
    return Fitted(routes, features, Experts(linear, network), calibration, languages)
