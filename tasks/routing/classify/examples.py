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
from tasks.routing.classify.material import refuse_contradictions, select_examples
from tasks.routing.fitted_files import Arrays, FittedFiles


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
        material = select_examples(examples)
        if len(material) < 2:
            return None
        try:
            fitted = FittedFiles(cache).load_or_fit(
                ["examples", list(material.items()), list(outside), encoder.fingerprint if encoder else ""],
                lambda arrays: _Fitted.of_arrays(tuple(material), arrays),
                lambda: _fit(material, outside, encoder),
            )
            if encoder:
                encoder.prepare()
        except EncoderFailed as error:
            raise ConfigError(
                f"classifier.encoder: {error}; start its server, correct the URL, or set encoder: none"
            ) from None
        return cls(fitted, encoder)

    def judge(self, text: str) -> Verdict | Abstention:
        """Return the route most like `text`, or the reason for none, also where the encoder failed.

        Reads at most 8,000 characters (`excerpt`). Confidence is the largest of softmax(weighted sum of the experts'
        scores).
        """
        try:
            (guess,) = self.guesses([text])
        except EncoderFailed as error:
            return Abstention(self.name, f"its encoder failed: {error}")
        if not guess.confidence:
            return Abstention(self.name, guess.reason)
        if guess.confidence < self.threshold:
            return Abstention(self.name, f"{guess.route!r} at {guess.confidence:.2f}, below {self.threshold:.2f}")
        return guess

    def guesses(self, texts: Sequence[str]) -> list[Verdict]:
        """Return the likeliest route of each text, whatever the threshold; confidence 0 where nothing is known.

        With an encoder, many texts at a time are quicker. Raises EncoderFailed.
        """
        read = [excerpt(text) for text in texts]
        rows = [self._fitted.vocabulary.row(text) for text in read]
        found = [Verdict(self.routes[0], self.name, 0.0, "no word in common with the examples")] * len(read)
        # Without a word there is nothing to encode either: an endpoint need not be asked.
        known = [
            at for at, row in enumerate(rows) if len(row[0]) or (self._encoder and any(map(str.isalnum, read[at])))
        ]
        if not known:
            return found
        vectors = self._encoder.encode([read[at] for at in known]) if self._encoder else None
        scores = self._fitted.experts.scores([rows[at] for at in known], vectors)
        for at, p in zip(known, self._fitted.calibration.confidences(scores), strict=True):
            route, confidence = self.routes[int(p.argmax())], float(p.max())
            found[at] = Verdict(route, self.name, confidence, f"most like the examples of {route!r}")
        return found


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
            "words": self.experts.words,
            **({} if self.experts.vectors is None else {"vectors": self.experts.vectors}),
        }

    @classmethod
    def of_arrays(cls, routes: tuple[str, ...], saved: Arrays) -> _Fitted:
        unseen, threshold, accuracy = map(float, saved["figures"])
        vocabulary = Vocabulary(saved["hashes"], saved["idf"], unseen)
        calibration = Calibration(tuple(map(float, saved["expert_weights"])), threshold, accuracy)
        return cls(routes, vocabulary, Experts(saved["words"], saved.get("vectors")), calibration)


def _fit(examples: Mapping[str, Sequence[str]], outside: Sequence[str], encoder: Encoder | None) -> _Fitted:
    texts = [text for own in examples.values() for text in own]
    labels = np.repeat(np.arange(len(examples)), [len(own) for own in examples.values()])
    beyond = [excerpt(text) for text in outside if text.strip()]
    own, others = np.split(encoder.encode([*texts, *beyond]), [len(texts)]) if encoder else (None, None)
    vocabulary = Vocabulary.fit(texts)
    training = TrainingRows([vocabulary.row(text) for text in texts], own, labels, vocabulary.size, len(examples))
    calibration = Calibration.of(training, [vocabulary.row(text) for text in beyond], others)
    return _Fitted(tuple(examples), vocabulary, Experts.fit(training), calibration)
