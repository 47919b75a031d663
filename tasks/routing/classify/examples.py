"""A classifier fitted from the examples of a configuration: a few texts a route, no library but numpy.

An expert on words (`features`, `linear`) and, with an encoder, one on vectors (`encoder`, `network`) score the routes.
What makes it usable for routing is that it knows when to abstain: `calibration` weighs the experts and finds the
threshold on texts that they had not seen, among them whole routes left out; `language` tells what it can't read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tasks.contract.errors import ConfigError, EncoderFailed
from tasks.routing.classify import cache as kept
from tasks.routing.classify.calibration import Calibration
from tasks.routing.classify.decision import Abstention, Verdict, excerpt
from tasks.routing.classify.experts import Experts, Problem
from tasks.routing.classify.features import Features
from tasks.routing.classify.language import Languages
from tasks.routing.classify.material import Material, refuse_contradictions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tasks.routing.classify.encoder import Encoder

__all__ = ["ExampleClassifier", "Guess"]


@dataclass(frozen=True, slots=True)
class Guess:
    """The likeliest route, wanted or not. `doubt` says why it can't be trusted, whatever the confidence; or nothing."""

    route: str
    confidence: float
    doubt: str = ""


class ExampleClassifier:
    """Routes texts by their likeness to examples; made by `fit`, safe to share between threads.

    `threshold` is the confidence below which it abstains, `held_out_accuracy` the share of examples that were
    classified right by fits that had not seen them (abstention apart). `slow` with an encoder: a judgement then takes
    milliseconds or the network.
    """

    name = "examples"

    def __init__(self, fitted: kept.Fitted, encoder: Encoder | None = None) -> None:
        self._features = fitted.features
        self._experts = fitted.experts
        self._calibration = fitted.calibration
        self._languages = fitted.languages
        self._encoder = encoder
        self.routes = fitted.routes
        self.slow = encoder is not None
        self.threshold = fitted.calibration.threshold
        self.held_out_accuracy = fitted.calibration.accuracy

    @classmethod
    def fit(
        cls,
        examples: Mapping[str, Sequence[str]],
        *,
        encoder: Encoder | None = None,
        cache: Path | None = None,
        outside: Sequence[str] = (),
        contradictions: bool = False,
    ) -> ExampleClassifier | None:
        """Fit one to `examples` (route → its texts); None when fewer than two routes have a text.

        `cache` is a folder where what was fitted is kept, named by its content: the next fit to the same examples reads
        it. `outside` are texts that belong to no route; the threshold is better for them. `contradictions` allows one
        text to be an example of two routes, as data sets have it. Deterministic.

        Without an encoder 0.3 s for 30 examples of 3 routes, 5 s for 1,500 of 150, 9 s for 15,000 of 150; with the
        packaged one 5 s, 14 s and 45 s, on one core.

        Raises:
            ConfigError: if two routes claim the same text, or the encoder gives no vectors.
        """
        if not contradictions:
            refuse_contradictions(examples)
        material = Material.of(examples)
        if material is None:
            return None
        try:
            key = kept.key_of(material, outside, encoder.fingerprint if encoder else "")
            fitted = kept.load(cache, key) if cache else None
            if fitted is None:
                fitted = _fit(material, outside, encoder)
                if cache:
                    kept.store(cache, key, fitted)
            if encoder:
                encoder.prepare()
        except EncoderFailed as error:
            raise ConfigError(
                f"classifier.encoder: {error}; start its server, correct the URL, or set encoder: none"
            ) from None
        return cls(fitted, encoder)

    def classify(self, text: str) -> Verdict | None:
        """Return the route most like `text`, or None when none is like it enough. See `judge`."""
        said = self.judge(text)
        return said if isinstance(said, Verdict) else None

    def judge(self, text: str) -> Verdict | Abstention:
        """As `classify`, with the reason of an abstention, also where the encoder failed.

        Reads at most 8,000 characters (`excerpt`). Confidence is the largest of softmax(weighted sum of the experts'
        scores).
        """
        try:
            guess = self.guess(text)
        except EncoderFailed as error:
            return Abstention(self.name, f"its encoder failed: {error}")
        if guess.doubt:
            return Abstention(self.name, guess.doubt)
        if guess.confidence < self.threshold:
            return Abstention(self.name, f"{guess.route!r} at {guess.confidence:.2f}, below {self.threshold:.2f}")
        return Verdict(guess.route, self.name, guess.confidence, f"most like the examples of {guess.route!r}")

    def guess(self, text: str) -> Guess:
        """The likeliest route. Raises EncoderFailed."""
        return self.guesses([text])[0]

    def guesses(self, texts: Sequence[str]) -> list[Guess]:
        """The likeliest route of each text; with an encoder, many at a time are quicker. Raises EncoderFailed."""
        read = [excerpt(text) for text in texts]
        rows = [self._features.row(text) for text in read]
        found = [Guess(self.routes[0], 0.0, "no word in common with the examples")] * len(read)
        # With no word there is nothing to encode either: an endpoint need not be asked.
        known = [at for at, row in enumerate(rows) if len(row[0]) or (self._encoder and _has_word(read[at]))]
        if not known:
            return found
        vectors = self._encoder.encode([read[at] for at in known]) if self._encoder else None
        scores = self._experts.scores([rows[at] for at in known], vectors)
        for at, p in zip(known, self._calibration.confidences(scores), strict=True):
            language = self._languages.foreign(read[at])
            best = int(p.argmax())
            doubt = f"written in {language}, which no example is" if language else ""
            found[at] = Guess(self.routes[best], float(p[best]), doubt)
        return found


def _has_word(text: str) -> bool:
    return any(map(str.isalnum, text))


def _fit(material: Material, outside: Sequence[str], encoder: Encoder | None) -> kept.Fitted:
    features = Features.fit(material.texts)
    beyond = [excerpt(text) for text in outside if text.strip()]
    vectors = encoder.encode([*material.texts, *beyond]) if encoder else None
    own = None if vectors is None else vectors[: len(material.texts)]
    others = None if vectors is None else vectors[len(material.texts) :]
    labels = np.array(material.labels, np.intp)
    problem = Problem(features.rows(material.texts), own, labels, features.size, len(material.routes))
    calibration = Calibration.of(problem, features.rows(beyond), others)
    languages = Languages.of(material.texts)
    return kept.Fitted(material.routes, features, Experts.fit(problem), calibration, languages)
