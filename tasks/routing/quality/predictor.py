"""How likely each model answers a text well, learned from texts whose answers were graded.

Three models over numpy alone, the third on what the first two say:

1. ridge regression over the topic (`terms`, and an encoder's vectors where one is given),
2. kernel regression over looks and topic (`landmarks`),
3. boosted `trees` over the looks (`features`) and the predictions of 1 and 2 for texts that they had not seen.

All models of a table are predicted together, as the mean of a text (how hard it is for all) and each model's difference
from that mean (who is better at it). The difference is what a choice goes by, and it has trees of its own: fitted as
one, they would spend themselves on the mean, which varies far more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tasks.contract.errors import ConfigError
from tasks.routing.quality.features import looks
from tasks.routing.quality.landmarks import Landmarks
from tasks.routing.quality.linear import Ridge, folds_of
from tasks.routing.quality.terms import TermSpace
from tasks.routing.quality.trees import Trees

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tasks.routing.classify.encoder import Encoder
    from tasks.routing.quality.outcomes import Outcomes

__all__ = ["LEAST_ROWS", "Parts", "QualityPredictor"]

Floats: TypeAlias = "NDArray[np.float64]"

#: Graded texts from which a predictor is fitted: with fewer, what it says is noise.
LEAST_ROWS = 20
#: Texts that are used at most, evenly spread over the file: bounds the time to fit to about a minute.
MOST_ROWS = 30_000


@dataclass(frozen=True, slots=True)
class Parts:
    """What a predictor is made of; a saved array is named after its part."""

    terms: TermSpace
    topic: Ridge
    landmarks: Landmarks
    kernel: Ridge
    level: Trees
    differences: Trees


class QualityPredictor:
    """Made by `fit`; immutable afterwards, safe to share between threads."""

    def __init__(self, models: Sequence[str], parts: Parts, encoder: Encoder | None = None) -> None:
        self.models = tuple(models)
        self.parts = parts
        self._encoder = encoder

    @classmethod
    def fit(cls, outcomes: Outcomes, *, encoder: Encoder | None = None) -> QualityPredictor:
        """Fit one to graded texts. Deterministic; 15 s for 6,000 prompts and two models on one core of 2025.

        Of more than 30,000 texts an even selection is used. With an `encoder` each text is embedded once.

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
        prompts, targets = outcomes.prompts[chosen], outcomes.correct[chosen].astype(np.float64)
        folds = folds_of(prompts)
        seen = looks(prompts)
        terms, places = TermSpace.fit(prompts)
        topics = _topics(places, encoder, prompts)
        topic, unseen_topic = Ridge.stacked(topics, targets, folds)
        landmarks = Landmarks.fit(seen, topics)
        kernel, unseen_kernel = Ridge.stacked(landmarks.likeness(seen, topics), targets, folds)
        rows = np.hstack([seen, _contrasts(unseen_topic), _contrasts(unseen_kernel)])
        contrasts = _contrasts(targets)
        level, differences = Trees.fit(rows, contrasts[:, :1]), Trees.fit(rows, contrasts[:, 1:])
        return cls(outcomes.models, Parts(terms, topic, landmarks, kernel, level, differences), encoder)

    def predict(self, text: str) -> Mapping[str, float]:
        """How likely each model answers `text` well, 0 to 1, in the order of the outcomes.

        Never raises for what a text contains; 0.5 ms for one of 300 characters.
        """
        return dict(zip(self.models, map(float, self.predict_all([text])[0]), strict=True))

    def predict_all(self, texts: Sequence[str]) -> Floats:
        """The same for many: n × models."""
        parts = self.parts
        seen, topics = looks(texts), _topics(parts.terms.transform(texts), self._encoder, texts)
        said = [
            _contrasts(parts.topic.predict(topics)),
            _contrasts(parts.kernel.predict(parts.landmarks.likeness(seen, topics))),
        ]
        rows = np.hstack([seen, *said])
        found: Floats = np.clip(parts.level.predict(rows) + parts.differences.predict(rows), 0.0, 1.0)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it is but the encoder, to be saved (`tasks.routing.quality.cache`)."""
        return {
            f"{name}.{array}": value
            for name in Parts.__slots__
            for array, value in getattr(self.parts, name).arrays().items()
        }

    @classmethod
    def of_arrays(
        cls, models: Sequence[str], saved: Mapping[str, NDArray[Any]], *, encoder: Encoder | None = None
    ) -> QualityPredictor:
        """What `arrays` gave, with the same encoder. Raises KeyError or ValueError for what is no predictor."""
        part: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in Parts.__slots__}
        for full, value in saved.items():
            name, _, array = full.partition(".")
            part[name][array] = value
        return cls(
            models,
            Parts(
                terms=TermSpace.of_arrays(part["terms"]),
                topic=Ridge.of_arrays(part["topic"]),
                landmarks=Landmarks.of_arrays(part["landmarks"]),
                kernel=Ridge.of_arrays(part["kernel"]),
                level=Trees.of_arrays(part["level"]),
                differences=Trees.of_arrays(part["differences"]),
            ),
            encoder,
        )


def _topics(places: NDArray[np.float32], encoder: Encoder | None, texts: Sequence[str]) -> Floats:
    found = places.astype(np.float64)
    if encoder is None:
        return found
    return np.hstack([found, np.asarray(encoder.encode(texts), np.float64)])


def _contrasts(scores: Floats) -> Floats:
    """The mean of each row, then each model's difference from it."""
    mean = scores.mean(axis=1, keepdims=True)
    return np.hstack([mean, scores - mean])
