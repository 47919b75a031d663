"""Predicts how likely each model answers a text well, learned from texts whose answers were graded.

Boosted `trees` over the `surface` of a text. Two of them: one for the mean over all models (how hard the text is), one
for each model's difference from that mean (which model is better at it). A choice between models depends on the
difference; in one common fit the mean, which varies far more, would take most of the splits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tasks.config.config import Config
from tasks.contract.errors import ConfigError
from tasks.routing.fitted_files import Arrays, FittedFiles
from tasks.routing.quality.outcomes import Outcomes, read_outcomes
from tasks.routing.quality.surface import surface_rows
from tasks.routing.quality.trees import Trees

Floats: TypeAlias = "NDArray[np.float64]"

#: Folder in the state directory that keeps fitted predictors.
CACHE = "predictors"
#: Graded texts that a fit needs: with fewer, a prediction is noise.
LEAST_ROWS = 20
#: Texts that are used at most, evenly spread over the file: bounds the time of a fit to some 10 seconds.
MOST_ROWS = 30_000


class QualityPredictor:
    """Made by `fit`; immutable afterwards, safe to share between threads."""

    def __init__(self, models: Sequence[str], level: Trees, differences: Trees) -> None:
        self.models = tuple(models)
        self._level = level
        self._differences = differences

    @classmethod
    def fit(cls, outcomes: Outcomes) -> QualityPredictor:
        """Fit to graded texts. Deterministic; 2 s for 6,000 prompts and two models on one core of 2025.

        Raises:
            ConfigError: if there are fewer than two models or fewer than 20 texts.
        """
        if len(outcomes.models) < 2:
            raise ConfigError(f"{outcomes.source}: has one model ({', '.join(outcomes.models)}); a choice needs two")
        if len(outcomes.prompts) < LEAST_ROWS:
            raise ConfigError(
                f"{outcomes.source}: has {len(outcomes.prompts)} graded prompts; at least {LEAST_ROWS} are needed"
            )
        chosen = slice(None, None, -(-len(outcomes.prompts) // MOST_ROWS))
        rows, grades = surface_rows(outcomes.prompts[chosen]), outcomes.correct[chosen].astype(np.float64)
        mean = grades.mean(axis=1, keepdims=True)
        return cls(outcomes.models, Trees.fit(rows, mean), Trees.fit(rows, grades - mean))

    def predict(self, text: str) -> Mapping[str, float]:
        """Predict for each model the probability of a good answer, in the order of the outcomes.

        Raises for no text; 0.2 ms for one of 300 characters.
        """
        return dict(zip(self.models, map(float, self.predict_all([text])[0]), strict=True))

    def predict_all(self, texts: Sequence[str]) -> Floats:
        """Predict for many texts: texts × models."""
        rows = surface_rows(texts)
        found: Floats = np.clip(self._level.predict(rows) + self._differences.predict(rows), 0.0, 1.0)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return all of it as arrays, which `of_arrays` reads."""
        parts = {"level": self._level, "differences": self._differences}
        trees = {f"{name}.{array}": value for name, part in parts.items() for array, value in part.arrays().items()}
        return {"models": np.frombuffer("\n".join(self.models).encode(), np.uint8), **trees}

    @classmethod
    def of_arrays(cls, saved: Arrays) -> QualityPredictor:
        """Read `arrays`. Raises KeyError or ValueError for arrays of something else."""
        level, differences = (
            Trees.of_arrays({full.removeprefix(part): value for full, value in saved.items() if full.startswith(part)})
            for part in ("level.", "differences.")
        )
        return cls(saved["models"].tobytes().decode().split("\n"), level, differences)


def build_predictor(config: Config, *, cache: Path | None = None) -> QualityPredictor:
    """Fit to the outcomes of a configuration, or read from `cache` what was fitted to the same ones.

    Raises:
        ConfigError: as `fit_to_file`.
    """
    assert config.outcomes is not None
    return fit_to_file(config.folder / config.outcomes, config.models, cache=cache)


def fit_to_file(path: Path, models: Collection[str], *, cache: Path | None = None) -> QualityPredictor:
    """Fit to the grades that a file has of `models`; its other columns are ignored.

    Raises:
        ConfigError: if the file cannot be read, is too small, or has fewer than two of the models.
    """
    table = read_outcomes(path)
    known = [model for model in table.models if model in models]
    if len(known) < 2:
        raise ConfigError(
            f"{path}: outcomes: has grades of {', '.join(table.models)}, and the configuration has the models "
            f"{', '.join(models)}; at least two must be in both, by the same name"
        )
    table = table.of_models(known)
    return FittedFiles(cache).load_or_fit(
        ["quality", table.fingerprint], QualityPredictor.of_arrays, lambda: QualityPredictor.fit(table)
    )
