"""The predictor of a configuration: fitted to its `outcomes`, for the models that it has."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.contract.errors import ConfigError
from tasks.routing.quality.cache import fitted
from tasks.routing.quality.outcomes import read_outcomes

if TYPE_CHECKING:
    from tasks.config.config import Config
    from tasks.routing.classify.encoder import Encoder
    from tasks.routing.quality.predictor import QualityPredictor

__all__ = ["CACHE", "build_predictor", "predictor_of"]

#: Where in the state directory what was fitted is kept for the next start.
CACHE = "predictors"


def predictor_of(config: Config, *, cache: Path | None = None) -> QualityPredictor:
    """What the outcomes of a configuration teach. Without an encoder: measured, one adds minutes and hardly a point.

    Raises:
        ConfigError: if the file is none, or knows fewer than two of the models.
    """
    assert config.outcomes is not None
    return build_predictor(config.folder / config.outcomes, models=config.models, folder=cache)


def build_predictor(
    outcomes: Path, *, models: Collection[str], encoder: Encoder | None = None, folder: Path | None = None
) -> QualityPredictor:
    """Read the file and fit, or take from `folder` what was fitted before.

    Columns of models that are not among `models`, those of the configuration, are left out: nobody can be sent there.

    Raises:
        ConfigError: if the file is none, or knows fewer than two of the models.
    """
    table = read_outcomes(outcomes)
    known = [model for model in table.models if model in models]
    if len(known) < 2:
        raise ConfigError(
            f"{outcomes}: outcomes: has grades of {', '.join(table.models)}, and the configuration has the models "
            f"{', '.join(models)}; at least two must be in both, by the same name"
        )
    return fitted(table.of_models(known), encoder=encoder, folder=folder)
