"""A classifier fitted from the examples of a configuration: a few texts a route, in numpy alone.

Linear `experts` on words (`features`) and, with an encoder, on vectors (`encoder`) score the routes. Routing needs a
classifier that knows when to abstain: `calibration` weighs the experts and finds the threshold on texts that no fit had
seen, among them whole routes left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.contract.errors import ConfigError, EncoderFailed
from tasks.routing.classify.calibration import Calibration
from tasks.routing.classify.decision import Abstention, Verdict, excerpt
from tasks.routing.classify.encoder import Encoder
from tasks.routing.classify.experts import Experts, TrainingRows
from tasks.routing.classify.features import Vocabulary
from tasks.routing.classify.material import Material, refuse_contradictions
from tasks.routing.fitted_files import Arrays, FittedFiles


@dataclass(frozen=True, slots=True)
class Guess:
    """The likeliest route, whether it reaches the threshold or not. `doubt` says why it is none, if so."""

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

    def __init__(self, fitted: _Fitted, encoder: Encoder | None = None) -> None:
        self._fitted = fitted
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
        """Fit to `examples` (route → its texts); None when fewer than two routes have a text.

        `cache` is a folder of `FittedFiles`: the next fit to the same examples reads it. `outside` are texts that
        belong to no route; the threshold is better for them. `contradictions` allows one text to be an example of two
        routes, as data sets have it. Deterministic.

        Raises:
            ConfigError: if two routes claim the same text, or the encoder gives no vectors.
        """
        if not contradictions:
            refuse_contradictions(examples)
        material = Material.of(examples)
        if material is None:
            return None
        try:
            key = ["examples", *material.key(), list(outside), encoder.fingerprint if encoder else ""]
            fitted = FittedFiles(cache).load_or_fit(
                key, lambda arrays: _Fitted.of_arrays(material.routes, arrays), lambda: _fit(material, outside, encoder)
            )
            if encoder:
                encoder.prepare()
        except EncoderFailed as error:
            raise ConfigError(
                f"classifier.encoder: {error}; start its server, correct the URL, or set encoder: none"
            ) from None
        return cls(fitted, encoder)

    def classify(self, text: str) -> Verdict | None:
        """Return the route most like `text`, or None when none is like it enough. See `judge`."""
        outcome = self.judge(text)
        return outcome if isinstance(outcome, Verdict) else None

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
        rows = [self._fitted.vocabulary.row(text) for text in read]
        found = [Guess(self.routes[0], 0.0, "no word in common with the examples")] * len(read)
        # Without a word there is nothing to encode either: an endpoint need not be asked.
        known = [at for at, row in enumerate(rows) if len(row[0]) or (self._encoder and _has_word(read[at]))]
        if not known:
            return found
        vectors = self._encoder.encode([read[at] for at in known]) if self._encoder else None
        scores = self._fitted.experts.scores([rows[at] for at in known], vectors)
        for at, p in zip(known, self._fitted.calibration.confidences(scores), strict=True):
            best = int(p.argmax())
            found[at] = Guess(self.routes[best], float(p[best]))
        return found


def _has_word(text: str) -> bool:
    return any(map(str.isalnum, text))


@dataclass(frozen=True, slots=True)
class _Fitted:
    """All that was learned from the examples."""

    routes: tuple[str, ...]
    vocabulary: Vocabulary
    experts: Experts
    calibration: Calibration

    def arrays(self) -> Arrays:
        calibration = self.calibration
        return {
            "hashes": self.vocabulary.hashes,
            "idf": self.vocabulary.idf,
            "figures": np.array([self.vocabulary.unseen, calibration.threshold, calibration.accuracy]),
            "expert_weights": np.array(calibration.weights),
            **self.experts.arrays(),
        }

    @classmethod
    def of_arrays(cls, routes: tuple[str, ...], saved: Arrays) -> _Fitted:
        unseen, threshold, accuracy = map(float, saved["figures"])
        vocabulary = Vocabulary(saved["hashes"], saved["idf"], unseen)
        calibration = Calibration(tuple(map(float, saved["expert_weights"])), threshold, accuracy)
        return cls(routes, vocabulary, Experts.of_arrays(saved), calibration)


def _fit(material: Material, outside: Sequence[str], encoder: Encoder | None) -> _Fitted:
    vocabulary = Vocabulary.fit(material.texts)
    beyond = [excerpt(text) for text in outside if text.strip()]
    vectors = encoder.encode([*material.texts, *beyond]) if encoder else None
    own = None if vectors is None else vectors[: len(material.texts)]
    others = None if vectors is None else vectors[len(material.texts) :]
    rows = [vocabulary.row(text) for text in material.texts]
    training = TrainingRows(rows, own, np.array(material.labels, np.intp), vocabulary.size, len(material.routes))
    calibration = Calibration.of(training, [vocabulary.row(text) for text in beyond], others)
    return _Fitted(material.routes, vocabulary, Experts.fit(training), calibration)
